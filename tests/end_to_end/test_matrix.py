"""``porting-check matrix``: one model in several environments, on every kind of executor; interrupted, resumed, broken."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from porting_check.environments.specification import parse
from porting_check.neutral.errors import InputError, ModelError, RunError
from porting_check.versions import matrix
from porting_check.versions.jobs import Job, record_environment

pytestmark = pytest.mark.slow

NET = """
    import os
    import time
    from pathlib import Path

    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    HERE = Path(__file__).resolve().parent


    def build():
        with (HERE / "log.txt").open("a") as log:
            log.write(os.environ.get("WHO", "local") + "\\n")
        while os.environ.get("WHO") == "slow" and (HERE / "hold").exists():
            time.sleep(0.05)
        if os.environ.get("WHO") == "broken" and (HERE / "trouble").exists():
            raise ValueError("no such weights: 12")
        return network(int(os.environ.get("SEED", "3")), int(os.environ.get("PAD", "0")))


    def network(seed, pad):
        random = np.random.default_rng(seed)
        normal = lambda *shape: random.standard_normal(shape).astype(np.float32) / 4
        held = {"kernel": normal(4, 3, 3, 3), "bias": normal(4), "dense": normal(4, 5)}
        make = helper.make_node
        pads = [1, 1, 0, 0] if pad else [0, 0, 1, 1]
        nodes = [
            make("Conv", ["x", "kernel", "bias"], ["c"], "conv", strides=[2, 2], pads=pads),
            make("Relu", ["c"], ["r"], "relu"),
            make("GlobalAveragePool", ["r"], ["g"], "pool"),
            make("Flatten", ["g"], ["f"], "flatten"),
            make("MatMul", ["f", "dense"], ["y"], "dense"),
        ]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", [2, 3, 12, 12]), ("y", [2, 5]))
        ]
        weights = [numpy_helper.from_array(array, name) for name, array in held.items()]
        graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


    def saved():
        import onnx

        onnx.save(network(3, 0), str(HERE / "net.onnx"))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(textwrap.dedent(NET))
    return tmp_path


def who(name: str, **variables: object) -> str:
    """This interpreter with other variables: an environment of its own."""
    pieces = [f"env.{key}={value}" for key, value in {"WHO": name, **variables}.items()]
    return ",".join([f"python:{sys.executable}", *pieces])


def built(place: Path) -> list[str]:
    """In which environments the model was built, in order."""
    log = place / "log.txt"
    return log.read_text().split() if log.exists() else []


def model(place: Path) -> str:
    return f"{place / 'net.py'}:build"


def test_the_version_that_changed_the_function_is_named_with_its_layer(place):
    environments = {"old": who("old"), "new": who("new", PAD=1), "newest": who("newest", PAD=1)}
    table = matrix(model(place), environments, np.ones((2, 3, 12, 12), np.float32))
    assert (table.verdict, table.exit_status) == ("differ", 1)
    text = str(table)
    assert text.startswith("DIFFER: old → new computes another function first at conv")
    old, new, newest = table.rows
    assert new.against_baseline.divergence.layer == "conv"
    assert new.against_baseline.divergence.op == "Conv"
    assert new.against_baseline.cause.startswith("conv-")
    assert new.against_baseline.divergence.ratio > 10
    assert newest.against_previous.verdict == "identical"
    assert newest.against_baseline.verdict == "divergent"
    assert [change.candidate for change in table.changes] == ["new"]
    assert (old.against_baseline, old.against_previous) == (None, None)
    assert [row.weights for row in table.rows] == ["its own", "the same bits", "the same bits"]


def test_another_baseline_leaves_the_order_as_it_is(place):
    environments = {"old": who("old"), "new": who("new", PAD=1), "newest": who("newest", PAD=1)}
    table = matrix(model(place), environments, baseline="newest")
    assert table.baseline == "newest"
    assert [row.label for row in table.rows] == ["old", "new", "newest"]
    assert table.rows[0].against_baseline.verdict == "divergent"
    assert table.rows[1].against_baseline.verdict == "identical"
    assert table.rows[1].against_previous.verdict == "divergent"
    assert table.rows[2].against_baseline is None


@contextmanager
def executor(kind: str) -> Iterator[Executor | None]:
    if kind == "own":
        yield None
    elif kind == "threads":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif kind == "processes":
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    else:
        distributed = pytest.importorskip("distributed")
        options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            assert len({worker["nanny"] for worker in client.scheduler_info()["workers"].values()}) == 2
            yield client.get_executor()


@pytest.mark.parametrize("kind", ["own", "threads", "processes", "dask"])
def test_each_environment_is_a_job_on_any_executor(place, kind):
    environments = {"one": who("one"), "two": who("two", PAD=1), "three": who("three", SEED=4)}
    with executor(kind) as pool:
        table = matrix(model(place), environments, folder=place / "kept", executor=pool)
        again = matrix(model(place), environments, folder=place / "kept", executor=pool)
    assert [row.error for row in table.rows] == ["", "", ""]
    assert [row.against_baseline.verdict for row in table.rows[1:]] == ["divergent", "identical"]
    assert table.rows[2].weights == "the baseline's, put in by name"
    assert [row.kept for row in table.rows] == [False, False, False]
    assert [row.kept for row in again.rows] == [True, True, True]
    assert sorted(built(place)) == ["one", "three", "three", "two"]
    assert [row.against_baseline for row in again.rows] == [row.against_baseline for row in table.rows]


def test_a_worker_process_that_is_killed_costs_its_environment_only(place):
    (place / "hold").touch()
    environments = [who("one"), who("slow")]
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        ThreadPoolExecutor(1) as waiting,
    ):
        running = waiting.submit(matrix, model(place), environments, folder=place / "kept", executor=pool)
        until(lambda: "slow" in built(place))
        (worker,) = pool._processes.values()
        os.kill(worker.pid, signal.SIGKILL)
        (place / "hold").unlink()
        table = running.result(timeout=120)
    assert [bool(row.error) for row in table.rows] == [False, True]
    assert "the executor ended the job" in table.rows[1].error
    assert table.exit_status == 3
    assert "could not be recorded" in str(table)


def until(reached, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come so far in time"
        time.sleep(0.05)


SCRIPT = """
    import sys
    from porting_check.versions import matrix

    if __name__ == "__main__":
        table = matrix(sys.argv[1], sys.argv[3:], folder=sys.argv[2], jobs=1)
        print(table)
"""


def started(place: Path, *environments: str) -> subprocess.Popen[str]:
    (place / "drive.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "drive.py", model(place), str(place / "kept"), *environments]
    return subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_after_an_interruption_finished_environments_are_not_recorded_again(place, how):
    (place / "hold").touch()
    environments = [who("one"), who("two"), who("slow")]
    process = started(place, *environments)
    try:
        until(lambda: "slow" in built(place))
        process.send_signal(how)
        process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
        (place / "hold").unlink()
    assert process.returncode != 0
    assert built(place) == ["one", "two", "slow"]
    folders = [p for p in (place / "kept" / "recordings").iterdir() if p.is_dir()]
    assert len(folders) == 2
    table = matrix(model(place), environments, folder=place / "kept")
    assert [row.kept for row in table.rows] == [True, True, False]
    assert built(place) == ["one", "two", "slow", "slow"]
    assert table.verdict == "agree"
    assert not (place / "kept" / "work").exists()


def test_an_interrupted_recording_is_ended_with_its_process(place):
    (place / "hold").touch()
    process = started(place, who("one"), who("slow", MARK=f"mark{os.getpid()}"))
    until(lambda: "slow" in built(place))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not inner(f"MARK=mark{os.getpid()}")
    (place / "hold").unlink()


def inner(variable: str) -> list[str]:
    """Processes with a variable in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_a_failure_is_told_kept_and_tried_again(place):
    (place / "trouble").touch()
    environments = {"one": who("one"), "bad": who("broken"), "two": who("two")}
    table = matrix(model(place), environments, folder=place / "kept")
    assert (table.verdict, table.exit_status) == ("inconclusive", 4)
    assert "no such weights: 12" in table.rows[1].error
    assert str(table).startswith("INCONCLUSIVE: bad could not be recorded")
    assert table.rows[2].against_previous.reference == "one"
    (noted,) = (place / "kept" / "failed").iterdir()
    assert "no such weights: 12" in json.loads(noted.read_text())["error"]
    (place / "trouble").unlink()
    table = matrix(model(place), environments, folder=place / "kept")
    assert table.verdict == "agree"
    assert built(place).count("broken") == 2
    assert built(place).count("one") == 1
    assert not list((place / "kept" / "failed").iterdir())


def test_what_changed_is_recorded_again(place):
    environments = [who("one"), who("two")]
    kept = place / "kept"
    matrix(model(place), environments, folder=kept)
    assert built(place) == ["one", "two"]
    matrix(model(place), environments, folder=kept, seed=1)
    assert built(place) == ["one", "two"] * 2
    (place / "net.py").write_text((place / "net.py").read_text() + "\n")
    matrix(model(place), environments, folder=kept)
    assert built(place) == ["one", "two"] * 3
    matrix(model(place), environments, folder=kept)
    assert built(place) == ["one", "two"] * 3
    matrix(model(place), environments, folder=kept, again=True)
    assert built(place) == ["one", "two"] * 4
    tensors = next(p for p in (kept / "recordings").rglob("*.safetensors") if p.is_file())
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
    matrix(model(place), environments, folder=kept)
    assert len(built(place)) <= 9


def test_other_weights_are_told_or_put_in(place):
    environments = {"one": who("one"), "two": who("two", SEED=9)}
    own = matrix(model(place), environments, folder=place / "kept", transfer=False)
    assert own.verdict == "differ"
    assert own.rows[1].weights == "its own"
    assert any("weights are not the same" in note for note in own.rows[1].against_baseline.notes)
    same = matrix(model(place), environments, folder=place / "kept")
    assert (same.verdict, same.rows[1].weights) == ("agree", "the baseline's, put in by name")
    assert "two: weights: the baseline's, put in by name" in str(same)
    given = {"kernel": np.full((4, 3, 3, 3), 0.5, np.float32)}
    np.savez(place / "weights.npz", **given)
    table = matrix(model(place), environments, folder=place / "kept", weights=place / "weights.npz")
    assert [row.weights for row in table.rows] == ["given", "the baseline's, put in by name"]
    assert table.verdict == "agree"


def test_another_model_stands_for_one_environment(place):
    subprocess.run([sys.executable, "-c", "import net; net.saved()"], cwd=place, check=True)
    environments = {"file": "local", "function": who("function")}
    models = {"function": model(place)}
    table = matrix(place / "net.onnx", environments, models=models)
    assert [row.model for row in table.rows] == [str(place / "net.onnx"), model(place)]
    assert table.verdict == "agree"
    assert table.rows[1].against_baseline.verdict == "identical"


def test_a_baseline_that_cannot_be_recorded_is_an_error(place):
    (place / "trouble").touch()
    with pytest.raises(ModelError, match="the baseline 'bad' could not be recorded.*no such weights: 12"):
        matrix(model(place), {"bad": who("broken"), "one": who("one")})


def test_a_folder_is_for_one_process_at_a_time(place):
    (place / "hold").touch()
    process = started(place, who("slow"), who("one"))
    try:
        until(lambda: "slow" in built(place))
        with pytest.raises(RunError, match="another process works in the folder"):
            matrix(model(place), [who("one"), who("two")], folder=place / "kept")
    finally:
        (place / "hold").unlink()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert output.startswith("AGREE")


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    job = Job(environment=parse(""), model="net.onnx", folder=str(tmp_path / "away"), token="t", request={})
    outcome = record_environment(job)
    assert outcome.recording == ""
    assert "is not visible on" in outcome.error
    assert "all workers share" in outcome.error


def test_a_folder_with_something_else_is_left_alone(place):
    with pytest.raises(RunError, match="holds something else than a matrix"):
        matrix(model(place), [who("one"), who("two")], folder=place)


def test_inputs_that_do_not_fit_name_the_environment(place):
    with pytest.raises(InputError, match=r"the baseline 'one' .*expects \(2, 3, 12, 12\)"):
        matrix(model(place), {"one": who("one"), "two": who("two")}, np.ones((2, 4, 12, 12), np.float32))
    with pytest.raises(InputError, match="two environments or more"):
        matrix(model(place), [who("one")])


def command(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porting_check.cli", "matrix", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=place,
    )


def test_the_command_line(place):
    toml = "".join(
        f"[environments.{name}]\npython = {json.dumps(sys.executable)}\n"
        f"variables = {{ WHO = '{name}', PAD = '{pad}' }}\n\n"
        for name, pad in (("old", 0), ("new", 1))
    )
    (place / "porting-check.toml").write_text(toml)
    saved = [part for s in ("html", "json", "csv", "md", "txt") for part in ("--save", f"t.{s}")]
    done = command(place, "net.py:build", "--envs", "old,new", "--folder", "kept", *saved)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("DIFFER: old → new computes another function first at conv")
    data = json.loads((place / "t.json").read_text())
    assert (data["verdict"], [row["label"] for row in data["rows"]]) == ("differ", ["old", "new"])
    assert (place / "t.txt").read_text().splitlines()[0] == done.stdout.splitlines()[0]
    assert "| new | changed |" in (place / "t.md").read_text()
    assert (place / "t.csv").read_text().splitlines()[1].startswith("baseline,old,new,divergent,")
    assert "old → new computes another function" in (place / "t.html").read_text()
    again = command(place, "net.py:build", "--envs", "old,new", "--folder", "kept", "--json")
    assert (again.returncode, built(place)) == (1, ["old", "new"])
    assert json.loads(again.stdout)["rows"][1]["kept"] is True
    wrong = command(place, "net.py:build", "--envs", "old,nwe")
    assert wrong.returncode == 2
    assert "did you mean 'new'?" in wrong.stderr

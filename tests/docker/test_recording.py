"""Recording in real containers: what comes out, what the inside sees, and that the printed commands do the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting_check.environments.docker import DockerRunner
from porting_check.environments.local import LocalRunner
from porting_check.environments.runner import Task
from porting_check.environments.specification import parse
from porting_check.neutral.errors import ModelError
from porting_check.neutral.tracefile import load_trace
from tests.docker.conftest import NET, Record, folder, plain_request

pytestmark = [pytest.mark.docker, pytest.mark.slow]

LOOK = """
import json, os, socket

def look():
    def can(path):
        try:
            open(path + "/probe", "w").close()
            os.remove(path + "/probe")
            return True
        except OSError:
            return False
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    limit = [p for p in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max") if os.path.exists(p)]
    raise RuntimeError(json.dumps({
        "user": os.getuid(), "effective": status["CapEff"].strip(), "privileges": status["NoNewPrivs"].strip(),
        "variables": sorted(os.environ), "network": sorted(os.listdir("/sys/class/net")),
        "writable": [p for p in ("/", "/usr", "/porting-check", "/porting-check/given", "/porting-check/made", "/tmp",
                                 os.path.dirname(os.path.abspath(__file__)), "/var/tmp", "/etc") if can(p)],
        "memory": open(limit[0]).read().strip(), "first": os.getpid() == 1,
        "beside": sorted(os.listdir(os.path.dirname(os.path.abspath(__file__)))),
    }).replace("/", "|"))
"""


def test_a_recording_made_in_a_container_is_the_one_made_here(
    record: Record, write: Callable[..., str], tmp_path: Path, image: str
) -> None:
    model = write()
    seen: list[str] = []
    made = record(
        f"{model}:build", request={"seed": 3}, progress=lambda stage, done, total: seen.append(stage)
    )
    here = Task(model=f"{model}:build", folder=tmp_path / "here", out="side.trace", request={"seed": 3})
    LocalRunner().run(here, lambda stage, done, total: None)
    inside, outside = load_trace(str(made.result), verify=True), load_trace(str(here.result))
    assert inside.model == outside.model == f"{model}:build"
    assert [r.name for r in inside.records] == [r.name for r in outside.records]
    assert inside.values.keys() == outside.values.keys() and seen
    for key, value in outside.values.items():
        np.testing.assert_allclose(inside.values[key], value, rtol=1e-5, atol=1e-6)
    for path in made.made.rglob("*"):
        assert path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o7000 == 0


def test_a_request_that_comes_late_is_answered_on_inputs_written_meanwhile(
    record: Record, write: Callable[..., str], tmp_path: Path
) -> None:
    request: Future[Any] = Future()
    given = folder(tmp_path) / "given" / "0-x.npy"
    image = np.random.default_rng(5).normal(size=(1, 3, 8, 8)).astype(np.float32)

    def decide() -> None:
        np.save(given, image)
        given.chmod(0o600)
        request.set_result(
            plain_request(inputs={"": str(given)}, announce=str(given.parents[1] / "made" / "chosen"))
        )

    threading.Timer(3, decide).start()
    made = record(f"{write()}:build", request=request)
    trace = load_trace(str(made.result), verify=True)
    np.testing.assert_array_equal(trace.values[trace.inputs[0].value], image)
    assert json.loads((made.made / "chosen.json").read_text()).keys() == {"x"}


def test_the_inside_sees_and_may_do_only_what_a_recording_needs(
    record: Record, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the host")
    with pytest.raises(ModelError) as caught:
        record(f"{write(LOOK)}:look", ",memory=300m,env.MODEL_SIZE=small")
    seen = _facts(caught.value)
    assert (
        seen["user"] == (os.getuid() or 65534) and seen["effective"] == "0" * 16 and seen["privileges"] == "1"
    )
    assert seen["network"] == ["lo"] and seen["memory"] == str(300 * 2**20) and not seen["first"]
    assert seen["writable"] == ["/porting-check/made", "/tmp"] and seen["beside"] == ["net.py"]
    ours = {
        "HOME",
        "USER",
        "LOGNAME",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "TF_CPP_MIN_LOG_LEVEL",
        "MODEL_SIZE",
    }
    theirs = {"HOSTNAME", "LANG", "PATH", "PYTHON_VERSION", "PYTHON_SHA256", "GPG_KEY", "PYTHON_PIP_VERSION"}
    assert ours <= set(seen["variables"]) <= ours | theirs


def _facts(error: ModelError) -> dict[str, Any]:
    text = str(error)
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text[text.index("{") :].replace("|", "/"))[0]
    return found


def test_the_printed_lines_record_when_pasted(write: Callable[..., str], tmp_path: Path, image: str) -> None:
    from porting_check.packing import build_recorder

    task = Task(
        model=f"{write()}:build", folder=folder(tmp_path), out="side.trace", request=plain_request(seed=1)
    )
    lines = DockerRunner(parse(f"docker:{image}")).commands(task)
    task.prepare()
    build_recorder(task.archive)
    done = subprocess.run(["sh", "-e"], input="\n".join(lines), text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(load_trace(str(task.result), verify=True).records) == 2


def test_files_elsewhere_are_found_by_relative_and_by_absolute_paths(
    record: Record, write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, large = tmp_path / "weights", tmp_path / "large data"
    weights.mkdir()
    large.mkdir()
    np.save(weights / "w.npy", np.ones(1))
    np.save(large / "v.npy", np.ones(1))
    monkeypatch.chdir(tmp_path)
    model = write(f"""
def read():
    np.load("weights/w.npy"), np.load({str(large / "v.npy")!r})
    np.load(__file__.replace("model/net.py", "weights/w.npy"))
    return build()
""")
    made = record(f"{model}:read", f",files=weights,files={large}", plain_request())
    assert len(load_trace(str(made.result)).records) == 2


def test_a_function_of_a_package_of_the_working_folder_is_recorded_even_beside_a_folder_called_porting_check(
    record: Record, write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name="__init__.py")
    (tmp_path / "model" / "porting_check").mkdir()
    (tmp_path / "model" / "porting_check" / "__init__.py").write_text("raise ImportError('not this one')")
    write(name="own.py")
    monkeypatch.chdir(tmp_path / "model")
    made = record("own:build", "", plain_request())
    assert load_trace(str(made.result)).model == "own:build"


def test_origin_names_the_image_by_content(image: str) -> None:
    runner = DockerRunner(parse(f"docker:{image}"))
    runner.prepare(lambda stage, done, total: None)
    origin = runner.origin()
    assert origin["image"] == image and origin["id"].startswith("sha256:") and len(origin["id"]) == 71
    assert origin["platform"].startswith("linux/") and origin.keys() & {"docker", "podman"}


def test_a_model_file_that_is_a_link_as_in_the_cache_of_a_hub(record: Record, tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(NET, scope)
    blob, link = tmp_path / "hub" / "blobs" / "5", tmp_path / "hub" / "snapshots" / "1" / "net.onnx"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(scope["build"]().SerializeToString())
    link.symlink_to("../../blobs/5")
    made = record(str(link), "", plain_request())
    assert load_trace(str(made.result)).model == str(link)


ORDINARY = """
import sys
from pathlib import Path
from porting_check.environments.runners import record_side
print(len(record_side(sys.argv[1], sys.argv[2], Path(sys.argv[3]), {"check": False}).records))
"""


def test_an_ordinary_user_gets_a_recording_of_their_own(
    write: Callable[..., str], tmp_path: Path, image: str
) -> None:
    socket = Path("/var/run/docker.sock")
    if os.getuid() != 0 or not socket.is_socket():
        pytest.skip("root alone can become another user; without root, every test is this one")
    identity: dict[str, Any] = {"user": 12345, "group": 12345, "extra_groups": [socket.stat().st_gid]}
    root = Path(__file__).resolve().parents[2]
    found = [str(root), str(root / "adapters"), str(Path(np.__file__).parents[1])]
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": ":".join(found)}
    python = _python_for(identity, variables)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place, "model")
        shutil.copytree(Path(write()).parent, model)
        for path in (Path(place), model, model / "net.py"):
            os.chown(path, 12345, 12345)
        words = [python, "-c", ORDINARY, f"docker:{image}", f"{model}/net.py:build", f"{place}/x.trace"]
        done = subprocess.run(words, cwd=place, env=variables, capture_output=True, text=True, **identity)
        assert done.stdout.strip() == "2", done.stderr
        assert {path.stat().st_uid for path in Path(place).rglob("*")} == {12345}


def _python_for(identity: dict[str, Any], variables: dict[str, str]) -> str:
    """An interpreter like this one that another user can run."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        words = [python, "-c", "import numpy, porting_check"]
        try:
            if subprocess.run(words, env=variables, cwd="/", capture_output=True, **identity).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no interpreter of this version can be run by another user")

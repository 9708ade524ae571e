"""Sides in subprocesses: of this interpreter, and of another one that gets the recorder in one file and nothing of the host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import venv
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting_check.environments.interpreters import Interpreter, ask, clean_environment, of_version
from porting_check.environments.interpreters import named as interpreter_named
from porting_check.environments.local import (
    LocalRunner,
    absolute_model,
)
from porting_check.environments.runner import Task
from porting_check.environments.runners import Side, record_side
from porting_check.environments.specification import EnvironmentSpec, EnvironmentSpecError, parse
from porting_check.neutral.errors import ModelError, RunError
from porting_check.neutral.tracefile import load_trace
from porting_check.packing import build_recorder

MODEL = """
    import json, os, signal, sys, time

    def build():
        import torch
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())

    def curious():
        import helper
        with open(os.environ["TOLD"], "w") as file:
            json.dump({"variables": dict(os.environ), "path": sys.path, "cwd": os.getcwd()}, file)
        raise ValueError("told")

    def leaves():
        os._exit(0)

    def hangs():
        time.sleep(60)

    def crashes():
        os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of ONNX Runtime, the framework that is imported soonest."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph(nodes, "net", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    save(model, str(path))
    return path


@pytest.fixture
def here(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of a user, with a model, an input, and a module that has the recorder's name."""
    folder = tmp_path / "user"
    folder.mkdir()
    (folder / "model.py").write_text(textwrap.dedent(MODEL))
    (folder / "helper.py").write_text("value = 1\n")
    shutil.copy(network, folder)
    np.save(folder / "x.npy", np.ones((2, 4), np.float32))
    monkeypatch.chdir(folder)
    return folder


def task_of(folder: Path, model: str = "net.onnx", **request: Any) -> Task:
    inputs = {"": str(folder / "x.npy")}
    return Task(
        model=model, folder=folder.parent / "task", out="side.trace", request={"inputs": inputs, **request}
    )


def other(**options: Any) -> LocalRunner:
    """This interpreter, run as if it were another one."""
    spec = EnvironmentSpec(kind="python", python=sys.executable, text=f"python:{sys.executable}", **options)
    return LocalRunner(spec)


def quiet(stage: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("kind", ["local", "python"])
def test_a_recording_bears_the_users_name_and_nothing_is_left_beside_the_model(here: Path, kind: str) -> None:
    runner = LocalRunner() if kind == "local" else other()
    stages: list[str] = []
    task = task_of(here)
    runner.prepare(quiet)
    runner.run(task, lambda stage, done, total: stages.append(stage))
    trace = load_trace(str(task.result), verify=True)
    assert trace.model == "net.onnx"
    expected = np.maximum(np.ones((2, 4), np.float32) @ np.arange(12, dtype=np.float32).reshape(4, 3), 0)
    np.testing.assert_array_equal(trace.values[trace.outputs[0].value], expected)
    assert stages
    assert sorted(path.name for path in here.iterdir()) == ["helper.py", "model.py", "net.onnx", "x.npy"]


def test_nothing_of_the_host_leaks_into_another_interpreter(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "porting_check").mkdir()
    (here / "porting_check" / "__init__.py").write_text("raise SystemExit('the wrong porting_check')\n")
    elsewhere = here.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    told = here.parent / "told.json"
    task = task_of(here, "model.py:curious")
    with pytest.raises(ModelError, match="ValueError.*told"):
        other(variables={"TOLD": str(told), "TF_ENABLE_ONEDNN_OPTS": "0"}).run(task, quiet)
    assert not list(here.rglob("__pycache__"))
    found = json.loads(told.read_text())
    variables = found["variables"]
    allowed = {
        "HOME",
        "TMPDIR",
        "LANG",
        "PATH",
        "TOLD",
        "TF_ENABLE_ONEDNN_OPTS",
        "TF_CPP_MIN_LOG_LEVEL",
        "LC_CTYPE",
    }
    assert {key for key in variables if not key.startswith(("PYTHON", "PORTING_CHECK_"))} <= allowed
    assert variables["PYTHONPATH"] == str(task.folder / "recorder.pyz")
    assert Path(variables["HOME"]).is_relative_to(task.folder)
    assert Path(variables["TMPDIR"]).is_relative_to(task.folder)
    assert str(elsewhere) not in found["path"]
    assert found["cwd"] == str(here)


def test_this_interpreter_keeps_the_hosts_variables(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = here.parent / "told.json"
    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setenv("OF_THE_HOST", "1")
    runner = LocalRunner(EnvironmentSpec(variables={"OF_THE_SPEC": "2"}))
    with pytest.raises(ModelError, match="ValueError.*told"):
        runner.run(task_of(here, "model.py:curious"), quiet)
    assert not list(here.rglob("__pycache__"))
    variables = json.loads(told.read_text())["variables"]
    assert (variables["OF_THE_HOST"], variables["OF_THE_SPEC"]) == ("1", "2")


@pytest.mark.parametrize("kind", ["local", "python"])
def test_an_error_of_the_inside_keeps_its_type(here: Path, kind: str) -> None:
    runner = LocalRunner() if kind == "local" else other()
    with pytest.raises(ModelError, match="has no function 'biuld'; did you mean 'build'"):
        runner.run(task_of(here, "model.py:biuld"), quiet)


def test_a_model_that_is_not_there_is_found_out_without_a_process(here: Path) -> None:
    with pytest.raises(ModelError, match=r"'nothing\.py' does not exist"):
        other().run(task_of(here, "nothing.py:build"), quiet)
    assert not (here.parent / "task").exists()


def test_a_model_that_ends_the_process(here: Path) -> None:
    with pytest.raises(RunError, match="left no result"):
        other().run(task_of(here, "model.py:leaves"), quiet)


def test_a_model_that_hangs(here: Path) -> None:
    with pytest.raises(RunError, match="timed out after 5 seconds") as caught:
        other(timeout=5).run(task_of(here, "model.py:hangs"), quiet)
    assert caught.value.exit_status == 3


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_model_that_crashes(here: Path) -> None:
    with pytest.raises(
        RunError, match=r"recording 'model.py:crashes' in python:.* failed: it crashed \(signal 11\)"
    ):
        other().run(task_of(here, "model.py:crashes"), quiet)


def test_cancelled(here: Path) -> None:
    task = task_of(here, "model.py:hangs")
    threading.Timer(1, task.cancelled.set).start()
    with pytest.raises(RunError, match="was cancelled"):
        LocalRunner().run(task, quiet)


def test_the_request_may_come_later(here: Path) -> None:
    future: Future[Any] = Future()
    task = Task(model="net.onnx", folder=here.parent / "task", out="side.trace", request=future)
    threading.Timer(1, future.set_result, [{"inputs": {"": str(here / "x.npy")}}]).start()
    other().run(task, quiet)
    assert load_trace(str(task.result)).model == "net.onnx"


@pytest.mark.slow
def test_gradients_in_another_interpreter(here: Path) -> None:
    from porting_check.neutral.tensorfile import read_header, read_tensor, write_tensors

    names = {"inputs": {"0": np.ones((2, 4), np.float32)}, "cotangents": {"0": np.ones((2, 3), np.float32)}}
    request = {}
    for name, arrays in names.items():
        request[name] = str(here.parent / f"{name}.safetensors")
        write_tensors(request[name], arrays)
    task = Task(
        model="model.py:build",
        folder=here.parent / "gradients",
        out="gradients.safetensors",
        request=request,
        module="porting_check.recorder.gradients",
    )
    other().run(task, quiet)
    header = read_header(str(task.result))
    assert header["tensors"]
    side = Side(runner=LocalRunner(), model="model.py:build", folder=here.parent / "ours", progress=quiet)
    ours = side.gradients(names["inputs"], names["cotangents"])
    assert set(ours) == set(header["tensors"])
    for key, gradient in ours.items():
        np.testing.assert_array_equal(gradient, read_tensor(str(task.result), key, header))


def test_a_recording_is_moved_to_where_it_is_wanted_and_nothing_else_stays(here: Path) -> None:
    trace = record_side("", "net.onnx", here.parent / "old.trace", {"inputs": {"": "x.npy"}})
    assert trace.model == "net.onnx"
    assert not [path for path in here.parent.iterdir() if path.name.startswith(".old.trace")]


def program(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return str(path)


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(EnvironmentSpecError, match=r"'/no/such/python' does not exist; expected the path"):
        LocalRunner(parse("python:/no/such/python")).prepare(quiet)


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_a_program_that_is_no_python(tmp_path: Path) -> None:
    path = program(tmp_path, "print('I am a teapot')")
    with pytest.raises(EnvironmentSpecError, match="is not a Python interpreter"):
        LocalRunner(parse(f"python:{path}")).prepare(quiet)
    (tmp_path / "text").write_text("text")
    with pytest.raises(EnvironmentSpecError, match="is not a program that can be run"):
        LocalRunner(parse(f"python:{tmp_path / 'text'}")).prepare(quiet)


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_an_interpreter_that_is_too_old(tmp_path: Path) -> None:
    document = {
        "path": "",
        "version": "3.6.15",
        "implementation": "CPython",
        "platform": "linux-x86_64",
        "numpy": "1.19.5",
    }
    path = program(tmp_path, f"print({json.dumps(json.dumps(document))})")
    with pytest.raises(
        EnvironmentSpecError, match=r"is Python 3\.6\.15; the recorder needs Python 3\.7 or newer"
    ):
        LocalRunner(parse(f"python:{path}")).prepare(quiet)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has nothing but the standard library."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_an_interpreter_without_numpy(bare: Path) -> None:
    with pytest.raises(RunError, match="lacks numpy") as caught:
        LocalRunner(parse(f"python:{bare}")).prepare(quiet)
    assert caught.value.exit_status == 3
    assert "pip install numpy" in str(caught.value)


def test_an_interpreter_says_what_it_is(bare: Path) -> None:
    found = ask(str(bare))
    assert found is not None
    assert found.path == str(bare)
    assert (found.numbers, found.numpy) == (sys.version_info[:3], "")
    assert LocalRunner(parse(f"python:{sys.executable}")).origin() == {"python": found.version}
    assert LocalRunner().origin() == {}


def test_an_interpreter_is_found_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    this = ".".join(map(str, sys.version_info[:2]))
    assert of_version(this, "venv:x").minor == this
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(RunError, match=r"no Python 3\.99 was found; found .*3\.\d+\.\d+") as caught:
        of_version("3.99", "venv:x,python==3.99")
    assert "python=/path/to/python" in str(caught.value)
    with pytest.raises(EnvironmentSpecError, match=r"Python 2\.7 is too old"):
        of_version("2.7", "venv:x,python==2.7")


@pytest.mark.skipif(os.name != "posix", reason="the folders of pyenv")
def test_a_version_of_pyenv_is_found(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {
        "path": "",
        "version": "3.98.1",
        "implementation": "CPython",
        "platform": "linux-x86_64",
        "numpy": "",
    }
    folder = tmp_path / "versions" / "3.98.1" / "bin"
    folder.mkdir(parents=True)
    program(folder, f"print({json.dumps(json.dumps(document))})")
    (folder / "program").rename(folder / "python")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert of_version("3.98", "venv:x") == Interpreter(**{**document, "path": str(folder / "python")})


def test_a_name_on_the_path_is_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, name = os.path.split(sys.executable)
    monkeypatch.setenv("PATH", folder)
    assert interpreter_named(name, f"python:{name}").numbers == sys.version_info[:3]


def test_clean_variables_are_private_and_the_users_come_last(tmp_path: Path) -> None:
    made = clean_environment("/opt/py/bin/python", tmp_path, {"LANG": "de_DE.UTF-8"})
    assert made["LANG"] == "de_DE.UTF-8"
    assert made["PATH"].split(os.pathsep)[0] == os.path.dirname(os.path.abspath("/opt/py/bin/python"))
    assert Path(made["HOME"]).is_dir()
    assert "PYTHONPATH" not in made


def test_names_of_models_that_hold_in_every_folder(here: Path) -> None:
    assert absolute_model("model.py:build") == f"{here / 'model.py'}:build"
    assert absolute_model("x.npy") == str(here / "x.npy")
    assert absolute_model("torchvision.models:resnet18") == "torchvision.models:resnet18"


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
@pytest.mark.parametrize("kind", ["local", "python"])
def test_the_commands_by_hand_do_the_same(here: Path, kind: str) -> None:
    runner = LocalRunner() if kind == "local" else other(variables={"A_B": "with space"})
    task = task_of(here)
    task.prepare()
    build_recorder(task.archive)
    lines = runner.commands(task)
    bin_folder = os.path.dirname(sys.executable)
    script = "\n".join(["set -e", *lines])
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=here,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert load_trace(str(task.result)).model == "net.onnx"

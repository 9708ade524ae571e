"""``porting-check-recorder.pyz`` as a user of an old image has it: one file, a framework, and no porting-check.

Every run is isolated (``-I``), and the model itself writes down where the modules that record it come from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import porting_check as pc

pytest.importorskip("torch")

TORCH = """
    import os, sys
    import torch
    from torch import nn

    def build():
        torch.manual_seed(3)
        os.write(1, b"\\xff\\x00 binary \\n")
        print("printed by the model")
        loaded = [m for n, m in sys.modules.items() if n.split(".")[0].startswith("porting_check") and "user" not in n]
        with open("loaded.txt", "w") as file:
            file.write("\\n".join(m.__file__ for m in loaded))
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)]
        return nn.Sequential(*layers).eval()

    def raises():
        raise ValueError("no such weights: 12")

    def leaves():
        class Leaving(nn.Module):
            def forward(self, x):
                sys.exit(7)
        return Leaving().eval()
"""

KERAS = """
    import keras

    keras.utils.set_random_seed(3)
    layers = keras.layers
    keras.Sequential([
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(5, activation="softmax"),
    ]).save("net.keras")
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with the recorder that the command line built in it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "net.py").write_text(textwrap.dedent(TORCH))
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((2, 3, 8, 8)).astype("f4"))
    np.save(folder / "image.npy", rng.standard_normal((2, 8, 8, 3)).astype("f4"))
    np.save(folder / "wrong.npy", np.zeros((2, 5, 8, 8), "f4"))
    (folder / "damaged.npy").write_bytes(b"\x93NUMPY nonsense")
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.txt").write_text("mine")
    command = [sys.executable, "-m", "porting_check.cli", "recorder", "build", "--out", str(folder / "r.pyz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def numpy_only(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which numpy can be imported, and nothing else that is installed."""
    folder = tmp_path_factory.mktemp("numpy-only")
    home = Path(np.__file__).parents[1]
    for path in (home / "numpy", home / "numpy.libs"):
        if path.exists():
            (folder / path.name).symlink_to(path, target_is_directory=True)
    return {"PYTHONPATH": str(folder)}


def recorder(user: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the file by a relative name, as a user does; installed packages are visible, the environment is not."""
    command = [sys.executable, "-I", "r.pyz", *arguments]
    return subprocess.run(command, cwd=user, capture_output=True, text=True, errors="replace", timeout=300)


def bare(user: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it where no package is installed but those of ``environment``."""
    command = [sys.executable, "-S", "-B", "r.pyz", *arguments]
    env = {"PATH": os.environ.get("PATH", ""), **environment}
    return subprocess.run(command, cwd=user, capture_output=True, text=True, timeout=120, env=env)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refused(done: subprocess.CompletedProcess[str], status: int, said: str) -> None:
    """One line that says what is wrong, the right status, no traceback, and nothing where results go."""
    assert done.returncode == status, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("porting-check-recorder: ") and said in last, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.fixture(scope="module")
def torch_done(user: Path) -> subprocess.CompletedProcess[str]:
    return recorder(
        user, "record", "net.py:build", "--inputs", "x.npy", "--layout", "NCHW", "--out", "torch.trace"
    )


def test_a_torch_model_is_recorded_by_what_lies_in_the_file(user, torch_done):
    assert torch_done.returncode == 0, torch_done.stderr
    assert torch_done.stdout.startswith("net.py:build: 5 records, ")
    assert torch_done.stdout.endswith("wrote torch.trace\n")
    loaded = (user / "loaded.txt").read_text().splitlines()
    assert len(loaded) > 5
    assert all(file.startswith(str(user / "r.pyz")) for file in loaded), loaded
    assert any(file.endswith(os.path.join("recorder", "session.py")) for file in loaded)


def test_what_a_model_prints_does_not_reach_the_result(torch_done):
    assert "printed" not in torch_done.stdout and "binary" not in torch_done.stdout
    assert "printed by the model" in torch_done.stderr and "binary" in torch_done.stderr


def test_the_recording_is_that_of_an_installed_porting_check_bit_for_bit(user, torch_done, monkeypatch):
    monkeypatch.chdir(user)
    pc.record("net.py:build", "x.npy", path="installed.trace", layouts="NCHW")
    assert contents(user / "torch.trace") == contents(user / "installed.trace")
    trace = pc.load_trace("torch.trace", verify=True)
    assert len(trace.records) == 5 and trace.checks.observer_difference == 0.0
    assert np.array_equal(trace.values[trace.inputs[0].value], np.load("x.npy"))
    assert trace.inputs[0].layout == "NCHW"


def test_a_keras_file_is_recorded_bit_for_bit_too(user, monkeypatch):
    pytest.importorskip("keras")
    monkeypatch.chdir(user)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(KERAS)], check=True, timeout=300, env=environment)
    done = recorder(user, "record", "net.keras", "--inputs", "image.npy", "--out", "keras.trace")
    assert done.returncode == 0, done.stderr
    pc.record("net.keras", "image.npy", path="keras-installed.trace")
    assert contents(user / "keras.trace") == contents(user / "keras-installed.trace")
    assert pc.load_trace("keras.trace", verify=True).environment.framework == "tensorflow"


def test_without_inputs_it_runs_on_noise_of_the_seed(user, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(user)
    softmax = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in "xy"]
    graph = helper.make_graph([softmax], "net", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
    done = recorder(user, "record", "net.onnx", "--seed", "5", "--out", "noise.trace")
    assert done.returncode == 0, done.stderr
    five = pc.record("net.onnx", path="noise-installed.trace", seed=5)
    assert contents(user / "noise.trace") == contents(user / "noise-installed.trace")
    assert recorder(user, "record", "net.onnx", "--seed", "6", "--out", "other.trace").returncode == 0
    other = pc.load_trace("other.trace")
    assert not np.array_equal(other.values[other.inputs[0].value], five.values[five.inputs[0].value])


def test_it_can_leave_out_the_unrecorded_runs_and_add_one_in_float64(user, torch_done):
    arguments = ("record", "net.py:build", "--no-check", "--float64")
    done = recorder(user, *arguments, "--inputs", "x.npy", "--out", "once.trace")
    assert done.returncode == 0, done.stderr
    once, checked = pc.load_trace(user / "once.trace"), pc.load_trace(user / "torch.trace")
    assert once.checks.observer_difference is None
    key = once.outputs[0].value
    assert np.array_equal(once.values[key], checked.values[key])
    wide = next(key for key in once.values if key.startswith("float64:"))
    assert once.values[wide].dtype == np.float64
    assert np.allclose(once.values[wide], once.values[key], rtol=1e-4, atol=1e-5)


def test_a_network_is_run_node_by_node_and_in_a_row(user, torch_done):
    from porting_check.neutral.tensorfile import read_header, read_tensor

    done = recorder(user, "run", "torch.trace", "--framework", "torch", "--out", "ran")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch.trace: 5 of 5 nodes run; torch ")
    result = json.loads((user / "ran" / "result.json").read_text())
    assert (result["refused"], result["broken"]) == ({}, "")
    assert result["environment"] == pc.load_trace(user / "torch.trace").environment.to_json()
    file = str(user / "ran" / "values.safetensors")
    header = read_header(file)
    trace = pc.load_trace(user / "torch.trace")
    expected = trace.values[trace.outputs[0].value]
    ends = [key for key in header["tensors"] if key.startswith("end:")]
    assert len(ends) == 1 and len(header["tensors"]) == 6
    assert np.allclose(read_tensor(file, ends[0], header), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() > 0.01
    again = recorder(user, "run", "torch.trace", "--framework", "torch", "--out", "ran", "--float64")
    assert again.returncode == 0, again.stderr
    assert read_tensor(file, ends[0], read_header(file)).dtype == np.float64


def test_an_earlier_recording_is_replaced_whole(user, torch_done):
    shutil.copytree(user / "torch.trace", user / "earlier.trace")
    (user / "earlier.trace" / "values-00009.safetensors").write_bytes(b"left over")
    done = recorder(user, "record", "net.py:build", "-i", "x.npy", "--layout", "NCHW", "-o", "earlier.trace")
    assert done.returncode == 0, done.stderr
    assert contents(user / "earlier.trace") == contents(user / "torch.trace")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("net.py:build", "--inputs", "wrong.npy"), 3, "(2, 5, 8, 8)"),
        (("net.py:build", "--inputs", "damaged.npy"), 2, "'damaged.npy' cannot be read"),
        (("net.py:build", "--inputs", "x.npy", "--layout", "NHW"), 2, "has 3 axes, the input has 4"),
        (("net.py:built",), 2, "did you mean 'build'?"),
        (("net.py:raises",), 2, "raised ValueError (net.py, line "),
    ],
)
def test_what_a_model_or_its_inputs_get_wrong_is_said_in_a_line(user, arguments, status, said):
    refused(recorder(user, "record", *arguments, "--out", "never.trace"), status, said)
    assert not (user / "never.trace").exists()


def test_a_model_that_ends_the_process_is_a_side_that_could_not_be_run(user):
    done = recorder(user, "record", "net.py:leaves", "--inputs", "x.npy", "--out", "left.trace")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (user / "left.trace").exists()


def test_a_folder_with_something_else_is_left_alone(user, torch_done):
    done = recorder(user, "record", "net.py:build", "--inputs", "x.npy", "--out", "taken")
    refused(done, 3, "'taken' exists and is not a recording; it is left alone")
    done = recorder(user, "run", "torch.trace", "--framework", "torch", "--out", "taken")
    refused(done, 3, "'taken' exists and is not a result of run; it is left alone")
    assert contents(user / "taken") == {"thesis.txt": b"mine"}


def test_a_folder_with_something_else_is_refused_before_the_model_is_opened(user, torch_done, numpy_only):
    done = bare(user, numpy_only, "record", "net.py:build", "--inputs", "x.npy", "--out", "taken")
    refused(done, 3, "'taken' exists and is not a recording; it is left alone")
    done = bare(user, numpy_only, "run", "torch.trace", "--framework", "torch", "--out", "taken")
    refused(done, 3, "'taken' exists and is not a result of run; it is left alone")


# ----------------------------------------------------------------------------------------------------
# Environments that lack something


def test_a_missing_model_is_found_before_anything_is_imported(user, numpy_only):
    refused(
        bare(user, numpy_only, "record", "absent.pt", "--out", "a.trace"), 2, "'absent.pt' does not exist"
    )


def test_without_the_framework_it_says_which_python_was_asked(user, numpy_only):
    (user / "net.pt2").write_bytes(b"")
    done = bare(user, numpy_only, "record", "net.pt2", "--out", "a.trace")
    refused(done, 2, "torch is not installed here")
    assert sys.executable in done.stderr and "pip install" not in done.stderr


def test_run_without_the_framework_and_on_what_is_no_recording(user, torch_done, numpy_only):
    done = bare(user, numpy_only, "run", "torch.trace", "--framework", "torch", "--out", "nothing")
    refused(done, 2, "torch is not installed here")
    done = bare(user, numpy_only, "run", "torch.trace", "--framework", "mindspore", "--out", "nothing")
    refused(done, 2, "no adapter for 'mindspore'")
    done = bare(user, numpy_only, "run", "taken", "--framework", "torch", "--out", "nothing")
    refused(done, 2, "taken")
    assert not (user / "nothing").exists()


def test_without_numpy_it_says_what_it_needs(user):
    done = bare(user, {}, "record", "net.py:build", "--out", "a.trace")
    refused(done, 3, "numpy cannot be imported by")
    done = bare(user, {}, "info")
    assert done.returncode == 3
    assert "numpy cannot be imported by" in done.stdout


def test_info_lists_what_this_python_has(user, numpy_only):
    done = bare(user, numpy_only, "info", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 3
    assert found["numpy"] == np.__version__
    assert {item["state"] for item in found["frameworks"].values()} == {"not installed"}
    assert set(found["frameworks"]) == {"torch", "tensorflow", "jax", "onnxruntime"}
    done = recorder(user, "info", "--framework", "torch", "--json")
    assert done.returncode == 0, done.stderr
    torch = json.loads(done.stdout)["frameworks"]["torch"]
    assert torch["state"] == "loads" and torch["environment"]["framework"] == "torch"
    assert recorder(user, "info", "--framework", "torch", "--quick").returncode == 0


def test_version_gives_the_digest_of_the_file(user):
    digest = hashlib.sha256((user / "r.pyz").read_bytes()).hexdigest()
    done = bare(user, {}, "--version")
    assert done.stdout == f"porting-check-recorder {pc.__version__} sha256:{digest}\n", done.stderr


def test_its_modules_serve_a_caller_who_puts_the_file_on_the_path(user, torch_done, numpy_only):
    """How an environment drives it: the protocol of ``python -m porting_check.recorder``, from the file."""
    path = os.pathsep.join([str(user / "r.pyz"), numpy_only["PYTHONPATH"]])
    command = [
        sys.executable,
        "-S",
        "-m",
        "porting_check.recorder",
        "absent.pt",
        "--out",
        "a",
        "--error",
        "e.json",
    ]
    done = subprocess.run(
        command, cwd=user, capture_output=True, text=True, env={"PYTHONPATH": path}, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert json.loads((user / "e.json").read_text())["type"] == "ModelError"


def interpreter(version: str) -> str:
    """An interpreter of this version, or a skip that names it."""
    found = [shutil.which(f"python{version}")]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for path in sorted(root.glob(f"{version}.*/bin/python"))]
    for path in filter(None, found):
        script = "import sys; print('%d.%d' % sys.version_info[:2])"
        asked = subprocess.run([path, "-c", script], capture_output=True, text=True, timeout=60)
        if asked.returncode == 0 and asked.stdout.strip() == version:
            return str(path)
    return pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", ["3.7", "3.8", "3.9"])
def test_old_pythons_run_every_module_of_it(user, tmp_path, version):
    python = interpreter(version)
    for arguments in (["--help"], ["record", "--help"], ["run", "--help"], ["--version"]):
        done = subprocess.run(
            [python, "-I", "r.pyz", *arguments], cwd=user, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert "porting-check-recorder" in done.stdout
    with zipfile.ZipFile(user / "r.pyz") as archive:
        archive.extractall(tmp_path / "sources")
    script = "import compileall, sys; sys.exit(not compileall.compile_dir('sources', quiet=1))"
    done = subprocess.run([python, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_pythons_that_are_too_old_are_told_so(user, version):
    python = interpreter(version)
    done = subprocess.run([python, "r.pyz", "--help"], cwd=user, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == (
        f"porting-check-recorder: Python 3.7 or newer is needed; this is Python {version} ({python})\n"
    )

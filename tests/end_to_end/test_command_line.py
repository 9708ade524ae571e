"""The command line on a real Keras model and its PyTorch port, each side in a process of its own; and every way to misuse it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(folder, *arguments):
    command = [sys.executable, "-m", "porting_check.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def recorded(folder):
    done = run(folder, "record", "reference.py:build", "--inputs", "image.npy", "--out", "tf.trace")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_port_is_verified_after_its_weights_were_moved(folder):
    done = run(
        folder,
        "compare",
        "reference.py:build",
        "port.py:build",
        "--transfer",
        "--inputs",
        "image.npy",
        "--out",
        "reports",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("FAITHFUL")
    assert {"report.html", "report.json"} <= {path.name for path in (folder / "reports").iterdir()}


def test_a_recording_serves_as_the_reference(recorded):
    done = run(recorded, "compare", "tf.trace", "port.py:wrong_padding", "--transfer", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "divergent"
    causes = [finding["cause"] for finding in report["findings"]]
    assert causes == ["conv-same-stride-asym"]
    assert report["findings"][0]["proven"] is True


def test_the_first_lines_say_layer_cause_and_fix(recorded):
    done = run(recorded, "compare", "tf.trace", "port.py:wrong_epsilon", "--transfer")
    assert done.returncode == 1
    head = "\n".join(done.stdout.splitlines()[:6])
    assert "bn" in head
    assert "bn-eps" in head
    assert "eps=0.001" in head


def test_noise_is_made_when_no_input_is_given(folder):
    done = run(folder, "compare", "reference.py:build", "port.py:build", "--transfer", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr


def test_other_weights_are_no_faithful_port(recorded):
    done = run(recorded, "compare", "tf.trace", "port.py:build")
    assert done.returncode == 1
    assert "transfer" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nothing.keras", "port.py:build"], 2, "does not exist"),
        (["model.xyz", "port.py:build"], 2, "suffix"),
        (["damaged.keras", "port.py:build"], 2, "damaged.keras"),
        (["tf.trace", "missing.py:build"], 2, "does not exist"),
        (["tf.trace", "port.py:biuld"], 2, "did you mean 'build'"),
        (["tf.trace", "port.py:raises"], 2, "no such weights: 12"),
        (["tf.trace", "port.py:not_a_model"], 2, "int"),
        (["tf.trace", "port.py"], 2, "which function"),
        (["tf.trace", "pickle.pt"], 2, "pickle.pt"),
        (["tf.trace", "port.py:wrong_shape"], 3, "shape"),
        (["tf.trace", "no_such_package_at_all:build"], 2, "no_such_package_at_all"),
        (["missing.trace", "port.py:build"], 2, "does not exist"),
        (["tf.trace", "port.py:build", "--rtol", "1e-3"], 2, "both"),
        (["tf.trace", "port.py:build", "--layout", "candidate=NQQ"], 2, "NQQ"),
    ],
)
def test_a_mistake_of_the_user_gets_one_clear_message(recorded, arguments, status, words):
    done = run(recorded, "compare", *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("no_such.npy", "does not exist"),
        ("wrong_shape.npy", "(2, 16, 20, 4)"),
        ("wrong_kind.npy", "array of numbers"),
        ("damaged.npy", "cannot be read"),
        ("reference.py", "suffix"),
    ],
)
def test_a_bad_input_file_gets_one_clear_message(recorded, file, words):
    done = run(recorded, "record", "reference.py:build", "--inputs", file, "--out", "never.trace")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (recorded / "never.trace").exists()


def test_nan_inputs_prove_nothing(folder):
    done = run(folder, "compare", "reference.py:build", "port.py:build", "--transfer", "--inputs", "nan.npy")
    assert done.returncode == 4, done.stdout + done.stderr


def test_an_empty_model_proves_nothing(folder):
    done = run(folder, "compare", "port.py:empty", "port.py:empty", "--inputs", "image.npy")
    assert done.returncode == 4, done.stdout + done.stderr


def test_training_mode_is_named(recorded):
    done = run(recorded, "compare", "tf.trace", "port.py:in_training", "--transfer")
    assert done.returncode == 2
    assert "in training mode (bn)" in done.stderr
    done = run(recorded, "compare", "tf.trace", "port.py:in_training")
    assert done.returncode == 1
    assert "training mode in bn" in done.stdout


def test_doctor_knows_the_frameworks(folder):
    done = run(folder, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout
    assert "tensorflow" in done.stdout

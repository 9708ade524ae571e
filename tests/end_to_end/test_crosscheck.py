"""One network through the real frameworks, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import porting_check as pc

ALL = ("torch", "tensorflow", "jax", "onnxruntime")
RNG = np.random.default_rng(0)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porting_check.cli", "crosscheck", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def test_one_line_asks_what_all_four_make_of_a_convolution():
    done = command("Conv(filters=8, kernel=5, stride=2, padding=same)", "--shape", "1,3,31,32")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("AGREE: ")
    assert all(name in lines[0] for name in ALL)
    assert lines[1] == "SAME on (31, 32) means pads ((2, 2), (1, 2)) here."


def test_frameworks_that_drop_a_nan_are_the_odd_ones_out(tmp_path):
    x = np.array([[[[1, np.nan, 5], [3, 2, 4], [0, 1, 2]]]], np.float32)
    nodes = [
        pc.Node("MaxPool", ("x",), ("pooled",), {"kernel_shape": (2, 2)}),
        pc.Node("Relu", ("pooled",), ("y",)),
    ]
    table = pc.crosscheck(nodes, x, ALL)
    assert (table.verdict, table.odd) == ("differ", ("tensorflow", "onnxruntime"))
    assert table.first_divergence.name == "pooled"
    assert [layer.name for layer in table.divergent] == [
        "pooled"
    ]  # relu gets the same NaN everywhere, and keeps it
    assert json.loads(table.save(tmp_path / "t.json").read_text())["odd"] == ["tensorflow", "onnxruntime"]


def test_integers_are_the_same_bits_in_all_four():
    x, w = (RNG.integers(-8, 9, shape).astype(np.float32) for shape in ((2, 3, 9, 10), (4, 3, 3, 3)))
    conv = pc.Node(
        "Conv", ("x", "w"), ("h",), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 1, 1)}
    )
    table = pc.crosscheck(pc.Network([conv, pc.Node("Relu", ("h",), ("y",))], {"w": w}), x, ALL)
    assert {cell.verdict for layer in table.layers for cell in layer.cells.values()} == {"identical"}
    assert {end.error for end in table.ends} == {0.0}
    assert table.ok


def test_what_a_framework_cannot_run_is_no_agreement():
    done = command("Conv(kernel=3)", "--float64", "-f", "torch", "-f", "onnxruntime")
    assert done.returncode == 4, done.stdout
    assert done.stdout.startswith("INCONCLUSIVE")
    assert "onnxruntime did not run Conv" in done.stdout


def test_a_framework_that_fails_is_named_with_its_last_words():
    done = command("Relu()", "-f", "torch", "-f", "jax", "--json", JAX_PLATFORMS="nonsense")
    assert done.returncode == 4, done.stderr
    data = json.loads(done.stdout)
    assert list(data["absent"]) == ["jax"]
    assert "nonsense" in data["absent"]["jax"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Conv(kernl=3)",), "did you mean 'kernel'"),
        (("Relu()", "-f", "torch"), "needs two frameworks or more"),
        (("Relu()", "-f", "torch", "-f", "caffe"), "no adapter for 'caffe'"),
        (("Relu()", "--shape", "a,b"), "is not a shape"),
        (("nowhere.onnx",), "does not exist"),
    ],
)
def test_wrong_usage_is_explained(arguments, said):
    done = command(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recorded_model_is_lifted_and_reports_are_written(tmp_path):
    model = tmp_path / "model.py"
    model.write_text(
        "import torch\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.GELU(),\n"
        "                               torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()\n"
    )
    np.save(tmp_path / "x.npy", RNG.standard_normal((2, 3, 8, 8)).astype(np.float32))
    done = command(
        f"{model}:build", "-i", str(tmp_path / "x.npy"), "-f", "torch", "-f", "tensorflow", "-f", "jax",
        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "out" / "crosscheck.json").read_text())
    assert [layer["op"] for layer in data["layers"]][:3] == ["Conv", "BatchNormalization", "Gelu"]
    assert (tmp_path / "out" / "crosscheck.md").read_text().startswith("**AGREE")


def test_a_golden_recording_is_run_from_its_weights_and_refused_where_it_has_only_their_digests(tmp_path):
    import torch

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 3)
    ).eval()
    full = pc.record(module, RNG.standard_normal((1, 3, 9, 9)).astype(np.float32))
    pc.keep(full, tmp_path / "b.trace", "boundaries")
    done = command(str(tmp_path / "b.trace"), "-f", "torch", "-f", "jax")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("AGREE: torch, jax compute all 3 layers within round-off")
    kept = pc.keep(full, tmp_path / "s.trace", "sampled", budget="100KB").kept
    assert any("digest" in note for note in kept["dropped"].values())
    done = command(str(tmp_path / "s.trace"), "-f", "torch", "-f", "jax")
    assert (done.returncode, done.stdout) == (2, "")
    assert "1 parameters were kept by digest only (2.weight)" in done.stderr

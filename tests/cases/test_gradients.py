"""Gradients of real ports: Keras, PyTorch and flax give the same; what a port does to its own gradient is found by layer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import porting_check as pc
from porting_check.neutral.layout import Layout, convert

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODULES = {"tensorflow": "tensorflow", "torch": "torch", "jax": "flax"}


def _loading():
    spec = importlib.util.spec_from_file_location("fixture_loading_for_gradients", FIXTURES / "loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loading = _loading()
NETWORKS = {network.name: (case, network) for case in loading.cases(FIXTURES) for network in case.networks}


def built(name, framework):
    """The network in a framework, and its inputs in that framework's layout."""
    pytest.importorskip(MODULES[framework])
    case, network = NETWORKS[name]
    if loading.unmet(case):
        pytest.skip(f"{name} needs {', '.join(loading.unmet(case))}")
    inputs = []
    for key, array in loading.make_inputs(network.inputs).items():
        spec = network.inputs[key]
        first = spec.layout and framework in loading.CHANNELS_FIRST
        inputs.append(
            np.ascontiguousarray(convert(array, Layout(spec.layout), Layout(spec.candidate_layout)))
            if first
            else array
        )
    return loading.build(case.folder, network.builds[framework]), tuple(inputs)


def compared(name, reference, candidate):
    ours, inputs = built(name, reference)
    return pc.compare(ours, built(name, candidate)[0], inputs, transfer=True, gradients=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reference", "candidate"),
    [("unet", "tensorflow", "torch"), ("unet", "torch", "jax"), ("tagger", "tensorflow", "torch"),
     ("transformer", "torch", "tensorflow"), ("transformer", "jax", "torch")],
)  # fmt: skip
def test_the_gradients_of_a_right_port_are_those_of_the_reference(name, reference, candidate):
    report = compared(name, reference, candidate)
    section = report.section("gradients")
    assert section.verdict == "faithful", section.answer
    assert report.verdict == "faithful", report.reason
    kinds = {row["kind"] for row in section.rows}
    assert kinds >= {"parameter", "layer output"}
    assert max(row["end_to_end"] or 0.0 for row in section.rows) < 1e-4


def unet_like(how="right"):
    """A small network of torch; ``how`` says what it does to its gradient. The forward pass is always the same."""
    import torch
    from torch import nn

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, g):
            return g * 0.5

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(4)
            self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.body, self.head = nn.Conv2d(8, 8, 3, stride=2), nn.Linear(8 * 3 * 3, 5)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
            self.body.weight.requires_grad_(how != "frozen")

        def forward(self, x):
            h = torch.relu(self.norm(self.stem(x)))
            if how == "detached":
                h = h.detach()
            if how == "halved":
                h = Halved.apply(h)
            weight = self.head.weight.detach() if how == "weight" else self.head.weight
            h = torch.nn.functional.max_pool2d(torch.relu(self.body(h)), 2).flatten(1)
            return torch.nn.functional.linear(h, weight, self.head.bias)

    return Net().eval()


IMAGE = np.random.default_rng(2).standard_normal((2, 3, 14, 14)).astype(np.float32)


@pytest.mark.parametrize("how", ["right", "frozen"])
def test_a_right_port_and_one_with_a_frozen_weight(how):
    pytest.importorskip("torch")
    report = pc.compare(unet_like(), unet_like(how), IMAGE, gradients=True)
    assert report.verdict == "faithful", report.reason
    assert report.section("gradients").answer.startswith("All ")
    assert report.settings["gradients"] is True


@pytest.mark.parametrize(
    ("how", "layer"), [("detached", "relu"), ("halved", "relu"), ("weight", "head.weight")]
)
def test_a_port_that_computes_the_same_and_trains_otherwise(how, layer):
    pytest.importorskip("torch")
    assert pc.compare(unet_like(), unet_like(how), IMAGE).verdict == "faithful"
    report = pc.compare(unet_like(), unet_like(how), IMAGE, gradients=True)
    section = report.section("gradients")
    assert report.verdict == section.verdict == "divergent"
    assert [row["candidate"] for row in section.rows if row["verdict"] == "divergent"] == [layer]
    assert "candidate" in section.rows[0]["explanation"]


def test_both_detached_is_the_same_function_of_the_gradient():
    pytest.importorskip("torch")
    report = pc.compare(unet_like("detached"), unet_like("detached"), IMAGE, gradients=True)
    assert report.verdict == "faithful", report.reason
    assert any(row["verdict"] == "alike" for row in report.section("gradients").rows)


def test_models_by_name_are_differentiated_in_processes_of_their_own(tmp_path):
    pytest.importorskip("torch")
    source = (
        "import torch\nfrom torch import nn\n\n\n"
        "def right():\n    torch.manual_seed(1)\n    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))\n\n\n"
        "class Cut(nn.Module):\n    def forward(self, x):\n        return torch.tanh(x).detach()\n\n\n"
        "def cut():\n    net = right()\n    return nn.Sequential(net[0], Cut(), net[2])\n"
    )
    (tmp_path / "nets.py").write_text(source, encoding="utf-8")
    right, cut = f"{tmp_path / 'nets.py'}:right", f"{tmp_path / 'nets.py'}:cut"
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert pc.compare(right, right, x, gradients=True).section("gradients").verdict == "faithful"
    section = pc.compare(right, cut, x, gradients=True).section("gradients")
    assert section.verdict == "divergent"
    assert section.rows[0]["reference"] == "1"


def test_a_recording_has_no_gradients(tmp_path):
    pytest.importorskip("torch")
    pc.record(unet_like(), IMAGE, path=tmp_path / "ours.trace")
    report = pc.compare(str(tmp_path / "ours.trace"), unet_like(), gradients=True)
    assert report.verdict == "inconclusive"
    assert "the reference is a recording" in report.section("gradients").answer

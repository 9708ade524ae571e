"""Gradients of torch models by the keys of their recordings; the adjoints of the core against torch's own autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from porting_check.neutral.errors import RunError
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Trace
from porting_check.numerics.adjoint_chain import GradientFound, SideGradients
from porting_check.numerics.own import SideTruth
from tests.adapters.torch_recording import ADAPTER, named, noise, randomise, trace_of, whole


def cotangents_of(trace: Trace) -> dict[str, np.ndarray]:
    return {
        p.name: noise(*trace.values[p.value].shape, seed=11)
        for p in trace.outputs
        if trace.values[p.value].dtype.kind == "f"
    }


def judged(model: Any, *arrays: Any) -> tuple[dict[str, np.ndarray], dict[str, GradientFound]]:
    """A model's gradients, and what its own nodes say of them."""
    trace = trace_of(model, *arrays)
    made = cotangents_of(trace)
    gradients = ADAPTER.gradients(model, named(*arrays), made)
    by_key = {port.value: made[port.name].astype(np.float64) for port in trace.outputs if port.name in made}
    for key, gradient in gradients.items():
        assert gradient.shape == trace.values[key].shape, key
        assert gradient.flags.owndata
    return gradients, SideGradients(SideTruth(Graph(trace)), gradients, by_key).judge()


def right(model: Any, *arrays: Any, along: bool = False) -> dict[str, np.ndarray]:
    """Every gradient is within round-off of what the nodes say, and element by element unless ``along`` is set."""
    gradients, found = judged(model, *arrays)
    assert gradients and found
    assert [(f.key, f.ratio, f.reason) for f in found.values() if f.ratio is None or f.ratio > 1] == []
    assert along or [f.key for f in found.values() if f.how and not f.unseen] == []
    return gradients


def test_keys_shapes_and_values_are_those_of_autograd():
    model = randomise(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    )
    x, g = noise(2, 3, 8, 8), noise(2, 5, seed=3)
    found = ADAPTER.gradients(model, named(x), {"0": g})
    given = torch.from_numpy(x).requires_grad_()
    model(given).backward(torch.from_numpy(g))
    np.testing.assert_array_equal(found["input:0"], given.grad)
    np.testing.assert_array_equal(found["parameter:0.weight"], model[0].weight.grad)
    np.testing.assert_array_equal(found["parameter:3.bias"], model[3].bias.grad)
    assert {"0:0", "1:0", "2:0", "3:0"} <= found.keys()


LAYERS = {
    "convolutions": (
        [nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), nn.ConvTranspose2d(6, 3, 3, 2, 1, 1)],
        (2, 4, 7, 6),
    ),
    "one_and_three_dimensions": (
        [nn.Conv1d(3, 4, 3), nn.Unflatten(2, (2, 2, 2)), nn.Conv3d(4, 2, 2)],
        (2, 3, 10),
    ),
    "norms": (
        [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([5, 6])],
        (2, 4, 5, 6),
    ),
    "pools": (
        [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1, 1), nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(2)],
        (2, 3, 12, 12),
    ),
    "upsampling": (
        [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(size=(9, 7)), nn.PixelShuffle(1)],
        (1, 2, 4, 4),
    ),
    "smooth": (
        [nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Tanh(), nn.Sigmoid(), nn.ELU(), nn.SELU()],
        (3, 40),
    ),
    "kinked": ([nn.LeakyReLU(0.2), nn.PReLU(), nn.Hardswish(), nn.ReLU6(), nn.Hardtanh(-0.3, 0.9)], (3, 40)),
    "softmaxes": ([nn.Softmax(-1), nn.LogSoftmax(1)], (3, 4, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_what_their_nodes_say(name):
    layers, shape = LAYERS[name]
    right(randomise(nn.Sequential(*layers)), noise(*shape))


def test_recurrent_layers_and_attention():
    right(
        randomise(nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True)),
        noise(2, 5, 3),
        along=True,
    )
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    right(randomise(nn.Sequential(nn.Embedding(10, 8), layer)), whole(2, 5, low=0, high=10), along=True)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.conv(x)) * 1.5
        x[:, :2] *= 2.0
        y = x[:, 1:]
        y.add_(1.0)
        return x.transpose(1, 2).sum(-1), y.max()


def test_writes_in_place_and_through_views():
    found = right(randomise(InPlace()), noise(2, 3, 6, 6))
    assert {"conv:0", "relu:0", "input:0", "parameter:conv.weight"} <= found.keys()


def test_a_layer_that_is_called_twice_and_a_value_that_is_read_often():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x):
            h = self.fc(x)
            return self.fc(h) + h * x.mean() + h.softmax(-1)

    found = right(randomise(Twice()), noise(4, 6))
    assert {"fc:0", "fc#1:0"} <= found.keys()


class Detached(nn.Module):
    def __init__(self, how="detach"):
        super().__init__()
        self.first, self.second, self.how = nn.Linear(6, 6), nn.Linear(6, 4), how

    def forward(self, x):
        h = self.first(x).tanh()
        if self.how == "no_grad":
            with torch.no_grad():
                h = self.first(x).tanh()
        elif self.how == "straight through":
            h = h + (h.round() - h).detach()
        elif self.how == "custom":
            h = Wrong.apply(h)
        else:
            h = h.detach()
        return self.second(h)


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


@pytest.mark.parametrize(
    ("how", "place"),
    [("detach", "tanh:0"), ("straight through", "sub:0"), ("custom", "tanh:0"), ("no_grad", "tanh#1:0")],
)
def test_what_a_model_does_to_its_own_gradient_shows_where_it_does_it(how, place):
    found = judged(randomise(Detached(how)), noise(3, 6))[1]
    wrong = [f.key for f in found.values() if f.ratio is None or f.ratio > 1]
    assert wrong == [place]
    assert found[place].stopped is (how != "custom")
    assert found[place].gross > 0.1
    assert found["parameter:second.weight"].ratio <= 1


def test_a_gradient_that_flows_unseen_is_no_cut():
    gradients, found = judged(randomise(InPlace()), noise(2, 3, 6, 6))
    unseen = [f.key for f in found.values() if f.absent]
    assert unseen and not any(key in gradients for key in unseen)
    assert not any(f.stopped for f in found.values())


def test_frozen_parameters_and_buffers_are_differentiated_and_everything_is_left_as_it_was():
    model = randomise(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)))
    model[0].weight.requires_grad_(False)
    model.register_buffer("scale", torch.ones(2))
    model.train(False)
    model[2].train()
    model[3].weight.grad = torch.full((2, 4), 7.0)
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    found = ADAPTER.gradients(model, named(noise(3, 4)), {"0": noise(3, 2)})
    assert "parameter:0.weight" in found
    assert (
        not model[0].weight.requires_grad and model[3].weight.requires_grad and not model.scale.requires_grad
    )
    assert model[2].training and not model[1].training
    assert model[0].weight.grad is None and (model[3].weight.grad == 7).all()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not model[0]._forward_hooks and not model[3].weight._backward_hooks


def test_a_buffer_that_is_used_gets_a_gradient():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.5, -2.0]))

        def forward(self, x):
            return x * self.scale

    x, g = noise(3, 2), noise(3, 2, seed=4)
    found = ADAPTER.gradients(Scaled(), named(x), {"0": g})
    np.testing.assert_allclose(found["parameter:scale"], (x * g).sum(0), rtol=1e-6)


def test_a_model_that_cannot_be_differentiated_says_so_and_is_restored():
    class Overwritten(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            h = self.fc(x).exp()
            h.mul_(2)
            return h

    model = randomise(Overwritten())
    model.fc.weight.requires_grad_(False)
    with pytest.raises(RunError, match=r"while it was differentiated.*inplace"):
        ADAPTER.gradients(model, named(noise(2, 3)), {"0": noise(2, 3)})
    assert not model.fc.weight.requires_grad and model.fc.bias.grad is None


def test_float64_functions_exported_and_compiled_models():
    x, g = noise(2, 4), noise(2, 3)
    model = randomise(nn.Sequential(nn.Linear(4, 3), nn.Tanh()))
    single = ADAPTER.gradients(model, named(x), {"0": g})
    double = ADAPTER.gradients(model, named(x), {"0": g}, float64=True)
    assert double["parameter:0.weight"].dtype == np.float64 and model[0].weight.dtype == torch.float32
    np.testing.assert_allclose(
        single["parameter:0.weight"], double["parameter:0.weight"], rtol=1e-5, atol=1e-6
    )
    exported = torch.export.export(model, (torch.from_numpy(x),))
    np.testing.assert_allclose(
        ADAPTER.gradients(exported, named(x), {"0": g})["input:0"], single["input:0"], rtol=1e-5, atol=1e-6
    )
    right(torch.jit.script(model), x)
    right(lambda a, b: (a @ b.T).relu(), noise(3, 4), noise(5, 4, seed=8))


def test_outputs_that_no_gradient_reaches():
    def model(x):
        return {"values": x.exp(), "places": x.argmax(-1), "fixed": torch.ones(2)}

    trace = trace_of(model, noise(2, 3))
    found = ADAPTER.gradients(model, named(noise(2, 3)), cotangents_of(trace))
    assert set(found) == {"input:0", "exp:0"}

"""PyTorch under the conformance suite."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from porting_check.testing import AdapterContract, DescribeContract, Example, Layer, RunContract
from porting_check.testing.strategies import Geometry, geometries
from tests.adapters.torch_recording import noise, randomise
from tests.adapters.torch_recording import whole as whole_numbers


class Residual(nn.Module):
    """Convolution, normalisation and an addition written in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.bn(self.conv(x))
        y += x
        return torch.relu_(y)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return self.fc(torch.relu(self.fc(x)))


class Broken(nn.Module):
    def forward(self, x):
        raise KeyError("nothing here")


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x) + torch.randn(3)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x * self.count


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return {"logits": self.fc(x), "deep": [x * 2, {"sum": x.sum(-1)}]}


class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return torch.special.bessel_j0(self.fc(x))


class Moved(nn.Module):
    def forward(self, x):
        return x.reshape(3, 4).transpose(0, 1)


def mlp():
    layers = {"fc1": nn.Linear(6, 8), "act": nn.GELU(), "norm": nn.LayerNorm(8), "fc2": nn.Linear(8, 3)}
    return randomise(nn.Sequential(nn.modules.container.OrderedDict(layers)))


def network():
    return randomise(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), Residual(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
        )
    )


def broken():
    return randomise(nn.Sequential(nn.modules.container.OrderedDict(first=nn.Linear(6, 6), inner=Broken())))


def dropout():
    return nn.Sequential(nn.Linear(6, 3), nn.Dropout()).train()


def moved(dtype):
    x = np.arange(12).reshape(2, 6).astype(getattr(ml_dtypes, dtype))
    return Example(dtype, "narrow", Moved, {"0": x})


class TestRecording(AdapterContract):
    framework = "torch"

    def examples(self):
        x = noise(2, 6)
        return [
            Example("mlp", "plain", mlp, {"0": x}, ("fc1", "act", "norm", "fc2")),
            Example("network", "plain", network, {"0": noise(2, 3, 15, 16)}),
            Example("twice", "repeated", lambda: randomise(Twice()), {"0": x}, ("fc", "relu", "fc#1")),
            Example("residual", "in-place", lambda: randomise(Residual()), {"0": noise(2, 4, 5, 6)}),
            Example(
                "gets written to", "in-place", lambda: lambda x: x.mul_(2).add_(1), {"0": x}, ("mul", "add")
            ),
            *map(moved, ("bfloat16", "float8_e4m3fn", "float8_e5m2")),
            Example(
                "nested",
                "nested",
                lambda: randomise(Nested()),
                {"0": x},
                outputs=("logits", "deep/0", "deep/1/sum"),
            ),
            Example(
                "bessel",
                "opaque",
                lambda: randomise(Spectrum()),
                {"0": x},
                reasons={"bessel_j0": "is not described"},
            ),
            Example("noisy", "random", lambda: randomise(Noisy()), {"0": x}, reasons={"randn": "random"}),
            Example("counting", "stateful", Counting, {"0": x}),
            Example(
                "dropout", "training", dropout, {"0": x}, reasons={"1": "training mode"}, deterministic=False
            ),
            Example("broken", "raises", broken, {"0": x}, fails_in="inner"),
        ]

    def state(self, model):
        modules = list(model.modules()) if isinstance(model, nn.Module) else []
        modes = [(module.training, len(module._forward_hooks)) for module in modules]
        return torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_default_dtype(), modes


class TestRun(RunContract):
    framework = "torch"
    at_least = 165

    def state(self):
        return torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled()


def convolution(g: Geometry, transposed: bool = False) -> Layer:
    """A convolution; padding "same" has no stride in torch, and no form when transposed."""
    name = f"Conv{'Transpose' if transposed else ''}{g.rank}d"
    options = {"stride": g.stride, "dilation": g.dilation, "groups": g.groups, "bias": g.bias}
    if transposed:
        options["padding"] = tuple(min(1, (k - 1) * d) for k, d in zip(g.kernel, g.dilation))
        options["output_padding"] = tuple(int(max(s, d) > 1) for s, d in zip(g.stride, g.dilation))
    elif max(g.stride) == 1:
        options["padding"] = g.padding
    else:
        options["padding"] = tuple(min(2, k // 2) for k in g.kernel)
    kind = getattr(nn, name)
    return layer(
        lambda: kind(g.channels, g.filters, g.kernel, **options), noise(*g.first), what=f"{name} {g}"
    )


def layer(build, *arrays, what="") -> Layer:
    inputs = {str(place): array for place, array in enumerate(arrays)}
    return Layer(lambda: randomise(nn.Sequential(build())), inputs, what)


def pool(g: Geometry, kind: str, ceil: bool) -> Layer:
    padding = tuple(k // 2 if g.padding == "same" else 0 for k in g.kernel)
    options = {"stride": g.stride, "padding": padding, "ceil_mode": ceil}
    if kind == "Max":
        options["dilation"] = g.dilation
    else:
        options["count_include_pad"] = g.bias
    name = f"{kind}Pool{g.rank}d"
    sizes = [n + 2 for n in g.sizes]
    return layer(
        lambda: getattr(nn, name)(g.kernel, **options), noise(g.batch, g.channels, *sizes), what=f"{name} {g}"
    )


def normalization(g: Geometry, kind: str) -> Layer:
    build = {
        "BatchNorm": lambda: getattr(nn, f"BatchNorm{g.rank}d")(g.channels, eps=1e-3, affine=g.bias),
        "InstanceNorm": lambda: getattr(nn, f"InstanceNorm{g.rank}d")(g.channels, affine=g.bias),
        "GroupNorm": lambda: nn.GroupNorm(g.groups, g.channels, eps=1e-4),
        "LayerNorm": lambda: nn.LayerNorm([n + 1 for n in g.sizes], bias=g.bias),
        "RMSNorm": lambda: nn.RMSNorm(g.sizes[-1] + 1, eps=1e-6),
    }[kind]
    return layer(build, noise(g.batch, g.channels, *(n + 1 for n in g.sizes)), what=f"{kind} {g}")


def dense(g: Geometry) -> Layer:
    shape = (g.batch, g.channels) if g.rank == 1 else (g.batch, *g.sizes[:1], g.channels)
    return layer(lambda: nn.Linear(g.channels, g.filters, bias=g.bias), noise(*shape), what=f"Linear {g}")


def recurrent(g: Geometry, kind: str) -> Layer:
    options = {"batch_first": g.bias, "bidirectional": g.groups == 2, "num_layers": g.rank}
    build = lambda: getattr(nn, kind)(g.channels, g.filters, **options)  # noqa: E731
    return layer(build, noise(g.batch, 4, g.channels), what=f"{kind} {options} {g}")


def resize(g: Geometry, mode: str, corners: bool) -> Layer:
    factors = tuple(float(s) for s in g.stride) if g.bias else None
    target = None if factors else tuple(n + k for n, k in zip(g.sizes, g.kernel))
    options = {"align_corners": corners} if mode != "nearest" else {}
    word = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}[g.rank], "nearest": "nearest"}[mode]
    build = lambda: nn.Upsample(target, factors, word, **options)  # noqa: E731
    return layer(build, noise(*g.first), what=f"Upsample {word} {g}")


ACTIVATIONS = (
    nn.ReLU(), nn.ReLU6(), nn.ELU(0.7), nn.SELU(), nn.CELU(1.3), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(),
    nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.Softsign(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-2, 1.5),
    nn.LeakyReLU(0.2), nn.PReLU(3), nn.Softmax(1), nn.LogSoftmax(-1), nn.Tanhshrink(), nn.Softshrink(), nn.LogSigmoid(),
    nn.Flatten(), nn.Identity(), nn.Dropout(), nn.PixelShuffle(1), nn.ZeroPad2d((1, 0, 2, 1)), nn.ReflectionPad2d(1),
    nn.AdaptiveAvgPool2d((2, 3)), nn.AdaptiveMaxPool2d((3, 2)), nn.Unflatten(1, (3, 1)), nn.ChannelShuffle(3),
)  # fmt: skip


class TestDescribe(DescribeContract):
    framework = "torch"

    def layers(self):
        flat, whole = geometries(groups=(1,)), geometries()
        return {
            "Conv": whole.map(convolution),
            "ConvTranspose": whole.map(lambda g: convolution(g, True)),
            "MaxPool": st.builds(pool, flat, st.just("Max"), st.booleans()),
            "AvgPool": st.builds(pool, flat, st.just("Avg"), st.booleans()),
            **{
                k: whole.map(lambda g, k=k: normalization(g, k))
                for k in ("BatchNorm", "InstanceNorm", "GroupNorm")
            },
            **{k: whole.map(lambda g, k=k: normalization(g, k)) for k in ("LayerNorm", "RMSNorm")},
            "Linear": whole.map(dense),
            **{k: whole.map(lambda g, k=k: recurrent(g, k)) for k in ("LSTM", "GRU", "RNN")},
            "Upsample": st.builds(resize, flat, st.sampled_from(("linear", "nearest")), st.booleans()),
            "Embedding": st.just(layer(lambda: nn.Embedding(9, 4), whole_numbers(2, 5, low=0, high=9))),
            "the others": st.sampled_from(ACTIVATIONS).map(
                lambda a: layer(lambda: a, noise(2, 3, 5, 6), what=str(a))
            ),
        }

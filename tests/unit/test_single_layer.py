"""Layers written on one line."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.layer_parts import MAKERS
from porting_check.neutral.errors import InputError, ModelError
from porting_check.numerics.truth import evaluate
from porting_check.single_layer import is_layer, parse


def output(text: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    network, inputs, _ = parse(text, shape)
    return evaluate(network.nodes, {**inputs, **network.parameters})["y"]


@pytest.mark.parametrize(
    ("text", "shape", "wanted"),
    [
        ("Conv(filters=8, kernel=5, stride=2, padding=same)", None, (1, 8, 16, 16)),
        ("conv2d(kernel=3, groups=3)", None, (1, 24, 30, 30)),
        ("Conv(kernel=3, padding=1, dilation=2)", (2, 4, 9), (2, 8, 7)),
        ("ConvTranspose(stride=2, kernel=3, output_padding=[1, 1])", None, (1, 8, 66, 66)),
        ("MaxPool(kernel=3, stride=2, padding=1, ceil_mode=1)", None, (1, 3, 17, 17)),
        ("Dense(units=3)", None, (4, 3)),
        ("Gemm(transB=0)", None, (4, 32)),
        ("MatMul(units=7)", (2, 5, 6), (2, 5, 7)),
        ("LSTM(units=4, direction=bidirectional)", None, (7, 2, 2, 4)),
        ("GRU(hidden_size=3, linear_before_reset=1)", None, (7, 1, 2, 3)),
        ("LayerNormalization(axis=-2)", (2, 3, 4), (2, 3, 4)),
        ("BatchNormalization(eps=0.001)", None, (1, 3, 32, 32)),
        ("Resize(mode=linear, scale=3)", None, (1, 3, 96, 96)),
        ("ReduceMean(axes=[2, 3], keepdims=0)", None, (1, 3)),
        ("Add()", None, (1, 3, 32, 32)),
        ("PRelu()", None, (1, 3, 32, 32)),
    ],
)
def test_a_line_becomes_a_layer_that_runs(text, shape, wanted):
    assert output(text, shape).shape == wanted


def test_what_the_words_mean_is_said_in_numbers():
    network, _, note = parse("Conv(kernel=5, stride=2, padding=same)", (1, 3, 32, 33))
    assert network.nodes[0].attributes["auto_pad"] == "SAME_UPPER"
    assert note == "SAME on (32, 33) means pads ((1, 2), (2, 2)) here."
    lower = parse("MaxPool(kernel=2, padding=same_lower)", (1, 1, 4, 4))[2]
    assert "((1, 0), (1, 0))" in lower
    assert parse("Relu()")[2] == ""


def test_values_of_clip_are_those_given():
    y = output("Clip(min=-0.5, max=0.5)")
    assert (y.min(), y.max()) == (-0.5, 0.5)


def test_the_seed_decides():
    one, two, other = (parse("Conv(kernel=3)", seed=seed)[1]["x"] for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Conv(kernl=3)", "Conv has no attribute 'kernl'; did you mean 'kernel'"),
        ("Foo()", "no ONNX operator"),
        ("Conv(3)", "is not a layer"),
        ("Conv(kernel=__import__('os'))", "is not a layer"),
        ("Conv(padding=blah)", "expected same, same_lower, valid"),
        ("Conv(groups=2)", "cannot be split into 2 groups"),
        ("Conv(filters=0)", "filters=0"),
        ("Where()", "does not begin with a tensor of numbers"),
        ("Relu(kernel=3)", "Relu has no attribute 'kernel'"),
        ("Einsum()", "needs the attribute 'equation'"),
        ("RoiAlign()", "also reads"),
    ],
)
def test_what_is_not_understood_is_named(text, said):
    with pytest.raises(ModelError, match=said):
        parse(text)


def test_a_convolution_needs_spatial_axes():
    with pytest.raises(InputError, match="3 axes or more"):
        parse("Conv()", (4, 5))


def test_models_are_no_layers():
    assert is_layer("Relu()")
    assert not any(is_layer(text) for text in ("model.onnx", "port.py:build", "a/b(c).onnx", "net.trace"))


@pytest.mark.parametrize("op_type", sorted(MAKERS))
def test_every_maker_makes_a_layer_that_runs(op_type):
    extra = "num_groups=3" if op_type == "GroupNormalization" else ""
    assert np.isfinite(output(f"{op_type}({extra})")).any()

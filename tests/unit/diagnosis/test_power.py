"""What a passing run says it could not have seen is what a planted mistake then really does not show."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.examination import examine
from porting_check.neutral.node import Node
from porting_check.report.assemble import assemble
from tests.unit.traces import constant, conv, run_network

RNG = np.random.default_rng(0)
W, B = RNG.standard_normal((4, 3, 3, 3)).astype("f4"), RNG.standard_normal(4).astype("f4")
LIMITS = [constant("low", np.float32(0)), constant("high", np.float32(6))]
CAPPED = [*LIMITS, Node("Clip", ("x", "low", "high"), ("y",))]
RELU = [Node("Relu", ("x",), ("y",))]


def image(height, width, low=-1.0, high=1.0):
    return RNG.uniform(low, high, (2, 3, height, width)).astype("f4")


def same(pads):
    return ("conv", [conv(pads, strides=(2, 2))], {"weight": W, "bias": B})


def pool(pads):
    attributes = {
        "kernel_shape": (3, 3),
        "strides": (1, 1),
        "pads": pads,
        "dilations": (1, 1),
        "ceil_mode": 0,
    }
    return ("pool", [Node("MaxPool", ("x",), ("y",), attributes)], {})


def report_of(reference, candidate, data):
    return assemble(examine(run_network(reference, data), run_network(candidate, data)), {}, lambda *_: None)


def hidden(report):
    return {item.cause: item.hidden for item in report.power if item.hidden}


@pytest.mark.parametrize(
    ("cause", "right", "wrong", "blind", "seeing"),
    [
        ("conv-same-stride-asym", same((1, 1, 1, 1)), same((1, 1, 1, 1)), image(15, 17), None),
        ("relu6-cap", ("act", RELU, {}), ("act", CAPPED, {}), image(6, 8), image(6, 8, -9, 9)),
        (
            "leaky-slope",
            ("act", [Node("LeakyRelu", ("x",), ("y",), {"alpha": 0.3})], {}),
            ("act", [Node("LeakyRelu", ("x",), ("y",), {"alpha": 0.01})], {}),
            image(6, 8, 0, 1),
            image(6, 8),
        ),
        (
            "gelu-tanh",
            ("act", [Node("Gelu", ("x",), ("y",), {"approximate": "none"})], {}),
            ("act", [Node("Gelu", ("x",), ("y",), {"approximate": "tanh"})], {}),
            1e-7 * image(6, 8),
            image(6, 8),
        ),
    ],
)
def test_what_is_said_to_be_hidden_does_not_show_and_the_rest_does(cause, right, wrong, blind, seeing):
    assert cause in hidden(report_of([right], [right], blind))
    assert report_of([right], [wrong], blind).verdict == "faithful"
    if seeing is not None:
        assert cause not in hidden(report_of([right], [right], seeing))
        assert report_of([right], [wrong], seeing).verdict == "divergent"


def test_an_even_size_shows_a_wrong_side_of_padding_and_an_odd_one_is_said_not_to():
    right, wrong = same((0, 0, 1, 1)), same((1, 1, 1, 1))
    report = report_of([right], [right], image(14, 16))
    assert "conv-same-stride-asym" not in hidden(report)
    assert report_of([right], [wrong], image(14, 16)).verdict == "divergent"


def test_padding_with_zero_is_hidden_where_nothing_is_negative():
    assert hidden(report_of([pool((1, 1, 1, 1))], [pool((1, 1, 1, 1))], image(6, 8, 0, 1)))[
        "maxpool-pad-value"
    ] == ("pool",)
    assert "maxpool-pad-value" not in hidden(
        report_of([pool((1, 1, 1, 1))], [pool((1, 1, 1, 1))], image(6, 8))
    )


def test_a_kernel_that_equals_its_transpose_cannot_show_swapped_axes():
    symmetric = (W + W.transpose(0, 1, 3, 2)).astype("f4")
    layer = ("conv", [conv((1, 1, 1, 1))], {"weight": symmetric, "bias": B})
    assert hidden(report_of([layer], [layer], image(6, 8)))["kernel-hw-swap"] == ("conv",)


def test_a_constant_that_differs_without_effect_is_a_warning():
    right, wrong = ([Node("LeakyRelu", ("x",), ("y",), {"alpha": slope})] for slope in (0.3, 0.01))
    report = report_of([("act", right, {})], [("act", wrong, {})], image(6, 8, 0, 1))
    assert report.verdict == "faithful"
    assert any("alpha is 0.01, the reference has 0.3" in warning for warning in report.warnings)


def test_another_activation_without_effect_is_a_warning():
    report = report_of([("act", RELU, {})], [("act", CAPPED, {})], image(6, 8))
    assert report.verdict == "faithful"
    assert any("ReLU6" in warning and "on this input" in warning for warning in report.warnings)


def test_a_padding_layer_that_makes_up_for_the_convolution_is_no_warning():
    pad = Node("Pad", ("x", "amounts"), ("y",), {"mode": "constant"})
    padded = [
        ("pad", [constant("amounts", np.array([0, 0, 0, 0, 0, 0, 1, 1])), pad], {}),
        ("conv", [conv((0, 0, 0, 0), strides=(2, 2))], {"weight": W, "bias": B}),
    ]
    report = report_of([same((0, 0, 1, 1))], padded, image(8, 10))
    assert report.verdict == "faithful"
    assert not [warning for warning in report.warnings if "no difference on this input" in warning]

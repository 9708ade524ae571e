"""Convolutions and pooling of torch over random configurations: nodes in float64 give what torch gave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.adapters.torch_recording import check, check_layer, noise, reason_of

few = settings(max_examples=25, deadline=None)
dims = st.integers(1, 3)


def sized(ndim: int, base: int, channels: int, batch: int = 2) -> np.ndarray:
    """Noise whose spatial sizes are pairwise different; batch 0 means no batch axis."""
    return noise(*([batch] if batch else []), channels, *[base + axis for axis in range(ndim)])


@st.composite
def convolutions(draw):
    ndim = draw(dims)
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    numbers = st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim)
    options = {
        "kernel_size": draw(numbers),
        "stride": draw(numbers),
        "dilation": draw(numbers),
        "padding": draw(st.lists(st.integers(0, 2), min_size=ndim, max_size=ndim)),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"])),
    }
    if draw(st.booleans()):
        options["stride"], options["padding"] = 1, draw(st.sampled_from(["same", "valid"]))
    return ndim, draw(st.sampled_from([4, 8])), draw(st.sampled_from([0, 2])), options


@few
@given(convolutions())
def test_convolution(case):
    ndim, out, batch, options = case
    layer = getattr(nn, f"Conv{ndim}d")(4, out, **options)
    record = check_layer(layer, sized(ndim, 7, 4, batch))
    node = next(node for node in record.nodes if node.op_type == "Conv")
    assert {"kernel_shape", "strides", "dilations", "pads", "group"} == set(node.attributes)
    spatial = ["L", "HW", "DHW"][ndim - 1]
    assert record.inputs[0].layout == ("NC" if batch else "C") + spatial
    assert next(port.layout for port in record.parameters) == "OI" + spatial
    assert next(port.value for port in record.parameters) == "parameter:0.weight"


def test_padding_modes_are_a_pad_of_their_own():
    records = check(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect")), noise(1, 3, 6, 7)
    )
    assert [record.id for record in records] == ["0/pad", "0"]
    assert records[0].nodes[0].attributes["mode"] == "reflect"
    assert records[1].nodes[0].attributes["pads"] == (0,) * 4


def test_same_padding_puts_the_odd_zero_behind():
    record = check_layer(nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)), noise(1, 3, 9, 8))
    assert record.nodes[0].attributes["pads"] == (1, 2, 2, 2)


def test_depthwise_convolution():
    record = check_layer(nn.Conv2d(4, 8, 3, groups=4), noise(1, 4, 6, 7))
    assert record.nodes[0].attributes["group"] == 4


@few
@given(
    dims,
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(0, 1),
    st.data(),
)
def test_transposed_convolution(ndim, kernel, stride, dilation, padding, output_padding, data):
    assume(output_padding < max(stride, dilation) and padding <= (kernel - 1) * dilation)
    kind, groups = getattr(nn, f"ConvTranspose{ndim}d"), data.draw(st.sampled_from([1, 2]))
    layer = kind(4, 6, kernel, stride, padding, output_padding, groups, data.draw(st.booleans()), dilation)
    record = check_layer(layer, sized(ndim, 4, 4, data.draw(st.sampled_from([0, 2]))))
    assert any(node.op_type == "ConvTranspose" for node in record.nodes)
    assert record.parameters[0].layout.startswith("IO")


@few
@given(st.sampled_from(["Max", "Avg"]), dims, st.integers(1, 4), st.integers(1, 3), st.data())
def test_pooling(kind, ndim, kernel, stride, data):
    padding, ceil_mode = data.draw(st.integers(0, kernel // 2)), data.draw(st.booleans())
    options = {"count_include_pad": data.draw(st.booleans())} if kind == "Avg" else {"dilation": 1}
    if kind == "Max" and ndim > 1:
        options["dilation"] = data.draw(st.integers(1, 2))
    layer = getattr(nn, f"{kind}Pool{ndim}d")(kernel, stride, padding, ceil_mode=ceil_mode, **options)
    record = check_layer(layer, sized(ndim, 8, 3, data.draw(st.sampled_from([0, 2]))))
    attributes = next(node for node in record.nodes if node.op_type.endswith("Pool")).attributes
    assert attributes["ceil_mode"] == int(ceil_mode)
    assert attributes["kernel_shape"] == (kernel,) * ndim


def test_pooling_without_a_stride_steps_by_its_kernel():
    assert check_layer(nn.MaxPool2d((3, 2)), noise(1, 2, 7, 8)).nodes[0].attributes["strides"] == (3, 2)
    assert check(lambda x: F.avg_pool2d(x, (3, 2)), noise(1, 2, 7, 8))[0].nodes[0].attributes["strides"] == (
        3,
        2,
    )


def test_average_pool_with_a_divisor_of_its_own():
    check(lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), noise(1, 2, 7, 8))
    reason = reason_of(lambda x: F.avg_pool2d(x, 3, 2, 1, True, divisor_override=5), noise(1, 2, 7, 8))
    assert "divisor_override and ceil_mode" in reason


@few
@given(dims, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_places_of_the_maxima(ndim, kernel, stride, ceil_mode):
    layer = getattr(nn, f"MaxPool{ndim}d")(
        kernel, stride, kernel // 2, ceil_mode=ceil_mode, return_indices=True
    )
    check(nn.Sequential(layer), sized(ndim, 6, 3))


@few
@given(st.sampled_from(["Avg", "Max"]), dims, st.data())
def test_adaptive_pooling(kind, ndim, data):
    sizes = data.draw(st.lists(st.one_of(st.none(), st.integers(1, 9)), min_size=ndim, max_size=ndim))
    layer = getattr(nn, f"Adaptive{kind}Pool{ndim}d")(sizes if ndim > 1 else sizes[0] or 3)
    check_layer(layer, sized(ndim, 6, 3, data.draw(st.sampled_from([0, 2]))))


def test_adaptive_pooling_to_one_is_global():
    assert check_layer(nn.AdaptiveAvgPool2d(1), noise(2, 3, 4, 5)).nodes[0].op_type == "GlobalAveragePool"
    assert check_layer(nn.AdaptiveMaxPool2d((1, 1)), noise(2, 3, 4, 5)).nodes[0].op_type == "GlobalMaxPool"
    assert check_layer(nn.AdaptiveAvgPool2d((1, 2)), noise(2, 3, 4, 5)).nodes[0].domain == "porting_check"


def test_adaptive_maximum_with_places_is_opaque():
    reason = reason_of(lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True)[1], noise(1, 2, 5, 6))
    assert "return_indices is not described" in reason


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("power", [1, 2, 3.0])
def test_power_pooling(ndim, power):
    check_layer(getattr(nn, f"LPPool{ndim}d")(power, 2, 3), np.abs(sized(ndim, 6, 3)))


@few
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 3))
def test_sliding_blocks(kernel, dilation, padding, stride):
    options = {"dilation": dilation, "padding": padding, "stride": stride}
    check_layer(nn.Unfold((kernel, 2), **options), noise(2, 3, 7, 8))
    blocks = F.unfold(torch.zeros(2, 3, 7, 8), (kernel, 2), **options)
    check_layer(nn.Fold((7, 8), (kernel, 2), **options), noise(*blocks.shape))

"""Every Keras convolution: the described nodes, in float64, give what Keras gave.

For random configurations and sizes.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers
from porting_check_tensorflow.describe_convolution import transposed_crop

from tests.adapters.tensorflow_keras import check_layer, noise

few = settings(max_examples=12, deadline=None)
kernels = st.integers(1, 5)
strides = st.integers(1, 3)
words = st.sampled_from(["same", "valid"])
activations = st.sampled_from([None, "relu", "sigmoid", "softmax", "gelu"])


def data(ndim: int, base: int, channels: int, data_format: str) -> np.ndarray:
    """Noise whose spatial sizes are pairwise different, odd and even."""
    sizes = [base + axis for axis in range(ndim)]
    return noise(2, channels, *sizes) if data_format == "channels_first" else noise(2, *sizes, channels)


def window(ndim: int, kernel: int, stride: int, dilation: int) -> dict[str, Any]:
    """Stride or dilation, never both: Keras refuses the two together."""
    spread = tuple(max(kernel - axis, 1) for axis in range(ndim))
    if dilation > 1:
        return {"kernel_size": spread, "strides": 1, "dilation_rate": dilation}
    return {"kernel_size": spread, "strides": stride}


@few
@given(
    st.integers(1, 3),
    kernels,
    strides,
    st.integers(1, 3),
    words,
    st.integers(7, 10),
    activations,
    st.booleans(),
)
def test_convolution_channels_last(ndim, kernel, stride, dilation, padding, base, activation, bias):
    kind = getattr(layers, f"Conv{ndim}D")
    assume((kernel - 1) * dilation + 1 <= base)
    layer = kind(
        4, padding=padding, activation=activation, use_bias=bias, **window(ndim, kernel, stride, dilation)
    )
    record = check_layer(layer, data(ndim, base, 3, "channels_last"))
    assert record.nodes[0].op_type == "Conv"
    assert "auto_pad" not in record.nodes[0].attributes
    assert record.inputs[0].canonical[:2] == "NC"
    assert record.inputs[0].layout[-1] == "C"


@settings(max_examples=4, deadline=None)
@given(st.integers(1, 3), kernels, strides, words, st.integers(7, 9))
def test_convolution_on_channels_first_data(ndim, kernel, stride, padding, base):
    """On a CPU TensorFlow has these kernels only where Keras compiles them: 3-D, and grouped convolution."""
    kind = getattr(layers, f"Conv{ndim}D")
    options = window(ndim, kernel, stride, 1)
    groups = 1 if ndim == 3 else 3
    # 12 filters: Keras adds the bias along the width where width and filters are the same number (BiasAdd,
    # NHWC).
    layer = kind(12, padding=padding, groups=groups, data_format="channels_first", **options)
    record = check_layer(layer, data(ndim, base, 6, "channels_first"), atol=1e-5)
    assert record.inputs[0].layout == record.inputs[0].canonical == "NC" + ("L", "HW", "DHW")[ndim - 1]


@settings(max_examples=4, deadline=None)
@given(kernels, strides, st.integers(1, 3), words, st.sampled_from([1, 2, 3]))
def test_grouped_convolution(kernel, stride, dilation, padding, groups):
    options = window(2, kernel, stride, dilation)
    layer = layers.Conv2D(6, padding=padding, groups=groups, **options)
    record = check_layer(layer, data(2, 13, 6, "channels_last"), atol=1e-5)
    assert record.nodes[0].attributes["group"] == groups


@few
@given(kernels, st.integers(1, 3), st.integers(5, 9))
def test_causal_convolution_sees_no_later_step(kernel, dilation, length):
    layer = layers.Conv1D(4, kernel, padding="causal", dilation_rate=dilation)
    record = check_layer(layer, noise(2, length, 3))
    assert record.nodes[0].attributes["pads"] == ((kernel - 1) * dilation, 0)


@few
@given(st.integers(1, 2), kernels, strides, words, st.integers(1, 3), st.integers(7, 10), activations)
def test_depthwise_convolution(ndim, kernel, stride, padding, multiplier, base, activation):
    kind = getattr(layers, f"DepthwiseConv{ndim}D")
    layer = kind(kernel, stride, padding, depth_multiplier=multiplier, activation=activation)
    record = check_layer(layer, data(ndim, base, 3, "channels_last"))
    assert record.nodes[0].attributes["group"] == 3


@few
@given(kernels, st.integers(2, 3), words, st.integers(1, 2))
def test_dilated_depthwise_convolution(kernel, dilation, padding, multiplier):
    layer = layers.DepthwiseConv2D(kernel, 1, padding, depth_multiplier=multiplier, dilation_rate=dilation)
    check_layer(layer, data(2, 14, 3, "channels_last"))


@few
@given(
    st.integers(1, 2),
    kernels,
    strides,
    words,
    st.integers(1, 3),
    st.integers(7, 10),
    activations,
    st.booleans(),
)
def test_separable_convolution_is_two_nodes(
    ndim, kernel, stride, padding, multiplier, base, activation, bias
):
    kind = getattr(layers, f"SeparableConv{ndim}D")
    options = {"depth_multiplier": multiplier, "activation": activation, "use_bias": bias}
    record = check_layer(kind(5, kernel, stride, padding, **options), data(ndim, base, 3, "channels_last"))
    assert [node.op_type for node in record.nodes[:2]] == ["Conv", "Conv"]


@few
@given(st.integers(1, 3), kernels, strides, words, st.integers(4, 6), activations, st.booleans())
def test_transposed_convolution(ndim, kernel, stride, padding, base, activation, bias):
    kind = getattr(layers, f"Conv{ndim}DTranspose")
    layer = kind(4, kernel, stride, padding, activation=activation, use_bias=bias)
    record = check_layer(layer, data(ndim, base, 3, "channels_last"))
    assert record.nodes[0].op_type == "ConvTranspose"


@few
@given(st.integers(1, 5), st.integers(1, 3), words, st.integers(0, 2), st.integers(4, 7))
def test_transposed_convolution_with_output_padding(kernel, stride, padding, extra, base):
    # With "same" and an even kernel TensorFlow itself refuses an output padding of 0.
    lowest = 1 if padding == "same" and kernel % 2 == 0 else 0
    assume(lowest <= extra < stride)
    layer = layers.Conv2DTranspose(4, kernel, stride, padding, output_padding=extra)
    check_layer(layer, data(2, base, 3, "channels_last"))


def test_crop_of_a_transposed_convolution_is_the_forward_padding():
    """k3 s2: the full 9 elements lose one at the end.

    k4 s2: one on each side (MISTAKES, conv-transpose-crop).
    """
    assert transposed_crop(2 * 3 + 3, 8, True) == (0, 1, 0)
    assert transposed_crop(2 * 3 + 4, 8, True) == (1, 1, 0)
    assert transposed_crop(2 * 3 + 5, 8, True) == (1, 2, 0)


@pytest.mark.parametrize(("size", "pads"), [(32, (0, 0, 1, 1)), (33, (1, 1, 1, 1))])
def test_same_is_resolved_for_the_size_seen(size, pads):
    record = check_layer(layers.Conv2D(2, 3, 2, "same"), noise(1, size, size, 2))
    assert record.nodes[0].attributes["pads"] == pads


def test_a_convolution_with_a_function_of_the_users_own_is_entered():
    from tests.adapters.tensorflow_keras import trace_of

    layer = layers.Conv2D(2, 3, activation=lambda x: keras.ops.sin(x), name="conv")
    trace = trace_of(layer, noise(1, 6, 6, 2))
    assert [record.operator for record in trace.records][-1] == "tf.raw_ops.Sin"
    assert all(record.name.startswith("conv/") for record in trace.records)

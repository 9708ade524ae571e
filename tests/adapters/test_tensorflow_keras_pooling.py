"""Pooling, padding, cropping, upsampling and resizing layers of Keras.

Nodes in float64 give what Keras gave.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import layers

from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_keras import check_layer, noise, trace_of

few = settings(max_examples=12, deadline=None)
dims = st.integers(1, 3)
formats = st.sampled_from(["channels_last", "channels_first"])
words = st.sampled_from(["same", "valid"])


def data(ndim: int, base: int, data_format: str, channels: int = 3) -> np.ndarray:
    """Noise whose spatial sizes are pairwise different."""
    sizes = [base + axis for axis in range(ndim)]
    return noise(2, channels, *sizes) if data_format == "channels_first" else noise(2, *sizes, channels)


@few
@given(
    st.sampled_from(["Max", "Average"]),
    dims,
    st.integers(1, 4),
    st.integers(1, 3),
    words,
    formats,
    st.integers(6, 9),
)
@example("Max", 3, 1, 3, "same", "channels_last", 6)
@example("Average", 3, 2, 4, "same", "channels_first", 8)
def test_pooling(kind, ndim, size, stride, padding, data_format, base):
    layer = getattr(layers, f"{kind}Pooling{ndim}D")(size, stride, padding, data_format=data_format)
    record = check_layer(layer, data(ndim, base, data_format))
    assert record.nodes[-1].op_type == f"{kind}Pool"
    assert record.nodes[-1].attributes["ceil_mode"] == 0
    if kind == "Average":
        assert record.nodes[-1].attributes["count_include_pad"] == 0


def test_pooling_without_strides_steps_by_its_size():
    record = check_layer(layers.MaxPooling2D((3, 2)), noise(1, 7, 8, 2))
    assert record.nodes[0].attributes["strides"] == (3, 2)


@few
@given(st.sampled_from(["Max", "Average"]), dims, st.booleans(), formats)
def test_global_pooling(kind, ndim, keepdims, data_format):
    layer = getattr(layers, f"Global{kind}Pooling{ndim}D")(keepdims=keepdims, data_format=data_format)
    record = check_layer(layer, data(ndim, 4, data_format))
    assert record.outputs[0].layout == (record.inputs[0].layout if keepdims else "NC")


@few
@given(st.sampled_from(["Max", "Average"]), dims, st.integers(1, 5), formats)
def test_adaptive_pooling(kind, ndim, size, data_format):
    if not hasattr(layers, f"Adaptive{kind}Pooling{ndim}D"):
        pytest.skip("this Keras has no adaptive pooling")
    layer = getattr(layers, f"Adaptive{kind}Pooling{ndim}D")(size, data_format=data_format)
    check_layer(layer, data(ndim, 6, data_format))


@few
@given(dims, st.data(), formats)
def test_zero_padding_and_cropping(ndim, draw, data_format):
    pairs = draw.draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * ndim))
    amounts = pairs[0] if ndim == 1 else pairs
    options = {} if ndim == 1 else {"data_format": data_format}
    array = data(ndim, 5, "channels_last" if ndim == 1 else data_format)
    check_layer(getattr(layers, f"ZeroPadding{ndim}D")(amounts, **options), array)
    check_layer(getattr(layers, f"Cropping{ndim}D")(amounts, **options), array)


@few
@given(dims, st.integers(1, 3), formats)
def test_nearest_upsampling(ndim, size, data_format):
    options = {} if ndim == 1 else {"data_format": data_format}
    array = data(ndim, 3, "channels_last" if ndim == 1 else data_format)
    check_layer(getattr(layers, f"UpSampling{ndim}D")(size, **options), array)


def tolerance(interpolation: str, *scales: int) -> float:
    """TensorFlow reads cubic coefficients from a table of 1024 offsets (MISTAKES, resize-bicubic-tf-table).

    Offsets at scales of 1, 2 and 4 are in the table; elsewhere an offset is wrong by up to 1/2048.
    """
    exact = interpolation != "bicubic" or set(scales) <= {1, 2, 4}
    return 5e-6 if exact else 3e-3


@few
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from(["bilinear", "bicubic"]), formats)
def test_smooth_upsampling(height, width, interpolation, data_format):
    layer = layers.UpSampling2D((height, width), data_format=data_format, interpolation=interpolation)
    check_layer(layer, data(2, 5, data_format), atol=tolerance(interpolation, height, width))


@few
@given(st.integers(3, 15), st.integers(3, 15), st.sampled_from(["bilinear", "bicubic", "nearest"]))
def test_resizing_to_any_size(height, width, interpolation):
    layer = layers.Resizing(height, width, interpolation=interpolation)
    check_layer(layer, noise(2, 8, 11, 3), atol=tolerance(interpolation, height, width))


def test_an_interpolation_without_an_onnx_form_is_opaque_with_a_reason():
    trace = trace_of(layers.Resizing(4, 4, interpolation="lanczos3"), noise(1, 8, 8, 1))
    assert [record.opaque for record in trace.records] == [True]
    assert "lanczos3" in trace.records[0].reason


def test_same_pooling_depends_on_the_size_seen():
    even = check_layer(layers.MaxPooling2D(3, 2, "same"), noise(1, 8, 8, 1))
    odd = check_layer(layers.MaxPooling2D(3, 2, "same"), noise(1, 9, 9, 1))
    assert (even.nodes[0].attributes["pads"], odd.nodes[0].attributes["pads"]) == ((0, 0, 1, 1), (1, 1, 1, 1))


def test_a_mask_keeps_average_pooling_opaque():
    inputs = keras.Input((6, 2))
    pooled = layers.GlobalAveragePooling1D(name="pool")(layers.Masking()(inputs))
    array = noise(2, 6, 2)
    array[0, 3:] = 0
    trace = trace_of(keras.Model(inputs, pooled), array)
    assert {record.name for record in trace.records if record.opaque} == {"pool"}
    assert "mask" in next(record.reason for record in trace.records if record.opaque)
    check_trace(trace)

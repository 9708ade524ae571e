"""Activations, dense layers, normalisations.

Merging and reshaping layers of Keras against their nodes in float64.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from porting_check_tensorflow.describe_activations import FUNCTIONS
from porting_check_tensorflow.describe_dense import plain_equation

from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_keras import check_layer, noise, randomise, trace_of

few = settings(max_examples=10, deadline=None)
wide = 4 * noise(3, 4, 6)
"""Values on both sides of every bend."""

NAMES = sorted(name for name in FUNCTIONS if hasattr(keras.activations, name))


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_alone_and_after_a_convolution(name):
    check_layer(layers.Activation(name), wide)
    check_layer(layers.Conv2D(4, 1, activation=name), noise(2, 3, 4, 3))
    check_layer(layers.Dense(4, activation=name), noise(5, 3))


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "tanh", "sigmoid", "softmax", "elu", "selu", "gelu", "leaky_relu", "silu"]
)
@pytest.mark.parametrize("module", ["nn", "ops"])
def test_functions_of_tensorflow_and_of_keras_ops_as_activations(name, module):
    import tensorflow as tf

    function = getattr(tf.nn if module == "nn" else keras.ops, name)
    check_layer(layers.Dense(4, activation=function), noise(9, 3))


@few
@given(st.sampled_from([0.0, 0.1]), st.sampled_from([None, 1.5, 6.0]), st.sampled_from([0.0, 0.7, -0.5]))
def test_relu_with_every_option(slope, top, threshold):
    check_layer(layers.ReLU(max_value=top, negative_slope=slope, threshold=max(threshold, 0.0)), wide)


@pytest.mark.parametrize(
    "layer",
    [
        layers.LeakyReLU(),
        layers.LeakyReLU(negative_slope=0.05),
        layers.ELU(alpha=0.7),
        layers.Softmax(),
        layers.Softmax(axis=1),
        layers.PReLU(),
        layers.PReLU(shared_axes=[1]),
        layers.PReLU(shared_axes=[1, 2]),
        layers.Dropout(0.5),
        layers.SpatialDropout1D(0.5),
        layers.AlphaDropout(0.5),
        layers.GaussianDropout(0.5),
        layers.GaussianNoise(0.5),
        layers.ActivityRegularization(0.1),
        layers.Identity(),
        layers.Flatten(),
        layers.Reshape((6, 4)),
        layers.Reshape((-1,)),
        layers.Permute((2, 1)),
        layers.UnitNormalization(),
        layers.UnitNormalization(axis=1),
        layers.Rescaling(1 / 127.5, -1),
        layers.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.5),
        layers.Normalization(mean=0.5, variance=2.0),
        layers.Normalization(),
        layers.Normalization(invert=True, mean=0.5, variance=2.0),
        layers.Masking(),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_without_choices(layer):
    check_layer(layer, wide)


@pytest.mark.parametrize(
    ("shared", "layouts", "slope"),
    [
        ([1, 2], ("NHWC", "NCHW"), ("HWC", "CHW")),
        ([2, 3], ("NCHW", "NCHW"), ("CHW", "CHW")),
        (None, ("", ""), ("", "")),
        ([1], ("", ""), ("", "")),
    ],
)
def test_the_shared_axes_of_a_prelu_tell_where_its_channels_are(shared, layouts, slope):
    record = check_layer(layers.PReLU(shared_axes=shared), noise(2, 4, 5, 3))
    assert (record.inputs[0].layout, record.inputs[0].canonical) == layouts
    assert (record.parameters[0].layout, record.parameters[0].canonical) == slope


@few
@given(st.integers(1, 4), st.booleans(), st.sampled_from([None, "relu", "softmax"]))
def test_dense_of_any_rank(rank, bias, activation):
    shape = (2, 3, 4, 5)[-rank:] if rank > 1 else (7, 5)
    record = check_layer(layers.Dense(3, use_bias=bias, activation=activation), noise(*shape))
    assert record.nodes[0].op_type == ("Gemm" if len(shape) == 2 else "MatMul")


@pytest.mark.parametrize(
    ("equation", "shape", "bias"),
    [
        ("abc,cd->abd", (None, 5), "d"),
        ("...x,xy->...y", (3, 5), "y"),
        ("abc,cde->abde", (None, 2, 5), "e"),
        ("ab,bc->ac", 4, None),
    ],
)
def test_einsum_dense(equation, shape, bias):
    array = noise(2, 6) if equation.startswith("ab,") else noise(2, 3, 6)
    record = check_layer(layers.EinsumDense(equation, output_shape=shape, bias_axes=bias), array)
    assert "..." not in record.nodes[0].attributes["equation"]


def test_an_ellipsis_gets_letters_of_its_own():
    assert plain_equation("...a,ab->...b", [4, 2]) == "ABCa,ab->ABCb"
    assert plain_equation("ab,bc->ac", [2, 2]) == "ab,bc->ac"


def test_embedding_of_integers_and_of_floats():
    table = layers.Embedding(11, 4)
    check_layer(table, np.arange(11, dtype=np.int32)[None])
    record = check_layer(layers.Embedding(11, 4), np.arange(10, dtype=np.float32).reshape(2, 5))
    assert record.nodes[-1].op_type == "Gather"


@few
@given(st.integers(2, 5), st.booleans(), st.booleans(), st.booleans())
def test_batch_normalization(rank, scale, center, first):
    axis = 1 if first else -1
    layer = layers.BatchNormalization(axis=axis, scale=scale, center=center, epsilon=0.01)
    record = check_layer(layer, noise(*(3, 4, 5, 2, 6)[:rank]))
    assert record.nodes[0].attributes == {"epsilon": 0.01}
    assert record.inputs[0].canonical[:2] == "NC"


@few
@given(st.sampled_from([-1, 1, 2, [1, 2], [2, 3], [1, 2, 3], [1, 3]]), st.booleans(), st.booleans())
def test_layer_normalization_over_any_axes(axis, scale, center):
    check_layer(layers.LayerNormalization(axis=axis, scale=scale, center=center), noise(2, 3, 4, 5))


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
@pytest.mark.parametrize("axis", [-1, [1, 2]])
def test_layer_normalization_with_rms_scaling(axis):
    layer = layers.LayerNormalization(axis=axis)
    layer.rms_scaling = True
    check_layer(layer, noise(2, 3, 4))


@pytest.mark.parametrize("axis", [-1, 2, [1, 2]])
def test_rms_normalization(axis):
    record = check_layer(layers.RMSNormalization(axis=axis), noise(2, 3, 4))
    assert record.nodes[0].op_type == "RMSNormalization"


@few
@given(st.integers(3, 5), st.sampled_from([1, 2, 3, 6, -1]), st.booleans(), st.booleans(), st.booleans())
def test_group_normalization(rank, groups, scale, center, first):
    shape = [2, 3, 4, 5, 2][:rank]
    shape[1 if first else -1] = 6
    layer = layers.GroupNormalization(groups, axis=1 if first else -1, scale=scale, center=center)
    record = check_layer(layer, noise(*shape))
    assert record.nodes[0].op_type == ("InstanceNormalization" if groups in (6, -1) else "GroupNormalization")


def test_normalization_that_was_adapted_reads_its_weights():
    layer = layers.Normalization()
    layer.adapt(np.abs(wide) * np.arange(1, 7, dtype=np.float32))
    trace = trace_of(layer, wide)
    assert check_trace(trace) == []
    assert {port.value for port in trace.records[0].parameters} == {
        "parameter:normalization/mean",
        "parameter:normalization/variance",
    } or {port.name for port in trace.records[0].parameters} == {"mean", "variance"}


def merged(layer, *shapes):
    """A model that merges inputs of these shapes, recorded."""
    inputs = [keras.Input(shape[1:]) for shape in shapes]
    trace = trace_of(
        keras.Model(inputs, layer(inputs)), *[noise(*shape, seed=i) for i, shape in enumerate(shapes)]
    )
    assert check_trace(trace) == []
    assert [record.operator for record in trace.records] == [f"keras.layers.{type(layer).__name__}"]
    return trace.records[0]


@pytest.mark.parametrize("kind", ["Add", "Multiply", "Maximum", "Minimum", "Average"])
def test_merging_layers(kind):
    merged(getattr(layers, kind)(), (2, 3, 4), (2, 3, 4), (2, 3, 4))
    merged(getattr(layers, kind)(), (2, 3, 4), (2, 1, 4))
    merged(getattr(layers, kind)(), (2, 3, 4), (2, 4))


def test_subtract_and_concatenate():
    merged(layers.Subtract(), (2, 3), (2, 3))
    assert merged(layers.Concatenate(), (2, 3, 4), (2, 3, 5)).nodes[0].attributes["axis"] == 2
    assert merged(layers.Concatenate(axis=1), (2, 3, 4), (2, 5, 4)).nodes[0].attributes["axis"] == 1


@pytest.mark.parametrize(
    ("axes", "first", "second"),
    [
        (1, (3, 4), (3, 4)),
        (-1, (3, 2, 4), (3, 5, 4)),
        ((2, 1), (3, 2, 4), (3, 4, 5)),
        ((1, 2), (3, 4, 2), (3, 5, 4)),
        ((2, 1), (3, 2, 4), (3, 4)),
        (1, (3, 4), (3, 4, 5)),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_dot(axes, first, second, normalize):
    merged(layers.Dot(axes, normalize=normalize), first, second)


def test_reshaping_of_images():
    check_layer(layers.Flatten(), noise(2, 3, 4, 5))
    check_layer(layers.Flatten(data_format="channels_first"), noise(2, 3, 4, 5))
    check_layer(layers.Flatten(), noise(4))
    check_layer(layers.RepeatVector(4), noise(3, 5))
    check_layer(layers.Permute((3, 1, 2)), noise(2, 3, 4, 5))


def test_channels_first_flatten_reorders_and_channels_last_does_not():
    first = check_layer(layers.Flatten(data_format="channels_first"), noise(2, 3, 4, 5))
    assert [node.op_type for node in first.nodes] == ["Transpose", "Flatten"]


def test_dropout_returns_a_value_of_its_own_and_keeps_the_skip_edge():
    inputs = keras.Input((4,))
    hidden = layers.Dense(4, name="first")(inputs)
    outputs = layers.Add(name="sum")([layers.Dropout(0.5, name="drop")(hidden), hidden])
    trace = trace_of(randomise(keras.Model(inputs, outputs)), noise(2, 4))
    last = trace.records[-1]
    assert [port.value for port in last.inputs] == ["drop:0", "first:0"]

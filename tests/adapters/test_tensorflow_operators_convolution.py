"""Convolution operators: their nodes in float64 give what TensorFlow gives."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from porting_check_tensorflow.described import Described, Operand
from porting_check_tensorflow.operators import describe_operator
from tensorflow.python.eager import context, execute

from porting_check.testing.replay import check_record
from tests.adapters.tensorflow_operators import ROUNDED, as_record, check, describe, operand

few = settings(max_examples=20, deadline=None)
sizes = st.integers(5, 9)
kernels = st.integers(1, 4)
steps = st.integers(1, 3)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@few
@given(
    st.data(),
    sizes,
    sizes,
    kernels,
    kernels,
    st.sampled_from(["SAME", "VALID", "EXPLICIT"]),
    st.sampled_from([1, 2]),
)
def test_conv2d_resolves_every_padding_and_groups(data, height, width, rows, columns, padding, groups):
    stride, dilation = data.draw(st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2)]))
    height, width = height + rows * dilation, width + columns * dilation
    pads = [0, 0, *data.draw(st.tuples(*[st.integers(0, 2)] * 4)), 0, 0] if padding == "EXPLICIT" else []
    found = check(
        "Conv2D",
        input=noise(2, height, width, 2 * groups),
        filter=noise(rows, columns, 2, 3 * groups),
        strides=[1, stride, stride, 1],
        dilations=[1, dilation, dilation, 1],
        padding=padding,
        explicit_paddings=pads,
    )
    node = found.nodes[0]
    assert node.attributes["group"] == groups
    assert {"kernel_shape", "strides", "dilations", "pads"} <= set(node.attributes)
    assert "auto_pad" not in node.attributes


def test_conv2d_pads_more_behind_than_before_when_the_total_is_odd():
    found = check(
        "Conv2D", input=noise(1, 8, 8, 1), filter=noise(3, 3, 1, 1), strides=[1, 2, 2, 1], padding="SAME"
    )
    assert found.nodes[0].attributes["pads"] == (0, 0, 1, 1)


def test_conv2d_in_channels_first_keeps_its_layout_and_declares_it():
    x, kernel = noise(2, 4, 7, 6).astype(np.float32), noise(3, 3, 4, 5).astype(np.float32)
    attributes = {"strides": [1, 1, 2, 2], "padding": "SAME", "data_format": "NCHW"}
    expected = (
        tf.nn.conv2d(x.transpose(0, 2, 3, 1), kernel, [1, 2, 2, 1], "SAME").numpy().transpose(0, 3, 1, 2)
    )
    arrays = [x, kernel]
    found = describe_operator(
        "Conv2D", attributes, [operand(tf.constant(a), False) for a in arrays], [_shaped(expected)]
    )
    assert isinstance(found, Described)
    assert (found.inputs[0].layout, found.inputs[0].canonical) == ("NCHW", "NCHW")
    record, values = as_record("Conv2D", found, arrays, [expected])
    check_record(record, values, **ROUNDED)


def _shaped(array: np.ndarray) -> Operand:
    return Operand(tuple(array.shape), array.dtype.name, lambda: array)


@few
@given(sizes, kernels, steps, st.sampled_from(["SAME", "VALID"]), st.integers(1, 3))
def test_depthwise_multiplies_channels_in_tensorflows_order(size, kernel, stride, padding, multiplier):
    found = check(
        "DepthwiseConv2dNative",
        tolerance=ROUNDED,
        input=noise(2, size + kernel, size, 3).astype(np.float32),
        filter=noise(kernel, min(kernel, 3), 3, multiplier).astype(np.float32),
        strides=[1, stride, stride, 1],
        padding=padding,
    )
    assert found.nodes[0].attributes["group"] == 3
    assert (found.inputs[1].layout, found.inputs[1].canonical) == ("HWCM", "(CM)1HW")


@few
@given(sizes, st.integers(1, 3), steps, st.sampled_from(["SAME", "VALID"]))
def test_conv3d_resolves_padding_on_three_axes(size, kernel, stride, padding):
    assume(padding == "VALID" or size - (-(-size // stride) - 1) * stride - kernel < 2)
    check(
        "Conv3D",
        input=noise(1, size, size + 1, size + 2, 2),
        filter=noise(kernel, 2, 3, 2, 3),
        strides=[1, stride, 1, 2, 1],
        padding=padding,
    )


@pytest.mark.parametrize(("size", "kernel", "stride"), [(6, 1, 3), (8, 2, 4), (5, 3, 5)])
def test_3d_windows_that_tensorflow_starts_elsewhere_stay_opaque(size, kernel, stride):
    """TensorFlow's own 2-D and 3-D convolutions disagree there: the reason must not outlive that."""
    line = np.arange(1.0, size + 1).reshape(1, size, 1, 1, 1)
    weight = np.ones((kernel, 1, 1, 1, 1))
    found, _, outputs = describe(
        "Conv3D", input=line, filter=weight, strides=[1, stride, 1, 1, 1], padding="SAME"
    )
    flat = tf.nn.conv2d(line[..., 0], weight[..., 0], [1, stride, 1, 1], "SAME").numpy()
    assert not np.array_equal(outputs[0][..., 0], flat)
    assert isinstance(found, str)
    assert f"kernel {kernel} and stride {stride} on size {size}" in found
    for op_type in ("MaxPool3D", "AvgPool3D"):
        arguments = {"ksize": [1, kernel, 1, 1, 1], "strides": [1, stride, 1, 1, 1], "padding": "SAME"}
        assert isinstance(describe(op_type, input=line.astype(np.float32), **arguments)[0], str)


@few
@given(st.data(), sizes, kernels, steps, st.sampled_from(["SAME", "VALID", "EXPLICIT"]))
def test_transposed_conv2d_crops_what_the_forward_convolution_padded(data, size, kernel, stride, padding):
    pads = [0, 0, 1, 0, 0, 1, 0, 0] if padding == "EXPLICIT" else []
    forward = (size + kernel, size + 3, 2)
    kernel_array = noise(kernel, 2, 2, 3)
    strides = [1, stride, stride, 1]
    seen = tf.raw_ops.Conv2D(
        input=noise(1, *forward),
        filter=kernel_array,
        strides=strides,
        padding=padding,
        explicit_paddings=pads,
    )
    found = check(
        "Conv2DBackpropInput",
        input_sizes=[1, *forward],
        filter=kernel_array,
        out_backprop=noise(*seen.shape),
        strides=strides,
        padding=padding,
        explicit_paddings=pads,
    )
    assert [spec.name for spec in found.inputs] == ["x", "weight"]


@few
@given(st.integers(3, 5), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["SAME", "VALID"]))
def test_transposed_conv3d(size, kernel, stride, padding):
    forward, kernel_array, strides = (
        (size, size + 1, size + 2, 2),
        noise(kernel, 2, 3, 2, 3),
        [1, stride, stride, 1, 1],
    )
    seen = tf.raw_ops.Conv3D(input=noise(1, *forward), filter=kernel_array, strides=strides, padding=padding)
    check(
        "Conv3DBackpropInputV2",
        input_sizes=[1, *forward],
        filter=kernel_array,
        out_backprop=noise(*seen.shape),
        strides=strides,
        padding=padding,
    )


@few
@given(sizes, st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from(["SAME", "VALID"]))
def test_transposed_depthwise(size, kernel, stride, multiplier, padding):
    x, weight = noise(1, size, size + 1, 3), noise(kernel, kernel, 3, multiplier)
    strides = [1, stride, stride, 1]
    seen = tf.raw_ops.DepthwiseConv2dNative(input=x, filter=weight, strides=strides, padding=padding)
    check(
        "DepthwiseConv2dNativeBackpropInput",
        input_sizes=list(x.shape),
        filter=weight,
        out_backprop=noise(*seen.shape),
        strides=strides,
        padding=padding,
    )


def test_an_atrous_convolution_of_old_graphs_is_moved_into_the_batch_and_back():
    x = noise(1, 9, 7, 2)
    spread = tf.space_to_batch_nd(x, [2, 2], [[2, 3], [2, 3]])
    check("SpaceToBatchND", input=x, block_shape=[2, 2], paddings=[[2, 3], [2, 3]])
    check("BatchToSpaceND", input=spread, block_shape=[2, 2], crops=[[1, 2], [0, 1]])


FUSIONS = [
    ("BiasAdd",),
    ("BiasAdd", "Relu"),
    ("BiasAdd", "Relu6"),
    ("BiasAdd", "Elu"),
    ("BiasAdd", "LeakyRelu"),
    ("FusedBatchNorm",),
    ("FusedBatchNorm", "Relu"),
]


@pytest.mark.parametrize("fused", FUSIONS, ids="+".join)
def test_a_fused_convolution_is_taken_apart(fused):
    x, kernel = noise(2, 7, 6, 3).astype(np.float32), noise(3, 2, 3, 4).astype(np.float32)
    rest = [noise(4).astype(np.float32) for _ in range(1 if fused[0] == "BiasAdd" else 3)]
    rest += [np.abs(noise(4)).astype(np.float32) + 0.5] if fused[0] == "FusedBatchNorm" else []
    arrays = [x, kernel, *rest]
    attributes = {
        "strides": [1, 2, 2, 1],
        "padding": "SAME",
        "fused_ops": list(fused),
        "num_args": len(rest),
        "epsilon": 1e-3,
        "leakyrelu_alpha": 0.3,
    }
    result = _private("_FusedConv2D", arrays, dict(attributes, T=1, TArgs=[1] * len(rest), num_host_args=0))
    operands = [operand(tf.constant(array), place > 0) for place, array in enumerate(arrays)]
    found = describe_operator("_FusedConv2D", attributes, operands, [operand(result, False)])
    assert isinstance(found, Described), found
    record, values = as_record("_FusedConv2D", found, arrays, [result.numpy()])
    check_record(record, values, **ROUNDED)


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid"])
def test_a_fused_depthwise_convolution_is_taken_apart(activation):
    """TensorFlow has this fusion with oneDNN only, so its parts give the expected value."""
    arrays = [
        noise(2, 7, 6, 3).astype(np.float32),
        noise(3, 2, 3, 2).astype(np.float32),
        noise(6).astype(np.float32),
    ]
    plain = tf.nn.depthwise_conv2d(arrays[0], arrays[1], [1, 2, 2, 1], "SAME") + arrays[2]
    expected = getattr(tf.raw_ops, activation)(**{"features" if activation == "Relu" else "x": plain})
    attributes = {"strides": [1, 2, 2, 1], "padding": "SAME", "fused_ops": ["BiasAdd", activation]}
    operands = [operand(tf.constant(array), place > 0) for place, array in enumerate(arrays)]
    name = "_FusedDepthwiseConv2dNative"
    found = describe_operator(name, attributes, operands, [operand(expected, False)])
    assert isinstance(found, Described), found
    check_record(*as_record(name, found, arrays, [expected.numpy()]), **ROUNDED)


def _private(op_type, arrays, attributes):
    """Run an operator that has no public wrapper."""
    flat = tuple(item for pair in attributes.items() for item in pair)
    tensors = [tf.constant(array) for array in arrays]
    return execute.execute(op_type.encode(), 1, tensors, flat, context.context())[0]


def test_an_unknown_fusion_stays_opaque_with_its_reason():
    x, kernel = noise(2, 7, 6, 3).astype(np.float32), noise(3, 2, 3, 4).astype(np.float32)
    operands = [operand(tf.constant(array), False) for array in (x, kernel)]
    found = describe_operator(
        "_FusedConv2D", {"fused_ops": ["BiasAdd", "Add"], "strides": [1] * 4}, operands, operands[:1]
    )
    assert found == "tf.raw_ops._FusedConv2D with the activation Add is not described"


def test_vectorised_channels_stay_opaque_with_their_reason():
    x = operand(tf.zeros((1, 2, 5, 5, 4)), False)
    found = describe_operator(
        "MaxPool", {"data_format": "NCHW_VECT_C", "ksize": [1] * 5, "strides": [1] * 5}, [x], [x]
    )
    assert isinstance(found, str)
    assert "NCHW_VECT_C" in found


def test_an_operator_that_is_not_in_the_table_gives_its_name_as_reason():
    found, _, _ = describe("Cholesky", input=np.eye(3))
    assert found == "tf.raw_ops.Cholesky is not described"


def test_complex_numbers_are_refused_by_name():
    found, _, _ = describe("Square", x=np.ones(3, np.complex64))
    assert found == "tf.raw_ops.Square on complex64 is not described"

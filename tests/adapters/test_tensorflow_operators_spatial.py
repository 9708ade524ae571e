"""Pooling, resizing, patches, space moved into depth or batch: nodes give what TensorFlow gives."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from porting_check_tensorflow.described import Described
from porting_check_tensorflow.operators import describe_operator

from porting_check.testing.replay import check_record
from tests.adapters.tensorflow_operators import ROUNDED, as_record, check, describe, operand

few = settings(max_examples=20, deadline=None)
sizes = st.integers(4, 9)
words = st.sampled_from(["SAME", "VALID"])
grids = st.sampled_from([(False, False), (True, False), (False, True)])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@few
@given(sizes, sizes, st.integers(1, 4), st.integers(1, 3), words, st.sampled_from(["MaxPool", "AvgPool"]))
def test_pooling_2d(height, width, kernel, stride, padding, op_type):
    found = check(
        op_type,
        **{"input" if op_type == "MaxPool" else "value": noise(2, height, width, 3)},
        ksize=[1, kernel, min(kernel, 3), 1],
        strides=[1, stride, 2, 1],
        padding=padding,
    )
    node = found.nodes[0]
    assert node.attributes.get("count_include_pad", 0) == 0
    assert found.outputs[0].canonical == "NCHW"


@few
@given(sizes, st.integers(1, 3), st.integers(1, 2), words, st.sampled_from(["MaxPool3D", "AvgPool3D"]))
def test_pooling_3d(size, kernel, stride, padding, op_type):
    check(
        op_type,
        tolerance=ROUNDED,
        input=noise(1, size, size + 1, 4, 2).astype(np.float32),
        ksize=[1, kernel, 2, kernel, 1],
        strides=[1, stride, 1, 2, 1],
        padding=padding,
    )


def test_max_pool_with_explicit_pads_and_with_its_window_as_an_input():
    pads = [0, 0, 1, 0, 0, 1, 0, 0]
    check(
        "MaxPool",
        input=noise(1, 6, 7, 2),
        ksize=[1, 3, 2, 1],
        strides=[1, 2, 2, 1],
        padding="EXPLICIT",
        explicit_paddings=pads,
    )
    found = check(
        "MaxPoolV2", input=noise(1, 6, 7, 2), ksize=[1, 3, 2, 1], strides=[1, 2, 2, 1], padding="SAME"
    )
    assert found.nodes[0].attributes["kernel_shape"] == (3, 2)


def test_a_pool_over_channels_stays_opaque():
    found, _, _ = describe(
        "MaxPool", input=noise(1, 4, 4, 4), ksize=[1, 1, 1, 2], strides=[1, 1, 1, 2], padding="VALID"
    )
    assert found == "tf.raw_ops.MaxPool with a window over the batch or channel axis is not described"


@few
@given(sizes, sizes, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), words)
def test_image_patches_keep_tensorflows_order_within_a_patch(height, width, kernel, stride, rate, padding):
    check(
        "ExtractImagePatches",
        images=noise(2, height + kernel, width + kernel, 3),
        ksizes=[1, kernel, 2, 1],
        strides=[1, stride, 1, 1],
        rates=[1, rate, 1, 1],
        padding=padding,
    )


@few
@given(sizes, sizes, st.integers(1, 17), st.integers(1, 17), grids)
def test_bilinear_resizing_names_the_grid(height, width, rows, columns, grid):
    found = check(
        "ResizeBilinear",
        tolerance={"rtol": 1e-4, "atol": 1e-5},
        images=noise(1, height, width, 2).astype(np.float32),
        size=[rows, columns],
        align_corners=grid[0],
        half_pixel_centers=grid[1],
    )
    names = {(False, False): "asymmetric", (True, False): "align_corners", (False, True): "half_pixel"}
    assert found.nodes[0].attributes["coordinate_transformation_mode"] == names[grid]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 50), st.integers(1, 50), grids)
def test_nearest_resizing_picks_tensorflows_neighbours_exactly(height, width, rows, columns, grid):
    check(
        "ResizeNearestNeighbor",
        images=np.arange(height * width * 2, dtype=np.float32).reshape(1, height, width, 2),
        size=[rows, columns],
        align_corners=grid[0],
        half_pixel_centers=grid[1],
    )


def test_nearest_resizing_where_float32_rounds_to_another_neighbour_is_an_explicit_gather():
    wanted = next(n for n in range(2, 4000) if not _agree(5, n))
    image = np.arange(5 * 3, dtype=np.float32).reshape(1, 5, 3, 1)
    found = check("ResizeNearestNeighbor", images=image, size=[wanted, 3], half_pixel_centers=False)
    assert {node.op_type for node in found.nodes} == {"Gather"}


def _agree(size, wanted):
    single = np.floor(np.arange(wanted, dtype=np.float32) * (np.float32(size) / np.float32(wanted)))
    return np.array_equal(single, np.floor(np.arange(wanted) * (size / wanted)))


@few
@given(sizes, st.sampled_from([1, 2, 4]), grids)
def test_bicubic_resizing_at_dyadic_scales(size, factor, grid):
    if grid == (True, False):
        return
    check(
        "ResizeBicubic",
        tolerance={"rtol": 1e-4, "atol": 1e-5},
        images=noise(1, size, size + 1, 2).astype(np.float32),
        size=[size * factor, (size + 1) * factor],
        align_corners=grid[0],
        half_pixel_centers=grid[1],
    )


@few
@given(sizes, st.integers(3, 17), grids)
def test_bicubic_resizing_at_other_scales_up_to_tensorflows_table_of_weights(size, rows, grid):
    check(
        "ResizeBicubic",
        tolerance={"rtol": 1e-3, "atol": 2e-3},
        images=noise(1, size, 4, 2).astype(np.float32),
        size=[rows, 5],
        align_corners=grid[0],
        half_pixel_centers=grid[1],
    )


def test_resizing_bytes_casts_first():
    image = np.random.default_rng(0).integers(0, 255, (1, 4, 5, 3)).astype(np.uint8)
    found = check("ResizeBilinear", tolerance=ROUNDED, images=image, size=[8, 3], half_pixel_centers=True)
    assert [node.op_type for node in found.nodes] == ["Cast", "Resize"]


@pytest.mark.parametrize("op_type", ["SpaceToDepth", "DepthToSpace"])
def test_space_and_depth_in_tensorflows_channel_order(op_type):
    found = check(op_type, input=noise(2, 4, 6, 12), block_size=2)
    assert found.inputs[0].canonical == "NCHW"


def test_depth_to_space_in_channels_first():
    x = noise(1, 12, 2, 3).astype(np.float32)
    expected = tf.nn.depth_to_space(x.transpose(0, 2, 3, 1), 2).numpy().transpose(0, 3, 1, 2)
    result = operand(tf.constant(expected), False)
    attributes = {"block_size": 2, "data_format": "NCHW"}
    found = describe_operator("DepthToSpace", attributes, [operand(tf.constant(x), False)], [result])
    assert isinstance(found, Described)
    check_record(*as_record("DepthToSpace", found, [x], [expected]))


@few
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)
def test_space_to_batch_and_back(rows, columns, blocks, before, after, deep):
    shape = (2, rows * blocks, columns * 2) + ((3,) if deep else ())
    pads = [[before * rows, 0], [0, 2 * after]]
    found, _, outputs = describe("SpaceToBatchND", input=noise(*shape), block_shape=[rows, 2], paddings=pads)
    assert isinstance(found, Described)
    check("SpaceToBatchND", input=noise(*shape), block_shape=[rows, 2], paddings=pads)
    crops = [[0, min(1, rows * blocks - 1)], [1, 0]]
    check("BatchToSpaceND", input=noise(*outputs[0].shape), block_shape=[rows, 2], crops=crops)


def test_the_old_space_to_batch_takes_its_block_as_an_attribute():
    check("SpaceToBatch", input=noise(1, 4, 6, 2), paddings=[[0, 0], [2, 0]], block_size=2)
    check("BatchToSpace", input=noise(4, 2, 3, 2), crops=[[0, 1], [1, 0]], block_size=2)


@few
@given(st.integers(0, 3), st.floats(0.5, 2.0), st.floats(0.1, 2.0), st.floats(0.25, 1.5))
def test_local_response_normalization_scales_alpha_by_the_window(radius, bias, alpha, beta):
    found = check(
        "LRN",
        tolerance={"rtol": 1e-4, "atol": 1e-5},
        input=noise(2, 3, 4, 7).astype(np.float32),
        depth_radius=radius,
        bias=bias,
        alpha=alpha,
        beta=beta,
    )
    assert found.nodes[0].attributes["size"] == 2 * radius + 1


@pytest.mark.parametrize("op_type", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_batch_normalization_in_inference_gives_only_its_first_output(op_type):
    vectors = {name: noise(3).astype(np.float32) for name in ("scale", "offset", "mean")}
    variance = np.abs(noise(3)).astype(np.float32)
    x = noise(2, 4, 5, 3).astype(np.float32)
    found = check(
        op_type, tolerance=ROUNDED, x=x, variance=variance, epsilon=1e-3, is_training=False, **vectors
    )
    assert [spec.name for spec in found.inputs] == ["x", "scale", "bias", "mean", "var"]
    assert found.nodes[0].attributes["epsilon"] == 1e-3
    assert [spec.index for spec in found.outputs] == [0]


@pytest.mark.parametrize("activation", ["Identity", "Relu"])
def test_batch_normalization_fused_with_an_activation_is_taken_apart(activation):
    """TensorFlow has this fusion on a GPU only, so its parts give the expected value."""
    vectors = [noise(3).astype(np.float32) for _ in range(3)] + [np.abs(noise(3)).astype(np.float32)]
    arrays = [noise(2, 4, 5, 3).astype(np.float32), *vectors]
    names = ("x", "scale", "offset", "mean", "variance")
    plain = tf.raw_ops.FusedBatchNormV3(**dict(zip(names, arrays)), is_training=False, epsilon=1e-2).y
    expected = tf.nn.relu(plain) if activation == "Relu" else plain
    attributes = {"is_training": False, "epsilon": 1e-2, "activation_mode": activation}
    operands = [operand(tf.constant(array), place > 0) for place, array in enumerate(arrays)]
    found = describe_operator("_FusedBatchNormEx", attributes, operands, [operand(expected, False)])
    assert isinstance(found, Described), found
    check_record(*as_record("_FusedBatchNormEx", found, arrays, [expected.numpy()]), **ROUNDED)


def test_batch_normalization_with_a_side_input_stays_opaque():
    x = operand(tf.zeros((1, 2, 2, 3)), False)
    found = describe_operator("_FusedBatchNormEx", {"is_training": False, "num_side_inputs": 1}, [x] * 6, [x])
    assert found == "tf.raw_ops._FusedBatchNormEx with a side input is not described"


def test_batch_normalization_in_training_stays_opaque_with_its_reason():
    vectors = {name: noise(3).astype(np.float32) for name in ("scale", "offset", "mean", "variance")}
    found, _, _ = describe(
        "FusedBatchNormV3", x=noise(2, 4, 5, 3).astype(np.float32), is_training=True, **vectors
    )
    assert isinstance(found, str)
    assert "is_training=True" in found


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 3), (2, 4, 5, 3), (1, 2, 4, 5, 3)], ids=str)
def test_bias_is_added_to_the_last_axis(shape):
    check("BiasAdd", value=noise(*shape), bias=noise(3))
    check("BiasAddV1", value=noise(*shape), bias=noise(3))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 4, 5)], ids=str)
def test_bias_is_added_to_axis_one_in_channels_first(shape):
    check("BiasAdd", value=noise(*shape), bias=noise(3), data_format="NCHW")


def test_patches_op_is_what_tf_image_calls():
    found, _, _ = describe(
        "ExtractImagePatches",
        images=noise(1, 4, 4, 1),
        ksizes=[1, 2, 2, 1],
        strides=[1, 2, 2, 1],
        rates=[1, 1, 1, 1],
        padding="VALID",
    )
    assert isinstance(found, Described)
    assert [node.op_type for node in found.nodes] == ["Gather", "Gather", "Transpose", "Reshape"]

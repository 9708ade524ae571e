"""Operators that move values: nodes give what TensorFlow gives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from porting_check_tensorflow import callbacks
from porting_check_tensorflow.described import Described
from porting_check_tensorflow.operators import describe_operator

from porting_check.testing.replay import check_record
from tests.adapters.tensorflow_operators import as_record, check, describe, operand

few = settings(max_examples=25, deadline=None)
SAME_BITS = {"rtol": 0.0, "atol": 0.0}
shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


def moved(op_type, *args, **kwargs):
    return check(op_type, *args, tolerance=SAME_BITS, **kwargs)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("target", [(6, 4), (-1, 2), (24,), (2, 1, 3, 4), (4, -1)], ids=str)
def test_reshape(target):
    moved("Reshape", tensor=noise(2, 3, 4), shape=target)


def test_reshape_of_an_empty_tensor():
    moved("Reshape", tensor=np.zeros((0, 3)), shape=(3, 0))
    moved("Reshape", tensor=noise(1), shape=np.zeros(0, np.int32))


@pytest.mark.parametrize("axes", [[], [0], [2], [-2], [0, 2]], ids=str)
def test_squeeze(axes):
    moved("Squeeze", input=noise(1, 3, 1, 2), axis=axes)


def test_squeeze_of_nothing():
    moved("Squeeze", input=noise(2, 3))


@few
@given(st.data(), shapes)
def test_expand_dims(data, shape):
    moved("ExpandDims", input=noise(*shape), axis=data.draw(st.integers(-len(shape) - 1, len(shape))))


@few
@given(st.data(), shapes)
def test_transpose(data, shape):
    moved("Transpose", x=noise(*shape), perm=data.draw(st.permutations(range(len(shape)))))


@few
@given(st.data(), shapes, st.integers(2, 3), st.sampled_from(["Concat", "ConcatV2"]))
def test_concat(data, shape, count, op_type):
    axis = data.draw(st.integers(-len(shape) if op_type == "ConcatV2" else 0, len(shape) - 1))
    parts = []
    for size in data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)):
        parts.append(noise(*[size if place == axis % len(shape) else n for place, n in enumerate(shape)]))
    moved(op_type, values=parts, **{"axis" if op_type == "ConcatV2" else "concat_dim": axis})


@few
@given(st.data(), shapes, st.integers(1, 3))
def test_pack(data, shape, count):
    moved(
        "Pack",
        values=[noise(*shape) for _ in range(count)],
        axis=data.draw(st.integers(-len(shape) - 1, len(shape))),
    )


@few
@given(st.data(), shapes)
def test_unpack(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    found = moved("Unpack", value=noise(*shape), num=shape[axis], axis=axis)
    assert len(found.outputs) == shape[axis]


@few
@given(st.data(), shapes, st.integers(1, 3))
def test_split(data, shape, count):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    whole = tuple(n * count if place == axis % len(shape) else n for place, n in enumerate(shape))
    moved("Split", axis=axis, value=noise(*whole), num_split=count)


@pytest.mark.parametrize(("sizes", "axis"), [([1, 2, 3], 1), ([4, -1], -1), ([6], 1)], ids=str)
def test_split_of_told_sizes(sizes, axis):
    moved("SplitV", value=noise(2, 6), size_splits=sizes, axis=axis, num_split=len(sizes))


@few
@given(st.data(), shapes, st.sampled_from(["Pad", "PadV2"]))
def test_pad(data, shape, op_type):
    pads = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=len(shape), max_size=len(shape))
    )
    moved(
        op_type,
        input=noise(*shape),
        paddings=pads,
        **({"constant_values": 1.5} if op_type == "PadV2" else {}),
    )


@few
@given(
    st.data(),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=3, max_side=5),
    st.sampled_from(["REFLECT", "SYMMETRIC"]),
)
def test_mirror_pad(data, shape, mode):
    pads = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=len(shape), max_size=len(shape))
    )
    moved("MirrorPad", input=noise(*shape), paddings=pads, mode=mode)


@few
@given(st.data(), shapes)
def test_tile(data, shape):
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(shape), max_size=len(shape)))
    moved("Tile", input=noise(*shape), multiples=times)


def test_broadcast_and_fill():
    moved("BroadcastTo", input=noise(3, 1), shape=(2, 3, 4))
    moved("Fill", dims=(2, 3), value=1.5)
    moved("Fill", (1,), dims=(2, 3), value=noise(1)[0])


@pytest.mark.parametrize("op_type", ["ZerosLike", "OnesLike"])
def test_filled_like_does_not_let_nan_through(op_type):
    found = moved(op_type, x=np.array([np.nan, 1.0]))
    assert [spec.index for spec in found.inputs] == [0]


@pytest.mark.parametrize("axes", [[0], [-1], [0, 2], []], ids=str)
def test_reverse(axes):
    moved("ReverseV2", tensor=noise(2, 3, 4), axis=np.array(axes, np.int32))


@pytest.mark.parametrize(
    ("shift", "axis"), [([1], [0]), ([-2], [-1]), ([3, 5], [1, 2]), ([1, 1], [0, 0])], ids=str
)
def test_roll(shift, axis):
    moved("Roll", input=noise(2, 3, 4), shift=shift, axis=axis)


@pytest.mark.parametrize("lower", [-1, 0, 1])
@pytest.mark.parametrize("upper", [-1, 0, 2])
def test_band_of_a_matrix(lower, upper):
    moved("MatrixBandPart", input=noise(2, 4, 5), num_lower=lower, num_upper=upper)


@few
@given(st.data(), shapes)
def test_slice(data, shape):
    begin = [data.draw(st.integers(0, n)) for n in shape]
    size = [data.draw(st.integers(-1, n - b)) for n, b in zip(shape, begin, strict=True)]
    moved("Slice", input=noise(*shape), begin=begin, size=size)


INDEX = st.one_of(
    st.integers(0, 1),
    st.sampled_from([-1, -2]),
    st.none(),
    st.slices(3),
    st.sampled_from([slice(None), slice(None, None, -1), slice(None, -1), slice(-2, None), slice(2, 0, -1)]),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(INDEX, max_size=4), st.integers(-1, 4))
def test_strided_slices_as_python_indexing_means_them(indices, ellipsis):
    used = [index for index in indices if index is not None]
    indices = list(indices)
    if 0 <= ellipsis <= len(indices):
        indices.insert(ellipsis, Ellipsis)
    x = noise(3, 4, 5, 3)
    if len(used) > x.ndim:
        return
    expected = x[tuple(indices)]
    found = _indexed(x, tuple(indices))
    assert found is None or found.shape == expected.shape


def _indexed(x, indices):
    """Run the StridedSlice of ``tf.Tensor.__getitem__``, check its description, and give its result."""
    calls = []
    tensor = tf.constant(x)
    with callbacks.operators(
        lambda name, inputs, attributes, outputs: calls.append((name, inputs, attributes, outputs))
    ):
        result = tensor[indices]
    calls = [call for call in calls if call[0] == "StridedSlice"]
    if not calls:
        return None
    _, inputs, attributes, _ = calls[0]
    named = dict(zip(attributes[::2], attributes[1::2], strict=True))
    masks = {name: named[name] for name in named if str(name).endswith("mask")}
    names = ("input", "begin", "end", "strides")
    moved("StridedSlice", **{name: value.numpy() for name, value in zip(names, inputs, strict=True)}, **masks)
    return result.numpy()


@few
@given(st.data(), shapes, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
def test_gather_along_any_axis(data, shape, wanted):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    indices = data.draw(hnp.arrays(np.int32, wanted, elements=st.integers(0, shape[axis] - 1)))
    moved("GatherV2", params=noise(*shape), indices=indices, axis=axis)


@few
@given(st.data(), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2))
def test_gather_with_batch_axes(data, batch, between, found):
    shape = (2, 3, 4, 2, 3)[: batch + between + 2]
    axis = batch + between
    wanted = shape[:batch] + (2, 3)[:found]
    indices = data.draw(hnp.arrays(np.int32, wanted, elements=st.integers(0, shape[axis] - 1)))
    moved("GatherV2", params=noise(*shape), indices=indices, axis=axis, batch_dims=batch)


def test_gather_from_a_parameter_is_an_embedding():
    found = moved("GatherV2", (0,), params=noise(5, 3), indices=np.array([[1, 4]]), axis=0)
    assert found.inputs[0].name == "weight"
    assert str(found.nodes[0]) == "Gather(axis=0)"
    moved("Gather", (0,), params=noise(5, 3), indices=np.array([1, 4]))


@pytest.mark.parametrize("op_type", ["ResourceGather", "ResourceGatherNd"])
def test_gather_from_a_variable_reads_its_value(op_type):
    """The recorders present the variable itself in the place of its handle."""
    table = noise(5, 3)
    indices = np.array([[1], [4]], np.int32)
    result = getattr(tf.raw_ops, op_type)(
        resource=tf.Variable(table).handle, indices=indices, dtype=tf.float64
    )
    operands = [operand(tf.constant(table), True), operand(tf.constant(indices), False)]
    found = describe_operator(op_type, {"batch_dims": 0}, operands, [operand(result, False)])
    assert isinstance(found, Described), found
    assert found.inputs[0].name == "weight"
    check_record(*as_record(op_type, found, [table, indices], [result.numpy()]), **SAME_BITS)


@few
@given(st.data(), st.integers(1, 3))
def test_gather_nd(data, depth):
    shape = (3, 4, 2)
    indices = np.stack(
        [data.draw(hnp.arrays(np.int32, (2, 2), elements=st.integers(0, n - 1))) for n in shape[:depth]], -1
    )
    moved("GatherNd", params=noise(*shape), indices=indices)


def test_scatters():
    indices = np.array([[0], [2], [0]], np.int32)
    moved("ScatterNd", indices=indices, updates=noise(3, 4), shape=(5, 4))
    moved("TensorScatterUpdate", tensor=noise(5, 4), indices=indices[:2], updates=noise(2, 4))
    moved("TensorScatterAdd", tensor=noise(5, 4), indices=indices[:2], updates=noise(2, 4))


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_leaves_what_is_out_of_range_cold(axis):
    moved(
        "OneHot",
        indices=np.array([[0, 2], [-1, 9]], np.int32),
        depth=3,
        on_value=1.5,
        off_value=-0.5,
        axis=axis,
    )
    moved(
        "OneHot",
        indices=np.array([[0, 2], [1, 1]], np.int64),
        depth=3,
        on_value=1.0,
        off_value=0.0,
        axis=axis,
    )


def test_ranges_and_shape_queries():
    moved("Range", start=tf.constant(1.0), limit=tf.constant(4.25), delta=tf.constant(0.5))
    moved("Range", start=np.int32(7), limit=np.int32(0), delta=np.int32(-2))
    for op_type in ("Shape", "Size", "Rank"):
        moved(op_type, input=noise(2, 3))


def test_positions_of_true_values():
    moved("Where", condition=np.array([[True, False], [False, True]]))


@pytest.mark.parametrize(("time", "batch"), [(1, 0), (0, 1)])
def test_reverse_sequence(time, batch):
    lengths = np.array([1, 3]) if batch == 0 else np.array([2, 1, 2])
    moved(
        "ReverseSequence",
        input=noise(2, 3, 2),
        seq_lengths=lengths.astype(np.int32),
        seq_dim=time,
        batch_dim=batch,
    )


def test_reverse_sequence_along_later_axes_stays_opaque():
    found, _, _ = describe(
        "ReverseSequence", input=noise(2, 3, 2), seq_lengths=np.array([1, 2]), seq_dim=2, batch_dim=0
    )
    assert found == "tf.raw_ops.ReverseSequence along axes 2 and 0 is not described"


def test_text_is_refused_by_name():
    found, _, _ = describe("Pack", values=[tf.constant("a"), tf.constant("b")])
    assert isinstance(found, str)
    assert not isinstance(found, Described)

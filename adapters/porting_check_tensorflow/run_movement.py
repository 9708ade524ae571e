"""Operators that move values without computing: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

from typing import Dict, List, Sequence

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.geometry import product, slice_places, split_sizes
from porting_check_tensorflow.run_call import Call, Handler, Result, rank, sizes


def reshape(call: Call) -> Result:
    """ONNX Reshape: 0 keeps a size unless ``allowzero``, -1 is inferred."""
    wanted = call.integers(1) or []
    if not call.get("allowzero", 0):
        wanted = [sizes(call.x)[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return tf.reshape(call.x, wanted)


def flatten(call: Call) -> Result:
    """ONNX Flatten to a matrix, cut before ``axis``."""
    axis, shape = call.get("axis", 1), sizes(call.x)
    axis = axis + len(shape) if axis < 0 else axis
    return tf.reshape(call.x, [product(shape[:axis]), product(shape[axis:])])


def transpose(call: Call) -> Result:
    """ONNX Transpose; without ``perm`` the axes are reversed."""
    return tf.transpose(call.x, call.get("perm"))


def squeeze(call: Call) -> Result:
    """ONNX Squeeze; without axes every axis of size 1 goes."""
    axes = call.axes()
    return tf.identity(call.x) if axes == [] else tf.squeeze(call.x, axes)


def unsqueeze(call: Call) -> Result:
    """ONNX Unsqueeze; axes count in the result."""
    given = call.integers(1) or list(call.get("axes") or ())
    shape = sizes(call.x)
    for axis in sorted(axis % (len(shape) + len(given)) for axis in given):
        shape.insert(axis, 1)
    return tf.reshape(call.x, shape)


def concat(call: Call) -> Result:
    """ONNX Concat."""
    return tf.concat(call.present(), call.get("axis"))


def split(call: Call) -> Result:
    """ONNX Split into given sizes, or into equal parts of which the last may be smaller."""
    axis = call.get("axis", 0)
    parts = call.integers(1) or list(call.get("split") or ())
    parts = parts or split_sizes(sizes(call.x)[axis], call.get("num_outputs") or len(call.node.outputs))
    return tf.split(call.x, parts, axis)


def cut(call: Call) -> Result:
    """ONNX Slice, axis by axis."""
    starts, ends, steps = call.integers(1) or [], call.integers(2) or [], call.integers(4)
    x, axes = call.x, call.axes(3)
    for index, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[index] if steps else 1
        places = slice_places(starts[index], ends[index], step, sizes(x)[axis])
        x = tf.gather(x, tf.constant(places, dtype=tf.int64), axis=axis)
    return x


def sources(size: int, begin: int, end: int, mode: str) -> tf.Tensor:
    """Where each position of a padded axis comes from; negative pads crop.

    Raises:
        UnsupportedNode: ``mode`` is not edge, reflect or wrap.
    """
    position = tf.range(-begin, size + end)
    if mode == "edge":
        return tf.clip_by_value(position, 0, size - 1)
    if mode == "wrap":
        return tf.math.floormod(position, size)
    if mode == "reflect":
        period = max(1, 2 * (size - 1))
        place = tf.math.floormod(position, period)
        return tf.minimum(place, period - place) if size > 1 else position * 0
    raise UnsupportedNode(f"Pad has mode {mode!r}; ONNX knows constant, edge, reflect and wrap")


def pad_or_crop(x: tf.Tensor, begin: Sequence[int], end: Sequence[int], value: tf.Tensor) -> tf.Tensor:
    """Pad every axis with a constant, or crop it where the amount is negative."""
    cuts = [slice(max(-b, 0), n - max(-e, 0)) for n, b, e in zip(sizes(x), begin, end)]
    return tf.pad(x[tuple(cuts)], [(max(b, 0), max(e, 0)) for b, e in zip(begin, end)], constant_values=value)


def pad(call: Call) -> Result:
    """ONNX Pad: constant by ``tf.pad``, the other modes (any size of pad) by gathering along axes."""
    x, mode, axes = call.x, call.get("mode", "constant"), call.axes(3)
    pads = call.integers(1) or list(call.get("pads") or ())
    axes = list(range(rank(x))) if axes is None else axes
    begin, end = [0] * rank(x), [0] * rank(x)
    for index, axis in enumerate(axes):
        begin[axis], end[axis] = pads[index], pads[index + len(axes)]
    if mode == "constant":
        value = call.input(2)
        absent = value is None or product(sizes(value)) == 0
        fill = tf.zeros([], dtype=x.dtype) if absent else tf.cast(tf.reshape(value, []), x.dtype)
        return pad_or_crop(x, begin, end, fill)
    for axis in axes:
        x = tf.gather(x, sources(sizes(x)[axis], begin[axis], end[axis], mode), axis=axis)
    return x


def expand(call: Call) -> Result:
    """ONNX Expand: both shapes broadcast together."""
    wanted = tf.broadcast_static_shape(call.x.shape, tf.TensorShape(call.integers(1) or []))
    return tf.broadcast_to(call.x, wanted)


def tile(call: Call) -> Result:
    """ONNX Tile."""
    return tf.tile(call.x, call.integers(1) or [])


def depth_to_space(call: Call) -> Result:
    """ONNX DepthToSpace in either order of the channels (``tf.nn.depth_to_space`` has the DCR order only)."""
    x, block = call.x, call.get("blocksize")
    n, c, h, w = sizes(x)
    deep = c // block**2
    if call.get("mode", "DCR") == "CRD":
        parts = tf.transpose(tf.reshape(x, [n, deep, block, block, h, w]), [0, 1, 4, 2, 5, 3])
    else:
        parts = tf.transpose(tf.reshape(x, [n, block, block, deep, h, w]), [0, 3, 4, 1, 5, 2])
    return tf.reshape(parts, [n, deep, h * block, w * block])


def space_to_depth(call: Call) -> Result:
    """ONNX SpaceToDepth: blocks become the outer part of the channels (or, with mode CRD, the inner part)."""
    x, block = call.x, call.get("blocksize")
    n, c, h, w = sizes(x)
    parts = tf.reshape(x, [n, c, h // block, block, w // block, block])
    perm = [0, 1, 3, 5, 2, 4] if call.get("mode", "DCR") == "CRD" else [0, 3, 5, 1, 2, 4]
    return tf.reshape(tf.transpose(parts, perm), [n, c * block**2, h // block, w // block])


def center_crop_pad(call: Call) -> Result:
    """ONNX CenterCropPad: crop or zero-pad around the centre."""
    wanted, x = call.integers(1) or [], call.x
    axes = call.get("axes")
    begin, end = [0] * rank(x), [0] * rank(x)
    for axis, size in zip(range(rank(x)) if axes is None else [axis % rank(x) for axis in axes], wanted):
        missing = size - sizes(x)[axis]
        half = abs(missing) // 2
        begin[axis] = half if missing > 0 else -half
        end[axis] = missing - begin[axis]
    return pad_or_crop(x, begin, end, tf.zeros([], dtype=x.dtype))


def trilu(call: Call) -> Result:
    """ONNX Trilu: the upper (default) or lower triangle from diagonal ``k`` on."""
    rows, columns = sizes(call.x)[-2:]
    ahead = tf.range(columns, dtype=tf.int64)[None, :] - tf.range(rows, dtype=tf.int64)[:, None]
    diagonal = call.integer(1, 0)
    kept = ahead >= diagonal if call.get("upper", 1) else ahead <= diagonal
    return tf.where(kept, call.x, tf.zeros_like(call.x))


def reverse_sequence(call: Call) -> Result:
    """ONNX ReverseSequence: the first ``sequence_lens[b]`` steps of each batch entry, reversed."""
    lengths: List[int] = call.integers(1) or []
    return reverse_steps(call.x, lengths, call.get("time_axis", 0), call.get("batch_axis", 1))


def reverse_steps(x: tf.Tensor, lengths: Sequence[int], time: int, batch: int) -> tf.Tensor:
    """Reverse the valid steps of each sequence; what lies beyond stays where it is."""
    return tf.reverse_sequence(x, tf.constant(list(lengths), dtype=tf.int64), seq_axis=time, batch_axis=batch)


def identity(call: Call) -> Result:
    """ONNX Identity."""
    return tf.identity(call.x)


def dropout(call: Call) -> Result:
    """ONNX Dropout in inference: the input itself, and a mask of ones."""
    if call.number(2, 0.0) and call.number(1, 0.5):
        raise call.unsupported("training_mode is on: its result is random")
    return tf.identity(call.x), tf.ones(sizes(call.x), dtype=tf.bool)


OPERATORS: Dict[str, Handler] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": cut,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "CenterCropPad": center_crop_pad,
    "Trilu": trilu,
    "ReverseSequence": reverse_sequence,
    "Identity": identity,
    "Dropout": dropout,
}

"""Operators that move values without computing: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

from typing import Dict, List, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.geometry import product, slice_places, split_sizes
from porting_check_jax.run_call import Call, Handler, Result


def reshape(call: Call) -> Result:
    """ONNX Reshape: 0 keeps a size unless ``allowzero``, -1 is inferred."""
    wanted = call.integers(1) or []
    if not call.get("allowzero", 0):
        wanted = [call.x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return call.x.reshape(wanted)


def flatten(call: Call) -> Result:
    """ONNX Flatten to a matrix, cut before ``axis``."""
    axis = call.get("axis", 1)
    axis = axis + call.x.ndim if axis < 0 else axis
    return call.x.reshape(product(call.x.shape[:axis]), product(call.x.shape[axis:]))


def transpose(call: Call) -> Result:
    """ONNX Transpose; without ``perm`` the axes are reversed."""
    return jnp.transpose(call.x, call.get("perm"))


def squeeze(call: Call) -> Result:
    """ONNX Squeeze; without axes every axis of size 1 goes."""
    axes = call.axes()
    for axis in axes or ():
        if call.x.shape[axis] != 1:
            raise call.unsupported(f"axis {axis} of {call.x.shape} is not of size 1")
    return jnp.squeeze(call.x, axis=None if axes is None else tuple(axes))


def unsqueeze(call: Call) -> Result:
    """ONNX Unsqueeze; axes count in the result."""
    return jnp.expand_dims(call.x, tuple(call.integers(1) or call.get("axes") or ()))


def concat(call: Call) -> Result:
    """ONNX Concat."""
    return jnp.concatenate(call.present(), axis=call.get("axis"))


def split(call: Call) -> Result:
    """ONNX Split into given sizes, or into equal parts of which the last may be smaller."""
    axis = call.get("axis", 0)
    whole = call.x.shape[axis]
    sizes = call.integers(1) or list(call.get("split") or ())
    sizes = sizes or split_sizes(whole, call.get("num_outputs") or len(call.node.outputs))
    if sum(sizes) != whole:
        raise ValueError(f"the parts {sizes} do not add up to axis {axis} of {call.x.shape}")
    return jnp.split(call.x, np.cumsum(sizes)[:-1].tolist(), axis=axis)


def cut(call: Call) -> Result:
    """ONNX Slice, as one basic index."""
    starts, ends, steps = call.integers(1) or [], call.integers(2) or [], call.integers(4)
    x, axes = call.x, call.axes(3)
    wanted = [slice(None)] * x.ndim
    for index, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[index] if steps else 1
        places = slice_places(starts[index], ends[index], step, x.shape[axis])
        stop = places[-1] + (1 if step > 0 else -1) if places else 0
        wanted[axis] = slice(places[0], None if stop < 0 else stop, step) if places else slice(0, 0)
    return x[tuple(wanted)]


def sources(size: int, begin: int, end: int, mode: str) -> np.ndarray:
    """Where each position of a padded axis comes from; negative pads crop.

    Raises:
        UnsupportedNode: ``mode`` is not edge, reflect or wrap.
    """
    position = np.arange(-begin, size + end)
    if mode == "edge":
        return position.clip(0, size - 1)
    if mode == "wrap":
        return position % size
    if mode == "reflect":
        period = max(1, 2 * (size - 1))
        return np.minimum(position % period, period - position % period) if size > 1 else position * 0
    raise UnsupportedNode(f"Pad has mode {mode!r}; ONNX knows constant, edge, reflect and wrap")


def pad(call: Call) -> Result:
    """ONNX Pad: constant by ``lax.pad``, which also crops; the other modes (any size) by gathering along axes."""
    x, mode, axes = call.x, call.get("mode", "constant"), call.axes(3)
    pads = call.integers(1) or list(call.get("pads") or ())
    axes = list(range(x.ndim)) if axes is None else axes
    begin, end = [0] * x.ndim, [0] * x.ndim
    for index, axis in enumerate(axes):
        begin[axis], end[axis] = pads[index], pads[index + len(axes)]
    if mode == "constant":
        value = call.input(2)
        empty = value is None or value.size == 0
        fill = jnp.asarray(call.get("value", 0)) if empty else value.reshape(())  # type: ignore[union-attr]
        return lax.pad(x, fill.astype(x.dtype), [(low, high, 0) for low, high in zip(begin, end)])
    for axis in axes:
        x = jnp.take(x, sources(x.shape[axis], begin[axis], end[axis], mode), axis=axis)
    return x


def expand(call: Call) -> Result:
    """ONNX Expand: both shapes broadcast together."""
    return jnp.broadcast_to(call.x, jnp.broadcast_shapes(call.x.shape, tuple(call.integers(1) or ())))


def tile(call: Call) -> Result:
    """ONNX Tile."""
    return jnp.tile(call.x, call.integers(1) or [1])


def depth_to_space(call: Call) -> Result:
    """ONNX DepthToSpace: the place in the block is the outer part of the channels, or with CRD the inner part."""
    x, block = call.x, call.get("blocksize")
    n, c, h, w = x.shape
    depth = c // block**2
    if call.get("mode", "DCR") == "CRD":
        parts = x.reshape(n, depth, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, block, block, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, depth, h * block, w * block)


def space_to_depth(call: Call) -> Result:
    """ONNX SpaceToDepth: blocks become the outer part of the channels (or, with mode CRD, the inner part)."""
    x, block = call.x, call.get("blocksize")
    n, c, h, w = x.shape
    order = (0, 1, 3, 5, 2, 4) if call.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    parts = x.reshape(n, c, h // block, block, w // block, block).transpose(order)
    return parts.reshape(n, c * block**2, h // block, w // block)


def center_crop_pad(call: Call) -> Result:
    """ONNX CenterCropPad: crop or zero-pad around the centre."""
    wanted, x = call.integers(1) or [], call.x
    axes = call.get("axes")
    pads = [(0, 0, 0)] * x.ndim
    for axis, size in zip(range(x.ndim) if axes is None else [axis % x.ndim for axis in axes], wanted):
        missing = size - x.shape[axis]
        half = abs(missing) // 2
        begin = half if missing > 0 else -half
        pads[axis] = (begin, missing - begin, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


def trilu(call: Call) -> Result:
    """ONNX Trilu: the upper (default) or lower triangle from diagonal ``k`` on."""
    diagonal = call.integer(1, 0)
    return jnp.triu(call.x, diagonal) if call.get("upper", 1) else jnp.tril(call.x, diagonal)


def reverse_sequence(call: Call) -> Result:
    """ONNX ReverseSequence: the first ``sequence_lens[b]`` steps of each batch entry, reversed."""
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    lengths: List[int] = call.integers(1) or []
    return reverse_steps(call.x, lengths, time, batch)


def reverse_steps(x: jax.Array, lengths: Sequence[int], time: int, batch: int) -> jax.Array:
    """Reverse the valid steps of each sequence; what lies beyond stays where it is."""
    moved = jnp.moveaxis(x, (time, batch), (0, 1))
    steps, ends = np.arange(moved.shape[0])[:, None], np.asarray(lengths, np.int64)[None, :]
    places = np.where(steps < ends, ends - 1 - steps, steps)
    return jnp.moveaxis(moved[places, np.arange(moved.shape[1])], (0, 1), (time, batch))


def identity(call: Call) -> Result:
    """ONNX Identity."""
    return call.x


def dropout(call: Call) -> Result:
    """ONNX Dropout in inference: the input itself, and a mask of ones."""
    if call.number(2, 0.0) and call.number(1, 0.5):
        raise call.unsupported("training_mode is on: its result is random")
    return call.x, jnp.ones(call.x.shape, dtype=bool)


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

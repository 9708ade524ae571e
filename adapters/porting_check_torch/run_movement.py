"""Operators that move values without computing: shapes, slices, pads, tiles, blocks."""

from __future__ import annotations

from typing import Dict, List, Sequence

import torch
from torch.nn import functional

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.geometry import product, slice_places, split_sizes
from porting_check_torch.run_call import Call, Handler, Result


def reshape(call: Call) -> Result:
    """ONNX Reshape: 0 keeps a size unless ``allowzero``, -1 is inferred."""
    wanted = call.integers(1) or []
    if not call.get("allowzero", 0):
        wanted = [call.x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return call.x.reshape(wanted)


def flatten(call: Call) -> Result:
    """ONNX Flatten to a matrix, cut before ``axis``."""
    axis = call.get("axis", 1)
    axis = axis + call.x.dim() if axis < 0 else axis
    return call.x.reshape(product(call.x.shape[:axis]), product(call.x.shape[axis:]))


def transpose(call: Call) -> Result:
    """ONNX Transpose; without ``perm`` the axes are reversed."""
    return call.x.permute(*call.get("perm", tuple(reversed(range(call.x.dim())))))


def squeeze(call: Call) -> Result:
    """ONNX Squeeze; without axes every axis of size 1 goes."""
    axes = call.axes()
    gone = set(range(call.x.dim())) if axes is None else set(axes)
    for axis in axes or ():
        if call.x.shape[axis] != 1:
            raise call.unsupported(f"axis {axis} of {tuple(call.x.shape)} is not of size 1")
    return call.x.reshape([size for axis, size in enumerate(call.x.shape) if axis not in gone or size != 1])


def unsqueeze(call: Call) -> Result:
    """ONNX Unsqueeze; axes count in the result."""
    given = call.integers(1) or list(call.get("axes") or ())
    rank = call.x.dim() + len(given)
    sizes = list(call.x.shape)
    for axis in sorted(axis % rank for axis in given):
        sizes.insert(axis, 1)
    return call.x.reshape(sizes)


def concat(call: Call) -> Result:
    """ONNX Concat."""
    return torch.cat(call.present(), dim=call.get("axis"))


def split(call: Call) -> Result:
    """ONNX Split into given sizes, or into equal parts of which the last may be smaller."""
    axis = call.get("axis", 0)
    sizes = call.integers(1) or list(call.get("split") or ())
    sizes = sizes or split_sizes(call.x.shape[axis], call.get("num_outputs") or len(call.node.outputs))
    return list(torch.split(call.x, sizes, dim=axis))


def cut(call: Call) -> Result:
    """ONNX Slice; torch's slices only go forward, so a negative step goes through an index."""
    starts, ends, steps = call.integers(1) or [], call.integers(2) or [], call.integers(4)
    x, axes = call.x, call.axes(3)
    for index, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[index] if steps else 1
        places = slice_places(starts[index], ends[index], step, x.shape[axis])
        x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x


def sources(size: int, begin: int, end: int, mode: str) -> torch.Tensor:
    """Where each position of a padded axis comes from; negative pads crop.

    Raises:
        UnsupportedNode: ``mode`` is not edge, reflect or wrap.
    """
    position = torch.arange(-begin, size + end)
    if mode == "edge":
        return position.clamp(0, size - 1)
    if mode == "wrap":
        return position % size
    if mode == "reflect":
        period = max(1, 2 * (size - 1))
        return torch.minimum(position % period, period - position % period) if size > 1 else position * 0
    raise UnsupportedNode(f"Pad has mode {mode!r}; ONNX knows constant, edge, reflect and wrap")


def pad(call: Call) -> Result:
    """ONNX Pad: constant by ``functional.pad``, the other modes (any size of pad) by gathering along axes."""
    x, mode, axes = call.x, call.get("mode", "constant"), call.axes(3)
    pads = call.integers(1) or list(call.get("pads") or ())
    axes = list(range(x.dim())) if axes is None else axes
    begin, end = [0] * x.dim(), [0] * x.dim()
    for index, axis in enumerate(axes):
        begin[axis], end[axis] = pads[index], pads[index + len(axes)]
    if mode == "constant":
        value = call.input(2)
        fill = call.get("value", 0) if value is None or value.numel() == 0 else value.item()
        return functional.pad(
            x, [side for axis in reversed(range(x.dim())) for side in (begin[axis], end[axis])], value=fill
        )
    for axis in axes:
        x = x.index_select(axis, sources(x.shape[axis], begin[axis], end[axis], mode))
    return x


def expand(call: Call) -> Result:
    """ONNX Expand: both shapes broadcast together."""
    return call.x.expand(torch.broadcast_shapes(tuple(call.x.shape), tuple(call.integers(1) or ())))


def tile(call: Call) -> Result:
    """ONNX Tile."""
    return call.x.repeat(*(call.integers(1) or [1]))


def depth_to_space(call: Call) -> Result:
    """ONNX DepthToSpace; its CRD order is torch's pixel shuffle."""
    x, block = call.x, call.get("blocksize")
    if call.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(call: Call) -> Result:
    """ONNX SpaceToDepth: blocks become the outer part of the channels (or, with mode CRD, the inner part)."""
    x, block = call.x, call.get("blocksize")
    if call.get("mode", "DCR") == "CRD":
        return functional.pixel_unshuffle(x, block)
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


def center_crop_pad(call: Call) -> Result:
    """ONNX CenterCropPad: crop or zero-pad around the centre."""
    wanted, x = call.integers(1) or [], call.x
    axes = call.get("axes")
    begin, end = [0] * x.dim(), [0] * x.dim()
    for axis, size in zip(range(x.dim()) if axes is None else [axis % x.dim() for axis in axes], wanted):
        missing = size - x.shape[axis]
        half = abs(missing) // 2
        begin[axis] = half if missing > 0 else -half
        end[axis] = missing - begin[axis]
    return functional.pad(x, [side for axis in reversed(range(x.dim())) for side in (begin[axis], end[axis])])


def trilu(call: Call) -> Result:
    """ONNX Trilu: the upper (default) or lower triangle from diagonal ``k`` on."""
    diagonal = call.integer(1, 0)
    return torch.triu(call.x, diagonal) if call.get("upper", 1) else torch.tril(call.x, diagonal)


def reverse_sequence(call: Call) -> Result:
    """ONNX ReverseSequence: the first ``sequence_lens[b]`` steps of each batch entry, reversed."""
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    lengths: List[int] = call.integers(1) or []
    return reverse_steps(call.x, lengths, time, batch)


def reverse_steps(x: torch.Tensor, lengths: Sequence[int], time: int, batch: int) -> torch.Tensor:
    """Reverse the valid steps of each sequence; what lies beyond stays where it is."""
    moved = x.movedim((time, batch), (0, 1))
    steps = torch.arange(moved.shape[0])[:, None]
    ends = torch.tensor(list(lengths))[None, :]
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    places = places.reshape(places.shape + (1,) * (moved.dim() - 2)).expand(moved.shape)
    return torch.gather(moved, 0, places).movedim((0, 1), (time, batch))


def identity(call: Call) -> Result:
    """ONNX Identity."""
    return call.x.clone()


def dropout(call: Call) -> Result:
    """ONNX Dropout in inference: the input itself, and a mask of ones."""
    if call.number(2, 0.0) and call.number(1, 0.5):
        raise call.unsupported("training_mode is on: its result is random")
    return call.x.clone(), torch.ones_like(call.x, dtype=torch.bool)


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

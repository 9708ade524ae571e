"""Operators that move values about and compute nothing: shapes, joins, splits, paddings, repetitions."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from porting_check_tensorflow.operators.call import Call, describes


@describes("Reshape")
def reshape(call: Call) -> None:
    """``Reshape`` to the shape that was seen; a 0 in it is a size, not "keep"."""
    shape = call.seen(1)
    call.give(call.node("Reshape", call.port(0), call.constant(shape, "shape"), allowzero=int(0 in shape)))


@describes("Squeeze")
def squeeze(call: Call) -> None:
    """``Squeeze`` of the named axes, or of all axes of size one."""
    shape, rank = call.shape(), call.rank()
    named = call.integers("squeeze_dims") or call.integers("axis")
    axes = sorted(axis % rank for axis in named) or [axis for axis, size in enumerate(shape) if size == 1]
    x = call.port(0)
    call.give(call.node("Squeeze", x, call.constant(axes, "axes")) if axes else call.node("Identity", x))


@describes("ExpandDims")
def expand_dims(call: Call) -> None:
    """``Unsqueeze`` at the position of the output's axis."""
    axis = call.axis(1, call.rank() + 1)
    call.give(call.node("Unsqueeze", call.port(0), call.constant([axis], "axes")))


@describes("Transpose")
def transpose(call: Call) -> None:
    """``Transpose``."""
    perm = tuple(axis % max(call.rank(), 1) for axis in call.seen(1))
    call.give(call.node("Transpose", call.port(0), perm=perm))


@describes("Concat", "ConcatV2")
def concat(call: Call) -> None:
    """``Concat``; the axis comes last, in the old operator first."""
    count = len(call.inputs) - 1
    first = 1 if call.op_type == "Concat" else 0
    axis = call.axis(0 if first else count, call.rank(first))
    parts = [call.operand(first + place, f"x{place}") for place in range(count)]
    call.give(call.node("Concat", *parts, axis=axis))


@describes("Pack")
def stack(call: Call) -> None:
    """A new axis in each tensor, then ``Concat`` along it."""
    axis = call.integer("axis") % (call.rank() + 1)
    axes = call.constant([axis], "axes")
    parts = [call.node("Unsqueeze", call.operand(i, f"x{i}"), axes) for i in range(len(call.inputs))]
    call.give(call.node("Concat", *parts, axis=axis))


@describes("Unpack")
def unstack(call: Call) -> None:
    """One slice per entry of the axis, without that axis."""
    axis = call.integer("axis") % call.rank()
    count = call.shape()[axis]
    axes = call.constant([axis], "axes")
    for index, part in enumerate(_parts(call, call.port(0), [1] * count, axis)):
        call.give(call.node("Squeeze", part, axes), index)


@describes("Split")
def split_evenly(call: Call) -> None:
    """Parts of equal size; the axis is the first input."""
    axis, count = call.axis(0, call.rank(1)), len(call.outputs)
    sizes = [call.shape(1)[axis] // count] * count
    for index, part in enumerate(_parts(call, call.port(1), sizes, axis)):
        call.give(part, index)


@describes("SplitV")
def split_as_told(call: Call) -> None:
    """Parts of the sizes seen; one size may be -1, the rest."""
    axis = call.axis(2, call.rank())
    sizes = [output.shape[axis] for output in call.outputs]
    for index, part in enumerate(_parts(call, call.port(0), sizes, axis)):
        call.give(part, index)


def _parts(call: Call, value: str, sizes: Sequence[int], axis: int) -> Sequence[str]:
    """A ``Split`` node, or the value itself when it stays whole."""
    if len(sizes) == 1:
        return (value,)
    return call.split("Split", len(sizes), value, call.constant(list(sizes), "split"), axis=axis)


@describes("Pad", "PadV2")
def pad(call: Call) -> None:
    """``Pad`` with a constant."""
    flat = np.asarray(call.inputs[1].value).reshape(-1, 2)
    pads = call.constant(flat.T.reshape(-1).tolist(), "pads")
    x = call.port(0)
    value = call.operand(2, "value") if call.op_type == "PadV2" else call.scalar(0, "value")
    call.give(call.node("Pad", x, pads, value, mode="constant"))


@describes("MirrorPad")
def mirror_pad(call: Call) -> None:
    """``Pad(mode=reflect)``; SYMMETRIC, which repeats the edge, is a Gather along each padded axis."""
    widths = [tuple(int(n) for n in pair) for pair in np.asarray(call.inputs[1].value).reshape(-1, 2)]
    value = call.port(0)
    if call.text("mode") == "REFLECT":
        flat = [begin for begin, _ in widths] + [end for _, end in widths]
        call.give(call.node("Pad", value, call.constant(flat, "pads"), mode="reflect"))
        return
    for axis, pair in enumerate(widths):
        if any(pair):
            places = np.pad(np.arange(call.shape()[axis], dtype=np.int64), pair, mode="symmetric")
            value = call.node("Gather", value, call.constant(places, "places"), axis=axis)
    call.give(value)


@describes("Tile")
def tile(call: Call) -> None:
    """``Tile``."""
    call.give(call.node("Tile", call.port(0), call.constant(call.seen(1), "repeats")))


@describes("BroadcastTo")
def broadcast(call: Call) -> None:
    """``Expand`` to the output's shape."""
    call.give(call.node("Expand", call.port(0), call.constant(list(call.outputs[0].shape), "shape")))


@describes("Fill")
def fill(call: Call) -> None:
    """``Expand`` of one value."""
    call.give(call.node("Expand", call.operand(1, "value"), call.constant(call.seen(0), "shape")))


@describes("ZerosLike", "OnesLike")
def filled_like(call: Call) -> None:
    """Zeros or ones of the input's shape; its values do not matter, and are not read."""
    call.port(0)
    value = call.scalar(0 if call.op_type == "ZerosLike" else 1, "value")
    call.give(call.node("Expand", value, call.constant(list(call.shape()), "shape")))


@describes("ReverseV2")
def reverse(call: Call) -> None:
    """A ``Slice`` that walks backwards."""
    axes = sorted({axis % call.rank() for axis in call.seen(1)})
    if not axes:
        call.give(call.port(0))
        return
    bounds: List[List[int]] = [[-1] * len(axes), [-call.shape()[axis] - 1 for axis in axes]]
    named = [call.constant(bounds[0], "starts"), call.constant(bounds[1], "ends")]
    named += [call.constant(axes, "axes"), call.constant([-1] * len(axes), "steps")]
    call.give(call.node("Slice", call.port(0), *named))


@describes("Roll")
def roll(call: Call) -> None:
    """A ``Gather`` along each axis that is rolled."""
    value = call.port(0)
    for shift, axis in zip(call.seen(1), call.seen(2)):
        places = np.roll(np.arange(call.shape()[axis % call.rank()], dtype=np.int64), shift)
        value = call.node("Gather", value, call.constant(places, "places"), axis=axis % call.rank())
    call.give(value)


@describes("MatrixBandPart")
def band(call: Call) -> None:
    """``Trilu`` for a triangle, otherwise ``Where`` with a mask; a negative width keeps a whole triangle."""
    lower, upper = call.seen(1)[0], call.seen(2)[0]
    x = call.port(0)
    if lower < 0 or upper < 0:
        value = x
        if upper >= 0:
            value = call.node("Trilu", value, call.constant(upper, "k"), upper=0)
        elif lower >= 0:
            value = call.node("Trilu", value, call.constant(-lower, "k"), upper=1)
        call.give(value)
        return
    rows, columns = call.shape()[-2:]
    offset = np.arange(columns)[None] - np.arange(rows)[:, None]
    mask = (-offset <= lower) & (offset <= upper)
    call.give(call.node("Where", call.constant(mask, "mask"), x, call.scalar(0, "zero")))

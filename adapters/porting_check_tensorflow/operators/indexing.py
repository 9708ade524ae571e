"""Slices, gathers, scatters, one-hot vectors, and the few shape operators."""

from __future__ import annotations

from typing import List, Sequence, Set, Tuple

import numpy as np

from porting_check_tensorflow.operators.call import ONNX_TYPES, Call, describes

Bounds = Tuple[int, int, int, int]
"""``(axis, start, end, step)`` of one axis of a Slice."""


def _sliced(call: Call, value: str, bounds: Sequence[Bounds]) -> str:
    """A ``Slice`` node over the axes that are not taken whole."""
    if not bounds:
        return value
    axes, starts, ends, steps = ([bound[place] for bound in bounds] for place in range(4))
    named = (("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))
    return call.node("Slice", value, *[call.constant(numbers, name) for name, numbers in named])


@describes("Slice")
def plain_slice(call: Call) -> None:
    """``Slice`` by begin and size; the size seen is the output's."""
    sizes = call.outputs[0].shape
    bounds = [
        (axis, begin, begin + sizes[axis], 1)
        for axis, begin in enumerate(call.seen(1))
        if sizes[axis] != call.shape()[axis]
    ]
    call.give(_sliced(call, call.port(0), bounds))


@describes("StridedSlice")
def strided_slice(call: Call) -> None:
    """``Slice``, then ``Squeeze`` of the axes taken by an index, then ``Unsqueeze`` for ``tf.newaxis``."""
    bounds, squeezed, new = resolve_strided(call)
    value = _sliced(call, call.port(0), bounds)
    if squeezed:
        value = call.node("Squeeze", value, call.constant(squeezed, "squeezed"))
    if new:
        value = call.node("Unsqueeze", value, call.constant(new, "new_axes"))
    call.give(value)


def resolve_strided(call: Call) -> Tuple[List[Bounds], List[int], List[int]]:
    """Of a StridedSlice for the shape seen: bounds per input axis, input axes to squeeze, new output axes.

    The masks are those of tensorflow/core/util/strided_slice_op.cc: bit i belongs to entry i of begin, end
    and strides; an ellipsis wins over a new axis, a new axis over an index.
    """
    shape, begins, ends, steps = call.shape(), call.seen(1), call.seen(2), call.seen(3)
    masks = {
        name: call.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    bounds: List[Bounds] = []
    squeezed: List[int] = []
    new: List[int] = []
    axis = made = 0
    for place, (begin, end, step) in enumerate(zip(begins, ends, steps)):
        chosen = {name for name, mask in masks.items() if mask >> place & 1}
        if "ellipsis" in chosen:
            skipped = len(shape) - axis - _consumed(masks["new_axis"], place + 1, len(begins))
            axis, made = axis + skipped, made + skipped
        elif "new_axis" in chosen:
            new.append(made)
            made += 1
        else:
            bounds += _bound(axis, shape[axis], begin, end, step, chosen)
            squeezed += [axis] if "shrink_axis" in chosen else []
            axis, made = axis + 1, made + ("shrink_axis" not in chosen)
    return bounds, squeezed, new


def _consumed(new_axis_mask: int, first: int, count: int) -> int:
    """How many input axes the entries after an ellipsis take."""
    return sum(1 for place in range(first, count) if not new_axis_mask >> place & 1)


def _bound(axis: int, size: int, begin: int, end: int, step: int, chosen: Set[str]) -> List[Bounds]:
    """Bounds of one axis, none when it is taken whole."""
    if "shrink_axis" in chosen:
        start = begin + size if begin < 0 else begin
        return [(axis, start, start + 1, 1)]
    wanted = slice(None if "begin" in chosen else begin, None if "end" in chosen else end, step)
    start, stop, step = wanted.indices(size)
    if (start, step) == (0, 1) and stop >= size:
        return []
    return [(axis, start, stop if stop >= 0 else -size - 1, step)]


@describes("Gather", "GatherV2", "ResourceGather")
def gather(call: Call) -> None:
    """``Gather`` along one axis, or ``GatherND`` with batch axes; a parameter is an embedding's weight."""
    axis = call.axis(2, call.rank()) if call.op_type == "GatherV2" else call.integer("batch_dims")
    batch = call.integer("batch_dims") % (call.rank(1) + 1)
    data = call.port(0, "weight" if call.inputs[0].parameter else "x")
    indices = call.operand(1, "indices")
    if not batch:
        call.give(call.node("Gather", data, indices, axis=axis))
        return
    # GatherND looks up right behind the batch axes: bring the axis there, and then what stood between.
    if axis != batch:
        rank = call.rank()
        perm = list(range(batch)) + [axis] + [place for place in range(batch, rank) if place != axis]
        data = call.node("Transpose", data, perm=tuple(perm))
    points = call.node("Unsqueeze", indices, call.constant([-1], "last"))
    value = call.node("GatherND", data, points, batch_dims=batch)
    if axis != batch:
        found, between = call.rank(1) - batch, axis - batch
        behind = list(range(batch + found + between, call.rank() - 1 + found))
        order = list(range(batch)) + list(range(batch + found, batch + found + between))
        value = call.node("Transpose", value, perm=tuple(order + list(range(batch, batch + found)) + behind))
    call.give(value)


@describes("GatherNd", "ResourceGatherNd")
def gather_nd(call: Call) -> None:
    """``GatherND``: the last axis of the indices holds coordinates."""
    if call.shape(1)[-1:] == (0,):
        call.refuse("with empty coordinates is not described")
    data = call.port(0, "weight" if call.inputs[0].parameter else "x")
    indices = call.operand(1, "indices")
    if call.inputs[1].dtype != "int64":
        indices = call.node("Cast", indices, to=ONNX_TYPES["int64"])
    call.give(call.node("GatherND", data, indices, batch_dims=0))


@describes("ScatterNd", "TensorScatterUpdate", "TensorScatterAdd")
def scatter_nd(call: Call) -> None:
    """``ScatterND``, which for ScatterNd adds into zeros."""
    fresh = call.op_type == "ScatterNd"
    places, updates = (0, 1) if fresh else (1, 2)
    indices, values = call.operand(places, "indices"), call.operand(updates, "updates")
    if fresh:
        zero, shape = call.scalar(0, "zero", updates), call.constant(list(call.outputs[0].shape), "shape")
        data = call.node("Expand", zero, shape)
    else:
        data = call.operand(0, "x")
    if call.inputs[places].dtype != "int64":
        indices = call.node("Cast", indices, to=ONNX_TYPES["int64"])
    kind = "none" if call.op_type == "TensorScatterUpdate" else "add"
    call.give(call.node("ScatterND", data, indices, values, reduction=kind))


@describes("OneHot")
def one_hot(call: Call) -> None:
    """``OneHot``; negative indices give no hot entry here, so they are moved out of reach first."""
    depth = call.seen(1)[0]
    on, off = (np.asarray(call.inputs[place].value).reshape(()) for place in (2, 3))
    indices = call.port(0, "indices")
    if np.any(np.asarray(call.inputs[0].value).astype(np.int64) < 0):
        beyond = call.scalar(depth, "beyond")
        indices = call.node("Where", call.node("Less", indices, call.scalar(0, "zero")), beyond, indices)
    values = call.constant(np.stack([off, on]), "values")
    named = call.constant([depth], "depth")
    call.give(call.node("OneHot", indices, named, values, axis=call.integer("axis", -1)))


@describes("Range")
def number_range(call: Call) -> None:
    """``Range`` from start to limit in steps."""
    call.give(
        call.node("Range", *[call.operand(i, name) for i, name in enumerate(("start", "limit", "delta"))])
    )


@describes("Shape", "Size", "Rank")
def shape_query(call: Call) -> None:
    """Questions about a shape; recorders leave them out, because they compute nothing from values."""
    x = call.port(0)
    value = {
        "Shape": lambda: call.node("Shape", x, start=0),
        "Size": lambda: call.node("Size", x),
        "Rank": lambda: call.node("Size", call.node("Shape", x, start=0)),
    }[call.op_type]()
    call.give(call.node("Cast", value, to=ONNX_TYPES[call.outputs[0].dtype]))


@describes("Where")
def positions_of_true(call: Call) -> None:
    """``NonZero``, whose coordinates stand in columns."""
    call.give(call.node("Transpose", call.node("NonZero", call.port(0)), perm=(1, 0)))


@describes("ReverseSequence")
def reverse_sequence(call: Call) -> None:
    """Each sequence reversed up to its own length; ONNX has it for the first two axes."""
    time, batch = call.integer("seq_dim"), call.integer("batch_dim")
    if {time, batch} != {0, 1}:
        call.refuse(f"along axes {time} and {batch} is not described")
    lengths = call.operand(1, "lengths")
    if call.inputs[1].dtype != "int64":
        lengths = call.node("Cast", lengths, to=ONNX_TYPES["int64"])
    call.give(call.node("ReverseSequence", call.port(0), lengths, batch_axis=batch, time_axis=time))

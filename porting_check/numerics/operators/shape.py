"""Operators that move values, or make shapes and constants: any dtype goes through untouched."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from porting_check.numerics.operators.dtypes import numpy_dtype
from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    integers,
    normalized_axis,
    operator,
    optional,
    required,
)

PAD_MODES = ("constant", "reflect", "edge", "wrap", "symmetric")
"""``symmetric`` (the edge is repeated, TensorFlow's SYMMETRIC) is an extension of ONNX."""


def _axes(attributes: Attributes, inputs: Inputs, index: int) -> tuple[int, ...] | None:
    """Axes from an input, or from the attribute of older operator sets; ``None`` when neither is there."""
    given = optional(inputs, index)
    given = attributes.get("axes") if given is None else given
    return None if given is None else integers(given)


@operator("Identity", moves=True)
def identity(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The input."""
    return (required(inputs, 0, "input"),)


@operator("Reshape", moves=True)
def reshape(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Another shape, row-major; -1 is computed, 0 copies the input's size unless ``allowzero``."""
    x = required(inputs, 0, "data")
    sizes = list(integers(required(inputs, 1, "shape")))
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return (x.reshape(sizes),)


@operator("Flatten", moves=True)
def flatten(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Two axes: all before ``axis`` (1) and all from it on."""
    x, axis = required(inputs, 0, "input"), int(attributes.get("axis", 1))
    axis += x.ndim if axis < 0 else 0
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return (x.reshape(rows, int(np.prod(x.shape[axis:], dtype=np.int64))),)


@operator("Transpose", moves=True)
def transpose(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Axes in the order ``perm``; reversed when it is absent."""
    perm = attributes.get("perm")
    return (
        np.ascontiguousarray(required(inputs, 0, "data").transpose(None if perm is None else integers(perm))),
    )


@operator("Squeeze", moves=True)
def squeeze(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Without the given axes of size 1, or without all of them."""
    return (np.squeeze(required(inputs, 0, "data"), _axes(attributes, inputs, 1)),)


@operator("Unsqueeze", moves=True)
def unsqueeze(attributes: Attributes, inputs: Inputs) -> Outputs:
    """With axes of size 1 at the given places of the output."""
    return (np.expand_dims(required(inputs, 0, "data"), _axes(attributes, inputs, 1) or ()),)


@operator("Concat", moves=True)
def concat(attributes: Attributes, inputs: Inputs) -> Outputs:
    """All inputs one after the other along ``axis``."""
    items = [required(inputs, index, f"input {index}") for index in range(len(inputs))]
    return (np.concatenate(items, axis=int(attributes["axis"])),)


@operator("Split", moves=True)
def split(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Pieces along ``axis``: sizes from input 1, or ``num_outputs`` equal ones with a smaller last."""
    x, sizes = required(inputs, 0, "input"), optional(inputs, 1)
    axis = normalized_axis(int(attributes.get("axis", 0)), x.ndim)
    given = sizes if sizes is not None else attributes.get("split")
    if given is None:
        count = int(attributes.get("num_outputs") or attributes["output_count"])
        each = -(-x.shape[axis] // count)
        given = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    pieces = integers(given)
    if sum(pieces) != x.shape[axis]:
        raise ValueError(f"split {pieces} does not add up to the {x.shape[axis]} values of axis {axis}")
    return tuple(np.split(x, np.cumsum(pieces)[:-1], axis=axis))


@operator("Slice", moves=True)
def slice_operator(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``data[start:end:step]`` along axes; bounds are clamped as Python clamps them (ONNX Slice-13)."""
    x = required(inputs, 0, "data")
    starts, ends = (
        integers(item if item is not None else attributes.get(name))
        for item, name in ((optional(inputs, 1), "starts"), (optional(inputs, 2), "ends"))
    )
    axes = _axes(attributes, inputs, 3) or tuple(range(len(starts)))
    steps = integers(optional(inputs, 4), (1,) * len(starts))
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        # Going backwards, an end at or below -size - 1 means "through the first value", which Python writes
        # None.
        stop = None if step < 0 and end < -size else end
        where[axis] = slice(start, stop, step)
    return (x[tuple(where)],)


@operator("Pad", moves=True)
def pad(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Padded (or, where negative, cropped) along axes: all begins, then all ends; modes in ``PAD_MODES``."""
    x = required(inputs, 0, "data")
    mode, value = str(attributes.get("mode") or "constant"), optional(inputs, 2)
    if mode not in PAD_MODES:
        raise ValueError(f"mode is {mode!r}, expected one of {', '.join(PAD_MODES)}")
    amounts = integers(optional(inputs, 1) if optional(inputs, 1) is not None else attributes.get("pads"))
    axes = [normalized_axis(axis, x.ndim) for axis in _axes(attributes, inputs, 3) or range(x.ndim)]
    if len(amounts) != 2 * len(axes):
        raise ValueError(f"pads {amounts} has {len(amounts)} values, expected {2 * len(axes)}")
    pairs = [(0, 0)] * x.ndim
    for index, axis in enumerate(axes):
        pairs[axis] = (amounts[index], amounts[index + len(axes)])
    grown = [(max(begin, 0), max(end, 0)) for begin, end in pairs]
    extra: dict[str, Any] = {}
    if mode == "constant":
        filler = attributes.get("value", 0) if value is None else value.reshape(())
        extra["constant_values"] = np.asarray(filler, x.dtype)
    x = _cropped(x, pairs)
    padded: Array = np.pad(x, grown, mode=cast(Any, mode), **extra)
    return (padded,)


def _cropped(x: Array, pairs: list[tuple[int, int]]) -> Array:
    """Without what negative pads take away."""
    return x[tuple(slice(max(-b, 0), size - max(-e, 0)) for size, (b, e) in zip(x.shape, pairs, strict=True))]


@operator("Expand", moves=True)
def expand(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Broadcast with a shape, in both directions."""
    x = required(inputs, 0, "input")
    shape = np.broadcast_shapes(x.shape, integers(required(inputs, 1, "shape")))
    return (np.broadcast_to(x, shape).copy(),)


@operator("Tile", moves=True)
def tile(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Repeated along every axis."""
    return (np.tile(required(inputs, 0, "input"), integers(required(inputs, 1, "repeats"))),)


@operator("Shape", moves=True)
def shape_operator(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The sizes from ``start`` to ``end``."""
    shape = required(inputs, 0, "data").shape
    return (np.array(shape[slice(attributes.get("start", 0), attributes.get("end"))], np.int64),)


@operator("Size", moves=True)
def size_operator(attributes: Attributes, inputs: Inputs) -> Outputs:
    """How many values there are."""
    return (np.array(required(inputs, 0, "data").size, np.int64),)


@operator("Constant", moves=True)
def constant(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The tensor in ``value``, or what ``value_float(s)`` or ``value_int(s)`` say."""
    if attributes.get("value") is not None:
        return (np.asarray(attributes["value"]),)
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, name + "s"):
            if attributes.get(key) is not None:
                return (np.asarray(attributes[key], dtype),)
    raise ValueError(
        f"Constant has the attributes {sorted(attributes)}, expected value, value_float(s) or value_int(s)"
    )


@operator("ConstantOfShape", moves=True)
def constant_of_shape(attributes: Attributes, inputs: Inputs) -> Outputs:
    """A tensor of the shape in input 0, full of the one value in ``value`` (float32 zero)."""
    value = np.asarray(attributes.get("value", np.zeros(1, np.float32))).reshape(-1)
    return (np.full(integers(required(inputs, 0, "input")), value[0], value.dtype),)


@operator("Range", exact=True)
def range_operator(attributes: Attributes, inputs: Inputs) -> Outputs:
    """From start, below limit, by delta."""
    start, limit, delta = (
        required(inputs, i, n).reshape(()) for i, n in enumerate(("start", "limit", "delta"))
    )
    count = max(int(np.ceil((limit.astype(np.float64) - start) / delta)), 0)
    return (np.asarray(start + np.arange(count).astype(start.dtype) * delta, start.dtype),)


@operator("EyeLike", moves=True)
def eye_like(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Ones on the diagonal ``k`` of a matrix of the input's shape."""
    x = required(inputs, 0, "input")
    dtype = numpy_dtype(attributes["dtype"]) if attributes.get("dtype") is not None else x.dtype
    return (np.eye(x.shape[0], x.shape[1], int(attributes.get("k", 0))).astype(dtype),)


@operator("Trilu", moves=True)
def trilu(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The upper (or lower) triangle of each matrix, zero elsewhere; ``k`` shifts the diagonal."""
    x, offset = required(inputs, 0, "input"), optional(inputs, 1)
    k = 0 if offset is None else integers(offset)[0]
    return (np.triu(x, k) if attributes.get("upper", 1) else np.tril(x, k),)


@operator("DepthToSpace", moves=True)
def depth_to_space(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Blocks of channels become blocks of pixels: mode DCR (depth first) or CRD (pixel shuffle)."""
    x, block = required(inputs, 0, "input"), int(attributes["blocksize"])
    n, c, h, w = x.shape
    if c % block**2:
        raise ValueError(f"{c} channels cannot be divided into blocks of {block} x {block}")
    if str(attributes.get("mode", "DCR")) == "DCR":
        parts = x.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return (parts.reshape(n, c // block**2, h * block, w * block),)


@operator("SpaceToDepth", moves=True)
def space_to_depth(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Blocks of pixels become channels: the inverse of DepthToSpace of the same mode (DCR)."""
    x, block = required(inputs, 0, "input"), int(attributes["blocksize"])
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if str(attributes.get("mode", "DCR")) == "DCR" else (0, 1, 3, 5, 2, 4)
    return (parts.transpose(order).reshape(n, c * block**2, h // block, w // block),)

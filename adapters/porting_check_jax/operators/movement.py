"""Primitives that only move elements: shapes, axes, joining, splitting, padding, cutting."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.table import describes

LAST = int(np.iinfo(np.int64).min)
"""Where a slice that runs backwards to the very first element ends."""


@describes("reshape")
def reshape(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``Flatten`` after the batch axis, ``Reshape`` elsewhere."""
    ref, shape = args[0], d.out.shape
    if params.get("dimensions") is not None:
        d.refuse("with dimensions is not described")
    x = d.port(ref)
    flat = ref.ndim > 2 and len(shape) == 2 and shape[0] == ref.shape[0] and ref.numel
    d.give(d.node("Flatten", x, axis=1) if flat else d.reshape(x, shape))


@describes("squeeze")
def squeeze(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Axes of size one go."""
    over = [int(axis) % max(args[0].ndim, 1) for axis in params["dimensions"]]
    x = d.port(args[0])
    d.give(d.node("Squeeze", x, d.integers(over)) if over else x)


@describes("expand_dims")
def expand_dims(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Axes of size one come."""
    d.give(d.node("Unsqueeze", d.port(args[0]), d.integers(list(params["dimensions"]))))


@describes("transpose")
def transpose(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """All axes in a new order."""
    d.give(d.node("Transpose", d.port(args[0]), perm=tuple(params["permutation"])))


@describes("broadcast_in_dim")
def broadcast(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """New axes of size one, then repeated where that is needed."""
    ref, shape = args[0], d.out.shape
    if len(args) > 1:
        d.refuse("to a computed shape is not described")
    places = list(params["broadcast_dimensions"])
    new = [axis for axis in range(len(shape)) if axis not in places]
    x = d.operand(ref)
    if new and ref.ndim:
        x = d.node("Unsqueeze", x, d.integers(new))
    spread = [1] * len(shape)
    for axis, size in zip(places, ref.shape):
        spread[axis] = size
    if tuple(spread) != tuple(shape):
        x = d.node("Expand", x, d.integers(list(shape), "shape"))
    elif new and not ref.ndim:
        x = d.reshape(x, shape)
    d.give(x)


@describes("concatenate")
def concatenate(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Side by side."""
    names = [d.operand(ref, f"x{place}") for place, ref in enumerate(args)]
    d.give(d.node("Concat", *names, axis=int(params["dimension"])))


@describes("stack")
def stack(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Along a new axis."""
    axis = int(params.get("axis", params.get("dimension", 0))) % d.out.ndim
    rows = [d.node("Unsqueeze", d.operand(ref, f"x{n}"), d.integers([axis])) for n, ref in enumerate(args)]
    d.give(d.node("Concat", *rows, axis=axis))


@describes("tile")
def tile(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """The whole array repeated along each axis."""
    counts = [int(n) for n in params["reps"]]
    x = d.port(args[0])
    if len(counts) > args[0].ndim:
        x = d.reshape(x, (1,) * (len(counts) - args[0].ndim) + args[0].shape)
    counts = [1] * (args[0].ndim - len(counts)) + counts
    d.give(d.node("Tile", x, d.integers(counts, "repeats")))


@describes("unstack")
def unstack(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Into slices without the axis."""
    axis, count = int(params.get("axis", 0)) % args[0].ndim, len(d.outputs)
    sizes = d.integers([1] * count, "split")
    for name in d.nodes(count, "Split", d.port(args[0]), sizes, axis=axis):
        d.give(d.node("Squeeze", name, d.integers([axis])))


@describes("split")
def split(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Into pieces of given sizes."""
    sizes = [int(size) for size in params["sizes"]]
    axis = int(params["axis"])
    for name in d.nodes(len(sizes), "Split", d.port(args[0]), d.integers(sizes, "split"), axis=axis):
        d.give(name)


def cut(
    d: Draft, x: str, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int], sizes: Any
) -> str:
    """A ``Slice`` along those axes that it changes; the value itself where it changes none."""
    over = [
        axis for axis, size in enumerate(sizes) if (starts[axis], ends[axis], steps[axis]) != (0, size, 1)
    ]
    if not over:
        return x
    bounds = [
        d.integers([values[axis] for axis in over], role)
        for values, role in ((starts, "starts"), (ends, "ends"))
    ]
    return d.node("Slice", x, *bounds, d.integers(over), d.integers([steps[axis] for axis in over], "steps"))


@describes("slice")
def slice_(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """A part, with steps."""
    ref = args[0]
    steps = params["strides"] or (1,) * ref.ndim
    starts, ends, strides = (
        [int(n) for n in values] for values in (params["start_indices"], params["limit_indices"], steps)
    )
    d.give(cut(d, d.port(ref), starts, ends, strides, ref.shape))


@describes("rev")
def reverse(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Axes backwards."""
    over = [int(axis) for axis in params["dimensions"]]
    count = len(over)
    bounds = [d.integers([-1] * count, "starts"), d.integers([LAST] * count, "ends")]
    x = d.port(args[0])
    d.give(d.node("Slice", x, *bounds, d.integers(over), d.integers([-1] * count, "steps")) if over else x)


@describes("pad")
def pad(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """A number around; negative amounts crop, interior ones are left out."""
    ref, value = args
    amounts = [tuple(int(n) for n in amount) for amount in params["padding_config"]]
    if any(inner for _, _, inner in amounts):
        d.refuse("between the elements (interior padding) is not described")
    x = d.port(ref)
    starts = [max(-low, 0) for low, _, _ in amounts]
    ends = [size + min(high, 0) for size, (_, high, _) in zip(ref.shape, amounts)]
    if any(start > end for start, end in zip(starts, ends)):
        d.refuse("that crops more than there is is not described")
    x = cut(d, x, starts, ends, [1] * ref.ndim, ref.shape)
    grown = [max(low, 0) for low, _, _ in amounts] + [max(high, 0) for _, high, _ in amounts]
    if any(grown):
        x = d.node("Pad", x, d.integers(grown, "pads"), d.operand(value, "value"), mode="constant")
    d.give(x)


def starts_of(d: Draft, indices: Sequence[Ref], limits: Sequence[int]) -> str:
    """Computed start indices as one vector, moved inside as JAX does: ``clip(start, 0, limit)``."""
    rows: List[str] = []
    for place, ref in enumerate(indices):
        if ref.fixed is not None:
            at = min(max(int(ref.fixed), 0), limits[place])
            rows.append(d.integers([at], f"start{place}"))
            continue
        start = d.cast(d.port(ref, f"start{place}"), ref.dtype, np.dtype(np.int64))
        bounds = [d.integers(bound, role) for bound, role in ((0, "lowest"), (limits[place], "highest"))]
        rows.append(d.reshape(d.node("Min", d.node("Max", start, bounds[0]), bounds[1]), (1,)))
    return rows[0] if len(rows) == 1 else d.node("Concat", *rows, axis=0)


@describes("dynamic_slice")
def dynamic_slice(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """A part of fixed size that begins at computed indices."""
    ref, indices = args[0], args[1 : 1 + args[0].ndim]
    sizes = [int(size) for size in params["slice_sizes"]]
    if not ref.ndim:
        d.give(d.port(ref))
        return
    limits = [have - size for have, size in zip(ref.shape, sizes)]
    starts = starts_of(d, indices, limits)
    ends = d.node("Add", starts, d.integers(sizes, "sizes"))
    axes = d.integers(list(range(ref.ndim)))
    d.give(d.node("Slice", d.port(ref), starts, ends, axes, d.integers([1] * ref.ndim, "steps")))


@describes("dynamic_update_slice")
def dynamic_update_slice(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """A part replaced, at indices that are known."""
    ref, update, indices = args[0], args[1], args[2:]
    if any(index.fixed is None for index in indices):
        d.refuse("at computed indices is not described")
    limits = [have - size for have, size in zip(ref.shape, update.shape)]
    starts = [
        min(max(int(index.fixed), 0), limit)
        for index, limit in zip(indices, limits)
        if index.fixed is not None
    ]
    grid = np.meshgrid(*[np.arange(size) + start for size, start in zip(update.shape, starts)], indexing="ij")
    if not ref.ndim:
        d.give(d.operand(update, "update"))
        return
    where = np.stack(grid, axis=-1).astype(np.int64)
    d.give(
        d.node(
            "ScatterND",
            d.operand(ref),
            d.constant(where, "indices"),
            d.operand(update, "update"),
            reduction="none",
        )
    )

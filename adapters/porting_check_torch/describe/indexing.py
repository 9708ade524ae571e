"""Picking and placing elements by index: ``x[...]``, ``x[...] = value``, gather, scatter, embeddings."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch

from porting_check_torch.describe.draft import Draft, Ref, axis
from porting_check_torch.describe.table import describes


@dataclass
class Plan:
    """What an index does: start, stop and step per axis, axes dropped, axes added, index tensors by axis."""

    shape: Tuple[int, ...]
    bounds: List[Tuple[int, int, int]] = field(default_factory=list)
    dropped: List[int] = field(default_factory=list)
    added: List[int] = field(default_factory=list)
    tensors: List[Tuple[int, Any]] = field(default_factory=list)

    @property
    def region(self) -> Tuple[int, ...]:
        """The shape that the bounds cut out, no axis dropped."""
        return tuple(len(range(*bound)) for bound in self.bounds)

    @property
    def whole(self) -> bool:
        """Whether the bounds cut nothing away."""
        return all(bound == (0, size, 1) for bound, size in zip(self.bounds, self.shape))

    @property
    def selected(self) -> Tuple[int, ...]:
        """The shape of ``x[index]`` for an index without tensors."""
        kept = [size for place, size in enumerate(self.region) if place not in self.dropped]
        for place in self.added:
            kept.insert(place, 1)
        return tuple(kept)


def _consumes(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, Ref) and item.dtype in (torch.bool, torch.uint8):
        return item.ndim
    return (
        np.asarray(item).ndim
        if isinstance(item, (list, np.ndarray)) and np.asarray(item).dtype == bool
        else 1
    )


def plan_of(d: Draft, index: Any, shape: Tuple[int, ...]) -> Plan:
    """Read an index as torch does; integers select before index tensors are applied."""
    items = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(item, bool) for item in items):
        d.refuse("with a boolean is not described")
    missing = len(shape) - sum(_consumes(item) for item in items)
    place = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    if place is None:
        items.append(Ellipsis)
        place = len(items) - 1
    items[place : place + 1] = [slice(None)] * missing
    plan, kept = Plan(shape), 0
    for item in items:
        dim = len(plan.bounds)
        if item is None:
            plan.added.append(kept)
            kept += 1
        elif isinstance(item, slice):
            plan.bounds.append(_bounds(d, item, shape[dim]))
            kept += 1
        elif isinstance(item, (Ref, list, np.ndarray)):
            plan.tensors.append((dim, item))
            plan.bounds += [(0, size, 1) for size in shape[dim : dim + _consumes(item)]]
            kept += 1
        else:
            start = int(item) + (shape[dim] if int(item) < 0 else 0)
            plan.bounds.append((start, start + 1, 1))
            plan.dropped.append(dim)
    return plan


def _bounds(d: Draft, item: slice, size: int) -> Tuple[int, int, int]:
    if any(isinstance(part, Ref) for part in (item.start, item.stop, item.step)):
        d.refuse("with a computed slice is not described")
    start, stop, step = slice(
        *(None if p is None else int(p) for p in (item.start, item.stop, item.step))
    ).indices(size)
    return start, max(stop, start), step


def cut(d: Draft, x: str, plan: Plan) -> str:
    """The Slice of a plan."""
    changed = [i for i, bound in enumerate(plan.bounds) if bound != (0, plan.shape[i], 1)]
    if not changed:
        return x
    starts, ends, steps = zip(*(plan.bounds[i] for i in changed))
    inputs = [
        d.integers(values, role) for values, role in ((starts, "starts"), (ends, "ends"), (changed, "axes"))
    ]
    return d.node("Slice", x, *inputs, d.integers(steps, "steps"))


@describes("__getitem__")
def getitem(d: Draft, input: Ref, index: Any) -> None:
    """Slices, then index tensors, then dropped and new axes."""
    plan = plan_of(d, index, input.shape)
    x = cut(d, d.port(input), plan)
    dropped = plan.dropped
    if plan.tensors:
        x, dropped = _advanced(d, x, plan)
    if dropped:
        x = d.node("Squeeze", x, d.integers(dropped))
    for place in plan.added:
        x = d.node("Unsqueeze", x, d.integers([place]))
    d.give(x)


def _indices(d: Draft, item: Any) -> Tuple[str, int]:
    """An index tensor's name and rank."""
    if isinstance(item, Ref):
        return d.operand(item, "indices", torch.int64), item.ndim
    array = np.asarray(item)
    return d.integers(array, "indices"), array.ndim


def _is_mask(item: Any) -> bool:
    if isinstance(item, Ref):
        return item.dtype in (torch.bool, torch.uint8)
    return np.asarray(item).dtype.kind == "b"


def _advanced(d: Draft, x: str, plan: Plan) -> Tuple[str, List[int]]:
    """Apply index tensors; returns the value and the axes still to drop."""
    if any(_is_mask(item) for _, item in plan.tensors):
        return _masked(d, x, plan), []
    if len(plan.tensors) == 1:
        place, item = plan.tensors[0]
        name, rank = _indices(d, item)
        moved = [dim + (rank - 1 if dim > place else 0) for dim in plan.dropped]
        if plan.added and rank != 1:
            d.refuse("with new axes beside an index tensor is not described")
        return d.node("Gather", x, name, axis=place), moved
    if plan.dropped or plan.added:
        d.refuse("with several index tensors beside integers or new axes is not described")
    return _several(d, x, plan), []


def _masked(d: Draft, x: str, plan: Plan) -> str:
    """``x[mask]``: the elements where a mask over the leading axes holds."""
    place, item = plan.tensors[0]
    if len(plan.tensors) > 1 or place or plan.dropped or plan.added or not isinstance(item, Ref):
        d.refuse("with a mask and anything else is not described")
    where = d.node("Transpose", d.node("NonZero", d.operand(item, "mask", torch.bool)), perm=(1, 0))
    return d.node("GatherND", x, where, batch_dims=0)


def _several(d: Draft, x: str, plan: Plan) -> str:
    """Several index tensors, which broadcast: GatherND with their axes brought to the front."""
    dims = [dim for dim, _ in plan.tensors]
    rest = [dim for dim in range(len(plan.shape)) if dim not in dims]
    named = [_indices(d, item) for _, item in plan.tensors]
    shapes = [item.shape if isinstance(item, Ref) else np.asarray(item).shape for _, item in plan.tensors]
    common = np.broadcast(*[np.empty(shape) for shape in shapes]).shape
    target = d.integers(list(common), "broadcast")
    columns = [
        d.node("Unsqueeze", d.node("Expand", name, target), d.integers([len(common)], "last"))
        for name, _ in named
    ]
    front = x if dims == list(range(len(dims))) else d.node("Transpose", x, perm=tuple(dims + rest))
    picked = d.node("GatherND", front, d.node("Concat", *columns, axis=len(common)), batch_dims=0)
    if dims[0] == 0 or dims != list(range(dims[0], dims[0] + len(dims))):
        return picked  # axes apart from each other: torch puts the result's first, as numpy does
    rank, before = len(common), dims[0]
    order = (
        list(range(rank, rank + before)) + list(range(rank)) + list(range(rank + before, rank + len(rest)))
    )
    return d.node("Transpose", picked, perm=tuple(order))


@describes("select")
def select(d: Draft, input: Ref, dim: int, index: int) -> None:
    """One slice, its axis dropped."""
    getitem(d, input, (slice(None),) * axis(dim, input.ndim) + (index,))


@describes("narrow", "narrow_copy")
def narrow(d: Draft, input: Ref, dim: int, start: Any, length: int) -> None:
    """A run of one axis."""
    if isinstance(start, Ref):
        d.refuse("with a computed start is not described")
    place = axis(dim, input.ndim)
    begin = start + input.shape[place] if start < 0 else start
    getitem(d, input, (slice(None),) * place + (slice(begin, begin + length),))


@describes("diagonal")
def diagonal(d: Draft, input: Ref, offset: int = 0, dim1: int = 0, dim2: int = 1) -> None:
    """The elements whose column is their row plus ``offset``, on a new last axis."""
    first, second = axis(dim1, input.ndim), axis(dim2, input.ndim)
    rest = [dim for dim in range(input.ndim) if dim not in (first, second)]
    rows, columns = input.shape[first], input.shape[second]
    moved = d.node("Transpose", d.port(input), perm=tuple(rest + [first, second]))
    flat = d.reshape(moved, [input.shape[dim] for dim in rest] + [rows * columns])
    start = np.arange(d.out.shape[-1])
    places = (start - min(offset, 0)) * columns + start + max(offset, 0)
    d.give(d.node("Gather", flat, d.integers(places, "places"), axis=len(rest)))


@describes("aten.slice")
def aten_slice(
    d: Draft, input: Ref, dim: int = 0, start: Optional[int] = None, end: Optional[int] = None, step: int = 1
) -> None:
    """A slice of one axis."""
    getitem(d, input, (slice(None),) * axis(dim, input.ndim) + (slice(start, end, step),))


@describes("index_select")
def index_select(d: Draft, input: Ref, dim: int, index: Ref) -> None:
    """Slices by index."""
    d.give(
        d.node("Gather", d.port(input), d.operand(index, "indices", torch.int64), axis=axis(dim, input.ndim))
    )


@describes("gather")
def gather(d: Draft, input: Ref, dim: int, index: Ref, *, sparse_grad: bool = False) -> None:
    """One element for each index, along an axis."""
    if any(index.shape[i] != size for i, size in enumerate(input.shape) if i != axis(dim, input.ndim)):
        d.refuse("with an index that is smaller than the input on other axes is not described")
    d.give(d.node("GatherElements", d.port(input), d.operand(index, "indices"), axis=axis(dim, input.ndim)))


@describes("take_along_dim")
def take_along_dim(d: Draft, input: Ref, indices: Ref, dim: Optional[int] = None) -> None:
    """The same, for shapes that agree."""
    if dim is None:
        d.refuse("without dim is not described")
    gather(d, input, dim, indices)


def _scatter(d: Draft, input: Ref, dim: int, index: Ref, src: Any, reduction: str) -> None:
    if isinstance(src, Ref) and src.shape != index.shape:
        d.refuse("with a source larger than the index is not described")
    value = d.operand(src, "updates", input.dtype)
    if not isinstance(src, Ref):
        value = d.node("Expand", value, d.integers(list(index.shape), "shape"))
    inputs = [d.port(input), d.operand(index, "indices"), value]
    d.give(d.node("ScatterElements", *inputs, axis=axis(dim, input.ndim), reduction=reduction))


@describes("scatter")
def scatter(
    d: Draft, input: Ref, dim: int, index: Ref, src: Any = None, *, value: Any = None, reduce: Any = None
) -> None:
    """Elements placed along an axis."""
    if reduce is not None:
        d.refuse("with reduce is not described")
    _scatter(d, input, dim, index, value if src is None else src, "none")


@describes("scatter_add")
def scatter_add(d: Draft, input: Ref, dim: int, index: Ref, src: Ref) -> None:
    """Elements added along an axis."""
    _scatter(d, input, dim, index, src, "add")


@describes("F.embedding", main=True)
def embedding(
    d: Draft,
    input: Ref,
    weight: Ref,
    padding_idx: Optional[int] = None,
    max_norm: Optional[float] = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> None:
    """Rows of a table; ``padding_idx`` has no part in the forward pass."""
    if max_norm is not None:
        d.refuse("with max_norm rewrites its weight, which is not described")
    d.give(d.node("Gather", d.port(weight, "weight"), d.operand(input, "indices"), axis=0))


@describes("torch.embedding", "aten.embedding", main=True)
def plain_embedding(d: Draft, weight: Ref, indices: Ref, *_options: Any, **_named: Any) -> None:
    """The same with torch's inner order of arguments."""
    d.give(d.node("Gather", d.port(weight, "weight"), d.operand(indices, "indices"), axis=0))


@describes("__setitem__")
def setitem(d: Draft, input: Ref, index: Any, value: Any) -> None:
    """The tensor with a region replaced."""
    plan = plan_of(d, index, input.shape)
    if plan.tensors:
        _set_by_tensor(d, input, plan, value)
        return
    found = value.shape if isinstance(value, Ref) else ()
    name = d.operand(value, "value", input.dtype)
    selected = plan.selected
    if len(found) > len(selected):
        found = tuple(found[len(found) - len(selected) :])
        name = d.reshape(name, found)
    if tuple(found) != selected:
        name = d.node("Expand", name, d.integers(list(selected), "shape"))
    d.give(place(d, d.port(input), plan, d.reshape(name, plan.region)))


def place(d: Draft, x: str, plan: Plan, updates: str) -> str:
    """``x`` with the region of a plan replaced by ``updates`` of the region's shape."""
    if plan.whole:
        return updates
    if 0 in plan.region:
        return x
    if any(step != 1 for _, _, step in plan.bounds):
        return _place_each(d, x, plan, updates)
    partial = [i for i, bound in enumerate(plan.bounds) if bound != (0, plan.shape[i], 1)]
    regions = [x]
    for dim in partial[:-1]:
        regions.append(_run(d, regions[-1], dim, plan.bounds[dim][0], plan.bounds[dim][1]))
    result = updates
    for dim, region in zip(partial[::-1], regions[::-1]):
        start, stop, _ = plan.bounds[dim]
        parts = [_run(d, region, dim, 0, start)] if start else []
        parts += [result] + ([_run(d, region, dim, stop, plan.shape[dim])] if stop < plan.shape[dim] else [])
        result = d.node("Concat", *parts, axis=dim)
    return result


def _run(d: Draft, x: str, dim: int, start: int, stop: int) -> str:
    bounds = [d.integers([start], "starts"), d.integers([stop], "ends"), d.integers([dim])]
    return d.node("Slice", x, *bounds, d.integers([1], "steps"))


LIMIT = 1 << 16
"""Most elements that are placed one by one, because their indices become part of the record."""


def _place_each(d: Draft, x: str, plan: Plan, updates: str) -> str:
    numbered = np.arange(int(np.prod(plan.shape))).reshape(plan.shape)
    region = numbered[tuple(slice(*bound) for bound in plan.bounds)].reshape(-1)
    return place_flat(d, x, plan.shape, region, updates)


def place_flat(d: Draft, x: str, shape: Sequence[int], places: np.ndarray, updates: str) -> str:
    """``x`` with ``updates`` at these places of its flattened form."""
    if places.size > LIMIT:
        d.refuse(f"to {places.size} scattered elements is not described")
    flat = [
        d.reshape(x, (int(np.prod(shape)),)),
        d.integers(places, "places"),
        d.reshape(updates, (places.size,)),
    ]
    return d.reshape(d.node("ScatterElements", *flat, axis=0, reduction="none"), shape)


def _set_by_tensor(d: Draft, input: Ref, plan: Plan, value: Any) -> None:
    """``x[mask] = number`` and ``x[indices] = value`` over the leading axis."""
    first, item = plan.tensors[0]
    alone = len(plan.tensors) == 1 and first == 0 and plan.whole and not plan.dropped and not plan.added
    if not alone or not isinstance(item, Ref):
        d.refuse("with index tensors beside other indices is not described")
    x, updates = d.port(input), d.operand(value, "value", input.dtype)
    if _is_mask(item):
        if isinstance(value, Ref) and value.numel != 1:
            d.refuse("of several values under a mask is not described")
        mask = d.operand(item, "mask", torch.bool)
        mask = (
            d.reshape(mask, item.shape + (1,) * (input.ndim - item.ndim)) if item.ndim < input.ndim else mask
        )
        if isinstance(value, Ref) and value.ndim:
            updates = d.reshape(updates, ())
        d.give(d.node("Where", mask, updates, x))
        return
    rows = d.reshape(d.operand(item, "indices", torch.int64), item.shape + (1,))
    shape = item.shape + input.shape[1:]
    d.give(
        d.node(
            "ScatterND",
            x,
            rows,
            d.node("Expand", updates, d.integers(list(shape), "shape")),
            reduction="none",
        )
    )

"""Gathering and scattering."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.table import describes, real

INT64 = np.dtype(np.int64)


@describes("gather")
def gather(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Rows along one axis (``Gather``), elements along one axis (``GatherElements``), or by several indices (``GatherND``)."""
    ref, indices = args
    numbers, sizes = params["dimension_numbers"], [int(n) for n in params["slice_sizes"]]
    taken = [int(n) for n in numbers.start_index_map]
    batching = [int(n) for n in getattr(numbers, "operand_batching_dims", ())]
    full = [size == have for size, have in zip(sizes, ref.shape)]
    dropped = sorted(int(n) for n in numbers.collapsed_slice_dims)
    rest = [axis for axis in range(ref.ndim) if axis not in taken and axis not in batching]
    if dropped != sorted(taken) or not all(full[axis] for axis in rest):
        d.refuse("of windows is not described")
    places = _places(d, ref, indices, taken, params)
    outer = indices.ndim - 1
    offsets = [int(n) for n in numbers.offset_dims]
    if batching:
        y = _elements(d, ref, numbers, taken, batching, outer, places)
    elif len(taken) == 1:
        axis = taken[0]
        if offsets != [n for n in range(d.out.ndim) if not axis <= n < axis + outer]:
            d.refuse("into another order of axes is not described")
        y = d.node("Gather", d.operand(ref), d.node("Squeeze", places, d.integers([outer])), axis=axis)
    else:
        if taken != list(range(len(taken))) or offsets != list(range(outer, d.out.ndim)):
            d.refuse("by several indices into another order of axes is not described")
        y = d.node("GatherND", d.operand(ref), places, batch_dims=0)
    d.give(_filled(d, y, ref, indices, taken, params, offsets))


def _elements(
    d: Draft, ref: Ref, numbers: Any, taken: List[int], batching: List[int], outer: int, places: str
) -> str:
    """One element for each index, along one axis."""
    order = [int(n) for n in numbers.start_indices_batching_dims]
    alone = len(taken) == 1 and outer == ref.ndim and sorted(batching + taken) == list(range(ref.ndim))
    if not alone or order != batching or tuple(numbers.offset_dims):
        d.refuse("with shared axes is not described")
    return d.node(
        "GatherElements", d.operand(ref), d.node("Squeeze", places, d.integers([outer])), axis=taken[0]
    )


def _mode(params: Mapping[str, Any]) -> str:
    return str(getattr(params["mode"], "name", params["mode"])).upper()


def _limits(ref: Ref, taken: Sequence[int]) -> List[int]:
    return [max(ref.shape[axis] - 1, 0) for axis in taken]


def _places(d: Draft, ref: Ref, indices: Ref, taken: Sequence[int], params: Mapping[str, Any]) -> str:
    """The indices as 64-bit integers, moved inside; known ones as constants."""
    real(d, indices)
    limits = _limits(ref, taken)
    if indices.fixed is not None:
        return d.constant(np.clip(indices.fixed.astype(np.int64), 0, np.array(limits, np.int64)), "indices")
    found = d.cast(d.port(indices, "indices"), indices.dtype, INT64)
    if _mode(params) == "PROMISE_IN_BOUNDS":
        return found
    found = d.node("Max", found, d.integers(0, "lowest"))
    return d.node("Min", found, d.integers(limits, "highest"))


def _filled(
    d: Draft,
    y: str,
    ref: Ref,
    indices: Ref,
    taken: Sequence[int],
    params: Mapping[str, Any],
    offsets: Sequence[int],
) -> str:
    """NaN (or the given number) where an index lies outside, in the mode that asks for that."""
    if _mode(params) != "FILL_OR_DROP":
        return y
    limits = np.array(_limits(ref, taken), np.int64)
    if indices.fixed is not None and ((indices.fixed >= 0) & (indices.fixed <= limits)).all():
        return y
    known = d.cast(d.operand(indices, "raw"), indices.dtype, INT64)
    low = d.node("GreaterOrEqual", known, d.integers(0, "first"))
    high = d.node("LessOrEqual", known, d.integers(limits, "last"))
    within = d.cast(d.node("And", low, high), np.dtype(bool), np.dtype(np.int32))
    inside = d.node("ReduceMin", within, d.integers([indices.ndim - 1]), keepdims=0)
    inside = d.cast(inside, np.dtype(np.int32), np.dtype(bool))
    if offsets:
        inside = d.node("Unsqueeze", inside, d.integers(list(offsets)))
    return d.node("Where", inside, y, d.scalar(_fill(params.get("fill_value"), ref), "fill", ref.dtype))


def _fill(value: Any, ref: Ref) -> Any:
    """What JAX puts where nothing is: NaN, the smallest signed, the largest unsigned integer, True."""
    if value is not None:
        return value
    if ref.floating:
        return np.nan
    if ref.dtype.kind == "b":
        return True
    limits = np.iinfo(ref.dtype)
    return limits.min if ref.dtype.kind == "i" else limits.max


Rows = Tuple[int, ...]


@describes(
    "scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "scatter_min", "scatter_max"
)
def scatter(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Whole rows or elements put at known indices (``x.at[1].set(y)``)."""
    kind = str(params.get("update_jaxpr") or "")
    ref, indices, updates = args
    numbers = params["dimension_numbers"]
    taken = [int(n) for n in numbers.scatter_dims_to_operand_dims]
    plain = taken == list(range(len(taken))) == [int(n) for n in numbers.inserted_window_dims]
    outer = indices.ndim - 1
    trailing = [int(n) for n in numbers.update_window_dims] == list(range(outer, updates.ndim))
    whole = updates.shape[outer:] == ref.shape[len(taken) :]
    if not (plain and trailing and whole) or len(getattr(numbers, "operand_batching_dims", ())) > 0:
        d.refuse("of windows is not described")
    if indices.fixed is None:
        d.refuse("at computed indices is not described")
    limits = np.array(_limits(ref, taken), np.int64)
    if not ((indices.fixed >= 0) & (indices.fixed <= limits)).all():
        d.refuse("at indices outside is not described")
    reduction = next((r for r in ("add", "mul", "min", "max") if f" {r} " in kind), "none")
    places = d.constant(indices.fixed.astype(np.int64), "indices")
    d.give(d.node("ScatterND", d.operand(ref), places, d.operand(updates, "update"), reduction=reduction))

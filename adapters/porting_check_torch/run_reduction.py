"""Reductions, cumulative sums, the place of the extreme, and sorting."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional

import torch

from porting_check_torch.run_call import Call, Handler, Result

Reduce = Callable[[torch.Tensor, List[int], bool], torch.Tensor]


def _extreme(function: Callable[..., torch.Tensor], sign: int) -> Reduce:
    """Maximum or minimum; over nothing it is what never wins."""

    def reduce(x: torch.Tensor, axes: List[int], keep: bool) -> torch.Tensor:
        if x.numel():
            return function(x, dim=axes, keepdim=keep)
        worst: Any = -sign * math.inf if x.is_floating_point() else _integer_worst(x.dtype, sign)
        return torch.full_like(x.sum(dim=axes, keepdim=keep, dtype=x.dtype), worst)

    return reduce


def _integer_worst(dtype: torch.dtype, sign: int) -> int:
    """The integer that never wins a maximum (sign 1) or a minimum (sign -1)."""
    if dtype == torch.bool:
        return int(sign < 0)
    return torch.iinfo(dtype).min if sign > 0 else torch.iinfo(dtype).max


def _sum(x: torch.Tensor, axes: List[int], keep: bool) -> torch.Tensor:
    """A sum in the type of its argument."""
    return x.sum(dim=axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: List[int], keep: bool) -> torch.Tensor:
    """A mean; integers round toward zero, as a quotient of sums."""
    if x.is_floating_point():
        return x.mean(dim=axes, keepdim=keep)
    counts = max(1, x.numel() // max(1, _sum(x, axes, True).numel()))
    return torch.div(_sum(x, axes, keep), counts, rounding_mode="trunc")


def _product(x: torch.Tensor, axes: List[int], keep: bool) -> torch.Tensor:
    """A product over several axes; torch multiplies along one at a time."""
    for axis in sorted(axes, reverse=True):
        x = x.prod(dim=axis, keepdim=keep, dtype=x.dtype)
    return x


def _euclid(x: torch.Tensor, axes: List[int], keep: bool) -> torch.Tensor:
    """The 2-norm; integers through float64."""
    if x.is_floating_point():
        return torch.linalg.vector_norm(x, 2, dim=axes, keepdim=keep)
    return torch.linalg.vector_norm(x.to(torch.float64), 2, dim=axes, keepdim=keep).to(x.dtype)


def _through_float(function: Reduce) -> Reduce:
    """Logarithms of integers go through float64 and back."""

    def reduce(x: torch.Tensor, axes: List[int], keep: bool) -> torch.Tensor:
        return (
            function(x, axes, keep) if x.is_floating_point() else function(x.double(), axes, keep).to(x.dtype)
        )

    return reduce


REDUCTIONS: Dict[str, Reduce] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": _extreme(torch.amax, 1),
    "ReduceMin": _extreme(torch.amin, -1),
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": _euclid,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": _through_float(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _through_float(lambda x, axes, keep: torch.logsumexp(x, dim=axes, keepdim=keep)),
}


def _reduction(reduce: Reduce) -> Handler:
    """A handler: no axes means all of them, or none with ``noop_with_empty_axes``."""

    def run(call: Call) -> Result:
        axes: Optional[List[int]] = call.axes()
        if not axes and call.get("noop_with_empty_axes", 0):
            # an empty dim list means "all axes" to torch: reduce over an axis of size one instead
            return reduce(call.x[..., None], [call.x.dim()], False)
        axes = axes or list(range(call.x.dim()))
        if not axes:
            return reduce(call.x[None], [0], False)
        return reduce(call.x, axes, bool(call.get("keepdims", 1)))

    return run


def _place(function: Callable[..., torch.Tensor]) -> Handler:
    """ArgMax and ArgMin: the first such place, or the last with ``select_last_index``."""

    def run(call: Call) -> Result:
        axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
        if not call.get("select_last_index", 0):
            return function(call.x, dim=axis, keepdim=keep)
        return call.x.shape[axis] - 1 - function(call.x.flip(axis), dim=axis, keepdim=keep)

    return run


def top(call: Call) -> Result:
    """ONNX TopK by a stable sort: of equals, the lower index comes first (``torch.topk`` gives either)."""
    axis, k = call.get("axis", -1), call.integer(1, 0)
    values, indices = torch.sort(call.x, dim=axis, descending=bool(call.get("largest", 1)), stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def _cumulative(function: Callable[..., torch.Tensor], neutral: int) -> Handler:
    """CumSum and CumProd, with ONNX's ``exclusive`` and ``reverse``."""

    def run(call: Call) -> Result:
        x, axis = call.x, call.integer(1, 0) % call.x.dim()
        x = x.flip(axis) if call.get("reverse", 0) else x
        result = function(x, dim=axis, dtype=x.dtype)
        if call.get("exclusive", 0):
            first = torch.full_like(result.narrow(axis, 0, 1), neutral)
            result = torch.cat([first, result.narrow(axis, 0, x.shape[axis] - 1)], dim=axis)
        return result.flip(axis) if call.get("reverse", 0) else result

    return run


def unique(call: Call) -> Result:
    """ONNX Unique: values (sorted, or by first appearance), first places, places back, counts."""
    axis = call.get("axis")
    x = call.x.reshape(-1) if axis is None else call.x
    dim = 0 if axis is None else axis % x.dim()
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=dim)
    places = torch.arange(inverse.numel())
    first = torch.full((counts.numel(),), inverse.numel()).scatter_reduce(0, inverse, places, "amin")
    if not call.get("sorted", 1):
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values, first, counts, inverse = (
            values.index_select(dim, order),
            first[order],
            counts[order],
            rank[inverse],
        )
    return values, first, inverse, counts


OPERATORS: Dict[str, Handler] = {
    "ArgMax": _place(torch.argmax),
    "ArgMin": _place(torch.argmin),
    "TopK": top,
    "CumSum": _cumulative(torch.cumsum, 0),
    "CumProd": _cumulative(torch.cumprod, 1),
    "Unique": unique,
}
OPERATORS.update({name: _reduction(reduce) for name, reduce in REDUCTIONS.items()})

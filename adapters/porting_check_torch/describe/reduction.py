"""Sums, means, extremes and other reductions over axes; sorting, cumulative sums."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Callable, List, Optional

import numpy as np
import torch

from porting_check_torch.describe.draft import Draft, Ref, axes, axis
from porting_check_torch.describe.elementwise import maximum, minimum
from porting_check_torch.describe.normalization import norm_of
from porting_check_torch.describe.table import TABLE, describes


def _over(d: Draft, input: Ref, dim: Any) -> str:
    return d.integers(axes(dim, input.ndim))


def _reduced(d: Draft, op_type: str, x: str, input: Ref, dim: Any, keepdim: bool) -> str:
    if input.ndim == 0:
        return d.node("Identity", x)
    return d.node(op_type, x, _over(d, input, dim), keepdims=int(keepdim))


def _reduction(op_type: str) -> Callable[..., None]:
    def describe(
        d: Draft, input: Ref, dim: Any = None, keepdim: bool = False, *, dtype: Optional[torch.dtype] = None
    ) -> None:
        d.give(_reduced(d, op_type, d.operand(input, "x", d.out.dtype), input, dim, keepdim))

    return describe


_SIMPLE = {"sum": "ReduceSum", "mean": "ReduceMean", "prod": "ReduceProd", "logsumexp": "ReduceLogSumExp"}
_SIMPLE.update({"amax": "ReduceMax", "amin": "ReduceMin"})
TABLE.update({name: _reduction(op_type) for name, op_type in _SIMPLE.items()})


def _extreme(op_type: str, pick: str, pairwise: Callable[..., None]) -> Callable[..., None]:
    def describe(d: Draft, input: Ref, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> None:
        if other is not None or isinstance(dim, Ref):
            pairwise(d, input, dim if other is None else other)
            return
        x = d.port(input)
        d.give(_reduced(d, op_type, x, input, dim, keepdim))
        if dim is not None:
            d.give(_place(d, pick, x, input, dim, keepdim))

    return describe


TABLE["max"] = _extreme("ReduceMax", "ArgMax", maximum)
TABLE["min"] = _extreme("ReduceMin", "ArgMin", minimum)


def _place(d: Draft, pick: str, x: str, input: Ref, dim: int, keepdim: bool) -> str:
    if input.ndim == 0:
        d.refuse("of a scalar is not described")
    return d.node(pick, x, axis=axis(dim, input.ndim), keepdims=int(keepdim), select_last_index=0)


def _argument(pick: str) -> Callable[..., None]:
    def describe(d: Draft, input: Ref, dim: Optional[int] = None, keepdim: bool = False) -> None:
        x = d.port(input)
        if dim is None:
            if keepdim:
                d.refuse("with keepdim and without dim is not described")
            x = d.reshape(x, (input.numel,))
            d.give(d.node(pick, x, axis=0, keepdims=0, select_last_index=0))
            return
        d.give(_place(d, pick, x, input, dim, keepdim))

    return describe


TABLE.update({"argmax": _argument("ArgMax"), "argmin": _argument("ArgMin")})


def _moments(d: Draft, input: Ref, dim: Any, correction: float, keepdim: bool) -> List[str]:
    """Variance and mean: sums of squared deviations over ``n - correction``."""
    x, over = d.port(input), _over(d, input, dim)
    count = int(np.prod([input.shape[place] for place in axes(dim, input.ndim)], dtype=np.int64))
    centred = d.node("Sub", x, d.node("ReduceMean", x, over, keepdims=1))
    total = d.node("ReduceSum", d.node("Mul", centred, centred), over, keepdims=int(keepdim))
    divisor = d.scalar(max(count - correction, 0), "divisor", input.dtype)
    return [d.node("Div", total, divisor), d.node("ReduceMean", x, over, keepdims=int(keepdim))]


def _variance(root: bool, with_mean: bool) -> Callable[..., None]:
    def describe(
        d: Draft,
        input: Ref,
        dim: Any = None,
        unbiased: Optional[bool] = None,
        keepdim: bool = False,
        *,
        correction: Optional[float] = None,
    ) -> None:
        if isinstance(dim, bool):  # x.var(False): the first argument is then ``unbiased``
            dim, unbiased = None, dim
        if input.dtype.is_complex or input.ndim == 0:
            d.refuse("of complex numbers or scalars is not described")
        lost = correction if correction is not None else (1 if unbiased is None or unbiased else 0)
        variance, mean = _moments(d, input, dim, lost, keepdim)
        d.give(d.node("Sqrt", variance) if root else variance)
        if with_mean:
            d.give(mean)

    return describe


TABLE.update({"var": _variance(False, False), "std": _variance(True, False)})
TABLE.update({"var_mean": _variance(False, True), "std_mean": _variance(True, True)})


@describes("norm", "vector_norm")
def norm(
    d: Draft,
    input: Ref,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    dtype: Optional[torch.dtype] = None,
) -> None:
    """The p-norm of all elements, or over axes."""
    if p == "nuc" or input.dtype.is_complex or input.ndim == 0:
        d.refuse(f"with p={p!r} is not described for this input")
    x = d.operand(input, "x", d.out.dtype)
    d.give(norm_of(d, x, p, axes(dim, input.ndim), keepdim, d.out.dtype))


@describes("linalg.norm", "linalg.vector_norm")
def linalg_norm(
    d: Draft, input: Ref, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> None:
    """Vector norms; a matrix norm only where it is the one of all elements."""
    norm_order = 2 if ord is None else ord
    matrix = ord is not None and (
        isinstance(dim, (list, tuple)) and len(dim) == 2 or dim is None and input.ndim == 2
    )
    if matrix and ord != "fro":
        d.refuse(f"with ord={ord!r} of a matrix is not described")
    norm(d, input, norm_order, dim, keepdim)


@describes("cumsum")
def cumsum(d: Draft, input: Ref, dim: int, *, dtype: Optional[torch.dtype] = None) -> None:
    """Sums so far along an axis."""
    if input.ndim == 0:
        d.refuse("of a scalar is not described")
    x = d.operand(input, "x", d.out.dtype)
    d.give(d.node("CumSum", x, d.integers(axis(dim, input.ndim), "axis"), exclusive=0, reverse=0))


@describes("topk")
def topk(d: Draft, input: Ref, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> None:
    """The largest or smallest elements and where they are."""
    if input.ndim == 0:
        d.refuse("of a scalar is not described")
    count = d.integers([k], "k")
    place = axis(dim, input.ndim)
    for name in d.nodes(
        2, "TopK", d.port(input), count, axis=place, largest=int(largest), sorted=int(sorted)
    ):
        d.give(name)


def _quantifier(op_type: str) -> Callable[..., None]:
    def describe(d: Draft, input: Ref, dim: Any = None, keepdim: bool = False) -> None:
        as_number = d.cast(d.operand(input, "x", torch.bool), torch.bool, torch.int32)
        d.give_as(_reduced(d, op_type, as_number, input, dim, keepdim), torch.int32)

    return describe


TABLE.update({"all": _quantifier("ReduceMin"), "any": _quantifier("ReduceMax")})

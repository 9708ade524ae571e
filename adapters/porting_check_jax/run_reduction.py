"""Reductions, cumulative sums, the place of the extreme, and sorting."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Tuple

import jax
import jax.numpy as jnp
from jax import lax

from porting_check.neutral.geometry import product
from porting_check_jax.run_call import Call, Handler, Ragged, Result, is_floating

Reduce = Callable[[Any, Tuple[int, ...], bool], Any]


def _extreme(function: Callable[..., Any], sign: int) -> Reduce:
    """Maximum or minimum; over nothing it is what never wins."""

    def reduce(x: jax.Array, axes: Tuple[int, ...], keep: bool) -> jax.Array:
        if x.size:
            return function(x, axis=axes, keepdims=keep)
        worst: Any = -sign * math.inf if is_floating(x) else _integer_worst(x, sign)
        return function(x, axis=axes, keepdims=keep, initial=worst)

    return reduce


def _integer_worst(x: jax.Array, sign: int) -> int:
    """The integer that never wins a maximum (sign 1) or a minimum (sign -1)."""
    if x.dtype == bool:
        return int(sign < 0)
    return int(jnp.iinfo(x.dtype).min if sign > 0 else jnp.iinfo(x.dtype).max)


def _sum(x: jax.Array, axes: Tuple[int, ...], keep: bool) -> jax.Array:
    """A sum in the type of its argument."""
    return jnp.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _mean(x: jax.Array, axes: Tuple[int, ...], keep: bool) -> jax.Array:
    """A mean; integers round toward zero, as a quotient of sums."""
    if is_floating(x):
        return jnp.mean(x, axis=axes, keepdims=keep, dtype=x.dtype)
    total = _sum(x, axes, keep)
    count = max(1, product([x.shape[axis] for axis in axes]))
    return lax.div(total, jnp.full_like(total, count))


def _product(x: jax.Array, axes: Tuple[int, ...], keep: bool) -> jax.Array:
    """A product in the type of its argument."""
    return jnp.prod(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _euclid(x: jax.Array, axes: Tuple[int, ...], keep: bool) -> jax.Array:
    """The 2-norm; narrow floats through float32, integers through float64."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32) if is_floating(x) else jnp.float64)
    return jnp.sqrt(_sum(wide * wide, axes, keep)).astype(x.dtype)


def _through_float(function: Reduce) -> Reduce:
    """Logarithms of integers go through float64 and back."""

    def reduce(x: jax.Array, axes: Tuple[int, ...], keep: bool) -> jax.Array:
        if is_floating(x):
            return function(x, axes, keep)
        return function(x.astype(jnp.float64), axes, keep).astype(x.dtype)

    return reduce


REDUCTIONS: Dict[str, Reduce] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": _extreme(jnp.max, 1),
    "ReduceMin": _extreme(jnp.min, -1),
    "ReduceL1": lambda x, axes, keep: _sum(jnp.abs(x), axes, keep),
    "ReduceL2": _euclid,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": _through_float(lambda x, axes, keep: jnp.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _through_float(
        lambda x, axes, keep: jax.scipy.special.logsumexp(x, axis=axes, keepdims=keep)
    ),
}


def _reduction(reduce: Reduce) -> Handler:
    """A handler: no axes means all of them, or none with ``noop_with_empty_axes``."""

    def run(call: Call) -> Result:
        axes: Optional[List[int]] = call.axes()
        if not axes and call.get("noop_with_empty_axes", 0):
            return reduce(call.x[..., None], (call.x.ndim,), False)
        axes = axes or list(range(call.x.ndim))
        if not axes:
            return reduce(call.x[None], (0,), False)
        return reduce(call.x, tuple(axes), bool(call.get("keepdims", 1)))

    return run


def _place(function: Callable[..., Any]) -> Handler:
    """ArgMax and ArgMin: the first such place, or the last with ``select_last_index``."""

    def run(call: Call) -> Result:
        axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
        if not call.get("select_last_index", 0):
            return function(call.x, axis=axis, keepdims=keep).astype(jnp.int64)
        last = function(jnp.flip(call.x, axis), axis=axis, keepdims=keep)
        return (call.x.shape[axis] - 1 - last).astype(jnp.int64)

    return run


def top(call: Call) -> Result:
    """ONNX TopK by a stable sort: of equals, the lower index comes first."""
    axis, k = call.get("axis", -1), call.integer(1, 0)
    order = jnp.argsort(call.x, axis=axis, stable=True, descending=bool(call.get("largest", 1)))
    if k > call.x.shape[axis]:
        raise ValueError(f"k is {k}, axis {axis} of {call.x.shape} has fewer places")
    indices = lax.slice_in_dim(order, 0, k, axis=axis).astype(jnp.int64)
    return jnp.take_along_axis(call.x, indices, axis=axis), indices


def _cumulative(function: Callable[..., Any], neutral: int) -> Handler:
    """CumSum and CumProd, with ONNX's ``exclusive`` and ``reverse``."""

    def run(call: Call) -> Result:
        x, axis = call.x, call.integer(1, 0) % call.x.ndim
        x = jnp.flip(x, axis) if call.get("reverse", 0) else x
        result = function(x, axis=axis, dtype=x.dtype)
        if call.get("exclusive", 0):
            moved = [(1, -1, 0) if at == axis else (0, 0, 0) for at in range(x.ndim)]
            result = lax.pad(result, jnp.asarray(neutral, x.dtype), moved)
        return jnp.flip(result, axis) if call.get("reverse", 0) else result

    return run


def unique(call: Call) -> Result:
    """ONNX Unique: values (sorted, or by first appearance), first places, places back, counts."""
    axis = call.get("axis")
    x = call.x.reshape(-1) if axis is None else call.x
    dim = 0 if axis is None else axis % x.ndim
    if not x.size:
        nothing = jnp.zeros((0,), jnp.int64)
        return x, nothing, nothing, nothing
    values, first, inverse, counts = jnp.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=dim, size=x.shape[dim]
    )
    inverse, found = inverse.reshape(-1), jnp.sum(counts > 0)
    if not call.get("sorted", 1):
        order = jnp.argsort(jnp.where(counts > 0, first, x.shape[dim]))
        values, first, counts = jnp.take(values, order, axis=dim), first[order], counts[order]
        inverse = jnp.argsort(order)[inverse]
    first, inverse, counts = (places.astype(jnp.int64) for places in (first, inverse, counts))
    return Ragged(values, found, dim), Ragged(first, found), inverse, Ragged(counts, found)


OPERATORS: Dict[str, Handler] = {
    "ArgMax": _place(jnp.argmax),
    "ArgMin": _place(jnp.argmin),
    "TopK": top,
    "CumSum": _cumulative(jnp.cumsum, 0),
    "CumProd": _cumulative(jnp.cumprod, 1),
    "Unique": unique,
}
OPERATORS.update({name: _reduction(reduce) for name, reduce in REDUCTIONS.items()})

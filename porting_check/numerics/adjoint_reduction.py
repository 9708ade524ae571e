"""Gradients of reductions along axes, cumulative sums and selections."""

from __future__ import annotations

import numpy as np

from porting_check.numerics.adjoint import Call, Sum, adjoint
from porting_check.numerics.operators.registry import Array, integers, normalized_axis, optional
from porting_check.numerics.roundoff_units import ELEMENTWISE


def axes_of(call: Call) -> tuple[int, ...]:
    """The axes that a reduction goes over, as :mod:`porting_check.numerics.operators.reduction` reads them."""
    x, given = call.given(0), optional(call.inputs, 1)
    chosen = integers(given if given is not None else call.node.attributes.get("axes"), ())
    if not chosen and call.node.attributes.get("noop_with_empty_axes", 0):
        return ()
    return tuple(normalized_axis(a, x.ndim) for a in chosen) or tuple(range(x.ndim))


def kept(call: Call, array: Array) -> Array:
    """A reduced tensor with its axes kept at size one."""
    x, axes = call.given(0), axes_of(call)
    return array.reshape([1 if a in axes else n for a, n in enumerate(x.shape)])


def _spread(call: Call) -> Array:
    return np.broadcast_to(kept(call, call.g), call.given(0).shape)


def _count(call: Call) -> float:
    return call.given(0).size / max(call.outputs[0].size, 1)


@adjoint("ReduceSum")
def total(call: Call) -> dict[int, Sum]:
    """Every element gets the gradient of its sum."""
    return {0: Sum(_spread(call).copy())}


@adjoint("ReduceMean")
def mean(call: Call) -> dict[int, Sum]:
    """Every element gets its share."""
    return {0: Sum(_spread(call) / max(_count(call), 1.0))}


@adjoint("ReduceL1")
def l1(call: Call) -> dict[int, Sum]:
    """The sign of each element."""
    x = call.given(0)
    return {0: Sum(_spread(call) * (np.abs(np.sign(x)) if call.absolute else np.sign(x)))}


@adjoint("ReduceL2", units=ELEMENTWISE)
def l2(call: Call) -> dict[int, Sum]:
    """``x / y``."""
    return {0: Sum(_spread(call) * call.operand(0) / kept(call, call.outputs[0]), _count(call))}


@adjoint("ReduceSumSquare", units=2.0)
def squares(call: Call) -> dict[int, Sum]:
    """``2 x``."""
    return {0: Sum(_spread(call) * 2 * call.operand(0))}


@adjoint("ReduceLogSum", units=ELEMENTWISE)
def log_sum(call: Call) -> dict[int, Sum]:
    """``1 / sum``."""
    size = np.exp(kept(call, call.outputs[0]))
    return {0: Sum(_spread(call) / size, _count(call))}


@adjoint("ReduceLogSumExp", units=ELEMENTWISE)
def log_sum_exp(call: Call) -> dict[int, Sum]:
    """Softmax; the bound counts what the exponential loses."""
    x = call.given(0)
    y = np.exp(x - kept(call, call.outputs[0]))
    if call.absolute:
        y = y * (1 + np.abs(x - x.max(axis=axes_of(call) or None, keepdims=bool(axes_of(call)))))
    return {0: Sum(_spread(call) * y, _count(call))}


@adjoint("ReduceMax", "ReduceMin")
def extreme(call: Call) -> dict[int, Sum]:
    """To the elements that are the extreme value, in equal parts; ties are kinks."""
    best = call.given(0) == kept(call, call.outputs[0])
    ties = best.sum(axis=axes_of(call), keepdims=True) if axes_of(call) else np.ones_like(best, int)
    return {0: Sum(np.where(best, _spread(call), 0.0) / np.maximum(ties, 1))}


@adjoint("CumSum")
def cumulative(call: Call) -> dict[int, Sum]:
    """The sum from the other end."""
    x, g, attributes = call.given(0), call.g, call.node.attributes
    axis = normalized_axis(int(np.asarray(call.given(1)).reshape(-1)[0]), x.ndim)
    backwards = bool(attributes.get("reverse", 0))
    flipped = g if backwards else np.flip(g, axis)
    summed = np.cumsum(flipped, axis=axis)
    if attributes.get("exclusive", 0):
        summed = summed - flipped
    return {0: Sum(summed if backwards else np.flip(summed, axis), x.shape[axis])}


@adjoint("TopK")
def largest(call: Call) -> dict[int, Sum]:
    """To the elements that were chosen, by the second output."""
    x, places = call.given(0), call.outputs[1]
    axis = normalized_axis(int(call.node.attributes.get("axis", -1)), x.ndim)
    made = np.zeros(x.shape)
    np.put_along_axis(
        made, places.astype(np.int64), call.cotangents[0] if call.cotangents[0] is not None else 0.0, axis
    )
    return {0: Sum(made)}

"""Reductions along axes, arg-reductions, cumulative sum and the k largest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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

Reduce = Callable[[Array, tuple[int, ...], bool], Array]


def _reduction(
    attributes: Attributes, inputs: Inputs, reduce: Reduce, alone: Callable[[Array], Array]
) -> Outputs:
    """Axes come as input 1 (opset 18 and later) or as the older attribute; none given means all axes.

    ``alone`` is what happens to each value when there are no axes and ``noop_with_empty_axes`` is set. The
    standard calls that a no-op, but the composed reductions still apply their elementwise part.
    """
    x, axes = required(inputs, 0, "data"), optional(inputs, 1)
    chosen = integers(axes if axes is not None else attributes.get("axes"), ())
    keep = bool(attributes.get("keepdims", 1))
    if not chosen:
        if attributes.get("noop_with_empty_axes", 0):
            return (alone(x),)
        chosen = tuple(range(x.ndim))
    return (np.asarray(reduce(x, tuple(normalized_axis(axis, x.ndim) for axis in chosen), keep), x.dtype),)


def _same(x: Array) -> Array:
    return x


@operator("ReduceSum")
def reduce_sum(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Sum."""
    return _reduction(
        attributes, inputs, lambda x, axis, keep: x.sum(axis=axis, keepdims=keep, dtype=x.dtype), _same
    )


@operator("ReduceMean")
def reduce_mean(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Arithmetic mean."""
    return _reduction(attributes, inputs, lambda x, axis, keep: x.mean(axis=axis, keepdims=keep), _same)


@operator("ReduceProd")
def reduce_prod(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Product."""
    return _reduction(
        attributes, inputs, lambda x, axis, keep: x.prod(axis=axis, keepdims=keep, dtype=x.dtype), _same
    )


@operator("ReduceMax")
def reduce_max(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Maximum; of nothing: minus infinity, or the lowest integer. NaN wins."""

    def reduce(x: Array, axis: tuple[int, ...], keep: bool) -> Array:
        return np.asarray(x.max(axis=axis, keepdims=keep, initial=_limit(x, lowest=True)))

    return _reduction(attributes, inputs, reduce, _same)


@operator("ReduceMin")
def reduce_min(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Minimum; of nothing: plus infinity, or the highest integer. NaN wins."""

    def reduce(x: Array, axis: tuple[int, ...], keep: bool) -> Array:
        return np.asarray(x.min(axis=axis, keepdims=keep, initial=_limit(x, lowest=False)))

    return _reduction(attributes, inputs, reduce, _same)


def _limit(x: Array, lowest: bool) -> float:
    """The neutral value of a maximum (lowest) or minimum in the array's dtype."""
    if x.dtype.kind == "b":
        return not lowest
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        return int(info.min if lowest else info.max)
    return -np.inf if lowest else np.inf


@operator("ReduceL1")
def reduce_l1(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Sum of absolute values."""
    return _reduction(
        attributes, inputs, lambda x, axis, keep: np.abs(x).sum(axis=axis, keepdims=keep), np.abs
    )


@operator("ReduceL2")
def reduce_l2(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Square root of the sum of squares."""

    def reduce(x: Array, axis: tuple[int, ...], keep: bool) -> Array:
        return np.asarray(np.sqrt(np.square(x).sum(axis=axis, keepdims=keep)))

    return _reduction(attributes, inputs, reduce, np.abs)


@operator("ReduceSumSquare")
def reduce_sum_square(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Sum of squares."""
    return _reduction(
        attributes, inputs, lambda x, axis, keep: np.square(x).sum(axis=axis, keepdims=keep), np.square
    )


@operator("ReduceLogSum")
def reduce_log_sum(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Logarithm of the sum."""
    return _reduction(
        attributes, inputs, lambda x, axis, keep: np.log(x.sum(axis=axis, keepdims=keep)), np.log
    )


@operator("ReduceLogSumExp")
def reduce_log_sum_exp(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Logarithm of the sum of exponentials, shifted by the maximum so that nothing overflows."""

    def reduce(x: Array, axis: tuple[int, ...], keep: bool) -> Array:
        highest = x.max(axis=axis, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(highest), highest, 0).astype(x.dtype)
        total = np.exp(x - shift).sum(axis=axis, keepdims=keep)
        return np.asarray(np.log(total) + (shift if keep else shift.squeeze(axis)))

    return _reduction(attributes, inputs, reduce, _same)


def _argument(attributes: Attributes, x: Array, pick: Callable[..., Array]) -> Outputs:
    """ArgMax and ArgMin: the first or the last place of the extreme value."""
    axis = normalized_axis(int(attributes.get("axis", 0)), x.ndim)
    if attributes.get("select_last_index", 0):
        index = x.shape[axis] - 1 - pick(np.flip(x, axis), axis=axis)
    else:
        index = pick(x, axis=axis)
    index = np.asarray(index, np.int64)
    return (np.expand_dims(index, axis) if attributes.get("keepdims", 1) else index,)


@operator("ArgMax")
def arg_max(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Index of the maximum along an axis."""
    return _argument(attributes, required(inputs, 0, "data"), np.argmax)


@operator("ArgMin")
def arg_min(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Index of the minimum along an axis."""
    return _argument(attributes, required(inputs, 0, "data"), np.argmin)


@operator("TopK")
def top_k(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The k largest (or smallest) values along an axis, sorted, and their indices; ties by lower index."""
    x, k = required(inputs, 0, "X"), integers(required(inputs, 1, "K"))[0]
    axis = normalized_axis(int(attributes.get("axis", -1)), x.ndim)
    if attributes.get("largest", 1):
        # A stable descending order: sort the reversed axis ascending, and reverse the outcome.
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    index = np.take(order, np.arange(k), axis=axis)
    return (np.take_along_axis(x, index, axis), index.astype(np.int64))


@operator("CumSum")
def cumsum(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Running sum along an axis, optionally ``exclusive`` of the own value or in ``reverse``."""
    x = required(inputs, 0, "x")
    axis = normalized_axis(integers(required(inputs, 1, "axis"))[0], x.ndim)
    if attributes.get("reverse", 0):
        x = np.flip(x, axis)
    y = np.cumsum(x, axis=axis, dtype=x.dtype)
    if attributes.get("exclusive", 0):
        lead = (slice(None),) * axis
        y = np.concatenate([np.zeros_like(y[(*lead, slice(0, 1))]), y[(*lead, slice(0, -1))]], axis)
    return (np.ascontiguousarray(np.flip(y, axis)) if attributes.get("reverse", 0) else y,)

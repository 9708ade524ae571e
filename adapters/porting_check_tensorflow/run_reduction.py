"""Reductions, cumulative sums, the place of the extreme, and sorting."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import Call, Handler, Result, like, rank, sizes

Reduce = Callable[[tf.Tensor, List[int], bool], tf.Tensor]


def _mean(x: tf.Tensor, axes: List[int], keep: bool) -> tf.Tensor:
    """A mean; integers round toward zero, as a quotient of sums."""
    if x.dtype.is_floating:
        return tf.reduce_mean(x, axes, keep)
    total, count = tf.reduce_sum(x, axes, keep), 1
    for axis in axes:
        count *= sizes(x)[axis]
    return tf.truncatediv(total, like(count, total))


def _euclid(x: tf.Tensor, axes: List[int], keep: bool) -> tf.Tensor:
    """The 2-norm."""
    return tf.sqrt(tf.reduce_sum(x * x, axes, keep))


def _through_float(function: Reduce) -> Reduce:
    """Roots and logarithms of integers go through float64 and back."""

    def reduce(x: tf.Tensor, axes: List[int], keep: bool) -> tf.Tensor:
        if x.dtype.is_floating:
            return function(x, axes, keep)
        return tf.cast(function(tf.cast(x, tf.float64), axes, keep), x.dtype)

    return reduce


def _extreme(function: Reduce, logical: Reduce) -> Reduce:
    """Maximum or minimum; of booleans, whether any or all hold."""
    return lambda x, axes, keep: (logical if x.dtype == tf.bool else function)(x, axes, keep)


REDUCTIONS: Dict[str, Reduce] = {
    "ReduceSum": tf.reduce_sum,
    "ReduceMean": _mean,
    "ReduceProd": tf.reduce_prod,
    "ReduceMax": _extreme(tf.reduce_max, tf.reduce_any),
    "ReduceMin": _extreme(tf.reduce_min, tf.reduce_all),
    "ReduceL1": lambda x, axes, keep: tf.reduce_sum(tf.abs(x), axes, keep),
    "ReduceL2": _through_float(_euclid),
    "ReduceSumSquare": lambda x, axes, keep: tf.reduce_sum(x * x, axes, keep),
    "ReduceLogSum": _through_float(lambda x, axes, keep: tf.math.log(tf.reduce_sum(x, axes, keep))),
    "ReduceLogSumExp": _through_float(tf.reduce_logsumexp),
}


def _reduction(reduce: Reduce) -> Handler:
    """A handler: no axes means all of them, or none with ``noop_with_empty_axes``."""

    def run(call: Call) -> Result:
        axes: Optional[List[int]] = call.axes()
        if not axes and not call.get("noop_with_empty_axes", 0):
            axes = list(range(rank(call.x)))
        return reduce(call.x, axes or [], bool(call.get("keepdims", 1)))

    return run


def _place(function: Callable[..., tf.Tensor]) -> Handler:
    """ArgMax and ArgMin: the first such place, or the last with ``select_last_index``."""

    def run(call: Call) -> Result:
        axis = call.get("axis", 0) % rank(call.x)
        last = bool(call.get("select_last_index", 0))
        place = function(tf.reverse(call.x, [axis]) if last else call.x, axis=axis)
        place = sizes(call.x)[axis] - 1 - place if last else place
        return tf.expand_dims(place, axis) if call.get("keepdims", 1) else place

    return run


def top(call: Call) -> Result:
    """ONNX TopK by a stable sort: of equals, the lower index comes first."""
    axis, k = call.get("axis", -1), call.integer(1, 0)
    direction = "DESCENDING" if call.get("largest", 1) else "ASCENDING"
    order = tf.argsort(call.x, axis=axis, direction=direction, stable=True)
    order = tf.gather(order, tf.range(k), axis=axis)
    moved = axis % rank(call.x)
    perm = [at for at in range(rank(call.x)) if at != moved] + [moved]
    values = tf.gather(
        tf.transpose(call.x, perm), tf.transpose(order, perm), axis=-1, batch_dims=rank(call.x) - 1
    )
    back = [perm.index(at) for at in range(rank(call.x))]
    return tf.transpose(values, back), tf.cast(order, tf.int64)


def _cumulative(function: Callable[..., tf.Tensor]) -> Handler:
    """CumSum and CumProd, with ONNX's ``exclusive`` and ``reverse``."""

    def run(call: Call) -> Result:
        exclusive, reverse = bool(call.get("exclusive", 0)), bool(call.get("reverse", 0))
        return function(call.x, call.integer(1, 0), exclusive, reverse)

    return run


def _lexical_order(rows: tf.Tensor) -> tf.Tensor:
    """The order that sorts the rows of a matrix, first column first."""
    order = tf.range(sizes(rows)[0])
    for column in reversed(range(sizes(rows)[1])):
        keys = tf.gather(rows[:, column], order)
        order = tf.gather(order, tf.argsort(keys, stable=True))
    return order


def unique(call: Call) -> Result:
    """ONNX Unique: values (sorted, or by first appearance), first places, places back, counts."""
    axis = call.get("axis")
    x = tf.reshape(call.x, [-1]) if axis is None else call.x
    dim = 0 if axis is None else axis % rank(x)
    found = tf.raw_ops.UniqueWithCountsV2(x=x, axis=tf.constant([dim]), out_idx=tf.int64)
    values, inverse, counts = found.y, found.idx, found.count
    count = sizes(counts)[0]
    first = tf.math.unsorted_segment_min(tf.range(sizes(x)[dim], dtype=tf.int64), inverse, count)
    if call.get("sorted", 1):
        rows = tf.reshape(
            tf.transpose(values, [dim, *[at for at in range(rank(x)) if at != dim]]), [count, -1]
        )
        order = _lexical_order(rows)
        values, first, counts = (
            tf.gather(values, order, axis=dim),
            tf.gather(first, order),
            tf.gather(counts, order),
        )
        inverse = tf.gather(tf.cast(tf.argsort(order), tf.int64), inverse)
    return values, first, inverse, counts


OPERATORS: Dict[str, Handler] = {
    "ArgMax": _place(tf.argmax),
    "ArgMin": _place(tf.argmin),
    "TopK": top,
    "CumSum": _cumulative(tf.cumsum),
    "CumProd": _cumulative(tf.math.cumprod),
    "Unique": unique,
}
OPERATORS.update({name: _reduction(reduce) for name, reduce in REDUCTIONS.items()})

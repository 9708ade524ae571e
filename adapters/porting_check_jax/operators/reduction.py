"""Primitives that reduce, accumulate or order along axes."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.table import Describer, describes, real

REDUCE = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


def _reduction(op_type: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        real(d, *args)
        over = [int(axis) for axis in params["axes"]]
        x = d.port(args[0])
        d.give(d.node(op_type, x, d.integers(over), keepdims=0) if over else x)

    return describe


for _name, _op_type in REDUCE.items():
    describes(_name)(_reduction(_op_type))


def _logical(op_type: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        if args[0].dtype.kind != "b":
            d.refuse("of integers is not described")
        over = [int(axis) for axis in params["axes"]]
        counted = d.cast(d.port(args[0]), args[0].dtype, INT32)
        found = d.node(op_type, counted, d.integers(over), keepdims=0) if over else counted
        d.give_as(found, INT32)

    return describe


describes("reduce_and")(_logical("ReduceMin"))
describes("reduce_or")(_logical("ReduceMax"))


def _position(op_type: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        real(d, *args)
        (axis,) = (int(axis) for axis in params["axes"])
        place = d.node(op_type, d.port(args[0]), axis=axis, keepdims=0, select_last_index=0)
        d.give_as(place, INT64)

    return describe


describes("argmax")(_position("ArgMax"))
describes("argmin")(_position("ArgMin"))


@describes("cumsum")
def cumsum(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Sums so far."""
    real(d, *args)
    axis = d.integers(int(params["axis"]), "axis")
    d.give(
        d.node("CumSum", d.port(args[0]), axis, exclusive=0, reverse=int(bool(params.get("reverse", False))))
    )


@describes("cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Products, extremes so far: ONNX has sums only, so each prefix is laid out and reduced."""
    d.refuse("has no counterpart in ONNX: it is not described")


@describes("sort")
def sort(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """By the first operand; further operands go along (an argsort)."""
    keys = int(params.get("num_keys", 1))
    if keys != 1 or len(args) > 2:
        d.refuse(f"of {len(args)} operands by {keys} keys is not described")
    real(d, *args)
    axis = int(params["dimension"])
    size = d.integers([args[0].shape[axis]], "k")
    values, indices = d.nodes(2, "TopK", d.port(args[0]), size, axis=axis, largest=0, sorted=1)
    d.give(values)
    if len(args) == 2:
        d.give(d.node("GatherElements", d.operand(args[1], "other"), indices, axis=axis))


@describes("top_k")
def top_k(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """The largest, in order, and where they were."""
    axis = int(params.get("axis", -1)) % args[0].ndim
    values, indices = d.nodes(
        2, "TopK", d.port(args[0]), d.integers([int(params["k"])], "k"), axis=axis, largest=1, sorted=1
    )
    d.give(values)
    d.give_as(indices, INT64)

"""Reductions over axes, positions of extremes, running sums, and the largest k."""

from __future__ import annotations

from porting_check_tensorflow.operators.call import ONNX_TYPES, Call, describes

REDUCTIONS = {
    "Mean": "ReduceMean",
    "Sum": "ReduceSum",
    "Prod": "ReduceProd",
    "Max": "ReduceMax",
    "Min": "ReduceMin",
    "All": "ReduceMin",
    "Any": "ReduceMax",
    "EuclideanNorm": "ReduceL2",
}
"""TensorFlow's name and ONNX's; over booleans the minimum is "all" and the maximum "any"."""


@describes(*REDUCTIONS)
def reduction(call: Call) -> None:
    """One reduction; no axes at all means that nothing is reduced, which ONNX must be told."""
    x, rank = call.port(0), call.rank()
    axes = sorted(axis % max(rank, 1) for axis in call.seen(1))
    if not axes or rank == 0:
        call.give(call.node("Abs", x) if call.op_type == "EuclideanNorm" else call.node("Identity", x))
        return
    keep = int(call.flag("keep_dims"))
    named = call.constant(axes, "axes")
    call.give(call.node(REDUCTIONS[call.op_type], x, named, keepdims=keep))


@describes("ArgMax", "ArgMin")
def position(call: Call) -> None:
    """The first position of the extreme along one axis."""
    axis = call.axis(1, call.rank())
    value = call.node(call.op_type, call.port(0), axis=axis, keepdims=0, select_last_index=0)
    call.give(_as_output(call, value, 0))


def _as_output(call: Call, value: str, index: int) -> str:
    """ONNX counts positions in int64; cast where TensorFlow's output is narrower."""
    dtype = call.outputs[index].dtype
    return value if dtype == "int64" else call.node("Cast", value, to=ONNX_TYPES[dtype])


@describes("Cumsum")
def running_sum(call: Call) -> None:
    """``CumSum`` along one axis."""
    axis = call.constant(call.axis(1, call.rank()), "axis")
    exclusive, reverse = int(call.flag("exclusive")), int(call.flag("reverse"))
    call.give(call.node("CumSum", call.port(0), axis, exclusive=exclusive, reverse=reverse))


@describes("TopKV2")
def largest(call: Call) -> None:
    """The k largest of the last axis; equal values in the order of their positions."""
    k = call.constant([call.seen(1)[0]], "k")
    values, indices = call.split("TopK", 2, call.port(0), k, axis=-1, largest=1, sorted=1)
    call.give(values, 0)
    call.give(_as_output(call, indices, 1), 1)

"""Reductions, whose axes were an attribute until opset 18 (ReduceSum: 13)."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from porting_check_onnxruntime.draft import Draft

REDUCTIONS = "Max Min Mean Prod Sum L1 L2 LogSum LogSumExp SumSquare".split()


def reduction(d: Draft) -> None:
    """Axes as a constant, none for all of them; ``noop_with_empty_axes`` is resolved."""
    axes = _axes(d)
    if axes is None and d.get("noop_with_empty_axes", 0):
        if d.op_type in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            d.give(d.node("Identity", d.port(0)))
            return
        axes, d.attributes["keepdims"] = [], 1
    rank = d.input(0).rank
    wanted = sorted(axis % rank for axis in (range(rank) if axes is None else axes)) if rank else []
    noop = int(axes is not None and not wanted)
    inputs = [d.port(0), d.integers(wanted)]
    d.give(d.node(d.op_type, *inputs, keepdims=int(d.get("keepdims", 1)), noop_with_empty_axes=noop))


def _axes(d: Draft) -> Optional[List[int]]:
    given: Any = d.value(1, "axes") if d.has(1) else d.get("axes")
    return None if given is None or not len(given) else [int(axis) for axis in given]


def top_k(d: Draft) -> None:
    """``k`` was an attribute until opset 10; the smallest, or unsorted ones, came with 11."""
    count = d.port(1, "k") if d.has(1) else d.integers([d.get("k")], "k")
    attributes = {"axis": int(d.get("axis", -1)), "largest": int(d.get("largest", 1))}
    results = d.nodes(2, "TopK", d.port(0), count, sorted=int(d.get("sorted", 1)), **attributes)
    d.give(results[0])
    d.give(results[1], index=1)


OPERATORS: Dict[str, Callable[[Draft], None]] = {f"Reduce{name}": reduction for name in REDUCTIONS}
OPERATORS["TopK"] = top_k

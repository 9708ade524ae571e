"""The cells of a crosscheck: what a framework made of a layer, beside the truth and beside the other frameworks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np

from porting_check.environments.workers import Ran
from porting_check.neutral.graph import Graph
from porting_check.numerics.excess import settled_outputs
from porting_check.numerics.own import ratio
from porting_check.numerics.stepwise import StepTruth
from porting_check.report.crosstable import Cell, End, Layer

Array = np.ndarray


def judged(graph: Graph, truth: StepTruth, ran: Mapping[str, Ran]) -> Layer:
    """One row: every framework beside the truth, and beside each other."""
    made = {name: _made(truth, one) for name, one in ran.items()}
    cells = {name: _cell(truth, made[name], ran[name]) for name in ran}
    wrong = tuple(name for name, cell in cells.items() if cell.verdict == "divergent")
    found = [outputs for outputs in made.values() if outputs is not None]
    united = bool(wrong) and len(found) > 1 and all(_close(a, b, truth) for a, b in combinations(found, 2))
    node = truth.step.node
    assert node is not None
    odd = () if united else wrong
    return Layer(_name(graph, truth), node.op_type, str(node), truth.outputs[0].shape, cells, odd, united)


def _name(graph: Graph, truth: StepTruth) -> str:
    """The record's name; a layer of several nodes says which."""
    record = graph.record_of(truth.step)
    if len(record.nodes) == 1:
        return record.id
    assert truth.step.node is not None
    place = record.nodes.index(truth.step.node) + 1
    return f"{record.id} [{place}/{len(record.nodes)}]"


def _made(truth: StepTruth, ran: Ran) -> list[Array] | None:
    """What a framework made of a layer; ``None`` when it refused it."""
    found = [ran.value(f"{truth.step.index}:{place}") for place in range(len(truth.outputs))]
    return (
        None if truth.step.index in ran.refused or found[0] is None else [x for x in found if x is not None]
    )


def _cell(truth: StepTruth, made: list[Array] | None, ran: Ran) -> Cell:
    if made is None:
        return Cell(
            "refused", float("nan"), float("nan"), ran.refused.get(truth.step.index, "it gave no output")
        )
    for found, wanted in zip(made, truth.outputs, strict=False):
        if found.shape != wanted.shape:
            return Cell(
                "divergent", float("inf"), float("inf"), f"shape {found.shape}, expected {wanted.shape}"
            )
    one = settled_outputs(truth.node, truth.inputs, made, truth.outputs, truth.bounds, unit=truth.unit)
    error = max(_largest(found, wanted) for found, wanted in zip(made, truth.outputs, strict=False))
    return Cell("identical" if one.verdict == "exact" else one.verdict, error, one.rounding.ratio, one.words)


def _largest(found: Array, wanted: Array) -> float:
    """Largest absolute error where both are finite; infinite where only one is."""
    with np.errstate(invalid="ignore"):
        kind = np.complex128 if wanted.dtype.kind == "c" else np.float64
        left, right = found.astype(kind), wanted.astype(kind)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        gap = np.abs(left - right)[~same]
    return float(gap.max(initial=0.0)) if np.isfinite(gap).all() else float("inf")


def _close(left: Iterable[Array], right: Iterable[Array], truth: StepTruth) -> bool:
    """Whether two frameworks differ by no more than round-off allows them both."""
    pairs = zip(left, right, truth.bounds, strict=False)
    return all(a.shape == b.shape and ratio(a, b.astype(np.float64), 2 * s.limit) <= 1 for a, b, s in pairs)


def end_of(path: str, truth: Array, name: str, ran: Ran) -> End:
    """An output of the whole network as one framework made it, beside the float64 one."""
    found = ran.value("end:" + path)
    if found is None:
        return End(path, name, None, None, ran.broken)
    if found.shape != truth.shape:
        return End(path, name, float("inf"), float("inf"), f"shape {found.shape}, expected {truth.shape}")
    error, scale = _largest(found, truth), float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0))
    return End(path, name, error, error / scale if scale else error)

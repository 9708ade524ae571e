"""The numbers of one point of a sweep: what theory expects of the error, and what each framework made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node
from porting_check.numerics.excess import settled_outputs
from porting_check.numerics.roundoff import LINEAR
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.rule import ANY_ORDER_MAX, ANY_ORDER_RMS, LAW, largest_deviate
from porting_check.numerics.spread import Bounds, bounds_of
from porting_check.numerics.truth import evaluate_node
from porting_check.report.sweep_result import Band, Gap, Measure

Array = np.ndarray
Made = Mapping[str, Sequence[Array] | str]
"""What each framework made of a node: its outputs, or why there are none."""

ABSOLUTE = 0.8
"""Mean of |v| over its root mean square, for errors that are spread normally: sqrt(2 / pi)."""


@dataclass(frozen=True, slots=True)
class Theory:
    """What is known of a node's error on given inputs; the arrays belong to its first output, element by element.

    ``chain`` is tau, the unit for sums taken term after term, and ``blocked`` the same for sums taken pairwise; both are
    ``None`` where the operator is no sum of products.
    """

    node: Node
    inputs: tuple[Array | None, ...]
    outputs: tuple[Array, ...]
    bounds: tuple[Bounds, ...]
    unit: float
    blocked: Array | None = None
    chain: Array | None = None

    @property
    def truth(self) -> Array:
        """The first output in float64."""
        return self.outputs[0]

    @property
    def terms(self) -> int | None:
        """How many terms one output sums up."""
        return int(self.bounds[0].terms) if self.chain is not None else None

    @property
    def band(self) -> Band:
        """The same as root mean squares."""
        limit = rms(self.bounds[0].limit)
        if self.chain is None or self.blocked is None:
            return Band(limit=limit)
        # The rule's any-order limit for the rms; the bound holds that for the largest of N.
        limit *= ANY_ORDER_RMS / (ANY_ORDER_MAX * largest_deviate(self.truth.size))
        return Band(low=LAW * rms(self.blocked), expected=LAW * rms(self.chain), limit=limit)


def theory(node: Node, inputs: Sequence[Array | None], *, float64: bool = False) -> Theory:
    """Evaluate a node in float64 and say what round-off may do to it.

    Args:
        node: the operator.
        inputs: what it reads, canonical layout; ``None`` where absent.
        float64: the error of an execution in float64, not float32.

    Raises:
        CannotEvaluate: nothing can evaluate the operator.
        ValueError: inputs that the operator does not accept.

    Example:
        >>> x, w = np.ones((2, 64)), np.ones((3, 64))
        >>> found = theory(Node("Gemm", ("x", "w"), attributes={"transB": 1}), [x, w])
        >>> found.terms, found.band.low < found.band.expected < found.band.limit
        (65, True)
    """
    return theory_of(node, inputs, evaluate_node(node, widened(inputs)), float64=float64)


def theory_of(
    node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], *, float64: bool = False
) -> Theory:
    """The same where the node's float64 outputs are known already."""
    unit = UNIT["float64" if float64 else "float32"]
    bounds = tuple(bounds_of(node, widened(inputs), [None] * len(inputs), outputs, unit))
    spread = bounds[0].spread
    if node.op_type not in LINEAR or spread is None or outputs[0].dtype.kind != "f":
        return Theory(node, tuple(inputs), tuple(outputs), bounds, unit)
    terms, chain = bounds[0].terms, np.broadcast_to(spread(True), outputs[0].shape)
    result = np.square(outputs[0])
    # tau^2 = u^2 (n (y^2 / 3 + q^2 / 6) + q^2 + y^2), solved for the sum of squares q^2
    squares = np.maximum(np.square(chain / unit) - result * (terms / 3 + 1), 0) / (terms / 6 + 1)
    blocked = np.minimum(_in_blocks(terms, squares, result, unit), chain)
    return Theory(node, tuple(inputs), tuple(outputs), bounds, unit, blocked, chain)


def _in_blocks(terms: float, squares: Array, result: Array, unit: float) -> Array:
    """The unit for sums taken pairwise, in a balanced tree, from the same model as tau.

    A node over ``m`` of ``n`` exchangeable terms holds a partial sum with ``E S^2 = (m/n)(1 - m/n) q^2 + (m/n)^2 y^2``.
    Summed over the n/m nodes of each of the log2(n) levels: ``(log2 n - 2 + 2/n) q^2 + (2 - 2/n) y^2``; products and the
    result are rounded as in tau.
    """
    levels = max(np.log2(terms) - 2 + 2 / terms, 0.0)
    return np.asarray(unit * np.sqrt((levels + 1) * squares + (3 - 2 / terms) * result))


def widened(inputs: Sequence[Array | None]) -> list[Array | None]:
    """Floating arrays in float64."""
    return [x.astype(np.float64) if x is not None and x.dtype.kind == "f" else x for x in inputs]


def measures(found: Theory, made: Made) -> tuple[dict[str, Measure], tuple[Gap, ...]]:
    """What each framework made of one point, and how far every two are apart."""
    outputs = {name: list(arrays) for name, arrays in made.items() if not isinstance(arrays, str)}
    cells = {
        name: _measure(found, outputs[name])
        if name in outputs
        else Measure(verdict="refused", reason=str(why))
        for name, why in made.items()
    }
    return cells, gaps({name: arrays[0] for name, arrays in outputs.items()}, found)


def _measure(found: Theory, outputs: Sequence[Array]) -> Measure:
    for array, truth in zip(outputs, found.outputs, strict=False):
        if array.shape != truth.shape:
            reason = f"shape {array.shape}, expected {truth.shape}"
            return Measure(
                verdict="divergent", max_abs=float("inf"), rms=float("inf"), ratio=float("inf"), reason=reason
            )
    one = settled_outputs(found.node, found.inputs, outputs, found.outputs, found.bounds, unit=found.unit)
    largest = max(largest_error(a, t) for a, t in zip(outputs, found.outputs, strict=False))
    return Measure(
        verdict="identical" if one.verdict == "exact" else one.verdict,
        max_abs=largest,
        rms=rms_error(outputs[0], found.truth),
        ratio=one.rounding.ratio,
        reason="" if one.good else one.words or one.rounding.condition,
    )


def gaps(outputs: Mapping[str, Array], found: Theory | None = None) -> tuple[Gap, ...]:
    """The differences of every two outputs of one shape, and the sums that are to be expected of them."""
    chain = None if found is None or found.chain is None else _sum_of_two(found.chain)
    blocked = None if found is None or found.blocked is None else _sum_of_two(found.blocked)
    return tuple(
        Gap(
            left=left,
            right=right,
            sum_abs=float(np.abs(_apart(outputs[left], outputs[right])).sum()),
            max_abs=largest_error(outputs[left], outputs[right]),
            predicted=chain,
            blocked=blocked,
        )
        for left, right in combinations(outputs, 2)
        if outputs[left].shape == outputs[right].shape
    )


def _sum_of_two(unit: Array) -> float:
    """Expected sum of absolute differences of two sides that err like this unit each."""
    return float(ABSOLUTE * LAW * np.sqrt(2) * unit.sum())


def chained_bands(graph: Graph, theories: Sequence[Theory], truths: Sequence[Array]) -> list[Band]:
    """What theory says of the error after each layer of a chain, when every layer passes on what it was given.

    Each layer's own error is drawn with the size that theory gives it, element by element, and carried through the float64
    evaluation of what follows: no assumption is made of how a layer passes errors on.

    Args:
        graph: one chain; every node reads what the one before it made.
        theories: of each node.
        truths: the float64 values of the chain after each node.
    """
    if any(theory.chain is None for theory in theories):
        return [Band() for _ in theories]
    lines: dict[str, list[float]] = {"blocked": [], "chain": []}
    for line, errors in lines.items():
        rng = np.random.default_rng(0)
        carried: Array | None = None
        for step, own, truth in zip(graph.steps, theories, truths, strict=True):
            inputs = [graph.array(operand.key) if operand.key else None for operand in step.inputs]
            if carried is not None:
                inputs[0] = carried
            carried = evaluate_node(own.node, inputs)[0]
            carried = carried + LAW * getattr(own, line) * rng.standard_normal(carried.shape)
            errors.append(rms_error(carried, truth))
    return [Band(low=low, expected=high) for low, high in zip(*lines.values(), strict=True)]


def _apart(left: Array, right: Array) -> Array:
    """The difference, 0 where both are the same, not-a-number and infinity included; infinite where one is no number."""
    kind = np.complex128 if "c" in (left.dtype.kind, right.dtype.kind) else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        one, two = left.astype(kind), right.astype(kind)
        gap = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0.0, one - two)
    return np.where(np.isnan(gap), np.inf, gap)


def largest_error(found: Array, wanted: Array) -> float:
    """Largest absolute difference; infinite where one side alone is not finite."""
    return float(np.abs(_apart(found, wanted)).max(initial=0.0))


def rms(array: Array) -> float:
    """Root mean square of what is finite; 0 for nothing."""
    kept = np.abs(array).astype(np.float64)
    kept = kept[np.isfinite(kept)]
    return float(np.sqrt(np.square(kept).mean())) if kept.size else 0.0


def rms_error(found: Array, wanted: Array) -> float:
    """Root mean square of a difference; infinite where one side alone is not finite.

    Example:
        >>> rms_error(np.array([1.0, 1.0, 1.0, np.nan]), np.array([5.0, 1.0, 1.0, np.nan]))
        2.0
    """
    gap = np.abs(_apart(found, wanted))
    return float(np.sqrt(np.square(gap).mean())) if gap.size else 0.0

"""Why an error is larger than the rule expects: what can be proven by computing again, in the order of its cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from porting_check.neutral.graph import MOVEMENT, Operand, Step
from porting_check.neutral.node import Node
from porting_check.numerics.normal import at_float32
from porting_check.numerics.one_pass import variance_in_one_pass
from porting_check.numerics.orders import plausible
from porting_check.numerics.own import SideTruth, judged
from porting_check.numerics.precision import (
    Recompute,
    rounded_operands,
    rounded_results,
    truncation,
)
from porting_check.numerics.products import sampled
from porting_check.numerics.program import Edits, to_canonical, to_double
from porting_check.numerics.roundoff import LINEAR
from porting_check.numerics.roundoff import terms as terms_of
from porting_check.numerics.roundoff_normalization import OPERATORS as VARIANCE
from porting_check.numerics.rule import Rounding
from porting_check.numerics.spread import Bounds
from porting_check.numerics.truth import evaluate_node
from porting_check.numerics.winograd import fast_algorithm

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Explanation:
    """What explains an error: ``round-off`` after all, or a proven ``low-precision``, and the words for it."""

    verdict: Literal["round-off", "low-precision"]
    words: str


@dataclass(frozen=True, slots=True)
class Excess:
    """An error that the rule does not take for round-off, with what is needed to compute again.

    Attributes:
        native, truth: recorded and in float64, of one layout.
        rounding: what the rule said.
        recompute: the truth with rounded operands.
        node, inputs: the only sum of products, with its operands in canonical layout, if there is only one and what follows
            it keeps its elements' places; ``None`` otherwise.
        canonical: turns an array like ``native`` into the layout of the node's output.
        unit: unit round-off of the native arithmetic.
    """

    native: Array
    truth: Array
    rounding: Rounding
    recompute: Recompute | None = None
    node: Node | None = None
    inputs: Sequence[Array | None] = ()
    canonical: Callable[[Array], Array] = np.asarray
    unit: float = 2.0**-24


def explained(excess: Excess) -> Explanation | None:
    """The first explanation that is proven, or ``None``.

    Example:
        >>> explained(Excess(native, truth, rounding, recompute))     # doctest: +SKIP
        Explanation(verdict='low-precision', words='both operands rounded to TF32 or float16')
    """
    if not np.isfinite(excess.native).all() or not np.isfinite(excess.truth).all():
        return None
    tries = (_summed, _narrow_results, _narrow, _truncated, _fast, _one_pass)
    return next((found for attempt in tries if (found := attempt(excess)) is not None), None)


def _summed(excess: Excess) -> Explanation | None:
    """A plausible order of summation has errors of this size: structured terms."""
    if excess.rounding.verdict != "undecided" or excess.node is None:
        return None
    error = excess.canonical(excess.native - excess.truth)
    products = sampled(excess.node, excess.inputs, error.shape, also=_largest(error))
    if products is None:
        return None
    # After an activation only the elements that it lets through still show the error of the sum.
    found = plausible(products, error[products.index], excess.unit)
    said = f"its terms are ordered (not exchangeable); added {found} they round off as much as this"
    return None if found is None else Explanation("round-off", said)


LARGEST = 64
"""So many of the largest errors are looked at besides a sample: a mistake may show in a few outputs only."""


def _largest(error: Array) -> Array:
    size = np.abs(error).reshape(-1)
    count = min(LARGEST, size.size)
    return np.argpartition(size, size.size - count)[size.size - count :]


def _narrow(excess: Excess) -> Explanation | None:
    if excess.recompute is None:
        return None
    rms = excess.rounding.rms or float("inf")
    found = rounded_operands(excess.native, excess.truth, excess.recompute, rms=rms)
    if found is None:
        return None
    left = f"computing again with them leaves {found.residual:.1%} of the error"
    return Explanation("low-precision", f"{found}: {left}")


def _narrow_results(excess: Excess) -> Explanation | None:
    found = rounded_results(excess.native, excess.truth)
    said = f"{found}: nearly all values lie on that grid, off by its round-off"
    return None if found is None else Explanation("low-precision", said)


def _truncated(excess: Excess) -> Explanation | None:
    if excess.node is None:
        return None
    count = terms_of(excess.node, excess.inputs, excess.canonical(excess.truth))
    found = truncation(excess.native - excess.truth, excess.truth, count, excess.unit)
    return None if found is None else Explanation("low-precision", str(found))


def _fast(excess: Excess) -> Explanation | None:
    if excess.node is None:
        return None
    error = excess.canonical(excess.native - excess.truth)
    truth = excess.canonical(excess.truth)
    found = fast_algorithm(excess.node, excess.inputs, error, truth)
    said = f"a fast algorithm: recomputing by {found} in float32 makes errors of this size"
    return None if found is None else Explanation("low-precision", said)


def _one_pass(excess: Excess) -> Explanation | None:
    """A variance computed as E[x^2] - E[x]^2 in float32 loses what the mean is larger than the deviation."""
    if excess.node is None or excess.node.op_type not in VARIANCE:
        return None
    error, truth = excess.canonical(excess.native - excess.truth), excess.canonical(excess.truth)
    if not variance_in_one_pass(excess.node, excess.inputs, error, truth, excess.unit):
        return None
    said = "its variance was computed in one pass (E[x²] - E[x]²), which loses digits where the mean is large"
    return Explanation("low-precision", said)


@dataclass(frozen=True, slots=True)
class Settled:
    """The verdict on one node's recorded output, with the rule's figures and, where there are any, the words for it."""

    verdict: Literal["exact", "round-off", "low-precision", "undecided", "divergent"]
    rounding: Rounding
    words: str = ""

    @property
    def good(self) -> bool:
        """Whether the output is the truth within round-off."""
        return self.verdict in ("exact", "round-off")


def settled(
    node: Node,
    inputs: Sequence[Array | None],
    native: Array,
    truth: Array,
    bounds: Bounds,
    *,
    unit: float = 2.0**-24,
) -> Settled:
    """Judge what a framework made of one node, and explain what is more than round-off.

    Args:
        node: the operator.
        inputs: what it was given, canonical layout, of any floating type.
        native: its output as the framework made it.
        truth: its output in float64.
        bounds: what round-off may do to it.
        unit: unit round-off of the native arithmetic.

    Example:
        >>> from porting_check.numerics.spread import bounds_of
        >>> x, w = np.random.default_rng(0).normal(size=(2, 8, 64)).astype(np.float32).astype(float)
        >>> node, truth = Node("Gemm", ("x", "w"), attributes={"transB": 1}), x @ w.T
        >>> bounds = bounds_of(node, [x, w], [None, None], [truth], 2.0**-24)[0]
        >>> settled(node, [x, w], truth.astype(np.float32), truth, bounds).verdict
        'round-off'
        >>> settled(node, [x, w], (truth * 1.01).astype(np.float32), truth, bounds).verdict
        'divergent'
    """
    rounding = judged(native, truth, bounds, channel=channel_of(node, truth.ndim), unit=unit)
    if rounding.verdict == "exact" or rounding.verdict == "round-off":
        return Settled(rounding.verdict, rounding)
    found = None
    if native.shape == truth.shape and native.dtype.kind in "fV":
        found = explained(_of_node(node, [_wide(x) for x in inputs], native, truth, rounding, unit))
    if found is not None:
        return Settled(found.verdict, rounding, found.words)
    return Settled("undecided" if rounding.verdict == "undecided" else "divergent", rounding, _said(rounding))


def settled_outputs(
    node: Node,
    inputs: Sequence[Array | None],
    natives: Sequence[Array],
    truths: Sequence[Array],
    bounds: Sequence[Bounds],
    *,
    unit: float = 2.0**-24,
) -> Settled:
    """:func:`settled` of the output of a node that is worst; ``exact`` when all are the truth, rounded.

    Args:
        node: the operator.
        inputs: what it was given.
        natives: its outputs as the framework made them, of the truths' shapes.
        truths: its outputs in float64.
        bounds: what round-off may do to each.
        unit: unit round-off of the native arithmetic.
    """
    each = [
        settled(node, inputs, native, truth, bound, unit=unit)
        for native, truth, bound in zip(natives, truths, bounds, strict=False)
    ]
    worst = max(each, key=lambda one: (_ORDER.index(one.verdict), one.rounding.ratio))
    rounded = all(
        np.array_equal(native, truth.astype(native.dtype), equal_nan=native.dtype.kind == "f")
        for native, truth in zip(natives, truths, strict=False)
    )
    return replace(worst, verdict="exact", words="") if rounded else worst


_ORDER = ("exact", "round-off", "low-precision", "undecided", "divergent")


def _said(rounding: Rounding) -> str:
    """Why an error is none of round-off, where nothing explains it."""
    if np.isinf(rounding.ratio):
        return rounding.condition
    if rounding.verdict == "undecided":
        return (
            f"{rounding.ratio:.2g} times what is usual ({rounding.condition}), {rounding.any_order:.2g} of the limit of any "
            "legal computation"
        )
    return f"{rounding.any_order:.2g} times the limit of round-off, and no narrower format explains it"


def _wide(array: Array | None) -> Array | None:
    return None if array is None else to_double(array)


def _of_node(
    node: Node,
    inputs: Sequence[Array | None],
    native: Array,
    truth: Array,
    rounding: Rounding,
    unit: float,
) -> Excess:
    def recompute(rounded: Callable[[Array, int], Array]) -> Array:
        operands = [rounded(x, i) if x is not None and i < 2 else x for i, x in enumerate(inputs)]
        return evaluate_node(node, operands)[0]

    linear = node.op_type in LINEAR
    core = node if linear or node.op_type in VARIANCE else None
    return Excess(to_double(native), truth, rounding, recompute if linear else None, core, inputs, unit=unit)


def channel_of(node: Node, rank: int) -> int | None:
    """The axis of the channels of a node's output, canonical layout, where the rule should look at each.

    Example:
        >>> channel_of(Node("Conv", ("x", "w")), 4), channel_of(Node("Gemm", ("x", "w")), 2), channel_of(Node("Exp", ("x",)), 4)
        (1, 1, None)
    """
    if rank < 2 or node.op_type not in LINEAR:
        return None
    return rank - 1 if node.op_type in _ROWS else 1


_ROWS = {"Gemm", "MatMul", "Einsum", "ReduceMean", "ReduceSum"}
"""Operators on rows, whose channels lie last."""


def explain(
    side: SideTruth,
    steps: Sequence[int],
    target: str,
    boundary: Sequence[str],
    truth: Array,
    rounding: Rounding,
) -> Explanation | None:
    """:func:`explained` for a region of one side's graph.

    Args:
        side: the side.
        steps: the region's steps, in execution order.
        target: key of the value that it makes.
        boundary: keys of the values that it begins from.
        truth: the target in float64.
        rounding: what the rule said of the recorded value.
    """
    native = side.graph.array(target)
    if native is None or native.shape != truth.shape or native.dtype.kind == "c":
        return None
    given = {key: side.value(key) for key in boundary}
    known = [step for index in steps if (step := side.graph.steps[index]).node is not None]
    linear = [step for step in known if step.node is not None and step.node.op_type in LINEAR]

    def recompute(rounding: Callable[[Array, int], Array]) -> Array:
        return side.program.evaluate(steps, given, [target], edits=Edits(rounding=rounding))[target]

    excess = Excess(
        to_double(native), truth, rounding, recompute if linear else None, unit=side.unit(target, given)
    )
    core = linear or [step for step in known if step.node is not None and step.node.op_type in VARIANCE]
    if len(core) == 1 and _keeps_places(known, core[0]):
        excess = _with_operands(excess, side, steps, given, core[0], target)
    return explained(excess)


def _keeps_places(known: Sequence[Step], core: Step) -> bool:
    """Whether nothing after the core moves elements about."""
    return all(s.node is None or s.node.op_type not in MOVEMENT for s in known if s.index > core.index)


def _with_operands(
    excess: Excess, side: SideTruth, steps: Sequence[int], given: dict[str, Array], core: Step, target: str
) -> Excess:
    """The excess with the operands of its only sum of products."""
    graph, inside = side.graph, set(steps)
    inner = [o.key for o in core.inputs if graph.producer.get(o.key) in inside and o.key not in given]
    held = {**given, **side.program.evaluate(steps, given, inner)}
    last = next(o for i in steps for o in graph.steps[i].outputs if o.key == target)

    def operand(one: Operand) -> Array | None:
        array = held[one.key] if one.key in held else graph.array(one.key) if one.key else None
        return None if array is None else to_double(to_canonical(array, one.layout, one.canonical))

    assert core.node is not None
    return replace(
        excess,
        node=at_float32(core.node),
        inputs=[operand(one) for one in core.inputs],
        canonical=lambda array: to_canonical(array, last.layout, last.canonical),
    )

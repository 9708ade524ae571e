"""Why an error is larger than the rule expects: what can be proven by computing again, in the order of its cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from porting_check.neutral.graph import MOVEMENT, Operand, Step
from porting_check.neutral.node import Node
from porting_check.numerics.normal import at_float32
from porting_check.numerics.orders import plausible
from porting_check.numerics.own import SideTruth
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
from porting_check.numerics.rule import Rounding
from porting_check.numerics.truth import CannotEvaluate, evaluate_node
from porting_check.numerics.winograd import fast_algorithm

Array = np.ndarray

_ONE_PASS = {"LayerNormalization", "InstanceNormalization"}


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
    tries = (_summed, _narrow, _narrow_results, _truncated, _fast, _one_pass)
    return next((found for attempt in tries if (found := attempt(excess)) is not None), None)


def _summed(excess: Excess) -> Explanation | None:
    """A plausible order of summation has errors of this size: structured terms."""
    if excess.rounding.verdict != "undecided" or excess.node is None:
        return None
    error = excess.canonical(excess.native - excess.truth)
    products = sampled(excess.node, excess.inputs, error.shape)
    if products is None:
        return None
    # After an activation only the elements that it lets through still show the error of the sum.
    found = plausible(products, error[products.index], excess.unit)
    said = f"its terms are ordered (not exchangeable); added {found} they round off as much as this"
    return None if found is None else Explanation("round-off", said)


def _narrow(excess: Excess) -> Explanation | None:
    if excess.recompute is None:
        return None
    found = rounded_operands(excess.native, excess.truth, excess.recompute)
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
    node, inputs = excess.node, excess.inputs
    if node is None or node.op_type not in _ONE_PASS or inputs[0] is None:
        return None
    try:
        emulated = _normalized_in_one_pass(node, inputs)
    except (CannotEvaluate, ValueError, IndexError):
        return None
    truth = excess.canonical(excess.truth)
    own = np.abs(emulated - truth).max(initial=0.0)
    error = np.abs(excess.canonical(excess.native) - truth).max(initial=0.0)
    said = "its variance was computed in one pass (E[x²] - E[x]²), which loses digits where the mean is large"
    return Explanation("low-precision", said) if 0 < error <= 16 * own else None


def _normalized_in_one_pass(node: Node, inputs: Sequence[Array | None]) -> Array:
    """The node's output when the variance of each row is off as float32 makes it: by a unit of E[x^2]."""
    data = inputs[0]
    assert data is not None
    if node.op_type == "LayerNormalization":
        axes: tuple[int, ...] = tuple(range(int(node.attributes.get("axis", -1)) % data.ndim, data.ndim))
    else:
        axes = tuple(range(2, data.ndim))
    mean = data.mean(axis=axes, keepdims=True)
    moment, variance = np.square(data).mean(axis=axes, keepdims=True), data.var(axis=axes, keepdims=True)
    epsilon = node.attributes.get("epsilon", 1e-5)
    lost = np.sqrt((variance + epsilon) / np.maximum(variance + epsilon + 2.0**-24 * moment, 1e-300))
    return np.asarray(evaluate_node(node, [mean + (data - mean) * lost, *inputs[1:]])[0])


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
    core = linear or [step for step in known if step.node is not None and step.node.op_type in _ONE_PASS]
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

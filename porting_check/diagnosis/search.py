"""The search for a cause: hypotheses of all families, in order of cost, until one reproduces the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from porting_check.diagnosis import attributes, padding, parameters, structure
from porting_check.diagnosis.hypothesis import Hypothesis, Suspect, attribute_differences, nodes
from porting_check.neutral.node import Node
from porting_check.numerics.program import Array, Edits
from porting_check.verdict import SAME

FAMILIES: tuple[Callable[[Suspect], Iterator[Hypothesis]], ...] = (
    padding.hypotheses,
    attributes.hypotheses,
    parameters.rearrangements_found,
    structure.hypotheses,
    parameters.replacement,
)
"""Generators of hypotheses, the most telling first; a new family is one row."""

LINES = 12
"""Lines of evidence kept for one region."""

TESTS = 60
"""Hypotheses tried for one region at most."""


class Diagnosis:
    """What the search found for one region: a proven hypothesis, or the most telling one that is not proven."""

    def __init__(self, best: Hypothesis | None, proven: bool, evidence: tuple[str, ...]) -> None:
        self.best, self.proven, self.evidence = best, proven, evidence


def diagnose(suspect: Suspect) -> Diagnosis:
    """Test hypotheses until one reproduces the reference in float64; then say what was seen.

    Example:
        >>> diagnose(Suspect(judge, judged)).best.cause       # doctest: +SKIP
        'conv-same-stride-asym'
    """
    if suspect.judged.truth is None or suspect.judged.region.stray:
        return Diagnosis(None, False, evidence(suspect))
    tried: list[tuple[float, Hypothesis]] = []
    for hypothesis in _all(suspect):
        gap = suspect.gap(hypothesis.edits)
        if gap <= SAME:
            before, after = f"{suspect.judged.gap:.2g} times float32's resolution", f"{gap:.1g}"
            said = f"with this one change the candidate equals the reference in float64 (before: {before}, after: {after})"
            return Diagnosis(hypothesis, True, (said, *evidence(suspect)))
        tried.append((gap, hypothesis))
        if suspect.tests >= TESTS:
            break
    together = _together(suspect, [h for _, h in tried])
    if together is not None:
        return together
    closer = [pair for pair in tried if pair[0] < 0.5 * suspect.judged.gap]
    best = min(closer, key=lambda pair: pair[0])[1] if closer else None
    return Diagnosis(best, False, evidence(suspect))


def _all(suspect: Suspect) -> Iterator[Hypothesis]:
    for family in FAMILIES:
        yield from family(suspect)


def _together(suspect: Suspect, tried: list[Hypothesis]) -> Diagnosis | None:
    """Two causes at once: padding or attributes of different steps, and parameters, applied together."""
    chosen: list[Hypothesis] = []
    changes: dict[int, tuple[Node, ...]] = {}
    operands: dict[tuple[int, int], Array] = {}
    for hypothesis in tried:
        if set(hypothesis.edits.nodes) & set(changes) or set(hypothesis.edits.operands) & set(operands):
            continue
        if hypothesis.cause in ("flatten-order", "concat-axis", "block-order-or-skip"):
            continue
        chosen.append(hypothesis)
        changes.update(hypothesis.edits.nodes)
        operands.update(hypothesis.edits.operands)
    if len(chosen) < 2 or suspect.gap(Edits(changes, operands)) > SAME:
        return None
    first = chosen[0]
    merged = Hypothesis(
        cause=first.cause,
        explanation="; and ".join(h.explanation for h in chosen),
        fix="; and ".join(h.fix for h in chosen),
        edits=Edits(changes, operands),
    )
    return Diagnosis(merged, True, ("several changes are needed together", *evidence(suspect)))


def evidence(suspect: Suspect) -> tuple[str, ...]:
    """What differs between the two sides' nodes and parameters, whether or not it explains anything."""
    said: list[str] = []
    for ours, theirs in suspect.aligned:
        if ours is None or theirs is None:
            lone, side = (ours, "reference") if ours is not None else (theirs, "candidate")
            assert lone is not None
            said.append(f"only the {side} has {nodes(lone)}")
            continue
        one, other = nodes(ours), nodes(theirs)
        if one.op_type != other.op_type:
            said.append(f"{one} in the reference, {other} in the candidate")
            continue
        for name, (wanted, present) in attribute_differences(one, other).items():
            said.append(
                f"{one.op_type}: {name} {attributes.told(wanted)} in the reference, {attributes.told(present)} in the candidate"
            )
        for _, role, left, right in parameters.fixed_operands(suspect, ours, theirs):
            equal, words = parameters.relation(left, right)
            if not equal:
                said.append(f"{role} of {one.op_type}: {words}")
    if len(said) > LINES:
        said = [*said[:LINES], f"and {len(said) - LINES} more differences"]
    return tuple(said)

"""A divergent region under suspicion, and hypotheses about it: edits of nodes as data, tested by evaluation."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from porting_check.alignment.families import family
from porting_check.judgement import Judgement
from porting_check.neutral.graph import Step
from porting_check.neutral.node import Node
from porting_check.numerics.difference import ShapeMismatch, difference
from porting_check.numerics.normal import normalized
from porting_check.numerics.program import Edits, OpaqueStep, Program
from porting_check.numerics.truth import CannotEvaluate
from porting_check.verdict import Judge

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One change to the candidate that would explain the divergence.

    ``cause`` is an id of the catalogue; ``explanation`` says what was found on each side; ``fix`` is code or one sentence
    for the candidate's framework; ``edits`` is the change itself.
    """

    cause: str
    explanation: str
    fix: str
    edits: Edits


@dataclass(slots=True)
class Suspect:
    """A divergent region with everything that hypotheses ask for.

    ``aligned`` pairs the compute steps of both sides inside the region; a step without a partner stands with ``None``.
    """

    judge: Judge
    judged: Judgement
    reference: tuple[Step, ...] = ()
    candidate: tuple[Step, ...] = ()
    aligned: tuple[tuple[Step | None, Step | None], ...] = ()
    tests: int = field(default=0)

    def __post_init__(self) -> None:
        region = self.judged.region
        self.reference = tuple(self.judge.reference.steps[i] for i in region.reference)
        self.candidate = tuple(self.judge.candidate.steps[i] for i in region.candidate)
        self.aligned = tuple(_align(self._computing(0), self._computing(1)))

    def _computing(self, side: int) -> list[Step]:
        steps = (self.reference, self.candidate)[side]
        return [s for s in steps if not s.movement and s.node is not None and self._depends(side, s)]

    def _depends(self, side: int, step: Step) -> bool:
        graph = (self.judge.reference, self.judge.candidate)[side]
        return any(o.key in graph.fed for o in step.inputs)

    @property
    def framework(self) -> str:
        """The candidate's framework, for which fixes are written."""
        return self.judge.candidate.trace.environment.framework

    def pairs(self, *op_types: str) -> Iterator[tuple[Step, Step]]:
        """Aligned steps of which the reference's (or, without names, either) is one of these operators."""
        for ours, theirs in self.aligned:
            if ours is not None and theirs is not None and (not op_types or nodes(ours).op_type in op_types):
                yield ours, theirs

    def operand(self, side: int, step: Step, position: int) -> Array | None:
        """A fixed operand (parameter or constant) of a step, canonical, in its own dtype."""
        program: Program = self.judge.sides[side].program
        if position >= len(step.inputs):
            return None
        try:
            return program.parameter(step, position)
        except (OpaqueStep, CannotEvaluate, ValueError):
            return None

    def gap(self, edits: Edits) -> float:
        """How far the edited candidate is from the reference, in units of float32's resolution; infinite if it fails."""
        self.tests += 1
        assert self.judged.truth is not None
        try:
            other = self.judge.counterpart(self.judged.region, edits)
            order = self.judged.axes or self.judge.axes_of(
                self.judged.region.target, self.judged.truth, other
            )
            if order is None or order.of(self.judged.truth.shape) != other.shape:
                return float("inf")
            measured = difference(self.judged.truth, other, permutation=order.permutation)
        except (
            OpaqueStep,
            CannotEvaluate,
            ShapeMismatch,
            ValueError,
            IndexError,
            TypeError,
            ZeroDivisionError,
        ):
            return float("inf")
        if measured.nonfinite_mismatch:
            return float("inf")
        return self.judge.gap_between(self.judged.region, self.judged.truth, other, order, measured)


def nodes(step: Step) -> Node:
    """The node of a step that is known to have one."""
    assert step.node is not None
    return step.node


def _align(ours: Sequence[Step], theirs: Sequence[Step]) -> list[tuple[Step | None, Step | None]]:
    """Pair steps by operator in order, then by family, then by position when equally many are left."""
    left: list[Step | None] = list(ours)
    right: list[Step | None] = list(theirs)
    made: dict[int, int] = {}
    for naming in (lambda s: nodes(s).op_type, family):
        rest = (
            [i for i in range(len(left)) if i not in made],
            [j for j in range(len(right)) if j not in made.values()],
        )
        names = [naming(ours[i]) for i in rest[0]], [naming(theirs[j]) for j in rest[1]]
        for block in difflib.SequenceMatcher(None, *names, autojunk=False).get_matching_blocks():
            for k in range(block.size):
                made[rest[0][block.a + k]] = rest[1][block.b + k]
    rest = (
        [i for i in range(len(left)) if i not in made],
        [j for j in range(len(right)) if j not in made.values()],
    )
    if len(rest[0]) == len(rest[1]) == 1:
        made[rest[0][0]] = rest[1][0]
    pairs: list[tuple[Step | None, Step | None]] = [
        (left[i], right[made[i]] if i in made else None) for i in range(len(left))
    ]
    return pairs + [(None, right[j]) for j in range(len(right)) if j not in made.values()]


def attribute_differences(ours: Node, theirs: Node) -> dict[str, tuple[object, object]]:
    """Attributes in which two nodes of one operator differ; reals are equal when they are the same float32."""
    left, right = normalized(ours).attributes, normalized(theirs).attributes
    differing = [
        name for name in sorted(set(left) | set(right)) if not _equal(left.get(name), right.get(name))
    ]
    return {name: (ours.attributes.get(name), theirs.attributes.get(name)) for name in differing}


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(np.asarray(one), np.asarray(other))
    return bool(one == other)

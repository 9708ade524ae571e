"""The verdict of one pair: the three questions of the design, each answered against a float64 evaluation.

1. Is each side what it says it is? Its recorded output against the truth of its own nodes on its own input.
2. Do both sides say the same? Truth of the reference's nodes against truth of the candidate's, both on the reference's
   input. This is the core of the verdict: no accumulated error takes part in it.
3. Are the parameters the same bits after the layout map?
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from porting_check.alignment.fingerprint import signature
from porting_check.alignment.regions import Axes, Cut, Region, axes
from porting_check.alignment.twins import twins
from porting_check.judgement import Judgement
from porting_check.neutral.graph import Graph
from porting_check.numerics.difference import Difference, difference
from porting_check.numerics.excess import Explanation, explain
from porting_check.numerics.gap import FLOAT32, no_difference, units_apart, units_apart_by_channel
from porting_check.numerics.normal import normalized
from porting_check.numerics.own import SideTruth
from porting_check.numerics.program import NO_EDITS, Edits, OpaqueStep
from porting_check.numerics.roundoff import LINEAR
from porting_check.numerics.rule import Rounding
from porting_check.numerics.spread import Bounds
from porting_check.numerics.truth import CannotEvaluate

Array = np.ndarray

SAME = 1e-3
"""Two functions are the same when their float64 outputs differ by less than this share of float32's resolution."""

NEARLY = 16.0
"""Gaps up to here may come from parameters that were rounded to float32; see :meth:`Judge._rounded`."""

KEPT_BYTES = 128 * 2**20
"""Truths of divergent regions are kept for diagnosis up to this size together; others are evaluated again."""

RESHAPED = "the same numbers in a tensor of another rank"
"""Note of a region whose two sides only shape their result differently (rows of a matrix, a batch of sequences)."""

BROKEN = (ValueError, IndexError, TypeError, ZeroDivisionError)
"""What an operator raises when it is given a tensor of a shape that it was not made for."""


@dataclass(slots=True)
class Judge:
    """Judges regions of one comparison, in the reference's execution order.

    Args:
        reference, candidate: the two graphs.
        axes: how the axes of each matched value correspond, by the reference's key; filled as values are judged.
    """

    reference: Graph
    candidate: Graph
    axes: dict[str, Axes] = field(default_factory=dict)
    sides: tuple[SideTruth, SideTruth] = field(init=False)
    held: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.sides = SideTruth(self.reference), SideTruth(self.candidate)

    def counterpart(self, region: Region, edits: Edits = NO_EDITS) -> Array:
        """The candidate's function in float64 on the reference's input, native layout of the candidate."""
        given = {}
        for cut in region.boundary:
            given[cut.candidate] = (
                self.sides[0].value(cut.reference).transpose(self.axes[cut.reference].permutation)
            )
        target = region.target.candidate
        return self.sides[1].program.evaluate(region.candidate, given, [target], edits=edits)[target]

    def judge(self, region: Region) -> Judgement:
        """Answer the questions for a region; ``same is None`` and the reason say why when it could not be done."""
        stuck = self._stuck(region)
        if stuck:
            return self._measured(Judgement(region, None, float("nan"), None, stuck))
        try:
            truth, bound = self.sides[0].bounded(region.reference, region.target.reference, _keys(region, 0))
        except (OpaqueStep, CannotEvaluate, *BROKEN) as error:
            return self._measured(
                Judgement(region, None, float("nan"), None, f"reference: {_first_line(error)}")
            )
        twin = twins((self.sides[0].program, self.sides[1].program), self.axes, region)
        if twin is not None:
            judged = Judgement(region, True, 0.0, twin, "", truth, no_difference(truth))
        else:
            judged = self._tried(region, truth)
        judged = self._measured(judged)
        if judged.same is None:
            return replace(judged, truth=None)
        if not judged.same:
            return self._kept(judged)
        judged = replace(self._first_own(judged, truth, bound), truth=None)
        moved = self._moved(judged, bound)
        del truth, bound  # several arrays of the tensor's size, of which the other side needs as many
        return self._second_own(judged, moved)

    def _kept(self, judged: Judgement) -> Judgement:
        """A divergent judgement with its truth, as long as all that are kept are not too large together."""
        size = 0 if judged.truth is None else judged.truth.nbytes
        if self.held + size > KEPT_BYTES:
            return replace(judged, truth=None)
        self.held += size
        return judged

    def with_truth(self, judged: Judgement) -> Judgement:
        """A divergent judgement with its truth, evaluated again if it was too large to be kept."""
        if judged.same is not False or judged.truth is not None:
            return judged
        region = judged.region
        truth, _ = self.sides[0].bounded(region.reference, region.target.reference, _keys(region, 0))
        return replace(judged, truth=truth)

    def _tried(self, region: Region, truth: Array) -> Judgement:
        """Question 2 by evaluating the candidate's function."""
        try:
            other = self.counterpart(region)
        except (OpaqueStep, CannotEvaluate) as error:
            return Judgement(region, None, float("nan"), None, f"candidate: {_first_line(error)}", truth)
        except BROKEN as error:
            reason = f"the candidate's operators do not accept the reference's value: {_first_line(error)}"
            return Judgement(region, False, float("inf"), None, reason, truth)
        return self._compared(region, truth, other)

    def _first_own(self, judged: Judgement, truth: Array, bound: Bounds) -> Judgement:
        """Question 1 for the reference, where both sides say the same."""
        region = judged.region
        found = self.sides[0].judged(region.target.reference, _keys(region, 0), truth, bound)
        reason = self._explained(region, 0, found, truth)
        return replace(judged, roundings=(found, None), reasons=(reason, None), terms=bound.terms)

    def _second_own(self, judged: Judgement, moved: Bounds | None) -> Judgement:
        """Question 1 for the candidate; ``moved`` is the reference's limit where it holds here too."""
        region = judged.region
        target, keys = region.target.candidate, _keys(region, 1)
        try:
            truth, limit = self.sides[1].bounded(region.candidate, target, keys, moved)
            found = self.sides[1].judged(target, keys, truth, limit)
        except (OpaqueStep, CannotEvaluate, *BROKEN):
            return judged
        reason = self._explained(region, 1, found, truth)
        return replace(judged, roundings=(judged.roundings[0], found), reasons=(judged.reasons[0], reason))

    def _explained(
        self, region: Region, side: int, rounding: Rounding | None, truth: Array | None
    ) -> Explanation | None:
        """What makes an error of one side larger than the rule expects."""
        if rounding is None or rounding.good or truth is None:
            return None
        steps, target = (
            (region.reference, region.candidate)[side],
            (region.target.reference, region.target.candidate)[side],
        )
        return explain(self.sides[side], steps, target, _keys(region, side), truth, rounding)

    def _moved(self, judged: Judgement, bound: Bounds) -> Bounds | None:
        """The reference's limit, where it holds for the candidate too; saves an evaluation.

        It does for sums of products (whose limit follows from magnitudes, not from single elements) of one type on
        nearly the same values.
        """
        target = judged.region.target
        ours, theirs = self.reference.array(target.reference), self.candidate.array(target.candidate)
        steps = [self.candidate.steps[i] for i in judged.region.candidate]
        linear = all(s.movement or (s.node is not None and s.node.op_type in LINEAR) for s in steps)
        same_type = ours is not None and theirs is not None and ours.dtype == theirs.dtype
        near = judged.end_to_end is not None and units_apart(judged.end_to_end) < 100
        if (
            not (linear and same_type and near)
            or judged.axes is None
            or bound.limit.ndim != len(judged.axes.permutation)
        ):
            return None
        permutation = judged.axes.permutation
        return bound.moved(lambda array: array.transpose(permutation))

    def _stuck(self, region: Region) -> str:
        if region.stray:
            return f"depends on {', '.join(region.stray[:3])}, which has no counterpart on the other side"
        unknown = [cut.reference for cut in region.boundary if cut.reference not in self.axes]
        return f"the axes of {unknown[0]} could not be matched" if unknown else ""

    def _compared(self, region: Region, truth: Array, other: Array) -> Judgement:
        order = self.axes_of(region.target, truth, other)
        shapes = (truth.shape, other.shape)
        if order is None or order.of(truth.shape) != other.shape:
            reason = f"shapes differ: {truth.shape} in the reference, {other.shape} in the candidate"
            notes = (RESHAPED,) if _reshaped(truth, other) else ()
            return Judgement(region, False, float("inf"), order, reason, truth, shapes=shapes, notes=notes)
        measured = difference(truth, other, permutation=order.permutation)
        if measured.nonfinite_mismatch:
            reason = "NaN or infinity on one side only"
            return Judgement(region, False, float("inf"), order, reason, truth, measured, shapes=shapes)
        gap = self.gap_between(region, truth, other, order, measured)
        nearly = gap <= NEARLY or units_apart(measured) <= NEARLY
        same = gap <= SAME or (nearly and self._rounded(region, other, gap, order))
        notes = () if gap <= SAME else ("parameters differ by rounding to float32 only",)
        return Judgement(
            region, same, gap, order, "", truth, measured, shapes=shapes, notes=notes if same else ()
        )

    def gap_between(
        self, region: Region, truth: Array, other: Array, order: Axes, measured: Difference
    ) -> float:
        """The gap at the scale of the whole tensor and, where the channels are known, at the scale of each channel."""
        whole = units_apart(measured)
        layout = self.reference.layouts.get(region.target.reference, "")
        channel = (
            layout.find("C")
            if len(layout) == truth.ndim
            else (truth.ndim - 1 if truth.ndim in (2, 3) else -1)
        )
        if whole == 0.0 or channel < 0 or truth.dtype.kind != "f" or other.dtype.kind != "f":
            return whole
        return max(whole, units_apart_by_channel(truth, other.transpose(order.back), channel))

    def _rounded(self, region: Region, other: Array, gap: float, order: Axes) -> bool:
        """Whether rounding the candidate's parameters to float32 explains a gap below float32's resolution.

        Parameters that were folded together or took a detour are off by half a unit each. The candidate is evaluated
        with every parameter perturbed by up to one unit; a real difference of an attribute is not helped by that unless
        the two sides' operators are the same otherwise.
        """
        if not self._same_attributes(region):
            return False
        graph, program = self.candidate, self.sides[1].program
        rng = np.random.default_rng(0)
        operands: dict[tuple[int, int], Array] = {}
        for step in (graph.steps[i] for i in region.candidate if not graph.steps[i].movement):
            for position in range(len(step.inputs)):
                array = program.parameter(step, position)
                if array is not None and array.dtype.kind == "f":
                    operands[step.index, position] = array * (1 + FLOAT32 * rng.uniform(-1, 1, array.shape))
        if not operands:
            return False
        shaken = self.counterpart(region, Edits(operands=operands))
        # Measured like the gap itself, so that a quiet channel is held against what rounding does to that channel.
        back, moved = other.transpose(order.back), difference(other, shaken)
        return gap <= 8 * self.gap_between(region, back, shaken, order, moved)

    def _same_attributes(self, region: Region) -> bool:
        """Whether no operator that occurs on both sides has another constant (epsilon, slope, variant of a function).

        Whole-number attributes are left out: pads or axes that differ make differences far above this size.
        """
        sides: list[dict[str, list[dict[str, object]]]] = []
        for graph, steps in ((self.reference, region.reference), (self.candidate, region.candidate)):
            found: dict[str, list[dict[str, object]]] = {}
            for node in (graph.steps[i].node for i in steps):
                if node is not None:
                    constants: dict[str, object] = {
                        k: v for k, v in normalized(node).attributes.items() if isinstance(v, (float, str))
                    }
                    found.setdefault(node.op_type, []).append(constants)
            sides.append(found)
        shared = sides[0].keys() & sides[1].keys()
        return all(
            constants in sides[1 - i][op] for i in (0, 1) for op in shared for constants in sides[i][op]
        )

    def axes_of(self, target: Cut, truth: Array, other: Array) -> Axes | None:
        """How the axes of a target's value correspond on the two sides."""
        layouts = (
            self.reference.layouts.get(target.reference, ""),
            self.candidate.layouts.get(target.candidate, ""),
        )
        arrays = self.reference.array(target.reference), self.candidate.array(target.candidate)
        return axes((truth.shape, other.shape), layouts, arrays=arrays, declared_only=bool(target.output))

    def _measured(self, judged: Judgement) -> Judgement:
        """Add what was recorded: end to end at this value."""
        target = judged.region.target
        if (
            target.reference not in self.reference.trace.values
            or target.candidate not in self.candidate.trace.values
        ):
            return judged
        ours, theirs = self.reference.array(target.reference), self.candidate.array(target.candidate)
        assert ours is not None and theirs is not None
        order = judged.axes or self.axes_of(target, ours, theirs)
        if order is None or order.of(ours.shape) != theirs.shape:
            return replace(judged, axes=order, shapes=(ours.shape, theirs.shape))
        end_to_end = difference(ours, theirs, permutation=order.permutation)
        return replace(judged, axes=order, end_to_end=end_to_end, shapes=(ours.shape, theirs.shape))

    def accept(self, judged: Judgement) -> None:
        """Let later regions begin at this value."""
        if judged.axes is not None:
            self.axes[judged.region.target.reference] = judged.axes


def _reshaped(truth: Array, other: Array) -> bool:
    """Whether two float64 results on one input hold the same numbers under other ranks."""
    return truth.ndim != other.ndim and signature(truth).distance(signature(other)) < SAME * FLOAT32


def _keys(region: Region, side: int) -> list[str]:
    return [(cut.reference, cut.candidate)[side] for cut in region.boundary]


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

"""The verdict of one pair: the three questions of the design, each answered against a float64 evaluation.

1. Is each side what it says it is? Its recorded output against the truth of its own nodes on its own input.
2. Do both sides say the same? Truth of the reference's nodes against truth of the candidate's, both on the reference's
   input. This is the core of the verdict: no accumulated error takes part in it.
3. Are the parameters the same bits after the layout map?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from porting_check.alignment.regions import Axes, Cut, Region, axes, inverse
from porting_check.neutral.graph import MOVEMENT, Graph
from porting_check.numerics.difference import Difference, difference
from porting_check.numerics.program import NO_EDITS, Edits, OpaqueStep, Program, at_float32
from porting_check.numerics.roundoff import UNIT
from porting_check.numerics.truth import CannotEvaluate

Array = np.ndarray

SAME = 1e-3
"""Two functions are the same when their float64 outputs differ by less than this share of float32's resolution."""

NEARLY = 16.0
"""Gaps up to here may come from parameters that were rounded to float32; see :meth:`Judge._rounded`."""

FLOAT32 = 2.0**-24

BROKEN = (ValueError, IndexError, TypeError, ZeroDivisionError)
"""What an operator raises when it is given a tensor of a shape that it was not made for."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of one region. ``truth`` and ``other`` are both sides' float64 outputs on the reference's input.

    ``gap`` is the largest difference of the two in units of float32's resolution at the tensor's scale; ``error`` is the
    worst of both sides' recorded outputs against their own truth, in units of what round-off allows.
    """

    region: Region
    same: bool | None
    gap: float
    axes: Axes | None
    reason: str = ""
    truth: Array | None = None
    other: Array | None = None
    difference: Difference | None = None
    end_to_end: Difference | None = None
    reference_error: float | None = None
    candidate_error: float | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    notes: tuple[str, ...] = ()


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
    _programs: tuple[Program, Program] = field(init=False)

    def __post_init__(self) -> None:
        self._programs = Program(self.reference), Program(self.candidate)

    @property
    def programs(self) -> tuple[Program, Program]:
        """The evaluators of both sides."""
        return self._programs

    def truth(self, region: Region) -> Array:
        """The reference's function in float64 on its own recorded input, native layout."""
        given = self._given(region)
        return self._programs[0].evaluate(region.reference, given, [region.target.reference])[region.target.reference]

    def counterpart(self, region: Region, edits: Edits = NO_EDITS) -> Array:
        """The candidate's function in float64 on the reference's input, native layout of the candidate."""
        given = {}
        for cut, array in zip(region.boundary, self._given(region).values(), strict=True):
            given[cut.candidate] = array.transpose(self.axes[cut.reference].permutation)
        target = region.target.candidate
        return self._programs[1].evaluate(region.candidate, given, [target], edits=edits)[target]

    def _given(self, region: Region) -> dict[str, Array]:
        """The reference's values at the region's boundary: as recorded, or evaluated where they lie inside a layer."""
        return {cut.reference: self._value(self.reference, self._programs[0], cut.reference) for cut in region.boundary}

    def _value(self, graph: Graph, program: Program, key: str) -> Array:
        array = graph.array(key)
        if array is not None:
            return array
        steps, used = graph.between(key, set(graph.trace.values))
        return program.evaluate(steps, {k: graph.array(k) for k in used}, [key])[key]  # type: ignore[misc]

    def judge(self, region: Region) -> Judgement:
        """Answer question 2 for a region, and measure what was recorded at its end.

        The reason says why when it could not be answered (``same is None``).
        """
        stuck = self._stuck(region)
        if stuck:
            return Judgement(region, None, float("nan"), None, stuck)
        try:
            truth = self.truth(region)
        except (OpaqueStep, CannotEvaluate, *BROKEN) as error:
            return self._measured(Judgement(region, None, float("nan"), None, f"reference: {_first_line(error)}"))
        try:
            other = self.counterpart(region)
        except (OpaqueStep, CannotEvaluate) as error:
            reason = f"candidate: {_first_line(error)}"
            return self._measured(Judgement(region, None, float("nan"), None, reason, truth))
        except BROKEN as error:
            reason = f"the candidate's operators do not accept the reference's value: {_first_line(error)}"
            return self._measured(Judgement(region, False, float("inf"), None, reason, truth))
        return self._measured(self._compared(region, truth, other))

    def _stuck(self, region: Region) -> str:
        if region.stray:
            return f"depends on {', '.join(region.stray[:3])}, which has no counterpart on the other side"
        unknown = [cut.reference for cut in region.boundary if cut.reference not in self.axes]
        return f"the axes of {unknown[0]} could not be matched" if unknown else ""

    def _compared(self, region: Region, truth: Array, other: Array) -> Judgement:
        order = self._axes(region.target, truth, other)
        shapes = (truth.shape, other.shape)
        if order is None:
            reason = f"shapes differ: {truth.shape} in the reference, {other.shape} in the candidate"
            return Judgement(region, False, float("inf"), None, reason, truth, other, shapes=shapes)
        measured = difference(truth, other, permutation=order.permutation)
        if measured.nonfinite_mismatch:
            reason = "NaN or infinity on one side only"
            return Judgement(region, False, float("inf"), order, reason, truth, other, measured, shapes=shapes)
        gap = units_apart(measured)
        same = gap <= SAME or (gap <= NEARLY and self._rounded(region, other, gap))
        notes = () if gap <= SAME else ("parameters differ by rounding to float32 only",)
        return Judgement(region, same, gap, order, "", truth, other, measured, shapes=shapes, notes=notes if same else ())

    def _rounded(self, region: Region, other: Array, gap: float) -> bool:
        """Whether rounding the candidate's parameters to float32 explains a gap below float32's resolution.

        Parameters that were folded together or took a detour are off by half a unit each. The candidate is evaluated
        with every parameter perturbed by up to one unit; a real difference of an attribute is not helped by that unless
        the two sides' operators are the same otherwise.
        """
        if not self._same_attributes(region):
            return False
        graph, program = self.candidate, self._programs[1]
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
        return gap <= 8 * units_apart(difference(other, shaken))

    def _same_attributes(self, region: Region) -> bool:
        """Whether no operator that occurs on both sides has other attributes."""
        sides = []
        for graph, steps in ((self.reference, region.reference), (self.candidate, region.candidate)):
            found = [at_float32(n) for n in (graph.steps[i].node for i in steps) if n is not None]
            sides.append([str(n) for n in found if n.op_type not in MOVEMENT])
        kinds = [{text.split("(")[0] for text in side} for side in sides]
        shared = kinds[0] & kinds[1]
        return all(text in sides[1 - i] for i in (0, 1) for text in sides[i] if text.split("(")[0] in shared)

    def _axes(self, target: Cut, truth: Array, other: Array) -> Axes | None:
        layouts = self.reference.layouts.get(target.reference, ""), self.candidate.layouts.get(target.candidate, "")
        arrays = self.reference.array(target.reference), self.candidate.array(target.candidate)
        return axes((truth.shape, other.shape), layouts, arrays=arrays, declared_only=bool(target.output))

    def _measured(self, judged: Judgement) -> Judgement:
        """Add what was recorded: end to end at this value."""
        target = judged.region.target
        ours, theirs = self.reference.array(target.reference), self.candidate.array(target.candidate)
        if ours is None or theirs is None:
            return judged
        order = judged.axes or self._axes(target, ours, theirs)
        if order is None or tuple(ours.shape[a] for a in order.permutation) != theirs.shape:
            return replace(judged, shapes=(ours.shape, theirs.shape))
        end_to_end = difference(ours, theirs, permutation=order.permutation)
        return replace(judged, axes=order, end_to_end=end_to_end, shapes=(ours.shape, theirs.shape))

    def accept(self, judged: Judgement) -> None:
        """Let later regions begin at this value."""
        if judged.axes is not None:
            self.axes[judged.region.target.reference] = judged.axes

    def native_error(self, side: int, key: str) -> float | None:
        """Question 1: the recorded value against the truth of what made it, in units of what round-off allows.

        ``None`` when it was not recorded or cannot be evaluated; infinity when only one of the two is finite.
        """
        graph, program = (self.reference, self.candidate)[side], self._programs[side]
        native = graph.array(key)
        if native is None or native.dtype.kind not in "fcV" or key not in graph.producer:
            return None
        steps, used = graph.between(key, set(graph.trace.values))
        given = {k: graph.array(k) for k in used}
        unit = max([UNIT.get(native.dtype.name, FLOAT32)] + [UNIT.get(a.dtype.name, 0.0) for a in given.values() if a is not None])
        try:
            values, bounds = program.bounded(steps, given, [key], unit)  # type: ignore[arg-type]
        except (OpaqueStep, CannotEvaluate, *BROKEN):
            return None
        return ratio(native, values[key], bounds.get(key))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def units_apart(measured: Difference) -> float:
    """The largest difference in units of float32's resolution at the reference's scale (its largest magnitude)."""
    if measured.compared == 0 or measured.max_abs == 0:
        return 0.0
    scale = measured.reference_max if np.isfinite(measured.reference_max) and measured.reference_max > 0 else 0.0
    return float("inf") if scale == 0.0 else float(measured.max_abs / (FLOAT32 * scale))


def ratio(native: Array, truth: Array, bound: Array | None) -> float:
    """Largest error over its bound; equal non-finite values agree, an error where none is allowed is infinite."""
    if native.shape != truth.shape:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.asarray(native, np.complex128 if native.dtype.kind == "c" else np.float64)
        agree = (found == truth) | (np.isnan(found) & np.isnan(truth))
        if agree.all():
            return 0.0
        error = np.where(agree, 0.0, np.abs(found - truth))
        allowed = np.zeros(truth.shape) if bound is None else np.broadcast_to(bound, truth.shape)
        worst = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
    return float("inf") if np.isnan(worst).any() else float(worst.max())


def moved_back(array: Array, order: Axes) -> Array:
    """A candidate's array with the reference's order of axes."""
    return array.transpose(inverse(order.permutation))


def verdicts(judged: Judgement, errors: Mapping[str, float | None]) -> tuple[str, str]:
    """The verdict of a pair and one sentence that explains it."""
    if judged.same is None:
        return "undecided", judged.reason
    if not judged.same:
        return "divergent", judged.reason or _apart(judged)
    bad = {side: error for side, error in errors.items() if error is not None and error > 1}
    if bad:
        side, error = max(bad.items(), key=lambda item: item[1])
        return _not_itself(side, error, judged)
    if judged.end_to_end is not None and judged.end_to_end.identical:
        return "identical", "the recorded outputs are the same bits"
    known = [error for error in errors.values() if error is not None]
    share = f"; each side is within {max(known):.2g} of what round-off allows" if known else ""
    how = f" ({judged.notes[0]})" if judged.notes else ""
    return "round-off", f"in float64 both compute the same{how}{share}"


def _apart(judged: Judgement) -> str:
    assert judged.difference is not None
    found = judged.difference
    return (
        f"on the same input, in float64, the outputs differ by up to {found.max_abs:.3g} "
        f"(scale {found.reference_max:.3g}), {judged.gap:.2g} times what float32 resolves"
    )


def _not_itself(side: str, error: float, judged: Judgement) -> tuple[str, str]:
    if np.isinf(error):
        return "divergent" if side == "candidate" else "undecided", (
            f"the {side}'s recorded output is not what its own operators give (NaN, infinity, or a value where none is allowed)"
        )
    return "low-precision" if error < 1e7 else "undecided", (
        f"both say the same, but the {side}'s recorded output is {error:.2g} times farther from its own float64 value than "
        "float32 round-off allows: reduced precision, or another algorithm"
    )

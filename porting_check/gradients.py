"""``compare(..., gradients=True)``: are the candidate's gradients those of the reference?

Both sides are differentiated for one fixed random cotangent of their outputs. Each side's gradients are judged like its
forward pass, in isolation: is the gradient of every value, given the side's own gradients of what is made of it, what the
side's own nodes say (:mod:`porting_check.numerics.adjoint_chain`)? Where that holds on both sides and the forward functions
are the same, the gradients are the same function. The difference of both sides' gradients end to end stands beside it; it
decides only where one side has no gradient at all, or where both differ so much that the proof must have a hole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from porting_check.alignment.regions import Axes, Cut, matched_inputs
from porting_check.diagnosis.hypothesis import Suspect
from porting_check.examination import Examination
from porting_check.gradient_parts import ALIKE, OneSide, distance, held, on_kinks, roots_of, state, statistics
from porting_check.neutral.errors import RunError, Unsupported
from porting_check.neutral.graph import Step
from porting_check.neutral.trace import Trace
from porting_check.numerics.adjoint_chain import GradientFound, SideGradients
from porting_check.numerics.program import OpaqueStep, to_double
from porting_check.numerics.truth import CannotEvaluate
from porting_check.report.gradients_section import GradientResult, GradientVerdict, gradients_section, refused
from porting_check.report.section import Section

Array = np.ndarray
Cotangents = Mapping[str, Array]
Ask = Callable[[Cotangents], Mapping[str, Array]]
"""Gives one side's gradients, by the keys of its recording, for cotangents by output path."""
Progress = Callable[[str, int, int], None]

FAR = 0.1
"""Both sides right in isolation, yet this far apart end to end: then something was not seen."""

STOPPED = (
    "no gradient comes back from it, although what reads it passes one on (detach, stop_gradient, no_grad)"
)

SIDES = ("reference", "candidate")


def compare_gradients(
    found: Examination, ask: tuple[Ask | None, Ask | None], seed: int, progress: Progress
) -> Section:
    """Differentiate both sides and judge their gradients.

    Args:
        found: the examination of the forward pass.
        ask: how each side is differentiated; ``None`` for a recording.
        seed: of the cotangents.
        progress: called as ``progress(stage, done, total)``.

    Example:
        >>> compare_gradients(found, (ask_keras, ask_torch), 0, progress).verdict      # doctest: +SKIP
        'faithful'
    """
    for side, asked in zip(SIDES, ask, strict=True):
        if asked is None:
            return refused(
                side, "is a recording; gradients need a live model, or a file or function that makes one."
            )
    made = cotangents(found, seed)
    if not made[0]:
        return gradients_section(())
    gradients: list[Mapping[str, Array]] = []
    for number, (side, asked) in enumerate(zip(SIDES, ask, strict=True)):
        progress(f"{side}: gradients", 0, 1)
        assert asked is not None
        try:
            gradients.append(asked(made[number]))
        except (Unsupported, RunError) as error:
            return refused(side, f"could not be differentiated: {error}")
    sides = tuple(
        OneSide(truth.graph, gradients[i], _judged(found, i, gradients[i], made[i], progress))
        for i, truth in enumerate(found.judge.sides)
    )
    return gradients_section(*_Comparison(found, (sides[0], sides[1])).results())


def cotangents(found: Examination, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """One array of seeded normal noise per paired real output, by path; the candidate's with its axes in its own order.

    Outputs that could not be paired get none: nothing flows back from them on either side.
    """
    ours: dict[str, Array] = {}
    theirs: dict[str, Array] = {}
    for judged in found.judged:
        target = judged.region.target
        pair = found.outputs.get(target.output)
        one, other = found.reference.array(target.reference), found.candidate.array(target.candidate)
        if pair is None or judged.axes is None or one is None or other is None or one.dtype.kind not in "fV":
            continue
        if judged.axes.of(one.shape) != other.shape:
            continue
        rng = np.random.default_rng([seed, zlib.crc32(pair.reference.encode())])
        noise = rng.standard_normal(one.shape).astype(one.dtype)
        ours[pair.reference] = noise
        theirs[pair.candidate] = np.ascontiguousarray(noise.transpose(judged.axes.permutation)).astype(
            other.dtype
        )
    return ours, theirs


def _judged(
    found: Examination, side: int, gradients: Mapping[str, Array], made: Cotangents, progress: Progress
) -> dict[str, GradientFound]:
    truth = found.judge.sides[side]
    by_key = _by_key(truth.graph.trace, made)
    stage = f"judging gradients of the {SIDES[side]}"
    return SideGradients(truth, gradients, by_key).judge(lambda done, total: progress(stage, done, total))


def _by_key(trace: Trace, made: Cotangents) -> dict[str, Array]:
    """Cotangents by the key of the output's value; a value that is returned twice gets the sum."""
    found: dict[str, Array] = {}
    for port in trace.outputs:
        if port.name in made:
            array = to_double(made[port.name])
            found[port.value] = found[port.value] + array if port.value in found else array
    return found


@dataclass(slots=True)
class _Comparison:
    """Brings both sides' gradients together, pair by pair."""

    found: Examination
    sides: tuple[OneSide, OneSide]
    seen: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    made: list[GradientResult] = field(default_factory=list)

    def results(self) -> tuple[list[GradientResult], list[str]]:
        """All rows, and notes."""
        for cut, order in self._values():
            self._value(cut, order)
        for step_pair, position in self._operands():
            self._parameter(step_pair, position)
        for side in (0, 1):
            self._alone(side)
        if not any(r.verdict in ("divergent", "kink") for r in self.made) and self._forward_agrees():
            self.made = [_doubted(result) for result in self.made]
        return self.made, self._notes()

    def _forward_agrees(self) -> bool:
        return all(judged.same for judged in self.found.judged)

    def _values(self) -> Iterator[tuple[Cut, Axes]]:
        """Matched values with their axes: inputs, then in execution order."""
        known = self.found.judge.axes
        for cut in matched_inputs(self.found.reference, self.found.candidate):
            if cut.reference in known:
                yield cut, known[cut.reference]
        for judged in self.found.judged:
            if judged.axes is not None:
                yield judged.region.target, judged.axes

    def _value(self, cut: Cut, order: Axes) -> None:
        keys = cut.reference, cut.candidate
        if cut.reference in self.seen[0] or cut.candidate in self.seen[1]:
            return
        pair = self._pair(keys)
        if pair is None:
            return
        arrays = self._gradient(0, keys[0]), self._gradient(1, keys[1])
        moved = None if arrays[0] is None else arrays[0].transpose(order.permutation)
        inside = any(key not in side.graph.trace.values for side, key in zip(self.sides, keys, strict=True))
        unseen = inside or any(one is not None and one.unseen for one in pair)
        apart = None if unseen else distance(moved, arrays[1])
        self._add(
            self.sides[0].kind(keys[0]), (keys[0],), (keys[1],), pair, apart, on_kinks(pair, arrays, order)
        )

    def _pair(self, keys: tuple[str, str]) -> tuple[GradientFound | None, GradientFound | None] | None:
        """What was found of a matched value; ``None`` where neither side has, or should have, a gradient."""
        pair = self.sides[0].found.get(keys[0]), self.sides[1].found.get(keys[1])
        idle = all(
            f is None or (f.absent and not f.unseen and (f.ratio or 0.0) <= 1 and not f.reason) for f in pair
        )
        return None if idle else pair

    def _gradient(self, side: int, key: str) -> Array | None:
        array = self.sides[side].gradients.get(key)
        return None if array is None else to_double(array)

    def _operands(self) -> Iterator[tuple[tuple[Step, Step], int]]:
        """Aligned operators and the positions at which both read parameters."""
        for judged in self.found.judged:
            for ours, theirs in Suspect(self.found.judge, judged).pairs():
                if ours.node is None or theirs.node is None or ours.node.op_type != theirs.node.op_type:
                    continue
                # Running statistics are no parameters to train: torch has no gradient of them, others do.
                count = 3 if ours.node.op_type == "BatchNormalization" else len(ours.inputs)
                for position in range(min(count, len(theirs.inputs))):
                    yield (ours, theirs), position

    def _parameter(self, steps: tuple[Step, Step], position: int) -> None:
        roots = tuple(roots_of(self.sides[i].graph, steps[i].inputs[position].key) for i in (0, 1))
        if not all(roots) or set(roots[0]) & self.seen[0] or set(roots[1]) & self.seen[1]:
            return
        pair = self._worst(0, roots[0]), self._worst(1, roots[1])
        if pair[0] is None and pair[1] is None:
            return
        node = steps[0].node
        assert node is not None
        summed = (
            node.op_type in ("LSTM", "GRU", "RNN") and position == 3
        )  # only the sum of the two biases counts
        apart = None if summed else self._parameters_apart(steps, position, roots)
        self._add("parameter", roots[0], roots[1], pair, apart)

    def _worst(self, side: int, roots: tuple[str, ...]) -> GradientFound | None:
        known = [f for f in (self.sides[side].found.get(root) for root in roots) if f is not None]
        return max(known, key=lambda f: float("inf") if f.ratio is None else f.ratio, default=None)

    def _parameters_apart(
        self, steps: tuple[Step, Step], position: int, roots: tuple[tuple[str, ...], ...]
    ) -> float | None:
        """End to end, in the node's layout: gradients are sent through the moves that the parameters take."""
        arrays: list[Array | None] = []
        for i in (0, 1):
            given = {r: self.sides[i].gradients[r] for r in roots[i] if r in self.sides[i].gradients}
            if not given:
                arrays.append(None)
                continue
            given.update({r: np.zeros_like(held(self.sides[i].graph, r)) for r in roots[i] if r not in given})
            try:
                arrays.append(self.found.judge.sides[i].program.parameter(steps[i], position, given))
            except (OpaqueStep, CannotEvaluate, ValueError):
                return None
        nodes = steps[0].node, steps[1].node
        assert nodes[0] is not None and nodes[1] is not None
        name = ("transA", "transB", "")[min(position, 2)]
        if nodes[0].op_type == "Gemm" and nodes[0].attributes.get(name, 0) != nodes[1].attributes.get(
            name, 0
        ):
            arrays[1] = None if arrays[1] is None else arrays[1].T
        return distance(arrays[0], arrays[1])

    def _alone(self, side: int) -> None:
        """Gradients without a partner: shown where something is to be said of them."""
        own, seen = self.sides[side], self.seen[side]
        running = statistics(own.graph)
        for key, one in own.found.items():
            if key in seen or key in running or state(one) == "ok":
                continue
            keys = ((key,), ()) if side == 0 else ((), (key,))
            pair = (one, None) if side == 0 else (None, one)
            self._add(own.kind(key), keys[0], keys[1], pair, None)

    def _add(
        self,
        kind: str,
        ours: tuple[str, ...],
        theirs: tuple[str, ...],
        pair: tuple[GradientFound | None, GradientFound | None],
        apart: float | None,
        kinked: str = "",
    ) -> None:
        self.seen[0].update(ours)
        self.seen[1].update(theirs)
        verdict, explanation, cause = self._decided(pair, apart, kinked)
        names = [
            " + ".join(s.name(k) for k in keys) for s, keys in zip(self.sides, (ours, theirs), strict=True)
        ]
        self.made.append(
            GradientResult(
                kind=kind, reference=names[0], candidate=names[1], verdict=verdict, explanation=explanation, cause=cause,
                reference_ratio=None if pair[0] is None else pair[0].ratio,
                candidate_ratio=None if pair[1] is None else pair[1].ratio, end_to_end=apart,
            )
        )  # fmt: skip

    def _decided(
        self, pair: tuple[GradientFound | None, GradientFound | None], apart: float | None, kinked: str
    ) -> tuple[GradientVerdict, str, str]:
        """Verdict, explanation and cause of one row."""
        states = [state(one) for one in pair]
        bad = [i for i in (1, 0) if states[i] == "bad"]
        if bad:
            return self._deviation(bad[0], pair, states, apart)
        for i in (1, 0):
            one = pair[i]
            if one is not None and states[i] == "unknown":
                return "undecided", f"the {SIDES[i]}'s could not be judged: {one.reason}", ""
            if one is not None and states[i] == "doubtful":
                how = f"{one.ratio:.2g} times what float32 round-off allows, {one.gross:.2g} of its scale"
                return (
                    "undecided",
                    f"the {SIDES[i]}'s is off by {how}: reduced precision, or a small mistake",
                    "",
                )
        if kinked:
            return "kink", kinked, "grad-kinks"
        how = next((f"; {one.how}" for one in pair if one is not None and one.how), "")
        if apart == float("inf"):
            side = 0 if pair[0] is None or pair[0].absent else 1
            return "round-off", f"no gradient arrives in the {SIDES[side]}", ""
        if apart == 0.0 and None not in pair:
            return "identical", f"the same numbers{how}", ""
        return "round-off", f"what the operators' own functions give{how}", ""

    def _deviation(
        self,
        side: int,
        pair: tuple[GradientFound | None, GradientFound | None],
        states: list[str],
        apart: float | None,
    ) -> tuple[GradientVerdict, str, str]:
        """A side whose gradient is not that of its own operators; both may do so in the same way."""
        one = pair[side]
        assert one is not None
        if (states == ["bad", "bad"] and apart is not None and apart <= ALIKE) or self._mirrored(
            side, one.key
        ):
            return (
                "alike",
                "both sides pass on something else than their operators' gradient, and the same",
                "",
            )
        if states[1 - side] == "ok" and apart is not None and apart <= ALIKE:
            return (
                "undecided",
                f"the {SIDES[side]}'s operators do not explain it, yet both sides' gradients agree",
                "",
            )
        if one.stopped:
            return "divergent", f"in the {SIDES[side]} {STOPPED}", "stop-gradient-missing"
        size = f"{one.gross:.2g} of its scale, {one.ratio:.2g} times what round-off allows"
        causes = "(a custom gradient, a detached branch, or a wrong backward)"
        return "divergent", f"the {SIDES[side]}'s is not what its operators give, off by {size} {causes}", ""

    def _mirrored(self, side: int, key: str) -> bool:
        """Whether the other side deviates in the same part of the network, with the same gradients around it."""
        shared = self._regions(side, key) & {
            number
            for other, one in self.sides[1 - side].found.items()
            if state(one) == "bad"
            for number in self._regions(1 - side, other)
        }
        if not shared:
            return False
        for number in shared:
            judged = self.found.judged[number]
            for cut in (*judged.region.boundary, judged.region.target):
                order = self.found.judge.axes.get(cut.reference)
                ours, theirs = self._gradient(0, cut.reference), self._gradient(1, cut.candidate)
                if order is None:
                    return False
                apart = distance(None if ours is None else ours.transpose(order.permutation), theirs)
                if apart is None or apart > ALIKE:
                    return False
        return True

    def _regions(self, side: int, key: str) -> set[int]:
        """The regions that make or read a value."""
        graph = self.sides[side].graph
        steps = {*graph.consumers.get(key, ()), *([graph.producer[key]] if key in graph.producer else [])}
        regions = [(j.region.reference, j.region.candidate)[side] for j in self.found.judged]
        return {number for number, own in enumerate(regions) if steps & set(own)}

    def _notes(self) -> list[str]:
        said = []
        for i, side in enumerate(SIDES):
            along = [self.sides[i].name(k) for k, f in self.sides[i].found.items() if f.how and not f.unseen]
            if along:
                shown = ", ".join(along[:5]) + (" …" if len(along) > 5 else "")
                said.append(
                    f"{len(along)} gradients of the {side} were checked along random directions only: {shown}."
                )
            count = sum(k.count for f in self.sides[i].found.values() for k in f.kinks)
            if count:
                said.append(
                    f"{count} elements of the {side} sit on a kink (relu at 0, a tie); they were left out."
                )
        return said


def _doubted(result: GradientResult) -> GradientResult:
    """Both sides right in isolation and far apart all the same: the proof has a hole."""
    if (
        result.end_to_end is None
        or result.end_to_end <= FAR
        or result.verdict not in ("round-off", "identical")
    ):
        return result
    if result.end_to_end == float("inf"):
        why = f"{result.explanation}, on the other side one does"
        return replace(result, verdict="divergent", explanation=why, cause="stop-gradient-missing")
    why = f"each side's gradient is what its operators say, yet they differ by {result.end_to_end:.2g} of their size"
    return replace(result, verdict="undecided", explanation=why)


__all__ = ["Ask", "compare_gradients", "cotangents"]

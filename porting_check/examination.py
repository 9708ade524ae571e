"""Examining two traces: every matched value judged, in the reference's execution order.

Two rules beyond judging one region after the other. A match whose region diverges is *dissolved* when the region that
consumes it is right without it: then the two sides only split the work differently (a padding layer, a folded batch norm,
a flatten order that the next kernel undoes). And whatever is upstream of a wrong layer is judged on the reference's input
all the same, so that every wrong layer is found, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from porting_check.alignment.outputs import OutputPair, pair_outputs
from porting_check.alignment.pairing import WEIGHTS, Pairing, pair
from porting_check.alignment.regions import Axes, Cut, axes, cuts, matched_inputs, region
from porting_check.judgement import Judgement
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Trace
from porting_check.verdict import RESHAPED, Judge

DEPTH = 4
"""How many divergent matches in a row may be dissolved together."""

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Examination:
    """What was found of two traces, before diagnosis.

    ``judged`` is in execution order and ends with the models' outputs; ``missing`` and ``extra`` are output paths that
    only the reference or only the candidate has; ``outputs`` says how the others were paired, by the reference's path;
    ``unfed`` are inputs whose axes could not be matched; ``dissolved`` are matches that were no common ground.
    """

    judge: Judge
    pairing: Pairing
    judged: list[Judgement] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    outputs: dict[str, OutputPair] = field(default_factory=dict)
    unfed: list[str] = field(default_factory=list)
    dissolved: list[Cut] = field(default_factory=list)

    @property
    def reference(self) -> Graph:
        """The reference's graph."""
        return self.judge.reference

    @property
    def candidate(self) -> Graph:
        """The candidate's graph."""
        return self.judge.candidate


def examine(
    reference: Trace,
    candidate: Trace,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Examination:
    """Pair two traces and judge every matched value.

    Example:
        >>> found = examine(keras_trace, torch_trace)          # doctest: +SKIP
        >>> [j.region.target.candidate for j in found.judged if j.same is False]   # doctest: +SKIP
        ['conv3:0']
    """
    left, right = Graph(reference), Graph(candidate)
    progress("pairing", 0, 1)
    found = Examination(Judge(left, right), pair(left, right, mapping))
    inputs = _inputs(found)
    outputs = _outputs(found, mapping)
    inner = _grounds(found, inputs, outputs)
    targets = sorted(inner + outputs, key=lambda c: left.producer.get(c.reference, -1))
    known = {cut.reference: cut for cut in inputs + inner + outputs}
    divergent: dict[str, Judgement] = {}
    for number, target in enumerate(targets):
        progress("judging", number, len(targets))
        judged = _judge(found, known, divergent, target)
        found.judge.accept(judged)
        found.judged.append(judged)
        if not judged.same and judged.axes is None:
            _no_ground(found, known, judged)
        elif judged.same is False and not target.output:
            divergent[target.reference] = judged
    found.judged = [j for j in found.judged if j.region.target not in found.dissolved]
    return found


def _grounds(found: Examination, inputs: list[Cut], outputs: list[Cut]) -> list[Cut]:
    """Matched values on which both graphs are cut, besides inputs and outputs.

    What the models return is paired by contract, so nothing else is matched with those values. A value that lies inside a
    layer on both sides is no ground either: the layers are compared whole.
    """
    taken = {c.reference for c in inputs + outputs}, {c.candidate for c in inputs + outputs}
    values = found.reference.trace.values, found.candidate.trace.values
    made = cuts(found.reference, found.candidate, found.pairing)
    made = [c for c in made if c.reference not in taken[0] and c.candidate not in taken[1]]
    return [c for c in made if c.reference in values[0] or c.candidate in values[1]]


def _no_ground(found: Examination, known: dict[str, Cut], judged: Judgement) -> None:
    """The two tensors cannot be laid over each other: nothing begins here, and a mere guess is taken back.

    So is a match of the same numbers in another shape (rows of a matrix on one side, a batch of sequences on the other).
    """
    target = judged.region.target
    if known.get(target.reference) == target:
        del known[target.reference]
    if not target.output and (WEIGHTS not in target.evidence or RESHAPED in judged.notes):
        found.dissolved.append(target)


def _inputs(found: Examination) -> list[Cut]:
    """Match the models' inputs and their axes, by the layouts in which they were fed."""
    made = []
    for cut in matched_inputs(found.reference, found.candidate):
        arrays = found.reference.array(cut.reference), found.candidate.array(cut.candidate)
        layouts = (
            found.reference.layouts.get(cut.reference, ""),
            found.candidate.layouts.get(cut.candidate, ""),
        )
        assert arrays[0] is not None and arrays[1] is not None
        order: Axes | None = axes((arrays[0].shape, arrays[1].shape), layouts, arrays=arrays)
        if order is None:
            found.unfed.append(cut.reference)
            continue
        found.judge.axes[cut.reference] = order
        made.append(cut)
    return made


def _outputs(found: Examination, mapping: Mapping[str, str] | None) -> list[Cut]:
    """Match the models' outputs, see :mod:`porting_check.alignment.outputs`.

    An input that is handed on as an output by both sides is no comparison.
    """
    ours = {port.name: port.value for port in found.reference.trace.outputs}
    theirs = {port.name: port.value for port in found.candidate.trace.outputs}
    left = {name: np.asarray(found.reference.array(key)) for name, key in ours.items()}
    right = {name: np.asarray(found.candidate.array(key)) for name, key in theirs.items()}
    pairs = pair_outputs(left, right, mapping)
    found.outputs = {pair.reference: pair for pair in pairs}
    found.missing = [name for name in ours if name not in found.outputs]
    found.extra = [name for name in theirs if name not in {pair.candidate for pair in pairs}]
    made = [_output(ours, theirs, pair) for pair in pairs]
    return [
        c for c in made if c.reference in found.reference.producer or c.candidate in found.candidate.producer
    ]


def _output(ours: Mapping[str, str], theirs: Mapping[str, str], pair: OutputPair) -> Cut:
    said = f"model output {pair.reference!r}"
    if pair.candidate != pair.reference:
        said += f", which is {pair.candidate!r} in the candidate"
    evidence = (said, pair.how)
    return Cut(ours[pair.reference], theirs[pair.candidate], evidence, output=pair.reference)


def _judge(
    found: Examination, known: dict[str, Cut], divergent: dict[str, Judgement], target: Cut
) -> Judgement:
    """Judge one target; when it or what it stands on diverges, see whether it is right without those matches.

    A match of two shapes (a side that crops or pads in the next step) is tried without also when the target is right: what
    the candidate does to its own shape may do nothing to the reference's.
    """
    within = region(found.reference, found.candidate, known.values(), target, divergent)
    judged = found.judge.judge(within)
    for cut in within.given_up:
        if WEIGHTS not in cut.evidence and not cut.output:
            found.dissolved.append(known.pop(cut.reference))
            del divergent[cut.reference]
    doubted = {k for k, j in divergent.items() if not judged.same or _misshapen(j)}
    dropped: list[str] = []
    trial = dict(known)
    for _ in range(DEPTH):
        loose = [c.reference for c in within.boundary if c.reference in doubted and not c.output]
        if not loose:
            break
        for key in loose:
            trial.pop(key, None)
        dropped += loose
        within = region(found.reference, found.candidate, trial.values(), target)
        merged = found.judge.judge(within)
        if merged.same:
            found.dissolved += [known.pop(key) for key in dropped if key in known]
            for key in dropped:
                divergent.pop(key, None)
            return merged
    return judged


def _misshapen(judged: Judgement) -> bool:
    """Whether the two sides' tensors have other sizes, not only other values."""
    return judged.axes is not None and judged.axes.of(judged.shapes[0]) != judged.shapes[1]

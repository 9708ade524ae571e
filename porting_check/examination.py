"""Examining two traces: every matched value judged, in the reference's execution order.

Two rules beyond judging one region after the other. A match whose region diverges is *dissolved* when the region that
consumes it is right without it: then the two sides only split the work differently (a padding layer, a folded batch norm,
a flatten order that the next kernel undoes). And whatever is upstream of a wrong layer is judged on the reference's input
all the same, so that every wrong layer is found, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from porting_check.alignment.pairing import Pairing, pair
from porting_check.alignment.regions import Axes, Cut, axes, cuts, match_names, matched_inputs, region
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Trace
from porting_check.verdict import Judge, Judgement

DEPTH = 4
"""How many divergent matches in a row may be dissolved together."""

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Examination:
    """What was found of two traces, before diagnosis.

    ``judged`` is in execution order and ends with the models' outputs; ``missing`` and ``extra`` are output paths that
    only the reference or only the candidate has; ``dissolved`` counts matches that were no common ground.
    """

    judge: Judge
    pairing: Pairing
    judged: list[Judgement] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    guessed_outputs: bool = False
    unfed: list[str] = field(default_factory=list)
    dissolved: int = 0

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
    outputs = _outputs(found)
    inner = [c for c in cuts(left, right, found.pairing) if not any(_same(c, o) for o in outputs)]
    inner = [c for c in inner if c.reference not in {i.reference for i in inputs}]
    targets = sorted(inner + outputs, key=lambda c: left.producer.get(c.reference, -1))
    known = {cut.reference: cut for cut in inputs + inner + [o for o in outputs if _free_output(o, inner)]}
    divergent: dict[str, Judgement] = {}
    for number, target in enumerate(targets):
        progress("judging", number, len(targets))
        judged = _judge(found, known, divergent, target)
        found.judge.accept(judged)
        found.judged.append(judged)
        if judged.same is False and not target.output:
            divergent[target.reference] = judged
    found.judged = [j for j in found.judged if j.region.target.output or j.region.target.reference in known]
    return found


def _same(cut: Cut, output: Cut) -> bool:
    return cut.reference == output.reference and cut.candidate == output.candidate


def _free_output(output: Cut, inner: list[Cut]) -> bool:
    """Whether an output may serve as a boundary for others: neither of its values is matched otherwise."""
    return not any(c.reference == output.reference or c.candidate == output.candidate for c in inner)


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


def _outputs(found: Examination) -> list[Cut]:
    """Match the models' outputs: by name when the names agree, by position when both have as many."""
    ours = {port.name: port.value for port in found.reference.trace.outputs}
    theirs = {port.name: port.value for port in found.candidate.trace.outputs}
    pairs = match_names(list(ours), list(theirs))
    found.guessed_outputs = set(ours) != set(theirs)
    found.missing = list(ours)[len(pairs) :]
    found.extra = list(theirs)[len(pairs) :]
    return [Cut(ours[a], theirs[b], (f"model output {a!r}",), output=a) for a, b in pairs]


def _judge(
    found: Examination, known: dict[str, Cut], divergent: dict[str, Judgement], target: Cut
) -> Judgement:
    """Judge one target; when it or what it stands on diverges, see whether it is right without those matches."""
    within = region(found.reference, found.candidate, known.values(), target)
    judged = found.judge.judge(within)
    if judged.same:
        return judged
    dropped: list[str] = []
    trial = dict(known)
    for _ in range(DEPTH):
        loose = [c.reference for c in within.boundary if c.reference in divergent and not c.output]
        if not loose:
            break
        for key in loose:
            trial.pop(key, None)
        dropped += loose
        within = region(found.reference, found.candidate, trial.values(), target)
        merged = found.judge.judge(within)
        if merged.same:
            for key in dropped:
                known.pop(key, None)
                divergent.pop(key, None)
            found.dissolved += len(dropped)
            return merged
    return judged

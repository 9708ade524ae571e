"""What may not be said of restored values: numbers that only a recorded value can carry are taken out of an examination."""

from __future__ import annotations

from dataclasses import replace

from porting_check.alignment.regions import Region
from porting_check.examination import Examination
from porting_check.judgement import Judgement
from porting_check.keeping.restoring import RestoredValues
from porting_check.neutral.graph import Graph

STANDING = "on noise in place of what could not be restored"
"""Note of a region that was judged on a stand-in."""


def withheld(found: Examination) -> Examination:
    """Take out of an examination what rests on values that were computed again; returns the same examination.

    The end-to-end difference of a pair, and with it the verdict ``identical``, is real only where both sides' values were
    recorded. A side's own error is real only where its value *and* the values that its region begins at were: a recorded
    value is far from what its nodes make of a recomputed input, and a recomputed one is near to anything. A region that
    lacks a value says which, and why.

    Example:
        >>> found = withheld(examine(restored(golden, candidate)[0], candidate))      # doctest: +SKIP
    """
    values = found.reference.trace.values, found.candidate.trace.values
    if any(isinstance(side, RestoredValues) for side in values):
        found.judged = [_honest(found, judged) for judged in found.judged]
    return found


def _honest(found: Examination, judged: Judgement) -> Judgement:
    target = judged.region.target
    graphs, keys = (found.reference, found.candidate), (target.reference, target.candidate)
    sides = (_made(graphs[0]), _made(graphs[1]))
    roundings, reasons = list(judged.roundings), list(judged.reasons)
    for side, own in enumerate(sides):
        if own and (keys[side] in own or not own.isdisjoint(_boundary(judged.region, side))):
            roundings[side], reasons[side] = None, None
    end_to_end = judged.end_to_end
    if keys[0] in sides[0] or keys[1] in sides[1]:
        end_to_end = None
    notes = judged.notes
    if any(
        not side.isdisjoint(_within(found, judged.region, n)) for n, side in enumerate(map(_standing, graphs))
    ):
        notes = (STANDING, *notes)
    return replace(
        judged,
        notes=notes,
        roundings=(roundings[0], roundings[1]),
        reasons=(reasons[0], reasons[1]),
        end_to_end=end_to_end,
        reason=_reason(found, judged) if judged.same is None else judged.reason,
    )


def _made(graph: Graph) -> set[str]:
    values = graph.trace.values
    return set(values.made) if isinstance(values, RestoredValues) else set()


def _standing(graph: Graph) -> frozenset[str]:
    values = graph.trace.values
    return values.standing if isinstance(values, RestoredValues) else frozenset()


def _within(found: Examination, region: Region, side: int) -> set[str]:
    """What the steps of a region read on one side."""
    graph, steps = ((found.reference, region.reference), (found.candidate, region.candidate))[side]
    return {operand.key for index in steps for operand in graph.steps[index].inputs} | _boundary(region, side)


def _boundary(region: Region, side: int) -> set[str]:
    return {(cut.reference, cut.candidate)[side] for cut in region.boundary}


def _reason(found: Examination, judged: Judgement) -> str:
    """Why a region was not judged, where something of it could not be had."""
    region = judged.region
    for side, graph in enumerate((found.reference, found.candidate)):
        values = graph.trace.values
        if not isinstance(values, RestoredValues):
            continue
        steps = (region.reference, region.candidate)[side]
        for key in (operand.key for index in steps for operand in graph.steps[index].inputs):
            if key.startswith("parameter:") and key in values.lacking:
                return values.lacking[key]
        for key in sorted(_boundary(region, side)):
            if key in values.lacking:
                return f"what it reads could not be restored: {values.lacking[key]}"
    return judged.reason

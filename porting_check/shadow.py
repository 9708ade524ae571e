"""The second opinion: both whole models natively in float64, beside the examination of pairs.

The examination evaluates the nodes that adapters describe with this package's own operators, pair by pair. Here each framework
runs its own model, in float64, from the inputs to the outputs; nothing that was described or written here takes part. The
rule is that of the float64 experiment done on *both* sides (a difference of arithmetic shrinks by 1e7 to 1e9, one of function
does not), with its two traps: constants that a framework keeps in float32, and operators that compute in float32 whatever
they are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from porting_check.alignment.regions import Axes
from porting_check.examination import Examination
from porting_check.neutral.errors import PortingError
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Trace, float64_outputs
from porting_check.numerics.constants import effects, explaining
from porting_check.numerics.shrinking import RANK, SIDES, Known, Measured, finding_of, measure
from porting_check.report.section import Section
from porting_check.report.wording import abridged

Array = np.ndarray

LARGEST = 60_000_000
"""Constants are looked for only where both sides' recorded values have fewer elements than this: it takes several evaluations."""

DISAGREE = "The two opinions disagree: "
"""What the notes about a disagreement begin with; see :func:`warnings`."""


def shadow(found: Examination) -> Section | None:
    """Compare the float64 outputs that both recordings hold; ``None`` when neither was asked for them.

    Args:
        found: the examination, which pairs outputs and their axes, and is the first opinion.

    Returns:
        The section ``float64``. Its verdict is ``"inconclusive"`` when the pairs all agree and the whole models, in float64,
        compute different functions that nothing explains; else it decides nothing. :func:`warnings` gives what the report
        must warn of.

    Example:
        >>> shadow(examine(ours, theirs)).answer                  # doctest: +SKIP
        'Run whole in float64, each in its own framework, the outputs agree: the largest difference of 2.4e-07 shrinks to …'
    """
    sides = found.reference.trace, found.candidate.trace
    wide = float64_outputs(sides[0]), float64_outputs(sides[1])
    if not any(wide) and not any(trace.checks.float64 for trace in sides):
        return None
    notes = [
        f"In the {side}'s float64 run: {_sentence(note)}" for side, note in _gathered(_inside(sides, wide))
    ]
    if not all(wide):
        return _section(_one_sided(sides, wide), (), notes)
    drawn = [s for s, trace in zip(SIDES, sides, strict=True) if (trace.checks.repeat_difference or 0.0) > 0]
    if drawn:
        answer = f"The {drawn[0]} gives other outputs in every run, so its run in float64 cannot be compared."
        return _section(answer, (), notes)
    rows = [_row(found, path, wide) for path in found.outputs if path in wide[0]]
    return _judged(found, tuple(row for row in rows if row is not None), notes)


def warnings(section: Section) -> tuple[str, ...]:
    """The notes of a section that the report must warn of: where the two opinions disagree."""
    return tuple(note for note in section.notes if note.startswith(DISAGREE))


COLUMNS = {
    "output": "output",
    "gap32": "float32",
    "gap64": "float64",
    "shrink": "shrinks by",
    "units": "of float32's resolution",
    "finding": "finding",
}

Wide = tuple[Mapping[str, Array], Mapping[str, Array]]


def _section(
    answer: str, rows: tuple[Mapping[str, object], ...], notes: list[str], *, doubtful: bool = False
) -> Section:
    return Section(
        id="float64",
        title="Second opinion: the whole models in float64",
        answer=answer,
        verdict="inconclusive" if doubtful else "",
        columns=COLUMNS if rows else {},
        rows=rows,
        notes=tuple(notes),
    )


def _inside(sides: tuple[Trace, Trace], wide: Wide) -> list[tuple[str, str]]:
    """What computed in float32 in a run that there was, by side."""
    pairs = zip(SIDES, sides, wide, strict=True)
    return [(side, note) for side, trace, outputs in pairs if outputs for note in trace.checks.float64]


def _gathered(notes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Notes that say the same of several layers as one."""
    layers: dict[tuple[str, str, str], list[str]] = {}
    for side, note in notes:
        found = _ONE_LAYER.match(note)
        key = (side, found[1], found[3]) if found else (side, note, "")
        layers.setdefault(key, []).append(found[2] if found else "")
    made = []
    for (side, what, rest), names in layers.items():
        where = f" in {', '.join(abridged(names, 4))}" if names[0] else ""
        made.append((side, what + where + rest))
    return made


_ONE_LAYER = re.compile(r"^(\w+) in (\S+)( (?:keeps|gives|has|makes) .*)$", re.DOTALL)


def _narrow(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes that tell of less than float64 inside, operators before constants; others only say how it was run."""
    found = [note for note in notes if "float32" in note or "float16" in note]
    return tuple(sorted(found, key=lambda note: "constant" in note or " as float32" in note))


def _one_sided(sides: tuple[Trace, Trace], wide: Wide) -> str:
    """The answer when a side has no float64 outputs."""
    why = []
    for side, trace, outputs in zip(SIDES, sides, wide, strict=True):
        if not outputs:
            reason = " ".join(trace.checks.float64) or "its recording holds no float64 outputs"
            why.append(f"the {side} ({trace.environment.framework}) was not: {_sentence(reason)}")
    if len(why) == 2:
        return f"Neither side was run in float64: {' '.join(why)}"
    return (
        f"Only one side was run in float64; {why[0]} One side in float64 proves nothing: the difference to the other's "
        "float32 output stays as large as float32's own error, whether the port is right or wrong."
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


# One output.


def _row(found: Examination, path: str, wide: Wide) -> dict[str, object] | None:
    """The measures and the finding of one pair of outputs; ``None`` for an input that both hand on."""
    pair = found.outputs[path]
    keys = tuple(
        next(p.value for p in graph.trace.outputs if p.name == name)
        for graph, name in ((found.reference, pair.reference), (found.candidate, pair.candidate))
    )
    if keys[0] not in found.reference.producer and keys[1] not in found.candidate.producer:
        return None
    row: dict[str, object] = {"output": path, "candidate_output": pair.candidate}
    order = _order(found, path, wide[0][path], wide[1].get(pair.candidate))
    if order is None or pair.doubt:
        why = pair.doubt or "shapes that cannot be laid over each other"
        return {**row, "finding": "not compared", "why": why}
    ours, theirs = np.asarray(wide[0][path]), np.asarray(wide[1][pair.candidate]).transpose(order.back)
    arrays = found.reference.array(keys[0]), found.candidate.array(keys[1])
    assert arrays[0] is not None and arrays[1] is not None
    narrow = np.asarray(arrays[0]), np.asarray(arrays[1]).transpose(order.back)
    measured = measure((ours, theirs), narrow)
    if ours.dtype.kind not in "fc" and measured.gap64 > 0:
        why = "whole numbers differ, as they may where two values are nearly equal"
        return {**row, **_numbers(measured), "finding": "not compared", "why": why}
    known = Known(
        _narrow(note for _, note in _inside((found.reference.trace, found.candidate.trace), wide)),
        any("rounding to float32" in note for judged in found.judged for note in judged.notes),
        lambda: _constants(found, (keys[0], keys[1]), order, theirs - ours),
    )
    finding, why = finding_of(measured, known)
    return {**row, **_numbers(measured), "finding": finding, "why": why}


def _order(found: Examination, path: str, ours: Array, theirs: Array | None) -> Axes | None:
    """How the axes of this output correspond, when the shapes allow it."""
    if theirs is None:
        return None
    judged = next((j for j in found.judged if j.region.target.output == path), None)
    order = None if judged is None else judged.axes
    if order is None and ours.shape == theirs.shape:
        order = Axes(tuple(range(ours.ndim)), "the same shape")
    fits = order is not None and len(order.permutation) == ours.ndim and order.of(ours.shape) == theirs.shape
    return order if fits else None


def _numbers(measured: Measured) -> dict[str, object]:
    return {
        "gap32": measured.gap32,
        "gap64": measured.gap64,
        "shrink": measured.shrink,
        "units": measured.units,
        "scale": measured.scale,
        "reference_error": measured.errors[0],
        "candidate_error": measured.errors[1],
        "reference_grid": measured.grid[0],
        "candidate_grid": measured.grid[1],
    }


def _constants(found: Examination, keys: tuple[str, str], order: Axes, gap: Array) -> tuple[str, ...]:
    """Names of the constants that, held in float32 by one side only, make this difference of outputs."""
    if (
        gap.dtype.kind != "f"
        or sum(_elements(graph) for graph in (found.reference, found.candidate)) > LARGEST
    ):
        return ()
    known: dict[str, Array] = {}
    try:
        for name, array in effects(found.candidate, keys[1]).items():
            known[name] = array.transpose(order.back)
        known.update(effects(found.reference, keys[0]))
    except (PortingError, ValueError, IndexError, TypeError):  # what cannot be evaluated explains nothing
        return ()
    known = {name: array for name, array in known.items() if array.shape == gap.shape}
    return tuple(explaining(gap, known) or ())


def _elements(graph: Graph) -> int:
    made = {operand.key for step in graph.steps for operand in step.outputs}
    return sum(np.asarray(graph.trace.values[key]).size for key in made if key in graph.trace.values)


# All outputs, and the other opinion.


def _judged(found: Examination, rows: tuple[dict[str, object], ...], notes: list[str]) -> Section:
    """The answer from all rows, and where it disagrees with the pairs."""
    if not rows:
        return _section("Both sides ran in float64, but no outputs are paired.", (), notes)
    worst = max(rows, key=lambda row: (RANK.index(str(row["finding"])), row.get("units") or 0.0))
    first = opinion(found)
    second = str(worst["finding"])
    clash = disagreement(first, second)
    answer = f"Run whole in float64, each in its own framework, {_answer(worst, len(rows))}"
    told = [
        f"Output {row['output']}: {_sentence(str(row['why']))}" for row in rows if row["finding"] != RANK[0]
    ]
    doubtful = first == "same" and second == "different function"
    return _section(answer, rows, [*([clash] if clash else []), *told, *notes], doubtful=doubtful)


def opinion(found: Examination) -> str:
    """The first opinion in one word: ``same``, ``divergent`` or ``undecided``."""
    same = [judged.same for judged in found.judged]
    return "divergent" if False in same else "undecided" if None in same or not same else "same"


def disagreement(first: str, second: str) -> str:
    """Where the examination of pairs and the whole models in float64 contradict each other, in words; else "".

    Example:
        >>> disagreement("same", "same function")
        ''
    """
    if first == "same" and second == "different function":
        return DISAGREE + (
            "every pair computes the same function on the reference's values, yet the whole models do not in float64. Either "
            "something outside the recorded layers differs, or a float64 run is not the model that was recorded."
        )
    if first == "same" and second == "below float32":
        return DISAGREE + (
            "every pair computes the same function by its description, yet the whole models differ in float64 by less than "
            "float32 shows: look for a constant (epsilon, slope) or a variant of an activation that differs."
        )
    if first == "divergent" and second in ("same function", "float32 constant"):
        return DISAGREE + (
            "pairs diverge, yet the whole models give the same outputs in float64: what diverges does not reach the outputs "
            "on this input, or is undone later."
        )
    return ""


def _answer(worst: Mapping[str, object], count: int) -> str:
    """The end of the answer, from the output that is worst."""
    which = f"output {worst['output']!r}" if count > 1 else "the output"
    sizes = _sizes(worst)
    said = {
        "same function": f"the two compute the same function: {sizes}",
        "float32 constant": f"the two compute the same function but for a constant kept in float32: {sizes}",
        "rounded weights": f"the two differ as far as weights rounded to float32 do: {sizes}",
        "float32 inside": f"one side still computes partly in float32, so this cannot decide about {which}: {sizes}",
        "below float32": f"{which} differs by less than float32 resolves, real but invisible on this input: {sizes}",
        "not compared": f"{which} could not be compared: {worst['why']}",
        "different function": f"{which} still differs, so the functions are different: {sizes}",
    }
    return said[str(worst["finding"])].rstrip(".") + "."


def _sizes(row: Mapping[str, object]) -> str:
    if row.get("gap64") is None:
        return ""
    shrink, units = row["shrink"], row["units"]
    ends = f"{row['gap32']:.2g} in float32, {row['gap64']:.2g} in float64"
    by = f", {shrink:.2g} times less" if isinstance(shrink, float) and shrink > 10 else ""
    return f"the largest difference is {ends}{by} ({units:.2g} of what float32 resolves)"

"""What the report says of a golden recording: what was kept, how the rest was had, and which verdicts remain possible."""

from __future__ import annotations

from dataclasses import dataclass, field

from porting_check.keeping.budget import size_of, words
from porting_check.keeping.notes import SAMPLES
from porting_check.keeping.weights import Found
from porting_check.neutral.trace import Trace
from porting_check.report.section import Section

MOST = 8
"""Values that are named in the notes of each kind."""


@dataclass(slots=True)
class Restoration:
    """What came of restoring one recording.

    ``restored`` are the values that were computed again and ``records`` the layers that this took; ``checked`` maps a value
    to how many kept elements it was held against and their largest error in units of what round-off carried along;
    ``refuted`` are values that disagree, ``lacking`` those that could not be had, each with its sentence; ``standing`` and
    ``behind`` are the values and layers that stand on noise in place of those; ``direct`` counts values that were kept whole
    together with everything that they were made from.
    """

    trace: Trace
    side: str
    parameters: Found
    restored: set[str] = field(default_factory=set)
    records: set[int] = field(default_factory=set)
    checked: dict[str, tuple[int, float]] = field(default_factory=dict)
    refuted: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    standing: set[str] = field(default_factory=set)
    behind: set[int] = field(default_factory=set)
    direct: int = 0

    @property
    def computed(self) -> int:
        """How many values the recording's described layers made."""
        return len({p.value for r in self.trace.records if not r.opaque for p in r.outputs})

    @property
    def whole(self) -> int:
        """How many of them were kept whole."""
        made = {p.value for r in self.trace.records if not r.opaque for p in r.outputs}
        return sum(key in self.trace.values for key in made)

    @property
    def unevaluated(self) -> int:
        """How many layers made a value that could not be had."""
        return len(
            {n for n, r in enumerate(self.trace.records) for p in r.outputs if p.value in self.lacking}
        )


def section_of(state: Restoration) -> Section:
    """The section of a restored recording.

    Its verdict is ``"inconclusive"`` when something that was kept contradicts the recording's own nodes, or when something
    could not be had at all.
    """
    doubtful = bool(state.refuted or state.lacking)
    return Section(
        id="kept" if state.side == "reference" else "kept-candidate",
        title=f"The {state.side} is a golden recording",
        answer=_answer(state),
        verdict="inconclusive" if doubtful else "",
        columns={"question": "question", "possible": "what remains possible", "known": "known", "of": "of"},
        rows=tuple(_rows(state)),
        notes=tuple(_notes(state)),
    )


def _answer(state: Restoration) -> str:
    kept = state.trace.kept
    assert kept is not None
    said = f"The {state.side} is a golden recording of {words(size_of(state.trace))} ({kept['policy']})"
    if not kept["dropped"]:
        return f"{said}: nothing was dropped, so that every verdict is possible."
    layers, lost = len(state.records), state.unevaluated
    behind = sum(
        all(p.value not in state.lacking for p in state.trace.records[n].outputs) for n in state.behind
    )
    said += f": {layers} of {layers + lost + behind} layers were evaluated again from their nodes"
    if state.refuted:
        worst = next(iter(state.refuted))
        return f"{said}, and {len(state.refuted)} of their values contradict what was kept, {worst!r} among them."
    if state.checked:
        most = max(count for count, _ in state.checked.values())
        said += (
            f", and agree with the kept elements of each (up to {most})"
            if not lost
            else (f", and agree with the kept elements of {len(state.checked)} values")
        )
    if lost or state.lacking:
        first = next(iter(state.lacking.values()))
        more = f"; {behind} more were evaluated on noise in its place" if behind else ""
        return f"{said}; {lost} could not be, nor be compared: {first.partition(':')[0]}{more}."
    return f"{said}."


def _rows(state: Restoration) -> list[dict[str, object]]:
    """Per question what remains possible."""
    kept = state.trace.kept
    assert kept is not None
    notes, values = kept["dropped"], state.trace.values
    hashed = [key for key, note in notes.items() if "digest" in note]
    whole = sum(key.startswith("parameter:") for key in values)
    sampled = sum(key not in state.refuted and key in state.restored for key in state.checked)
    outputs = len(state.trace.outputs)
    return [
        _row(
            "do both sides compute the same?",
            "decided for every layer that could be evaluated; nothing that was recorded takes part but the inputs",
            state.computed - sum(key in state.lacking for key in notes if key not in hashed),
            state.computed,
        ),
        _row(
            f"is the {state.side} what it says it is?",
            "by the rule where a value and all that it was made from were kept whole",
            state.direct if notes else state.computed,
            state.computed,
        ),
        _row(
            "… and elsewhere?",
            "only at the elements that were kept, within what round-off carried along; never further",
            sampled + sum(key not in state.restored for key in state.checked),
            max(state.computed - state.direct, 0) if notes else 0,
        ),
        _row(
            "are the parameters the same bits?",
            "where they were kept, or the other side holds the very bytes whose digest was",
            whole + len(state.parameters.arrays),
            whole + len(hashed),
        ),
        _row(
            "differences end to end, identical bits",
            "only at values that were kept whole; never claimed of restored ones",
            state.whole,
            state.computed,
        ),
        _row(
            "the whole model in float64",
            "where its outputs in float64 were kept",
            sum(key.startswith("float64:") for key in values),
            outputs,
        ),
    ]


def _row(question: str, possible: str, known: int, of: int) -> dict[str, object]:
    return {"question": question, "possible": possible, "known": known, "of": of}


def _notes(state: Restoration) -> list[str]:
    kept = state.trace.kept
    assert kept is not None
    said = []
    if kept["dropped"]:
        size = words(float(kept["full_bytes"]))
        budget = (
            "without a budget"
            if kept["budget"] is None
            else f"with a budget of {words(float(kept['budget']))}"
        )
        count = sum(key.startswith(SAMPLES) for key in state.trace.values)
        said.append(
            f"The full recording takes {size}; it was pruned {budget}. Of {count} values up to {kept['samples']} elements "
            "were kept, drawn by seed."
        )
    for key, why in list(state.refuted.items())[:MOST]:
        said.append(f"{key!r} contradicts the recording's own nodes: {why}.")
    reasons: dict[str, list[str]] = {}
    for key, why in state.lacking.items():
        if key not in state.refuted:
            reasons.setdefault(why, []).append(key)
    for why, keys in list(reasons.items())[:MOST]:
        values = [key for key in keys if not key.startswith("parameter:")]
        behind = (
            f" Not to be had for it: {', '.join(values[:4])}{' …' if len(values) > 4 else ''}."
            if values
            else ""
        )
        said.append(f"{why[:1].upper()}{why[1:]}.{behind}")
    if state.standing:
        said.append(
            f"{len(state.standing)} values are seeded noise of the recorded range in place of what could not be had, or follow "
            "from it: layers behind it are compared on that, not on what the recorded run computed."
        )
    if kept.get("not_given"):
        names = ", ".join(kept["not_given"][:MOST])
        said.append(
            f"When it was pruned, the nodes did not give these values within round-off, so they were kept: {names}."
        )
    moved = {how for how in state.parameters.maps.values() if " " in how}
    if state.parameters.arrays:
        said.append(
            f"{len(state.parameters.arrays)} parameters were kept by digest and found bit for bit in the other side, "
            f"{len(moved)} of them in another order of axes."
        )
    if state.checked:
        key, (_, worst) = max(state.checked.items(), key=lambda entry: entry[1][1])
        said.append(
            f"The largest error of a kept element is {worst:.2g} times what round-off carried along makes, in {key!r}."
        )
    return said

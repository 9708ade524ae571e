"""Gradients in a report: one row per gradient, the answer first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from porting_check.report.section import Section, SectionVerdict

GradientVerdict = Literal["identical", "round-off", "alike", "kink", "undecided", "divergent"]

ORDER: Mapping[str, int] = {
    "divergent": 0,
    "undecided": 1,
    "kink": 2,
    "alike": 3,
    "round-off": 4,
    "identical": 5,
}
"""Rows that need a reader come first."""

GOOD = {"identical", "round-off"}
"""Verdicts that need no explanation."""

COLUMNS = {
    "kind": "gradient of",
    "reference": "reference",
    "candidate": "candidate",
    "reference_ratio": "ref. ratio",
    "candidate_ratio": "cand. ratio",
    "end_to_end": "end to end",
    "verdict": "verdict",
    "explanation": "why",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientResult:
    """One gradient of both sides.

    ``kind`` is ``input``, ``parameter`` or ``layer output``. The ratios are each side's error against what its own operators
    say, in units of what round-off allows. ``end_to_end`` is the difference of both sides' recorded gradients, root mean
    square over root mean square; it decides nothing by itself. ``cause`` is an id of the catalogue, or empty.
    """

    kind: str
    reference: str
    candidate: str
    verdict: GradientVerdict
    reference_ratio: float | None = None
    candidate_ratio: float | None = None
    end_to_end: float | None = None
    explanation: str = ""
    cause: str = ""

    @property
    def ratio(self) -> float:
        """The larger of both sides' ratios."""
        return max((r for r in (self.reference_ratio, self.candidate_ratio) if r is not None), default=0.0)

    def row(self) -> dict[str, Any]:
        """Plain values for a table."""
        return {name: getattr(self, name) for name in COLUMNS} | {"cause": self.cause}


def refused(side: str, reason: str) -> Section:
    """The section of a comparison whose gradients could not be had.

    Example:
        >>> refused("candidate", "it is a recording").verdict
        'inconclusive'
    """
    answer = f"No gradient was compared: the {side} {reason}"
    return Section(id="gradients", title="Gradients", answer=answer, verdict="inconclusive")


def gradients_section(results: Sequence[GradientResult], notes: Sequence[str] = ()) -> Section:
    """The section of a comparison's gradients, the rows that matter first.

    Example:
        >>> result = GradientResult(kind="parameter", reference="w", candidate="k", verdict="round-off", candidate_ratio=0.2)
        >>> gradients_section([result]).answer[:60]
        "The 1 gradient is what the layers' own functions give; the l"
    """
    ordered = sorted(results, key=lambda r: (ORDER[r.verdict], -r.ratio))
    counts: Counter[str] = Counter(result.verdict for result in results)
    return Section(
        id="gradients",
        title="Gradients",
        answer=_answer(ordered, counts),
        verdict=_verdict(counts, len(results)),
        columns=COLUMNS if set(counts) - GOOD else {k: v for k, v in COLUMNS.items() if k != "explanation"},
        rows=tuple(result.row() for result in ordered),
        notes=tuple(dict.fromkeys([*notes, *(r.explanation for r in ordered if r.verdict == "kink")])),
    )


def _verdict(counts: Mapping[str, int], total: int) -> SectionVerdict:
    if counts.get("divergent"):
        return "divergent"
    return "inconclusive" if counts.get("undecided") or not total else "faithful"


def _answer(ordered: Sequence[GradientResult], counts: Mapping[str, int]) -> str:
    total = len(ordered)
    if not total:
        return (
            "No gradient was compared: no real output depends on a real input or a parameter on both sides."
        )
    worst = ordered[0]
    named = worst.candidate or worst.reference
    if counts.get("divergent"):
        some = f"{counts['divergent']} of {total} gradients {'is' if counts['divergent'] == 1 else 'are'} not the same function's"
        return f"{some}: {worst.kind} {named}: {worst.explanation}."
    if counts.get("undecided"):
        return f"{counts['undecided']} of {total} gradients could not be decided: {worst.kind} {named}: {worst.explanation}."
    largest = (
        max(result.ratio for result in ordered if result.verdict != "alike")
        if counts.keys() - {"alike"}
        else 0.0
    )
    said = f"All {total} gradients are" if total > 1 else "The 1 gradient is"
    kinks = (
        f"; {counts['kink']} hold elements on a kink where the frameworks differ"
        if counts.get("kink")
        else ""
    )
    alike = f"; {counts['alike']} are changed by both models in the same way" if counts.get("alike") else ""
    return (
        f"{said} what the layers' own functions give; the largest error is {largest:.2g} of what round-off allows"
        f"{kinks}{alike}."
    )

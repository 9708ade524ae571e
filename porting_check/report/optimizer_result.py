"""The result of comparing two optimisers: the data, and the answer as text, JSON and a section of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from porting_check.report import wording
from porting_check.report.page import Page, cells, pad, painter
from porting_check.report.plain import plain
from porting_check.report.section import Section, SectionVerdict

SCHEMA = 1
OptimizerVerdict = Literal["equivalent", "divergent", "inconclusive"]
_EXIT: Mapping[str, int] = {"equivalent": 0, "divergent": 1, "inconclusive": 4}
_SECTION: Mapping[str, SectionVerdict] = {
    "equivalent": "faithful",
    "divergent": "divergent",
    "inconclusive": "inconclusive",
}
_STYLES = {"equivalent": "good head", "divergent": "bad head", "inconclusive": "doubt head"}
COLUMNS: Mapping[str, str] = {
    "gradient": "gradient",
    "reference": "reference moves by",
    "candidate": "candidate moves by",
    "ratio": "candidate / reference",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSide:
    """One optimiser: its class, its framework, and how it behaves (``""`` when no known rule explains its steps).

    ``float32_units`` is the largest distance between its float32 and float64 steps, in units of float32 at the parameter
    and at the way it went.
    """

    name: str
    framework: str
    rule: str
    float32_units: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerCause:
    """One difference: the catalogue's id (or the option), both sides' words, and how much of the difference it explains."""

    id: str
    option: str
    reference: str
    candidate: str
    explanation: str
    explains: float
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerComparison:
    """Whether two optimisers make the same steps from the same parameters and gradients.

    Attributes:
        verdict: ``equivalent``, ``divergent``, or ``inconclusive`` (the same in float64, farther apart in float32).
        step: the first step, counted from 1, after which the parameters differ in float64; ``None`` when none does.
        cause: the catalogue's id of what explains most of it; ``unknown`` where no rule was recognised.
        explanation: one or two sentences.
        fix: code for the candidate's framework.
        proven: the candidate's rule with the reference's numbers makes the reference's steps.
        causes: all differences, the largest first.
        rows: how far both moved by the size of the gradient.
        notes: what a constant learning rate or given gradients cannot show.

    Example:
        >>> result = compare_optimizers(keras.optimizers.Adam(), torch.optim.Adam(parameters))    # doctest: +SKIP
        >>> result.verdict, result.cause                                                          # doctest: +SKIP
        ('divergent', 'adam-eps-hat')
    """

    verdict: OptimizerVerdict
    reference: OptimizerSide
    candidate: OptimizerSide
    explanation: str
    step: int | None = None
    cause: str = ""
    fix: str = ""
    proven: bool = False
    causes: tuple[OptimizerCause, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    steps: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether both make the same steps."""
        return self.verdict == "equivalent"

    def __bool__(self) -> bool:
        """A result is not a truth value: use ``result.ok``."""
        raise TypeError("a comparison of optimisers has three verdicts; use result.ok or result.verdict")

    @property
    def exit_status(self) -> int:
        """0 equivalent, 1 divergent, 4 inconclusive."""
        return _EXIT[self.verdict]

    def __str__(self) -> str:
        return render(self)

    def to_json(self) -> str:
        """The whole result as one JSON document."""
        head = {"kind": "porting-check optimizers", "schema": SCHEMA, "verdict": self.verdict, "ok": self.ok}
        return json.dumps(plain({**head, "exit_status": self.exit_status, **asdict(self)}), indent=2)

    def section(self) -> Section:
        """The result as a section of a report (id ``optimizers``)."""
        causes = tuple(c.explanation + (f"; fix: {c.fix}" if c.fix else "") for c in self.causes)
        return Section(
            id="optimizers",
            title="Optimisers, step by step",
            answer=self.explanation,
            verdict=_SECTION[self.verdict],
            columns=COLUMNS,
            rows=self.rows,
            notes=(*(f"{w}: {s}" for w, s in _sides(self)), *causes, *self.notes),
        )


def _sides(result: OptimizerComparison) -> list[tuple[str, str]]:
    return [
        (which, f"{side.name} ({side.framework}) behaves as {side.rule or 'no rule that is known here'}")
        for which, side in (("reference", result.reference), ("candidate", result.candidate))
    ]


def render(result: OptimizerComparison, *, width: int = 110, color: bool = False) -> str:
    """The answer as text: the verdict, both rules, the causes, and the steps by the size of the gradient."""
    paint = painter(color)
    page = Page(width, paint, None)
    page.lines.append(paint(result.verdict.upper(), _STYLES[result.verdict]))
    page.text(result.explanation)
    for which, said in _sides(result):
        page.text(f"{which}: {wording.clean(said)}", 2, 4)
    if result.causes:
        page.section("Causes" + (" (proven: together they explain every step)" if result.proven else ""))
        for cause in result.causes:
            page.text(f"- [{cause.id}] {cause.explanation}{_share(cause)}", 2, 4)
            if cause.fix:
                page.code(cause.fix, 6)
    if result.rows:
        page.section(
            f"How far a parameter moved in {wording.count(result.steps, 'step')}, by the size of its gradient"
        )
        _table(page, result)
    if result.notes:
        page.section("Notes")
        page.capped(result.notes, "note")
    return "\n".join(line.rstrip() for line in page.lines)


def _share(cause: OptimizerCause) -> str:
    return f" (explains {cause.explains:.0%})" if cause.explains >= 0.005 else ""


def _table(page: Page, result: OptimizerComparison) -> None:
    texts = [[wording.number(row[key]) for key in COLUMNS] for row in result.rows]
    table = [list(COLUMNS.values()), *texts]
    widths = [max(cells(row[place]) for row in table) for place in range(len(COLUMNS))]
    for row in table:
        page.lines.append("  " + "  ".join(pad(t, w, right=True) for t, w in zip(row, widths, strict=True)))

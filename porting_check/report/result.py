"""The result of a comparison, as plain frozen data. Rendering is the business of the other modules here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from porting_check.neutral.trace import Checks, Environment
from porting_check.report.section import Section

if TYPE_CHECKING:
    from porting_check.numerics.difference import Difference

SCHEMA = 1
"""Version of the JSON form of a report; readers accept this one."""

PairVerdict = Literal["identical", "round-off", "low-precision", "divergent", "undecided", "not-compared"]
ReportVerdict = Literal["faithful", "divergent", "inconclusive"]
EXIT_STATUS: Mapping[str, int] = {"faithful": 0, "divergent": 1, "inconclusive": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterResult:
    """One parameter of a pair, compared bit for bit in canonical layout.

    ``relation`` says how the two stand: ``identical``, ``equal when rounded to float32`` …, or what was found instead
    (``equal after swapping the spatial axes``, ``different values``, ``absent in the candidate``).
    """

    role: str
    reference: str
    candidate: str
    relation: str
    equal: bool
    difference: Difference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """A pair and its verdict.

    ``reference`` and ``candidate`` are ids of records, in execution order. ``difference`` is isolated: both functions in
    float64 on the reference's input; no accumulated error takes part in it. ``ratio`` is the error in units of what
    round-off allows (above 1 cannot be round-off). ``end_to_end`` is recorded output against recorded output.
    """

    index: int
    reference: tuple[str, ...]
    candidate: tuple[str, ...]
    op: str
    verdict: PairVerdict
    explanation: str
    difference: Difference | None = None
    ratio: float | None = None
    end_to_end: Difference | None = None
    reference_error: float | None = None
    candidate_error: float | None = None
    reference_shape: tuple[int, ...] = ()
    candidate_shape: tuple[int, ...] = ()
    layout: str = ""
    parameters: tuple[ParameterResult, ...] = ()
    paired_by: tuple[str, ...] = ()
    inherited: bool = False
    reference_node: str = ""
    candidate_node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A divergent pair with its cause, the evidence, and the change that mends it.

    ``cause`` is an id of the catalogue, or ``unknown``. ``proven`` is true only when the candidate's node was evaluated
    again with that one change and reproduced the reference in float64. ``fix`` is code for the candidate's framework.
    """

    pair: PairResult
    cause: str
    explanation: str
    fix: str
    proven: bool
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """A record that no comparison covers, on which side, and why."""

    name: str
    side: Literal["reference", "candidate"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Whether this run would have revealed one known mistake.

    ``revealed`` counts the places (pairs) where the mistake, had it been made, would have changed the output beyond
    round-off; ``hidden`` names those where it could not have been seen, and ``reason`` why.
    """

    cause: str
    revealed: int
    hidden: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of the comparison: what ran, where, on which input layouts, and what the recorder checked."""

    model: str
    environment: Environment
    layouts: Mapping[str, str]
    checks: Checks
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer: is the port faithful; if not, which layer is wrong, why, and what to change.

    Example:
        >>> report = compare(keras_model, torch_module)      # doctest: +SKIP
        >>> report.verdict, report.first_divergence.candidate  # doctest: +SKIP
        ('divergent', ('conv3',))
    """

    verdict: ReportVerdict
    reason: str
    reference: Side
    candidate: Side
    pairs: tuple[PairResult, ...]
    findings: tuple[Finding, ...] = ()
    not_compared: tuple[NotCompared, ...] = ()
    power: tuple[Power, ...] = ()
    warnings: tuple[str, ...] = ()
    outputs: tuple[PairResult, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    schema: int = SCHEMA

    @property
    def ok(self) -> bool:
        """Whether the port is faithful; inconclusive is not."""
        return self.verdict == "faithful"

    def __bool__(self) -> bool:
        """A report is not a truth value: use ``report.ok``."""
        raise TypeError("a report has three verdicts; use report.ok or report.verdict")

    @property
    def exit_status(self) -> int:
        """0 faithful, 1 divergent, 4 inconclusive."""
        return EXIT_STATUS[self.verdict]

    def section(self, name: str) -> Section | None:
        """The section of this id (``"gradients"``, ``"float64"``, ``"training"``), or ``None`` when it was not asked for."""
        return next((section for section in self.sections if section.id == name), None)

    @property
    def first_divergence(self) -> PairResult | None:
        """The first divergent pair in execution order, or ``None``."""
        return next((pair for pair in self.pairs if pair.verdict == "divergent"), None)

    def __str__(self) -> str:
        from porting_check.report.console import render

        return render(self)

    def _repr_html_(self) -> str:
        from porting_check.report.html import fragment

        return fragment(self)

    def to_json(self) -> str:
        """The whole report as one JSON document (schema version in ``schema``)."""
        from porting_check.report.json import dumps

        return dumps(self)

    def save(self, path: str | Path) -> Path:
        """Write the report; the suffix chooses the form: ``.html .json .md .xml .csv``.

        Raises:
            PortingError: another suffix, or the file cannot be written.
        """
        from porting_check.report.save import save

        return save(self, Path(path))

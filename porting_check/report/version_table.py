"""One model across environments: which one changed the numbers, where, and by how much; as plain frozen data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from porting_check.neutral.errors import INCONCLUSIVE, NOT_RUN
from porting_check.neutral.trace import Environment
from porting_check.report.plain import plain
from porting_check.report.save import form_of, write

SCHEMA = 1
GOOD = ("identical", "round-off", "low-precision")
"""Verdicts of a change that computes the same function."""

_EXIT = {"agree": 0, "differ": 1, "inconclusive": INCONCLUSIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One layer of a comparison.

    ``ratio`` is its error in units of what round-off allows, the worse of both sides; ``before`` and ``after`` are that of
    each side by itself. ``largest`` is the largest difference of what both recorded there, ``relative`` its share of the
    tensor's scale; what was made upstream is in them.
    """

    layer: str
    op: str
    ratio: float | None = None
    before: float | None = None
    after: float | None = None
    largest: float | None = None
    relative: float | None = None
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed from one environment to another, on identical weights and inputs.

    Attributes:
        reference: label of the environment that is compared with.
        candidate: label of the other one.
        verdict: ``identical`` (the same bits in every layer), ``round-off``, ``low-precision`` (both compute the same; one
            with coarser arithmetic), ``divergent`` or ``undecided``.
        reason: the verdict in a sentence.
        same_outputs: whether every output is the same bits.
        layers: how many were compared.
        changed: how many of them are not the same bits.
        largest: largest difference of an output; ``relative``: its share of that output's scale.
        first: the first layer whose bits changed: its input was the same, so the change was made there.
        worst: the layer that comes nearest to what round-off allows, or goes farthest beyond it.
        divergence: the first layer that computes another function.
        cause: of the divergence, an id of the catalogue, or ``unknown``.
        notes: what else must be known of the two runs.
    """

    reference: str
    candidate: str
    verdict: str
    reason: str
    same_outputs: bool
    layers: int
    changed: int
    largest: float | None = None
    relative: float | None = None
    first: Place | None = None
    worst: Place | None = None
    divergence: Place | None = None
    cause: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One environment: what ran there, and what it changed.

    Attributes:
        label: short and unique: its name, or framework and version.
        title: the environment as the user wrote it.
        model: what was recorded there.
        environment: what the recording says of its surroundings; ``None`` when there is none.
        weights: whose they were, in words.
        kept: whether an earlier run had recorded it.
        seconds: that its recording took.
        error: why there is no recording.
        against_baseline: the change from the baseline; ``None`` for the baseline itself.
        against_previous: the change from the environment before it that could be recorded.
    """

    label: str
    title: str
    model: str
    environment: Environment | None = None
    weights: str = ""
    kept: bool = False
    seconds: float = 0.0
    error: str = ""
    against_baseline: Change | None = None
    against_previous: Change | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Those that there are."""
        return tuple(c for c in (self.against_baseline, self.against_previous) if c is not None)


@dataclass(frozen=True, kw_only=True)
class VersionTable:
    """One model across environments.

    Attributes:
        model: as the user named it.
        rows: in the order given.
        baseline: label of the environment that every other one is compared with.
        notes: sentences to show with the table.

    Example:
        >>> table = matrix("net.onnx", ["docker:ort:1.10", "docker:ort:1.31"])    # doctest: +SKIP
        >>> table.verdict, table.first_change.first.layer                         # doctest: +SKIP
        ('agree', 'conv1')
    """

    model: str
    rows: tuple[VersionRow, ...]
    baseline: str
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """From each environment to the next, where any bit changed."""
        found = (row.against_previous for row in self.rows)
        return tuple(change for change in found if change is not None and change.verdict != "identical")

    @property
    def first_change(self) -> Change | None:
        """The first version that changed the numbers."""
        return next(iter(self.changes), None)

    @property
    def divergent(self) -> tuple[Change, ...]:
        """Changes of the function; from each environment to the next first, then from the baseline."""
        every = [row.against_previous for row in self.rows] + [row.against_baseline for row in self.rows]
        return tuple(change for change in every if change is not None and change.verdict == "divergent")

    @property
    def failed(self) -> tuple[VersionRow, ...]:
        """Environments that gave no recording."""
        return tuple(row for row in self.rows if row.error)

    @property
    def verdict(self) -> str:
        """``differ``, ``agree``, or ``inconclusive``: something was not recorded, or not decided."""
        if self.divergent:
            return "differ"
        every = [change for row in self.rows for change in row.changes]
        whole = every and not self.failed
        return "agree" if whole and all(change.verdict in GOOD for change in every) else "inconclusive"

    @property
    def ok(self) -> bool:
        """Whether every environment computes the same function."""
        return self.verdict == "agree"

    @property
    def exit_status(self) -> int:
        """0 agree, 1 differ, 4 inconclusive, 3 when nothing could be compared because environments failed."""
        if self.failed and not any(row.changes for row in self.rows):
            return NOT_RUN
        return _EXIT[self.verdict]

    def __str__(self) -> str:
        from porting_check.report.version_console import render

        return render(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data; numbers that JSON lacks are text."""
        data = asdict(self)
        for plain_row, row in zip(data["rows"], self.rows, strict=True):
            plain_row["environment"] = row.environment.to_json() if row.environment is not None else None
        head = {"kind": "porting-check matrix", "schema": SCHEMA, "verdict": self.verdict}
        made: dict[str, Any] = plain({**head, "exit_status": self.exit_status, **data})
        return made

    def save(self, path: str | Path) -> Path:
        """Write ``.html``, ``.json``, ``.csv``, ``.md`` or ``.txt``, whole or not at all.

        Raises:
            PortingError: another suffix, or the file cannot be written.

        Example:
            >>> table.save("versions.md")                                         # doctest: +SKIP
            PosixPath('versions.md')
        """
        target = Path(path)
        return write(target, form(target)(self))


def form(path: Path) -> Callable[[VersionTable], str]:
    """The rendering that a path's suffix asks for.

    Raises:
        PortingError: another suffix; the message lists the known ones.
    """
    return form_of(path, FORMS, "a matrix")


def _html(table: VersionTable) -> str:
    from porting_check.report.version_html import dumps

    return dumps(table)


def _csv(table: VersionTable) -> str:
    from porting_check.report.version_console import csv_text

    return csv_text(table)


def _markdown(table: VersionTable) -> str:
    from porting_check.report.version_console import markdown

    return markdown(table)


def _text(table: VersionTable) -> str:
    from porting_check.report.version_console import render

    return render(table, width=140) + "\n"


FORMS: Mapping[str, Callable[[VersionTable], str]] = {
    ".html": _html,
    ".json": lambda table: json.dumps(table.to_json(), indent=2, allow_nan=False) + "\n",
    ".csv": _csv,
    ".md": _markdown,
    ".txt": _text,
}
"""What a suffix means."""

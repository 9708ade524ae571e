"""A part of a report beyond its pairs: one question, its answer, and a table of evidence that every rendering can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SectionVerdict = Literal["", "faithful", "divergent", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One further question that was asked of the two models.

    ``id`` names it in JSON (``gradients``, ``float64``, ``training``). ``answer`` is the sentence to read first. ``verdict``
    takes part in the report's: ``divergent`` makes the report divergent, ``inconclusive`` makes a faithful one inconclusive,
    ``""`` decides nothing. ``columns`` are the keys of ``rows`` to show, in order, with their headings; ``rows`` hold plain
    values (text, numbers, booleans, ``None``), and may hold more than what is shown. ``notes`` are sentences below the table.

    Example:
        >>> section = Section(id="float64", title="Whole models in float64", answer="Both agree.",
        ...     columns={"output": "output", "shrink": "shrinks by"}, rows=({"output": "0", "shrink": 5e8},))
        >>> section.rows[0]["output"]
        '0'
    """

    id: str
    title: str
    answer: str
    verdict: SectionVerdict = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

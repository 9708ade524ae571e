"""Sections of a report as text: one table for the console, one for Markdown, and the cells that HTML shows too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from porting_check.report import wording
from porting_check.report.page import Page, cells, fit, pad
from porting_check.report.section import Section

FEW = 5
"""Rows shown on the console of a section in which everything is right."""

_STYLES = {"": "dim", "faithful": "good", "divergent": "bad", "inconclusive": "doubt"}


def entry(value: Any) -> str:
    """One value of a row as text.

    Example:
        >>> [entry(v) for v in (None, True, 1.5e-7, 12, "conv1")]
        ['-', 'yes', '1.5e-07', '12', 'conv1']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, float):
        return wording.number(value)
    return wording.clean(str(value), 1000)


def console(page: Page, section: Section) -> None:
    """The title, the answer, the table with at most the page's limit of rows, and the notes."""
    page.section(wording.clean(section.title))
    mark = f"{wording.SYMBOLS[section.verdict]} " if section.verdict else ""
    page.text(mark + wording.clean(section.answer, 4000))
    # Of what is right a few rows are enough, the largest errors first.
    few = FEW if section.verdict == "faithful" and page.limit is not None else page.limit
    shown = _shown(section.rows, few)
    if shown and section.columns:
        _table(page, section, shown)
    if len(shown) < len(section.rows):
        page.text(f"… and {wording.count(len(section.rows) - len(shown), 'row')} more (see the saved report)")
    page.capped([wording.clean(note, 4000) for note in section.notes], "note")


def _shown(rows: Sequence[Mapping[str, Any]], limit: int | None) -> Sequence[Mapping[str, Any]]:
    return rows if limit is None else rows[:limit]


def _table(page: Page, section: Section, rows: Sequence[Mapping[str, Any]]) -> None:
    """Columns as wide as their widest cell; the last one that is text takes what is left."""
    keys = list(section.columns)
    texts = [[entry(row.get(key)) for key in keys] for row in rows]
    numeric = [_numeric(rows, key) for key in keys]
    widths = [max(cells(t) for t in column) for column in zip(section.columns.values(), *texts, strict=True)]
    room = page.width - 2 - 2 * (len(keys) - 1)
    while sum(widths) > room and max(widths) > 12:
        widths[widths.index(max(widths))] -= 1
    page.lines.append(page.paint("  " + _line(list(section.columns.values()), widths, numeric), "dim"))
    page.lines += ["  " + _line(row, widths, numeric) for row in texts]


def _numeric(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    found = [row.get(key) for row in rows]
    return all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in found)


def _line(texts: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    return "  ".join(
        pad(fit(t, w), w, right=right) for t, w, right in zip(texts, widths, numeric, strict=True)
    )


def markdown(section: Section, limit: int, escape: Callable[[str], str]) -> list[str]:
    """The same as GitHub's Markdown; ``escape`` makes prose inert."""
    lines = [
        f"### {escape(wording.clean(section.title))}",
        "",
        escape(wording.clean(section.answer, 4000)),
        "",
    ]
    rows = section.rows[:limit]
    if rows and section.columns:
        lines += ["| " + " | ".join(escape(title) for title in section.columns.values()) + " |"]
        lines += ["|" + "|".join(" ---: " if _numeric(rows, k) else " --- " for k in section.columns) + "|"]
        lines += [
            "| " + " | ".join(_cell(row.get(key), escape) for key in section.columns) + " |" for row in rows
        ]
        lines += [""]
    if len(rows) < len(section.rows):
        lines += [f"… and {wording.count(len(section.rows) - len(rows), 'row')} more", ""]
    return lines + [f"- {escape(wording.clean(note, 4000))}" for note in section.notes[:limit]] + [""]


def _cell(value: Any, escape: Callable[[str], str]) -> str:
    """A cell of a Markdown table; only text can hold markup."""
    return escape(entry(value)) if isinstance(value, str) else entry(value)

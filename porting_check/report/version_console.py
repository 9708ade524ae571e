"""A matrix of versions as text, Markdown and CSV: the answer in a sentence, then who changed what against whom."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from porting_check.report import wording
from porting_check.report.csv import spreadsheet_safe
from porting_check.report.page import Page, cells, fit, pad, painter
from porting_check.report.version_table import Change, Place, VersionRow, VersionTable

HEAD = (
    "environment",
    "outputs",
    "largest (of scale)",
    "changed",
    "first changed",
    "nearest to limit",
    "verdict",
)
"""Columns of both tables."""

LEGEND = (
    "largest: largest difference of an output, and its share of the output's scale. changed: layers that are not the same bits. "
    "The number behind a layer is its error in units of what round-off allows, the worse of both sides; above 1 it is not "
    "usual round-off. The first layer that changed had the same input: the change was made there."
)
"""What the columns mean."""

STYLES = {"identical": "good", "round-off": "good", "low-precision": "doubt", "divergent": "bad"}
TONES = {"agree": "faithful", "differ": "divergent", "inconclusive": "inconclusive"}


def headline(table: VersionTable) -> str:
    """The answer in one sentence.

    Example:
        >>> headline(table)                                                           # doctest: +SKIP
        'AGREE: torch 1.10.0 → 2.13.0 changed the numbers first, at conv1 (Conv): 0.31 of what round-off allows; no version
        computes another function'
    """
    changed = _changed(table)
    if table.divergent:
        return f"DIFFER: {_other_function(table, table.divergent[0])}"
    lacking = [f"{wording.clean(row.label, 60)} could not be recorded" for row in table.failed]
    doubts = [
        f"{_arrow(table, c)} is undecided ({wording.clean(c.reason, 200)})"
        for row in table.rows
        for c in dict.fromkeys(row.changes)
        if c.verdict == "undecided"
    ]
    if lacking or doubts:
        return "INCONCLUSIVE: " + "; ".join([*(lacking + doubts)[:3], *([changed] if changed else [])])
    if not changed:
        return f"AGREE: the same bits in every layer of all {len(table.rows)} environments"
    return f"AGREE: {changed}; no version computes another function"


def _changed(table: VersionTable) -> str:
    """Which version changed the numbers first, where, and by how much; and which others did."""
    first = table.first_change
    if first is None or first.first is None:
        return ""
    said = f"{_arrow(table, first)} changed the numbers first, at {place(first.first)}"
    if all(change.same_outputs for change in table.changes):
        said += ", and no output changed"
    others = [_arrow(table, change) for change in table.changes[1:] if change.first is not None]
    if others:
        said += f"; {', '.join(others[:3])}{' and others' if len(others) > 3 else ''} changed them again"
    return said


def _other_function(table: VersionTable, change: Change) -> str:
    where = change.divergence
    if where is None:
        return f"{_arrow(table, change)} computes another function: {wording.clean(change.reason, 300)}"
    cause = "" if change.cause in ("", "unknown") else f" [{change.cause}]"
    return (
        f"{_arrow(table, change)} computes another function first at {place(where)}{cause}: "
        f"{wording.clean(where.explanation, 300)}"
    )


def place(where: Place) -> str:
    """A layer with its operator, by how much it changed, and what its error is in units of round-off."""
    size = "" if where.largest is None else f"by up to {wording.number(where.largest)}, "
    return f"{wording.clean(where.layer, 100)} ({wording.clean(where.op, 60)}): {size}{wording.times(where.ratio)}"


def _arrow(table: VersionTable, change: Change) -> str:
    """``torch 1.10.0 → 2.13.0``; whole labels where the framework is not the same."""
    found = {row.label: row.environment for row in table.rows}
    sides = [found.get(change.reference), found.get(change.candidate)]
    labels = [wording.clean(label, 80) for label in (change.reference, change.candidate)]
    one, other = sides
    if one is not None and other is not None and one.framework == other.framework:
        labels[1] = (
            labels[1].removeprefix(f"{one.framework} ") if labels[0].startswith(one.framework) else labels[1]
        )
    return " → ".join(labels)


def row_cells(label: str, change: Change) -> tuple[str, ...]:
    """One row of a table, in the order of :data:`HEAD`."""
    largest = "-" if change.largest is None else wording.number(change.largest)
    if change.relative:
        largest += f" ({wording.number(change.relative)})"
    return (
        wording.clean(label, 80),
        "same bits" if change.same_outputs else "changed",
        largest,
        f"{change.changed} of {change.layers}",
        "-" if change.first is None else _short(change.first),
        "-" if change.worst is None else _short(change.worst),
        f"{wording.SYMBOLS.get(change.verdict, '?')} {change.verdict}",
    )


def _short(where: Place) -> str:
    return f"{wording.clean(where.layer, 40)} ({wording.shorten(wording.clean(where.op), 30)}) {wording.number(where.ratio)}"


def tables(table: VersionTable) -> list[tuple[str, list[tuple[str, Change]]]]:
    """The two tables with their titles: against the baseline, and each against the one before where that says more."""
    base = [(r.label, r.against_baseline) for r in table.rows if r.against_baseline is not None]
    last = [
        (_arrow(table, r.against_previous), r.against_previous)
        for r in table.rows
        if r.against_previous is not None
    ]
    made = [(f"Against the baseline, {wording.clean(table.baseline, 80)}", base)]
    if [change for _, change in last] != [change for _, change in base]:
        made.append(("Each against the one before", last))
    return made


def remarks(table: VersionTable) -> list[str]:
    """What else is to be known: what was not recorded, weights that were put in, divergences, warnings."""
    said = [f"{row.label} could not be recorded: {row.error}" for row in table.failed]
    for row in table.rows:
        if row.weights not in (("", "the same bits", "none") if row.changes else ("", "its own", "none")):
            said.append(f"{row.label}: weights: {row.weights}")
        for change in dict.fromkeys(row.changes):
            if change.divergence is not None:
                said.append(_other_function(table, change))
            elif change.verdict in ("undecided", "low-precision"):
                said.append(f"{_arrow(table, change)}: {change.verdict}: {change.reason}")
        said += [f"{row.label}: {note}" for change in row.changes[:1] for note in change.notes[:5]]
    return [wording.clean(text, 600) for text in dict.fromkeys([*said, *table.notes])]


def surroundings(row: VersionRow) -> str:
    """Where one row ran, in a sentence."""
    found = row.environment
    if found is None:
        return wording.clean(row.title, 400)
    parts = [", ".join(f"{key} {value}" for key, value in found.versions.items())]
    parts += [f"Python {found.python}" if found.python else "", found.device]
    parts += [f"{found.threads} threads" if found.threads > 1 else "1 thread" if found.threads else ""]
    pins = [(key, found.origin[key]) for key in ("image", "id", "digest", "lock") if found.origin.get(key)]
    parts += [
        f"{key} {value[:19] if value.startswith('sha256:') else value}"
        for key, value in pins
        if value not in row.title
    ]
    parts += ["kept from an earlier run" if row.kept else f"recorded in {row.seconds:.1f} s"]
    title = "" if row.title == row.label else f"{row.title}: "
    return wording.clean(title + "; ".join(part for part in parts if part), 600)


def differing_modes(table: VersionTable) -> list[tuple[str, list[tuple[str, str]]]]:
    """Modes and settings of machines that are not the same everywhere, each with its value by label.

    A mode that only some versions have is no difference; a setting that libraries read from the machine is one.
    """
    found = [(row.label, row.environment) for row in table.rows if row.environment is not None]
    made = []
    for kind in ("modes", "machine"):
        rows = [(label, getattr(environment, kind)) for label, environment in found]
        for key in dict.fromkeys(key for _, held in rows for key in held):
            values = [(label, str(held.get(key, "-"))) for label, held in rows]
            known = {value for _, value in values if value != "-" or kind == "machine"}
            if len(known) > 1:
                made.append((key, values))
    return made


def render(table: VersionTable, *, width: int = 130, color: bool = False, limit: int | None = 40) -> str:
    """The table as text: the answer, the two comparisons, remarks, environments."""
    paint = painter(color)
    page = Page(width, paint, limit)
    tone = {"agree": "good head", "differ": "bad head", "inconclusive": "doubt head"}[table.verdict]
    page.lines.append(paint(headline(table), tone))
    for title, rows in tables(table):
        if rows:
            page.section(title)
            _grid(page, [HEAD, *(row_cells(label, change) for label, change in rows)], [c for _, c in rows])
    page.text(
        LEGEND,
        2,
    )
    said = remarks(table)
    if said:
        page.section("To be known")
        page.capped(said, "remark")
    page.section("Environments")
    for row in table.rows:
        page.text(f"{wording.clean(row.label, 80)}: {surroundings(row)}", 2, 6)
    for key, values in differing_modes(table):
        shown = "; ".join(
            f"{wording.clean(label, 40)}: {wording.clean(value, 60)}" for label, value in values
        )
        page.text(f"{wording.clean(key, 60)} differs: {shown}", 2, 6)
    return "\n".join(line.rstrip() for line in page.lines)


def _grid(page: Page, rows: Sequence[Sequence[str]], changes: Sequence[Change]) -> None:
    """Columns as wide as they must be; names of layers are cut in the middle where the page is too narrow."""
    widths = [max(cells(row[column]) for row in rows) for column in range(len(HEAD))]
    spare = page.width - 2 - 2 * (len(HEAD) - 1) - sum(widths)
    for column in (4, 5, 0):
        if spare < 0:
            cut = min(-spare, max(widths[column] - 14, 0))
            widths[column], spare = widths[column] - cut, spare + cut
    for number, row in enumerate(rows):
        texts = [pad(fit(text, width), width) for text, width in zip(row, widths, strict=True)]
        if number:
            style = STYLES.get(changes[number - 1].verdict, "doubt")
            texts[-1] = page.paint(texts[-1], style)
        page.lines.append("  " + "  ".join(texts))


def markdown(table: VersionTable) -> str:
    """The table for documents, an issue or a pull request."""
    lines = [f"**{_cell(headline(table))}**", ""]
    for title, rows in tables(table):
        if rows:
            lines += [_cell(title) + ":", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
            lines += [
                "| " + " | ".join(map(_cell, row_cells(label, change))) + " |" for label, change in rows
            ]
            lines.append("")
    lines += [_cell(LEGEND), ""]
    lines += [f"- {_cell(text)}" for text in remarks(table)] + [""]
    lines += ["| environment | where |", "|---|---|"]
    lines += [f"| {_cell(wording.clean(row.label, 80))} | {_cell(surroundings(row))} |" for row in table.rows]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _cell(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_<>|[]":
        text = text.replace(sign, "\\" + sign)
    return text


_FIELDS: Sequence[tuple[str, Callable[[Change], object]]] = (
    ("reference", lambda c: c.reference),
    ("candidate", lambda c: c.candidate),
    ("verdict", lambda c: c.verdict),
    ("same_outputs", lambda c: c.same_outputs),
    ("largest", lambda c: c.largest),
    ("relative", lambda c: c.relative),
    ("layers", lambda c: c.layers),
    ("changed", lambda c: c.changed),
    ("first_layer", lambda c: c.first.layer if c.first else ""),
    ("first_op", lambda c: c.first.op if c.first else ""),
    ("first_ratio", lambda c: c.first.ratio if c.first else None),
    ("first_before", lambda c: c.first.before if c.first else None),
    ("first_after", lambda c: c.first.after if c.first else None),
    ("worst_layer", lambda c: c.worst.layer if c.worst else ""),
    ("worst_ratio", lambda c: c.worst.ratio if c.worst else None),
    ("divergent_layer", lambda c: c.divergence.layer if c.divergence else ""),
    ("cause", lambda c: c.cause),
    ("reason", lambda c: c.reason),
)


def csv_text(table: VersionTable) -> str:
    """One line for each comparison, and one for each environment that could not be recorded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["against", *(name for name, _ in _FIELDS)])
    for kind, pick in (("baseline", "against_baseline"), ("previous", "against_previous")):
        for row in table.rows:
            change: Change | None = getattr(row, pick)
            if change is not None:
                writer.writerow([kind, *(spreadsheet_safe(get(change)) for _, get in _FIELDS)])
    for row in table.failed:
        blank = ["failed", "", row.label, "not-recorded", *[""] * (len(_FIELDS) - 4), row.error]
        writer.writerow([spreadsheet_safe(value) for value in blank])
    return buffer.getvalue()

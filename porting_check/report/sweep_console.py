"""A sweep as text: the answer, how the error grows, the numbers, and a drawing in characters; Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from porting_check.report import wording
from porting_check.report.csv import spreadsheet_safe
from porting_check.report.lanes import MARKS, SEVERAL, Lanes
from porting_check.report.page import Page, cells, pad, painter
from porting_check.report.sweep_result import GOOD, LINES, Gap, Measure, Sweep, SweepPoint

COLUMNS = (
    "quantity", "value", "shape", "terms", "name", "against", "verdict", "max_abs", "rms", "relative", "ratio",
    "end_to_end", "sum_abs", "predicted_sum", "scale", *LINES,
)  # fmt: skip
"""Of the CSV form; a row with ``against`` is about two columns, one without about one column and the truth."""

_STYLES = {"agree": "good head", "differ": "bad head", "inconclusive": "doubt head"}
_CELLS = {"identical": "good", "round-off": "good", "divergent": "bad"}


def headline(result: Sweep) -> str:
    """The answer in one sentence."""
    names = ", ".join(map(wording.clean, result.names))
    over = f"{wording.clean(result.quantity)} from {_value(result.points[0].value)} to {_value(result.points[-1].value)}"
    if result.verdict == "agree":
        count = f"all {len(result.points)} points" if len(result.points) > 1 else "the one point"
        return f"AGREE: {names} compute {wording.clean(result.subject)} within round-off at {count}, {over}"
    if result.divergent:
        first = result.divergent[0]
        who = ", ".join(wording.clean(n) for n, m in first.measures.items() if m.verdict == "divergent")
        count = wording.count(len(result.points), "point")
        return (
            f"DIFFER: {len(result.divergent)} of {count} of {wording.clean(result.subject)}; first at "
            f"{wording.clean(result.quantity)} {_value(first.value)}: {who}"
        )
    doubt = sum(not point.good for point in result.points)
    why = (
        f"{doubt} of {len(result.points)} points not computed by all, or not decided"
        if doubt
        else "not all ran"
    )
    return f"INCONCLUSIVE: {why}; {over}"


def growth(result: Sweep) -> str:
    """How the error grows, and how theory says it does; empty where there is nothing to fit."""
    fits = {wording.clean(name): value for name, value in result.exponents.items() if value is not None}
    if not fits or len(result.points) < 2:
        return ""
    quantity = wording.clean(result.quantity)
    found = ", ".join(f"{name} {power(value)}" for name, value in fits.items())
    theory = result.predicted_exponents
    parts = [
        f"{power(theory[line])} {words}"
        for line, words in (
            ("expected", "with sums taken term after term"),
            ("low", "with sums taken in blocks"),
        )
        if theory[line] is not None
    ]
    what = "End to end, the relative error" if result.depth else "The relative error"
    said = f"; theory: {', '.join(parts)}" if parts else ""
    return f"{what} grows as {quantity} to the power of: {found}{said}."


def sums(result: Sweep) -> str:
    """The same of the sum of absolute differences of two; of more than two columns it would be a list of pairs."""
    fits = dict(result.sum_exponents)
    predicted = fits.pop("predicted", None)
    found = next(iter(fits.values()), None)
    if len(fits) != 1 or found is None:
        return ""
    said = f"; predicted at most: {power(predicted)}" if predicted is not None else ""
    return f"The sum of absolute differences grows as {wording.clean(result.quantity)} to the power of {power(found)}{said}."


def power(value: float | None) -> str:
    """An exponent with its sign; nothing is never ``-0.00``."""
    return "-" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def entry(result: Sweep, point: SweepPoint, measure: Measure | None) -> str:
    """A cell: the error as a share of the output's scale, and its ratio to what round-off allows."""
    if measure is None or measure.verdict == "refused":
        return "not run"
    mark = "" if measure.verdict in GOOD else f" {wording.SYMBOLS.get(measure.verdict, '?')}"
    if measure.rms is None:
        return measure.verdict + mark
    error = "0" if measure.rms == 0 else f"{point.relative(measure.rms):.1e}"
    share = f" ({measure.ratio:.2g})" if measure.ratio else ""
    if result.depth and measure.end_to_end is not None:
        share += f" → {point.relative(measure.end_to_end):.1e}"
    return error + share + mark


def render(result: Sweep, *, width: int = 110, color: bool = False, limit: int | None = 40) -> str:
    """The sweep as text."""
    page = Page(width, painter(color), limit)
    page.lines.append(page.paint(headline(result), _STYLES[result.verdict]))
    for sentence in filter(None, (result.note, growth(result), sums(result))):
        page.text(wording.clean(sentence, 2000), 0)
    _table(page, result)
    _drawing(page, result)
    _remarks(page, result)
    return "\n".join(line.rstrip() for line in page.lines)


def title(result: Sweep) -> str:
    """What the cells of the table say."""
    if not result.judged:
        return "Differences"
    return (
        "Rms error of each layer over that of the output (largest error over what round-off allows) → at the chain's end"
        if result.depth
        else "Rms error over rms of the output (and largest error over what round-off allows)"
    )


def rows(result: Sweep) -> tuple[list[str], list[list[str]]]:
    """The table as text: headings, and one list of cells per point."""
    theory = [line for line in LINES if any(getattr(p.band, line) is not None for p in result.points)]
    titles = {"low": "in blocks", "expected": "term by term", "limit": "any order"}
    gaps = any(point.gaps for point in result.points)
    head = [wording.clean(result.quantity), "terms", *map(wording.clean, result.names)]
    known = any(gap.predicted is not None for point in result.points for gap in point.gaps)
    head += [titles[line] for line in theory]
    head += (["sum |d|"] if gaps else []) + (["predicted"] if known else [])
    body = []
    for point in result.points:
        row = [_value(point.value), "-" if point.terms is None else str(point.terms)]
        row += [entry(result, point, point.measures.get(name)) for name in result.names]
        row += [wording.number(point.relative(getattr(point.band, line))) for line in theory]
        worst = widest(point)
        row += [wording.number(worst.sum_abs if worst else None)] if gaps else []
        row += [_predicted(worst)] if known else []
        body.append(row)
    if all(row[1] == "-" for row in body):
        head, body = [head[0], *head[2:]], [[row[0], *row[2:]] for row in body]
    return head, body


def _predicted(gap: Gap | None) -> str:
    """The sum that is to be expected: of two that add in blocks, to two that add term by term."""
    if gap is None or gap.predicted is None:
        return "-"
    return f"{wording.number(gap.blocked)} to {wording.number(gap.predicted)}"


def widest(point: SweepPoint) -> Gap | None:
    """The two columns that are furthest apart."""
    return max(point.gaps, key=lambda gap: gap.sum_abs, default=None)


def _table(page: Page, result: Sweep) -> None:
    page.section(title(result))
    head, body = rows(result)
    widths = [max(map(cells, column)) for column in zip(head, *body, strict=True)]
    page.lines.append("  " + "  ".join(pad(t, w, right=True) for t, w in zip(head, widths, strict=True)))
    first = head.index(wording.clean(result.names[0]))
    shown = body if page.limit is None else body[: page.limit]
    for row, point in zip(shown, result.points, strict=False):
        texts = [pad(text, width, right=True) for text, width in zip(row, widths, strict=True)]
        for place, name in enumerate(result.names, first):
            measure = point.measures.get(name)
            texts[place] = page.paint(texts[place], _CELLS.get(measure.verdict if measure else "", "doubt"))
        page.lines.append("  " + "  ".join(texts))
    if len(shown) < len(body):
        page.text(f"… and {wording.count(len(body) - len(shown), 'point')} more (see the saved sweep)")


def _drawing(page: Page, result: Sweep) -> None:
    """The errors on a logarithmic axis, one line per point."""
    if not result.judged:
        return
    places = [(point, [result.error(point, name) for name in result.names]) for point in result.points]
    bands = [[result.line(point, line) for line in LINES] for point in result.points]
    label = max(cells(wording.clean(result.quantity)), *(len(_value(p.value)) for p in result.points))
    lanes = Lanes(
        [value for _, errors in places for value in errors] + [value for band in bands for value in band],
        width=max(30, page.width - label - 12),
    )
    page.section("End-to-end error along the chain" if result.depth else "Error")
    page.lines.append(f"  {pad('', label)}  {lanes.header()}")
    shown = places if page.limit is None else places[: page.limit]
    for (point, errors), (low, expected, limit) in zip(shown, bands, strict=False):
        marks = list(zip(_marks(result.names), errors, strict=True))
        drawn = lanes.row(marks, band=(low, expected), limit=limit)
        page.lines.append(f"  {pad(_value(point.value), label, right=True)}  {drawn}")
    keys = [
        f"{mark} {wording.clean(name)}" for mark, name in zip(_marks(result.names), result.names, strict=True)
    ]
    keys += [f"{SEVERAL} several"]
    if any(band[0] is not None for band in bands):
        keys.append("░ sums in blocks to term by term")
    if any(band[2] is not None for band in bands):
        keys.append("| limit in any order" if any(band[0] is not None for band in bands) else "| limit")
    page.text("   ".join(keys))


def _marks(names: Sequence[str]) -> list[str]:
    return [MARKS[place % len(MARKS)] for place in range(len(names))]


def _remarks(page: Page, result: Sweep) -> None:
    """What was not run or not decided, and where everything ran."""
    reasons = {
        f"{wording.clean(name)} at {wording.clean(result.quantity)} {_value(point.value)}: {measure.verdict}"
        + (f", {wording.clean(measure.reason, 300)}" if measure.reason else "")
        for point in result.points
        for name, measure in point.measures.items()
        if measure.verdict not in GOOD
    }
    left = [
        f"{wording.clean(name)} did not run: {wording.clean(why, 300)}" for name, why in result.absent.items()
    ]
    if reasons or left:
        page.section("Not within round-off, or not computed")
        page.capped([*left, *sorted(reasons)], "item")
    if result.environments:
        page.section("Environments")
    for name, environment in result.environments.items():
        versions = ", ".join(f"{key} {value}" for key, value in environment.versions.items())
        page.text(wording.clean(f"{name}: {versions}; {environment.device}".rstrip("; "), 600), 2, 6)


def _value(value: float) -> str:
    return f"{value:g}" if value != int(value) or abs(value) >= 1e15 else str(int(value))


def markdown(result: Sweep) -> str:
    """The sweep for an issue or a page of documentation."""
    lines = [f"**{_escaped(headline(result))}**", ""]
    for sentence in filter(None, (result.note, growth(result), sums(result))):
        lines += [_escaped(wording.clean(sentence, 2000)), ""]
    head, body = rows(result)
    lines += [
        title(result) + ":",
        "",
        "| " + " | ".join(map(_escaped, head)) + " |",
        "|" + "---:|" * len(head),
    ]
    lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in body]
    page = Page(100, painter(False), None)
    _drawing(page, result)
    if page.lines:
        lines += ["", "```text", *(line.rstrip() for line in page.lines[2:]), "```"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return text


def csv_text(result: Sweep) -> str:
    """One row per point and column, and one per point and two columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _csv_rows(result):
        writer.writerow([spreadsheet_safe(row.get(name)) for name in COLUMNS])
    return stream.getvalue()


def _csv_rows(result: Sweep) -> Iterator[dict[str, object]]:
    for point in result.points:
        head: dict[str, object] = {
            "quantity": result.quantity,
            "value": point.value,
            "shape": "x".join(map(str, point.shape)),
            "terms": point.terms,
            "scale": point.scale,
            **{line: getattr(point.band, line) for line in LINES},
        }
        for name, measure in point.measures.items():
            numbers = {key: getattr(measure, key) for key in ("max_abs", "rms", "ratio", "end_to_end")}
            relative = point.relative(measure.rms)
            yield {**head, "name": name, "verdict": measure.verdict, "relative": relative, **numbers}
        for gap in point.gaps:
            sums_of = {"sum_abs": gap.sum_abs, "max_abs": gap.max_abs, "predicted_sum": gap.predicted}
            yield {**head, "name": gap.left, "against": gap.right, **sums_of}

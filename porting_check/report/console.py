"""The report as plain text: the answer in the first lines, then the evidence."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Iterable, Iterator

from porting_check.report import facts, growth_console, section_forms, wording
from porting_check.report.page import Page, cells, fit, pad, painter
from porting_check.report.result import Finding, PairResult, ParameterResult, Report

_Numbered = tuple[int, PairResult]

_STYLES = {
    "identical": "good",
    "round-off": "good",
    "low-precision": "doubt",
    "divergent": "bad",
    "undecided": "doubt",
    "not-compared": "doubt",
    "faithful": "good",
    "inconclusive": "doubt",
}


def render(
    report: Report,
    *,
    width: int | None = None,
    color: bool = False,
    limit: int | None = 30,
    fold: bool = True,
) -> str:
    """The whole report as text. The first lines carry verdict, layer, error, cause and fix.

    Args:
        report: what to show.
        width: columns to wrap at; ``None`` takes the terminal's width, at most 120.
        color: whether to write ANSI colours.
        limit: the most rows of the table and of each list; ``None`` shows everything.
        fold: collapse runs of good pairs into one row.

    Example:
        >>> print(render(report, width=80))                    # doctest: +SKIP
        DIVERGENT: 1 of 214 pairs differs by more than round-off can explain
        layer:  stem_conv ↔ _conv_stem  (Conv, pair 1 of 214)
        error:  0.83, 2,100 times what round-off allows
        cause:  conv-same-stride-asym (proven)
        fix:    x = F.pad(x, (0, 1, 0, 1))
    """
    columns = max(40, width if width is not None else min(120, shutil.get_terminal_size((80, 24)).columns))
    page = Page(columns, painter(color), limit)
    head(page, report)
    _reason(page, report)
    _warnings(page, report)
    _findings(page, report)
    _pairs(page, report, fold=fold)
    _growth(page, report)
    _outputs(page, report)
    for section in report.sections:
        section_forms.console(page, section)
    _not_compared(page, report)
    _power(page, report)
    _environments(page, report)
    _reproduce(page, report)
    return "\n".join(line.rstrip() for line in page.lines)


def brief(report: Report, *, color: bool = False) -> str:
    """Only the first lines: verdict, layer, error, cause and fix."""
    page = Page(80, painter(color), None)
    head(page, report)
    return "\n".join(line.rstrip() for line in page.lines)


def head(page: Page, report: Report) -> None:
    """The answer. Each item is one line and is never wrapped: names and code must survive being copied."""
    answer = facts.headline(report)
    style = _STYLES[report.verdict] + " head"
    page.lines.append(page.paint(answer.verdict + ":", style) + " " + answer.sentence)
    label = "error:" if answer.layer else "largest error:"
    for title, text in (
        ("layer:", answer.layer),
        (label, answer.error),
        ("cause:", answer.cause),
        ("not seen:", answer.unseen),
        ("ran in:", answer.places),
    ):
        if text:
            page.lines.append(f"{page.paint(title, 'head')}{' ' * max(1, 8 - len(title))}{text}")
    if answer.fix:
        first, *others = answer.fix.splitlines()
        page.lines.append(f"{page.paint('fix:', 'head')}    {first}")
        page.lines += ["        " + line for line in others]


def _reason(page: Page, report: Report) -> None:
    if facts.reason(report):
        page.lines.append("")
        page.text(facts.reason(report), 0)


def _warnings(page: Page, report: Report) -> None:
    notices = facts.notices(report)
    if notices:
        page.lines.append("")
    for notice in notices:
        page.text(f"! {notice}", 0, 2)


def _findings(page: Page, report: Report) -> None:
    if not report.findings:
        return
    page.section(f"Findings ({len(report.findings)})")
    shown = report.findings if page.limit is None else report.findings[: page.limit]
    for position, finding in enumerate(shown, 1):
        _finding(page, position, finding)
    if len(shown) < len(report.findings):
        page.text(
            f"… and {wording.count(len(report.findings) - len(shown), 'finding')} more (see the saved report)"
        )


def _finding(page: Page, position: int, finding: Finding) -> None:
    pair = finding.pair
    page.lines.append(f"  {position}. {page.paint(wording.pair_name(pair), 'bad')}")
    page.text(f"{wording.clean(finding.cause)} ({facts.proof(finding)})", 5)
    page.text(wording.clean(finding.explanation, 2000), 5)
    for evidence in finding.evidence:
        page.text("- " + wording.clean(evidence, 2000), 5, 7)
    for label, node in (("reference", pair.reference_node), ("candidate", pair.candidate_node)):
        if node:
            page.text(f"{label}  {wording.clean(node, 2000)}", 5, 16)
    for parameter in pair.parameters:
        if not parameter.equal:
            page.text(f"{wording.clean(parameter.role)}: {_parameter(parameter)}", 5, 7)
    if finding.fix.strip():
        page.lines.append("     " + page.paint("fix", "head"))
        page.code(wording.block(finding.fix).strip("\n"), 7)


def _parameter(parameter: ParameterResult) -> str:
    both = f"{wording.clean(parameter.reference) or '-'} ↔ {wording.clean(parameter.candidate) or '-'}"
    return f"{wording.clean(parameter.relation, 500)}  ({both})"


# ----------------------------------------------------------------------------------------------------
# The table of pairs


def _pairs(page: Page, report: Report, *, fold: bool) -> None:
    counts = facts.verdicts(report)
    listed = ", ".join(f"{counts[word]} {word}" for word in wording.SYMBOLS if counts.get(word))
    page.section(f"Pairs ({len(report.pairs)}{': ' + listed if listed else ''})")
    if not report.pairs:
        page.text("no layer of the reference was paired with one of the candidate: nothing was compared")
        return
    numbered = list(enumerate(report.pairs, 1))
    rows = list(_folded(numbered)) if fold else [[item] for item in numbered]
    shown = rows if page.limit is None else rows[: page.limit]
    _table(page, shown, len(str(len(numbered))))
    rest = [pair for row in rows[len(shown) :] for _, pair in row]
    if rest:
        bad = sum(pair.verdict not in wording.GOOD for pair in rest)
        page.text(f"… and {wording.count(len(rest), 'pair')} more, {bad} not good (see the saved report)")


def _folded(pairs: Iterable[_Numbered]) -> Iterator[list[_Numbered]]:
    """Rows of the table: a run of good pairs is one row, any other pair a row of its own."""
    for good, run in itertools.groupby(pairs, lambda item: item[1].verdict in wording.GOOD):
        if good:
            yield list(run)
        else:
            yield from ([item] for item in run)


_NAMES = "reference ↔ candidate"
_NUMBERS = (("error", 7), ("ratio", 7), ("end to end", 10))


def _table(page: Page, rows: list[list[_Numbered]], digits: int) -> None:
    """Rows of fixed width; names that do not fit beside each other stand below each other."""
    index = max(2, digits)
    shown = [row[0][1] for row in rows if len(row) == 1]
    op = min(max([2, *(cells(wording.clean(pair.op, 60)) for pair in shown)]), 10 if page.width < 100 else 24)
    verdict = max([7, *(len(pair.verdict) + 2 for pair in shown)])
    fixed = 2 + index + 2 + op + 2 + verdict + sum(width + 2 for _, width in _NUMBERS) + 2
    longest = max([len(_NAMES), *(cells(wording.pair_name(pair)) for pair in shown)])
    widths = (index, min(max(page.width - fixed, 16), longest), op, verdict)
    if shown:
        title = _NAMES if widths[1] >= len(_NAMES) else "layers"
        tail = "".join(f"  {label:>{width}}" for label, width in _NUMBERS)
        start = f"  {'#':>{index}}  {pad(title, widths[1])}  {pad('op', op)}  {pad('verdict', verdict)}"
        page.lines.append(page.paint(start + tail, "dim"))
    for row in rows:
        if len(row) > 1:
            _run_row(page, row, index)
        else:
            _pair_row(page, row[0], widths)


def _run_row(page: Page, run: list[_Numbered], index: int) -> None:
    same = sum(pair.verdict == "identical" for _, pair in run)
    parts = [f"{same} identical"] if same else []
    parts += [f"{len(run) - same} round-off"] if same < len(run) else []
    ratios = [pair.ratio for _, pair in run if pair.ratio is not None]
    largest = f"; ratio ≤ {wording.number(max(ratios))}" if ratios else ""
    heirs = sum(facts.inherits(pair) for _, pair in run)
    listed = ", ".join(parts) + largest + (f"; {heirs} inherit" if heirs else "")
    text = f"  {run[0][0]:>{index}} to {run[-1][0]}: {len(run)} good ({listed})"
    page.lines.append(page.paint(text, "good"))


def _pair_row(page: Page, item: _Numbered, widths: tuple[int, int, int, int]) -> None:
    position, pair = item
    index, name, op, verdict = widths
    values = (
        pair.difference.max_abs if pair.difference else None,
        pair.ratio,
        pair.end_to_end.max_abs if pair.end_to_end else None,
    )
    tail = "".join(f"  {wording.number(v):>{width}}" for v, (_, width) in zip(values, _NUMBERS, strict=True))
    lines = _names(pair, name)
    kind = pad(fit(wording.clean(pair.op, 60), op), op)
    painted = page.paint(
        pad(f"{wording.SYMBOLS[pair.verdict]} {pair.verdict}", verdict), _STYLES[pair.verdict]
    )
    page.lines.append(f"  {position:>{index}}  {pad(lines[0], name)}  {kind}  {painted}{tail}")
    page.lines += [f"  {'':>{index}}  {line}" for line in lines[1:]]


def _names(pair: PairResult, width: int) -> list[str]:
    whole = wording.pair_name(pair)
    if cells(whole) <= width:
        return [whole]
    return [fit(wording.names(pair.reference), width), "↔ " + fit(wording.names(pair.candidate), width - 2)]


# ----------------------------------------------------------------------------------------------------
# What follows the table


def _growth(page: Page, report: Report) -> None:
    """How the error grew with depth: a sentence, and the drawing where everything is wanted."""
    said = growth_console.sentence(report)
    if not said:
        return
    page.section("Error and depth")
    page.text(said)
    if page.limit is None:
        page.lines += growth_console.lines(report, width=page.width)


def _outputs(page: Page, report: Report) -> None:
    if not report.outputs:
        return
    page.section("Outputs of the model, end to end")
    for pair in report.outputs:
        shown = pair.end_to_end or pair.difference
        error = (
            f"largest difference {wording.number(shown.max_abs)}"
            if shown
            else wording.clean(pair.explanation, 500)
        )
        word, style = f"{wording.SYMBOLS[pair.verdict]} {pair.verdict}", _STYLES[pair.verdict]
        mark = page.paint("✗ inherited error", "bad") if facts.inherits(pair) else page.paint(word, style)
        page.lines.append(f"  {wording.pair_name(pair)}  {mark}  {error}")


def _not_compared(page: Page, report: Report) -> None:
    pairs = [pair for pair in report.pairs if pair.verdict == "not-compared"]
    total = len(report.not_compared) + len(pairs)
    if not total:
        return
    page.section(f"Not compared ({total})")
    rows = [
        f"{item.side}  {wording.clean(item.name)}: {wording.clean(item.reason, 1000)}"
        for item in report.not_compared
    ]
    rows += [f"pair  {wording.pair_name(pair)}: {wording.clean(pair.explanation, 1000)}" for pair in pairs]
    page.capped(rows, "record")


def _power(page: Page, report: Report) -> None:
    possible = facts.applicable(report)
    if not report.power:
        return
    seen = sum(not item.hidden for item in possible)
    page.section(
        f"Power: {seen} of {wording.count(len(possible), 'known mistake')} would have been seen wherever made"
    )
    rows = []
    for item in facts.unseen(report):
        places = ", ".join(wording.clean(name) for name in item.hidden[:3]) + (
            ", …" if len(item.hidden) > 3 else ""
        )
        where = f"hidden at {wording.count(len(item.hidden), 'place')} ({places})"
        elsewhere = f", visible at {item.revealed}" if item.revealed else ""
        rows.append(f"{wording.clean(item.cause)}: {where}{elsewhere}: {wording.clean(item.reason, 1000)}")
    page.capped(rows, "mistake")
    absent = len(report.power) - len(possible)
    if absent:
        page.text(f"{wording.count(absent, 'mistake')} of the catalogue cannot occur in this model")


def _environments(page: Page, report: Report) -> None:
    found = [*facts.environment_rows(report), *((*row, False) for row in facts.checks_rows(report))]
    # What is the same on both sides is only told once, unless everything is wanted.
    same = [row for row in found[2:] if row[1] == row[2]] if page.limit is not None else []
    rows = [(f"{row[0]} {'≠' if row[3] else ' '}", row[1], row[2]) for row in found if row not in same]
    page.section("Environments (≠ where both have a value and they differ)")
    label = min(max(cells(row[0]) for row in rows), page.width // 2 - 4)
    side = (page.width - 2 - label - 4) // 2
    page.lines.append(page.paint(f"  {'':{label}}  {pad('reference', side)}  candidate", "dim"))
    for title, left, right in rows:
        columns = [textwrap.wrap(text, side, break_on_hyphens=False) or [""] for text in (left, right)]
        for number in range(max(map(len, columns))):
            texts = [pad(column[number] if number < len(column) else "", side) for column in columns]
            start = pad(fit(title, label) if number == 0 else "", label)
            page.lines.append(f"  {start}  {texts[0]}  {texts[1]}")
    if same:
        page.text(
            "the same on both: " + ", ".join(f"{row[0]} {row[1]}" for row in same if row[1] != "-"), 2, 4
        )


def _reproduce(page: Page, report: Report) -> None:
    page.section("To reproduce")
    if facts.command(report):
        page.code(facts.command(report), 2)
    for key, value in facts.settings_rows(report):
        page.text(f"{key}: {value}", 2, 4)

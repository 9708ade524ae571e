"""The report as Markdown, for a pull request or a GitHub step summary (at most 1 MiB there)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from porting_check.report import facts, growth_console, section_forms, wording
from porting_check.report.result import Finding, PairResult, Report

BYTES = 900_000
"""The largest document: GitHub refuses a step summary beyond 1 MiB, and other steps write to the same one."""

_MARKS = {"faithful": "✅", "divergent": "❌", "inconclusive": "❔"}


def dumps(report: Report, *, limit: int = 200) -> str:
    """The answer, the findings, and a table of at most ``limit`` rows, in GitHub's Markdown.

    Rows of good pairs are left out first, then further rows; what is left out is counted. Names are code, so
    that nothing in them is read as Markdown or HTML.

    Example:
        >>> dumps(report).splitlines()[0]                      # doctest: +SKIP
        '## ❌ DIVERGENT: 1 of 214 pairs differs by more than round-off can explain'
    """
    while True:
        text = re.sub("\n{3,}", "\n\n", "\n".join(_document(report, limit))).strip() + "\n"
        if len(text.encode("utf-8")) <= BYTES or limit <= 1:
            return text
        limit //= 2


def _document(report: Report, limit: int) -> list[str]:
    answer = facts.headline(report)
    lines = [f"## {_MARKS[report.verdict]} {answer.verdict}: {escape(answer.sentence)}", ""]
    lines += _answer(report)
    if facts.reason(report):
        lines += [escape(facts.reason(report)), ""]
    for notice in facts.notices(report)[:limit]:
        lines += [f"> ⚠️ {escape(notice)}", ""]
    lines += _findings(report, limit)
    lines += _pairs(report, limit)
    lines += _growth(report, limit)
    lines += _outputs(report, limit)
    for section in report.sections:
        lines += section_forms.markdown(section, limit, escape)
    lines += _not_compared(report, limit)
    lines += _power(report, limit)
    lines += _environments(report)
    return lines + _reproduce(report)


def escape(text: str) -> str:
    r"""Prose in which nothing is markup.

    Example:
        >>> escape("a_b <i> | `c`"), escape("- no list")
        ('a\\_b &lt;i&gt; \\| \\`c\\`', '\\- no list')
    """
    text = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\s*)(\d*)([-+#=.)])", r"\1\2\\\3", text)


def code(text: str) -> str:
    r"""A name as code, also inside a table. What a code span cannot hold is written as HTML entities.

    Example:
        >>> code("conv1"), code("a|b")
        ('`conv1`', '<code>a&#124;b</code>')
    """
    text = wording.clean(text)
    if not text:
        return ""
    if not re.search(r"[`|\\]", text) and text == text.strip():
        return f"`{text}`"
    return f"<code>{re.sub('[^A-Za-z0-9 ]', lambda match: f'&#{ord(match[0])};', text)}</code>"


def fenced(text: str, language: str = "python") -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *text.splitlines(), fence, ""]


def _names(ids: Iterable[str]) -> str:
    return " + ".join(code(name) for name in wording.abridged(tuple(ids))) or "*(nothing)*"


def _both(pair: PairResult) -> str:
    return f"{_names(pair.reference)} ↔ {_names(pair.candidate)}"


def _table(titles: str, rows: Iterable[Iterable[str]]) -> list[str]:
    columns = titles.split(" | ")
    lines = [f"| {' | '.join(c.removesuffix(':') for c in columns)} |"]
    lines.append(f"|{'|'.join('--:' if c.endswith(':') else '---' for c in columns)}|")
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _more(rest: int, noun: str) -> list[str]:
    return [f"*… and {wording.count(rest, noun)} more; all are in the saved report.*", ""] if rest > 0 else []


def _answer(report: Report) -> list[str]:
    answer = facts.headline(report)
    pair = facts.first_wrong(report) if report.verdict == "divergent" else None
    lines = []
    if pair is not None:
        place = facts.position(report, pair)
        lines.append(
            f"- **first wrong layer:** {_both(pair)}, {code(pair.op)}"
            + (f", pair {place} of {len(report.pairs)}" if place else "")
        )
    label = "error" if pair is not None else "largest error"
    if answer.error:
        lines.append(f"- **{label}:** {escape(answer.error)}")
    if answer.cause:
        lines.append(f"- **cause:** {escape(answer.cause)}")
    if answer.unseen:
        lines.append(f"- **not seen:** {escape(answer.unseen)}")
    if answer.places:
        lines.append(f"- **ran in:** {escape(answer.places)}")
    if answer.fix:
        lines += ["- **fix:**", "", *fenced(answer.fix)]
    return [*lines, ""] if lines else []


def _findings(report: Report, limit: int) -> list[str]:
    if not report.findings:
        return []
    shown = report.findings[: min(limit, 50)]
    lines = [f"### Findings ({len(report.findings)})", ""]
    for number, finding in enumerate(shown, 1):
        lines += _finding(number, finding)
    return lines + _more(len(report.findings) - len(shown), "finding")


def _finding(number: int, finding: Finding) -> list[str]:
    pair = finding.pair
    lines = [f"**{number}.** {_both(pair)}: {code(finding.cause)}, *{escape(facts.proof(finding))}*", ""]
    lines += [escape(wording.clean(finding.explanation, 2000)), ""] if finding.explanation else []
    lines += [f"- {escape(wording.clean(item, 2000))}" for item in finding.evidence[:20]]
    for label, node in (("reference", pair.reference_node), ("candidate", pair.candidate_node)):
        lines += [f"- {label}: {code(wording.clean(node, 2000))}"] if node else []
    for parameter in pair.parameters[:20]:
        if not parameter.equal:
            lines.append(f"- {code(parameter.role)}: {escape(wording.clean(parameter.relation, 500))}")
    return [*lines, "", *(fenced(wording.block(finding.fix).strip("\n")) if finding.fix.strip() else [])]


def _pairs(report: Report, limit: int) -> list[str]:
    counts = facts.verdicts(report)
    listed = ", ".join(f"{counts[word]} {word}" for word in wording.SYMBOLS if counts.get(word))
    lines = [f"### Pairs ({len(report.pairs)}{': ' + listed if listed else ''})", ""]
    if not report.pairs:
        return [*lines, "Nothing was compared.", ""]
    numbered = list(enumerate(report.pairs, 1))
    if len(numbered) > limit:
        numbered = [item for item in numbered if item[1].verdict not in wording.GOOD] or numbered
        lines += (
            ["*Only pairs that are not good are listed.*", ""] if len(numbered) < len(report.pairs) else []
        )
    shown = numbered[:limit]
    titles = "#: | reference ↔ candidate | op | verdict | error: | ratio: | end to end:"
    lines += _table(titles, (_row(number, pair) for number, pair in shown))
    return lines + _more(len(numbered) - len(shown), "pair")


def _row(number: int, pair: PairResult) -> list[str]:
    error = wording.number(pair.difference.max_abs if pair.difference else None)
    end = wording.number(pair.end_to_end.max_abs if pair.end_to_end else None)
    word = f"**{pair.verdict}**" if pair.verdict == "divergent" else pair.verdict
    verdict = f"{wording.SYMBOLS[pair.verdict]} {word}"
    return [str(number), _both(pair), code(pair.op), verdict, error, wording.number(pair.ratio), end]


def _outputs(report: Report, limit: int) -> list[str]:
    if not report.outputs:
        return []
    rows = [
        [
            _both(p),
            "✗ inherited error" if facts.inherits(p) else f"{wording.SYMBOLS[p.verdict]} {p.verdict}",
            wording.number(p.end_to_end.max_abs if p.end_to_end else None),
        ]
        for p in report.outputs[:limit]
    ]
    table = _table("output | verdict | largest difference:", rows)
    return [
        "### Outputs of the model, end to end",
        "",
        *table,
        *_more(len(report.outputs) - len(rows), "output"),
    ]


def _growth(report: Report, limit: int) -> list[str]:
    said = growth_console.sentence(report)
    if not said:
        return []
    drawing = growth_console.markdown(report, limit=min(limit, 60))
    return ["<details><summary>Error and depth</summary>", "", escape(said), "", drawing, "</details>", ""]


def _not_compared(report: Report, limit: int) -> list[str]:
    rows = [
        [item.side, code(item.name), escape(wording.clean(item.reason, 1000))] for item in report.not_compared
    ]
    rows += [
        ["pair", _both(pair), escape(wording.clean(pair.explanation, 1000))]
        for pair in report.pairs
        if pair.verdict == "not-compared"
    ]
    if not rows:
        return []
    table = _table("side | record | reason", rows[:limit])
    return [f"### Not compared ({len(rows)})", "", *table, *_more(len(rows) - limit, "record")]


def _power(report: Report, limit: int) -> list[str]:
    possible, hidden = facts.applicable(report), facts.unseen(report)
    if not report.power:
        return []
    mistakes = wording.count(len(possible), "known mistake")
    title = f"### Power: {len(possible) - len(hidden)} of {mistakes} would have been seen wherever made"
    rows = [
        [
            code(item.cause),
            str(item.revealed),
            ", ".join(code(n) for n in item.hidden[:5]),
            escape(wording.clean(item.reason, 1000)),
        ]
        for item in hidden
    ]
    table = _table("mistake | visible at: | hidden at | why", rows[:limit]) if rows else []
    return [title, "", *table, *_more(len(rows) - limit, "mistake")]


def _environments(report: Report) -> list[str]:
    rows = [
        [escape(label), code(left), code(right), "**differs**" if differs else ""]
        for label, left, right, differs in facts.environment_rows(report)
    ]
    rows += [
        [escape(label), escape(left), escape(right), ""] for label, left, right in facts.checks_rows(report)
    ]
    return [
        "<details><summary>Environments</summary>",
        "",
        *_table("  | reference | candidate |  ", rows),
        "</details>",
        "",
    ]


def _reproduce(report: Report) -> list[str]:
    lines = ["<details><summary>To reproduce</summary>", ""]
    lines += fenced(facts.command(report), "sh") if facts.command(report) else []
    lines += [f"- {code(key)}: {code(value)}" for key, value in facts.settings_rows(report)]
    return [*lines, "", f"Report schema {report.schema}.", "</details>"]

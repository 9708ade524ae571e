"""The report as one self-contained HTML page, and as a fragment for notebooks.

Everything in a report may come from a hostile model. Three things keep it inert: every text is made printable
(:func:`porting_check.report.wording.clean`), jinja2 escapes all of it, and the page's content security policy
allows only the one style sheet and the one script whose hashes it names, and no request to anywhere.
"""

from __future__ import annotations

import base64
import datetime as dt
import difflib
import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting_check.report import facts, section_forms, wording
from porting_check.report.growth import growth, relative
from porting_check.report.result import PairResult, Report

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"

NUMBERS: tuple[tuple[str, str], ...] = (
    ("max_abs", "largest difference"),
    ("max_abs_index", "at index"),
    ("max_rel", "largest relative difference"),
    ("max_rel_index", "at index"),
    ("rms", "root mean square"),
    ("mean_signed", "mean, with sign"),
    ("cosine", "cosine"),
    ("reference_max", "largest value of the reference"),
    ("reference_rms", "root mean square of the reference"),
    ("reference_nonfinite", "not finite in the reference"),
    ("candidate_nonfinite", "not finite in the candidate"),
    ("nonfinite_mismatch", "not finite on one side only"),
    ("fraction_below", "share below 1e-5 of the largest value"),
    ("count", "elements"),
)
"""What is shown of a difference, in this order."""


def dumps(report: Report) -> str:
    """A complete page: opens by double click, makes no request, reads without JavaScript.

    The same report gives the same bytes; a date appears only where ``SOURCE_DATE_EPOCH`` is set.

    Example:
        >>> dumps(report).splitlines()[0]                      # doctest: +SKIP
        '<!doctype html>'
    """
    style, script = _asset("report.css"), _asset("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **_context(report),
            style=_markup(style),
            script=_markup(script),
            policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "base-uri 'none'; form-action 'none'",
            date=_date(),
        )
    )


def fragment(report: Report) -> str:
    """A short piece of HTML for notebooks: the answer and the pairs that are not good. No script.

    Example:
        >>> fragment(report)[:26]                              # doctest: +SKIP
        '<div class="porting-check">'
    """
    return (
        _environment()
        .get_template("fragment.html.j2")
        .render(**_context(report), style=_markup(_asset("fragment.css")))
    )


def _context(report: Report) -> dict[str, Any]:
    """What both templates read."""
    return {
        "report": report,
        "answer": facts.headline(report),
        "counts": facts.verdicts(report),
        "first": facts.first_wrong(report),
        "not_compared_pairs": [pair for pair in report.pairs if pair.verdict == "not-compared"],
        "growth": growth(report),
        "relative": relative,
        "w": wording,
        "f": facts,
        "numbers": NUMBERS,
        "entry": section_forms.entry,
    }


@functools.cache
def _environment() -> jinja2.Environment:
    """Templates in which every value is escaped and made printable, and a misspelt name is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["figure"] = _figure
    environment.filters["nodes"] = _nodes
    return environment


def _printable(value: Any) -> Any:
    """Applied to everything that a template prints: no control or direction-changing character survives."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return wording.block(value) if "\n" in value else wording.clean(value, 4000)
    return value


def _figure(value: Any) -> str:
    """A number, an index, or a dash."""
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(str(item) for item in value) + ")"
    if isinstance(value, int):
        return f"{value:,}"
    return wording.number(value)


def _nodes(pair: PairResult) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Both nodes in pieces, each piece with whether it differs from the other side."""
    sides = [wording.clean(text, 4000) for text in (pair.reference_node, pair.candidate_node)]
    if not all(sides):
        return [
            (label, [(text, False)])
            for label, text in zip(("reference", "candidate"), sides, strict=True)
            if text
        ]
    # A piece is one attribute with its value (brackets may hold commas), or whatever stands between.
    left, right = (re.findall(r"\w+=(?:\[[^\]]*\]|[^,()]*)|[^,()\s]+|[,()]\s*|\s+", text) for text in sides)
    matches = difflib.SequenceMatcher(a=left, b=right, autojunk=False).get_matching_blocks()
    same = (
        {i for m in matches for i in range(m.a, m.a + m.size)},
        {i for m in matches for i in range(m.b, m.b + m.size)},
    )
    pieces = [
        [(text, index not in kept) for index, text in enumerate(side)]
        for side, kept in zip((left, right), same, strict=True)
    ]
    return [("reference", pieces[0]), ("candidate", pieces[1])]


@functools.cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def _markup(text: str) -> Any:
    """One of our own files, to be put into the page as it is."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  a constant file of this package, never a value of a report


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _date(environment: Mapping[str, str] = os.environ) -> str:
    """The day that ``SOURCE_DATE_EPOCH`` names; nothing without it, so that the bytes stay the same."""
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    if not epoch.isdecimal() or len(epoch) > 11:
        return ""
    return dt.datetime.fromtimestamp(int(epoch), tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")

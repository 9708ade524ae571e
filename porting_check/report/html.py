"""The report as one self-contained HTML page, and as a fragment for notebooks.

Everything in a report may come from a hostile model. Three things keep it inert: every text is made printable
(:func:`porting_check.report.wording.clean`), jinja2 escapes all of it, and the page's content security policy
allows only the one style sheet and the one script whose hashes it names, and no request to anywhere.
"""

from __future__ import annotations

from typing import Any

from porting_check.report import facts, section_forms, wording
from porting_check.report.growth import growth, relative
from porting_check.report.result import Report
from porting_check.report.webpage import asset, date, digest, environment, markup

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
    style, script = asset("report.css"), asset("report.js")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **_context(report),
            style=markup(style),
            script=markup(script),
            policy=f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
            "base-uri 'none'; form-action 'none'",
            date=date(),
        )
    )


def fragment(report: Report) -> str:
    """A short piece of HTML for notebooks: the answer and the pairs that are not good. No script.

    Example:
        >>> fragment(report)[:26]                              # doctest: +SKIP
        '<div class="porting-check">'
    """
    return (
        environment()
        .get_template("fragment.html.j2")
        .render(**_context(report), style=markup(asset("fragment.css")))
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

"""The pairs as CSV, one row per pair, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from porting_check.report import facts, wording
from porting_check.report.result import PairResult, Report

COLUMNS = (
    "pair",
    "reference",
    "candidate",
    "op",
    "verdict",
    "ratio",
    "max_abs",
    "max_rel",
    "rms",
    "mean_signed",
    "cosine",
    "nonfinite_mismatch",
    "end_to_end_max_abs",
    "end_to_end_rms",
    "reference_error",
    "candidate_error",
    "inherited",
    "layout",
    "reference_shape",
    "candidate_shape",
    "parameters",
    "parameters_equal",
    "cause",
    "proven",
    "explanation",
)


def dumps(report: Report) -> str:
    """One header line and one row per pair; a number that is absent is an empty cell.

    A text that a spreadsheet would run as a formula (it begins with ``=``, ``+``, ``-`` or ``@``) gets an
    apostrophe in front, because names of layers come from models.

    Example:
        >>> dumps(report).splitlines()[1]                      # doctest: +SKIP
        '1,stem_conv,_conv_stem,Conv,divergent,2100.0,0.83,...'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, pair in enumerate(report.pairs, 1):
        writer.writerow([spreadsheet_safe(value) for value in _row(report, number, pair)])
    return stream.getvalue()


def _row(report: Report, number: int, pair: PairResult) -> Iterator[object]:
    yield from (
        number,
        " + ".join(pair.reference),
        " + ".join(pair.candidate),
        pair.op,
        pair.verdict,
        pair.ratio,
    )
    for name in ("max_abs", "max_rel", "rms", "mean_signed", "cosine", "nonfinite_mismatch"):
        yield getattr(pair.difference, name, None)
    yield from (getattr(pair.end_to_end, "max_abs", None), getattr(pair.end_to_end, "rms", None))
    yield from (pair.reference_error, pair.candidate_error, pair.inherited, pair.layout)
    yield from (_shape(pair.reference_shape), _shape(pair.candidate_shape))
    yield from (len(pair.parameters), sum(parameter.equal for parameter in pair.parameters))
    finding = facts.finding_of(report, pair)
    yield from (finding.cause if finding else None, finding.proven if finding else None, pair.explanation)


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def spreadsheet_safe(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    text = wording.clean(value, 4000)
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text

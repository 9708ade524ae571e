"""From two recordings of one model to what changed between them: the machinery of ``pc.compare``, read as a change."""

from __future__ import annotations

import math
from collections.abc import Sequence

from porting_check.comparison import Progress, compare
from porting_check.neutral.errors import PortingError
from porting_check.neutral.trace import Trace
from porting_check.recording import quiet
from porting_check.report.result import PairResult, Report
from porting_check.report.version_table import Change, Place
from porting_check.report.wording import count


def change_between(
    reference: Trace,
    candidate: Trace,
    labels: tuple[str, str] = ("reference", "candidate"),
    progress: Progress = quiet,
) -> Change:
    """What changed from one recording to another.

    Args:
        reference: the earlier one.
        candidate: the later one, of the same inputs.
        labels: what to call them.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The change; recordings that cannot be compared (other inputs) are ``undecided`` with the reason.

    Example:
        >>> change_between(load_trace("torch110.trace"), load_trace("torch213.trace")).first.layer   # doctest: +SKIP
        'conv1'
    """
    try:
        report = compare(reference, candidate, shadow=False, progress=progress)
    except PortingError as error:
        return Change(
            reference=labels[0],
            candidate=labels[1],
            verdict="undecided",
            reason=str(error),
            same_outputs=False,
            layers=0,
            changed=0,
        )
    return change_of(report, labels)


def change_of(report: Report, labels: tuple[str, str]) -> Change:
    """A report of two recordings of one model as a change."""
    changed = [pair for pair in report.pairs if _moved(pair)]
    known = [pair for pair in report.pairs if pair.ratio is not None]
    worst = max(known, key=lambda pair: _height(pair.ratio), default=None)
    finding = report.findings[0] if report.findings else None
    wrong = finding.pair if finding is not None else report.first_divergence
    same = bool(report.outputs) and all(_still(pair) for pair in report.outputs)
    verdict, reason = _verdict(report, changed)
    largest, relative = _largest(report.outputs)
    return Change(
        reference=labels[0],
        candidate=labels[1],
        verdict=verdict,
        reason=reason,
        same_outputs=same,
        layers=len(report.pairs),
        changed=len(changed),
        largest=largest,
        relative=relative,
        first=_place(changed[0]) if changed else None,
        worst=_place(worst) if worst is not None else None,
        divergence=_place(wrong, finding.explanation if finding is not None else "") if wrong else None,
        cause=finding.cause if finding is not None else "",
        notes=_notes(report),
    )


def _verdict(report: Report, changed: Sequence[PairResult]) -> tuple[str, str]:
    """The verdict of the change, and a sentence."""
    if report.verdict == "divergent":
        return "divergent", report.reason
    if report.verdict == "inconclusive":
        return "undecided", report.reason
    if not changed:
        seen = sum(pair.end_to_end is not None for pair in report.pairs)
        lacking = len(report.pairs) - seen
        more = (
            f"; {count(lacking, 'value')} inside fused layers was recorded on one side only"
            if lacking
            else ""
        )
        return "identical", f"the same bits in {count(seen, 'layer')}{more}"
    coarse = [pair for pair in report.pairs if pair.verdict == "low-precision"]
    if coarse:
        return "low-precision", coarse[0].explanation
    return "round-off", f"{len(changed)} of {count(len(report.pairs), 'layer')} changed, all within round-off"


def _moved(pair: PairResult) -> bool:
    """Whether a layer's recorded output is not the same bits; of one that only one side recorded nothing is known."""
    return pair.end_to_end is not None and not pair.end_to_end.identical


def _still(pair: PairResult) -> bool:
    """Whether both sides recorded a layer's output, and it is the same bits."""
    return pair.end_to_end is not None and pair.end_to_end.identical


def _height(ratio: float | None) -> float:
    """For the largest ratio: a NaN is beyond everything."""
    return -1.0 if ratio is None else math.inf if math.isnan(ratio) else ratio


def _place(pair: PairResult, explanation: str = "") -> Place:
    found = pair.end_to_end
    return Place(
        layer=" + ".join(pair.candidate or pair.reference) or "(input)",
        op=pair.op,
        ratio=pair.ratio,
        before=pair.reference_error,
        after=pair.candidate_error,
        largest=None if found is None else found.max_abs,
        relative=None if found is None else found.relative_max,
        explanation=explanation or pair.explanation,
    )


def _largest(outputs: Sequence[PairResult]) -> tuple[float | None, float | None]:
    """The largest difference of any output, and the largest share of an output's scale."""
    found = [pair.end_to_end for pair in outputs if pair.end_to_end is not None]
    if not found:
        return None, None
    return max(d.max_abs for d in found), max(d.relative_max for d in found)


def _notes(report: Report) -> tuple[str, ...]:
    """Parameters that are not the same bits, and the report's warnings."""
    other = [
        f"{p.candidate or p.reference} ({p.relation})"
        for pair in report.pairs
        for p in pair.parameters
        if not p.equal
    ]
    shown = (
        [f"the weights are not the same: {', '.join(other[:4])}{' …' if len(other) > 4 else ''}"]
        if other
        else []
    )
    return (*shown, *report.warnings)

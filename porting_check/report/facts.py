"""Facts about a report that every rendering states: the answer, the first wrong layer, what was not seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from porting_check.neutral.trace import Environment
from porting_check.report import wording
from porting_check.report.result import Finding, PairResult, Power, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The answer in a few short texts; empty where there is nothing to say."""

    verdict: str
    sentence: str
    layer: str = ""
    error: str = ""
    cause: str = ""
    fix: str = ""
    unseen: str = ""
    places: str = ""


SHOWN_DIFFERENCES = 4
"""Differences of two environments that stand beside the verdict; all of them are in the table."""


def verdicts(report: Report) -> Counter[str]:
    """How many pairs have each verdict."""
    return Counter(pair.verdict for pair in report.pairs)


def compared(report: Report) -> int:
    """How many pairs were compared at all."""
    return sum(pair.verdict != "not-compared" for pair in report.pairs)


def worst(report: Report) -> PairResult | None:
    """The pair with the largest ratio; a ratio that is not a number counts as the largest."""
    rated = [pair for pair in report.pairs if pair.ratio is not None]
    return max(
        rated, key=lambda pair: math.inf if math.isnan(pair.ratio or 0) else (pair.ratio or 0), default=None
    )


def first_wrong(report: Report) -> PairResult | None:
    """The first divergent pair, or else the first divergent output of the whole model."""
    return report.first_divergence or next(
        (pair for pair in report.outputs if pair.verdict == "divergent"), None
    )


def finding_of(report: Report, pair: PairResult) -> Finding | None:
    """The finding about a pair: a proven one before one that is only suspected."""
    about = [finding for finding in report.findings if same(finding.pair, pair)]
    return next((finding for finding in about if finding.proven), about[0] if about else None)


def same(one: PairResult, other: PairResult) -> bool:
    """Whether two results are about the same pair. Not ``==``: a NaN in them is not equal to itself."""
    return (one.index, one.reference, one.candidate) == (other.index, other.reference, other.candidate)


def position(report: Report, pair: PairResult) -> int:
    """The place of a pair in execution order, counted from 1; 0 when it is not a pair of layers."""
    return next((place for place, other in enumerate(report.pairs, 1) if same(other, pair)), 0)


def inherits(pair: PairResult) -> bool:
    """Whether a layer that is right itself has a wrong recorded output: its input was wrong already."""
    return pair.inherited and pair.verdict in {*wording.GOOD, "low-precision"}


def proof(finding: Finding) -> str:
    """Whether the cause is proven, in words."""
    if finding.cause == "unknown":
        return "no known mistake reproduces it"
    return "proven" if finding.proven else "suspected, not proven"


def override(report: Report) -> str:
    """The sentence about an explicit tolerance, or nothing."""
    rtol, atol = report.settings.get("rtol"), report.settings.get("atol")
    if rtol is None and atol is None:
        return ""
    return f"judged with rtol={rtol} and atol={atol}, given by hand, in place of what round-off allows"


def notices(report: Report) -> tuple[str, ...]:
    """What the reader must know: an explicit tolerance first, then the warnings."""
    first = override(report)
    return ((first,) if first else ()) + tuple(wording.clean(warning, 2000) for warning in report.warnings)


def headline(report: Report) -> Headline:
    """The answer: verdict, first wrong layer, size of the error, cause and fix, and where the sides ran."""
    return replace(_answer(report), places=places(report))


def _answer(report: Report) -> Headline:
    if report.verdict == "faithful":
        return Headline(
            verdict="FAITHFUL", sentence=_faithful(report), error=_largest(report), unseen=_unseen(report)
        )
    if report.verdict == "inconclusive":
        sentence = wording.clean(report.reason, 2000) or "nothing could be decided"
        return Headline(verdict="INCONCLUSIVE", sentence=sentence, error=_largest(report))
    pair = first_wrong(report)
    if pair is None:
        return Headline(
            verdict="DIVERGENT", sentence=wording.clean(report.reason, 2000) or "the candidate differs"
        )
    finding = finding_of(report, pair)
    return Headline(
        verdict="DIVERGENT",
        sentence=_divergent(report),
        layer=f"{wording.pair_name(pair)}  ({_place(report, pair)})",
        error=_error(pair),
        cause=f"{wording.clean(finding.cause)} ({proof(finding)})"
        if finding
        else "unknown (no known mistake reproduces it)",
        fix=wording.block(finding.fix).strip("\n") if finding else "",
    )


def _faithful(report: Report) -> str:
    counts = verdicts(report)
    parts = [(counts["identical"], "bit for bit"), (counts["round-off"], _agreement(report))]
    parts += [(counts["low-precision"], "within reduced precision")]
    total = compared(report)
    sentence = "the one pair agrees" if total == 1 else f"all {total} pairs agree"
    listed = ", ".join(f"{amount} {how}" for amount, how in parts if amount)
    missing = len(report.not_compared) + counts["not-compared"]
    return (
        sentence
        + (f": {listed}" if listed else "")
        + (f"; {wording.count(missing, 'record')} not compared" if missing else "")
    )


def _agreement(report: Report) -> str:
    return "within the tolerance given" if override(report) else "to round-off"


def _divergent(report: Report) -> str:
    wrong = verdicts(report)["divergent"]
    if not wrong:
        return (
            wording.clean(report.reason, 2000)
            or "an output of the model differs by more than round-off can explain"
        )
    verb = "differs" if wrong == 1 else "differ"
    return f"{wrong} of {wording.count(len(report.pairs), 'pair')} {verb} by more than round-off can explain"


def _place(report: Report, pair: PairResult) -> str:
    place = position(report, pair)
    return (
        f"{wording.clean(pair.op, 60)}, pair {place} of {len(report.pairs)}"
        if place
        else "output of the model"
    )


def _error(pair: PairResult) -> str:
    if pair.difference is None:
        return wording.clean(pair.explanation, 2000) or "not a number that can be measured"
    if pair.difference.nonfinite_mismatch:
        places = wording.count(pair.difference.nonfinite_mismatch, "place")
        return f"NaN or infinity in {places} where the other side has none"
    text = wording.number(pair.difference.max_abs)
    return (
        f"{text}, {wording.times(pair.ratio)}" if pair.ratio is not None else f"{text} (largest difference)"
    )


def unseen(report: Report) -> list[Power]:
    """Known mistakes that this model could contain and this run could not have shown everywhere."""
    return [item for item in report.power if item.hidden]


def applicable(report: Report) -> list[Power]:
    """Known mistakes that this model could contain at all."""
    return [item for item in report.power if item.hidden or item.revealed]


def _unseen(report: Report) -> str:
    causes = [wording.clean(item.cause) for item in unseen(report)]
    if not causes:
        return ""
    more = f" and {len(causes) - 4} more" if len(causes) > 4 else ""
    return f"{', '.join(causes[:4])}{more} (see Power)"


def _largest(report: Report) -> str:
    pair = worst(report)
    return f"{wording.times(pair.ratio)}, at {wording.pair_name(pair)}" if pair else ""


def environment_rows(report: Report) -> list[tuple[str, str, str, bool]]:
    """Both environments side by side: label, reference, candidate, and whether comparable facts differ."""
    sides = (report.reference, report.candidate)
    rows: list[tuple[str, str, str, bool]] = [
        ("model", wording.clean(sides[0].model), wording.clean(sides[1].model), False)
    ]
    rows.append(
        (
            "framework",
            wording.clean(sides[0].environment.framework),
            wording.clean(sides[1].environment.framework),
            False,
        )
    )
    rows += _merged("", report.reference.environment.versions, report.candidate.environment.versions)
    for label in ("python", "platform", "device", "threads"):
        left, right = (wording.clean(str(getattr(side.environment, label) or "-")) for side in sides)
        rows.append((label, left, right, left != right and "-" not in (left, right)))
    rows += _merged("mode ", report.reference.environment.modes, report.candidate.environment.modes)
    rows += _merged("", report.reference.environment.machine, report.candidate.environment.machine)
    rows += _merged("pinned by ", report.reference.environment.origin, report.candidate.environment.origin)
    layouts = [
        ", ".join(f"{wording.clean(k)}: {wording.clean(v)}" for k, v in side.layouts.items()) or "-"
        for side in sides
    ]
    rows.append(("input layouts", layouts[0], layouts[1], False))
    rows.append(("records", str(sides[0].records), str(sides[1].records), False))
    return rows


def places(report: Report) -> str:
    """Where the two sides ran, and in what those places differ: beside the verdict, when a side ran elsewhere; else "".

    Versions and modes that only one framework has are no difference; threads, instruction sets and shared libraries are.
    """
    sides = (report.reference.environment, report.candidate.environment)
    if not any(side.origin for side in sides):
        return ""
    where = " ↔ ".join(wording.clean(_where(side), 120) for side in sides)
    differing = [
        f"{label.strip()} ({wording.clean(left, 40)} ↔ {wording.clean(right, 40)})"
        for label, left, right, differs in environment_rows(report)
        if differs and not label.startswith("pinned by")
    ]
    if not differing:
        return where
    more = len(differing) - SHOWN_DIFFERENCES
    shown = "; ".join(differing[:SHOWN_DIFFERENCES])
    return f"{where}; they differ in {shown}" + (f"; and {more} more (see Environments)" if more > 0 else "")


def _where(environment: Environment) -> str:
    version = environment.versions.get(environment.framework, "")
    where = environment.origin.get("environment") or environment.origin.get("image", "")
    return f"{environment.framework} {version}".strip() + (f" in {where}" if where else "")


def _merged(
    prefix: str, reference: Mapping[str, str], candidate: Mapping[str, str]
) -> list[tuple[str, str, str, bool]]:
    """Rows for the keys of two mappings; a key that only one side has is no difference."""
    rows = []
    for key in sorted({*reference, *candidate}):
        left, right = (wording.clean(str(side.get(key, "-"))) for side in (reference, candidate))
        rows.append(
            (
                prefix + wording.clean(key),
                left,
                right,
                left != right and key in reference and key in candidate,
            )
        )
    return rows


def checks_rows(report: Report) -> list[tuple[str, str, str]]:
    """What the recorder verified about each run: label, reference, candidate."""
    checks = (report.reference.checks, report.candidate.checks)
    observer = [_check(item.observer_difference, "the same output", "outputs differ by") for item in checks]
    repeat = [_check(item.repeat_difference, "the same output", "outputs differ by") for item in checks]
    training = [", ".join(wording.clean(name) for name in item.training) or "none" for item in checks]
    notes = ["; ".join(wording.clean(note, 1000) for note in item.notes) or "-" for item in checks]
    return [
        ("recorded and unrecorded", observer[0], observer[1]),
        ("run twice", repeat[0], repeat[1]),
        ("layers in training mode", training[0], training[1]),
        ("notes", notes[0], notes[1]),
    ]


def _check(value: float | None, good: str, bad: str) -> str:
    if value is None:
        return "not checked"
    return good if value == 0 else f"{bad} {wording.number(value)}"


def settings_rows(report: Report) -> list[tuple[str, str]]:
    """The settings of the run that were given, without the command line, which is shown by itself."""
    given = {
        key: value for key, value in sorted(report.settings.items()) if value is not None and value != {}
    }
    return [
        (wording.clean(key), wording.clean(str(value), 2000))
        for key, value in given.items()
        if key != "command"
    ]


def reason(report: Report) -> str:
    """Why this verdict, where the headline does not say it already; of a pass also what was largest, in a sentence."""
    text = wording.clean(report.reason, 2000)
    largest = worst(report) if report.verdict == "faithful" else None
    if largest is not None and largest.verdict == "round-off":
        text += f". Largest at {wording.names(largest.candidate)}: {wording.clean(largest.explanation, 1000)}"
    told = headline(report).sentence == text or (
        report.verdict == "divergent" and first_wrong(report) is not None
    )
    return "" if told else text


def command(report: Report) -> str:
    """The command line or call that made the report, when it is known."""
    return wording.clean(str(report.settings.get("command", "")), 4000)

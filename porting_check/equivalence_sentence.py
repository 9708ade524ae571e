"""The sentence that a person reads first."""

from __future__ import annotations

from collections.abc import Mapping

from porting_check.equivalence_verdict import Judgement
from porting_check.numerics.integers import IntegerProbe
from porting_check.report.equivalence_result import Experiment
from porting_check.report.wording import number


def sentence(judged: Judgement, rows: Mapping[str, Experiment], terms: int, shrink: float | None) -> str:
    """The answer: verdict, size in units of what float32 allows, and what each float64 experiment says."""
    narrow = rows["float32|float32"]
    parts = [_first(judged, narrow, terms)]
    if narrow.largest is not None:
        parts += [_both(rows["float64|float64"], shrink, judged), _one(rows)]
    return " ".join(part for part in parts if part)


def _first(judged: Judgement, narrow: Experiment, terms: int) -> str:
    reason = f" {judged.reason[:1].upper()}{judged.reason[1:]}." if judged.reason else ""
    if narrow.largest is None:
        return f"{judged.verdict.capitalize()}:{reason or ' ' + narrow.missing + '.'}"
    if judged.kind == "identical":
        return "Equivalent: in float32 the two are equal bit for bit."
    if narrow.largest == 0:
        return f"{judged.verdict.capitalize()}: in float32 the two are equal on these arrays.{reason}"
    words = f"{judged.verdict.capitalize()}: the two differ by at most {number(narrow.largest)} in float32"
    if judged.ratio is not None:
        of = f" for a sum of {terms} products" if terms else ""
        usual = judged.ratio > 1 and judged.verdict != "different"
        words += f", which is {_times(judged.ratio)} what {'is usual in float32' if usual else 'float32 allows'}{of}"
    return f"{words}.{reason}"


def _times(ratio: float) -> str:
    if ratio <= 1:
        return f"{ratio:.2g} of"
    return f"{number(ratio)} times" if ratio < float("inf") else "far more than"


def _both(wide: Experiment, shrink: float | None, judged: Judgement) -> str:
    """The experiment that decides: float64 on both sides."""
    if wide.largest is None:
        return f"Float64 on both sides could not be run ({wide.missing})."
    if shrink is None:
        return (
            "" if wide.largest == 0 else f"With float64 on both sides they differ by {number(wide.largest)}."
        )
    if shrink == float("inf"):
        return "With float64 on both sides the difference vanishes."
    if shrink < 10:
        return (
            f"With float64 on both sides it does not shrink ({number(wide.largest)}): this is no round-off."
        )
    few = "" if judged.verdict == "equivalent" or shrink > 1e6 else "only "
    return f"With float64 on both sides the difference shrinks {few}{number(shrink)} times, to {number(wide.largest)}."


def _one(rows: Mapping[str, Experiment]) -> str:
    """The experiment that says nothing."""
    mixed = [rows[name].largest for name in ("float32|float64", "float64|float32")]
    known = [value for value in mixed if value is not None]
    wide = rows["float64|float64"].largest
    if not known or wide is None or max(known) == 0 or wide > 0.1 * max(known):
        return ""
    listed = number(max(known))
    return f"With float64 on one side only it is {listed} (does not shrink: that experiment says nothing)."


def summary_of_integers(probe: IntegerProbe) -> str:
    """The integer probe in a sentence."""
    if probe.verdict == "void":
        return f"void: {probe.reason}"
    drawn = f"integers from {-probe.bound} to {probe.bound}, on which no order of summation rounds"
    if probe.verdict == "bit-equal":
        return f"bit-equal on {drawn}: both add the same products"
    share = f"{100 * probe.share:.3g}% of the outputs"
    return f"different on {drawn}: {share}, by up to {probe.largest:.6g} at {list(probe.index)}"

"""What was found of one region, and the verdict and the sentence that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from porting_check.alignment.regions import Axes, Region
from porting_check.numerics.difference import Difference
from porting_check.numerics.excess import Explanation
from porting_check.numerics.rule import Rounding

Array = np.ndarray

SIDES = ("reference", "candidate")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of one region.

    ``truth`` is the reference's float64 output on its own input, kept for diagnosis where the region diverges and memory
    allows; see ``Judge.with_truth``.
    ``gap`` is the largest difference between both sides' functions on that input, in units of float32's resolution at the
    tensor's scale; ``roundings`` are each side's recorded output against its own truth, by the rule (``None``: not
    recorded, or it could not be evaluated), ``reasons`` what explains those that are more than round-off. ``terms`` is the
    length of the longest sum in the region.
    """

    region: Region
    same: bool | None
    gap: float
    axes: Axes | None
    reason: str = ""
    truth: Array | None = None
    difference: Difference | None = None
    end_to_end: Difference | None = None
    roundings: tuple[Rounding | None, Rounding | None] = (None, None)
    reasons: tuple[Explanation | None, Explanation | None] = (None, None)
    terms: float = 0.0
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[float | None, float | None]:
        """Each side's own error in units of what round-off allows; at most 1 is round-off."""
        first, second = (None if rounding is None else rounding.ratio for rounding in self.roundings)
        return first, second


def verdict_of(judged: Judgement) -> tuple[str, str]:
    """The verdict of a pair and one sentence that explains it.

    Example:
        >>> verdict_of(Judgement(region, None, float("nan"), None, "the reference is opaque"))   # doctest: +SKIP
        ('undecided', 'the reference is opaque')
    """
    if judged.same is None:
        return "undecided", judged.reason
    if not judged.same:
        return "divergent", judged.reason or _apart(judged)
    worst: tuple[str, str] | None = None
    for side, rounding, reason in zip(SIDES, judged.roundings, judged.reasons, strict=True):
        if rounding is None or rounding.good or (reason is not None and reason.verdict == "round-off"):
            continue
        found = _beyond(side, rounding, reason)
        if worst is None or _RANK.index(found[0]) > _RANK.index(worst[0]):
            worst = found
    if worst is not None:
        return worst
    if judged.end_to_end is not None and judged.end_to_end.identical:
        return "identical", "the recorded outputs are the same bits"
    return "round-off", _within(judged)


_RANK = ("low-precision", "undecided", "divergent")


def _apart(judged: Judgement) -> str:
    assert judged.difference is not None
    found = judged.difference
    return (
        f"on the same input, in float64, the outputs differ by up to {found.max_abs:.3g} "
        f"(scale {found.reference_max:.3g}), {judged.gap:.2g} times what float32 resolves"
    )


def _within(judged: Judgement) -> str:
    """Size, share of what is allowed, and what float64 does to the difference."""
    said = []
    if judged.end_to_end is not None:
        said.append(f"the recorded outputs differ by {judged.end_to_end.max_abs:.2g}")
    known = [error for error in judged.errors if error is not None]
    if known:
        sums = f" for sums of {judged.terms:,.0f} terms" if judged.terms > 1 else ""
        said.append(f"each side is within {max(known):.2g} of what round-off allows{sums}")
    said.append(_in_float64(judged))
    said += [f"the {side}: {r.words}" for side, r in zip(SIDES, judged.reasons, strict=True) if r is not None]
    for side, rounding in zip(SIDES, judged.roundings, strict=True):
        if rounding is not None and rounding.one_sided:
            said.append(f"the {side}'s errors are one-sided, as a truncating accumulator makes them")
    return "; ".join(said)


def _in_float64(judged: Judgement) -> str:
    """What remains of the difference when both functions are evaluated in float64 on one input."""
    how = f" ({judged.notes[0]})" if judged.notes else ""
    before, after = judged.end_to_end, judged.difference
    if before is None or after is None or not before.max_abs or not np.isfinite(before.max_abs):
        return f"in float64 both compute the same{how}"
    if after.max_abs == 0:
        return f"in float64, on one input, they are the same function{how}"
    return f"in float64, on one input, the difference shrinks {before.max_abs / after.max_abs:.2g} times{how}"


def _beyond(side: str, rounding: Rounding, reason: Explanation | None) -> tuple[str, str]:
    """The verdict of a side whose recorded output is not what its own operators give within round-off."""
    if reason is not None:
        return "low-precision", f"both say the same; the {side} computed it with {reason.words}"
    if np.isinf(rounding.ratio):
        said = (
            f"the {side}'s recorded output is not what its own operators give (NaN, infinity, or a value where none "
            "is allowed)"
        )
        return ("divergent" if side == "candidate" else "undecided"), said
    if rounding.verdict == "undecided":
        return "undecided", (
            f"both say the same in float64; the {side}'s recorded output is off by {rounding.ratio:.2g} times what sums of such "
            f"terms usually show ({rounding.condition}), though an unlucky order of summation could make it "
            f"({rounding.any_order:.2g} of the limit for any order)"
        )
    return ("divergent" if side == "candidate" else "undecided"), (
        f"both say the same, but the {side}'s recorded output is {rounding.any_order:.2g} times farther from its own "
        "float64 value than round-off in any order of summation allows, and no narrower format explains it: something is "
        "computed that its description does not say"
    )

"""The verdict on two computations, without a tolerance: float64 decides the function, round-off's law the float32 error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from porting_check.numerics.difference import difference
from porting_check.numerics.gap import units_apart
from porting_check.numerics.rule import Rounding, judge_rounding
from porting_check.numerics.summation_units import Sums
from porting_check.report.equivalence_result import EquivalenceVerdict, Kind

Array = np.ndarray

U32, U64 = 2.0**-24, 2.0**-53
SAME = 1e-3
"""Share of float32's resolution below which two float64 evaluations count as one function (ARCHITECTURE)."""

RESPONSE = 50.0
"""Limit of ``rms(error) / rms(response)`` for computations that are no sum of products (NUMERICS, section 1.1)."""

FINE = 2.0**-14
"""Errors below this share of the scale do not come from operands of 11 bits (TF32, fp16: 2^-12 each), but from long sums."""

COARSE = 2.0**-7
"""Errors up to this share of the sums' scale can come from operands of 8 significant bits (bfloat16), larger ones cannot."""


@dataclass(frozen=True)
class Side:
    """One side's outputs for one set of arrays.

    Attributes:
        single: in float32.
        double: in float64, ``None`` where it has none.
        sums: what its sums are made of, where it is a sum of products.
        response: root mean square of its float64 outputs' change when every input is rounded, element by element.
        settled: whether its order of summation reproduced every sampled output, or its errors are what the order predicts.
    """

    single: Array
    double: Array | None = None
    sums: Sums | None = None
    response: Array | None = None
    settled: bool = False


@dataclass(frozen=True)
class Judgement:
    """The verdict with its grounds, in the words of the sentence that reports it."""

    verdict: EquivalenceVerdict
    kind: Kind = ""
    ratio: float | None = None
    reason: str = ""


def judge(reference: Side, candidate: Side) -> Judgement:
    """Judge two sides.

    The functions are compared in float64 first; only where they are the same is the float32 error asked about.

    Example:
        >>> x = np.float32([1.0, 2.0]); side = Side(x, x.astype(np.float64))
        >>> judge(side, side).kind
        'identical'
        >>> judge(side, Side(x * np.float32(1.01), side.double * 1.01)).verdict
        'different'
    """
    shapes = (reference.single.shape, candidate.single.shape)
    if shapes[0] != shapes[1]:
        return Judgement("different", reason=f"the outputs have shapes {shapes[0]} and {shapes[1]}")
    if not _finite_alike(reference.single, candidate.single):
        return Judgement("different", reason="NaN or infinity on one side only")
    ratio = _ratio(reference, candidate)
    same = _same_function(reference, candidate)
    if same == "different":
        return Judgement("different", ratio=ratio, reason="the difference does not go away in float64")
    if same == "unresolved":
        reason = (
            "in float64 they differ by more than float64's round-off, but by less than float32 can resolve: a constant "
            "that one side holds in float32 (harmless), or a real difference that this input hardly shows"
        )
        return Judgement("undecided", ratio=ratio, reason=reason)
    if same == "unknown" and reference.sums is None and candidate.sums is None:
        return _blind(reference, candidate)
    return _by_error(reference, candidate, ratio, same)


def on_float32_grid(array: Array) -> bool:
    """Whether a float64 result holds float32 numbers only, hence was computed in float32 inside."""
    finite = array[np.isfinite(array)]
    return bool(finite.size) and bool((finite.astype(np.float32).astype(np.float64) == finite).all())


def _finite_alike(first: Array, second: Array) -> bool:
    ends = ~np.isfinite(first) | ~np.isfinite(second)
    return bool(np.array_equal(first[ends], second[ends], equal_nan=True))


def _apart(first: Array, second: Array) -> Array:
    """Second minus first in float64; zero where both are the same infinity or NaN."""
    with np.errstate(invalid="ignore"):
        gap = second.astype(np.float64) - first.astype(np.float64)
    return np.where(np.isfinite(first) & np.isfinite(second), gap, 0.0)


def _same_function(reference: Side, candidate: Side) -> str:
    """``same``, ``different``, ``unresolved``, or ``unknown`` where a side has no float64."""
    first, second = reference.double, candidate.double
    if first is None or second is None:
        return "unknown"
    if not _finite_alike(first, second):
        return "different"
    gap = _apart(first, second)
    sums = _both(reference, candidate)
    if sums is not None:
        if _judged(gap, sums, first, U64, 2).good:
            return "same"
        units = float((np.abs(gap) / sums.limit(first, U32)).max(initial=0.0))
    else:
        units = units_apart(difference(first, second))
    return "same" if units <= SAME else "unresolved" if units <= 1 else "different"


def _both(reference: Side, candidate: Side) -> Sums | None:
    """The sums of the two; those of the one with more terms where both are known."""
    known = [side.sums for side in (reference, candidate) if side.sums is not None]
    return max(known, key=lambda sums: sums.terms) if known else None


def _judged(error: Array, sums: Sums, truth: Array, unit: float, sides: int = 1) -> Rounding:
    """The rule of round-off for sums; an error of two sides is sqrt(2) times one's."""
    safe = np.where(np.isfinite(truth), truth, 0.0)
    limit, tau = sums.limit(safe, unit) * sides, sums.tau(safe, unit) * np.sqrt(sides)
    return judge_rounding(error, np.where(np.isfinite(limit), limit, np.inf), tau, unit=unit)


def _ratio(reference: Side, candidate: Side) -> float | None:
    """The float32 difference in units of what float32 allows to two sides."""
    gap = _apart(reference.single, candidate.single)
    sums = _both(reference, candidate)
    if sums is not None:
        truth = reference.single if reference.double is None else reference.double
        return _judged(gap, sums, truth.astype(np.float64), U32, 2).ratio
    if reference.response is None:
        return None
    return _responded(gap, reference) / 2**0.5


def _responded(error: Array, side: Side) -> float:
    """The error over what rounding the inputs does, in units of the limit."""
    assert side.response is not None
    scale = np.hypot(side.response, 0.3 * U32 * np.abs(np.where(np.isfinite(side.single), side.single, 0.0)))
    allowed = RESPONSE * float(np.sqrt(np.mean(np.square(scale)))) if scale.size else 0.0
    found = float(np.sqrt(np.mean(np.square(error)))) if error.size else 0.0
    return 0.0 if found == 0 else found / allowed if allowed else float("inf")


def _blind(reference: Side, candidate: Side) -> Judgement:
    """No float64 on at least one side, and no sums: equal bits are all that can be told, unless one truth is at hand."""
    if np.array_equal(reference.single, candidate.single, equal_nan=True):
        return Judgement("equivalent", "identical", 0.0, "equal bits in float32")
    truth = reference.double if reference.double is not None else candidate.double
    response = reference.response if reference.response is not None else candidate.response
    if truth is None or response is None:
        return Judgement(
            "undecided", reason="neither side can be evaluated in float64, and they add no plain products"
        )
    ratios = [
        _responded(_apart(truth, side.single), Side(side.single, response=response))
        for side in (reference, candidate)
    ]
    worst = max(ratios)
    if worst <= 1:
        return Judgement("equivalent", "round-off", worst, "")
    scale = float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0))
    if (
        max(float(np.abs(_apart(truth, side.single)).max(initial=0.0)) for side in (reference, candidate))
        > COARSE * scale
    ):
        return Judgement(
            "different", ratio=worst, reason="the difference is beyond any precision's round-off"
        )
    return Judgement(
        "undecided", ratio=worst, reason="one side has no float64 evaluation, and the error is large"
    )


def _by_error(reference: Side, candidate: Side, ratio: float | None, same: str) -> Judgement:
    """The same function, or sums whose size is known: is each side's float32 error round-off?"""
    equal = np.array_equal(reference.single, candidate.single, equal_nan=True)
    if equal and same == "same":
        return Judgement("equivalent", "identical", 0.0)
    found = {
        name: _side_error(side, other)
        for name, side, other in (("reference", reference, candidate), ("candidate", candidate, reference))
    }
    if all(state == "round-off" for state in found.values()):
        unusual = (
            "" if equal or ratio is None or ratio <= 1 else "The revealed orders of summation account for it"
        )
        return Judgement("equivalent", "identical" if equal else "round-off", ratio, unusual)
    names = " and ".join(f"the {name}'s" for name, state in found.items() if state != "round-off")
    worst = [state for state in found.values() if state != "round-off"]
    if "different" in worst:
        agree = (
            "although the float64 evaluations agree" if same == "same" else "and float64 was not to be had"
        )
        reason = f"{names} float32 error is beyond any precision's round-off, {agree}"
        return Judgement("different", ratio=ratio, reason=reason)
    if "low-precision" in worst:
        if same != "same":
            reason = f"{names} float32 error is beyond round-off, and a side has no float64 to tell coarse arithmetic"
            return Judgement("undecided", ratio=ratio, reason=f"{reason} from another function")
        reason = f"{names} float32 arithmetic is coarser than float32's own rounding, or a long sum"
        return Judgement("equivalent", "low-precision", ratio, reason)
    reason = f"{names} error is possible in some order of summation, but larger than is usual"
    return Judgement("undecided", ratio=ratio, reason=reason)


def _side_error(side: Side, other: Side) -> str:
    """``round-off``, ``undecided``, ``low-precision`` or ``different``."""
    truth = side.double if side.double is not None else other.double
    sums = side.sums or other.sums
    if sums is None:
        if truth is None or side.response is None:
            return "undecided"
        share = _responded(_apart(truth, side.single), side)
        scale = float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0))
        largest = float(np.abs(_apart(truth, side.single)).max(initial=0.0))
        if share <= 1 or largest <= FINE * scale:
            return "round-off"
        return "low-precision" if largest <= COARSE * scale else "different"
    sides = 1 if truth is not None else 2
    base = other.single.astype(np.float64) if truth is None else truth
    error = _apart(base, side.single)
    rounding = _judged(error, sums, base, U32, sides)
    if rounding.good or (rounding.verdict == "undecided" and side.settled):
        return "round-off"
    if rounding.verdict == "undecided":
        return "undecided"
    coarse = float(np.sqrt(np.mean(np.square(error)))) <= COARSE * float(
        np.sqrt(np.mean(np.square(sums.roots)))
    )
    return "low-precision" if coarse else "different"


def likeness(reference: Array, candidate: Array) -> str:
    """What a real difference looks like: where it is largest, and whether it is an offset, a scale, an order or a shift."""
    if reference.shape != candidate.shape or not reference.size:
        return ""
    gap = _apart(reference, candidate)
    place = np.unravel_index(int(np.abs(gap).argmax()), gap.shape)
    index = tuple(int(i) for i in place)
    words = f"largest at index {list(index)}: reference {float(reference[index]):.9g}, candidate {float(candidate[index]):.9g}"
    looks = _looks(reference.astype(np.float64), candidate.astype(np.float64), gap)
    return f"{words}; {looks}" if looks else words


def _looks(reference: Array, candidate: Array, gap: Array) -> str:
    """The simplest description that explains nearly all of a difference."""
    energy = float(np.square(gap).sum())
    if not np.isfinite(energy) or energy == 0 or gap.size < 3:
        return ""
    offset = float(gap.mean())
    if float(np.square(gap - offset).sum()) < 1e-3 * energy:
        return f"it looks like a constant offset of {offset:.6g}"
    scale = float((reference * candidate).sum() / np.square(reference).sum())
    if float(np.square(candidate - scale * reference).sum()) < 1e-3 * energy:
        return f"it looks like a factor of {scale:.9g}"
    if np.allclose(
        np.sort(reference.ravel()), np.sort(candidate.ravel()), rtol=1e-5, atol=1e-6 * np.abs(reference).max()
    ):
        return "both hold the same numbers in another order (a layout or axis)"
    for axis in range(gap.ndim):
        for step in (1, -1):
            first = np.take(reference, range(max(step, 0), gap.shape[axis] + min(step, 0)), axis)
            second = np.take(candidate, range(max(-step, 0), gap.shape[axis] + min(-step, 0)), axis)
            if first.size and float(np.square(first - second).sum()) < 0.05 * energy:
                return f"it looks like a shift by {step} along axis {axis}"
    return ""

"""The rule: is an error round-off, may it be, or can it not be?

With ``z = error / tau`` (see :mod:`porting_check.numerics.spread`), ``N`` outputs in channels of ``m`` and
``lam(N) = sqrt(2 ln(2 N / 1e-9))``, an error is round-off when all of these hold::

    max |z|               <= lam(N)
    rms z                 <= 0.75 (16 channels and 256 outputs or more), else 2.1
    rms z of each channel <= 2.1 (1 + 4 / sqrt(2 m))                      (16 outputs per channel or more)
    |slope|               <= 3 u, or what channels whose errors all have one sign can make of it

where ``slope`` is the systematic scale error ``sum(error y / tau^2) / sum(y^2 / tau^2)``. What fails is *undecided* as long
as it stays within the limit that holds for any order of summation, and *exceeds* beyond it. The constants are those of the
numerics study that the project was built on (section 3.1: 612 held-out comparisons without an alarm, worst 0.83 of its
limit); ``tests/benchmarks/verdict.py`` measures them again. ``lam`` is the largest of ``N`` normal deviates at a
probability of 1e-9; the law predicts an rms of 0.42 and no backend exceeded 0.52.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Array = np.ndarray

RMS_MANY, RMS_FEW, RMS_CHANNEL = 0.75, 2.1, 2.1
"""Limits of rms z: over many independent paths of summation, over few, and within one channel."""

ANY_ORDER_MAX, ANY_ORDER_RMS = 0.577, 0.62
"""Limits of the error in units of the any-order scale ``a``: ``0.577 lam(N)`` for the largest, 0.62 for the rms."""

LAW = 0.42
"""The rms of z that the law predicts when nothing is known of the order of summation."""

SLOPE = 3.0
"""Largest slope in units of u (measured: 0.14 for convolutions, 0.43 for batch norm, 0.22 for layer norm)."""

ONE_SIDED = 0.6
"""Share of the rms that the mean of z must reach for the error to be called one-sided."""

Verdict = Literal["exact", "round-off", "undecided", "exceeds"]


@dataclass(frozen=True, slots=True)
class Rounding:
    """How an error stands to what round-off allows.

    ``ratio`` is the worst condition over its limit (at most 1: round-off); ``condition`` names it. ``any_order`` is the same
    for the limit that holds in every order of summation. ``one_sided``: nearly all errors have one sign, as a truncating
    accumulator makes them. ``slope`` is the systematic scale error in units of u; ``largest`` the largest error.
    """

    verdict: Verdict
    ratio: float
    any_order: float
    largest: float
    condition: str = ""
    one_sided: bool = False
    slope: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the error is none or round-off."""
        return self.verdict in ("exact", "round-off")


EXACT = Rounding("exact", 0.0, 0.0, 0.0)
IMPOSSIBLE = Rounding(
    "exceeds", float("inf"), float("inf"), float("inf"), "not finite, or an error where none is allowed"
)


def largest_deviate(count: int) -> float:
    """``lam(N)``: what the largest of ``N`` normal deviates exceeds with a probability of 1e-9.

    Example:
        >>> round(largest_deviate(1), 1), round(largest_deviate(262144), 1)
        (6.5, 8.2)
    """
    return float(np.sqrt(2 * np.log(2 * max(count, 1) / 1e-9)))


def judge_rounding(
    error: Array,
    limit: Array,
    tau: Array | None = None,
    *,
    result: Array | None = None,
    channel: int | None = None,
    unit: float = 2.0**-24,
) -> Rounding:
    """Judge an error against what round-off allows.

    Args:
        error: native output minus the float64 truth, float64.
        limit: the largest error that is legitimate in any order of summation, of the error's shape.
        tau: the unit of the error, where the law of sums holds; without it the limit decides alone.
        result: the truth, for the slope.
        channel: the axis of the channels, where it is known.
        unit: unit round-off of the arithmetic.

    Example:
        >>> error = np.random.default_rng(0).normal(0, 0.4, (2, 32, 64))
        >>> judge_rounding(error, np.full(error.shape, 99.0), np.ones(error.shape), channel=1).verdict
        'round-off'
        >>> judge_rounding(error * 4, np.full(error.shape, 99.0), np.ones(error.shape), channel=1).verdict
        'undecided'
        >>> judge_rounding(error * 400, np.full(error.shape, 99.0), np.ones(error.shape), channel=1).verdict
        'exceeds'
    """
    size = np.abs(error)
    largest = float(size.max(initial=0.0))
    if largest == 0.0:
        return EXACT
    worst = _over(size, limit)
    if not np.isfinite(largest) or np.isinf(worst):
        return IMPOSSIBLE
    if tau is None:
        return Rounding("round-off" if worst <= 1 else "exceeds", worst, worst, largest, "largest error")
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(size > 0, size / limit, 0.0)
        z = np.where(size > 0, error / tau, 0.0)
    any_order = max(worst, _rms(shares) * ANY_ORDER_MAX * largest_deviate(error.size) / ANY_ORDER_RMS)
    conditions = _conditions(z, channel)
    slope, allowed = _slope(z, tau, result, channel, unit)
    if allowed:
        conditions["systematic scale"] = abs(slope) / allowed
    name = max(conditions, key=lambda key: conditions[key])
    ratio = conditions[name]
    verdict: Verdict = "round-off" if ratio <= 1 else "undecided" if any_order <= 1 else "exceeds"
    return Rounding(verdict, ratio, any_order, largest, name, _one_sided(z), slope)


def _over(size: Array, limit: Array) -> float:
    """Largest error over its limit; infinite where none is allowed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(size > 0, size / limit, 0.0).max(initial=0.0))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _conditions(z: Array, channel: int | None) -> dict[str, float]:
    """The three conditions, each over its limit."""
    count = z.size
    channels = z.shape[channel] if channel is not None and z.ndim else 1
    many = channels >= 16 and count >= 256
    found = {
        "largest error": float(np.abs(z).max()) / largest_deviate(count),
        "rms error": _rms(z) / (RMS_MANY if many else RMS_FEW),
    }
    per_channel = count // max(channels, 1)
    if channel is not None and per_channel >= 16:
        others = tuple(axis for axis in range(z.ndim) if axis != channel)
        each = np.sqrt(np.square(z).mean(axis=others))
        found["rms error of a channel"] = float(each.max()) / (
            RMS_CHANNEL * (1 + 4 / np.sqrt(2 * per_channel))
        )
    return found


def _slope(
    z: Array, tau: Array, result: Array | None, channel: int | None, unit: float
) -> tuple[float, float]:
    """The slope in units of u, and how large it may be; 0 where there is too little to tell."""
    if result is None or z.size < 256:
        return 0.0, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(tau > 0, result / tau, 0.0)
    total = float(np.square(weight).sum())
    if total == 0.0:
        return 0.0, 0.0
    # Outputs of one channel may share their path of summation, hence the sign of their errors.
    others = tuple(axis for axis in range(z.ndim) if axis != channel)
    paths = np.abs(weight).sum(axis=others) if channel is not None else np.abs(weight).sum()
    spread = LAW * float(np.sqrt(np.square(paths).sum())) / total / unit
    return float((z * weight).sum()) / total / unit, max(SLOPE, 6 * spread)


def _one_sided(z: Array) -> bool:
    size = _rms(z)
    return z.size >= 256 and size > 0.3 and abs(float(z.mean())) > ONE_SIDED * size

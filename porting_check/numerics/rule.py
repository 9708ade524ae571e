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

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
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
    accumulator makes them. ``slope`` is the systematic scale error in units of u; ``largest`` the largest error; ``rms`` that of
    z (0 where the law of sums does not hold).
    """

    verdict: Verdict
    ratio: float
    any_order: float
    largest: float
    condition: str = ""
    one_sided: bool = False
    slope: float = 0.0
    rms: float = 0.0

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
    usual: Array | None = None,
    result: Array | None = None,
    channel: int | None = None,
    unit: float = 2.0**-24,
) -> Rounding:
    """Judge an error against what round-off allows.

    Args:
        error: native output minus the float64 truth, float64.
        limit: the largest error that is legitimate in any order of summation, of the error's shape.
        tau: the unit of the error, where the law of sums holds; without it the limit decides alone.
        usual: without tau: the limit of the usual algorithm, where a less precise one is legal too; between the two limits
            the error is undecided.
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
    found = _measured(error, limit, tau, result, channel)
    if found.largest == 0.0:
        return EXACT
    if not np.isfinite(found.largest) or np.isinf(found.worst):
        return IMPOSSIBLE
    if tau is None:
        ratio = found.worst if usual is None else _measured(error, usual, None, None, None).worst
        said: Verdict = "round-off" if ratio <= 1 else "undecided" if found.worst <= 1 else "exceeds"
        return Rounding(said, ratio, found.worst, found.largest, "largest error")
    return _judged(found, unit)


def _judged(found: _Measured, unit: float) -> Rounding:
    any_order = max(
        found.worst,
        _root(found.shares, found.count) * ANY_ORDER_MAX * largest_deviate(found.count) / ANY_ORDER_RMS,
    )
    conditions = _conditions(found)
    slope, allowed = _slope(found, unit)
    if allowed:
        conditions["systematic scale"] = abs(slope) / allowed
    name = max(conditions, key=lambda key: conditions[key])
    ratio, rms = conditions[name], _root(found.squares, found.count)
    verdict: Verdict = "round-off" if ratio <= 1 else "undecided" if any_order <= 1 else "exceeds"
    one_sided = found.count >= 256 and rms > 0.3 and abs(found.total / found.count) > ONE_SIDED * rms
    return Rounding(verdict, ratio, any_order, found.largest, name, one_sided, slope, rms)


def _root(total: float, count: int) -> float:
    return float(np.sqrt(total / max(count, 1)))


@dataclass(slots=True)
class _Measured:
    """Sums over all outputs: of shares (error / limit), of z (error / tau) and of weights (result / tau)."""

    count: int
    channels: int
    known: bool
    largest: float = 0.0
    worst: float = 0.0
    shares: float = 0.0
    highest: float = 0.0
    total: float = 0.0
    product: float = 0.0
    weights: float = 0.0
    by_channel: Array = field(default_factory=lambda: np.zeros(1))
    paths: Array = field(default_factory=lambda: np.zeros(1))

    @property
    def squares(self) -> float:
        """Sum of z squared."""
        return float(self.by_channel.sum())


def _measured(
    error: Array, limit: Array, tau: Array | None, result: Array | None, channel: int | None
) -> _Measured:
    """One pass over all arrays, block by block, so that each stays in the cache."""
    outer, channels, inner = 1, 1, error.size
    # In the order of memory, so that a channels-last view of a channels-first tensor is walked through without a copy.
    order = sorted(range(error.ndim), key=lambda axis: -error.strides[axis])
    whole = error.shape
    error = error.transpose(order)
    if channel is not None and error.ndim:
        channel = order.index(channel % error.ndim)
        outer, channels, inner = (
            prod(part)
            for part in (error.shape[:channel], (error.shape[channel],), error.shape[channel + 1 :])
        )
    found = _Measured(error.size, channels, channel is not None)
    found.by_channel, found.paths = np.zeros(channels), np.zeros(channels)
    shape = (outer, channels, inner)
    errors = error.reshape(shape)
    limits, *rest = (
        None if x is None else np.broadcast_to(x, whole).transpose(order).reshape(shape)
        for x in (limit, tau, result)
    )
    assert limits is not None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for part in _parts(outer, channels, inner):
            _add(found, part[1], errors[part], limits[part], *(None if x is None else x[part] for x in rest))
    return found


BLOCK = 1 << 15
"""Values of one block: five of them of float64 fit a cache of the second level."""


def _parts(outer: int, channels: int, inner: int) -> Iterator[tuple[slice, slice, slice]]:
    """Blocks of a tensor of this shape."""
    step = max(BLOCK // max(inner, 1), 1)
    rows, columns = max(step // max(channels, 1), 1), min(step, channels)
    for first in range(0, outer, rows):
        for second in range(0, channels, columns or 1):
            for third in range(0, inner, BLOCK):
                yield slice(first, first + rows), slice(second, second + columns), slice(third, third + BLOCK)


def _add(
    found: _Measured, place: slice, error: Array, limit: Array, tau: Array | None, result: Array | None
) -> None:
    """One block more."""
    size = np.abs(error)
    # NaN in a maximum stays NaN; Python's max would drop it.
    largest = float(size.max())
    found.largest = float(np.maximum(found.largest, largest))
    if largest == 0.0 and tau is None:
        return
    share = _where(size, np.divide(size, limit))
    found.worst = max(found.worst, float(share.max()))
    if tau is None:
        return
    found.shares += float(np.vdot(share, share))
    inverse = np.divide(1.0, tau, out=share)
    z = _where(size, error * inverse)
    found.highest = max(found.highest, float(z.max()), -float(z.min()))
    found.total += float(z.sum())
    found.by_channel[place] += np.einsum("oci,oci->c", z, z)
    if result is not None:
        weight = np.multiply(result, inverse, out=size)
        total = float(np.vdot(weight, weight))
        if not np.isfinite(total):
            weight = np.where(tau > 0, weight, 0.0)
            total = float(np.vdot(weight, weight))
        found.product += float(np.vdot(z, weight))
        found.weights += total
        found.paths[place] += np.abs(weight, out=weight).sum(axis=(0, 2))


def _where(size: Array, quotient: Array) -> Array:
    """0 where there is no error, also where none is allowed."""
    return np.where(size > 0, quotient, 0.0) if np.isnan(quotient.max()) else quotient


def _conditions(found: _Measured) -> dict[str, float]:
    """The three conditions, each over its limit."""
    many = found.channels >= 16 and found.count >= 256
    conditions = {
        "largest error": found.highest / largest_deviate(found.count),
        "rms error": _root(found.squares, found.count) / (RMS_MANY if many else RMS_FEW),
    }
    each = found.count // max(found.channels, 1)
    if found.known and each >= 16:
        largest = _root(float(found.by_channel.max()), each)
        conditions["rms error of a channel"] = largest / (RMS_CHANNEL * (1 + 4 / np.sqrt(2 * each)))
    return conditions


def _slope(found: _Measured, unit: float) -> tuple[float, float]:
    """The slope in units of u, and how large it may be; 0 where there is too little to tell."""
    if found.count < 256 or found.weights == 0.0:
        return 0.0, 0.0
    # Outputs of one channel may share their path of summation, hence the sign of their errors.
    spread = LAW * float(np.sqrt(np.square(found.paths).sum())) / found.weights / unit
    return found.product / found.weights / unit, max(SLOPE, 6 * spread)

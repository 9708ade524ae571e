"""Narrower number formats, and the proof that operands or results were rounded to one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from porting_check.numerics.rule import RMS_MANY

Array = np.ndarray

ACCEPT = 0.1
"""A format is proven when rounding to it leaves less than this share of the error (measured: 5e-5 to 2e-2 for the true
format, 1.0 and more for any other)."""

HALF = 0.5
"""A format that leaves less than this is proven when what it leaves is itself round-off."""

CLEARLY = 2.0
"""So many times less must one of TF32 and float16 leave than the other to be the one."""

NOTHING = 0.02
"""What a true format leaves at most (measured: 5e-5 to 2e-2)."""

DISTINCT = 16
"""Different values that a tensor must have for a grid to be seen: saturated outputs lie on every grid."""

ON_GRID = 0.99
"""Share of a tensor that must lie on a format's grid for its results to count as rounded to it."""


@dataclass(frozen=True, slots=True)
class Format:
    """A narrower significand: ``bits`` explicit bits, rounded to nearest or cut off.

    ``largest`` is the largest magnitude that the format holds, where that is less than float32's; ``least`` the distance of its
    smallest numbers (float16's below 6e-5 lie 6e-8 apart).
    """

    name: str
    bits: int
    truncated: bool = False
    largest: float = float("inf")
    least: float = 0.0

    def round(self, array: Array) -> Array:
        """The values as the format holds them, in float64.

        Example:
            >>> TF32.round(np.array([1.0 + 2**-12, 1.0 + 2**-10])).tolist()
            [1.0, 1.0009765625]
        """
        significand, exponent = np.frexp(np.asarray(array, np.float64))
        scaled = significand * 2.0 ** (self.bits + 1)
        kept = np.trunc(scaled) if self.truncated else np.rint(scaled)
        found = np.ldexp(kept / 2.0 ** (self.bits + 1), exponent)
        if self.least:
            small = np.abs(array) < self.least * 2.0**self.bits
            found = np.where(small, np.rint(np.asarray(array, np.float64) / self.least) * self.least, found)
        return np.asarray(np.clip(found, -self.largest, self.largest))

    @property
    def unit(self) -> float:
        """Unit round-off of the format."""
        return 2.0 ** -(self.bits + (0 if self.truncated else 1))


TF32 = Format("TF32", 10)
BFLOAT16 = Format("bfloat16", 7)
FLOAT16 = Format("float16", 10, largest=65504.0, least=2.0**-24)
FORMATS = (
    BFLOAT16,
    TF32,
    FLOAT16,
    Format("TF32, cut off instead of rounded,", 10, truncated=True),
    Format("bfloat16, cut off instead of rounded,", 7, truncated=True),
    Format("16-bit significand (bfloat16 twice)", 15),
)
"""Formats to try, in order. In float16's normal range TF32 and float16 are the same grid, and TF32 stands for both."""

WHICH = (("both operands", (0, 1)), ("the weights", (1,)), ("the inputs", (0,)))

Recompute = Callable[[Callable[[Array, int], Array]], Array]
"""The truth with ``rounding(operand, position)`` applied to both factors of every sum of products."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """A proven format: which operands were rounded to it, and the share of the error that this leaves.

    ``either``: TF32 and float16 make the same of these operands. ``results``: they lie on a narrower grid too.
    """

    format: Format
    operands: str
    residual: float
    results: bool = False
    either: bool = False

    def __str__(self) -> str:
        name = "TF32 or float16" if self.either and self.format in (TF32, FLOAT16) else self.format.name
        where = f"{self.operands} rounded to {name}"
        return where + (" and results too" if self.results and self.operands != "results" else "")


def rounded_operands(
    native: Array, truth: Array, recompute: Recompute, *, rms: float = float("inf")
) -> Rounded | None:
    """The narrower format whose operands explain an error, or ``None``.

    Args:
        native: the recorded value.
        truth: in float64.
        recompute: evaluates the truth again with rounded operands.
        rms: of the error, in units of round-off (tau), where it is known. What a format leaves of an error that is not much
            larger than round-off is round-off itself.

    Example:
        >>> rng = np.random.default_rng(0); x, w = rng.normal(size=(2, 8, 64)).astype(np.float32).astype(float)
        >>> native = TF32.round(x) @ TF32.round(w).T
        >>> str(rounded_operands(native, x @ w.T, lambda r: r(x, 0) @ r(w, 1).T))
        'both operands rounded to TF32 or float16'
    """
    grid = on_grid(native)
    error = _rms(native - truth)
    best: Rounded | None = None
    tried: dict[tuple[str, str], float] = {}
    for said, places in WHICH:
        for form in FORMATS:
            found = recompute(_at(form, places))
            if grid is not None:
                found = grid.round(found)
            residual = tried[form.name, said] = _rms(native - found) / error
            if best is None or residual < best.residual:
                best = Rounded(form, said, residual, grid is not None)
    if best is None or (
        best.residual >= ACCEPT and not (best.residual < HALF and best.residual * rms <= RMS_MANY)
    ):
        return None
    return replace(best, either=_alike(tried["float16", best.operands], tried["TF32", best.operands]))


def _alike(first: float, second: float) -> bool:
    """Whether neither of two residuals is clearly the smaller one (a few operands below float16's normal range tell nothing)."""
    return max(first, second) <= max(CLEARLY * min(first, second), NOTHING)


def _at(form: Format, places: tuple[int, ...]) -> Callable[[Array, int], Array]:
    """Rounds the operands at these places."""
    return lambda array, place: form.round(array) if place in places else array


def on_grid(native: Array) -> Format | None:
    """The coarsest format on whose grid nearly all of a float32 tensor lies, or ``None``.

    Example:
        >>> on_grid(BFLOAT16.round(np.random.default_rng(0).normal(size=1000))).name
        'bfloat16'
        >>> on_grid(np.random.default_rng(0).normal(size=1000).astype(np.float32)) is None
        True
        >>> on_grid(np.float32([-1, 1] * 50)) is None
        True
    """
    finite = native[np.isfinite(native) & (native != 0)]
    if finite.size < 32 or np.unique(finite[:: max(finite.size // 4096, 1)]).size < DISTINCT:
        return None
    for form in (BFLOAT16, TF32):
        if np.mean(form.round(finite) == finite) >= ON_GRID:
            return form
    return None


def rounded_results(native: Array, truth: Array) -> Rounded | None:
    """Whether only the results were rounded to a narrower format: they are the truth, rounded to that grid.

    Example:
        >>> truth = np.random.default_rng(0).normal(size=1000)
        >>> str(rounded_results(BFLOAT16.round(truth), truth))
        'results rounded to bfloat16'
        >>> rounded_results(BFLOAT16.round(truth * 1.02), truth) is None
        True
    """
    grid = on_grid(native)
    if grid is None:
        return None
    error = _rms(native - truth)
    # Where float32's own round-off lies across the middle of two numbers of the grid, the other one comes out.
    forms = (grid,) if grid is BFLOAT16 else (FLOAT16, TF32)
    left = {form: _rms(native - form.round(truth)) / error for form in forms}
    form = min(left, key=lambda one: left[one])
    either = len(forms) == 2 and _alike(left[FLOAT16], left[TF32])
    return Rounded(form, "results", left[form], True, either) if left[form] < HALF else None


@dataclass(frozen=True, slots=True)
class Truncation:
    """A one-sided error as an accumulator makes it that cuts off instead of rounding.

    ``products`` is about how many products are added at a time: the mean error is ``-0.72 u (n / products) y / 2``.
    """

    products: float
    share: float

    def __str__(self) -> str:
        return (
            f"a truncating accumulator, as tensor cores have: {self.share:.0%} of the results are off towards zero, by what "
            f"adding about {self.products:.0f} products at a time and cutting off would make"
        )


PRODUCTS = (2.0, 128.0)
"""How many products at a time a truncating accumulator may add (tensor cores: 4 to 16, with splits up to 128)."""


UNEVEN = 0.2
"""How unevenly a truncating accumulator errs at least, over the root of the number of its additions: the part of a unit that is
cut off is uniform, so 0.58 is expected; a wrong scale shows 0 and the round-off of the results."""


def truncation(error: Array, truth: Array, terms: float, unit: float = 2.0**-24) -> Truncation | None:
    """Whether an error is one-sided and of the size that a truncating accumulator makes.

    Args:
        error: native minus truth.
        truth: in float64; results that hardly cancel (positive data) show it best.
        terms: products per result.
        unit: unit round-off of the accumulator.

    Source: Fasi, Higham, Mikaitis & Pranesh, PeerJ CS 7:e330 (tensor cores truncate); the mean by emulation.

    Example:
        >>> truth = np.random.default_rng(0).uniform(1580, 1640, 500)
        >>> lost = 9e-6 * (1 + 0.03 * np.random.default_rng(1).normal(size=500))
        >>> found = truncation(-truth * lost, truth, 6400)
        >>> round(found.products), found.share
        (15, 1.0)
        >>> truncation(-truth * 9e-6, truth, 6400) is None
        True
    """
    known = (truth != 0) & (error != 0)
    if known.sum() < 8:
        return None
    toward = -error[known] * np.sign(truth[known])
    share = float(np.mean(toward > 0))
    slope = float(toward.sum() / np.abs(truth[known]).sum())
    if share < 0.95 or slope <= 0:
        return None
    products = 0.36 * terms * unit / slope
    # Each cut loses a random part of a unit, so results differ in what they lost; a wrong scale loses the same everywhere.
    uneven = _rms(toward / np.abs(truth[known]) - slope) / slope
    random = uneven >= UNEVEN / np.sqrt(max(terms / products, 1.0))
    return Truncation(products, share) if PRODUCTS[0] <= products <= PRODUCTS[1] and random else None


def _rms(values: Array) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean())) if values.size else 0.0

"""Narrower number formats, and the proof that operands or results were rounded to one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

ACCEPT = 0.1
"""A format is proven when rounding to it leaves less than this share of the error (measured: 5e-5 to 2e-2 for the true
format, 1.0 and more for any other)."""

ON_GRID = 0.99
"""Share of a tensor that must lie on a format's grid for its results to count as rounded to it."""


@dataclass(frozen=True, slots=True)
class Format:
    """A narrower significand: ``bits`` explicit bits, rounded to nearest or cut off.

    ``largest`` is the largest magnitude that the format holds, where that is less than float32's.
    """

    name: str
    bits: int
    truncated: bool = False
    largest: float = float("inf")

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
        return np.asarray(np.clip(found, -self.largest, self.largest))

    @property
    def unit(self) -> float:
        """Unit round-off of the format."""
        return 2.0 ** -(self.bits + (0 if self.truncated else 1))


TF32 = Format("TF32", 10)
BFLOAT16 = Format("bfloat16", 7)
FORMATS = (
    BFLOAT16,
    Format("float16", 10, largest=65504.0),
    TF32,
    Format("TF32, cut off instead of rounded,", 10, truncated=True),
    Format("bfloat16, cut off instead of rounded,", 7, truncated=True),
    Format("16-bit significand (bfloat16 twice)", 15),
)
"""Formats to try, in order. In float16's normal range TF32 and float16 are the same grid; see :func:`title`."""

WHICH = (("both operands", (0, 1)), ("the weights", (1,)), ("the inputs", (0,)))

Recompute = Callable[[Callable[[Array, int], Array]], Array]
"""The truth with ``rounding(operand, position)`` applied to both factors of every sum of products."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """A proven format: which operands were rounded to it, and the share of the error that this leaves."""

    format: Format
    operands: str
    residual: float
    results: bool = False

    def __str__(self) -> str:
        where = f"{self.operands} rounded to {title(self.format)}"
        return where + (" and results too" if self.results and self.operands != "results" else "")


def title(form: Format) -> str:
    """The format's name; TF32 and float16 cannot be told apart in float16's normal range."""
    return "TF32 or float16" if form.bits == 10 and not form.truncated else form.name


def rounded_operands(native: Array, truth: Array, recompute: Recompute) -> Rounded | None:
    """The narrower format whose operands explain an error, or ``None``.

    Args:
        native: the recorded value.
        truth: in float64.
        recompute: evaluates the truth again with rounded operands.

    Example:
        >>> rng = np.random.default_rng(0); x, w = rng.normal(size=(2, 8, 64)).astype(np.float32).astype(float)
        >>> native = TF32.round(x) @ TF32.round(w).T
        >>> str(rounded_operands(native, x @ w.T, lambda r: r(x, 0) @ r(w, 1).T))
        'both operands rounded to TF32 or float16'
    """
    grid = on_grid(native)
    error = _rms(native - truth)
    best: Rounded | None = None
    for form in FORMATS:
        if form.bits == 10 and not form.truncated and form is not TF32:
            continue
        for said, places in WHICH:
            found = recompute(_at(form, places))
            if grid is not None:
                found = grid.round(found)
            residual = _rms(native - found) / error
            if best is None or residual < best.residual:
                best = Rounded(form, said, residual, grid is not None)
    return best if best is not None and best.residual < ACCEPT else None


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
    """
    finite = native[np.isfinite(native) & (native != 0)]
    if finite.size < 32:
        return None
    for form in (BFLOAT16, TF32):
        if np.mean(form.round(finite) == finite) >= ON_GRID:
            return form
    return None


def rounded_results(native: Array, truth: Array) -> Rounded | None:
    """Whether only the results were rounded to a narrower format: on its grid, and off by its round-off."""
    form = on_grid(native)
    if form is None:
        return None
    error = np.abs(native - truth)
    allowed = 4 * form.unit * np.abs(truth) + form.unit * 1e-3 * float(np.abs(truth).max(initial=0.0))
    return Rounded(form, "results", 1.0, True) if np.mean(error <= allowed) >= ON_GRID else None


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
        >>> found = truncation(-truth * 9e-6, truth, 6400)
        >>> round(found.products), found.share
        (15, 1.0)
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
    return Truncation(products, share) if PRODUCTS[0] <= products <= PRODUCTS[1] else None


def _rms(values: Array) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean())) if values.size else 0.0

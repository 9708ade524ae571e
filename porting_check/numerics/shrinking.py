"""The float64 experiment on two whole models: what follows from how far two outputs are apart in float32 and in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from porting_check.numerics.difference import difference
from porting_check.numerics.gap import FLOAT32

Array = np.ndarray

SIDES = ("reference", "candidate")

SAME = 1e-6
"""Below this part of float32's resolution a float64 difference is round-off: float64 resolves 2e-9 of it, sums lose some."""

SHRUNK = 1e-7
"""So is one below this part of the float32 errors: float64's unit is 2e-9 of float32's, and networks amplify both alike."""

WITHIN = 16.0
"""What stays float32 inside one side can explain a difference of up to this many times the float32 errors."""

ON_GRID = 0.99
"""Part of the values of a float64 output that are float32 numbers, from which on float32 made it."""

RANK = (
    "same function",
    "float32 constant",
    "rounded weights",
    "float32 inside",
    "below float32",
    "not compared",
    "different function",
)
"""Findings about an output, the gravest last."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One output of both models, in float32 as recorded and in float64.

    ``gap32`` and ``gap64`` are the largest differences between the sides, ``scale`` the reference's largest magnitude,
    ``errors`` how far each side's float32 output is from its own float64 output, and ``grid`` which part of each float64
    output are float32 numbers.
    """

    gap32: float
    gap64: float
    scale: float
    errors: tuple[float, float]
    grid: tuple[float, float]

    @property
    def units(self) -> float:
        """The float64 difference in units of what float32 resolves at this scale."""
        if self.gap64 == 0.0:
            return 0.0
        return self.gap64 / (FLOAT32 * self.scale) if self.scale > 0 else float("inf")

    @property
    def shrink(self) -> float | None:
        """How many times smaller the difference is in float64; ``None`` where either is zero."""
        return self.gap32 / self.gap64 if self.gap32 > 0 and self.gap64 > 0 else None

    @property
    def error(self) -> float:
        """The larger of the float32 errors, at least what float32 resolves."""
        return max(*self.errors, FLOAT32 * self.scale)


@dataclass(frozen=True, slots=True)
class Known:
    """What else is known: operators that stayed float32, weights that differ by rounding, and a search for constants."""

    inside: tuple[str, ...] = ()
    rounded: bool = False
    constants: Callable[[], tuple[str, ...]] = tuple


def measure(wide: tuple[Array, Array], narrow: tuple[Array, Array]) -> Measured:
    """Measure one output, all four arrays in the reference's order of axes.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0]) / 7
        >>> found = measure((x, x), (x.astype("f4"), x.astype("f4")))
        >>> found.gap64, found.grid
        (0.0, (0.0, 0.0))
    """
    between = difference(wide[0], wide[1])
    return Measured(
        difference(narrow[0], narrow[1]).max_abs,
        between.max_abs,
        between.reference_max,
        (difference(wide[0], narrow[0]).max_abs, difference(wide[1], narrow[1]).max_abs),
        (float32_share(wide[0]), float32_share(wide[1])),
    )


def float32_share(array: Array) -> float:
    """Which part of the values are float32 numbers; whole numbers, which both hold, and values beyond float32 are left out.

    Example:
        >>> float32_share(np.array([0.1, 0.5, 3.0])), float32_share(np.float64(np.float32([0.1, 0.2])))
        (0.5, 1.0)
    """
    if array.dtype.kind != "f":
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        kept = array[np.isfinite(array) & (array != np.round(array)) & (np.abs(array) > 2.0**-126)]
        return float(np.mean(kept == kept.astype(np.float32))) if kept.size else 0.0


def finding_of(measured: Measured, known: Known) -> tuple[str, str]:
    """What follows from the measures of one output, one of :data:`RANK`, and a sentence that says why.

    Example:
        >>> finding_of(Measured(4e-6, 8e-15, 1.0, (2e-6, 3e-6), (0.0, 0.0)), Known())[0]
        'same function'
        >>> finding_of(Measured(2.3e-3, 2.3e-3, 1.0, (2e-6, 3e-6), (0.0, 0.0)), Known())[0]
        'different function'
    """
    gap = measured.gap64
    if np.isnan(gap) or np.isnan(measured.gap32):
        return "not compared", "the outputs hold no finite numbers"
    if gap <= max(
        SAME * FLOAT32 * measured.scale,
        SHRUNK * max((e for e in measured.errors if np.isfinite(e)), default=0.0),
    ):
        return "same function", "what is left in float64 is float64's own round-off"
    hidden = gap > 8 * measured.gap32  # the float32 outputs are closer than what is to tell them apart
    if hidden and measured.units > WITHIN and max(measured.errors) > gap / 4:
        side = SIDES[int(np.argmax(measured.errors))]
        return (
            "not compared",
            f"the {side}'s float64 run departs from its own float32 run by {max(measured.errors):.2g}",
        )
    reach = gap <= WITHIN * measured.error
    constants = known.constants() if reach else ()
    if constants:
        return "float32 constant", f"one side holds {', '.join(constants)} as float32: benign"
    if reach:
        if max(measured.grid) > ON_GRID:
            side = SIDES[int(np.argmax(measured.grid))]
            return (
                "float32 inside",
                f"the {side}'s float64 output holds float32 numbers: an operator computed in float32",
            )
        if known.rounded:
            return "rounded weights", "the weights differ by rounding to float32, which float64 shows too"
        if known.inside:
            return "float32 inside", f"part of the float64 run was float32: {known.inside[0]}"
    if measured.units <= 1 or hidden:
        return "below float32", "a real difference that is invisible in float32 on this input"
    return "different function", "the difference does not go away in float64"

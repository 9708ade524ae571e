"""``pc.judge``: numbers alone, when no model is at hand any more: is their difference round-off?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from porting_check.neutral.errors import InputError
from porting_check.numerics.precision import truncation
from porting_check.numerics.roundoff import any_order
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.rule import Rounding, judge_rounding
from porting_check.numerics.spread import tau_of

Array = np.ndarray
NumbersVerdict = Literal["identical", "round-off", "low-precision", "undecided", "divergent"]


@dataclass(frozen=True, slots=True)
class JudgedNumbers:
    """The verdict on printed numbers, and the sentences that explain it.

    ``rounding`` holds the figures: the ratio to what is allowed, the slope, whether the errors are one-sided.
    """

    verdict: NumbersVerdict
    sentences: tuple[str, ...]
    rounding: Rounding

    @property
    def ok(self) -> bool:
        """Whether the numbers are what a right computation in some arithmetic gives."""
        return self.verdict in ("identical", "round-off", "low-precision")

    def __str__(self) -> str:
        return "\n".join([f"{self.verdict.upper()}: {self.sentences[0]}", *self.sentences[1:]])


def judge(
    output: Any, truth: Any, *, terms: int, magnitude: Any = None, precision: str = "float32"
) -> JudgedNumbers:
    """Judge results of sums of products against their float64 truth, without the model that made them.

    Args:
        output: what was computed, as printed; any shape.
        truth: the same in float64 (or better).
        terms: products that each result adds up: ``5 * 5 * 256`` for a 5x5 convolution of 256 channels.
        magnitude: sum of the magnitudes of those products. None: the truth's own magnitude, which is right when all
            products have one sign (positive data and weights) and the least it can be otherwise.
        precision: the arithmetic that is claimed: ``float32``, ``float16``, ``bfloat16``, ``float64``.

    Raises:
        InputError: shapes that differ, no numbers, an unknown precision.

    Example:
        >>> truth = np.linspace(1580.0, 1640.0, 64)
        >>> print(judge(np.float32(truth), truth, terms=6400).verdict)
        round-off
        >>> print(judge(truth * (1 - 9e-6), truth, terms=6400).verdict)
        low-precision
    """
    found, wanted, size = _checked(output, truth, terms, magnitude, precision)
    unit = UNIT[precision]
    limit = any_order(terms, size, wanted, unit)
    tau = tau_of(terms, wanted, np.square(size) / terms, unit)
    error = found - wanted
    rounding = judge_rounding(error, limit, tau, result=wanted, unit=unit)
    if not error.any():
        return JudgedNumbers("identical", ("every number is the same.",), rounding)
    words = [_size(error, wanted, rounding, terms, precision)]
    sides = _sides(error)
    words += [sides] if sides else []
    cut = truncation(error, wanted, terms, unit)
    if cut is not None:
        words.append(
            f"Consistent with {cut}. Rounding to nearest would put about half of them on either side."
        )
    if rounding.good or cut is not None:
        verdict: NumbersVerdict = "round-off" if rounding.good else "low-precision"
        return JudgedNumbers(verdict, (*words, _no_product(error, size, terms)), rounding)
    if rounding.verdict == "undecided":
        return JudgedNumbers(
            "undecided", (*words, "Some orders of summation could make it, usual ones do not."), rounding
        )
    return JudgedNumbers("divergent", (*words, "No order of summation explains it."), rounding)


def _checked(
    output: Any, truth: Any, terms: int, magnitude: Any, precision: str
) -> tuple[Array, Array, Array]:
    if precision not in UNIT:
        raise InputError(f"precision {precision!r} is unknown; expected one of {', '.join(sorted(UNIT))}")
    if terms < 1:
        raise InputError(f"terms is {terms}; expected the number of products in each sum, 1 or more")
    found, wanted = np.asarray(output, np.float64), np.asarray(truth, np.float64)
    size = (
        np.abs(wanted)
        if magnitude is None
        else np.broadcast_to(np.asarray(magnitude, np.float64), wanted.shape)
    )
    if found.shape != wanted.shape or not found.size:
        raise InputError(
            f"output has shape {found.shape}, truth {wanted.shape}; expected the same, and numbers in them"
        )
    if not np.isfinite(found).all() or not np.isfinite(wanted).all():
        raise InputError("output and truth must be finite; leave out what is NaN or infinite")
    return found, wanted, np.maximum(size, np.abs(wanted))


def _size(error: Array, truth: Array, rounding: Rounding, terms: int, precision: str) -> str:
    largest = np.abs(error).max()
    relative = largest / max(np.abs(truth).max(), 1e-300)
    share = f"{rounding.ratio:.2g} of" if rounding.ratio <= 1 else f"{rounding.ratio:.2g} times"
    return (
        f"the numbers differ by at most {largest:.2g} ({relative:.1e} of the largest), {share} what {precision} round-off "
        f"usually makes of sums of {terms:,} products."
    )


def _sides(error: Array) -> str:
    """How many differences have the one sign, when nearly all have."""
    known = error[error != 0]
    below = float(np.mean(known < 0))
    if known.size < 8 or 0.05 < below < 0.95:
        return ""
    way = "lower" if below > 0.5 else "higher"
    return f"{max(below, 1 - below):.0%} of {known.size} differing numbers are {way} than the truth."


def _no_product(error: Array, magnitude: Array, terms: int) -> str:
    """Why it is no wrong layer: the least that a structural mistake changes is one product."""
    product = float(np.median(magnitude)) / terms
    largest = float(np.abs(error).max())
    if largest >= product / 2:
        return "A single product, missing or extra, would be of about the same size: a wrong layer is not excluded by size alone."
    return (
        f"It is no wrong layer (padding, stride, kernel, a weight): one single product missing or extra would change a result by "
        f"about {product:.2g}, {product / largest:.0f} times more than the largest difference."
    )

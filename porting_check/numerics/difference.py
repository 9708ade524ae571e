"""The difference of two tensors: exact, never broadcast, in one pass and constant memory.

Everything is accumulated in float64, block by block; no array of the tensors' size is ever made, whatever
their layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from porting_check.neutral.errors import PortingError
from porting_check.numerics.blocks import Blocks
from porting_check.numerics.operators.dtypes import EXTENDED
from porting_check.numerics.tally import CHUNK, Place, Tally, folder

Array = NDArray[Any]

BELOW = 1e-5
"""``fraction_below`` counts differences of at most this part of the reference's largest magnitude."""


_SPACING = {
    "bfloat16": 2.0**-7, "float8_e4m3fn": 2.0**-3, "float8_e4m3fnuz": 2.0**-3, "float8_e5m2": 2.0**-2,
    "float8_e5m2fnuz": 2.0**-2, "float4_e2m1fn": 2.0**-1,
}  # fmt: skip
"""Spacing at 1 of the floating dtypes that numpy's ``finfo`` does not know."""


class NotComparable(PortingError):
    """Two arrays that cannot be subtracted value by value."""


class ShapeMismatch(NotComparable):
    """Two tensors of different shapes, or a permutation that does not lead from one to the other."""


@dataclass(frozen=True)
class Difference:
    """Numbers about candidate minus reference.

    Attributes:
        count: number of values in each tensor.
        max_abs: largest absolute difference. ``inf`` where only one side is finite (or both are not, but
            differ): a NaN is never a small difference. ``nan`` when no pair is finite and none mismatches, as
            for two tensors full of NaN. Of complex values the modulus.
        max_abs_index: a place of it, in the reference's axes; the first mismatch if there is one. Empty for
            an empty tensor.
        max_rel: largest ``|c - r| / max(|r|, floor)``. The floor is the reference's largest magnitude times
            the spacing of its dtype at 1 (1 for integers), so that values near zero are not judged by digits
            that nothing of this scale has. ``inf`` and ``nan`` as above.
        max_rel_index: a place of it.
        rms: root mean square of the difference over finite pairs; ``inf`` and ``nan`` as above.
        mean_signed: mean of candidate minus reference over finite pairs (complex: the modulus of that mean),
            ``nan`` without any: the bias.
        cosine: cosine of the angle between the tensors over finite pairs; 1 if both vanish, 0 if one does,
            ``nan`` without any.
        reference_max: largest finite magnitude of the reference.
        reference_rms: root mean square of the reference over finite pairs.
        reference_nonfinite: how many NaN and infinite values the reference has.
        candidate_nonfinite: how many the candidate has.
        nonfinite_mismatch: pairs of which one is not finite and the other is not the same: finite, or NaN
            against infinity, or an infinity of the other sign.
        identical: every value equals its counterpart. 0.0 and -0.0 are equal, infinities of one sign are, NaN
            is equal to nothing; dtypes do not matter.
        compared: finite pairs.
        fraction_below: part of all pairs that differ by at most ``1e-5 * reference_max``.
    """

    count: int
    max_abs: float
    max_abs_index: tuple[int, ...]
    max_rel: float
    max_rel_index: tuple[int, ...]
    rms: float
    mean_signed: float
    cosine: float
    reference_max: float
    reference_rms: float
    reference_nonfinite: int
    candidate_nonfinite: int
    nonfinite_mismatch: int
    identical: bool
    compared: int = 0
    fraction_below: float = float("nan")

    @property
    def relative_max(self) -> float:
        """Largest difference in units of the reference's largest magnitude."""
        return _quotient(self.max_abs, self.reference_max)

    @property
    def relative_rms(self) -> float:
        """Root mean square of the difference in units of the reference's."""
        return _quotient(self.rms, self.reference_rms)


def difference(reference: Array, candidate: Array, *, permutation: Sequence[int] | None = None) -> Difference:
    """Compare two tensors value by value.

    Args:
        reference: any shape, any layout in memory; float (16-bit and 8-bit ones too), integer, boolean or
            complex.
        candidate: the tensor of the same shape, or of the shape ``reference.transpose(permutation)``.
        permutation: how the candidate's axes follow from the reference's: ``(0, 3, 1, 2)`` for a reference in
            NHWC and a candidate in NCHW. Indices in the result are the reference's.

    64-bit integers are subtracted exactly, and rounded once (``identical`` is exact beyond 2**53); an integer
    against a float is compared in float64. Squares of values above 1e154 overflow, and rms and cosine with
    them.

    Raises:
        ShapeMismatch: the shapes differ. Nothing is ever broadcast, reshaped or transposed to fit.
        NotComparable: a dtype without numbers.

    Example:
        >>> nhwc = np.arange(24.0).reshape(1, 2, 3, 4)
        >>> nchw = np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))
        >>> nchw[0, 2, 1, 1] += 0.5
        >>> found = difference(nhwc, nchw, permutation=(0, 3, 1, 2))
        >>> found.max_abs, found.max_abs_index
        (0.5, (0, 1, 1, 2))
    """
    reference, candidate = _numeric(reference, "reference"), _numeric(candidate, "candidate")
    order = _checked(reference.shape, candidate.shape, permutation)
    # The candidate is brought to the reference's axes as a view, so that indices are the reference's.
    inverse = [0] * len(order)
    for place, axis in enumerate(order):
        inverse[axis] = place
    candidate = candidate.transpose(inverse)
    if not reference.size:
        return _nothing()
    with np.errstate(all="ignore"):
        largest = _largest(reference)
        tally = Tally(_floor(reference.dtype, largest), BELOW * largest)
        walk = Blocks(reference, candidate, CHUNK)
        fold = folder(tally, reference.dtype, candidate.dtype)
        for origin, ours, theirs in walk:
            fold(origin, ours, theirs)
        return _result(tally, walk, largest)


def _numeric(array: Array, name: str) -> Array:
    """The argument as an array of numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in "biufc" and array.dtype.name not in EXTENDED:
        raise NotComparable(f"the {name} has dtype {array.dtype}, expected numbers or booleans")
    return array


def _checked(
    reference: tuple[int, ...], candidate: tuple[int, ...], permutation: Sequence[int] | None
) -> list[int]:
    """The permutation, or the identity; shapes must agree under it."""
    order = list(range(len(reference))) if permutation is None else [int(axis) for axis in permutation]
    if sorted(order) != list(range(len(reference))):
        raise ShapeMismatch(
            f"permutation {tuple(order)} is none of the {len(reference)} axes of shape {reference}"
        )
    expected = tuple(reference[axis] for axis in order)
    if candidate != expected:
        how = "" if permutation is None else f" (the reference's {reference} permuted by {tuple(order)})"
        raise ShapeMismatch(
            f"the candidate has shape {candidate}, expected {expected}{how}; nothing is broadcast"
        )
    return order


def _nothing() -> Difference:
    """The difference of empty tensors: they are identical, and nothing was compared."""
    nan = float("nan")
    return Difference(0, 0.0, (), 0.0, (), 0.0, nan, nan, 0.0, 0.0, 0, 0, 0, True, 0, nan)


def _floor(dtype: np.dtype[Any], largest: float) -> float:
    """What relative differences are divided by at least."""
    if dtype.kind in "biu" or dtype.name.lstrip("u").startswith("int"):
        return 1.0
    spacing = _SPACING.get(dtype.name) or float(np.finfo(dtype).eps)
    return max(spacing * largest, float(np.finfo(np.float64).tiny))


def _largest(reference: Array) -> float:
    """The largest finite magnitude."""
    found = 0.0
    native = reference.dtype.kind == "c" or reference.dtype in (np.float32, np.float64)
    buffer = np.empty(CHUNK, np.abs(np.empty(0, reference.dtype)).dtype if native else np.float64)
    for _, block, _ in Blocks(reference, reference, CHUNK):
        sizes = buffer[: block.size].reshape(block.shape)
        np.abs(block if native else block.astype(np.float64), out=sizes)
        value = float(buffer[buffer[: block.size].argmax()])
        if not value < np.inf:
            value = float(sizes[np.isfinite(sizes)].max(initial=0.0))
        found = max(found, value)
    return found


def _result(tally: Tally, walk: Blocks, largest: float) -> Difference:
    """The numbers, once every block has been seen."""
    n, nan, broken = tally.compared, float("nan"), tally.mismatches > 0
    # Without a finite pair there is nothing to measure, unless every value is an infinity that equals its
    # counterpart.
    alone = 0.0 if tally.equal_infinities == tally.count else nan
    values = [tally.max_abs, tally.max_rel, (tally.squares / n) ** 0.5] if n else [alone] * 3
    max_abs, max_rel, rms = [float("inf")] * 3 if broken else values

    def index(place: Place | None) -> tuple[int, ...]:
        place = tally.mismatch_place if broken else place
        return walk.index(*place) if place is not None else walk.index((0,) * walk.rank, (1,) * walk.rank, 0)

    return Difference(
        count=tally.count,
        max_abs=max_abs,
        max_abs_index=index(tally.max_abs_place),
        max_rel=max_rel,
        max_rel_index=index(tally.max_rel_place),
        rms=rms,
        mean_signed=tally.mean_signed,
        cosine=tally.cosine,
        reference_max=largest,
        reference_rms=(tally.reference_squares / n) ** 0.5 if n else nan,
        reference_nonfinite=tally.reference_nonfinite,
        candidate_nonfinite=tally.candidate_nonfinite,
        nonfinite_mismatch=tally.mismatches,
        identical=not broken and tally.max_abs <= 0 and n + tally.equal_infinities == tally.count,
        compared=n,
        fraction_below=tally.below / tally.count,
    )


def _quotient(part: float, whole: float) -> float:
    """A ratio; of nothing to nothing it is zero, of something to nothing infinite."""
    return part / whole if whole else (0.0 if part == 0 else float("inf") if part == part else part)

"""Adding up the difference of two tensors block by block, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Place = tuple[tuple[int, ...], tuple[int, ...], int]
Fold = Callable[[tuple[int, ...], Array, Array], None]

CHUNK = 32768
"""Values of a block: three float64 arrays of this length stay in a second-level cache."""

DOT = 8192
"""Longest dot product for BLAS: below the length (10000 in OpenBLAS) at which it wakes its threads."""

LOPSIDED = 1e8
"""Ratio of two sums of squares beyond which their dot product is not derived from them but taken."""


class Views(NamedTuple):
    """The buffers of one shape of block: flat, shaped, and cut into pieces that BLAS likes."""

    reference: Array
    candidate: Array
    shaped_reference: Array
    shaped_candidate: Array
    both: Array
    second: Array
    second_and_ones: Array
    floors: Array
    rest: Array


@dataclass
class Tally:
    """What has been found so far. A place is (origin of a block, its shape, flat position in it)."""

    floor: float
    below_limit: float
    count: int = 0
    compared: int = 0
    below: int = 0
    reference_nonfinite: int = 0
    candidate_nonfinite: int = 0
    mismatches: int = 0
    equal_infinities: int = 0
    mismatch_place: Place | None = None
    max_abs: float = -1.0
    max_abs_place: Place | None = None
    max_rel: float = -1.0
    max_rel_place: Place | None = None
    squares: float = 0.0
    reference_squares: float = 0.0
    candidate_squares: float = 0.0
    products: float = 0.0
    signed: complex = 0.0
    rows: Array = field(default_factory=lambda: np.ones((3, CHUNK + CHUNK // DOT + 1)))
    views: dict[tuple[int, ...], Views] = field(default_factory=dict)
    floors: Array = field(init=False)
    _agreed: int = 0

    def __post_init__(self) -> None:
        """Spread the floor over an array: numpy's maximum with a scalar is more than twice as slow."""
        self.floors = np.full(CHUNK, self.floor)

    @property
    def mean_signed(self) -> float:
        """The bias; of complex tensors its modulus."""
        if not self.compared:
            return float("nan")
        total = abs(self.signed) if isinstance(self.signed, complex) else self.signed
        return float(total / self.compared)

    @property
    def cosine(self) -> float:
        """Of vanishing tensors 1 if both vanish, 0 if one does."""
        if not self.compared:
            return float("nan")
        if not self.reference_squares or not self.candidate_squares:
            return float(self.reference_squares == self.candidate_squares)
        value = float(self.products / self.reference_squares**0.5 / self.candidate_squares**0.5)
        return min(max(value, -1.0), 1.0) if value == value else value

    def fold_real(self, origin: tuple[int, ...], ours: Array, theirs: Array, exact: bool = False) -> None:
        """Take up one block of real values. ``exact``: 64-bit integers, subtracted without loss."""
        shape = ours.shape
        views = self.views.get(shape) or self._views(shape)
        r, d = views.reference, views.candidate
        views.shaped_reference[...] = ours
        views.shaped_candidate[...] = theirs
        views.rest[...] = 0
        rr, cc = _dots(views.both, views.both)
        if not rr + cc < np.inf:
            self.fold_careful(origin, ours, theirs)
            return
        lopsided = not cc / LOPSIDED < rr < cc * LOPSIDED
        product = _dots(views.both[:1], views.second)[0] if lopsided else None
        if exact:
            _subtract_integers(theirs, ours, views.shaped_candidate)
        else:
            np.subtract(d, r, out=d)
        dd, bias = _dots(views.second_and_ones, views.second)
        self.reference_squares += rr
        self.candidate_squares += cc
        self.squares += dd
        self.products += (rr + cc - dd) / 2 if product is None else product
        self.signed += bias
        self.count += r.size
        self.compared += r.size
        self.extremes(origin, shape, np.abs(d, out=d), np.abs(r, out=r), views.floors)

    def fold_exact(self, origin: tuple[int, ...], ours: Array, theirs: Array) -> None:
        """Take up one block of 64-bit integers."""
        self.fold_real(origin, ours, theirs, exact=True)

    def _views(self, shape: tuple[int, ...]) -> Views:
        """The buffers as a block of this shape needs them, made once per shape."""
        n = prod(shape)
        count = -(-n // DOT)
        total = count * -(-n // count)
        pieces = self.rows[:, :total].reshape(3, count, -1)
        reference, candidate = self.rows[0, :n], self.rows[1, :n]
        made = Views(
            reference, candidate, reference.reshape(shape), candidate.reshape(shape), pieces[:2], pieces[1:2],
            pieces[1:], self.floors[:n], self.rows[:2, n:total],
        )  # fmt: skip
        self.views[shape] = made
        return made

    def extremes(
        self, origin: tuple[int, ...], shape: tuple[int, ...], sizes: Array, magnitudes: Array, floors: Array
    ) -> None:
        """Take up one block's sizes of differences and magnitudes of the reference; overwrites the latter."""
        at = int(sizes.argmax())
        largest = float(sizes[at])
        if largest > self.max_abs:
            self.max_abs, self.max_abs_place = largest, (origin, shape, at)
        if largest <= self.below_limit:
            self.below += sizes.size
        else:
            self.below += int(np.count_nonzero(sizes <= self.below_limit))
        # Most blocks cannot hold the largest relative difference; their smallest magnitude shows it.
        if largest <= self.max_rel * max(float(magnitudes[magnitudes.argmin()]), self.floor):
            return
        np.maximum(magnitudes, floors, out=magnitudes)
        np.divide(sizes, magnitudes, out=magnitudes)
        at = int(magnitudes.argmax())
        relative = float(magnitudes[at])
        if relative > self.max_rel:
            self.max_rel, self.max_rel_place = relative, (origin, shape, at)

    def fold_careful(self, origin: tuple[int, ...], ours: Array, theirs: Array) -> None:
        """Take up one block that is complex or holds values that are not finite or whose squares overflow."""
        complex_values = ours.dtype.kind == "c" or theirs.dtype.kind == "c"
        r, c = (
            np.ravel(part.astype(np.complex128 if complex_values else np.float64)) for part in (ours, theirs)
        )
        both = self._census(origin, ours.shape, r, c)
        r[~both], c[~both] = 0, 0
        d = c - r
        self.reference_squares += float(np.square(np.abs(r)).sum())
        self.candidate_squares += float(np.square(np.abs(c)).sum())
        self.squares += float(np.square(np.abs(d)).sum())
        self.products += float((r.conj() * c).real.sum())
        self.signed += complex(d.sum()) if complex_values else float(d.sum())
        sizes = np.where(both, np.abs(d), -1.0)
        self.extremes(origin, ours.shape, sizes, np.abs(r), self.floors[: r.size])
        # What is not finite was counted as below by its size of -1; only infinities that agree really are.
        self.below += self._agreed - int(np.count_nonzero(~both))

    def _census(self, origin: tuple[int, ...], shape: tuple[int, ...], r: Array, c: Array) -> Array:
        """Count what is not finite; returns where both sides are finite."""
        finite, other = np.isfinite(r), np.isfinite(c)
        agree = r == c
        bad = ~(finite & other)
        mismatch = bad & ~agree & ~(_nan_alike(r, c))
        self.count += r.size
        self.compared += int(r.size - np.count_nonzero(bad))
        self.reference_nonfinite += int(np.count_nonzero(~finite))
        self.candidate_nonfinite += int(np.count_nonzero(~other))
        self._agreed = int(np.count_nonzero(bad & agree))
        self.equal_infinities += self._agreed
        found = int(np.count_nonzero(mismatch))
        if found and self.mismatch_place is None:
            self.mismatch_place = (origin, shape, int(mismatch.argmax()))
        self.mismatches += found
        return ~bad


def _dots(first: Array, second: Array) -> list[float]:
    """Dot products of rows, of which each has been cut into pieces."""
    each = np.matmul(first[:, :, None], second[..., None])
    products: list[float] = np.add.reduce(each[..., 0, 0], 1).tolist()
    return products


def _nan_alike(r: Array, c: Array) -> Array:
    """Where both sides are NaN; of complex values each part must be NaN on both sides, or equal."""
    if r.dtype.kind != "c":
        return np.isnan(r) & np.isnan(c)
    parts = ((r.real, c.real), (r.imag, c.imag))
    alike = [(a == b) | (np.isnan(a) & np.isnan(b)) for a, b in parts]
    return np.asarray(alike[0] & alike[1])


def _subtract_integers(first: Array, second: Array, out: Array) -> None:
    """First minus second of 64-bit integers of any signs, rounded once.

    Either is split into a high and a low half of 32 bits, whose differences are exact in float64; so is the
    scaled high one, and only their sum rounds.
    """
    first, second = (part if part.itemsize == 8 else part.astype(np.int64) for part in (first, second))
    np.subtract((first >> 32).astype(np.float64), (second >> 32).astype(np.float64), out=out)
    out *= 2.0**32
    out += (first & 0xFFFFFFFF).astype(np.float64) - (second & 0xFFFFFFFF).astype(np.float64)


def folder(tally: Tally, reference: np.dtype[Any], candidate: np.dtype[Any]) -> Fold:
    """The way in which blocks of two dtypes are taken up."""
    if "c" in (reference.kind, candidate.kind):
        return tally.fold_careful
    whole = reference.kind in "biu" and candidate.kind in "biu"
    return tally.fold_exact if whole and 8 in (reference.itemsize, candidate.itemsize) else tally.fold_real

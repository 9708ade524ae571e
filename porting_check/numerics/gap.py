"""The size of a difference in units of what float32 resolves."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from porting_check.numerics.difference import Difference, difference

Array = np.ndarray

FLOAT32 = 2.0**-24
"""Unit round-off of float32."""

SLAB = 1 << 20
"""Values that are compared at a time where a comparison needs several arrays of them."""


def units_apart(measured: Difference) -> float:
    """The largest difference in units of float32's resolution at the reference's scale (its largest magnitude)."""
    if measured.compared == 0 or measured.max_abs == 0:
        return 0.0
    scale = (
        measured.reference_max if np.isfinite(measured.reference_max) and measured.reference_max > 0 else 0.0
    )
    return float("inf") if scale == 0.0 else float(measured.max_abs / (FLOAT32 * scale))


def units_apart_by_channel(truth: Array, other: Array, channel: int) -> float:
    """Like :func:`units_apart`, each channel at its own scale, so that a large channel does not hide a small one.

    Args:
        truth: the reference's float64 output.
        other: the candidate's, with the reference's order of axes.
        channel: the axis of the channels.

    A channel that is ten thousand times smaller than the largest is judged at that scale: below it float64's own
    round-off would count.

    Example:
        >>> truth = np.array([[1e3, 1.0]]); other = np.array([[1e3, 1.0 + 1e-6]])
        >>> units_apart_by_channel(truth, other, 1) > 1
        True
    """
    apart, scale = np.zeros(truth.shape[channel]), np.zeros(truth.shape[channel])
    for part in _slabs(truth.shape, channel):
        found = _channels_apart(truth[part], other[part], channel)
        np.maximum(apart, found[0], out=apart)
        np.maximum(scale, found[1], out=scale)
    scale = np.maximum(scale, 1e-4 * scale.max(initial=0.0))
    worst = np.divide(apart, FLOAT32 * scale, out=np.where(apart > 0, np.inf, 0.0), where=scale > 0)
    return float(worst.max(initial=0.0))


def _slabs(shape: tuple[int, ...], channel: int) -> Iterator[tuple[slice, ...]]:
    """Parts of a tensor that hold all channels and about :data:`SLAB` values each, cut along its longest other axis."""
    others = [axis for axis in range(len(shape)) if axis != channel]
    if not others:
        yield (slice(None),)
        return
    axis = max(others, key=lambda one: shape[one])
    step = max(SLAB * shape[axis] // max(prod(shape), 1), 1)
    for start in range(0, shape[axis], step):
        yield (*(slice(None),) * axis, slice(start, start + step))


def _channels_apart(truth: Array, other: Array, channel: int) -> tuple[Array, Array]:
    """The largest finite difference and the largest finite magnitude of each channel."""
    axes = tuple(axis for axis in range(truth.ndim) if axis != channel)
    with np.errstate(invalid="ignore"):
        size = np.abs(truth)
        finite = np.isfinite(size)
        apart = np.where(finite, np.abs(other - truth), 0.0).max(axis=axes, initial=0.0)
        return apart, np.where(finite, size, 0.0).max(axis=axes, initial=0.0)


def no_difference(truth: Array) -> Difference:
    """The difference of a tensor with itself, without going through it value by value."""
    size = np.asarray(np.abs(truth))  # a tensor without axes would become a bare number
    largest = float(size.max(initial=0.0))  # a NaN in a maximum stays NaN
    if not truth.size or not np.isfinite(largest):
        return difference(truth, truth)
    squares = np.square(size, out=size) if size.dtype == np.float64 else np.square(size, dtype=np.float64)
    index = (0,) * truth.ndim
    return Difference(
        count=truth.size,
        max_abs=0.0,
        max_abs_index=index,
        max_rel=0.0,
        max_rel_index=index,
        rms=0.0,
        mean_signed=0.0,
        cosine=1.0,
        reference_max=largest,
        reference_rms=float(np.sqrt(squares.mean())),
        reference_nonfinite=0,
        candidate_nonfinite=0,
        nonfinite_mismatch=0,
        identical=True,
        compared=truth.size,
        fraction_below=1.0,
    )

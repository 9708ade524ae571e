"""The size of a difference in units of what float32 resolves."""

from __future__ import annotations

import numpy as np

from porting_check.numerics.difference import Difference

Array = np.ndarray

FLOAT32 = 2.0**-24
"""Unit round-off of float32."""


def units_apart(measured: Difference) -> float:
    """The largest difference in units of float32's resolution at the reference's scale (its largest magnitude)."""
    if measured.compared == 0 or measured.max_abs == 0:
        return 0.0
    scale = (
        measured.reference_max if np.isfinite(measured.reference_max) and measured.reference_max > 0 else 0.0
    )
    return float("inf") if scale == 0.0 else float(measured.max_abs / (FLOAT32 * scale))


def no_difference(truth: Array) -> Difference:
    """The difference of a tensor with itself, without going through it value by value."""
    size = np.abs(truth)
    finite = bool(np.isfinite(size).all())
    largest = float(size.max(initial=0.0)) if finite else float(size[np.isfinite(size)].max(initial=0.0))
    lost = 0 if finite else int((~np.isfinite(size)).sum())
    index = (0,) * truth.ndim if truth.size else ()
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
        reference_rms=float(np.sqrt(np.square(size).mean())) if finite and truth.size else 0.0,
        reference_nonfinite=lost,
        candidate_nonfinite=lost,
        nonfinite_mismatch=0,
        identical=lost == 0,
        compared=truth.size - lost,
        fraction_below=1.0,
    )

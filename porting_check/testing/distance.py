"""How far two results are apart, for checks that know how far that may be."""

from __future__ import annotations

import math

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest finite value; infinite where anything but values differs.

    Example:
        >>> distance(np.array([2.0, np.nan]), np.array([1.0, np.nan]))
        0.5
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        return math.inf
    kind = np.complex128 if a.dtype.kind == "c" else np.float64
    wide_a, wide_b = a.astype(kind), b.astype(kind)
    finite = np.isfinite(wide_a)
    if not np.array_equal(wide_a[~finite], wide_b[~finite], equal_nan=True):
        return math.inf
    if not np.isfinite(wide_b[finite]).all():
        return math.inf
    if not finite.any():
        return 0.0
    wide_a, wide_b = wide_a[finite], wide_b[finite]
    return float(np.abs(wide_a - wide_b).max() / max(np.abs(wide_a).max(), 1e-30))

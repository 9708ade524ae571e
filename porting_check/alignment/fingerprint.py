"""Fingerprints of tensors that do not depend on the order of their elements.

A layout change, a transposition or a permutation leaves them as they are, so weights and activations can be recognised
before their layouts are known. They propose pairs; they never decide a verdict.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

QUANTILES = 32


def weight_hash(array: np.ndarray) -> str:
    """A hash of the sorted values at float32: equal for any permutation of the same numbers.

    Example:
        >>> w = np.arange(6, dtype=np.float32).reshape(2, 3)
        >>> weight_hash(w) == weight_hash(w.T)
        True
    """
    values = np.asarray(array)
    if values.dtype.kind not in "iub":
        values = values.astype(np.float32) + np.float32(0)  # so that -0 and 0 are one value
    ordered = np.sort(values, axis=None)
    return hashlib.blake2b(ordered.tobytes() + str(ordered.size).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Signature:
    """Sketch of a tensor: its size, sorted quantiles and spread."""

    size: int
    quantiles: tuple[float, ...]
    spread: float
    finite: bool

    def distance(self, other: Signature) -> float:
        """0 for the same multiset of values; about the relative difference otherwise; infinite for other sizes."""
        if self.size != other.size or not (self.finite and other.finite):
            return float("inf")
        scale = max(self.spread, other.spread)
        gap = float(np.abs(np.subtract(self.quantiles, other.quantiles)).mean())
        return 0.0 if gap == 0.0 else (gap / scale if scale > 0 else float("inf"))

    @property
    def flat(self) -> bool:
        """Whether the tensor is (almost) constant, so that its sketch says nothing."""
        return self.spread <= 1e-12 * max(abs(self.quantiles[0]), abs(self.quantiles[-1]), 1e-300)


def signature(array: np.ndarray) -> Signature:
    """Sketch a tensor by order statistics at equally spaced ranks.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((2, 3, 4))
        >>> signature(x).distance(signature(x.transpose(2, 0, 1)))
        0.0
    """
    values = np.asarray(array).reshape(-1)
    if values.dtype.kind == "c":
        values = np.abs(values)
    if values.dtype.kind not in "f" or values.dtype.itemsize == 2:
        values = values.astype(np.float32)
    if values.size == 0:
        return Signature(0, (0.0,) * QUANTILES, 0.0, True)
    finite = bool(np.isfinite(values).all())
    ranks = np.round(np.linspace(0, values.size - 1, QUANTILES)).astype(int)
    chosen = np.sort(values)[ranks]  # vectorised sorting of float32 beats a partial selection
    spread = float(np.std(values, dtype=np.float64)) if finite else 0.0
    return Signature(values.size, tuple(float(v) for v in chosen), spread, finite)

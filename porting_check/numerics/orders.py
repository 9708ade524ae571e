"""Errors of sums in a known order: what settles a case where the law of unknown orders does not hold.

Structured terms (the first half positive, the second negative, as with an edge filter) make partial sums that are far larger
than those of exchangeable terms. For a given order of summation the typical error follows from the partial sums themselves::

    sigma = 0.42 u sqrt(sum over additions of S^2)

(measured with revealed orders: rms of error / (u sqrt(sum S^2)) between 0.39 and 0.49 for every kind of data).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from porting_check.numerics.products import Products
from porting_check.numerics.rule import LAW, RMS_CHANNEL, RMS_MANY, SLOPE, largest_deviate

Array = np.ndarray

LANES = (2, 4, 8, 16)
"""Numbers of accumulators that kernels use side by side."""


def plausible(products: Products, error: Array, unit: float) -> str | None:
    """The name of an order of summation whose own error is as large as this one; ``None`` when there is none.

    Args:
        products: of a sample of outputs.
        error: of the same outputs.
        unit: unit round-off.

    Example:
        >>> rng = np.random.default_rng(0); terms = np.abs(rng.normal(size=(256, 64))); terms[:, 32:] *= -1
        >>> total = np.zeros(256, np.float32)
        >>> for k in range(64): total += terms[:, k].astype(np.float32)
        >>> found = Products(terms.astype(np.float32).astype(float), (np.arange(256),))
        >>> plausible(found, total - found.terms.sum(axis=1), 2.0**-24)
        'one after the other'
    """
    if not error.size:
        return None
    result = products.terms.reshape(len(products.terms), -1).sum(axis=1)
    for name, sums in _sums_of_squares(products.terms):
        if _good(products, error, result, unit * np.sqrt(sums) + 1e-300, unit):
            return name
    return None


def _good(products: Products, error: Array, result: Array, sigma: Array, unit: float) -> bool:
    """The conditions of the rule with the errors of this order as the unit; the largest error of all, the rest of a sample."""
    z, drawn = error / sigma, products.drawn
    if np.abs(z).max() > largest_deviate(z.size):
        return False
    z, channel = z[:drawn], products.index[products.channel][:drawn]
    if np.sqrt(np.square(z).mean()) > RMS_MANY:
        return False
    counts = np.bincount(channel)
    squares = np.bincount(channel, np.square(z))
    known = counts >= 16
    if (squares[known] > counts[known] * np.square(RMS_CHANNEL * (1 + 4 / np.sqrt(2 * counts[known])))).any():
        return False
    weight = (result / sigma)[:drawn]
    total = float(np.square(weight).sum())
    if z.size < 256 or not total:
        return True
    spread = LAW * np.sqrt(np.square(np.bincount(channel, np.abs(weight))).sum()) / total / unit
    return bool(abs(float((z * weight).sum())) / total / unit <= max(SLOPE, 6 * spread))


def _sums_of_squares(terms: Array) -> Iterator[tuple[str, Array]]:
    """For each plausible order, the sum of the squares of all partial sums."""
    axes = tuple(range(1, terms.ndim))
    count = terms.shape[0]
    for order in itertools.permutations(axes) if len(axes) < 4 else (axes, axes[::-1]):
        flat = terms.transpose((0, *order)).reshape(count, -1)
        said = "one after the other" if order == axes else "one after the other, other axes first"
        yield said, np.square(np.cumsum(flat, axis=1)).sum(axis=1)
        for lanes in LANES:
            if flat.shape[1] >= 2 * lanes:
                yield f"in {lanes} lanes", _lanes(flat, lanes)


def _lanes(flat: Array, lanes: int) -> Array:
    """Every n-th term into one accumulator, the accumulators added at the end."""
    rest = -flat.shape[1] % lanes
    padded = np.pad(flat, ((0, 0), (0, rest))).reshape(flat.shape[0], -1, lanes)
    partial = np.cumsum(padded, axis=1)
    total = np.square(partial).sum(axis=(1, 2))
    return np.asarray(total + np.square(np.cumsum(partial[:, -1], axis=1)).sum(axis=1))

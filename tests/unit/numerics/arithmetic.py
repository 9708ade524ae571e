"""Float32 arithmetic in known orders, to test what is said of it: emulated, so that no backend decides."""

from __future__ import annotations

import numpy as np

KINDS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "relu": lambda rng, shape: np.abs(rng.standard_normal(shape)),
    "uniform": lambda rng, shape: rng.uniform(0, 1, shape),
    "small": lambda rng, shape: 1e-5 * rng.standard_normal(shape),
    "mean 100": lambda rng, shape: 100 + rng.standard_normal(shape),
    "heavy": lambda rng, shape: rng.standard_normal(shape) * rng.lognormal(0, 1, shape),
}


def matrices(kind: str, seed: int, rows: int, terms: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Data ``(rows, terms)`` of a kind and weights ``(columns, terms)``, float32."""
    rng = np.random.default_rng(seed)
    x = KINDS[kind](rng, (rows, terms))
    w = KINDS[kind if kind in ("uniform", "heavy") else "normal"](rng, (columns, terms))
    return x.astype(np.float32), w.astype(np.float32)


def in_order(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``x @ w.T``, products added one after the other."""
    total = np.zeros((len(x), len(w)), np.float32)
    for term in range(x.shape[1]):
        total += x[:, term, None] * w[None, :, term]
    return total


def in_lanes(x: np.ndarray, w: np.ndarray, lanes: int) -> np.ndarray:
    """The same in accumulators side by side, added at the end."""
    parts = [in_order(x[:, lane::lanes], w[:, lane::lanes]) for lane in range(lanes)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def cut_off(values: np.ndarray) -> np.ndarray:
    """Float64 values cut to float32 towards zero."""
    near = values.astype(np.float32)
    beyond = np.abs(near.astype(np.float64)) > np.abs(values)
    return np.where(beyond, np.nextafter(near, np.float32(0)), near)


def truncating(x: np.ndarray, w: np.ndarray, products: int) -> np.ndarray:
    """The same by an accumulator that adds some products at a time exactly and cuts the sum off, as tensor cores do."""
    total = np.zeros((len(x), len(w)))
    for start in range(0, x.shape[1], products):
        part = slice(start, start + products)
        total = cut_off(total + x[:, part].astype(np.float64) @ w[:, part].astype(np.float64).T).astype(
            np.float64
        )
    return total.astype(np.float32)

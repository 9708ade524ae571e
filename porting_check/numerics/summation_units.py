"""What float32 allows for a sum of products inside a black box: ``n``, ``s``, ``q``, and the units of its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from porting_check.numerics.rule import ANY_ORDER_MAX, largest_deviate
from porting_check.numerics.summation_order import Located
from porting_check.numerics.summation_probe import Array

FLOOR = 1e-300


@dataclass(frozen=True)
class Sums:
    """The sums of one computation on its actual arrays (NUMERICS, section 1).

    Attributes:
        terms: ``n``, how many terms each output adds, a bias included.
        magnitudes: ``s``, the sum of their magnitudes, of the output's shape.
        roots: ``q``, the root of the sum of their squares.

    Example:
        >>> sums = Sums(4, np.array([4.0]), np.array([2.0]))
        >>> float(sums.tau(np.array([4.0]), 1.0)[0].round(3))
        6.633
    """

    terms: int
    magnitudes: Array
    roots: Array

    def tau(self, truth: Array, unit: float, kappa: float = 1.0) -> Array:
        """The typical error's unit, ``u sqrt(kappa n (y^2/3 + q^2/6) + q^2 + y^2)``; ``kappa`` where the order is known."""
        y2, q2 = np.square(truth), np.square(self.roots)
        return np.asarray(unit * np.sqrt(kappa * self.terms * (y2 / 3 + q2 / 6) + q2 + y2) + FLOOR)

    def limit(self, truth: Array, unit: float) -> Array:
        """The largest error in any order of summation: ``0.577 lam(N)`` times ``u sqrt(n+2) (s+|y|)/2 + u |y|``."""
        size = np.abs(truth)
        scale = unit * np.sqrt(self.terms + 2) * (self.magnitudes + size) / 2 + unit * size + FLOOR
        return np.asarray(ANY_ORDER_MAX * largest_deviate(size.size) * scale)


def sums(found: Located, shape: tuple[int, ...]) -> Sums:
    """Measure the sums of a computation: it is called once on magnitudes, once on squares, once for its bias.

    Args:
        found: the sum of products.
        shape: of the output.
    """
    asked, box = found.asked, found.box
    actual = {name: array for name, array in asked.operands.items() if array.dtype.kind == "f"}
    bias = asked.ask_with({**actual, box.operand: np.zeros_like(actual[box.operand])})
    off = {name: np.zeros_like(actual[name]) for name in asked.added if name != box.operand}
    scale = {name: float(np.abs(array).max(initial=0.0)) or 1.0 for name, array in actual.items()}
    whole = float(np.prod([scale[name] for name in actual if name not in asked.added]))
    # Squares of small numbers would underflow in float32: everything is brought to magnitude one first.
    sizes = {name: (np.abs(array) / scale[name]).astype(np.float32) for name, array in actual.items()}
    squares = {name: np.square(array) for name, array in sizes.items()}
    magnitudes = np.abs(asked.ask_with({**sizes, **off})) * whole + np.abs(bias)
    roots = np.sqrt(np.abs(asked.ask_with({**squares, **off})) * whole**2 + np.square(bias))
    terms = box.terms + bool(np.any(bias))
    return Sums(terms, magnitudes.reshape(shape), roots.reshape(shape))

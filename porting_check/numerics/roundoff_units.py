"""Units of round-off and the limits in them, shared by the rules of all families of operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

UNIT = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "complex64": 2.0**-24,
    "complex128": 2.0**-53,
}
"""Unit round-off of the floating types."""

ELEMENTWISE, NORMALIZED, COMPOSITE = 16.0, 8.0, 50.0
"""Limits in units, by kind of operator (worst measured: 5.9, 2.8 and 6.1)."""

LONG = float(1 << 17)
"""Sums of more terms than this round in step when their mean is not zero, so no statistics hold: ``np.cumsum`` of 1.6 million
values near 100 is off by 87 sqrt(n) u s. From there on the deterministic ``gamma_n |y|`` is allowed too."""

TINY = 2.0**-126
"""The smallest normal float32: what is below may be flushed to zero."""


def errors_of(incoming: Sequence[Array | None], position: int) -> Array | None:
    """The error that an input carries; ``None`` where it is exact."""
    error = incoming[position] if position < len(incoming) else None
    return error if error is not None and error.any() else None

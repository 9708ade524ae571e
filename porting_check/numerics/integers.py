"""The integer probe: on small integers float32 makes no error, so two right computations must agree bit for bit.

Inputs and weights are integers in [-8, 8], so small that every sum of their products stays below 2^24; then no order of
summation rounds, and neither do bfloat16 nor TF32 operands. A difference is a mistake of structure, or an algorithm that
does not add plain products (Winograd, FFT). Random integers miss a wrong index map with negligible probability
(Schwartz-Zippel). NUMERICS, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Array = np.ndarray
Call = Callable[[Mapping[str, Array]], Array]

BOUND = 8
EXACT = 2.0**24
"""Integers up to here are float32 numbers."""


@dataclass(frozen=True, slots=True)
class IntegerProbe:
    """What the probe found.

    ``verdict``: ``bit-equal``; ``different``; or ``void``: it says nothing, for ``reason``. ``largest`` is the largest
    difference, at ``index``. ``bound`` is the range of integers that was used.
    """

    verdict: Literal["bit-equal", "different", "void"]
    bound: int = BOUND
    largest: float = 0.0
    index: tuple[int, ...] = ()
    share: float = 0.0
    reason: str = ""


def integers_like(arrays: Mapping[str, Array], *, bound: int = BOUND, seed: int = 0) -> dict[str, Array]:
    """Random integers in ``[-bound, bound]`` as float32 for every floating array; others stay as they are.

    Example:
        >>> made = integers_like({"x": np.zeros((2, 3), np.float32)}, bound=2)["x"]
        >>> made.dtype, bool((np.abs(made) <= 2).all())
        (dtype('float32'), True)
    """
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(-bound, bound + 1, array.shape).astype(np.float32)
        if array.dtype.kind == "f"
        else array
        for name, array in arrays.items()
    }


def probe_integers(
    reference: Call, candidate: Call, arrays: Mapping[str, Array], *, seed: int = 0
) -> IntegerProbe:
    """Run both on the same small integers and compare bits.

    Args:
        reference: the computation that is right by definition: arrays by name in, one output out, in float32.
        candidate: the other one.
        arrays: shapes and dtypes to fill.
        seed: of the integers.

    Returns:
        ``void`` where an output is no integer (the computation is not made of sums of products alone), or where no range
        of integers keeps the sums small.

    Example:
        >>> f, g = lambda a: a["x"] @ a["w"], lambda a: np.einsum("ij,jk->ik", a["x"], a["w"])
        >>> arrays = {"x": np.ones((3, 50), np.float32), "w": np.ones((50, 4), np.float32)}
        >>> probe_integers(f, g, arrays).verdict
        'bit-equal'
        >>> probe_integers(f, lambda a: g(a) + np.float32(1), arrays).verdict
        'different'
    """
    for bound in (BOUND, 4, 2, 1):
        drawn = integers_like(arrays, bound=bound, seed=seed)
        sizes = {name: np.abs(array) if array.dtype.kind == "f" else array for name, array in drawn.items()}
        with np.errstate(all="ignore"):
            largest = float(np.abs(np.asarray(reference(sizes), np.float64)).max(initial=0.0))
        if largest < EXACT:
            return _compared(reference, candidate, drawn, bound)
    return IntegerProbe("void", 1, reason=f"sums reach {largest:.3g} on integers from -1 to 1, beyond 2^24")


def _compared(reference: Call, candidate: Call, drawn: Mapping[str, Array], bound: int) -> IntegerProbe:
    with np.errstate(all="ignore"):
        first, second = (np.asarray(side(drawn), np.float64) for side in (reference, candidate))
    if first.shape != second.shape:
        return IntegerProbe("void", bound, reason=f"outputs have shapes {first.shape} and {second.shape}")
    if not np.isfinite(first).all() or (first != np.round(first)).any():
        return IntegerProbe("void", bound, reason="the reference gives no integers for integers")
    apart = np.abs(second - first)
    if not apart.any():
        return IntegerProbe("bit-equal", bound)
    place = int(np.where(np.isfinite(apart), apart, np.inf).argmax())
    index = tuple(int(i) for i in np.unravel_index(place, apart.shape))
    return IntegerProbe(
        "different", bound, float(apart.ravel()[place]), index, float(np.count_nonzero(apart) / apart.size)
    )

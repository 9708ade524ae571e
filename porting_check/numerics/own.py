"""One side's own truth: its nodes in float64 on its own recorded values, and how far its recorded values are from it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from porting_check.neutral.graph import Graph
from porting_check.numerics.gap import FLOAT32
from porting_check.numerics.program import Program
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.rule import IMPOSSIBLE, Rounding, judge_rounding
from porting_check.numerics.spread import Bounds

Array = np.ndarray

SURELY = 0.8
"""Up to this share of its limit an error is not judged again with the exact unit, which costs one evaluation more."""


class SideTruth:
    """One side's own truth: its nodes in float64 on its own recorded values.

    Values inside a layer were not recorded; their truth, and what round-off may do to them, is kept for the region that
    begins there, a few at a time and at most ``KEPT_BYTES`` of them (but one always).
    """

    KEPT = 6
    KEPT_BYTES = 256 * 2**20

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.program = Program(graph)
        self._inner: OrderedDict[str, tuple[Array, Bounds]] = OrderedDict()

    def value(self, key: str) -> Array:
        """A value as recorded, or its truth where it lies inside a layer."""
        array = self.graph.array(key)
        return array if array is not None else self._truth(key)[0]

    def _truth(self, key: str) -> tuple[Array, Bounds]:
        if key not in self._inner:
            steps, used = self.graph.between(key, self.graph.trace.values)
            self._keep(key, self.bounded(tuple(steps), key, sorted(used)))
        return self._inner[key]

    def _keep(self, key: str, found: tuple[Array, Bounds]) -> None:
        self._inner[key] = found
        while len(self._inner) > self.KEPT or (len(self._inner) > 1 and self._size() > self.KEPT_BYTES):
            self._inner.popitem(last=False)

    def _size(self) -> int:
        """Bytes that the kept values hold: each with its limit and what its typical error is computed from."""
        return sum(4 * truth.nbytes for truth, _ in self._inner.values())

    def bounded(
        self, steps: tuple[int, ...], target: str, boundary: Sequence[str], known: Bounds | None = None
    ) -> tuple[Array, Bounds]:
        """The truth of ``target`` from the boundary's own values, and what round-off may leave in it.

        ``known`` gives the latter where it is known already.
        """
        given: dict[str, Array] = {}
        errors: dict[str, Bounds] = {}
        for key in boundary:
            array = self.graph.array(key)
            if array is None:
                given[key], errors[key] = self._truth(key)
            else:
                given[key] = array
        if known is not None:
            return self.program.evaluate(steps, given, [target])[target], known
        found = self.program.bounded(steps, given, target, self.unit(target, given), errors)
        if target not in self.graph.trace.values:
            self._keep(target, found)
        return found

    def judged(self, target: str, boundary: Sequence[str], truth: Array, bounds: Bounds) -> Rounding | None:
        """The recorded value of ``target`` against its truth; ``None`` where it, or what it was made from, was not recorded."""
        native = self.graph.array(target)
        if native is None or not self.graph.trace.restored.isdisjoint([target, *boundary]):
            return None
        known = {key: array for key in boundary if (array := self.graph.array(key)) is not None}
        layout = self.graph.layouts.get(target, "")
        channel = layout.find("C") if len(layout) == truth.ndim else -1
        if channel < 0 and truth.ndim in (2, 3):
            channel = truth.ndim - 1
        return judged(
            native, truth, bounds, channel=channel if channel >= 0 else None, unit=self.unit(target, known)
        )

    def unit(self, target: str, given: Mapping[str, Array]) -> float:
        """Unit round-off of the arithmetic: the coarsest of what went in and what came out, as recorded."""
        recorded = [self.graph.array(key) for key in (target, *given)]
        known = [UNIT[a.dtype.name] for a in recorded if a is not None and a.dtype.name in UNIT]
        return max(known, default=FLOAT32)


def judged(
    native: Array, truth: Array, bounds: Bounds, *, channel: int | None = None, unit: float = FLOAT32
) -> Rounding:
    """A native value against its truth, by the rule; equal non-finite values agree.

    Args:
        native: as a framework made it.
        truth: in float64.
        bounds: what round-off may do.
        channel: axis of the channels, where it is known.
        unit: unit round-off of the native arithmetic.

    Example:
        >>> judged(np.float32([1.0, 2.0]), np.array([1.0, 2.5]), Bounds(np.array([0.0, 0.25]))).ratio
        2.0
    """
    if native.shape != truth.shape:
        return IMPOSSIBLE
    # Laid out in memory as the truth and its limits are, so that the rule walks through all of them without copies.
    error = np.empty_like(
        truth, np.complex128 if "c" in (native.dtype.kind, truth.dtype.kind) else np.float64
    )
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(native, truth, out=error, dtype=error.dtype)  # booleans have no difference of their own
    found = _against(error, truth, bounds, channel, unit)
    if found != IMPOSSIBLE or np.isfinite(error).all():
        return found
    error[_agree(native, truth, bounds.limit)] = 0.0
    return _against(error, truth, bounds, channel, unit)


def _against(error: Array, truth: Array, bounds: Bounds, channel: int | None, unit: float) -> Rounding:
    if error.dtype.kind == "c":
        error = np.abs(error)
    limit = np.broadcast_to(bounds.limit, error.shape)
    if bounds.spread is None or not np.isfinite(limit.max(initial=0.0)):
        rounding = judge_rounding(error, limit)
        if bounds.usual is None or not rounding.ratio * bounds.looser > 1 or np.isinf(rounding.ratio):
            return rounding
        return judge_rounding(error, limit, usual=np.broadcast_to(bounds.usual(), error.shape))
    for exactly in (False, True):
        rounding = judge_rounding(
            error,
            limit,
            np.broadcast_to(bounds.spread(exactly), error.shape),
            result=truth,
            channel=channel,
            unit=unit,
        )
        if rounding.ratio <= SURELY or np.isinf(rounding.ratio):
            break
    return rounding


def _agree(native: Array, truth: Array, limit: Array) -> Array:
    """Where values that are not finite are right: the same ones, or infinite where the truth leaves the native type's range."""
    with np.errstate(invalid="ignore", over="ignore"):
        same = (native == truth) | (np.isnan(native) & np.isnan(truth))
        if native.dtype.kind != "f" or truth.dtype.kind != "f":
            return np.asarray(same)
        beyond = (truth + np.copysign(limit, truth)).astype(native.dtype)
        return np.asarray(same | (np.isinf(native) & (native == beyond)))


def ratio(native: Array, truth: Array, bound: Array) -> float:
    """Largest error over its bound; equal non-finite values agree, an error where none is allowed is infinite.

    Example:
        >>> ratio(np.float32([1.0, 2.0]), np.array([1.0, 2.5]), np.array([0.0, 0.25]))
        2.0
    """
    if native.shape != truth.shape:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.subtract(native, truth, dtype=np.complex128 if native.dtype.kind == "c" else np.float64)
        error = np.abs(error)
        worst = float(error.max(initial=0.0))
        if np.isnan(worst):
            agree = (native == truth) | (np.isnan(native) & np.isnan(truth))
            error[agree] = 0.0
            if np.isnan(error).any():
                return float("inf")
        if not error.any():
            return 0.0
        if not np.all(bound):
            if (error[np.broadcast_to(bound == 0, error.shape)] > 0).any():
                return float("inf")
            bound = np.where(bound == 0, 1.0, bound)
        return float((error / bound).max())

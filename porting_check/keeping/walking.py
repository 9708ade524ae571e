"""A recording's nodes evaluated in float64, in order, from the values that were kept; and what round-off may have carried along.

How far a recorded value may be from one that was computed again depends on everything in between. It is measured, not
bounded: a *twin* of the evaluation gets, at every value that was recorded, noise of the size that rounding it and a sum
make; what the twin is off by at a later value is what such errors grow to on the way (Monte Carlo arithmetic, Parker 1997).
A worst-case bound grows by the sum of absolute weights in every layer and would allow anything after ten of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from porting_check.neutral.graph import Graph, Step
from porting_check.neutral.trace import Trace
from porting_check.numerics.program import OpaqueStep, Program
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.truth import CannotEvaluate

Array = np.ndarray

NOISE = 4.0
"""Units of round-off that the twin's noise has, relative to each element and to the tensor's root mean square."""

FLAGGED, REFUTED = 8.0, 16.0
"""Errors beyond so many times what the twin is off by: kept whole when a recording is pruned; held against it when it is
restored. Measured on whole recordings with nothing kept inside: at most 0.68 in ResNet-50, 0.52 in MTCNN."""

FAILS = (OpaqueStep, CannotEvaluate, ValueError, IndexError, TypeError, ZeroDivisionError)
"""What evaluating a node may raise."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A value that a record made, computed again.

    ``truth`` is in float64 and native layout, or ``None`` when it could not be computed, and ``reason`` says why. ``carried``
    is what round-off since the last kept values may make of its largest error. ``exact``: it follows without rounding from
    kept values. ``direct``: every value that its record read was kept, so that the examination of pairs judges it.
    ``standing``: ``truth`` is a stand-in, or follows from one; with a ``reason`` it is the stand-in itself.
    """

    key: str
    record: int
    truth: Array | None
    carried: float = 0.0
    exact: bool = False
    direct: bool = False
    standing: bool = False
    reason: str = ""


class Walk:
    """Evaluates a trace in order and yields every value that its records made.

    Args:
        trace: the recording; values that ``kept`` names must be there, and so must the parameters that are to be used.
        kept: keys of values from which the evaluation goes on. A value that is added while it is being looked at counts.
        lacking: parameters that are not there, and why.
        stand_in: gives an array in place of a value that cannot be computed, or ``None``; evaluation goes on from it.

    Example:
        >>> for found in Walk(trace, set(trace.values)):               # doctest: +SKIP
        ...     print(found.key, found.ratio(trace.values[found.key]))
    """

    def __init__(
        self,
        trace: Trace,
        kept: set[str],
        lacking: Mapping[str, str] | None = None,
        stand_in: Callable[[str], Array | None] = lambda key: None,
    ) -> None:
        self.graph = Graph(trace)
        self.kept = kept
        self._program = Program(self.graph)
        self._recorded = {port.value for record in trace.records for port in record.outputs}
        self._held: dict[str, tuple[Array, Array]] = {}
        self._why: dict[str, str] = dict(lacking or {})
        self._exact: set[str] = set()
        self._loose: set[str] = set()
        self._standing: set[str] = set()
        self._stand_in = stand_in
        self._last = self._last_uses()

    def __iter__(self) -> Iterator[Recomputed]:
        for port in self.graph.trace.inputs:
            self._real(port.value)
        for step in self.graph.steps:
            self._evaluate(step)
            for operand in step.outputs:
                if operand.key in self._recorded and operand.key:
                    found = self._found(step, operand.key)
                    if step.node is not None:
                        yield found
                    self._settle(operand.key, found)
            for key in self._last.get(step.index, ()):
                self._held.pop(key, None)

    def _unit(self, key: str) -> float:
        """Unit of round-off of the type in which a value was recorded."""
        trace = self.graph.trace
        dropped = trace.kept["dropped"] if trace.kept is not None else {}
        name = dropped[key]["dtype"] if key in dropped else np.asarray(trace.values[key]).dtype.name
        return UNIT.get(str(name), UNIT["float32"])

    def _last_uses(self) -> dict[int, list[str]]:
        last = {operand.key: step.index for step in self.graph.steps for operand in step.inputs}
        last.update({o.key: s.index for s in self.graph.steps for o in s.outputs if o.key not in last})
        freed: dict[int, list[str]] = {}
        for key, index in last.items():
            freed.setdefault(index, []).append(key)
        return freed

    def _real(self, key: str) -> None:
        """Go on from the recorded value."""
        array = np.asarray(self.graph.trace.values[key])
        self._held[key] = (array, array)
        self._exact.add(key)
        self._loose.discard(key)
        self._standing.discard(key)

    def _evaluate(self, step: Step) -> None:
        keys = [operand.key for operand in step.inputs if operand.key]
        wanted = [operand.key for operand in step.outputs if operand.key]
        missing = [key for key in keys if key in self._why]
        if step.node is None or missing:
            record = self.graph.record_of(step)
            why = self._why[missing[0]] if missing else f"{record.id} is opaque and what it made was not kept"
            self._why.update(dict.fromkeys(wanted, why))
            return
        given = {key: self._held[key] for key in keys if key in self._held}
        try:
            with np.errstate(all="ignore"):
                made = self._program.evaluate([step.index], {k: v[0] for k, v in given.items()}, wanted)
                twin = made
                if any(one is not other for one, other in given.values()):
                    twin = self._program.evaluate([step.index], {k: v[1] for k, v in given.items()}, wanted)
        except FAILS as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            self._why.update(dict.fromkeys(wanted, said[0]))
            return
        exact = step.movement and step.node.op_type != "Cast" and all(key in self._exact for key in given)
        for key in wanted:
            self._held[key] = (made[key], twin[key])
            (self._exact.add if exact else self._exact.discard)(key)
        for marked in (self._loose, self._standing):
            if not marked.isdisjoint(keys):
                marked.update(wanted)

    def _found(self, step: Step, key: str) -> Recomputed:
        if key in self._why:
            array = None if key in self.kept else self._stand_in(key)
            if array is not None:
                self._held[key] = (array, array)
                self._standing.add(key)
            return Recomputed(key, step.record, array, standing=array is not None, reason=self._why[key])
        truth, twin = self._held[key]
        carried = _largest(twin, truth) if twin is not truth else 0.0
        exact, direct = key in self._exact, key not in self._loose
        if not exact and truth.dtype.kind in "fc":
            carried = max(carried, 2 * NOISE * self._unit(key) * _size(truth))
        return Recomputed(key, step.record, truth, carried, exact, direct, key in self._standing)

    def _settle(self, key: str, found: Recomputed) -> None:
        """Go on from the recorded value where it was kept, from the one computed again where it was not."""
        if key in self.kept:
            self._why.pop(key, None)
            self._real(key)
        elif found.truth is not None and key in self.graph.fed:
            self._loose.add(key)
            self._why.pop(key, None)
            truth, twin = self._held[key]
            if truth.dtype.kind in "fc" and not found.exact:
                self._held[key] = (truth, twin + self._noise(key, truth))

    def _noise(self, key: str, truth: Array) -> Array:
        values = np.abs(truth)
        finite = np.isfinite(values)
        values = np.where(finite, values, 0.0)
        rms = float(np.sqrt(np.mean(values * values))) if values.size else 0.0
        drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(truth.shape)
        return np.where(finite, NOISE * self._unit(key) * (values + rms) * drawn, 0.0)


def _size(array: Array) -> float:
    values = np.abs(array)
    return float(values.max(where=np.isfinite(values), initial=0.0))


def _largest(one: Array, other: Array) -> float:
    """The largest difference of two arrays of one shape; infinite where only one is finite, or whole numbers differ."""
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind not in "fc" or other.dtype.kind not in "fc":
        return 0.0 if np.array_equal(one, other) else float("inf")
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return float(np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart)).max(initial=0.0))


def ratio(recorded: Array, found: Recomputed, at: Array | None = None) -> float:
    """The largest error of recorded elements in units of what round-off may have carried; 0 when there is none.

    Args:
        recorded: the value as recorded, or some of its elements.
        found: the value computed again.
        at: flat positions of these elements.
    """
    if found.truth is None:
        return float("nan")
    truth = found.truth if at is None else found.truth.reshape(-1)[at]
    if truth.dtype.kind in "fc":
        recorded = np.asarray(recorded).astype(truth.dtype)
    error = _largest(np.asarray(recorded), truth)
    if error == 0.0 or found.carried == float("inf"):
        return 0.0
    return error / found.carried if found.carried > 0 else float("inf")

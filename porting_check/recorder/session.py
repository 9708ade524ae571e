"""Recording a model and checking that the recording can be trusted."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np

from porting_check.neutral.adapter import Adapter, Inputs
from porting_check.neutral.trace import Checks, Port, Record, Sink

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``."""


class _Watch(Sink):
    """Passes everything on, and compares each value that could be an output with the unrecorded run's."""

    def __init__(
        self, sink: Sink, expected: Mapping[str, np.ndarray], layouts: Mapping[str, str], progress: Progress
    ) -> None:
        self._sink, self._expected, self._layouts, self._progress = sink, expected, layouts, progress
        self._differences: Dict[str, Dict[str, float]] = {}
        self.records = 0
        self.observer: List[float] = []

    def value(self, key: str, array: np.ndarray) -> None:
        like = {p: e for p, e in self._expected.items() if e.shape == array.shape and e.dtype == array.dtype}
        if like:
            self._differences[key] = {
                path: largest_difference(expected, array) for path, expected in like.items()
            }
        self._sink.value(key, array)

    def record(self, record: Record) -> None:
        self.records += 1
        self._progress("recording", self.records, 0)
        self._sink.record(record)

    def input(self, port: Port) -> None:
        layout = self._layouts.get(port.name, port.layout)
        self._sink.input(Port(port.name, port.value, layout, port.canonical))

    def output(self, port: Port) -> None:
        if self._expected:
            self.observer.append(self._differences.get(port.value, {}).get(port.name, float("nan")))
        self._sink.output(port)


def largest_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Largest absolute difference; equal non-finite values do not differ, unequal ones differ infinitely.

    Example:
        >>> largest_difference(np.array([1.0, np.nan]), np.array([1.5, np.nan]))
        0.5
    """
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    left, right = expected.astype(kind), found.astype(kind)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    if same.all():
        return 0.0
    difference = np.abs(left - right)[~same]
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


def record_model(
    adapter: Adapter,
    model: Any,
    inputs: Inputs,
    sink: Sink,
    *,
    layouts: Optional[Mapping[str, str]] = None,
    check: bool = True,
    progress: Progress = lambda stage, done, total: None,
) -> Checks:
    """Record one run into a sink, after two unrecorded runs that show determinism and the observer's influence.

    Args:
        adapter: the model's adapter.
        model: the live model.
        inputs: by name, in the model's own layouts.
        layouts: layout of each input, written into the trace.
        sink: where the recording goes.
        check: make the two unrecorded runs.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        RunError: the model raised.
    """
    training = adapter.training(model)
    expected: Mapping[str, np.ndarray] = {}
    repeat: Optional[float] = None
    if check:
        progress("running unrecorded", 0, 2)
        expected, again = adapter.repeat(model, inputs)
        repeat = max((_between(expected[path], again.get(path)) for path in expected), default=0.0)
    watch = _Watch(sink, expected, layouts or {}, progress)
    adapter.record(model, inputs, watch)
    nothing = () if watch.records else ("the model ran, but no layer and no operator was seen",)
    observer = float(np.max(watch.observer)) if watch.observer else None
    return Checks(observer, repeat, tuple(training), tuple(adapter.notes) + nothing)


def _between(expected: np.ndarray, again: Optional[np.ndarray]) -> float:
    if again is None or again.shape != expected.shape:
        return float("inf")
    return largest_difference(expected, again)

"""Recording a model and checking that the recording can be trusted."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from porting_check.neutral.adapter import Adapter, Inputs
from porting_check.neutral.errors import PortingError
from porting_check.neutral.trace import FLOAT64, Checks, Port, Record, Sink

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``."""

LARGEST = 400_000_000
"""Models with more elements in their parameters than this are not run in float64: the copy would take twelve bytes each."""


class _Watch(Sink):
    """Passes everything on, and compares each value that could be an output with the unrecorded run's."""

    def __init__(
        self, sink: Sink, expected: Mapping[str, np.ndarray], layouts: Mapping[str, str], progress: Progress
    ) -> None:
        self._sink, self._expected, self._layouts, self._progress = sink, expected, layouts, progress
        self._differences: Dict[str, Dict[str, float]] = {}
        self.records = self.weights = 0
        self.paths: List[str] = []
        self.observer: List[float] = []

    def value(self, key: str, array: np.ndarray) -> None:
        if key.startswith("parameter:"):
            self.weights += array.size
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
        self.paths.append(port.name)
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
    float64: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Checks:
    """Record one run into a sink, after two unrecorded runs that show determinism and the observer's influence.

    With ``float64`` the whole model also runs once in float64, unrecorded; its outputs go into the sink as the values
    ``float64:<output path>``. Where that cannot be done, the checks say why.

    Args:
        adapter: the model's adapter.
        model: the live model.
        inputs: by name, in the model's own layouts.
        layouts: layout of each input, written into the trace.
        sink: where the recording goes.
        check: make the two unrecorded runs.
        float64: also run the whole model in float64.
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
    notes = tuple(adapter.notes)
    wide: Tuple[str, ...] = ()
    if float64:
        progress("running in float64", 0, 1)
        found = _run_wide(adapter, model, inputs, watch, sink)
        wide = tuple(note for note in found if note not in notes)
    return Checks(observer, repeat, tuple(training), notes + nothing, wide)


def _run_wide(adapter: Adapter, model: Any, inputs: Inputs, watch: _Watch, sink: Sink) -> Tuple[str, ...]:
    """Run the whole model in float64 and keep its outputs; what the reader must know of that run."""
    if watch.weights > LARGEST:
        return (
            f"the model has {watch.weights:,} weights; models above {LARGEST:,} are not copied into float64",
        )
    try:
        outputs = adapter.float64_outputs(model, inputs)
    except PortingError as error:
        return (str(error),)
    missing = [path for path in watch.paths if path not in outputs]
    if missing:
        return (f"the run in float64 gave no output {missing[0]!r}; it gave {sorted(outputs)[:5]}",)
    for path in watch.paths:
        sink.value(FLOAT64 + path, np.asarray(outputs[path]))
    return tuple(adapter.notes)


def _between(expected: np.ndarray, again: Optional[np.ndarray]) -> float:
    if again is None or again.shape != expected.shape:
        return float("inf")
    return largest_difference(expected, again)

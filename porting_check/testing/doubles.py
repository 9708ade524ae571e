"""Sinks that fail or copy, and an adapter that disturbs: what the contract puts in the place of the real thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from porting_check.neutral.adapter import Adapter, Inputs, InputSpec
from porting_check.neutral.errors import RecordingError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, MemorySink, Sink


class FullSink(MemorySink):
    """A sink on a disk that is full after two values."""

    def value(self, key: str, array: np.ndarray) -> None:
        """Keep two, then fail."""
        if len(self.values) > 1:
            raise RecordingError("the disk is full")
        super().value(key, array)


class Both(Sink):
    """Gives everything to two sinks."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self.sinks = first, second

    def value(self, key: str, array: np.ndarray) -> None:
        """To both; the second keeps a copy of its own."""
        self.sinks[0].value(key, array)
        self.sinks[1].value(key, array.copy())

    def record(self, record: Any) -> None:
        """To both."""
        for sink in self.sinks:
            sink.record(record)

    def input(self, port: Any) -> None:
        """To both."""
        for sink in self.sinks:
            sink.input(port)

    def output(self, port: Any) -> None:
        """To both."""
        for sink in self.sinks:
            sink.output(port)


class Disturbed(Adapter):
    """An adapter whose recording runs on other inputs than it was given: an observer that changes the result."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter, self.framework = adapter, adapter.framework

    def owns(self, model: Any) -> bool:
        """As the adapter."""
        return self._adapter.owns(model)

    def environment(self) -> Environment:
        """As the adapter."""
        return self._adapter.environment()

    def load(self, path: str) -> Any:
        """As the adapter."""
        return self._adapter.load(path)

    def inputs(self, model: Any) -> tuple[InputSpec, ...]:
        """As the adapter."""
        return self._adapter.inputs(model)

    def predict(self, model: Any, inputs: Inputs) -> dict[str, np.ndarray]:
        """As the adapter."""
        return self._adapter.predict(model, inputs)

    def record(self, model: Any, inputs: Inputs, sink: Sink) -> None:
        """On doubled inputs."""
        self._adapter.record(model, {k: (x * 2).astype(x.dtype) for k, x in inputs.items()}, sink)

    def training(self, model: Any) -> tuple[str, ...]:
        """As the adapter."""
        return self._adapter.training(model)

    def run(
        self, node: Node, inputs: Sequence[np.ndarray | None], *, float64: bool = False
    ) -> tuple[np.ndarray, ...]:
        """As the adapter."""
        return self._adapter.run(node, inputs, float64=float64)

    def parameters(self, model: Any) -> dict[str, np.ndarray]:
        """As the adapter."""
        return self._adapter.parameters(model)

    def assign(self, model: Any, parameters: Mapping[str, np.ndarray]) -> None:
        """As the adapter."""
        self._adapter.assign(model, parameters)

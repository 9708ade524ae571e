"""The contract of describing: what ``record`` says that a layer computes, ``run`` computes again.

The two directions of layout, padding and default translation (``describe`` native to neutral, ``run`` neutral to native)
are tested against each other and against the truth, over random configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import MemorySink, Port, Record, Trace
from porting_check.numerics.normal import at_float32
from porting_check.numerics.own import ratio
from porting_check.numerics.program import Program
from porting_check.numerics.roundoff_units import UNIT
from porting_check.recorder.registry import load_adapter
from porting_check.testing import wellformed
from porting_check.testing.operators import operators_of
from porting_check.testing.replay import evaluated, executed


@dataclass(frozen=True)
class Layer:
    """One configuration of a native layer, with what to feed it.

    Attributes:
        build: makes the layer (or a model of this one layer) with random parameters.
        inputs: by name, in the layer's own layouts.
        what: the configuration in words, shown when it fails.

    Example:
        >>> Layer(lambda: abs, {"0": np.ones(3, np.float32)}).what
        ''
    """

    build: Callable[[], Any]
    inputs: Mapping[str, np.ndarray]
    what: str = ""


class DescribeContract:
    """``describe`` then ``run`` reproduces the native layer; subclass it and give layers as strategies.

    Class attributes that a subclass may set:
        max_examples: configurations per layer.
        not_run: layers whose nodes the framework's own ``run`` cannot execute, and why (strictly).
        worst: largest error in units of what round-off may do.
        float64_limit: largest error of a float64 execution, relative to the largest value.

    Example:
        >>> class TestDescribe(DescribeContract):                                  # doctest: +SKIP
        ...     framework = "torch"
        ...     def layers(self):
        ...         return {"Conv": geometries().map(convolution)}
    """

    framework: ClassVar[str] = ""
    max_examples: ClassVar[int] = 10
    not_run: ClassVar[Mapping[str, str]] = {}
    worst: ClassVar[float] = 1.0
    float64_limit: ClassVar[float] = 1e-11

    def layers(self) -> Mapping[str, st.SearchStrategy[Layer]]:
        """Random configurations by class of layer."""
        raise NotImplementedError

    def adapter(self) -> Adapter:
        """The adapter under test."""
        return load_adapter(self.framework)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test per class of layer."""
        if "layer_class" in metafunc.fixturenames:
            metafunc.parametrize("layer_class", list(self.layers()))

    def test_describe_then_run_reproduces_the_layer(self, layer_class: str) -> None:
        """Its nodes are the standard's; evaluated by the truth and by ``run`` they give what the layer gave."""
        ran = []

        @settings(
            deadline=None,
            max_examples=self.max_examples,
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        )
        @given(self.layers()[layer_class])
        def reproduces(layer: Layer) -> None:
            ran.append(self.check(layer))

        reproduces()
        assert any(ran) != (layer_class in self.not_run), (
            "run refused every configuration, or none of a declared gap"
        )

    def check(self, layer: Layer) -> bool:
        """One configuration; returns whether ``run`` could execute all of its nodes."""
        adapter, sink = self.adapter(), MemorySink()
        model = layer.build()
        outputs = adapter.predict(model, layer.inputs)
        adapter.record(model, layer.inputs, sink)
        trace = sink.trace(layer.what, adapter.environment())
        wellformed.check_names(trace)
        wellformed.check_nodes(trace)
        assert trace.records, f"nothing was recorded: {layer.what}"
        for port in trace.outputs:
            np.testing.assert_array_equal(trace.values[port.value], outputs[port.name])
        ran = [
            self.check_record(record, trace, layer.what) for record in trace.records
        ]  # every one, also after a refusal
        return all(ran)

    def check_record(self, record: Record, trace: Trace, what: str) -> bool:
        """Native output, the adapter's own execution and the truth of one record agree to round-off."""
        assert not record.opaque, f"{record.id} is not described: {record.reason}; {what}"
        alone = Trace(record.id, trace.environment, record.inputs, record.outputs, (record,), trace.values)
        runs = self._runs(record, trace.values)
        wide = evaluated(replace(record, nodes=tuple(map(at_float32, record.nodes))), trace.values)
        for port in record.outputs:
            native = trace.values[port.value]
            truth, bound = bounded(alone, port)
            where = f"{record.id} {port.name} {list(map(str, record.nodes))} of {what}"
            assert ratio(native, truth, self.worst * bound) <= 1, (
                f"the description is not what was run: {where}"
            )
            if "float32" in runs:
                found = runs["float32"][port.name]
                assert found.dtype == native.dtype, where
                assert ratio(found, truth, self.worst * bound) <= 1, (
                    f"run does not do what is described: {where}"
                )
            if "float64" in runs:
                self._check_float64(runs["float64"][port.name], wide[port.name], where)
        return "float32" in runs

    def _runs(self, record: Record, values: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        """The record's nodes by the adapter, in its own type and in float64; what it refuses is left out."""
        runs, adapter = {}, self.adapter()
        known, used = operators_of(adapter), {node.op_type for node in record.nodes}
        for kind in ("float32", "float64"):
            if kind == "float64" and used & (known.gaps.keys() | known.float32_only.keys()):
                continue
            try:
                runs[kind] = executed(record, values, adapter.run, float64=kind == "float64")
            except UnsupportedNode as error:
                assert used & known.gaps.keys(), f"{record.id}: {error}, but no gap is declared"
        return runs

    def _check_float64(self, found: np.ndarray, truth: np.ndarray, where: str) -> None:
        """A float64 execution gives the truth to the last digits."""
        assert found.shape == truth.shape, where
        if truth.dtype.kind != "f":
            np.testing.assert_array_equal(found, truth, err_msg=where)
            return
        scale = max(float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0)), 1e-30)
        np.testing.assert_allclose(found, truth, rtol=0, atol=self.float64_limit * scale, err_msg=where)


def bounded(trace: Trace, port: Port) -> tuple[np.ndarray, np.ndarray]:
    """The truth of a record's output, and what round-off in the layer's own type may do to it."""
    graph = Graph(trace)
    steps, used = graph.between(port.value, {p.value for p in trace.inputs})
    given_ = {key: trace.values[key] for key in used}
    kinds = [trace.values[key].dtype.name for key in (port.value, *used)]
    unit = max((UNIT[kind] for kind in kinds if kind in UNIT), default=UNIT["float32"])
    truth, bounds = Program(graph).bounded(tuple(steps), given_, port.value, unit)
    return truth, bounds.limit

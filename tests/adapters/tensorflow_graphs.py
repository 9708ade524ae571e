"""Recording a graph model with the checks that every recording must pass."""

from __future__ import annotations

import numpy as np
from porting_check_tensorflow import graph

from porting_check.neutral.trace import Environment, MemorySink, Record, Trace


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def recorded(model, inputs) -> Trace:
    """A recording whose outputs are those of an ordinary run, bit for bit, and whose edges are whole."""
    plain = graph.predict(model, inputs)
    sink = MemorySink()
    graph.record(model, inputs, sink)
    trace = sink.trace("model", Environment("tensorflow", {}))
    assert {port.name for port in trace.outputs} == set(plain)
    for port in trace.outputs:
        np.testing.assert_array_equal(trace.values[port.value], plain[port.name])
    unknown = set(trace.parameters()) - set(graph.parameters(model))
    assert not unknown or graph.inputs(model) == (), (
        unknown
    )  # before a function is traced its constants are unknown
    _check_edges(trace)
    return trace


def _check_edges(trace: Trace) -> None:
    """Everything that a record reads is an input, a parameter, a constant of the run, or was made before."""
    known = {port.value for port in trace.inputs}
    for record in trace.records:
        for port in record.inputs + record.parameters:
            assert port.value in known or port.value.startswith(("parameter:", "constant:")), (
                record.id,
                port,
            )
        known |= {port.value for port in record.outputs}
    assert len({record.id for record in trace.records}) == len(trace.records)


def by_name(trace: Trace) -> dict[str, Record]:
    return {record.id: record for record in trace.records}

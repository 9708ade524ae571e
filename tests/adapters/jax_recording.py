"""Recording JAX models in tests: one call, checked against the unrecorded run and by replay."""

from __future__ import annotations

from typing import Any

import numpy as np
from porting_check_jax import JaxAdapter

from porting_check.neutral.trace import MemorySink, Record, Trace
from tests.adapters.replay import check_trace


def record(model: Any, *arrays: Any, unroll: bool = False, **named: Any) -> Trace:
    """The trace of one run.

    Args:
        model: any model of JAX.
        arrays: positional inputs.
        unroll: enter loops.
        named: keyword inputs.
    """
    adapter = JaxAdapter()
    adapter.unroll = unroll
    inputs = {str(place): np.asarray(array) for place, array in enumerate(arrays)}
    inputs.update({name: np.asarray(array) for name, array in named.items()})
    sink = MemorySink()
    adapter.record(model, inputs, sink)
    return sink.trace("model", adapter.environment())


def checked(
    model: Any, *arrays: Any, opaque: tuple[str, ...] = (), rtol: float = 1e-5, unroll: bool = False
) -> Trace:
    """A trace whose outputs are those of the unrecorded run, and whose described records replay."""
    trace = record(model, *arrays, unroll=unroll)
    expected = JaxAdapter().predict(model, {str(place): np.asarray(a) for place, a in enumerate(arrays)})
    assert [port.name for port in trace.outputs] == list(expected)
    for port in trace.outputs:
        found = np.asarray(trace.values[port.value])
        assert found.dtype == expected[port.name].dtype
        if found.dtype.kind in "fc":
            np.testing.assert_allclose(found, expected[port.name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, expected[port.name])
    assert tuple(check_trace(trace, rtol=rtol)) == opaque, [r.reason for r in trace.records if r.opaque]
    return trace


def names(trace: Trace) -> list[str]:
    """The ids of the records."""
    return [record.id for record in trace.records]


def operators(record: Record) -> list[str]:
    """The ONNX operators of a record."""
    return [node.op_type for node in record.nodes]


def by_name(trace: Trace, name: str) -> Record:
    """The record of an id."""
    return next(record for record in trace.records if record.id == name)

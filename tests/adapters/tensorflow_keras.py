"""Recording one Keras layer or model and checking every record against what Keras computed.

Shared by the Keras tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from porting_check_tensorflow import TensorFlowAdapter

from porting_check.neutral.trace import MemorySink, Record, Trace
from porting_check.testing.replay import check_trace

ADAPTER = TensorFlowAdapter()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded standard normal float32."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def randomise(model: Any, seed: int = 1) -> Any:
    """Give every weight of a built model random values, variances positive: zeros and ones hide mistakes."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "int" in str(variable.dtype):
            continue
        values = rng.standard_normal(tuple(variable.shape)) * 0.5
        name = str(variable.name)
        variable.assign(np.abs(values) + 0.5 if "variance" in name else values)
    return model


def trace_of(model: Any, *arrays: Any, **named: Any) -> Trace:
    """One recorded run."""
    sink = MemorySink()
    inputs = {str(index): array for index, array in enumerate(arrays)}
    ADAPTER.record(model, dict(inputs, **named), sink)
    return sink.trace("keras", ADAPTER.environment())


def check_layer(layer: Any, *arrays: Any, rtol: float = 1e-5, atol: float = 2e-6, **named: Any) -> Record:
    """Run a lone layer with random weights, and require one described record that reproduces its output.

    The recorded output must also be bit for bit what the layer gives unrecorded.
    """
    expected = ADAPTER.predict(layer, dict({str(i): a for i, a in enumerate(arrays)}, **named))
    randomise(layer)
    expected = ADAPTER.predict(layer, dict({str(i): a for i, a in enumerate(arrays)}, **named))
    trace = trace_of(layer, *arrays, **named)
    reasons = [record.reason for record in trace.records if record.reason]
    assert not reasons, reasons
    assert [record.name for record in trace.records] == [layer.name], [record.id for record in trace.records]
    assert check_trace(trace, rtol, atol) == []
    assert [port.name for port in trace.outputs] == list(expected)
    for port in trace.outputs:
        np.testing.assert_array_equal(trace.values[port.value], expected[port.name])
    return trace.records[0]

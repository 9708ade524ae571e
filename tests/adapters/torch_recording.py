"""Recording a torch model or function and checking every record against torch: shared by the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from porting_check_torch import TorchAdapter

from porting_check.neutral.trace import MemorySink, Record, Trace
from porting_check.testing.replay import check_trace

ADAPTER = TorchAdapter()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded standard normal float32."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def whole(*shape: int, low: int = -5, high: int = 6, dtype: Any = np.int64) -> np.ndarray:
    """Seeded integers."""
    return np.random.default_rng([1, *shape]).integers(low, high, shape).astype(dtype)


def randomise(module: torch.nn.Module, seed: int = 1) -> Any:
    """Random parameters and statistics, variances positive (zeros and ones hide mistakes); inference mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator) * 0.5
                tensor.copy_(values.abs() + 0.5 if "running_var" in name else values)
    return module.eval()


def named(*arrays: Any, **more: Any) -> dict[str, Any]:
    """Inputs by name: positional ones by number."""
    return {**{str(place): array for place, array in enumerate(arrays)}, **more}


def trace_of(model: Any, *arrays: Any, **more: Any) -> Trace:
    """One recorded run."""
    sink = MemorySink()
    ADAPTER.record(model, named(*arrays, **more), sink)
    return sink.trace("torch", ADAPTER.environment())


def check(model: Any, *arrays: Any, rtol: float = 1e-5, atol: float = 2e-6, **more: Any) -> list[Record]:
    """Every record is described and its nodes reproduce it; outputs are the unrecorded ones, bit for bit."""
    expected = ADAPTER.predict(model, named(*arrays, **more))
    trace = trace_of(model, *arrays, **more)
    reasons = [record.reason for record in trace.records if record.reason]
    assert not reasons, reasons
    assert trace.records, "nothing was recorded"
    assert check_trace(trace, rtol, atol) == []
    assert [port.name for port in trace.outputs] == list(expected)
    for port in trace.outputs:
        np.testing.assert_array_equal(trace.values[port.value], expected[port.name])
    return list(trace.records)


def check_layer(layer: torch.nn.Module, *arrays: Any, **options: Any) -> Record:
    """The same for one layer inside a module, with random weights: one record under the layer's own name."""
    records = check(randomise(torch.nn.Sequential(layer)), *arrays, **options)
    assert records[-1].name == "0", [record.id for record in records]
    return records[-1]


def reason_of(model: Any, *arrays: Any, **more: Any) -> str:
    """The reason of the first opaque record."""
    return next(record.reason for record in trace_of(model, *arrays, **more).records if record.opaque)

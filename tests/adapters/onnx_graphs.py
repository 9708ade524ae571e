"""Small ONNX graphs, and recordings of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from porting_check_onnxruntime import OnnxRuntimeAdapter

from porting_check.neutral.trace import MemorySink, Trace
from porting_check.recorder.session import record_model

ADAPTER = OnnxRuntimeAdapter()


def graph_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    ir: int = 8,
    functions: Sequence[Any] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of these nodes; inputs have the shapes and types of the arrays."""
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        given,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=list(functions))


def recorded(model: Any, inputs: Mapping[str, np.ndarray]) -> Trace:
    """A recording in memory, with the checks of every recording."""
    sink = MemorySink()
    checks = record_model(ADAPTER, model, inputs, sink)
    return sink.trace("model", ADAPTER.environment(), checks)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

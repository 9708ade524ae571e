"""Running one node of a model alone."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto

from porting_check.neutral.errors import InputError, ModelError, PortingError, UnsupportedNode
from porting_check_onnxruntime.compat import element_of_dtype
from porting_check_onnxruntime.model import OnnxModel
from porting_check_onnxruntime.names import record_names
from porting_check_onnxruntime.prepared import Prepared, prepare
from porting_check_onnxruntime.roles import parameter_names
from porting_check_onnxruntime.session import Session, dtype_of

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def replay(
    model: OnnxModel, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
) -> Tuple[np.ndarray, ...]:
    """Run the node that is recorded under this id, with the model's own constants, on these inputs.

    Raises:
        UnsupportedNode: no such node, or no kernel for float64.
        InputError: another number of inputs.
    """
    prepared = prepare(model)
    node = _node_of(prepared, name)
    constants = {tensor.name: tensor for tensor in prepared.proto.graph.initializer}
    fed = list(dict.fromkeys(source for source in node.input if source and source not in constants))
    if len(fed) != len(inputs):
        raise InputError(
            f"{name!r} reads {len(fed)} values ({', '.join(fed)}), {len(inputs)} arrays were given"
        )
    arrays = dict(zip(fed, (_wide(np.asarray(array), float64) for array in inputs)))
    part = onnx.ModelProto(ir_version=prepared.proto.ir_version)
    part.opset_import.extend(prepared.proto.opset_import)
    part.graph.name = "replay"
    part.graph.node.append(_double_node(node) if float64 else node)
    for source, array in arrays.items():
        kind = element_of_dtype(array.dtype)
        part.graph.input.append(onnx.helper.make_tensor_value_info(source, kind, array.shape))
    for source in dict.fromkeys(source for source in node.input if source in constants):
        value = _wide(np.array(prepared.array(source)), float64)
        part.graph.initializer.append(onnx.numpy_helper.from_array(value, source))
    names = [output for output in node.output if output]
    part.graph.output.extend(onnx.ValueInfoProto(name=output) for output in names)
    return _run(part, name, names, arrays)


def _run(part: Any, name: str, names: List[str], arrays: Any) -> Tuple[np.ndarray, ...]:
    try:
        session = Session(part)
    except ModelError as error:
        raise UnsupportedNode(f"{name!r} cannot run alone: {error}") from error
    wanted = [output for output in names if dtype_of(session.outputs[output])]
    try:
        found = session.run(wanted, arrays)
    except PortingError as error:
        raise UnsupportedNode(f"{name!r} cannot run alone: {error}") from error
    return tuple(np.array(found[output]) for output in wanted)


def _node_of(prepared: Prepared, name: str) -> Any:
    """The node of a record's id: its name, and ``#1`` for the second of that name."""
    graph = prepared.proto.graph
    weights = parameter_names(graph)
    nodes = list(graph.node)
    first = [next((source for source in node.input if source in weights), "") for node in nodes]
    path, _, call = name.rpartition("#") if "#" in name else (name, "", "0")
    found = [
        node
        for node, own in zip(nodes, record_names(nodes, first, {}, "tf2onnx" in prepared.proto.producer_name))
        if own == path
    ]
    if not call.isdigit() or int(call) >= len(found):
        raise UnsupportedNode(
            f"onnxruntime cannot run {name!r} alone: the main graph has no node of that name"
        )
    return found[int(call)]


def _wide(array: np.ndarray, float64: bool) -> np.ndarray:
    return array.astype(np.float64) if float64 and array.dtype.kind in "fV" else array


def _double_node(node: Any) -> Any:
    """The node with casts to narrower floats turned into casts to float64."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in FLOATS:
            attribute.i = TensorProto.DOUBLE
    return copy

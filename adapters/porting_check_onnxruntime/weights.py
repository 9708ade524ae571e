"""A model's weights: read, and written back into the caller's ModelProto."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import numpy as np
import onnx

from porting_check.neutral.errors import WeightsError
from porting_check_onnxruntime.compat import dtype_of_element
from porting_check_onnxruntime.loading import is_external
from porting_check_onnxruntime.model import OnnxModel
from porting_check_onnxruntime.prepared import prepare
from porting_check_onnxruntime.roles import parameter_names


def read_parameters(model: OnnxModel) -> Dict[str, np.ndarray]:
    """Every weight by the name of its initializer or of the Constant that holds it, owned."""
    prepared = prepare(model)
    names = parameter_names(prepared.proto.graph)
    return {name: np.array(prepared.array(name)) for name in prepared.origins if name in names}


def write_parameters(model: OnnxModel, parameters: Mapping[str, np.ndarray]) -> None:
    """Write arrays into the model's tensors, all or none.

    Raises:
        WeightsError: an unknown name, another shape or dtype, or a tensor that is stored outside of the model.
    """
    tensors = _writable(model.proto.graph)
    made = {}
    for name, array in parameters.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise WeightsError(
                f"the model has no weight {name!r} that can be written (inside a function there are none); "
                f"it has {', '.join(sorted(tensors)[:8]) or 'none'}"
            )
        made[name] = _checked(name, np.asarray(array), tensor)
    for name, array in made.items():
        own = tensors[name].name
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(array, own))


def _checked(name: str, array: np.ndarray, tensor: Any) -> np.ndarray:
    if is_external(tensor):
        raise WeightsError(
            f"weight {name!r} is stored outside of the model, in a file that is not changed: load it with "
            "onnx.load(path), which takes external data in, and give that ModelProto"
        )
    wanted = dtype_of_element(tensor.data_type)
    if array.shape != tuple(tensor.dims):
        raise WeightsError(
            f"weight {name!r} has shape {tuple(tensor.dims)}, the array given has {array.shape}"
        )
    if array.dtype != wanted and array.dtype.kind != "f":
        raise WeightsError(f"weight {name!r} has dtype {wanted.name}, the array given has {array.dtype.name}")
    return np.ascontiguousarray(array.astype(wanted))


def _writable(graph: Any) -> Dict[str, Any]:
    """Tensors of a graph, and of the graphs inside where their names occur once, by name."""
    found: Dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
    twice = set()
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = attribute.t
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                inside = _writable(inner)
                twice |= set(inside) & set(found)
                found.update(inside)
    return {name: tensor for name, tensor in found.items() if name not in twice}

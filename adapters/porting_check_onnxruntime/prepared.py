"""A model made ready to run and to look into: functions inlined, constants named, large weights held outside."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Set, Tuple

import numpy as np
import onnx
from onnx import TensorProto

from porting_check.neutral.errors import ModelError
from porting_check_onnxruntime.checks import check_graph, check_model, drop_unused, sorted_nodes
from porting_check_onnxruntime.functions import inline_functions
from porting_check_onnxruntime.loading import byte_size, check_external, is_external, read_tensor
from porting_check_onnxruntime.model import OnnxModel

HEAVY = 1 << 14
"""Bytes from which on a tensor is handed to the session beside the model, not inside."""

PLAIN = frozenset(
    (
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT32,
        TensorProto.INT64,
    )
)
"""Types of tensors that may be heavy; the few others stay inside."""

ELSEWHERE = "held-in-memory"
"""Location written for tensors that the session gets from memory."""


class Held(Mapping[str, np.ndarray]):
    """Tensors by name, as arrays once they are asked for."""

    def __init__(self) -> None:
        self._tensors: Dict[str, Any] = {}
        self._arrays: Dict[str, np.ndarray] = {}

    def add(self, tensor: Any) -> None:
        """Hold a tensor under its name."""
        self._tensors[tensor.name] = tensor

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = read_tensor(self._tensors[name], "")
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Prepared:
    """The working copy of a model; the caller's is never changed.

    Attributes:
        proto: the copy: no functions, no Constant nodes, nodes in order, heavy weights as stubs.
        folder: where external data lie.
        heavy: arrays of the stubs by name.
        origins: every constant tensor by its name in the copy, as it stands in the caller's model.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.folder = model.folder
        self.heavy = Held()
        self.origins: Dict[str, Any] = {}
        check_model(model.proto)
        check_external(model.proto, model.folder)
        self.proto = self._copied(model.proto)
        graph = self.proto.graph
        nodes = inline_functions(list(graph.node), model.proto, self.proto)
        self._overridable = {value.name for value in graph.input}
        self._replace_nodes(graph, nodes)
        for tensor in model.proto.graph.initializer:
            self._hold(tensor)
        _unique_names(graph)
        self._constants(graph)
        check_graph(graph)
        self._replace_nodes(graph, sorted_nodes(graph))
        drop_unused(graph)

    def _copied(self, source: Any) -> Any:
        """The model without functions and top-level initializers."""
        copy = onnx.ModelProto(ir_version=source.ir_version, producer_name=source.producer_name)
        copy.opset_import.extend(source.opset_import)
        graph = source.graph
        copy.graph.name = graph.name or "graph"
        copy.graph.input.extend(graph.input)
        copy.graph.output.extend(graph.output)
        copy.graph.node.extend(graph.node)
        copy.graph.sparse_initializer.extend(graph.sparse_initializer)
        return copy

    @staticmethod
    def _replace_nodes(graph: Any, nodes: List[Any]) -> None:
        kept = onnx.GraphProto()
        kept.node.extend(nodes)
        del graph.node[:]
        graph.node.extend(kept.node)

    def _hold(self, tensor: Any) -> None:
        """Put a top-level initializer into the copy, as a stub where it is heavy."""
        self.origins[tensor.name] = tensor
        inside = is_external(tensor) or tensor.name in self._overridable
        if inside or tensor.data_type not in PLAIN or byte_size(tensor) < HEAVY:
            self.proto.graph.initializer.append(tensor)
            return
        stub = self.proto.graph.initializer.add(name=tensor.name, data_type=tensor.data_type)
        stub.dims.extend(tensor.dims)
        stub.data_location = TensorProto.EXTERNAL
        stub.external_data.add(key="location", value=ELSEWHERE)
        self.heavy.add(tensor)

    def _constants(self, graph: Any, top: bool = True) -> None:
        """Constant nodes become initializers, here and in the graphs inside."""
        kept = []
        for node in graph.node:
            for inner in subgraphs(node):
                self._constants(inner, False)
            tensor = constant_tensor(node)
            if tensor is None:
                kept.append(node)
            elif top:
                self._hold(tensor)
            else:
                graph.initializer.append(tensor)
        if not top:
            self.origins.update((tensor.name, tensor) for tensor in graph.initializer)
        self._replace_nodes(graph, kept)

    def array(self, name: str) -> np.ndarray:
        """The value of a constant tensor; external ones are mapped."""
        return self.heavy[name] if name in self.heavy else read_tensor(self.origins[name], self.folder)

    @property
    def opsets(self) -> Dict[str, int]:
        """Version of each operator set by domain, ``""`` for ONNX' own."""
        return {
            "" if entry.domain == "ai.onnx" else entry.domain: int(entry.version)
            for entry in self.proto.opset_import
        }


def subgraphs(node: Any) -> List[Any]:
    """Graphs in the attributes of a node, which can be changed in place."""
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def constant_tensor(node: Any) -> Any:
    """The tensor of a Constant node under the name of its output; ``None`` for other nodes and strings."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.attribute) != 1:
        return None
    attribute, name = node.attribute[0], node.output[0]
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = name
        return tensor
    value = onnx.helper.get_attribute_value(attribute)
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if attribute.name not in kinds:
        return None
    return onnx.numpy_helper.from_array(np.asarray(value, kinds[attribute.name]), name)


def _unique_names(graph: Any) -> None:
    """Values of graphs inside get names that occur nowhere else, so that a branch can be opened in place."""
    taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    taken |= {name for node in graph.node for name in node.output}
    _unique_inside(graph, taken, {})


def _unique_inside(graph: Any, taken: Set[str], names: Dict[str, str]) -> None:
    for place, node in enumerate(graph.node):
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
        for attribute in node.attribute:
            inner = [(attribute.name, attribute.g)] if attribute.HasField("g") else []
            inner += [(f"{attribute.name}_{number}", g) for number, g in enumerate(attribute.graphs)]
            for branch, body in inner:
                scope = f"{node.name or f'{node.op_type}_{place}'}/{branch}"
                _unique_body(body, scope, taken, names)


def _unique_body(body: Any, scope: str, taken: Set[str], outer: Dict[str, str]) -> None:
    """Rename what a body defines where the name is taken already, then go on inside."""
    defined: List[Tuple[Any, str]] = [(value, value.name) for value in body.input]
    defined += [(tensor, tensor.name) for tensor in body.initializer]
    own = [name for _, name in defined] + [name for node in body.node for name in node.output if name]
    names = dict(outer)
    for name in own:
        fresh, count = name, 0
        while fresh in taken:
            fresh = f"{scope}/{name}" + (f"_{count}" if count else "")
            count += 1
        names[name] = fresh
        taken.add(fresh)
    for item, name in defined:
        item.name = names[name]
    for value in body.output:
        value.name = names.get(value.name, value.name)
    del body.value_info[:]
    _unique_inside(body, taken, names)


def prepare(model: OnnxModel) -> Prepared:
    """The working copy of a model.

    Raises:
        ModelError: the graph is invalid, or asks for what ONNX Runtime has not.
    """
    try:
        return Prepared(model)
    except UnicodeDecodeError as error:
        raise ModelError(f"the model is damaged: a name in it is no text: {error}") from error

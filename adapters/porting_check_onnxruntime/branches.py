"""Control flow: the branch of an If that is taken is put into the main graph, so that its nodes can be recorded."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Set

import numpy as np
import onnx

from porting_check_onnxruntime.checks import drop_unused, needed
from porting_check_onnxruntime.prepared import Prepared
from porting_check_onnxruntime.session import Session

DEEPEST = 100
"""Ifs are opened until none is left; so deep is none."""


def opened(prepared: Prepared, feeds: Mapping[str, np.ndarray]) -> Any:
    """The model with every top-level If replaced by the branch that these inputs take, whatever lies inside it too.

    Args:
        prepared: the model; it is not changed.
        feeds: its inputs.

    Returns:
        The model itself where there is no If, a copy otherwise.

    Raises:
        RunError: the nodes before an If raised.
    """
    proto = prepared.proto
    for _ in range(DEEPEST):
        places = [place for place, node in enumerate(proto.graph.node) if is_if(node)]
        if not places:
            break
        conditions = _conditions(
            prepared, proto, [proto.graph.node[place].input[0] for place in places], feeds
        )
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        _splice(prepared, copy.graph, conditions)
        drop_unused(copy.graph)
        proto = copy
    return proto


def is_if(node: Any) -> bool:
    """Whether a node chooses between two graphs."""
    return node.op_type == "If" and node.domain in ("", "ai.onnx")


def _conditions(
    prepared: Prepared, proto: Any, names: List[str], feeds: Mapping[str, np.ndarray]
) -> Dict[str, bool]:
    """Values of conditions: those of constants are read, the others computed by the nodes that they need."""
    found = {name: bool(prepared.array(name).reshape(-1)[0]) for name in names if name in prepared.origins}
    fed = {value.name for value in proto.graph.input}
    found.update(
        (name, bool(np.asarray(feeds[name]).reshape(-1)[0])) for name in names if name in fed & set(feeds)
    )
    rest = sorted(set(names) - set(found))
    if rest:
        session = Session(pruned(proto, rest), prepared.heavy, prepared.folder)
        found.update((name, bool(value.reshape(-1)[0])) for name, value in session.run(rest, feeds).items())
    return found


def pruned(proto: Any, outputs: Iterable[str]) -> Any:
    """The part of a model that makes these values."""
    wanted: Set[str] = set(outputs)
    kept: List[Any] = []
    for node in reversed(proto.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= needed(node)
    part = onnx.ModelProto(ir_version=proto.ir_version)
    part.opset_import.extend(proto.opset_import)
    part.graph.name = proto.graph.name
    part.graph.node.extend(reversed(kept))
    part.graph.input.extend(value for value in proto.graph.input if value.name in wanted)
    part.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in wanted)
    part.graph.sparse_initializer.extend(
        tensor for tensor in proto.graph.sparse_initializer if tensor.values.name in wanted
    )
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return part


def _splice(prepared: Prepared, graph: Any, conditions: Mapping[str, bool]) -> None:
    nodes: List[Any] = []
    for place, node in enumerate(graph.node):
        if not is_if(node):
            nodes.append(node)
            continue
        branch = "then_branch" if conditions[node.input[0]] else "else_branch"
        body = next(attribute.g for attribute in node.attribute if attribute.name == branch)
        for tensor in body.initializer:
            graph.initializer.append(tensor)
            prepared.origins.setdefault(tensor.name, tensor)
        graph.sparse_initializer.extend(body.sparse_initializer)
        nodes.extend(_branch_nodes(node, body, f"{node.name or f'If_{place}'}/{branch}"))
    kept = onnx.GraphProto()
    kept.node.extend(nodes)
    del graph.node[:]
    graph.node.extend(kept.node)


def _branch_nodes(node: Any, body: Any, scope: str) -> List[Any]:
    """The nodes of a branch, named after the If, whose last values have the names of the If's outputs."""
    made = {name for inner in body.node for name in inner.output}
    renamed: Dict[str, str] = {}
    copies: List[Any] = []
    for name, value in zip(node.output, body.output):
        if not name:
            continue
        if value.name in made and value.name not in renamed:
            renamed[value.name] = name
        else:
            source = renamed.get(value.name, value.name)
            copies.append(onnx.helper.make_node("Identity", [source], [name], name=f"{scope}/Identity"))
    nodes = []
    for number, original in enumerate(body.node):
        inner = onnx.NodeProto()
        inner.CopyFrom(original)
        inner.name = f"{scope}/{inner.name.lstrip('/') or f'{inner.op_type}_{number}'}"
        rename_values(inner, renamed)
        nodes.append(inner)
    return nodes + copies


def rename_values(node: Any, names: Mapping[str, str]) -> None:
    """Rename what a node reads and makes, also what its graphs capture (their own values have names of their own)."""
    for values in (node.input, node.output):
        for index, name in enumerate(values):
            values[index] = names.get(name, name)
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for value in graph.output:
                value.name = names.get(value.name, value.name)
            for inner in graph.node:
                rename_values(inner, names)

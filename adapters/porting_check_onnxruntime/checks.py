"""What can be wrong with a graph before anything runs it."""

from __future__ import annotations

import collections
from typing import Any, Dict, Iterator, List, Set

from porting_check.neutral.errors import ModelError

DOMAINS = frozenset(
    (
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    )
)
"""Domains whose operators ONNX Runtime has itself."""


def check_model(proto: Any) -> None:
    """A graph that computes something, by operators that ONNX Runtime can have.

    Raises:
        ModelError: an empty graph, no operator sets, or operators of a domain that nobody implements.
    """
    if not proto.HasField("graph") or not proto.graph.output:
        raise ModelError("the model has an empty graph: no outputs, so nothing to compare")
    if not proto.opset_import and proto.ir_version >= 3:
        raise ModelError(
            "the model names no opset (opset_import is empty): its operators have no meaning; export again"
        )
    own = {(f.domain, f.name) for f in proto.functions}
    everywhere = [proto.graph, *proto.functions]
    for node in (node for graph in everywhere for node in all_nodes(graph)):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise ModelError(
                f"node {node.name or node.op_type!r} is {node.op_type} of the custom domain {node.domain!r}, which is neither "
                "ONNX' nor ONNX Runtime's, and the model has no function for it: libraries of custom operators are "
                "not loaded; export with standard operators, or record the other side only"
            )


def all_nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph or function, those of the graphs inside included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from all_nodes(inner)


def check_graph(graph: Any) -> None:
    """Every value is made once, and everything that is read is made by something.

    Raises:
        ModelError: it is not so.
    """
    made: Dict[str, str] = {value.name: "an input of the graph" for value in graph.input}
    for tensor in graph.initializer:
        made[tensor.name] = "an initializer"
    for tensor in graph.sparse_initializer:
        made[tensor.values.name] = "an initializer"
    for node in graph.node:
        who = f"node {spoken(node)}"
        for name in node.output:
            if name in made:
                raise ModelError(
                    f"the graph is invalid: the value {name!r} is made twice, by {made[name]} and by {who}; "
                    "every value needs a name of its own"
                )
            if name:
                made[name] = who
    for node in graph.node:
        for name in needed(node):
            if name not in made:
                raise ModelError(
                    f"the graph is invalid: node {spoken(node)} reads {name!r}, which no input, initializer or node makes"
                )
    for value in graph.output:
        if value.name not in made:
            raise ModelError(f"the graph is invalid: nothing makes its output {value.name!r}")


def spoken(node: Any) -> str:
    """A node as a person finds it."""
    return f"{node.name!r} ({node.op_type})" if node.name else f"{node.op_type} -> {list(node.output)}"


def needed(node: Any) -> Set[str]:
    """Values of the surrounding graph that a node reads, also from inside its own graphs."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            found |= _captured(graph)
    return found


def _captured(graph: Any) -> Set[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    read = {value.name for value in graph.output}
    for node in graph.node:
        read |= needed(node)
        own.update(node.output)
    return read - own - {""}


def sorted_nodes(graph: Any) -> List[Any]:
    """The nodes in an order in which they can run; as they stand where that is one.

    Raises:
        ModelError: some of them wait for one another.
    """
    nodes = list(graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in needed(node) if name in maker} for node in nodes]
    readers: Dict[int, List[int]] = collections.defaultdict(list)
    for index, before in enumerate(waits):
        for other in before:
            readers[other].append(index)
    if all(max(before, default=-1) < index for index, before in enumerate(waits)):
        return nodes
    left = [len(before) for before in waits]
    ready = collections.deque(index for index, count in enumerate(left) if not count)
    order: List[int] = []
    while ready:
        order.append(ready.popleft())
        for reader in readers[order[-1]]:
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = [spoken(nodes[index]) for index, count in enumerate(left) if count]
        raise ModelError(
            f"the graph has a cycle: {', '.join(stuck[:4])}{' …' if len(stuck) > 4 else ''} wait for one another"
        )
    return [nodes[index] for index in order]


def drop_unused(graph: Any) -> None:
    """Remove the initializers that nothing reads: ONNX Runtime forgets them before it looks for their data."""
    read = {value.name for value in graph.output}
    for node in graph.node:
        read |= needed(node)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in read:
            del graph.initializer[place]

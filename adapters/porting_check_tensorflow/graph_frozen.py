"""Frozen graphs: a GraphDef with its weights inside, as TensorFlow 1 deployed them."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Sequence

import tensorflow as tf

from porting_check_tensorflow.graph_body import Library, output_count
from porting_check_tensorflow.graph_parts import ARGUMENTS, graph_ref
from porting_check_tensorflow.graph_program import Leaf, Program
from porting_check_tensorflow.trees import is_numeric


class FrozenGraph:
    """A GraphDef with its weights inside, as TensorFlow 1 deployed them.

    Example:
        >>> graph = tf.Graph()
        >>> with graph.as_default():
        ...     _ = tf.identity(tf.compat.v1.placeholder(tf.float32, [None, 3], name="x") * 2.0, name="y")
        >>> FrozenGraph(graph.as_graph_def()).outputs
        ('y',)

    Args:
        graph_def: the graph.
        outputs: names of the tensors that are its outputs; all those that nothing else reads when not given.
    """

    def __init__(self, graph_def: Any, outputs: Sequence[str] = ()) -> None:
        self.graph_def = graph_def
        self.library = Library(graph_def.library.function)
        self.inputs = tuple(str(node.name) for node in graph_def.node if node.op in ARGUMENTS)
        self.optional = tuple(
            str(node.name) for node in graph_def.node if node.op == "PlaceholderWithDefault"
        )
        self.outputs = tuple(outputs) or tuple(self._unread())

    def _unread(self) -> Iterator[str]:
        """Tensors that nothing reads, in the order of the graph."""
        read = {name.split(":")[0].lstrip("^") for node in self.graph_def.node for name in node.input}
        for node in self.graph_def.node:
            if str(node.name) not in read and node.op not in ("Const", "NoOp", "Assert", "Placeholder"):
                for index in range(output_count(node, self.library)):
                    yield str(node.name) if index == 0 else f"{node.name}:{index}"


def frozen_program(model: FrozenGraph) -> Program:
    """The program of a frozen graph: inputs are its placeholders, outputs have their tensors' names."""
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(model.graph_def, name=""), [])
    graph = wrapped.graph
    optional = set(model.optional)
    names = list(model.inputs) + list(model.optional)
    leaves = []
    for name in names:
        tensor = graph.get_tensor_by_name(f"{name}:0")
        leaves.append(
            Leaf(name, (f"{name}:0",), tf.TensorSpec(tensor.shape, tensor.dtype), name, name in optional)
        )
    kept = [name for name in model.outputs if is_numeric(graph.get_tensor_by_name(_tensor_name(name)))]
    results = [graph_ref(name) for name in kept]
    body = model.library.from_graph(model.graph_def, names, results)

    def plain(fed: Mapping[str, Any]) -> Dict[str, Any]:
        feeds = [graph.get_tensor_by_name(f"{name}:0") for name in fed]
        pruned = wrapped.prune(feeds, [graph.get_tensor_by_name(_tensor_name(name)) for name in kept])
        return dict(zip(kept, pruned(*fed.values())))

    return Program(model.library, body, tuple(leaves), (), {}, tuple(kept), plain)


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"

"""Recording: one run with every value exposed, turned into records node by node."""

from __future__ import annotations

import collections
import functools
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from porting_check.neutral.trace import Port, Record, Sink, parameter_key
from porting_check_onnxruntime.branches import opened
from porting_check_onnxruntime.checks import needed
from porting_check_onnxruntime.compat import dtype_of_element
from porting_check_onnxruntime.describe import RANDOM, attributes_of, describe
from porting_check_onnxruntime.draft import Described, Operand, PortSpec
from porting_check_onnxruntime.exposure import Exposed, optimized
from porting_check_onnxruntime.names import location, record_names
from porting_check_onnxruntime.prepared import Prepared
from porting_check_onnxruntime.roles import parameter_names
from porting_check_onnxruntime.session import BLOCKED, is_tensor

SHAPES = frozenset(("Shape", "Size"))
"""Operators that ask for sizes: what follows from them alone is part of the code, not of the data."""


@dataclass
class Value:
    """One value of the graph while it is recorded; an empty key: a constant that nothing has asked for yet."""

    key: str
    operand: Operand

    @property
    def tracked(self) -> bool:
        """Whether it comes from the model's inputs, weights or records."""
        return bool(self.key) and not self.key.startswith("constant:")


def record_model(prepared: Prepared, level: str, feeds: Mapping[str, np.ndarray], sink: Sink) -> List[str]:
    """Run a model once with every value exposed and record every node.

    Args:
        prepared: the model.
        level: of optimisation; the graph that is recorded is the one that ONNX Runtime makes at this level.
        feeds: the inputs, checked.
        sink: where values and records go.

    Returns:
        Notes: what the reader of the trace must know.

    Raises:
        ModelError: ONNX Runtime refuses the model.
        RunError: a kernel failed.
    """
    marks = {node.name: node for node in prepared.proto.graph.node if node.name}
    tensorflow = "tf2onnx" in prepared.proto.producer_name
    notes: List[str] = []
    if level != "disabled":
        count = len(prepared.proto.graph.node)
        prepared = optimized(prepared, level)
        notes.append(
            f"recorded is the graph that ONNX Runtime makes at level {level!r}: "
            f"{len(prepared.proto.graph.node)} nodes of {count}"
        )
    if level == "all":
        notes.append(
            f"{BLOCKED} was left out, here and in the plain run: its tensors are in no order of axes"
        )
    graph = opened(prepared, feeds)
    exposed = Exposed(graph, prepared.heavy, prepared.folder)
    recorder = Recorder(prepared, graph.graph, sink)
    recorder.begin(feeds)
    found = exposed.run(feeds)
    recorder.walk(found, marks, tensorflow)
    return notes + recorder.finish(found)


class Recorder:
    """Turns the nodes of one graph and their values into records.

    Args:
        prepared: the model.
        graph: its main graph with branches opened.
        sink: where everything goes.
    """

    def __init__(self, prepared: Prepared, graph: Any, sink: Sink) -> None:
        self._prepared, self._graph, self._sink = prepared, graph, sink
        self._values: Dict[str, Value] = {}
        self._stored: Set[str] = set()
        self._calls: Dict[str, int] = collections.defaultdict(int)
        self._constants = 0

    def begin(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Declare inputs and weights."""
        weights = parameter_names(self._prepared.proto.graph)
        for tensor in self._graph.initializer:
            read = functools.lru_cache(maxsize=1)(functools.partial(self._prepared.array, tensor.name))
            weight = tensor.name in weights
            operand = Operand(tensor.name, tuple(tensor.dims), _dtype_name(tensor), read, not weight, weight)
            self._values[tensor.name] = Value(parameter_key(tensor.name) if weight else "", operand)
        for name, array in feeds.items():
            key = f"input:{name}"
            self._values[name] = Value(key, _operand(name, np.array(array), False))
            self._use(self._values[name])
            self._sink.input(Port(name, key))

    def walk(self, found: Dict[str, Any], marks: Mapping[str, Any], tensorflow: bool) -> None:
        """Record every node that computes something of inputs or weights."""
        nodes = list(self._graph.node)
        weights = [self._first_weight(node) for node in nodes]
        names = record_names(nodes, weights, marks, tensorflow)
        for node, name in zip(nodes, names):
            self._ran(node, name, found, location(node, marks))

    def finish(self, found: Mapping[str, Any]) -> List[str]:
        """Declare the model's outputs; says which could not be."""
        notes = []
        for output in self._prepared.proto.graph.output:
            value = self._values.get(output.name)
            if value is None:
                notes.append(f"output {output.name!r} is no tensor of numbers and was not recorded")
            else:
                self._sink.output(Port(output.name, self._use(value)))
        return notes

    def _first_weight(self, node: Any) -> str:
        for name in node.input:
            value = self._values.get(name)
            if value is not None and value.operand.parameter:
                return str(name)
        return ""

    # Nodes.

    def _ran(self, node: Any, name: str, found: Dict[str, Any], where: str) -> None:
        tensors = {output: found.get(output) for output in node.output if output}
        made: Dict[str, Any] = {output: array for output, array in tensors.items() if is_tensor(array)}
        inputs = [self._values.get(source) if source else None for source in node.input]
        captured = [
            self._values[source]
            for source in sorted(needed(node) - set(node.input))
            if source in self._values
        ]
        lost = [source for source in node.input if source and source not in self._values]
        tracked = any(value is not None and value.tracked for value in [*inputs, *captured]) or bool(lost)
        if node.op_type in SHAPES or (not tracked and node.op_type not in RANDOM):
            for output, array in made.items():
                self._values[output] = Value("", _operand(output, array, True))
            return
        identity, call = self._identity(name)
        operands = [None if value is None else value.operand for value in inputs]
        results = [_operand(o, made[o], False) if o in made else None for o in node.output]
        description: Any = _why(node, lost, len(made) < len(tensors))
        if not description:
            opset = self._prepared.opsets.get(_domain(node.domain), 1)
            described = describe(
                node.op_type, _domain(node.domain), opset, attributes_of(node), operands, results
            )
            description = described
        head = (name, call, identity, f"{_domain(node.domain) or 'onnx'}.{node.op_type}", where)
        if isinstance(description, Described):
            self._described(head, description, inputs, results)
        else:
            self._opaque(head, str(description), [v for v in inputs if v is not None] + captured, results)

    def _identity(self, name: str) -> Tuple[str, int]:
        call = self._calls[name]
        self._calls[name] += 1
        return (name if call == 0 else f"{name}#{call}"), call

    def _described(
        self,
        head: Tuple[str, int, str, str, str],
        found: Described,
        inputs: Sequence[Optional[Value]],
        results: Sequence[Optional[Operand]],
    ) -> None:
        ports = [(spec, inputs[spec.index]) for spec in found.inputs]
        keys = {spec.index: f"{head[2]}:{place}" for place, spec in enumerate(found.outputs)}
        outputs = [Port(spec.name, keys[spec.index], spec.layout, spec.canonical) for spec in found.outputs]
        self._emit(head, ports, outputs, found.nodes, found.constants, "")
        self._made(keys, results)

    def _opaque(
        self,
        head: Tuple[str, int, str, str, str],
        reason: str,
        inputs: Sequence[Value],
        results: Sequence[Optional[Operand]],
    ) -> None:
        """Everything that can be stored, and why nothing more is known."""
        ports = [(PortSpec(place, f"x{place}"), value) for place, value in enumerate(inputs)]
        present = [index for index, result in enumerate(results) if result is not None]
        keys = {index: f"{head[2]}:{place}" for place, index in enumerate(present)}
        outputs = [Port(f"y{place}", key) for place, key in enumerate(keys.values())]
        self._emit(head, ports, outputs, (), {}, reason)
        self._made(keys, results)

    def _emit(
        self,
        head: Tuple[str, int, str, str, str],
        ports: Sequence[Tuple[PortSpec, Optional[Value]]],
        outputs: Sequence[Port],
        nodes: Any,
        constants: Mapping[str, np.ndarray],
        reason: str,
    ) -> None:
        read: List[Port] = []
        parameters: List[Port] = []
        for spec, value in ports:
            assert value is not None
            port = Port(spec.name, self._use(value), spec.layout, spec.canonical)
            (parameters if value.operand.parameter else read).append(port)
        name, call, _, operator, where = head
        sides = (tuple(read), tuple(outputs), tuple(parameters))
        self._sink.record(Record(name, call, operator, *sides, tuple(nodes), dict(constants), reason, where))

    def _made(self, keys: Mapping[int, str], results: Sequence[Optional[Operand]]) -> None:
        for index, key in keys.items():
            operand = results[index]
            assert operand is not None
            self._values[operand.name] = Value(key, operand)
            self._use(self._values[operand.name])

    def _use(self, value: Value) -> str:
        """The key of a value that is read, stored if it was not yet."""
        if not value.key:
            value.key = f"constant:{self._constants}"
            self._constants += 1
        if value.key not in self._stored:
            self._stored.add(value.key)
            self._sink.value(value.key, value.operand.value)
        return value.key


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _why(node: Any, lost: Sequence[str], silent: bool) -> str:
    """Why a node must stay opaque, whatever its operator."""
    if lost:
        return f"{node.op_type} reads {lost[0]!r}, which is no tensor of numbers"
    if silent and node.op_type not in ("Loop", "Scan"):
        return f"{node.op_type} makes what is no tensor of numbers (a sequence, an optional, strings)"
    return ""


def _operand(name: str, array: np.ndarray, fixed: bool) -> Operand:
    return Operand(name, array.shape, array.dtype.name, lambda: array, fixed)


def _dtype_name(tensor: Any) -> str:
    return str(dtype_of_element(tensor.data_type).name)

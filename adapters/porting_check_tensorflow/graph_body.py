"""Graphs and functions as plain lists of operations, cut to what is needed and ordered.

A GraphDef names a tensor ``node:1`` and a FunctionDef ``node:output_name:1``; here both are :class:`Ref`.
"""

from __future__ import annotations

import functools
import heapq
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import tensorflow as tf

from porting_check.neutral.errors import ModelError
from porting_check_tensorflow.graph_loops import Loop, contracted
from porting_check_tensorflow.graph_parts import (
    WRITERS,
    Operation,
    Ref,
    graph_ref,
    is_back_edge,
    named_functions,
)


@dataclass
class Body:
    """Operations in an order in which they can run.

    Attributes:
        operations: only those that the results need, or that must run for their effect.
        arguments: what the caller gives, in order.
        results: what the caller gets, in order.
    """

    operations: List[Operation]
    arguments: Tuple[str, ...]
    results: Tuple[Ref, ...]
    _uses: Dict[Ref, int] = field(default_factory=dict)

    def uses(self) -> Dict[Ref, int]:
        """How often each output is read, the results counted too; a fresh copy to count down."""
        if not self._uses:
            for ref in [ref for operation in self.operations for ref in operation.inputs] + list(
                self.results
            ):
                self._uses[ref] = self._uses.get(ref, 0) + 1
        return dict(self._uses)


class Library:
    """The functions of a graph by name, each read once.

    Args:
        functions: the FunctionDefs of a GraphDef's library.
    """

    def __init__(self, functions: Iterable[Any]) -> None:
        self.functions = {str(function.signature.name): function for function in functions}
        self._bodies: Dict[str, Body] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.functions

    def body(self, name: str) -> Body:
        """The body of a function.

        Raises:
            ModelError: the library has no such function.
        """
        if name not in self.functions:
            raise ModelError(
                f"the graph calls a function {name!r} that its library does not hold: it is damaged"
            )
        if name not in self._bodies:
            self._bodies[name] = self._read(self.functions[name])
        return self._bodies[name]

    def _read(self, function: Any) -> Body:
        arguments = [str(argument.name) for argument in function.signature.input_arg]
        ordered = [(node, self.definition(str(node.op))) for node in function.node_def]
        places = {str(node.name): _offsets(node, definition) for node, definition in ordered}
        operations = [_operation(node, definition, places) for node, definition in ordered]
        results = [
            _function_ref(function.ret[str(result.name)], places) for result in function.signature.output_arg
        ]
        return cut(operations, arguments, results, [str(name) for name in function.control_ret.values()])

    def definition(self, op_type: str) -> Any:
        """The OpDef of an operator, or the signature of a function that is called like one.

        Raises:
            ModelError: neither TensorFlow nor the library knows it.
        """
        if op_type in self.functions:
            return self.functions[op_type].signature
        found = _registered(op_type)
        if found is None:
            raise ModelError(
                f"the graph has an operator {op_type!r} that TensorFlow {tf.__version__} does not know; "
                "import the package that brings it (for example tensorflow_text) before the model is loaded"
            )
        return found

    def from_graph(
        self, graph_def: Any, arguments: Sequence[str], results: Sequence[Ref], controls: Sequence[str] = ()
    ) -> Body:
        """The body of a whole graph, cut to what its results need."""
        operations = [_operation(node, self.definition(str(node.op)), None) for node in graph_def.node]
        return cut(operations, arguments, results, controls)

    def writes(self, body: Body, seen: Optional[Set[str]] = None) -> bool:
        """Whether anything in a body, or in a function that it names, writes into a variable."""
        seen = set() if seen is None else seen
        inner = [part for whole in body.operations if isinstance(whole, Loop) for part in whole.inner]
        for operation in body.operations + inner:
            if operation.op_type.startswith(WRITERS):
                return True
            for name in named_functions(operation) - seen:
                seen.add(name)
                if name in self and self.writes(self.body(name), seen):
                    return True
        return False


def output_count(node: Any, library: Library) -> int:
    """How many outputs a node has."""
    return _offsets(node, library.definition(str(node.op)))[""]


@functools.lru_cache(maxsize=None)
def _registered(op_type: str) -> Any:
    """TensorFlow's definition of an operator, or ``None``; the registry changed in TensorFlow 2.2."""
    from tensorflow.python.framework import op_def_registry

    if hasattr(op_def_registry, "get"):
        return op_def_registry.get(op_type)
    return op_def_registry.get_registered_ops().get(op_type)


@functools.lru_cache(maxsize=None)
def is_stateful(op_type: str) -> bool:
    """Whether an operator depends on more than its inputs: random numbers, tables, variables."""
    definition = _registered(op_type)
    return definition is not None and bool(definition.is_stateful)


def _offsets(node: Any, definition: Any) -> Dict[str, int]:
    """Where each named output of a node begins among all its outputs; ``""`` is the number of them."""
    offsets, total = {}, 0
    for output in definition.output_arg:
        offsets[str(output.name)] = total
        if output.number_attr:
            total += int(node.attr[output.number_attr].i)
        elif output.type_list_attr:
            total += len(node.attr[output.type_list_attr].list.type)
        else:
            total += 1
    return dict(offsets, **{"": total})


def _operation(node: Any, definition: Any, places: Optional[Mapping[str, Mapping[str, int]]]) -> Operation:
    """A node; ``places`` tells a function's way of naming tensors from a graph's."""
    inputs = [str(name) for name in node.input]
    data = [name for name in inputs if not name.startswith("^")]
    refs = [graph_ref(name) if places is None else _function_ref(name, places) for name in data]
    controls = tuple(name[1:] for name in inputs if name.startswith("^"))
    return Operation(
        str(node.name), str(node.op), tuple(refs), controls, node, _offsets(node, definition)[""]
    )


def _function_ref(text: str, places: Mapping[str, Mapping[str, int]]) -> Ref:
    """A tensor's name in a FunctionDef: an argument, or ``node:output:index``."""
    parts = str(text).split(":")
    if len(parts) == 3:
        return Ref(parts[0], places[parts[0]][parts[1]] + int(parts[2]))
    return Ref(parts[0], int(parts[1]) if len(parts) == 2 else 0)


def cut(
    operations: Sequence[Operation], arguments: Sequence[str], results: Sequence[Ref], controls: Sequence[str]
) -> Body:
    """Only the operations that lead to the results or must run for their effect, each after those it needs.

    Each loop of TensorFlow 1 becomes one operation.
    """
    named = {operation.name: operation for operation in operations}
    wanted: Set[str] = set()
    stack = [ref.name for ref in results] + list(controls)
    while stack:
        name = stack.pop()
        if name in named and name not in wanted:
            wanted.add(name)
            stack.extend(named[name].before)
    kept, ends = contracted(_ordered([named[name] for name in named if name in wanted]), results)
    return Body(_ordered(kept), tuple(arguments), ends)


def _ordered(operations: Sequence[Operation]) -> List[Operation]:
    """Sorted so that each comes after what it needs, but for the back edges of loops."""
    place = {operation.name: number for number, operation in enumerate(operations)}
    after: Dict[str, List[str]] = {}
    missing = {}
    for operation in operations:
        before = {
            name for name in operation.before if name in place and not is_back_edge(operations[place[name]])
        }
        missing[operation.name] = len(before)
        for name in before:
            after.setdefault(name, []).append(operation.name)
    ready = [place[name] for name, count in missing.items() if not count]
    heapq.heapify(ready)
    ordered = []
    while ready:
        operation = operations[heapq.heappop(ready)]
        ordered.append(operation)
        for name in after.get(operation.name, ()):
            missing[name] -= 1
            if not missing[name]:
                heapq.heappush(ready, place[name])
    if len(ordered) < len(operations):
        stuck = sorted(name for name, count in missing.items() if count)
        raise ModelError(
            f"the graph has a cycle through {stuck[:5]} that is no loop of TensorFlow's: it is damaged"
        )
    return ordered

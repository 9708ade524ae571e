"""Recording a graph while it runs node by node."""

from __future__ import annotations

import collections
import functools
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

import numpy as np
import tensorflow as tf

from porting_check.neutral.trace import Port, Record, Sink, parameter_key, parameter_name
from porting_check_tensorflow.described import Described, Operand, PortSpec
from porting_check_tensorflow.graph_body import is_stateful
from porting_check_tensorflow.graph_facts import is_weight
from porting_check_tensorflow.graph_parts import WRITERS
from porting_check_tensorflow.graph_program import Program
from porting_check_tensorflow.graph_run import Held, Watcher
from porting_check_tensorflow.operator_records import CHANGED
from porting_check_tensorflow.operators import BOOKKEEPING, PASS_THROUGH, describe_operator
from porting_check_tensorflow.trees import array_of, is_numeric, sizes_of

QUIET = ("VarHandleOp", "VarIsInitializedOp", "Assert", "Placeholder")
"""Stateful operators that compute nothing of the model."""


class GraphRecorder(Watcher):
    """Turns what a :class:`~porting_check_tensorflow.graph_run.Runner` runs into records.

    Args:
        program: the graph.
        sink: where values and records go.
    """

    def __init__(self, program: Program, sink: Sink) -> None:
        self._program, self._sink = program, sink
        self._stored: Set[str] = set()
        self._calls: Dict[str, int] = collections.defaultdict(int)
        self._constants = 0
        self._written: Dict[str, Optional[Held]] = {}
        self._handles = {id(variable.handle): name for name, variable in program.variables.items()}

    def feed(self, fed: Mapping[str, Any]) -> List[Optional[Held]]:
        """The body's arguments: the inputs, stored and declared, and what the graph captured."""
        arguments: List[Optional[Held]] = []
        for leaf in self._program.leaves:
            if leaf.name not in fed:
                arguments.append(None)
                continue
            key = f"input:{leaf.name}"
            if is_numeric(fed[leaf.name]):
                self._store(key, fed[leaf.name])
                self._sink.input(Port(leaf.name, key))
            arguments.append(Held(fed[leaf.name], key))
        arguments.extend(self._captured(tensor) for tensor in self._program.captured)
        return arguments

    def _captured(self, tensor: Any) -> Held:
        """A captured tensor: the handle of a variable, or an eager tensor that the function closes over."""
        name = self._handles.get(id(tensor))
        if name is not None:
            return Held(tensor, parameter_key(name))
        if is_numeric(tensor) and is_weight(tensor.dtype, tensor.shape):
            place = next(i for i, other in enumerate(self._program.captured) if other is tensor)
            return Held(tensor, parameter_key(f"captured/{place}"))
        return Held(tensor)

    def finish(self, results: Sequence[Held]) -> None:
        """Declare the model's outputs."""
        for path, held in zip(self._program.paths, results):
            if not held.dead and is_numeric(held.tensor):
                self._sink.output(Port(path, self._use(held)))

    # What the runner tells.

    def constant(self, name: str, tensor: Any) -> Held:
        """A constant of the graph: a frozen weight under its name, or a part of the code."""
        return Held(tensor, parameter_key(name) if is_weight(tensor.dtype, tensor.shape) else "")

    def held(self, name: str, tensor: Any) -> Held:
        """The value of a TensorFlow 1 variable: a parameter of any size."""
        return Held(tensor, parameter_key(name))

    def read(self, name: str, handle: Held, tensor: Any) -> Held:
        """A variable's value: the parameter, or what the run has written into it."""
        if handle.key not in self._written:
            return Held(tensor, handle.key)
        written = self._written[handle.key]
        if written is not None:
            return Held(tensor, written.key)
        return self._record(name, "ReadVariableOp", [], [tensor], CHANGED)[0]

    def ran(
        self,
        name: str,
        op_type: str,
        attributes: Dict[str, Any],
        inputs: Sequence[Held],
        outputs: Sequence[Any],
        why: str,
    ) -> List[Held]:
        """An operator ran: a record, unless it computes nothing from inputs or parameters."""
        self._note_writes(op_type, inputs, why)
        if op_type in BOOKKEEPING or not outputs:
            return [Held(tensor) for tensor in outputs]
        if op_type in PASS_THROUGH or op_type == "PlaceholderWithDefault":
            return [Held(tensor, held.key) for tensor, held in zip(outputs, inputs)]
        random = (
            is_stateful(op_type) and op_type not in QUIET and any(is_numeric(tensor) for tensor in outputs)
        )
        if not random and not any(self._tracked(held) for held in inputs):
            return [Held(tensor) for tensor in outputs]
        if why:
            return self._record(name, op_type, inputs, outputs, why)
        operands = [self._operand(held) for held in inputs]
        results = [_result(tensor) for tensor in outputs]
        found = _described(op_type, attributes, operands, results)
        if isinstance(found, Described):
            return self._record_described(name, op_type, found, inputs, outputs)
        return self._record(name, op_type, inputs, outputs, found)

    def _note_writes(self, op_type: str, inputs: Sequence[Held], why: str) -> None:
        """Which variables no longer hold what they held before the run."""
        handles = [held.key for held in inputs if held.tensor.dtype == tf.resource and held.key]
        if op_type == "AssignVariableOp":
            self._written.update(dict.fromkeys(handles, inputs[1]))
        elif op_type.startswith(WRITERS) or (why and self._program.writes):
            self._written.update(dict.fromkeys(handles))

    # Values.

    @staticmethod
    def _tracked(held: Held) -> bool:
        """Whether a value comes from the model's inputs, parameters or records."""
        return bool(held.key) and not held.key.startswith("constant:")

    def _store(self, key: str, tensor: Any) -> None:
        if key not in self._stored:
            self._stored.add(key)
            self._sink.value(key, array_of(tensor))

    def _use(self, held: Held) -> str:
        """The key of a value that is read, stored if it was not yet."""
        if not held.key:
            held.key = f"constant:{self._constants}"
            self._constants += 1
        variable = self._variable(held)
        self._store(held.key, held.tensor if variable is None else variable)
        return held.key

    def _variable(self, held: Held) -> Optional[Any]:
        """The variable of a handle."""
        if held.tensor.dtype != tf.resource:
            return None
        return self._program.variables.get(parameter_name(held.key))

    def _operand(self, held: Held) -> Operand:
        """A value as the describers see it."""
        variable = self._variable(held)
        tensor = held.tensor if variable is None else variable
        if variable is None and not is_numeric(tensor):
            return _foreign(tensor)
        parameter = held.key.startswith(parameter_key(""))
        fixed = not self._tracked(held)
        return Operand(
            sizes_of(tensor), _numpy_name(tensor.dtype), lambda: array_of(tensor), fixed, parameter
        )

    # Records.

    def _record_described(
        self, name: str, op_type: str, found: Described, inputs: Sequence[Held], outputs: Sequence[Any]
    ) -> List[Held]:
        identity, call = self._identity(name)
        ports = [(spec, inputs[spec.index]) for spec in found.inputs]
        made = {spec.index: f"{identity}:{place}" for place, spec in enumerate(found.outputs)}
        results = [Port(spec.name, made[spec.index], spec.layout, spec.canonical) for spec in found.outputs]
        self._emit(name, call, op_type, ports, results, found.nodes, found.constants, "")
        return self._made(made, outputs)

    def _record(
        self, name: str, op_type: str, inputs: Sequence[Held], outputs: Sequence[Any], reason: str
    ) -> List[Held]:
        """An opaque record: everything that can be stored, and why nothing more is known."""
        identity, call = self._identity(name)
        readable = [held for held in inputs if is_numeric(held.tensor) or self._variable(held) is not None]
        ports = [(PortSpec(place, f"x{place}"), held) for place, held in enumerate(readable)]
        numeric = [index for index, tensor in enumerate(outputs) if is_numeric(tensor)]
        made = {index: f"{identity}:{place}" for place, index in enumerate(numeric)}
        if made:
            results = [Port(f"y{place}", key) for place, key in enumerate(made.values())]
            self._emit(name, call, op_type, ports, results, (), {}, reason)
        return self._made(made, outputs)

    def _identity(self, name: str) -> Any:
        call = self._calls[name]
        self._calls[name] += 1
        return (name if call == 0 else f"{name}#{call}"), call

    def _emit(
        self,
        name: str,
        call: int,
        op_type: str,
        ports: Any,
        results: Any,
        nodes: Any,
        constants: Any,
        reason: str,
    ) -> None:
        read: List[Port] = []
        parameters: List[Port] = []
        for spec, held in ports:
            port = Port(spec.name, self._use(held), spec.layout, spec.canonical)
            (parameters if port.value.startswith(parameter_key("")) else read).append(port)
        native = f"tf.raw_ops.{op_type}"
        record = Record(
            name,
            call,
            native,
            tuple(read),
            tuple(results),
            tuple(parameters),
            tuple(nodes),
            dict(constants),
            reason,
        )
        self._sink.record(record)

    def _made(self, keys: Mapping[int, str], outputs: Sequence[Any]) -> List[Held]:
        """The outputs of a record, stored."""
        for index, key in keys.items():
            self._store(key, outputs[index])
        return [Held(tensor, keys.get(index, "")) for index, tensor in enumerate(outputs)]


def _described(
    op_type: str, attributes: Mapping[str, Any], inputs: List[Operand], outputs: List[Operand]
) -> Any:
    """The description, or a reason: a graph of another version must not stop a recording."""
    try:
        return describe_operator(op_type, attributes, inputs, outputs)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        return f"tf.raw_ops.{op_type} could not be described: {type(error).__name__}: {error}"


def _result(tensor: Any) -> Operand:
    if not is_numeric(tensor):
        return _foreign(tensor)
    return Operand(sizes_of(tensor), _numpy_name(tensor.dtype), lambda: array_of(tensor))


def _foreign(tensor: Any) -> Operand:
    """What numpy cannot hold as numbers."""
    return Operand((), str(tensor.dtype.name), lambda: np.zeros(0), fixed=True)


@functools.lru_cache(maxsize=None)
def _numpy_name(dtype: Any) -> str:
    return str(np.dtype(tf.as_dtype(dtype).as_numpy_dtype).name)

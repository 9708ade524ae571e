"""Running a graph node by node, eagerly, while something watches.

Functions are entered, so their operators are seen; each value is freed after its last use. Nothing is frozen, rewritten or
optimised: what runs are the graph's own operators with their own kernels. Branches (``If``, and the ``Switch`` and
``Merge`` of TensorFlow 1) are followed; loops (``While``, and TensorFlow 1's) run whole, as one operator.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import PortingError, RunError
from porting_check_tensorflow.graph_body import (
    ARGUMENTS,
    BRANCHES,
    CALLS,
    Body,
    Library,
    Operation,
    Ref,
    attributes_of,
    named_functions,
)

SILENT = frozenset(["NoOp", "Print", "PrintV2", "Save", "SaveV2", "MergeV2Checkpoints", "WriteFile"])
"""Operators that are not run: they compute nothing and would write or print."""


class Held:
    """One tensor while it is needed, and which value of the recording it is.

    Attributes:
        tensor: the eager tensor; ``None`` on the branch not taken.
        key: its key in the recording; ``""`` for a tensor that is computed neither from inputs nor from parameters.
    """

    __slots__ = ("key", "tensor")

    def __init__(self, tensor: Any, key: str = "") -> None:
        self.tensor, self.key = tensor, key

    @property
    def dead(self) -> bool:
        """Whether it is on the branch not taken."""
        return self.tensor is None


class Watcher:
    """What is told of everything that runs; the base class lets every tensor be a constant of the run."""

    def constant(self, name: str, tensor: Any) -> Held:
        """A constant of the graph, under its path."""
        return Held(tensor)

    def read(self, name: str, handle: Held, tensor: Any) -> Held:
        """The value of a variable."""
        return Held(tensor)

    def ran(
        self, name: str, op_type: str, attributes: Dict[str, Any], inputs: Sequence[Held], outputs: Sequence[Any], why: str
    ) -> List[Held]:
        """An operator ran; ``why`` is set when it stands for more than itself and must stay opaque."""
        return [Held(tensor) for tensor in outputs]


class Runner:
    """Runs bodies of one library.

    Args:
        library: the functions that may be called.
        watcher: is told of every operator.
    """

    def __init__(self, library: Library, watcher: Watcher) -> None:
        self._library, self._watcher = library, watcher
        self._registered = False

    def run(self, body: Body, arguments: Sequence[Held], path: str = "") -> List[Held]:
        """Run a body on these arguments; returns its results.

        Args:
            body: what to run.
            arguments: one for each of the body's.
            path: what the names of its operators begin with.

        Raises:
            RunError: an operator raised.
        """
        held: Dict[Ref, Held] = {Ref(name): value for name, value in zip(body.arguments, arguments)}
        left, dead = body.uses(), set()
        given = set(body.arguments)
        for operation in body.operations:
            if operation.name in given:
                continue
            inputs = [self._taken(held, ref, path) for ref in operation.inputs]
            outputs = self._step(operation, inputs, path, bool(dead.intersection(operation.controls)))
            if all(output.dead for output in outputs) and (outputs or any(value.dead for value in inputs)):
                dead.add(operation.name)
            held.update((Ref(operation.name, index), output) for index, output in enumerate(outputs))
            self._free(operation, held, left)
        return [self._taken(held, ref, path) for ref in body.results]

    @staticmethod
    def _taken(held: Dict[Ref, Held], ref: Ref, path: str) -> Held:
        if ref not in held:
            raise RunError(f"the graph reads output {ref.index} of {path}{ref.name}, which nothing made: it is damaged")
        return held[ref]

    @staticmethod
    def _free(operation: Operation, held: Dict[Ref, Held], left: Dict[Ref, int]) -> None:
        """Forget what was read for the last time, and what nothing reads."""
        for ref in operation.inputs:
            left[ref] -= 1
            if not left[ref]:
                held.pop(ref, None)
        for index in range(operation.outputs):
            if Ref(operation.name, index) not in left:
                held.pop(Ref(operation.name, index), None)

    def _step(self, operation: Operation, inputs: List[Held], path: str, dead: bool) -> List[Held]:
        name = path + operation.name
        if operation.op_type in ("Merge", "RefMerge"):
            return self._merge(inputs)
        if dead or any(value.dead for value in inputs):
            return [Held(None) for _ in range(operation.outputs)]
        if operation.op_type in ("Switch", "RefSwitch"):
            chosen = int(bool(inputs[1].tensor.numpy()))
            return [inputs[0] if side == chosen else Held(None) for side in (0, 1)]
        if operation.op_type in ARGUMENTS:
            raise RunError(f"the placeholder {name!r} has no value: give it as an input of this name")
        if operation.op_type == "Const":
            return [self._watcher.constant(name, constant_of(operation))]
        if operation.op_type in SILENT:
            return []
        entered = self._entered(operation, inputs)
        if entered is not None:
            return self.run(self._library.body(entered[0]), entered[1], inner_path(path, operation))
        return self._execute(operation, inputs, name)

    @staticmethod
    def _merge(inputs: Sequence[Held]) -> List[Held]:
        """The one input that is alive, and its number."""
        for index, value in enumerate(inputs):
            if not value.dead:
                return [value, Held(tf.constant(index, tf.int32))]
        return [Held(None), Held(None)]

    def _entered(self, operation: Operation, inputs: List[Held]) -> Optional[Tuple[str, List[Held]]]:
        """The function to enter, and its arguments; ``None`` for an operator that runs by itself."""
        function = called_function(operation, self._library)
        if function is not None:
            return None if self._only_compiled(function) else (function, inputs)
        if operation.op_type in BRANCHES:
            taken = bool(np.all(inputs[0].tensor.numpy()))
            return operation.function("then_branch" if taken else "else_branch"), inputs[1:]
        if operation.op_type in ("Case", "StatelessCase"):
            branches = operation.node.attr["branches"].list.func
            chosen = int(inputs[0].tensor.numpy())
            last = len(branches) - 1
            return str(branches[chosen if 0 <= chosen <= last else last].name), inputs[1:]
        return None

    def _only_compiled(self, function: str) -> bool:
        """Whether a function holds operators that exist under XLA only."""
        return any(operation.op_type.startswith("Xla") for operation in self._library.body(function).operations)

    def _execute(self, operation: Operation, inputs: List[Held], name: str) -> List[Held]:
        definition = self._library.definition(operation.op_type)
        attributes = attributes_of(operation, definition)
        functions = {f for f in named_functions(operation) if f in self._library}
        if functions:
            self._register()
        tensors = [value.tensor for value in inputs]
        outputs = self._run_one(operation, tensors, attributes, name)
        if operation.op_type == "ReadVariableOp":
            return [self._watcher.read(name, inputs[0], outputs[0])]
        why = f"{operation.op_type} runs the functions {sorted(functions)} whole" if functions else ""
        return self._watcher.ran(name, operation.op_type, attributes, inputs, outputs, why)

    def _run_one(self, operation: Operation, tensors: List[Any], attributes: Dict[str, Any], name: str) -> List[Any]:
        try:
            return execute(operation.op_type, operation.outputs, tensors, attributes)
        except PortingError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise RunError(f"the model raised {type(error).__name__} in {name} ({operation.op_type}): {first}") from error

    def _register(self) -> None:
        """Make the library's functions known to eager TensorFlow, which runs loops by their names."""
        if not self._registered:
            self._registered = True
            from tensorflow.python.eager import context

            for function in self._library.functions.values():
                context.context().add_function_def(function)


def called_function(operation: Operation, library: Library) -> Optional[str]:
    """The function that an operation calls, also where its very type is the function's name (TensorFlow 1)."""
    if operation.op_type in CALLS:
        return operation.function()
    return operation.op_type if operation.op_type in library else None


def inner_path(path: str, operation: Operation) -> str:
    """What names inside a called function begin with: nothing more for calls that only wrap a whole model."""
    bare = operation.name.rstrip("0123456789").rstrip("_")
    return path if bare in CALLS else f"{path}{operation.name}/"


def constant_of(operation: Operation) -> Any:
    """The value of a Const, as an eager tensor."""
    proto = operation.node.attr["value"].tensor
    return tf.constant(tf.make_ndarray(proto), dtype=tf.as_dtype(proto.dtype), shape=None)


def execute(op_type: str, count: int, inputs: Sequence[Any], attributes: Dict[str, Any]) -> List[Any]:
    """Run one operator eagerly, by its type: also those that have no public wrapper.

    Example:
        >>> execute("Neg", 1, [tf.constant(2.0)], {"T": tf.float32.as_datatype_enum})[0].numpy()
        -2.0
    """
    from tensorflow.python.eager import context
    from tensorflow.python.eager import execute as eager

    flat: List[Any] = []
    for name, value in attributes.items():
        flat += [name, _function_name(value)]
    found = eager.execute(op_type.encode("ascii"), count, list(inputs), tuple(flat), context.context())
    return list(found) if count else []


def _function_name(value: Any) -> Any:
    """Functions among attributes go by their names."""
    if isinstance(value, list):
        return [_function_name(item) for item in value]
    return str(value.name) if type(value).__name__ == "NameAttrList" else value

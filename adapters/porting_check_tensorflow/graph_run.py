"""Running a graph node by node, eagerly, while something watches.

Functions are entered, so their operators are seen; each value is freed after its last use. Nothing is frozen,
rewritten or optimised: what runs are the graph's own operators with their own kernels. Branches (``If``, and
the ``Switch`` and ``Merge`` of TensorFlow 1) are followed; loops (``While``, and TensorFlow 1's) run whole,
as one operator.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import PortingError, RunError
from porting_check_tensorflow.graph_body import Body, Library
from porting_check_tensorflow.graph_errors import headline
from porting_check_tensorflow.graph_loops import Loop
from porting_check_tensorflow.graph_parts import (
    ARGUMENTS,
    BRANCHES,
    CALLS,
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
        key: its key in the recording; ``""`` for a tensor that is computed neither from inputs nor from
        parameters.
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

    def held(self, name: str, tensor: Any) -> Held:
        """The value of a TensorFlow 1 variable."""
        return Held(tensor)

    def read(self, name: str, handle: Held, tensor: Any) -> Held:
        """The value of a variable."""
        return Held(tensor)

    def ran(
        self,
        name: str,
        op_type: str,
        attributes: Dict[str, Any],
        inputs: Sequence[Held],
        outputs: Sequence[Any],
        why: str,
    ) -> List[Held]:
        """An operator ran; ``why`` is set when it stands for more than itself and must stay opaque."""
        return [Held(tensor) for tensor in outputs]


class Runner:
    """Runs bodies of one library.

    Args:
        library: the functions that may be called.
        watcher: is told of every operator.
        held: values of TensorFlow 1 variables by name, which exist inside their own graph only.
    """

    def __init__(self, library: Library, watcher: Watcher, held: Optional[Mapping[str, Any]] = None) -> None:
        self._library, self._watcher, self._held = library, watcher, dict(held or {})
        self._registered = False

    def run(self, body: Body, arguments: Sequence[Optional[Held]], path: str = "") -> List[Held]:
        """Run a body on these arguments; returns its results.

        Args:
            body: what to run.
            arguments: one for each of the body's; ``None`` for a placeholder that has a default.
            path: what the names of its operators begin with.

        Raises:
            RunError: an operator raised.
        """
        pairs = zip(body.arguments, arguments)
        held: Dict[Ref, Held] = {Ref(name): value for name, value in pairs if value is not None}
        left, given = body.uses(), {ref.name for ref in held}
        dead: Set[str] = set()
        for operation in body.operations:
            if operation.name in given:
                continue
            inputs = [self._taken(held, ref, path) for ref in operation.inputs]
            if self._skipped(operation, inputs, dead):
                dead.add(operation.name)
                outputs = [Held(None) for _ in range(operation.outputs)]
            else:
                outputs = self._step(operation, inputs, path)
            held.update((Ref(operation.name, index), output) for index, output in enumerate(outputs))
            self._free(operation, held, left)
        return [self._taken(held, ref, path) for ref in body.results]

    @staticmethod
    def _taken(held: Dict[Ref, Held], ref: Ref, path: str) -> Held:
        if ref not in held:
            raise RunError(
                f"the graph reads output {ref.index} of {path}{ref.name}, which nothing made: it is damaged"
            )
        return held[ref]

    @staticmethod
    def _skipped(operation: Operation, inputs: Sequence[Held], dead: Set[str]) -> bool:
        """Whether an operation is on the branch not taken; a Merge waits for the other branch."""
        if operation.op_type in ("Merge", "RefMerge"):
            return all(value.dead for value in inputs)
        return any(value.dead for value in inputs) or not dead.isdisjoint(operation.controls)

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

    def _step(self, operation: Operation, inputs: List[Held], path: str) -> List[Held]:
        name = path + operation.name
        if operation.op_type in ("Merge", "RefMerge"):
            chosen = next(index for index, value in enumerate(inputs) if not value.dead)
            return [inputs[chosen], Held(tf.constant(chosen, tf.int32))]
        if operation.op_type in ("Switch", "RefSwitch"):
            chosen = int(bool(inputs[1].tensor.numpy()))
            return [inputs[0] if side == chosen else Held(None) for side in (0, 1)]
        if operation.op_type in ARGUMENTS:
            raise RunError(f"the placeholder {name!r} has no value: give it as an input of this name")
        if name in self._held:
            return [self._watcher.held(name, self._held[name])]
        if operation.op_type == "Const":
            return [self._watcher.constant(name, constant_of(operation))]
        if operation.op_type in SILENT:
            return []
        entered = self._entered(operation, inputs)
        if entered is not None:
            return self.run(self._library.body(entered[0]), entered[1], inner_path(path, operation))
        return self._execute(operation, inputs, name)

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
        return any(
            operation.op_type.startswith("Xla") for operation in self._library.body(function).operations
        )

    def _execute(self, operation: Operation, inputs: List[Held], name: str) -> List[Held]:
        tensors = [value.tensor for value in inputs]
        if isinstance(operation, Loop):
            functions = self._library.functions.values()
            outputs = self._guarded(operation, name, lambda: operation.run(tensors, functions))
            return self._watcher.ran(name, "Loop", {}, inputs, outputs, "a loop of TensorFlow 1 runs whole")
        attributes = attributes_of(operation, self._library.definition(operation.op_type))
        called = sorted(function for function in named_functions(operation) if function in self._library)
        if called:
            self._register()
        run = functools.partial(execute, operation.op_type, operation.outputs, tensors, attributes)
        outputs = self._guarded(operation, name, run)
        if operation.op_type == "ReadVariableOp":
            return [self._watcher.read(name, inputs[0], outputs[0])]
        why = f"{operation.op_type} runs the functions {', '.join(called)} whole" if called else ""
        return self._watcher.ran(name, operation.op_type, attributes, inputs, outputs, why)

    @staticmethod
    def _guarded(operation: Operation, name: str, run: Callable[[], List[Any]]) -> List[Any]:
        """Errors of TensorFlow's, with the place where they came up."""
        try:
            return run()
        except PortingError:
            raise
        except Exception as error:
            raise RunError(
                f"the model raised {type(error).__name__} in {name} ({operation.op_type}): {headline(error)}"
            ) from error

    def _register(self) -> None:
        """Make the library's functions known to eager TensorFlow, which runs loops by their names."""
        if not self._registered:
            self._registered = True
            from tensorflow.python.eager import context

            for function in self._library.functions.values():
                context.context().add_function_def(function)


def called_function(operation: Operation, library: Library) -> Optional[str]:
    """The function that an operation calls; in TensorFlow 1 its very type may be the function's name."""
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
        >>> float(execute("Neg", 1, [tf.constant(2.0)], {"T": tf.float32.as_datatype_enum})[0])
        -2.0
    """
    from tensorflow.python.eager import context
    from tensorflow.python.eager import execute as eager

    flat: List[Any] = []
    for name, value in attributes.items():
        flat += [name, _function_name(value)]
    found = eager.execute(op_type.encode("ascii"), count, list(inputs), tuple(flat), context.context())
    made = list(found) if count else []
    if getattr(eager, "must_record_gradient", bool)():  # inside a tf.GradientTape
        eager.record_gradient(op_type, list(inputs), tuple(flat), made)
    return made


def _function_name(value: Any) -> Any:
    """Functions among attributes go by their names."""
    if isinstance(value, list):
        return [_function_name(item) for item in value]
    return str(value.name) if type(value).__name__ == "NameAttrList" else value

"""Gradients of functions, modules, SavedModels and frozen graphs, by the keys of their recording.

Graphs run node by node anyway; inside a ``tf.GradientTape`` each node also notes how it is differentiated.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import Unsupported
from porting_check.neutral.trace import Sink, parameter_key
from porting_check_tensorflow.gradients import DETACHING, Kept, Keys
from porting_check_tensorflow.graph import observe
from porting_check_tensorflow.graph_body import Library
from porting_check_tensorflow.graph_float64 import Widening, WideRunner, wide
from porting_check_tensorflow.graph_loops import Loop
from porting_check_tensorflow.graph_model import program
from porting_check_tensorflow.graph_parts import Operation, attributes_of, named_functions
from porting_check_tensorflow.graph_program import Program
from porting_check_tensorflow.graph_record import GraphRecorder
from porting_check_tensorflow.graph_run import Held, Runner, Watcher
from porting_check_tensorflow.graph_state import eagerly
from porting_check_tensorflow.operators import PASS_THROUGH

GATHERS = ("ResourceGather", "ResourceGatherNd")
"""Operators that read rows of a variable; asked for float64 of a variable of float32 they end the process."""

WHILES = ("While", "StatelessWhile")

WHOLE = "runs functions whole"
"""Why an operator has no description; nobody reads it here."""


class KeptGraph(GraphRecorder):
    """Recording of which only the tensors behind the keys are kept."""

    def __init__(self, program: Program, sink: Sink, kept: Kept) -> None:
        super().__init__(program, sink)
        self._kept = kept
        for name, variable in program.variables.items():
            kept.watch(parameter_key(name), variable)

    def _store(self, key: str, tensor: Any) -> None:
        if key not in self._stored:
            (self._kept.watch if key.startswith("input:") else self._kept.add)(key, tensor)
        super()._store(key, tensor)

    def _captured(self, tensor: Any) -> Held:
        captured = super()._captured(tensor)
        return captured if tensor.dtype == tf.resource else self._watched(captured)

    def constant(self, name: str, tensor: Any) -> Held:
        """As before, and watched where it is a frozen weight."""
        return self._watched(super().constant(name, tensor))

    def held(self, name: str, tensor: Any) -> Held:
        """As before, and watched."""
        return self._watched(super().held(name, tensor))

    def _watched(self, held: Held) -> Held:
        if held.key:
            self._kept.watch(held.key, held.tensor)
        return held

    def variable(self, handle: Held) -> Optional[Any]:
        """The model's variable behind a handle, as long as the run has not written into it."""
        return None if handle.key in self._written else self._variable(handle)

    def ran(
        self,
        name: str,
        op_type: str,
        attributes: Dict[str, Any],
        inputs: Sequence[Held],
        outputs: Sequence[Any],
        why: str,
    ) -> List[Held]:
        """As before; what an operator only handed on is kept where a gradient comes back."""
        made = super().ran(name, op_type, attributes, inputs, outputs, why)
        if op_type in PASS_THROUGH and op_type not in DETACHING:
            for held in made:
                if held.key:
                    self._kept.add(held.key, held.tensor)
        return made


class _Silent(Watcher):
    """What runs inside a loop: differentiated, but in no record, because a recording has the loop as one operator."""

    def __init__(self, recorder: KeptGraph) -> None:
        self.variable = recorder.variable

    def ran(
        self,
        name: str,
        op_type: str,
        attributes: Dict[str, Any],
        inputs: Sequence[Held],
        outputs: Sequence[Any],
        why: str,
    ) -> List[Held]:
        """Handles of variables stay known."""
        if op_type in PASS_THROUGH:
            return [_unnamed(Held(tensor, held.key)) for tensor, held in zip(outputs, inputs)]
        return [Held(tensor) for tensor in outputs]


def _unnamed(held: Held) -> Held:
    """The same tensor, under no key unless it is the handle of a variable."""
    return held if held.tensor.dtype == tf.resource else Held(held.tensor)


def _looped(runner: Runner, library: Library, operation: Operation, inputs: Sequence[Held]) -> List[Any]:
    """A loop step by step: TensorFlow has no gradient for the operator that runs it whole."""
    asked, body = (library.body(str(operation.node.attr[name].func.name)) for name in ("cond", "body"))
    state = [_unnamed(held) for held in inputs]
    while bool(runner.run(asked, state)[0].tensor.numpy()):
        state = runner.run(body, state)
    return [held.tensor for held in state]


class _Kept(Runner):
    """Runs a graph, loops step by step."""

    def __init__(self, program: Program, recorder: Union[KeptGraph, _Silent]) -> None:
        super().__init__(program.library, recorder, program.held)
        self._program, self._recorder = program, recorder

    def _execute(self, operation: Operation, inputs: List[Held], name: str) -> List[Held]:
        if operation.op_type not in WHILES:
            return super()._execute(operation, inputs, name)
        inner = _Kept(self._program, self._silent())
        made = self._guarded(operation, name, lambda: _looped(inner, self._library, operation, inputs))
        return self._recorder.ran(name, operation.op_type, {}, inputs, made, WHOLE)

    def _silent(self) -> _Silent:
        return self._recorder if isinstance(self._recorder, _Silent) else _Silent(self._recorder)


class _WideParts(Widening):
    """Constants and variables in float64, with their keys."""

    def __init__(self, recorder: Watcher) -> None:
        self._recorder = recorder

    def constant(self, name: str, tensor: Any) -> Held:
        """A constant of the graph."""
        return self._recorder.constant(name, wide(tensor))

    def held(self, name: str, tensor: Any) -> Held:
        """The value of a TensorFlow 1 variable."""
        return self._recorder.held(name, wide(tensor))


class _WideKept(WideRunner):
    """Runs in float64, loops step by step, and tells the recorder what ran."""

    def __init__(
        self, program: Program, recorder: Union[KeptGraph, _Silent], kept: Kept, tables: Dict[str, Any]
    ) -> None:
        super().__init__(program.library, {name: wide(value) for name, value in program.held.items()})
        self._watcher: Watcher = _WideParts(recorder)
        self._program, self._recorder, self._kept, self._tables = program, recorder, kept, tables

    def _execute(self, operation: Operation, inputs: List[Held], name: str) -> List[Held]:
        if operation.op_type == "ReadVariableOp":
            fixed = self._recorder.variable(inputs[0])
            tensor = (
                super()._execute(operation, inputs, name)[0].tensor
                if fixed is None
                else self._table(inputs[0])
            )
            return [self._recorder.read(name, inputs[0], tensor)]
        tensors = self._executed(operation, inputs, name)
        attributes: Dict[str, Any] = {}
        why = WHOLE
        if not isinstance(operation, Loop):
            attributes = attributes_of(operation, self._library.definition(operation.op_type))
            called = any(function in self._library for function in named_functions(operation))
            why = WHOLE if called else ""
        return self._recorder.ran(name, operation.op_type, attributes, inputs, tensors, why)

    def _executed(self, operation: Operation, inputs: List[Held], name: str) -> List[Any]:
        if operation.op_type in WHILES:
            silent = self._recorder if isinstance(self._recorder, _Silent) else _Silent(self._recorder)
            inner = _WideKept(self._program, silent, self._kept, self._tables)
            return _looped(inner, self._library, operation, inputs)
        if operation.op_type not in GATHERS:
            return [held.tensor for held in super()._execute(operation, inputs, name)]
        if self._recorder.variable(inputs[0]) is None:
            raise Unsupported(
                f"{name} reads rows of a variable that the run changes, which has no gradient in float64"
            )
        table, rows = self._table(inputs[0]), inputs[1].tensor
        if operation.op_type == "ResourceGather":
            return [tf.gather(table, rows, batch_dims=int(operation.node.attr["batch_dims"].i))]
        return [tf.gather_nd(table, rows)]

    def _table(self, handle: Held) -> Any:
        """A variable in float64, watched as such: what flows back to the variable itself would be float32."""
        if handle.key not in self._tables:
            with self._kept.apart():
                table = wide(tf.convert_to_tensor(self._recorder.variable(handle)))
            self._kept.watch(handle.key, table)
            self._tables[handle.key] = table
        return self._tables[handle.key]


@eagerly()
def gradients(
    model: Any, inputs: Inputs, cotangents: Mapping[str, np.ndarray], *, float64: bool = False
) -> Dict[str, np.ndarray]:
    """Gradients of the sum over outputs of ``output * cotangent`` by the keys of a recording.

    Variables and frozen weights are differentiated alike.

    Args:
        model: a ``tf.function``, a ``tf.Module``, a SavedModel or a graph.
        inputs: by name.
        cotangents: by the path of an output; one that is missing counts as zero.
        float64: operators run in double precision, as in ``float64_outputs``.

    Raises:
        Unsupported: TensorFlow has no gradient for an operator; a loop of TensorFlow 1 has none.
        RunError: the model raised.
        InputError: a cotangent that fits no floating output.
    """
    made = program(model, inputs)
    fed = made.fed(inputs)
    tape, sink = tf.GradientTape(watch_accessed_variables=False), Keys()
    with tape:
        kept = Kept(tape)
        recorder = KeptGraph(made, sink, kept)
        if float64:
            runner: Runner = _WideKept(made, recorder, kept, {})
            fed = {name: wide(tensor) for name, tensor in fed.items()}
        else:
            runner = _Kept(made, recorder)
        results = observe(made, recorder, runner, fed)
    outputs = {p: held.tensor for p, held in zip(made.paths, results) if not held.dead}
    return kept.gradients(outputs, cotangents, sink.keys)

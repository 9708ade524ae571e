"""Records of the operators that run between layers, or inside layers that are entered."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Sequence, Union

import numpy as np
import tensorflow as tf

from porting_check_tensorflow.described import Described, Operand
from porting_check_tensorflow.emit import Emitter, location
from porting_check_tensorflow.graph_parts import WRITERS
from porting_check_tensorflow.operators import (
    BOOKKEEPING,
    PASS_THROUGH,
    describe_operator,
    plain_attributes,
)
from porting_check_tensorflow.sketch import Link, Sketch
from porting_check_tensorflow.trees import array_of, is_numeric, is_tensor, sizes_of
from porting_check_tensorflow.values import Values
from porting_check_tensorflow.weights import join

COMPILED = re.compile(r"__(?:inference|forward)_(.+?)_\d+$")
"""How eager TensorFlow names a call of a ``tf.function``; the number differs from run to run."""

CHANGED = "reads a variable that the run itself changed before"


class OperatorRecorder:
    """Turns executed operators into records.

    Args:
        values: which value a tensor is.
        emitter: where records go.
        scope: the path of the layer that is being called now.
        entry: name of the module that started the run.
    """

    def __init__(self, values: Values, emitter: Emitter, scope: Callable[[], str], entry: str) -> None:
        self._values, self._emitter, self._scope, self._entry = values, emitter, scope, entry

    def ran(self, op_type: str, inputs: Sequence[Any], attributes: Any, outputs: Sequence[Any]) -> None:
        """One operator ran: record it if what it reads is the model's, else its outputs are constants."""
        values = self._values
        if not all(map(is_tensor, inputs)) or op_type in BOOKKEEPING - {"ReadVariableOp"}:
            return
        if op_type == "ReadVariableOp":
            self._variable_read(inputs[0], outputs[0])
        elif op_type.startswith(WRITERS) and not outputs:
            variable = values.of_handle(inputs[0])
            if variable is not None:
                values.write(variable, inputs[1] if op_type == "AssignVariableOp" else None)
        elif any(values.is_traceable(tensor) or self._variable(tensor) is not None for tensor in inputs):
            if op_type in PASS_THROUGH:
                for tensor, same in zip(inputs, outputs):
                    values.same(same, tensor, op_type)
            else:
                given = plain_attributes(attributes).items()
                self._record_operator(op_type, inputs, {k: v for k, v in given if v is not None}, outputs)

    def _variable_read(self, handle: Any, tensor: Any) -> None:
        """A variable's value: the parameter, or what the run has written into it."""
        values = self._values
        variable = values.of_handle(handle)
        if variable is None:
            return
        written = values.written(variable)
        if written is not None:
            values.bind(tensor, values.use(written))
        elif values.is_changed(variable):
            sketch = Sketch()
            sketch.outputs = [Link("y", tensor)]
            name = join(self._scope(), "ReadVariableOp")
            self._emitter.emit(name, "tf.raw_ops.ReadVariableOp", sketch, CHANGED, location(self._entry))
        else:
            values.bind(tensor, values.key_of(variable))

    def _variable(self, tensor: Any) -> Any:
        """The model's variable behind a resource tensor, or ``None``."""
        return self._values.of_handle(tensor) if tensor.dtype == tf.resource else None

    def _operand(self, tensor: Any) -> Operand:
        variable = self._variable(tensor)
        if variable is not None:
            tensor = variable
        if variable is None and not is_numeric(tensor):
            return Operand((), tensor.dtype.name, lambda: np.zeros(0))
        key = None if variable is not None else self._values.find(tensor)
        parameter = variable is not None or (key or "").startswith("parameter:")
        fixed = variable is None and (key is None or key.startswith("constant:"))
        dtype = tf.as_dtype(tensor.dtype).as_numpy_dtype
        return Operand(sizes_of(tensor), np.dtype(dtype).name, lambda: array_of(tensor), fixed, parameter)

    def _record_operator(
        self, op_type: str, inputs: Sequence[Any], attributes: Dict[str, Any], outputs: Sequence[Any]
    ) -> None:
        compiled = COMPILED.match(op_type)
        if compiled is not None:
            op_type = compiled.group(1).strip("_")
        operands = [self._operand(tensor) for tensor in inputs]
        results = [self._operand(tensor) for tensor in outputs]
        try:
            found: Union[Described, str] = f"the compiled function {op_type} was not opened"
            if compiled is None:
                found = describe_operator(op_type, attributes, operands, results)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            found = f"tf.raw_ops.{op_type} could not be described: {type(error).__name__}: {error}"
        sketch = Sketch()
        if isinstance(found, Described):
            self._fill(sketch, found, inputs, outputs)
        else:
            self._fill_opaque(sketch, inputs, outputs)
        reason = "" if isinstance(found, Described) else found
        if sketch.outputs:
            name = join(self._scope(), op_type)
            operator = f"tf.raw_ops.{op_type}" if compiled is None else f"tf.function.{op_type}"
            self._emitter.emit(name, operator, sketch, reason, location(self._entry))

    def _fill(self, sketch: Sketch, found: Described, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        sketch.nodes, sketch.constants = list(found.nodes), dict(found.constants)
        for spec in found.inputs:
            self._read(sketch, spec.name, inputs[spec.index], spec.layout, spec.canonical)
        sketch.outputs = [Link(s.name, outputs[s.index], s.layout, s.canonical) for s in found.outputs]

    def _fill_opaque(self, sketch: Sketch, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        for index, tensor in enumerate(inputs):
            if is_numeric(tensor) or self._variable(tensor) is not None:
                self._read(sketch, f"x{index}", tensor)
        numeric = [tensor for tensor in outputs if is_numeric(tensor)]
        sketch.outputs = [Link(f"y{index}", tensor) for index, tensor in enumerate(numeric)]

    def _read(self, sketch: Sketch, name: str, tensor: Any, layout: str = "", canonical: str = "") -> None:
        """A port for what an operator reads: a parameter where it is a variable's value, else an input."""
        variable = self._variable(tensor)
        if variable is None:
            key = self._values.find(tensor) or ""
            variable = self._values.parameter_of(key)
        if variable is not None:
            sketch.parameter(name, variable, layout, canonical)
        else:
            sketch.input(name, tensor, layout, canonical)

"""A graph in float64: every constant and variable widened, every operator asked for its kernel of double precision."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import PortingError
from porting_check_tensorflow.graph_body import Library
from porting_check_tensorflow.graph_loops import Loop
from porting_check_tensorflow.graph_parts import Operation, attributes_of
from porting_check_tensorflow.graph_program import Program
from porting_check_tensorflow.graph_run import Held, Runner, Watcher, execute

FLOAT, DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
HANDLES = frozenset(
    ["ReadVariableOp", "VarHandleOp", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"]
)
"""Operators on variables, which stay float32; what is read from them is widened afterwards."""

CONSTANTS = (
    "the graph stores its constants (epsilon, slopes) as float32, so that is what the run in float64 used"
)


def wide(tensor: Any) -> Any:
    """A float32 tensor in float64, with the same values; anything else as it is."""
    return tf.cast(tensor, tf.float64) if tensor.dtype == tf.float32 else tensor


def narrow(tensor: Any) -> Any:
    """The opposite of :func:`wide`, for an operator that has no kernel for float64."""
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor


class Widening(Watcher):
    """Constants and variables enter the run in float64."""

    def constant(self, name: str, tensor: Any) -> Held:
        """A constant of the graph."""
        return Held(wide(tensor))

    def held(self, name: str, tensor: Any) -> Held:
        """The value of a TensorFlow 1 variable."""
        return Held(wide(tensor))

    def read(self, name: str, handle: Held, tensor: Any) -> Held:
        """The value of a variable."""
        return Held(wide(tensor))


READS = frozenset({"ResourceGather", "ResourceGatherNd"})
"""Operators that read a part of a variable."""


class WideRunner(Runner):
    """Runs a graph of float32 in float64. ``islands`` are the operators that had to compute in float32."""

    def __init__(self, library: Library, held: Mapping[str, Any]) -> None:
        super().__init__(library, Widening(), held)
        self.islands: List[str] = []

    def _execute(self, operation: Operation, inputs: List[Held], name: str) -> List[Held]:
        """One operator, in double precision where it has a kernel for that."""
        real = any(value.tensor.dtype == tf.float64 for value in inputs)
        if any(value.tensor.dtype == tf.resource for value in inputs) and operation.op_type in READS:
            # A variable stays float32; reading it as anything else ends the process.
            read = super()._execute(operation, inputs, name)
            return [Held(wide(value.tensor)) for value in read]
        if operation.op_type in HANDLES or (not real and not _makes_float32(operation, self._library)):
            plain = [Held(narrow(v.tensor)) for v in inputs] if operation.op_type in HANDLES else inputs
            return super()._execute(operation, plain, name)
        try:
            found = self._doubled(operation, [value.tensor for value in inputs])
            if all(t.dtype != tf.float32 for t in found):
                return [Held(tensor) for tensor in found]
            self._island(operation, name)
            return [Held(wide(tensor)) for tensor in found]
        except (tf.errors.OpError, TypeError, ValueError, PortingError):
            outputs = super()._execute(operation, [Held(narrow(value.tensor)) for value in inputs], name)
            self._island(operation, name)
            return [Held(wide(value.tensor)) for value in outputs]

    def _doubled(self, operation: Operation, tensors: Sequence[Any]) -> List[Any]:
        if isinstance(operation, Loop):
            raise TypeError("a loop of TensorFlow 1 runs whole, in the types that it was made for")
        definition = self._library.definition(operation.op_type)
        attributes = attributes_of(operation, definition)
        if operation.op_type in FUSED and not attributes.get("is_training", True):
            return _batch_norm(tensors, attributes, operation.outputs)
        return execute(operation.op_type, operation.outputs, tensors, _double_types(attributes, definition))

    def _island(self, operation: Operation, name: str) -> None:
        text = f"{operation.op_type} in {name} has no kernel for float64 and computed in float32"
        if text not in self.islands:
            self.islands.append(text)


def _makes_float32(operation: Operation, library: Library) -> bool:
    """Whether an operator without real operands makes a float32 (a cast from integers, random numbers, a fill)."""
    if isinstance(operation, Loop):
        return False
    definition = library.definition(operation.op_type)
    kinds = {attribute.name for attribute in definition.attr if attribute.type in ("type", "list(type)")}
    found = attributes_of(operation, definition)
    return any(FLOAT in np.ravel(found.get(name) or []) for name in kinds)


def _double_types(attributes: Mapping[str, Any], definition: Any) -> Dict[str, Any]:
    """The attributes with every type float32 exchanged for float64."""
    made = dict(attributes)
    for attribute in definition.attr:
        name, value = str(attribute.name), made.get(str(attribute.name))
        if attribute.type == "type" and value == FLOAT:
            made[name] = DOUBLE
        elif attribute.type == "list(type)" and value is not None:
            made[name] = [DOUBLE if kind == FLOAT else kind for kind in value]
    return made


def _batch_norm(tensors: Sequence[Any], attributes: Mapping[str, Any], count: int) -> List[Any]:
    """Batch normalization in inference, for which TensorFlow has fused kernels of float32 only."""
    x, scale, offset, mean, variance = tensors[:5]
    if attributes.get("data_format", b"NHWC") in (b"NCHW", b"NCDHW"):
        shape = [1, -1] + [1] * (len(x.shape) - 2)
        moments = [tf.reshape(tensor, shape) for tensor in (mean, variance, offset, scale)]
    else:
        moments = [mean, variance, offset, scale]
    made = tf.nn.batch_normalization(x, *moments, attributes["epsilon"])
    return [made, mean, variance, mean, variance, tf.zeros([0], tf.float64)][:count]


def run_wide(made: Program, inputs: Mapping[str, Any]) -> Any:
    """The results of a program in float64 by path, and the notes on that run.

    Raises:
        RunError: an operator raised in float64 and in float32.
        InputError: inputs that the program does not take.
    """
    fed = made.fed(inputs)
    arguments = [Held(wide(fed[leaf.name])) if leaf.name in fed else None for leaf in made.leaves]
    arguments += [Held(tensor if tensor.dtype == tf.resource else wide(tensor)) for tensor in made.captured]
    runner = WideRunner(made.library, {name: wide(value) for name, value in made.held.items()})
    results = runner.run(made.body, arguments)
    outputs = {path: held.tensor for path, held in zip(made.paths, results) if not held.dead}
    return outputs, [CONSTANTS, *runner.islands]

"""What a graph says of itself before it runs: its weights, layouts of its inputs, training modes."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.adapter import InputSpec
from porting_check_tensorflow.graph_body import Body
from porting_check_tensorflow.graph_parts import BRANCHES, Operation, Ref
from porting_check_tensorflow.graph_program import Program
from porting_check_tensorflow.graph_run import called_function, inner_path
from porting_check_tensorflow.operators import PASS_THROUGH

SMALL = 64
"""Integer constants of at most this many elements are part of the code; floating ones only as scalars."""

CHANNELS = {
    **dict.fromkeys(
        "Conv2D DepthwiseConv2dNative MaxPool AvgPool FusedBatchNorm FusedBatchNormV2".split(), "data_format"
    ),
    **dict.fromkeys(
        "FusedBatchNormV3 Conv3D MaxPool3D AvgPool3D _FusedConv2D SpaceToDepth".split(), "data_format"
    ),
    **dict.fromkeys("ResizeBilinear ResizeNearestNeighbor ResizeBicubic ExtractImagePatches LRN".split(), ""),
}
"""Operators whose first input has channels, and the attribute that says where."""

KEEPS_AXES = PASS_THROUGH | frozenset(
    "Cast Add AddV2 Sub Mul Div RealDiv Maximum Minimum Neg Abs Sqrt Square Relu Pad PadV2 MirrorPad "
    "ReverseV2 ClipByValue Switch Merge PlaceholderWithDefault".split()
)
"""Operators whose output has the axes of each input of the same rank."""


def is_weight(dtype: Any, shape: Any) -> bool:
    """Whether a constant is a weight, not code: floats that are no scalars, long lists of integers."""
    size = int(np.prod(tuple(shape))) if len(shape) else 1
    kind = tf.as_dtype(dtype)
    if kind.is_floating or kind.is_complex:
        return len(shape) > 0 and size > 1
    return kind.is_integer and size > SMALL


def frozen_weights(program: Program) -> Iterator[Tuple[str, np.ndarray]]:
    """Constants that are weights, by their path, in every function that the graph calls."""
    for path, operation in _everywhere(program, program.body, ""):
        if operation.op_type == "Const":
            proto = operation.node.attr["value"].tensor
            shape = tuple(int(axis.size) for axis in proto.tensor_shape.dim)
            if is_weight(proto.dtype, shape):
                yield path + operation.name, np.array(tf.make_ndarray(proto))
    for name, tensor in program.held.items():
        yield name, np.array(tensor.numpy())
    for place, tensor in enumerate(program.captured):
        known = tensor.dtype not in (tf.resource, tf.variant, tf.string)
        if known and is_weight(tensor.dtype, tensor.shape):
            yield f"captured/{place}", np.array(tensor.numpy())


def _everywhere(program: Program, body: Body, path: str) -> Iterator[Tuple[str, Operation]]:
    """Every operation that can be entered, with what its name begins with."""
    for operation in body.operations:
        yield path, operation
        for function in _inner(program, operation):
            yield from _everywhere(program, program.library.body(function), inner_path(path, operation))


def _inner(program: Program, operation: Operation) -> List[str]:
    """The functions that a run may enter through an operation."""
    function = called_function(operation, program.library)
    if function is not None:
        return [function]
    if operation.op_type in BRANCHES:
        return [operation.function("then_branch"), operation.function("else_branch")]
    if operation.op_type in ("Case", "StatelessCase"):
        return [str(branch.name) for branch in operation.node.attr["branches"].list.func]
    return []


def training_names(program: Program) -> Tuple[str, ...]:
    """Batch normalizations that normalize by the batch's own moments, but for those on a branch that is never taken."""
    return tuple(
        path + operation.name
        for path, operation in _everywhere(program, program.body, "")
        if operation.op_type.startswith("FusedBatchNorm") and operation.node.attr["is_training"].b
        if path or not _never_taken(program.body, operation)
    )


def _never_taken(body: Body, operation: Operation) -> bool:
    """Whether an operation is on a branch of TensorFlow 1 that a constant (Keras' learning phase) turns off."""
    made = {other.name: other for other in body.operations}
    switches = [(made[ref.name], ref.index) for ref in operation.inputs if ref.name in made]
    for switch, side in switches:
        if switch.op_type not in ("Switch", "RefSwitch"):
            continue
        asked: Optional[Operation] = made.get(switch.inputs[1].name)
        while asked is not None and asked.op_type in ("Identity", "PlaceholderWithDefault"):
            asked = made.get(asked.inputs[0].name)
        if asked is not None and asked.op_type == "Const":
            return int(bool(tf.make_ndarray(asked.node.attr["value"].tensor))) != side
    return False


def input_facts(program: Program) -> List[InputSpec]:
    """Shape and dtype from the signature; layout and table size from the operators that read the input."""
    specs = []
    for leaf in program.leaves:
        shape = leaf.spec.shape
        sizes = None if shape.rank is None else tuple(shape.as_list())
        reader = _Reader(program)
        reader.follow(program.body, Ref(leaf.argument), 0 if sizes is None else len(sizes))
        specs.append(InputSpec(leaf.name, sizes, leaf.spec.dtype.name, reader.layout, reader.limit))
    return specs


class _Reader:
    """Follows an input to the first operator that says what its axes are, or how many rows its table has."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.layout = ""
        self.limit: Optional[int] = None

    def follow(self, body: Body, start: Ref, rank: int, sizes: Optional[Dict[Ref, int]] = None) -> None:
        """Walk through a body in order; ``sizes`` are the rows of tables that came in as arguments."""
        same = {start}
        rows = dict(sizes or self._captured_rows(body))
        for operation in body.operations:
            self._rows(operation, rows)
            hits = [index for index, ref in enumerate(operation.inputs) if ref in same]
            if not hits:
                continue
            self._layout(operation, hits, rank)
            self._limit(operation, hits, rows)
            for function in _inner(self._program, operation):
                self._enter(function, operation, same, rank, rows)
            if operation.op_type in KEEPS_AXES:
                same.update(Ref(operation.name, index) for index in range(operation.outputs))

    def _enter(self, function: str, operation: Operation, same: Any, rank: int, rows: Dict[Ref, int]) -> None:
        inner = self._program.library.body(function)
        given = operation.inputs[len(operation.inputs) - len(inner.arguments) :]
        handed = {Ref(name): rows[ref] for name, ref in zip(inner.arguments, given) if ref in rows}
        for name, ref in zip(inner.arguments, given):
            if ref in same:
                self.follow(inner, Ref(name), rank, handed or {Ref(""): 0})

    def _captured_rows(self, body: Body) -> Dict[Ref, int]:
        """Rows of the variables that the body captured."""
        names = body.arguments[len(body.arguments) - len(self._program.captured) :]
        variables = {id(v.handle): v for v in self._program.variables.values()}
        found = {}
        for name, tensor in zip(names, self._program.captured):
            variable = variables.get(id(tensor))
            if variable is not None and len(variable.shape):
                found[Ref(name)] = int(variable.shape[0])
        return found

    @staticmethod
    def _rows(operation: Operation, rows: Dict[Ref, int]) -> None:
        """Remember how many rows a table has: a constant, or a variable that is read."""
        if operation.op_type == "Const":
            dims = operation.node.attr["value"].tensor.tensor_shape.dim
            if len(dims):
                rows[Ref(operation.name)] = int(dims[0].size)
        elif operation.op_type in ("Identity", "ReadVariableOp") and operation.inputs[0] in rows:
            rows[Ref(operation.name)] = rows[operation.inputs[0]]

    def _layout(self, operation: Operation, hits: List[int], rank: int) -> None:
        if operation.op_type not in CHANNELS or hits[0] != 0 or self.layout or rank not in (4, 5):
            return
        attribute = CHANNELS[operation.op_type]
        written = operation.node.attr[attribute].s.decode() if attribute else ""
        first = written.startswith("NC")
        spatial = "DHW" if rank == 5 else "HW"
        self.layout = f"NC{spatial}" if first else f"N{spatial}C"

    def _limit(self, operation: Operation, hits: List[int], rows: Dict[Ref, int]) -> None:
        if operation.op_type in ("Gather", "GatherV2", "ResourceGather") and 1 in hits:
            found = rows.get(operation.inputs[0])
            if found is not None and (self.limit is None or found < self.limit):
                self.limit = found

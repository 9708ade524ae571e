"""What a graph says of its inputs before it runs."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from porting_check.neutral.adapter import InputSpec
from porting_check.neutral.errors import InputError
from porting_check_onnxruntime.checks import all_nodes
from porting_check_onnxruntime.compat import dtype_of_element
from porting_check_onnxruntime.draft import ACTIVATION
from porting_check_onnxruntime.prepared import Prepared

KERNELS = {"Conv": 1, "ConvTranspose": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operators with channels, and which of their inputs has as many axes as the data."""

POOLS = ("MaxPool", "AveragePool", "LpPool")

KEEPS_AXES = frozenset(
    "Identity Cast Add Sub Mul Div Pad Clip Relu Neg Abs Min Max Sqrt Pow QuantizeLinear DequantizeLinear Concat Slice "
    "BatchNormalization LeakyRelu PRelu Sigmoid Tanh Dropout Resize Upsample".split()
)
"""Operators whose output has the axes of their inputs."""

INTEGER = {"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Transpose"}
"""Operators that an index passes through."""


def input_specs(prepared: Prepared) -> Tuple[InputSpec, ...]:
    """Name, shape, dtype, layout of every input that must be given; the size of the table that it is looked up in."""
    graph = prepared.proto.graph
    given = {tensor.name for tensor in graph.initializer}
    layouts, limits = _layouts(prepared, graph), _limits(prepared, graph)
    specs = []
    for value in graph.input:
        if value.name in given or not value.type.HasField("tensor_type"):
            continue
        shape = _shape(value)
        layout = layouts.get(value.name, "")
        fits = shape is None or len(shape) == len(layout)
        dtype = dtype_of_element(value.type.tensor_type.elem_type).name
        specs.append(InputSpec(value.name, shape, str(dtype), layout if fits else "", limits.get(value.name)))
    return tuple(specs)


def checked_feeds(prepared: Prepared, inputs: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """The inputs, if the model takes them: names, ranks, sizes and types.

    Positional inputs (``"0"``, ``"1"``) go to the model's inputs in order.

    Raises:
        InputError: another name, rank, size or type; says what was found and expected.
    """
    graph = prepared.proto.graph
    given = {tensor.name for tensor in graph.initializer}
    declared = {value.name: value for value in graph.input}
    names = [name for name in declared if name not in given]
    if set(inputs) - set(declared) and all(name.isdigit() for name in inputs) and len(inputs) == len(names):
        inputs = {name: inputs[str(place)] for place, name in enumerate(names)}
    missing, unknown = [n for n in names if n not in inputs], [n for n in inputs if n not in declared]
    if missing or unknown:
        raise InputError(
            f"the model takes the inputs {', '.join(names) or 'none'}; found {', '.join(inputs) or 'none'}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
        )
    return {name: _checked(name, np.asarray(value), declared[name]) for name, value in inputs.items()}


def _checked(name: str, array: np.ndarray, declared: Any) -> np.ndarray:
    if not declared.type.HasField("tensor_type"):
        raise InputError(
            f"input {name!r} of the model is a sequence, map or optional; only tensors can be given"
        )
    dtype = dtype_of_element(declared.type.tensor_type.elem_type).name
    if array.dtype.name != dtype:
        raise InputError(f"input {name!r} has dtype {array.dtype.name}; the model takes {dtype}")
    shape = _shape(declared)
    if shape is not None and (
        len(shape) != array.ndim or any(size not in (None, found) for size, found in zip(shape, array.shape))
    ):
        said = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise InputError(f"input {name!r} has shape {array.shape}; the model takes {said}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _shape(value: Any) -> Optional[Tuple[Optional[int], ...]]:
    """Sizes, ``None`` for those that are named or unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(int(axis.dim_value) if axis.dim_value > 0 else None for axis in kind.shape.dim)


def _layouts(prepared: Prepared, graph: Any) -> Dict[str, str]:
    """The layout of every value that follows from what reads it."""
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    wanted: Dict[str, str] = {}
    for node in reversed([node for node in graph.node if node.input]):
        layout = _own_layout(node, ranks)
        if layout:
            wanted.setdefault(node.input[0], layout)
            continue
        after = wanted.get(node.output[0], "")
        if after and node.op_type == "Transpose":
            before = _before(node, after)
            if before:
                wanted.setdefault(node.input[0], before)
        elif after and node.op_type in KEEPS_AXES:
            for name in node.input:
                if ranks.get(name) is None:
                    wanted.setdefault(name, after)
    return wanted


def _own_layout(node: Any, ranks: Dict[str, int]) -> str:
    if node.op_type in KERNELS and len(node.input) > KERNELS[node.op_type]:
        return ACTIVATION.get(ranks.get(node.input[KERNELS[node.op_type]], 0), "")
    if node.op_type in POOLS:
        kernel = next(
            (attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"), ()
        )
        return ACTIVATION.get(len(kernel) + 2, "")
    return ""


def _before(node: Any, after: str) -> str:
    """The layout of what a Transpose reads, from that of what it makes."""
    order: List[int] = next(
        (list(a.ints) for a in node.attribute if a.name == "perm"), list(range(len(after)))[::-1]
    )
    if len(order) != len(after):
        return ""
    return "".join(after[order.index(axis)] for axis in range(len(order)))


def _limits(prepared: Prepared, graph: Any) -> Dict[str, int]:
    """Sizes of the tables that values are looked up in."""
    rows = {tensor.name: int(tensor.dims[0]) for tensor in graph.initializer if tensor.dims}
    found: Dict[str, int] = {}
    for node in reversed(list(all_nodes(graph))):
        if node.op_type == "Gather" and node.input[0] in rows:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            if axis == 0:
                name = node.input[1]
                found[name] = min(rows[node.input[0]], found.get(name, rows[node.input[0]]))
        elif node.op_type in INTEGER and node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found

"""Operations of a graph and the names of their tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
"""Operators that call a function of the graph's library, named by their attribute ``f``."""

BRANCHES = ("If", "StatelessIf")
"""Operators that call one of two functions."""

ARGUMENTS = ("Placeholder", "_Arg")
"""Operators whose values come from outside."""

WRITERS: Tuple[str, ...] = (
    "Assign",
    "ResourceApply",
    "ResourceSparseApply",
    "ResourceScatter",
    "ResourceStridedSliceAssign",
    "RngReadAndSkip",
    "StatefulUniform",
    "StatefulStandardNormal",
    "StatefulTruncatedNormal",
    "StatefulRandomBinomial",
)
"""How the names of operators begin that write into variables."""


@dataclass(frozen=True)
class Ref:
    """One output of one operation, counted over all its outputs."""

    name: str
    index: int = 0


@dataclass
class Operation:
    """One node of a graph or function.

    Attributes:
        name: as in the graph.
        op_type: TensorFlow's operator type, or the name of a function (TensorFlow 1 calls).
        inputs: data inputs in order.
        controls: names of operations that must have run before.
        node: the NodeDef, for its attributes.
        outputs: number of outputs.
    """

    name: str
    op_type: str
    inputs: Tuple[Ref, ...]
    controls: Tuple[str, ...]
    node: Any
    outputs: int

    @property
    def before(self) -> Iterable[str]:
        """Names of all operations that must have run before."""
        return [ref.name for ref in self.inputs] + list(self.controls)

    def function(self, attribute: str = "f") -> str:
        """The name of the function in an attribute."""
        return str(self.node.attr[attribute].func.name)


def graph_ref(text: str) -> Ref:
    """A tensor's name in a GraphDef.

    Example:
        >>> graph_ref("conv/BiasAdd"), graph_ref("split:2")
        (Ref(name='conv/BiasAdd', index=0), Ref(name='split', index=2))
    """
    name, _, index = text.partition(":")
    return Ref(name, int(index or 0))


def is_back_edge(operation: Operation) -> bool:
    """Whether an operation leads from the end of a TensorFlow 1 loop back to its beginning."""
    return operation.op_type in ("NextIteration", "RefNextIteration")


def named_functions(operation: Operation) -> Set[str]:
    """Names of all functions in an operation's attributes, and its own type, which may be one."""
    values = operation.node.attr.values()
    lone = {str(value.func.name) for value in values if value.HasField("func")}
    listed = {str(function.name) for value in values for function in value.list.func}
    return lone | listed | {operation.op_type}


def attributes_of(operation: Operation, definition: Any) -> Dict[str, Any]:
    """Attributes as Python values: bytes, numbers, lists, shapes as lists; absent ones by their default."""
    found = {}
    for attribute in definition.attr:
        name = str(attribute.name)
        if name in operation.node.attr:
            found[name] = _plain(operation.node.attr[name])
        elif attribute.HasField("default_value"):
            found[name] = _plain(attribute.default_value)
    return found


def _plain(value: Any) -> Any:
    """One AttrValue."""
    kind = value.WhichOneof("value")
    if kind == "shape":
        return _shape(value.shape)
    if kind == "list":
        return _plain_list(value.list)
    if kind == "func":
        return value.func
    return None if kind is None else getattr(value, kind)


def _plain_list(values: Any) -> List[Any]:
    for kind in ("s", "i", "f", "b", "type", "tensor", "func"):
        if len(getattr(values, kind)):
            return list(getattr(values, kind))
    return [_shape(shape) for shape in values.shape]


def _shape(shape: Any) -> Optional[List[Optional[int]]]:
    if shape.unknown_rank:
        return None
    return [None if axis.size < 0 else int(axis.size) for axis in shape.dim]

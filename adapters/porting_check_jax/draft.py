"""One executed primitive or layer while it is turned into nodes.

A describer is a function of a call and of a :class:`Draft`; arrays among the arguments of the call are
:class:`Ref`. It names the arrays that the nodes read (``port``, ``operand``), makes constants of what is part
of the operator, adds nodes, and gives the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.node import Node
from porting_check.neutral.trace import Port

SMALL = 64
"""Arrays of at most this many elements that belong to the code become constants of the record."""

ONNX_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}
"""``onnx.TensorProto.DataType`` by numpy's name, for the ``to`` of Cast."""

FLOATS = ("float", "bfloat")
"""How the names of the real floating dtypes begin."""


class Undescribed(Exception):  # noqa: N818 a way out, not a failure
    """This call cannot be put into nodes; the text completes the sentence "jax.lax.x …"."""


@dataclass(frozen=True)
class Ref:
    """An array of the run: metadata, and which value of the trace it is.

    ``fixed`` holds the value of a small array that belongs to the code (a literal, captured, or computed from
    nothing but such).
    """

    key: str
    shape: Tuple[int, ...]
    dtype: np.dtype
    fixed: Optional[np.ndarray] = None

    @property
    def ndim(self) -> int:
        """The rank."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def floating(self) -> bool:
        """Whether the dtype is a real floating one (bfloat16 and float8 too)."""
        return self.dtype.name.startswith(FLOATS)

    @property
    def parameter(self) -> bool:
        """Whether this is a parameter of the model."""
        return self.key.startswith("parameter:")


@dataclass(frozen=True)
class Description:
    """A finished description: what a record holds besides its name."""

    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]
    parameters: Tuple[Port, ...]
    nodes: Tuple[Node, ...]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)


class Draft:
    """A description that grows.

    Example:
        >>> x, y = (Ref(key, (2, 3), np.dtype(np.float32)) for key in ("input:0", "relu:0"))
        >>> draft = Draft([y])
        >>> draft.give(draft.node("Relu", draft.port(x)))
        >>> [str(node) for node in draft.finish().nodes]
        ['Relu()']

    Attributes:
        outputs: the arrays that the call made, flattened.
        owner: class name of the innermost layer, ``""`` outside of layers.
    """

    def __init__(self, outputs: Sequence[Ref], owner: str = "") -> None:
        self.outputs = list(outputs)
        self.owner = owner
        self._ports: Dict[Tuple[str, str, str], Port] = {}
        self._constants: Dict[str, np.ndarray] = {}
        self._nodes: List[Node] = []
        self._given: List[Tuple[str, str, str]] = []
        self._made = 0

    @property
    def out(self) -> Ref:
        """The first output."""
        return self.outputs[0]

    def refuse(self, reason: str) -> NoReturn:
        """Leave this call without a description; ``reason`` completes the sentence "jax.lax.x …"."""
        raise Undescribed(reason)

    # Reading.

    def port(self, ref: Ref, role: str = "x", layout: str = "", canonical: str = "") -> str:
        """Let the nodes read an array; the canonical layout is the native one unless given.

        Raises:
            Undescribed: it is no array.
        """
        if not isinstance(ref, Ref):
            self.refuse(f"with {type(ref).__name__} for {role} is not described")
        identity = (ref.key, layout, canonical or layout)
        if identity not in self._ports:
            self._ports[identity] = Port(self._unique(role), ref.key, layout, canonical or layout)
        return self._ports[identity].name

    def operand(self, value: Any, role: str = "x", dtype: Optional[np.dtype] = None) -> str:
        """An array or a number as an operand of a dtype; another dtype is cast."""
        dtype = dtype if dtype is not None else (value.dtype if isinstance(value, Ref) else None)
        if not isinstance(value, Ref):
            return self.scalar(value, role, np.dtype(np.float32) if dtype is None else dtype)
        if value.fixed is not None and value.numel <= SMALL:
            return self.constant(
                value.fixed.astype(host_dtype(value.dtype if dtype is None else dtype)), role
            )
        return self.cast(self.port(value, role), value.dtype, dtype)

    def cast(self, name: str, found: np.dtype, wanted: Optional[np.dtype]) -> str:
        """A value in the wanted dtype."""
        if wanted is None or wanted == found:
            return name
        if wanted.name not in ONNX_TYPES or found.name not in ONNX_TYPES:
            self.refuse(f"from {found.name} to {wanted.name} is not described")
        return self.node("Cast", name, to=ONNX_TYPES[wanted.name])

    def scalar(self, value: Any, role: str, dtype: np.dtype) -> str:
        """A number as a constant of a dtype."""
        return self.constant(np.asarray(value).astype(host_dtype(dtype)), role)

    def integers(self, values: Any, role: str = "axes") -> str:
        """Integers (axes, a shape, pads) as an int64 constant."""
        return self.constant(np.asarray(values, dtype=np.int64), role)

    def constant(self, array: np.ndarray, role: str = "constant") -> str:
        """An array that is part of the operator; Python integers and lists of them become int64."""
        name = self._unique(role)
        self._constants[name] = np.array(array)
        return name

    def _unique(self, role: str) -> str:
        taken = {port.name for port in self._ports.values()} | set(self._constants)
        name, count = role, 1
        while name in taken:
            name, count = f"{role}_{count}", count + 1
        return name

    # Computing.

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns its name."""
        return self.nodes(1, op_type, *inputs, **attributes)[0]

    def nodes(
        self, count: int, op_type: str, *inputs: str, domain: str = "", **attributes: Any
    ) -> Tuple[str, ...]:
        """Add a node with several outputs; returns their names."""
        names = tuple(f"_{self._made + place + 1}" for place in range(count))
        self._made += count
        self._nodes.append(Node(op_type, inputs, names, attributes, domain))
        return names

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """A Reshape to an explicit shape; empty axes are taken literally."""
        return self.node("Reshape", name, self.integers(list(shape), "shape"), allowzero=int(0 in shape))

    # Giving.

    def give(self, name: str, layout: str = "", canonical: str = "") -> None:
        """Make a value the next output; an input as it is passes through an Identity."""
        produced = {output for node in self._nodes for output in node.outputs}
        if name not in produced or name in [given for given, _, _ in self._given]:
            name = self.node("Identity", name)
        self._given.append((name, layout, canonical or layout))

    def give_as(self, name: str, found: np.dtype, layout: str = "", canonical: str = "") -> None:
        """Give a value in the dtype of the next output."""
        self.give(self.cast(name, found, self.outputs[len(self._given)].dtype), layout, canonical)

    def finish(self) -> Description:
        """The description; a lone output is called ``y``, several ``y0``, ``y1`` and so on.

        Raises:
            Undescribed: the describer gave another number of outputs than JAX did.
        """
        if len(self._given) != len(self.outputs):
            self.refuse(f"with {len(self.outputs)} outputs is not described")
        names, ports = {}, []
        for place, (given, layout, canonical) in enumerate(self._given):
            names[given] = "y" if len(self._given) == 1 else f"y{place}"
            ports.append(Port(names[given], self.outputs[place].key, layout, canonical))
        nodes = [_renamed(node, names) for node in self._nodes]
        read = {name for node in nodes for name in node.inputs}
        used = [port for port in self._ports.values() if port.name in read]
        return Description(
            tuple(port for port in used if not port.value.startswith("parameter:")),
            tuple(ports),
            tuple(port for port in used if port.value.startswith("parameter:")),
            tuple(nodes),
            {name: array for name, array in self._constants.items() if name in read},
        )


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with some names replaced."""
    if names.keys().isdisjoint(node.inputs + node.outputs):
        return node
    inputs, outputs = (tuple(names.get(name, name) for name in side) for side in (node.inputs, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs)


def host_dtype(dtype: np.dtype) -> Any:
    """The numpy dtype of constants; float32 for bfloat16 and float8, which it holds exactly.

    Example:
        >>> host_dtype(np.dtype(np.int32)).name
        'int32'
    """
    return np.dtype(np.float32) if dtype.kind == "V" or dtype.name.startswith(("bfloat", "float8")) else dtype


def axis(dim: int, ndim: int) -> int:
    """An axis counted from the front.

    Example:
        >>> axis(-1, 4), axis(0, 0)
        (3, 0)
    """
    return int(dim) % max(ndim, 1)


def axes(dims: Any, ndim: int) -> List[int]:
    """Axes counted from the front; ``None`` is all of them.

    Example:
        >>> axes((-1, 0), 3), axes(None, 2)
        ([2, 0], [0, 1])
    """
    if dims is None:
        return list(range(ndim))
    return [axis(dim, ndim) for dim in (dims if isinstance(dims, (list, tuple)) else (dims,))]


def spread(value: Any, count: int) -> Tuple[int, ...]:
    """An integer, or a list of one or of ``count`` of them, for every axis.

    Example:
        >>> spread(2, 3), spread([2], 2), spread((1, 2), 2)
        ((2, 2, 2), (2, 2), (1, 2))
    """
    values = tuple(int(item) for item in value) if isinstance(value, (list, tuple)) else (int(value),)
    return values * count if len(values) == 1 else values

"""One executed TensorFlow operator while it is turned into nodes, and the table of describers.

A describer is a function of a :class:`Call`. It names the tensors that the nodes read (``port``,
``operand``), makes constants of those whose values are part of the operator (axes, shapes, paddings), adds
nodes, and gives the outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from porting_check.neutral.node import Node
from porting_check_tensorflow.described import Described, Operand, PortSpec

SMALL = 64
"""Fixed operands of at most this many elements are constants of the record, larger ones inputs."""

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
    "float8_e5m2": 19,
}
"""ONNX ``TensorProto.DataType`` by numpy's name: the ``to`` of Cast, and the dtypes that nodes can hold."""


class UndescribedError(Exception):
    """This call cannot be put into nodes; the text completes the sentence "tf.raw_ops.X …"."""


Describer = Callable[["Call"], None]
TABLE: Dict[str, Describer] = {}
"""Describers by TensorFlow operator type."""


def describes(*op_types: str) -> Callable[[Describer], Describer]:
    """Enter a describer into the table under these operator types."""

    def enter(describer: Describer) -> Describer:
        for op_type in op_types:
            TABLE[op_type] = describer
        return describer

    return enter


class Call:
    """One executed operator, and the description that grows from it.

    Example:
        >>> x = Operand((2, 3), "float32", lambda: np.ones((2, 3), np.float32))
        >>> call = Call("Relu", {}, [x], [x])
        >>> call.give(call.node("Relu", call.port(0)))
        >>> print(call.described().nodes[0])
        Relu()
    """

    def __init__(
        self,
        op_type: str,
        attributes: Mapping[str, Any],
        inputs: Sequence[Operand],
        outputs: Sequence[Operand],
    ) -> None:
        self.op_type = op_type
        self.attributes = attributes
        self.inputs = inputs
        self.outputs = outputs
        self._ports: List[PortSpec] = []
        self._given: List[Tuple[str, PortSpec]] = []
        self._constants: Dict[str, np.ndarray] = {}
        self._nodes: List[Node] = []
        self._made = 0

    # What the operator was called with.

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        return str(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A float attribute as the shortest decimal of its float32 value: 0.001, not 0.001000000047."""
        return float(str(np.float32(self.attributes.get(name, default))))

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def flag(self, name: str) -> bool:
        """A boolean attribute, false when absent."""
        return bool(self.attributes.get(name, False))

    def integers(self, name: str, default: Sequence[int] = ()) -> Tuple[int, ...]:
        """A list of integers."""
        return tuple(int(item) for item in self.attributes.get(name, default))

    def seen(self, index: int) -> Tuple[int, ...]:
        """The value of an integer input (an axis, a shape, paddings), flattened."""
        return tuple(int(item) for item in np.asarray(self.inputs[index].value).reshape(-1))

    def axis(self, index: int, rank: int) -> int:
        """The value of a scalar input that is an axis, counted from the front."""
        return self.seen(index)[0] % max(rank, 1)

    def shape(self, index: int = 0) -> Tuple[int, ...]:
        """The shape of an input."""
        return tuple(self.inputs[index].shape)

    def rank(self, index: int = 0) -> int:
        """The rank of an input."""
        return len(self.inputs[index].shape)

    def dtype(self, index: int = 0) -> Any:
        """The numpy dtype of an input."""
        return np.dtype(tf.as_dtype(self.inputs[index].dtype).as_numpy_dtype)

    def floating(self, index: int = 0) -> bool:
        """Whether an input is of a floating type."""
        return bool(tf.as_dtype(self.inputs[index].dtype).is_floating)

    def refuse(self, reason: str) -> NoReturn:
        """Leave this call opaque: ``reason`` completes the sentence "tf.raw_ops.X …"."""
        raise UndescribedError(reason)

    # The description.

    def port(self, index: int, name: str = "x", layout: str = "", canonical: str = "") -> str:
        """Let the nodes read an input under this name."""
        self._ports.append(PortSpec(index, name, layout, canonical))
        return name

    def operand(self, index: int, name: str = "x") -> str:
        """An input as a port, or as a constant when it is small and fixed (the 0.5 in ``0.5 * x``)."""
        operand = self.inputs[index]
        if operand.fixed and not operand.parameter and int(np.prod(operand.shape)) <= SMALL:
            return self.constant(operand.value, name)
        return self.port(index, name)

    def constant(self, value: Any, name: str = "constant") -> str:
        """A constant; Python integers and sequences of them become int64. Names are made unique."""
        unique, count = name, 1
        while unique in self._constants or any(port.name == unique for port in self._ports):
            unique, count = f"{name}_{count}", count + 1
        plain = isinstance(value, (int, list, tuple)) and not isinstance(value, bool)
        self._constants[unique] = np.array(value, np.int64) if plain else np.array(value)
        return unique

    def scalar(self, value: float, name: str, like: int = 0) -> str:
        """A scalar constant of the same dtype as an input."""
        return self.constant(np.asarray(value, self.dtype(like)), name)

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.split(op_type, 1, *inputs, **attributes)[0]

    def split(self, op_type: str, count: int, *inputs: str, **attributes: Any) -> Tuple[str, ...]:
        """Add a node with several outputs; returns their names."""
        names = tuple(f"_{self._made + place + 1}" for place in range(count))
        self._made += count
        self._nodes.append(Node(op_type, inputs, names, attributes))
        return names

    def give(self, value: str, index: int = 0, layout: str = "", canonical: str = "") -> None:
        """Make a node's output (an input passes through an Identity) the operator's output ``index``."""
        taken = [given for given, _ in self._given]
        produced = {output for node in self._nodes for output in node.outputs}
        if value in taken or value not in produced:
            value = self.node("Identity", value)
        self._given.append((value, PortSpec(index, "", layout, canonical)))

    def described(self) -> Described:
        """The finished description; a lone output is called ``y``, several are ``y0``, ``y1`` and so on."""
        nodes, ports = self._nodes, []
        for value, port in self._given:
            name = "y" if len(self._given) == 1 else f"y{port.index}"
            nodes = [_renamed(node, value, name) for node in nodes]
            ports.append(replace(port, name=name))
        return Described(tuple(self._ports), tuple(ports), tuple(nodes), dict(self._constants))


def _renamed(node: Node, old: str, new: str) -> Node:
    """The node with one name replaced."""
    inputs = tuple(new if name == old else name for name in node.inputs)
    outputs = tuple(new if name == old else name for name in node.outputs)
    return replace(node, inputs=inputs, outputs=outputs)


def channel_layouts(rank: int, data_format: str) -> Tuple[str, str]:
    """Native and canonical layout of an activation of this rank in a TensorFlow data format.

    Example:
        >>> channel_layouts(4, "NHWC"), channel_layouts(5, "NCDHW")
        (('NHWC', 'NCHW'), ('NCDHW', 'NCDHW'))

    Raises:
        UndescribedError: a data format of vectorised channels (``NCHW_VECT_C``).
    """
    spatial = {3: "L", 4: "HW", 5: "DHW"}.get(rank)
    known = data_format in ("NHWC", "NDHWC", "NCHW", "NCDHW", "NWC", "NCW")
    if spatial is None or not known:
        raise UndescribedError(f"with data_format {data_format} on a tensor of rank {rank} is not described")
    native = f"NC{spatial}" if data_format.startswith("NC") else f"N{spatial}C"
    return native, f"NC{spatial}"


def plain_attributes(attributes: Union[Mapping[str, Any], Sequence[Any], None]) -> Dict[str, Any]:
    """Attributes as plain Python values, from a mapping or the flat tuple that operator callbacks get.

    (TensorFlow gives ``None`` to callbacks of operators that have no attributes.)

    Bytes become text, dtypes their names, shapes and lists tuples.

    Example:
        >>> plain_attributes(("padding", b"SAME", "strides", [1, 2, 2, 1]))
        {'padding': 'SAME', 'strides': (1, 2, 2, 1)}
    """
    attributes = () if attributes is None else attributes
    pairs = attributes.items() if isinstance(attributes, Mapping) else zip(attributes[::2], attributes[1::2])
    return {_text(name): _plain(value) for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, tf.DType):
        return value.name
    if isinstance(value, tf.TensorShape):
        return None if value.rank is None else tuple(value.as_list())
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return value


def refused_dtype(operands: Sequence[Operand]) -> Optional[str]:
    """The first dtype among these that nodes cannot hold: complex, string, resource, quantized."""
    return next((operand.dtype for operand in operands if operand.dtype not in ONNX_TYPES), None)

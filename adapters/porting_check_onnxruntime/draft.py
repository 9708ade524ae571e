"""One node of an ONNX graph while it is put into the neutral language: nodes of opset 24, all attributes explicit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.node import Node

SMALL = 64
"""Fixed tensors of at most this many elements become constants of the record."""

SPATIAL = {1: "L", 2: "HW", 3: "DHW"}
ACTIVATION = {2: "NC", 3: "NCL", 4: "NCHW", 5: "NCDHW"}
"""Layout of an activation by rank: ONNX is channel-first throughout."""


class Undescribed(Exception):  # noqa: N818 a way out, not a failure
    """This node cannot be put into the neutral language; the text completes the sentence "Loop …"."""


@dataclass(frozen=True)
class Operand:
    """One input or output of a node.

    ``fixed``: computed neither from the model's inputs nor from its parameters, so it is part of the code (a
    shape, an axis, the ``0.5`` in ``0.5 * x``). ``parameter``: a weight.

    Example:
        >>> Operand("axes", (2,), "int64", lambda: np.array([1, 2]), fixed=True).value.tolist()
        [1, 2]
    """

    name: str
    shape: Tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]
    fixed: bool = False
    parameter: bool = False

    @property
    def value(self) -> np.ndarray:
        """The tensor itself."""
        return self.read()

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class PortSpec:
    """How one value reaches the nodes: its place among the operands, its name there, and its layouts."""

    index: int
    name: str
    layout: str = ""
    canonical: str = ""


@dataclass(frozen=True)
class Described:
    """A node of the graph in the neutral language."""

    inputs: Tuple[PortSpec, ...]
    outputs: Tuple[PortSpec, ...]
    nodes: Tuple[Node, ...]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)


class Draft:
    """A description that grows.

    Example:
        >>> x = Operand("x", (2, 3), "float32", lambda: np.zeros((2, 3), np.float32))
        >>> draft = Draft("Relu", "", 13, {}, [x], [x])
        >>> draft.give(draft.node("Relu", draft.port(0)))
        >>> [str(node) for node in draft.finish().nodes]
        ['Relu()']

    Attributes:
        op_type: the operator.
        domain: its domain.
        opset: version of the operator set that the model imports for it.
        attributes: as the model has them.
        inputs: operands by place, ``None`` where absent.
        outputs: likewise.
    """

    def __init__(
        self,
        op_type: str,
        domain: str,
        opset: int,
        attributes: Mapping[str, Any],
        inputs: Sequence[Optional[Operand]],
        outputs: Sequence[Optional[Operand]],
    ) -> None:
        self.op_type, self.domain, self.opset = op_type, domain, opset
        self.attributes = dict(attributes)
        self.inputs, self.outputs = list(inputs), list(outputs)
        self._ports: Dict[Tuple[int, str, str], PortSpec] = {}
        self._constants: Dict[str, np.ndarray] = {}
        self._nodes: List[Node] = []
        self._given: List[Tuple[int, str, str, str]] = []
        self._made = 0

    def refuse(self, reason: str) -> NoReturn:
        """Leave this node opaque; ``reason`` completes the sentence "Loop …"."""
        raise Undescribed(reason)

    # Reading.

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the model's node."""
        return self.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Operand:
        """An input that must be there.

        Raises:
            Undescribed: it is absent.
        """
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            self.refuse(f"without input {index} is not described")
        return found

    def value(self, index: int, what: str) -> Optional[np.ndarray]:
        """The value of an input that belongs to the code; ``None`` where it is absent.

        Raises:
            Undescribed: it depends on the model's input.
        """
        if not self.has(index):
            return None
        operand = self.input(index)
        if not operand.fixed and not operand.parameter:
            self.refuse(f"with {what} that are computed from the input is not described")
        return np.asarray(operand.value)

    def port(self, index: int, role: str = "x", layout: str = "", canonical: str = "") -> str:
        """Let the nodes read an input; ``""`` where it is absent. Small fixed tensors become constants."""
        if not self.has(index):
            return ""
        operand = self.input(index)
        if operand.fixed and operand.size <= SMALL and not layout:
            return self.constant(operand.value, role)
        identity = (index, layout, canonical or layout)
        if identity not in self._ports:
            self._ports[identity] = PortSpec(index, self._unique(role), layout, canonical or layout)
        return self._ports[identity].name

    def activation(self, index: int = 0) -> str:
        """An input with channels, in the layout that ONNX has them in."""
        return self.port(index, "x", ACTIVATION.get(self.input(index).rank, ""))

    def constant(self, array: Any, role: str = "constant") -> str:
        """An array that is part of the operator."""
        name = self._unique(role)
        self._constants[name] = np.array(array)
        return name

    def integers(self, values: Any, role: str = "axes") -> str:
        """Integers (axes, a shape, pads) as an int64 constant."""
        return self.constant(np.asarray(values, dtype=np.int64), role)

    def like(self, value: Any, index: int, role: str) -> str:
        """A number in the dtype of an input."""
        return self.constant(np.asarray(value).astype(self.input(index).value.dtype), role)

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

    def nodes(self, count: int, op_type: str, *inputs: str, **attributes: Any) -> Tuple[str, ...]:
        """Add a node with several outputs; returns their names."""
        names = tuple(f"_{self._made + place + 1}" for place in range(count))
        self._made += count
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        self._nodes.append(Node(op_type, tuple(given), names, attributes))
        return names

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """A Reshape to an explicit shape; empty axes are taken literally."""
        return self.node("Reshape", name, self.integers(list(shape), "shape"), allowzero=int(0 in shape))

    # Giving.

    def give(self, name: str, layout: str = "", canonical: str = "", index: int = 0) -> None:
        """Make a value an output; an input as it is passes through an Identity."""
        if index >= len(self.outputs) or self.outputs[index] is None:
            return
        produced = {output for node in self._nodes for output in node.outputs}
        if name not in produced or name in [given for _, given, _, _ in self._given]:
            name = self.node("Identity", name)
        self._given.append((index, name, layout, canonical or layout))

    def give_activation(self, name: str, index: int = 0) -> None:
        """Make a value with channels an output."""
        found = self.outputs[index] if index < len(self.outputs) else None
        if found is not None:
            self.give(name, ACTIVATION.get(found.rank, ""), index=index)

    def finish(self) -> Described:
        """The description; a lone output is called ``y``, several ``y0``, ``y1`` and so on.

        Raises:
            Undescribed: an output of the model's node was not given.
        """
        lacking = [
            i for i, o in enumerate(self.outputs) if o and i not in [given[0] for given in self._given]
        ]
        if lacking:
            self.refuse(f"with output {lacking[0]} is not described")
        names, ports = {}, []
        for place, (index, given, layout, canonical) in enumerate(self._given):
            names[given] = "y" if len(self._given) == 1 else f"y{place}"
            ports.append(PortSpec(index, names[given], layout, canonical))
        nodes = [_renamed(node, names) for node in self._nodes]
        read = {name for node in nodes for name in node.inputs}
        used = tuple(port for port in self._ports.values() if port.name in read)
        constants = {name: array for name, array in self._constants.items() if name in read}
        return Described(used, tuple(ports), tuple(nodes), constants)


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(
        node,
        inputs=tuple(names.get(name, name) for name in node.inputs),
        outputs=tuple(names.get(name, name) for name in node.outputs),
    )

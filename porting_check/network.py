"""A network in the neutral language: written with nodes, read from an ONNX file, or lifted from a recorded model.

All three become a trace whose records carry nodes; its values are the inputs and the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.neutral.errors import InputError, ModelError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, Port, Record, Trace, parameter_key
from porting_check.recording import Layouts, Progress, from_files, quiet, record

NEUTRAL = Environment("nodes", {})
"""Where a network that was written with nodes comes from: no framework."""


@dataclass(frozen=True)
class Network:
    """Nodes in execution order, with their fixed arrays. Activations are channel-first and kernels ``OIHW``, as in ONNX.

    Args:
        nodes: each names what it reads and makes; names are those of the whole network.
        parameters: weights and other fixed arrays by name.
        outputs: names of what the network returns; left out: whatever no node reads.

    Example:
        >>> conv = Node("Conv", ("x", "w"), ("h",), {"kernel_shape": (3, 3), "auto_pad": "SAME_UPPER", "strides": (2, 2)})
        >>> network = Network([conv, Node("Relu", ("h",), ("y",))], {"w": np.zeros((4, 3, 3, 3), np.float32)})
        >>> network.inputs, network.outputs
        (('x',), ('y',))

    Raises:
        ModelError: a value that two nodes make, one that is read before it is made, or an output that nothing makes.
    """

    nodes: Sequence[Node]
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        made = [name for node in self.nodes for name in node.outputs if name]
        twice = sorted({name for name in made if made.count(name) > 1 or name in self.parameters})
        if twice:
            raise ModelError(f"the network makes {twice[0]!r} twice; every value needs a name of its own")
        if not self.nodes:
            raise ModelError("the network has no nodes")
        read = {name for node in self.nodes for name in node.inputs}
        if not self.outputs:
            object.__setattr__(self, "outputs", tuple(name for name in made if name not in read))
        lacking = [name for name in self.outputs if name not in made]
        if lacking:
            raise ModelError(
                f"no node makes the output {lacking[0]!r}; the nodes make {', '.join(made[:12])}"
            )
        self._check_order(set(made))

    def _check_order(self, made: set[str]) -> None:
        seen: set[str] = set()
        for number, node in enumerate(self.nodes):
            late = [name for name in node.inputs if name in made and name not in seen]
            if late:
                raise ModelError(
                    f"node {number} ({node}) reads {late[0]!r}, which is made after it: give the nodes in execution order "
                    "(a cycle cannot be run)"
                )
            seen.update(node.outputs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the nodes read and neither make nor find among the parameters, in order."""
        known = {*self.parameters, *(name for node in self.nodes for name in node.outputs), ""}
        return tuple(dict.fromkeys(n for node in self.nodes for n in node.inputs if n not in known))

    def trace(self, inputs: Mapping[str, np.ndarray], name: str = "network") -> Trace:
        """The network with its inputs as a trace without activations.

        Raises:
            InputError: missing or unknown inputs.
        """
        if set(inputs) != set(self.inputs):
            raise InputError(
                f"the network reads {', '.join(self.inputs) or 'nothing'} from outside, and was given "
                f"{', '.join(inputs) or 'nothing'}: give an array for each, or a parameter"
            )
        keys = {n: "input:" + n for n in inputs}
        keys.update({n: parameter_key(n) for n in self.parameters})
        values = {keys[n]: np.asarray(array) for n, array in [*inputs.items(), *self.parameters.items()]}
        records = tuple(self._record(node, keys) for node in self.nodes)
        ports = tuple(Port(n, keys.get(n, n)) for n in self.outputs)
        return Trace(name, NEUTRAL, tuple(Port(n, keys[n]) for n in inputs), ports, records, values)

    def _record(self, node: Node, keys: Mapping[str, str]) -> Record:
        """One node as a record; it is called after what it makes."""
        sides: dict[bool, list[Port]] = {True: [], False: []}
        for name in dict.fromkeys(filter(None, node.inputs)):
            sides[name in self.parameters].append(Port(name, keys.get(name, name)))
        outputs = tuple(Port(name, name) for name in node.outputs if name)
        label = next(name for name in node.outputs if name)
        return Record(label, 0, node.op_type, tuple(sides[False]), outputs, tuple(sides[True]), (node,))


def lifted(
    network: Any,
    inputs: Any,
    *,
    seed: int = 0,
    layouts: Layouts | str | None = None,
    progress: Progress = quiet,
) -> Trace:
    """Whatever a user calls a network, as a trace of nodes.

    Args:
        network: a :class:`Network`, a list of nodes, a :class:`Trace`, a live model of an installed framework, an
            ``onnx.ModelProto``, or a string: a model file, a recording, ``file.py:function``.
        inputs: as :func:`porting_check.record` takes them; for nodes, arrays by name (parameters among them).
        seed: of the noise that stands in for inputs that are not given.
        layouts: of the inputs, where they cannot be known.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        PortingError: not a network, bad inputs, or the model cannot be run.
    """
    if isinstance(network, Trace):
        return network
    if isinstance(network, (list, tuple)) and network and all(isinstance(n, Node) for n in network):
        network = Network(network)
    if isinstance(network, Network):
        return network.trace(_arrays(network, from_files(inputs)))
    if isinstance(network, Path):
        network = str(network)
    return record(network, inputs, seed=seed, layouts=layouts, progress=progress)


def _arrays(network: Network, inputs: Any) -> dict[str, np.ndarray]:
    """Inputs of a network of nodes by name; a lone array is the only input."""
    if isinstance(inputs, Mapping):
        return {str(name): np.asarray(array) for name, array in inputs.items()}
    if inputs is None or len(network.inputs) != 1:
        raise InputError(
            f"the network reads {', '.join(network.inputs)} from outside: give inputs as arrays by name"
        )
    return {network.inputs[0]: np.asarray(inputs)}

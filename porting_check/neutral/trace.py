"""Traces: what one run of a model computed, record by record.

A *value* is one tensor of a run, stored once, as the framework held it (native layout and dtype). A *record* is one call
of one layer or operator; its ports say which values it read and made, so the records form a graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple

import numpy as np

from porting_check.neutral.errors import TraceError
from porting_check.neutral.node import Node, decode, encode


@dataclass(frozen=True)
class Port:
    """One use of a value by a record.

    ``name`` is what the record's nodes call it and ``value`` is the key of the value in the trace. ``layout`` is the
    order of the array's axes as the framework holds them and ``canonical`` the order that the nodes work in; both empty
    means that the nodes take the array as it is.

    Example:
        >>> Port("x", "conv1#0:0", layout="NHWC", canonical="NCHW").layout
        'NHWC'
    """

    name: str
    value: str
    layout: str = ""
    canonical: str = ""

    def to_json(self) -> List[str]:
        """``[name, value, layout, canonical]``."""
        return [self.name, self.value, self.layout, self.canonical]


@dataclass(frozen=True)
class Record:
    """One call of one layer or operator.

    ``name`` is the framework's own path of the layer (``layer1.0.conv1``), or ``scope/function`` for an operator between
    layers; ``call`` counts repeated calls of the same name from 0. ``operator`` is the native type (``torch.conv2d``,
    ``keras.layers.Conv2D``). ``nodes`` is what it computes, in execution order; no nodes means *opaque*, and ``reason``
    says why. ``constants`` are small arrays that are part of the operator (a target shape, an axis list).
    """

    name: str
    call: int
    operator: str
    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]
    parameters: Tuple[Port, ...] = ()
    nodes: Tuple[Node, ...] = ()
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""
    location: str = ""

    @property
    def id(self) -> str:
        """``name`` alone for the first call, ``name#1`` for the second."""
        return self.name if self.call == 0 else f"{self.name}#{self.call}"

    @property
    def opaque(self) -> bool:
        """Whether no nodes say what was computed."""
        return not self.nodes

    def to_json(self) -> Dict[str, Any]:
        """Plain data for a JSON line."""
        return {
            "name": self.name,
            "call": self.call,
            "operator": self.operator,
            "inputs": [port.to_json() for port in self.inputs],
            "outputs": [port.to_json() for port in self.outputs],
            "parameters": [port.to_json() for port in self.parameters],
            "nodes": [node.to_json() for node in self.nodes],
            "constants": {key: encode(np.asarray(value)) for key, value in self.constants.items()},
            "reason": self.reason,
            "location": self.location,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of :meth:`to_json`."""
        ports = {
            side: tuple(Port(*port) for port in data[side]) for side in ("inputs", "outputs", "parameters")
        }
        return cls(
            data["name"],
            int(data["call"]),
            data["operator"],
            ports["inputs"],
            ports["outputs"],
            ports["parameters"],
            tuple(Node.from_json(node) for node in data["nodes"]),
            {key: decode(value) for key, value in data["constants"].items()},
            data["reason"],
            data["location"],
        )


@dataclass(frozen=True)
class Environment:
    """Where a run took place: framework, versions, machine and the modes that change numbers.

    ``machine`` holds the processor, its instruction sets and the settings that libraries read; ``origin`` what pins the
    surroundings, so that they can be had again: an image and its digest, or the digest of a lock.

    Example:
        >>> Environment("torch", {"torch": "2.13.0"}, modes={"float32_matmul_precision": "highest"}).device
        'cpu'
    """

    framework: str
    versions: Mapping[str, str]
    device: str = "cpu"
    threads: int = 0
    python: str = ""
    platform: str = ""
    modes: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        """Plain data for a JSON line."""
        return {
            "framework": self.framework,
            "versions": dict(self.versions),
            "device": self.device,
            "threads": self.threads,
            "python": self.python,
            "platform": self.platform,
            "modes": dict(self.modes),
            "machine": dict(self.machine),
            "origin": dict(self.origin),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Environment:
        """The inverse of :meth:`to_json`."""
        return cls(**data)


@dataclass(frozen=True)
class Checks:
    """What the recorder verified about the run itself.

    ``observer_difference``: largest change of any output caused by recording (0.0 is the rule, ``None`` = not checked).
    ``repeat_difference``: largest difference between two unrecorded runs on the same input.
    ``training``: names of layers that were in training mode. ``notes``: anything else the reader must know.
    ``float64``: of the whole model's run in float64 (its outputs are the values ``float64:<output path>``): what in it
    still computed in float32, or, where there are no such values, why there are none; empty when none was asked for.
    """

    observer_difference: Optional[float] = None
    repeat_difference: Optional[float] = None
    training: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()
    float64: Tuple[str, ...] = ()

    def to_json(self) -> Dict[str, Any]:
        """Plain data for a JSON line."""
        return {
            "observer_difference": _number(self.observer_difference),
            "repeat_difference": _number(self.repeat_difference),
            "training": list(self.training),
            "notes": list(self.notes),
            "float64": list(self.float64),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Checks:
        """The inverse of :meth:`to_json`; recordings made before there was ``float64`` have none."""
        differences = [
            None if data[k] is None else float(data[k]) for k in ("observer_difference", "repeat_difference")
        ]
        texts = [tuple(data[k]) for k in ("training", "notes")]
        return cls(differences[0], differences[1], texts[0], texts[1], tuple(data.get("float64", ())))


def _number(value: Optional[float]) -> Any:
    """A float that JSON can carry: NaN and infinities become text, which ``float`` reads back."""
    return value if value is None or np.isfinite(value) else str(value)


@dataclass(frozen=True)
class Trace:
    """The records of one run, in execution order, with the values they name.

    ``inputs`` and ``outputs`` are ports of the whole model: ``name`` is the input's name or the output's path
    (``0``, ``logits``, ``boxes/1``), ``value`` the key of the tensor. ``values`` maps every key to its array; a recording
    on disk reads them lazily. ``kept`` is the statement of a pruned recording (:mod:`porting_check.keeping`): what was
    dropped, with a note of each; ``None`` when everything is there. ``restored`` names values that were not recorded but
    computed again from the nodes, so that nothing can be learned from how near they are to what the nodes give.
    """

    model: str
    environment: Environment
    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]
    records: Tuple[Record, ...]
    values: Mapping[str, np.ndarray]
    checks: Checks = Checks()
    kept: Optional[Mapping[str, Any]] = None
    restored: FrozenSet[str] = frozenset()

    def parameters(self) -> Dict[str, np.ndarray]:
        """Every parameter that a record used, by its native name, in native layout."""
        keys = {port.value for record in self.records for port in record.parameters}
        return {parameter_name(key): self.values[key] for key in sorted(keys)}


def parameter_key(name: str) -> str:
    """The value key of the parameter with this native name: ``parameter:conv1.weight``."""
    return "parameter:" + name


def parameter_name(key: str) -> str:
    """The native name in a parameter's value key."""
    return key[len("parameter:") :] if key.startswith("parameter:") else key


FLOAT64 = "float64:"
"""What the keys of the outputs of a run in float64 begin with; no record reads or makes these values."""


def float64_outputs(trace: Trace) -> Dict[str, np.ndarray]:
    """The outputs of the whole model's run in float64, by path; empty when the recording holds none.

    Example:
        >>> port = Port("0", "input:0")
        >>> values = {"input:0": np.ones(1, np.float32), "float64:0": np.ones(1)}
        >>> sorted(float64_outputs(Trace("nothing", Environment("numpy", {}), (port,), (port,), (), values)))
        ['0']
    """
    return {key[len(FLOAT64) :]: trace.values[key] for key in trace.values if key.startswith(FLOAT64)}


class Sink:
    """Where an adapter puts what it records, while the model runs.

    Adapters call :meth:`value` once per tensor (owned numpy array, native layout), :meth:`record` once per call in
    execution order, :meth:`input` and :meth:`output` for the model's own ports.
    """

    def value(self, key: str, array: np.ndarray) -> None:
        """Store one tensor under its key."""
        raise NotImplementedError

    def record(self, record: Record) -> None:
        """Append one record; its values may be stored before or after."""
        raise NotImplementedError

    def input(self, port: Port) -> None:
        """Declare an input of the model."""
        raise NotImplementedError

    def output(self, port: Port) -> None:
        """Declare an output of the model; the port's name is the output's path."""
        raise NotImplementedError


class MemorySink(Sink):
    """A sink that keeps everything in memory and gives a :class:`Trace`.

    Example:
        >>> sink = MemorySink()
        >>> sink.value("input:0", np.zeros((1, 3), np.float32)); sink.input(Port("0", "input:0"))
        >>> sink.output(Port("0", "input:0"))
        >>> sink.trace("nothing", Environment("numpy", {})).outputs[0].value
        'input:0'
    """

    def __init__(self) -> None:
        self.values: Dict[str, np.ndarray] = {}
        self.records: List[Record] = []
        self.inputs: List[Port] = []
        self.outputs: List[Port] = []

    def value(self, key: str, array: np.ndarray) -> None:
        """Keep the array itself: the adapter hands over ownership."""
        self.values[key] = array

    def record(self, record: Record) -> None:
        """Append one record."""
        self.records.append(record)

    def input(self, port: Port) -> None:
        """Declare an input of the model."""
        self.inputs.append(port)

    def output(self, port: Port) -> None:
        """Declare an output of the model."""
        self.outputs.append(port)

    def trace(self, model: str, environment: Environment, checks: Checks = Checks()) -> Trace:  # noqa: B008 frozen
        """The finished trace.

        Raises:
            TraceError: a port names a value that was never stored.
        """
        ports = (
            [p for r in self.records for p in r.inputs + r.outputs + r.parameters]
            + self.inputs
            + self.outputs
        )
        missing = sorted({port.value for port in ports if port.value not in self.values})
        if missing:
            raise TraceError(
                f"the recording names values that were never stored: {missing[:5]}; the adapter is at fault"
            )
        parts = (tuple(self.inputs), tuple(self.outputs), tuple(self.records))
        return Trace(model, environment, *parts, values=self.values, checks=checks)

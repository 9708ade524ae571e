"""Records of a TFLite run, from the tensors that its interpreter kept."""

from __future__ import annotations

import collections
from typing import Any, Callable, Dict, List, Mapping, Set, Tuple, Union

import numpy as np

from porting_check.neutral.trace import Port, Record, Sink, parameter_key
from porting_check_tensorflow import lite_operators_channels  # noqa: F401 - enters its operators into the table
from porting_check_tensorflow.described import Described, Operand, PortSpec
from porting_check_tensorflow.lite_operators import BOOKKEEPING, PASS_THROUGH, describe_lite
from porting_check_tensorflow.lite_schema import ABSENT, LiteGraph, LiteOperation, LiteTensor

FOREIGN = ("string", "resource", "variant")
"""Types of tensors that hold no numbers."""

SMALL = 64
"""Integer constants of at most this many elements are part of the code; floating ones only as scalars."""


def plain_name(name: str) -> str:
    """The first of the names that a fused operator's tensor bears, without what the converter wrapped around.

    Example:
        >>> plain_name("StatefulPartitionedCall/net/conv/Relu;net/conv/BiasAdd"), plain_name("PartitionedCall:0")
        ('net/conv/Relu', 'PartitionedCall:0')
    """
    first = name.split(";")[0]
    head, _, rest = first.partition("/")
    return (
        rest
        if rest and head.rstrip("_0123456789") in ("StatefulPartitionedCall", "PartitionedCall")
        else first
    )


def is_weight(tensor: LiteTensor) -> bool:
    """Whether a constant is a weight, not code: numbers that are no scalars, long lists of integers."""
    size = int(np.prod([size or 0 for size in tensor.shape])) if tensor.shape else 1
    if not tensor.constant or tensor.dtype in FOREIGN:
        return False
    real = tensor.dtype.startswith(("float", "bfloat", "complex"))
    return size > SMALL or (size > 1 and (real or tensor.quantized))


def parameter_names(graph: LiteGraph) -> Dict[int, str]:
    """Names of the weights by index of their tensors, each name once."""
    found: Dict[int, str] = {}
    for index, tensor in enumerate(graph.tensors):
        if is_weight(tensor):
            short = plain_name(tensor.name)
            taken = found.values()
            name = short if short not in taken else tensor.name
            found[index] = name if name not in taken else f"{name}#{index}"
    return found


class LiteRecorder:
    """Turns the operators of a run into records.

    Args:
        graph: what ran.
        read: the value of a tensor by its index.
        sink: where everything goes.
    """

    def __init__(self, graph: LiteGraph, read: Callable[[int], Any], sink: Sink) -> None:
        self._graph, self._read, self._sink = graph, read, sink
        self._keys: Dict[int, str] = {i: parameter_key(n) for i, n in parameter_names(graph).items()}
        self._stored: Set[str] = set()
        self._calls: Dict[str, int] = collections.defaultdict(int)
        self._constants = 0

    def record(self, fed: Mapping[str, np.ndarray]) -> None:
        """Declare the inputs, write all records, declare the outputs."""
        for name, index in self._graph.inputs.items():
            self._keys[index] = f"input:{name}"
            self._store(f"input:{name}", np.array(fed[name]))
            self._sink.input(Port(name, f"input:{name}"))
        for operation in self._graph.operations:
            self._operation(operation)
        for name, index in self._graph.outputs.items():
            if self._graph.tensors[index].dtype not in FOREIGN:
                self._sink.output(Port(name, self._use(index)))

    def _operation(self, operation: LiteOperation) -> None:
        """A record, unless the operator computes nothing from inputs or weights."""
        given = [index for index in operation.inputs if index != ABSENT]
        if operation.op_type in BOOKKEEPING or not any(self._tracked(index) for index in given):
            return
        if operation.op_type in PASS_THROUGH and len(given) == len(operation.outputs) == 1:
            self._keys[operation.outputs[0]] = self._keys[given[0]]
            return
        found = self._described(operation)
        if isinstance(found, Described):
            self._write(operation, found.inputs, found.outputs, found)
            return
        ports = [(place, index) for place, index in enumerate(operation.inputs) if self._numeric(index)]
        made = [place for place, index in enumerate(operation.outputs) if self._numeric(index)]
        inputs = [PortSpec(place, f"x{number}") for number, (place, _) in enumerate(ports)]
        outputs = [PortSpec(place, f"y{number}") for number, place in enumerate(made)]
        if outputs:
            self._write(operation, tuple(inputs), tuple(outputs), Described((), (), ()), found)

    def _described(self, operation: LiteOperation) -> Union[Described, str]:
        """The description, or a reason: an operator of a newer version must not stop a recording."""
        inputs = [self._operand(index) for index in operation.inputs]
        outputs = [self._operand(index) for index in operation.outputs]
        scaled = [
            self._graph.tensors[index]
            for index in operation.inputs + operation.outputs
            if index != ABSENT and self._graph.tensors[index].quantized
        ]
        if scaled:
            return f"tflite.{operation.op_type} on quantized {scaled[0].dtype} is not described"
        try:
            return describe_lite(operation, inputs, outputs)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            return f"tflite.{operation.op_type} could not be described: {type(error).__name__}: {error}"

    # Values.

    def _numeric(self, index: int) -> bool:
        return index != ABSENT and self._graph.tensors[index].dtype not in FOREIGN

    def _tracked(self, index: int) -> bool:
        """Whether a value comes from the model's inputs, weights or records."""
        key = self._keys.get(index, "")
        return bool(key) and not key.startswith("constant:")

    def _operand(self, index: int) -> Operand:
        if not self._numeric(index):
            kind = "" if index == ABSENT else self._graph.tensors[index].dtype
            return Operand((), kind, lambda: np.zeros(0), fixed=True)
        array = np.asarray(self._read(index))
        parameter = self._keys.get(index, "").startswith(parameter_key(""))
        return Operand(array.shape, array.dtype.name, lambda: array, not self._tracked(index), parameter)

    def _store(self, key: str, array: np.ndarray) -> None:
        if key not in self._stored:
            self._stored.add(key)
            self._sink.value(key, array)

    def _use(self, index: int) -> str:
        """The key of a value that is read, stored if it was not yet."""
        if index not in self._keys:
            self._keys[index] = f"constant:{self._constants}"
            self._constants += 1
        key = self._keys[index]
        if key not in self._stored:
            self._store(key, np.array(self._read(index)))
        return key

    # Records.

    def _write(
        self,
        operation: LiteOperation,
        inputs: Tuple[PortSpec, ...],
        outputs: Tuple[PortSpec, ...],
        found: Described,
        reason: str = "",
    ) -> None:
        name = plain_name(self._graph.tensors[operation.outputs[outputs[0].index]].name) or operation.op_type
        call = self._calls[name]
        self._calls[name] += 1
        identity = name if call == 0 else f"{name}#{call}"
        read: List[Port] = []
        parameters: List[Port] = []
        for spec in inputs:
            port = Port(spec.name, self._use(operation.inputs[spec.index]), spec.layout, spec.canonical)
            (parameters if port.value.startswith(parameter_key("")) else read).append(port)
        made = []
        for place, spec in enumerate(outputs):
            self._keys[operation.outputs[spec.index]] = f"{identity}:{place}"
            made.append(
                Port(spec.name, self._use(operation.outputs[spec.index]), spec.layout, spec.canonical)
            )
        record = Record(
            name,
            call,
            f"tflite.{operation.op_type}",
            tuple(read),
            tuple(made),
            tuple(parameters),
            tuple(found.nodes),
            dict(found.constants),
            reason,
        )
        self._sink.record(record)

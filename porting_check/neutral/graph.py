"""A trace as a graph of steps: every node of every record, with the values that join them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Container, Dict, List, Mapping, Optional, Set, Tuple

import numpy as np

from porting_check.neutral.node import Node
from porting_check.neutral.trace import Record, Trace

MOVEMENT = frozenset(
    "Identity Dropout Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Pad Expand Tile Gather "
    "GatherElements GatherND ScatterND ScatterElements Shape Size Cast Constant ConstantOfShape Range DepthToSpace SpaceToDepth "
    "ReverseSequence Trilu Compress OneHot EyeLike".split()
)
"""Operators that move or pick elements and compute nothing; a table lookup with a parameter counts as computing."""

_KEEPS_LAYOUT = frozenset(
    "Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool AdaptiveAveragePool "
    "AdaptiveMaxPool BatchNormalization InstanceNormalization GroupNormalization LayerNormalization RMSNormalization LRN "
    "LpNormalization Resize Upsample Relu Clip LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid HardSigmoid HardSwish Swish Mish Tanh "
    "Softplus Softsign ThresholdedRelu Softmax LogSoftmax Hardmax Shrink Abs Neg Exp Log Sqrt Reciprocal Floor Ceil Round Sign "
    "Sin Cos Tan Erf Add Sub Mul Div Pow Mod Max Min Mean Sum And Or Not Xor Equal Less Greater LessOrEqual GreaterOrEqual "
    "Where Cast Identity Dropout Concat Split Slice Pad CumSum GridSample DepthToSpace SpaceToDepth Tile IsNaN IsInf "
    "Trilu".split()
)
"""Operators whose output has the axes of their (longest) input, in the same order."""


@dataclass(frozen=True)
class Operand:
    """A value as a node reads or makes it: its key, its native layout and the layout that the node works in."""

    key: str
    layout: str = ""
    canonical: str = ""


@dataclass(frozen=True)
class Step:
    """One node of one record (or one opaque record, whose ``node`` is ``None``), in execution order."""

    index: int
    record: int
    node: Optional[Node]
    inputs: Tuple[Operand, ...]
    outputs: Tuple[Operand, ...]

    @property
    def movement(self) -> bool:
        """Whether the step only moves elements."""
        return self.node is not None and self.node.op_type in MOVEMENT and not self.looks_up

    @property
    def looks_up(self) -> bool:
        """Whether this is a table lookup: a gather from a parameter (an embedding)."""
        node = self.node
        return node is not None and node.op_type == "Gather" and self.inputs[0].key.startswith("parameter:")


class Graph:
    """The steps of a trace and what joins them.

    Attributes:
        trace: the trace.
        steps: in execution order.
        producer: index of the step that makes each value.
        constants: arrays that belong to records, by key.
        fed: values that depend on the model's input; all others are the same in every run.
        layouts: layout of each value as far as it is declared or follows from what made or used it.

    Example:
        >>> graph = Graph(trace)                              # doctest: +SKIP
        >>> [str(step.node) for step in graph.steps][:2]      # doctest: +SKIP
        ['Conv(…)', 'Relu()']
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.constants: Dict[str, np.ndarray] = {}
        self._scopes: List[Dict[str, Operand]] = [self._scope(record) for record in trace.records]
        self.steps: Tuple[Step, ...] = tuple(self._flatten())
        self.producer: Dict[str, int] = {o.key: s.index for s in self.steps for o in s.outputs if o.key}
        self.consumers: Dict[str, List[int]] = {}
        for step in self.steps:
            for operand in step.inputs:
                self.consumers.setdefault(operand.key, []).append(step.index)
        self.fed: Set[str] = self._depend_on_input()
        self.layouts = self._propagate()

    def _scope(self, record: Record) -> Dict[str, Operand]:
        """What every local name of a record stands for."""
        scope = {
            p.name: Operand(p.value, p.layout, p.canonical)
            for p in record.inputs + record.parameters + record.outputs
        }
        for name, array in record.constants.items():
            key = f"{record.id}/{name}"
            self.constants[key] = np.asarray(array)
            scope[name] = Operand(key)
        return scope

    def operand(self, record: int, name: str) -> Operand:
        """The operand that a local name of a record stands for; unknown names are inner values of the record."""
        if not name:
            return Operand("")
        return self._scopes[record].get(name) or Operand(f"{self.trace.records[record].id}/{name}")

    def _flatten(self) -> List[Step]:
        steps: List[Step] = []
        for number, record in enumerate(self.trace.records):
            if record.opaque:
                ports = record.inputs + record.parameters
                operands = [
                    tuple(Operand(p.value, p.layout, p.canonical) for p in side)
                    for side in (ports, record.outputs)
                ]
                steps.append(Step(len(steps), number, None, operands[0], operands[1]))
            for node in record.nodes:
                inputs = tuple(self.operand(number, name) for name in node.inputs)
                outputs = tuple(self.operand(number, name) for name in node.outputs)
                steps.append(Step(len(steps), number, node, inputs, outputs))
        return steps

    def array(self, key: str) -> Optional[np.ndarray]:
        """The recorded array of a value, or a record's constant; ``None`` for inner values."""
        if key in self.constants:
            return self.constants[key]
        return self.trace.values[key] if key in self.trace.values else None

    def record_of(self, step: Step) -> Record:
        """The record that a step belongs to."""
        return self.trace.records[step.record]

    def _depend_on_input(self) -> Set[str]:
        fed = {port.value for port in self.trace.inputs}
        for step in self.steps:
            if any(operand.key in fed for operand in step.inputs) or (step.node is None and not step.inputs):
                fed.update(operand.key for operand in step.outputs)
        return fed

    def _propagate(self) -> Dict[str, str]:
        layouts = {port.value: port.layout for port in self.trace.inputs if port.layout}
        for step in self.steps:
            for operand in step.inputs + step.outputs:
                if operand.layout and not operand.key.startswith("parameter:"):
                    layouts.setdefault(operand.key, operand.layout)
        for step in self.steps:
            data = [operand for operand in step.inputs if operand.key in self.fed]
            known = _output_layout(step, [_node_layout(operand, layouts) for operand in data])
            for operand in step.outputs:
                if known and operand.key not in layouts and not operand.layout:
                    layouts[operand.key] = known
        return {key: value for key, value in layouts.items() if value}

    def between(self, target: str, boundary: Container[str]) -> Tuple[List[int], Set[str]]:
        """The steps that make ``target`` from the values in ``boundary``, and the boundary values really used.

        Model inputs that are reached count as boundary; fixed values do not.
        """
        needed: Set[int] = set()
        used: Set[str] = set()
        queue = [target]
        while queue:
            key = queue.pop()
            step = self.producer.get(key)
            if step is None or (key != target and key in boundary and key in self.fed):
                if key in self.fed:
                    used.add(key)
            elif step not in needed:
                needed.add(step)
                queue.extend(o.key for o in self.steps[step].inputs if o.key)
        return sorted(needed), used


def _node_layout(operand: Operand, layouts: Mapping[str, str]) -> str:
    """The layout in which a node sees an operand."""
    return operand.canonical or layouts.get(operand.key, "")


def _output_layout(step: Step, seen: List[str]) -> str:
    """The layout of a step's first output, from those of the data it reads; "" when it does not follow."""
    node = step.node
    if node is None:
        return ""
    if node.op_type == "Transpose" and seen and seen[0]:
        order: Any = node.attributes.get("perm") or tuple(reversed(range(len(seen[0]))))
        return "".join(seen[0][axis] for axis in order) if len(order) == len(seen[0]) else ""
    keeps = node.op_type in _KEEPS_LAYOUT or (
        node.op_type.startswith("Reduce") and node.attributes.get("keepdims", 1) == 1
    )
    tags = [tag for tag in seen if tag and "(" not in tag and "1" not in tag]
    if not keeps or not tags:
        return ""
    longest = max(len(tag) for tag in tags)
    first = [tag for tag in tags if len(tag) == longest]
    return first[0] if all(tag == first[0] for tag in first) else ""


def input_layouts(trace: Trace) -> Dict[str, str]:
    """Layout of each input by name: as declared, or as the operators that read it declare it; "" when neither says."""
    layouts = Graph(trace).layouts
    return {port.name: layouts.get(port.value, "") for port in trace.inputs}

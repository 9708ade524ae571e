"""Idioms: one operator that people also write as several. For pairing, the last step stands for the operator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from porting_check.neutral.graph import Graph, Operand, Step
from porting_check.neutral.node import Node
from porting_check.numerics.program import Program

GATED = {"Sigmoid": "Swish", "HardSigmoid": "HardSwish", "Tanh": ""}
"""``x * f(x)`` by the name of ``f``: what the product is as one operator ("" = no operator of its own)."""

KEEPS_POSITIVE = {"Greater": (1, 2), "GreaterOrEqual": (1, 2), "Less": (2, 1), "LessOrEqual": (2, 1)}
"""A comparison ``x ? 0`` that chooses in ``Where``: at which of its inputs ``x`` and its multiple must stand."""


def idioms(graph: Graph) -> tuple[dict[int, str], set[int]]:
    """Steps that stand for another operator, and the steps that are only a part of it.

    Example:
        >>> idioms(graph_of("x * sigmoid(x)"))        # doctest: +SKIP
        ({1: 'Swish'}, {0})
    """
    stands: dict[int, str] = {}
    parts: set[int] = set()
    for step in graph.steps:
        gate = _gate(graph, step)
        if gate is not None and gate.node is not None and GATED.get(gate.node.op_type):
            stands[step.index] = GATED[gate.node.op_type]
            parts.add(gate.index)
        if _slope(graph, step) is not None:
            stands[step.index] = "PRelu"
            compared = graph.steps[graph.producer[step.inputs[0].key]]
            parts |= {compared.index, graph.producer[_multiple(step, compared).key]}
    return stands, parts


def whole(graph: Graph, step: Step) -> Step:
    """A step that stands for an operator with a parameter, as that operator; any other step as it is.

    Example:
        >>> whole(graph, where_step).node                   # doctest: +SKIP
        Node('PRelu', ('x', 'slope'), ('y',))
    """
    slope = _slope(graph, step)
    if slope is None:
        return step
    x = graph.steps[graph.producer[step.inputs[0].key]].inputs[0]
    return replace(step, node=Node("PRelu", ("x", "slope"), ("y",)), inputs=(x, slope))


def _gate(graph: Graph, step: Step) -> Step | None:
    """The step ``f`` of a product ``x * f(x)`` that nothing else reads."""
    if step.node is None or step.node.op_type != "Mul" or len(step.inputs) != 2:
        return None
    keys = [operand.key for operand in step.inputs]
    for x, other in (keys, keys[::-1]):
        maker = graph.producer.get(other)
        if maker is None or graph.consumers.get(other) != [step.index]:
            continue
        if [operand.key for operand in graph.steps[maker].inputs if operand.key] == [x]:
            return graph.steps[maker]
    return None


def _slope(graph: Graph, step: Step) -> Operand | None:
    """The slope of ``where(x >= 0, x, slope * x)``; ``None`` for any other step."""
    if step.node is None or step.node.op_type != "Where":
        return None
    compared = _maker(graph, step, step.inputs[0])
    if compared is None or compared.node is None or compared.node.op_type not in KEEPS_POSITIVE:
        return None
    x, bound = compared.inputs
    kept = step.inputs[KEEPS_POSITIVE[compared.node.op_type][0]]
    if kept.key != x.key or not _zero(graph, bound):
        return None
    times = _maker(graph, step, _multiple(step, compared))
    if times is None or times.node is None or times.node.op_type != "Mul":
        return None
    factors = [operand for operand in times.inputs if operand.key != x.key]
    return factors[0] if len(factors) == 1 and factors[0].key not in graph.fed else None


def _zero(graph: Graph, operand: Operand) -> bool:
    """Whether an operand is fixed, and zero."""
    if operand.key in graph.fed:
        return False
    array = Program(graph).parameter(Step(-1, 0, None, (operand,), ()), 0)
    return array is not None and not np.any(array)


def _multiple(step: Step, compared: Step) -> Operand:
    """What ``Where`` takes where ``x`` is negative."""
    assert compared.node is not None
    return step.inputs[KEEPS_POSITIVE[compared.node.op_type][1]]


def _maker(graph: Graph, step: Step, operand: Operand) -> Step | None:
    """The step that makes an operand which nothing but ``step`` reads."""
    maker = graph.producer.get(operand.key)
    return graph.steps[maker] if maker is not None and graph.consumers[operand.key] == [step.index] else None

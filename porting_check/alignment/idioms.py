"""Idioms: one operator that people also write as several. For pairing, the last step stands for the operator."""

from __future__ import annotations

from porting_check.neutral.graph import Graph, Step

GATED = {"Sigmoid": "Swish", "HardSigmoid": "HardSwish", "Tanh": ""}
"""``x * f(x)`` by the name of ``f``: what the product is as one operator ("" = no operator of its own)."""


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
    return stands, parts


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

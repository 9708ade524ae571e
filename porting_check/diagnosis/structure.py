"""Hypotheses about structure: another operator, one missing or too many, the order in which a tensor is flattened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from porting_check.alignment.families import family
from porting_check.diagnosis.hypothesis import Hypothesis, Suspect, nodes
from porting_check.neutral.graph import Step
from porting_check.neutral.node import Node
from porting_check.numerics.program import Edits

_EXCHANGED: dict[frozenset[str], str] = {
    frozenset({"Relu", "Clip"}): "relu6-cap",
    frozenset({"Gelu", "Swish"}): "gelu-quick",
    frozenset({"HardSwish", "Swish"}): "hardswish-vs-swish",
    frozenset({"Relu", "LeakyRelu"}): "leaky-slope",
    frozenset({"Sigmoid", "HardSigmoid"}): "hard-sigmoid-slope",
    frozenset({"Elu", "Selu"}): "elu-selu-celu-alpha",
    frozenset({"Elu", "Celu"}): "elu-selu-celu-alpha",
    frozenset({"LayerNormalization", "RMSNormalization"}): "ln-std-formula",
}
"""Catalogue id of an operator taken for another one."""


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """Operators exchanged, missing or doubled; operand order; flatten order."""
    yield from _flattened(suspect)
    yield from _exchanged(suspect)
    yield from _missing(suspect)
    yield from _doubled(suspect)
    yield from _swapped_operands(suspect)


def _constants(suspect: Suspect, ours: Step) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """The fixed operands of a reference step as Constant nodes, and the input names that refer to them."""
    made: list[Node] = []
    names: list[str] = [""]
    for position in range(1, len(ours.inputs)):
        array = suspect.operand(0, ours, position)
        names.append("" if array is None else f"_fixed{position}")
        if array is not None:
            made.append(Node("Constant", (), (f"_fixed{position}",), {"value": np.asarray(array)}))
    return tuple(made), tuple(names)


def _exchanged(suspect: Suspect) -> Iterator[Hypothesis]:
    """The reference's operator put in the place of the candidate's, with the reference's constants."""
    for ours, theirs in suspect.pairs():
        one, other = nodes(ours), nodes(theirs)
        if one.op_type == other.op_type and one.op_type != "Clip":
            continue
        if family(ours) not in ("activation", "pooling", "extremum") and family(ours) != family(theirs):
            continue
        if family(ours) in ("linear", "recurrent", "normalization", "lookup"):
            continue
        constants, names = _constants(suspect, ours)
        last = Node(
            one.op_type,
            (other.inputs[0], *names[1 : len(one.inputs)]),
            other.outputs,
            one.attributes,
            one.domain,
        )
        said = "other bounds" if one.op_type == other.op_type else f"{described(suspect, 1, theirs)}"
        yield Hypothesis(
            cause=_EXCHANGED.get(
                frozenset({one.op_type, other.op_type}), "relu6-cap" if one.op_type == "Clip" else "unknown"
            ),
            explanation=f"the candidate computes {said} where the reference computes {described(suspect, 0, ours)}",
            fix=f"use {described(suspect, 0, ours)} in place of {described(suspect, 1, theirs)}",
            edits=Edits(nodes={theirs.index: (*constants, last)}),
        )


def described(suspect: Suspect, side: int, step: Step) -> str:
    """An operator with the bounds that make it what a framework calls it: ``Relu6`` for Clip(0, 6)."""
    node = nodes(step)
    if node.op_type != "Clip":
        return str(node)
    bounds = [suspect.operand(side, step, position) for position in (1, 2)]
    low, high = ("none" if b is None else f"{float(b.reshape(-1)[0]):g}" for b in bounds)
    return "ReLU6 (clip to [0, 6])" if (low, high) == ("0", "6") else f"Clip to [{low}, {high}]"


def _missing(suspect: Suspect) -> Iterator[Hypothesis]:
    """An elementwise step of the reference that the candidate lacks: added after the step before it, or at the start."""
    previous: Step | None = None
    for ours, theirs in suspect.aligned:
        if ours is not None and theirs is None and family(ours) == "activation":
            place = previous or next(iter(suspect.candidate), None)
            if place is not None and place.node is not None:
                yield Hypothesis(
                    cause="activation-missing-or-double",
                    explanation=f"the reference applies {described(suspect, 0, ours)} here; the candidate does not",
                    fix=f"apply {described(suspect, 0, ours)} {'after ' + nodes(place).op_type if previous else 'first'}",
                    edits=Edits(
                        nodes={place.index: _inserted(suspect, ours, place.node, after=previous is not None)}
                    ),
                )
        previous = theirs or previous


def _inserted(suspect: Suspect, ours: Step, node: Node, *, after: bool) -> tuple[Node, ...]:
    """The candidate's node with the reference's elementwise operator after or before it."""
    constants, names = _constants(suspect, ours)
    added = nodes(ours)
    if after:
        inner = Node(node.op_type, node.inputs, ("_before", *node.outputs[1:]), node.attributes, node.domain)
        last = Node(added.op_type, ("_before", *names[1:]), node.outputs, added.attributes, added.domain)
        return (inner, *constants, last)
    first = Node(added.op_type, (node.inputs[0], *names[1:]), ("_added",), added.attributes, added.domain)
    return (
        *constants,
        first,
        Node(node.op_type, ("_added", *node.inputs[1:]), node.outputs, node.attributes, node.domain),
    )


def _doubled(suspect: Suspect) -> Iterator[Hypothesis]:
    """An elementwise step that only the candidate has, left out."""
    for ours, theirs in suspect.aligned:
        if ours is None and theirs is not None and family(theirs) in ("activation", "normalization"):
            yield Hypothesis(
                cause="activation-missing-or-double",
                explanation=f"the candidate applies {described(suspect, 1, theirs)}, which the reference does not",
                fix=f"remove {described(suspect, 1, theirs)}",
                edits=Edits(nodes={theirs.index: ()}),
            )


def _swapped_operands(suspect: Suspect) -> Iterator[Hypothesis]:
    """Operands of a concatenation, subtraction or division in another order."""
    for step in suspect.candidate:
        node = step.node
        if (
            node is None
            or node.op_type not in ("Concat", "Sub", "Div", "Pow", "MatMul")
            or not 2 <= len(node.inputs) <= 4
        ):
            continue
        for order in list(itertools.permutations(node.inputs))[1:]:
            yield Hypothesis(
                cause="concat-axis" if node.op_type == "Concat" else "block-order-or-skip",
                explanation=f"the operands of {node.op_type} stand in another order",
                fix=f"exchange the operands of {node.op_type}",
                edits=Edits(
                    nodes={
                        step.index: (Node(node.op_type, order, node.outputs, node.attributes, node.domain),)
                    }
                ),
            )


def _flattened(suspect: Suspect) -> Iterator[Hypothesis]:
    """A tensor flattened in another order of its axes: transpose before the candidate's flatten."""
    for step in suspect.candidate:
        node = step.node
        if node is None or node.op_type not in ("Flatten", "Reshape"):
            continue
        rank = _rank_before(suspect, step)
        if rank not in (3, 4, 5):
            continue
        for order in itertools.permutations(range(1, rank)):
            if order == tuple(range(1, rank)):
                continue
            full = (0, *order)
            turn = Node("Transpose", (node.inputs[0],), ("_turned",), {"perm": full})
            last = Node(
                node.op_type, ("_turned", *node.inputs[1:]), node.outputs, node.attributes, node.domain
            )
            yield Hypothesis(
                cause="flatten-order",
                explanation=f"the candidate flattens axes 0,{','.join(map(str, range(1, rank)))} in that order; the layer "
                f"after it expects the order {','.join(map(str, full))}",
                fix=_permute(suspect.framework, full),
                edits=Edits(nodes={step.index: (turn, last)}),
            )


def _permute(framework: str, order: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, order))
    code = {
        "torch": f"x = x.permute({listed})",
        "tensorflow": f"x = tf.transpose(x, ({listed}))",
        "jax": f"x = x.transpose({listed})",
    }
    return f"{code.get(framework, f'transpose by ({listed})')} before flattening"


def _rank_before(suspect: Suspect, step: Step) -> int:
    """Rank of what a step reads, when it was recorded or its layout is known; 0 otherwise."""
    operand = step.inputs[0]
    array = suspect.judge.candidate.array(operand.key)
    if array is not None:
        return int(array.ndim)
    return len(suspect.judge.candidate.layouts.get(operand.key, ""))

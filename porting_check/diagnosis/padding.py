"""Hypotheses about padding: what each side pads in all, by a layer of its own or by the operator, and of what value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from porting_check.diagnosis.attributes import PADDED
from porting_check.diagnosis.hypothesis import Hypothesis, Suspect, nodes
from porting_check.neutral.errors import PaddingError
from porting_check.neutral.graph import Step
from porting_check.neutral.node import Node, show
from porting_check.neutral.padding import Padding
from porting_check.neutral.padding_expression import expressible
from porting_check.numerics.program import Edits


@dataclass(frozen=True, slots=True)
class Effective:
    """All the padding that reaches an operator: its own pads and those of explicit pad steps before it."""

    pads: tuple[int, ...]
    layers: tuple[Step, ...]
    mode: str
    value: float


def effective(suspect: Suspect, side: int, step: Step) -> Effective | None:
    """The padding of a step in ONNX order; ``None`` when a pad step before it pads other axes than the spatial ones."""
    graph = (suspect.judge.reference, suspect.judge.candidate)[side]
    own = tuple(nodes(step).attributes.get("pads", ()))
    spatial = len(own) // 2
    layers: list[Step] = []
    mode, value = "constant", -np.inf if nodes(step).op_type == "MaxPool" else 0.0
    total = np.array(own)
    key = step.inputs[0].key
    while key in graph.producer:
        before = graph.steps[graph.producer[key]]
        if before.node is None or before.node.op_type not in ("Pad", "Transpose", "Identity"):
            break
        if before.node.op_type == "Pad":
            amounts = _amounts(suspect, side, before, spatial)
            if amounts is None:
                return None
            total = total + amounts
            mode = str(before.node.attributes.get("mode", "constant"))
            fill = suspect.operand(side, before, 2)
            value = float(fill.reshape(-1)[0]) if fill is not None and fill.size else 0.0
            layers.append(before)
        key = before.inputs[0].key
    return Effective(tuple(int(p) for p in total), tuple(layers), mode, value)


def _amounts(suspect: Suspect, side: int, layer: Step, spatial: int) -> np.ndarray | None:
    """A pad step's amounts on the spatial axes of the operator's canonical layout, begins then ends."""
    pads = suspect.operand(side, layer, 1)
    if pads is None or pads.size % 2:
        return None
    begins, ends = pads.reshape(2, -1)
    graph = (suspect.judge.reference, suspect.judge.candidate)[side]
    layout = layer.inputs[0].canonical or graph.layouts.get(layer.inputs[0].key, "")
    rank = begins.size
    where = (
        [i for i, letter in enumerate(layout) if letter in "LDHW"]
        if len(layout) == rank
        else list(range(2, rank))
    )
    if len(where) != spatial or any(begins[i] or ends[i] for i in range(rank) if i not in where):
        return None
    return np.concatenate([begins[where], ends[where]])


def hypotheses(suspect: Suspect) -> Iterator[Hypothesis]:
    """The reference's total padding put into the candidate's operator, in place of all that the candidate pads."""
    for ours, theirs in suspect.pairs(*PADDED):
        if nodes(ours).op_type != nodes(theirs).op_type:
            continue
        wanted, present = effective(suspect, 0, ours), effective(suspect, 1, theirs)
        if wanted is None or present is None:
            continue
        if wanted.pads != present.pads or wanted.mode != present.mode or wanted.value != present.value:
            yield from _instead(suspect, ours, theirs, wanted, present)


def _instead(
    suspect: Suspect, ours: Step, theirs: Step, wanted: Effective, present: Effective
) -> Iterator[Hypothesis]:
    op = nodes(theirs).op_type
    changes: dict[int, tuple[Node, ...]] = {layer.index: () for layer in present.layers}
    plain = wanted.mode == "constant" and wanted.value == (-np.inf if op == "MaxPool" else 0.0)
    changes[theirs.index] = (
        (nodes(theirs).edit(pads=wanted.pads),) if plain else _padded_chain(theirs, wanted)
    )
    yield Hypothesis(
        cause=cause(ours, wanted, present),
        explanation=f"{op} pads {_said(present, op)} in all, the reference {_said(wanted, op)}",
        fix=_fix(suspect, theirs, wanted),
        edits=Edits(nodes=changes),
    )


def _padded_chain(theirs: Step, wanted: Effective) -> tuple[Node, ...]:
    """An explicit pad before the candidate's operator, with its amounts as constants."""
    node = nodes(theirs)
    half = len(wanted.pads) // 2
    full = np.array((0, 0, *wanted.pads[:half], 0, 0, *wanted.pads[half:]), np.int64)
    none = tuple(0 for _ in node.attributes["pads"])
    constants = (
        Node("Constant", (), ("_pads",), {"value": full}),
        Node("Constant", (), ("_fill",), {"value": np.array(wanted.value)}),
    )
    pad = Node("Pad", (node.inputs[0], "_pads", "_fill"), ("_padded",), {"mode": wanted.mode})
    last = Node(
        node.op_type,
        ("_padded", *node.inputs[1:]),
        node.outputs,
        {**node.attributes, "pads": none},
        node.domain,
    )
    return (*constants, pad, last)


def _said(found: Effective, op: str) -> str:
    text = show(found.pads)
    if found.mode != "constant":
        return f"{text} by {found.mode}"
    usual = -np.inf if op == "MaxPool" else 0.0
    return text if found.value == usual else f"{text} with the value {found.value:g}"


def cause(ours: Step, wanted: Effective, present: Effective) -> str:
    """The catalogue's id of a difference in padding."""
    node = nodes(ours)
    if wanted.pads == present.pads:
        if wanted.mode != present.mode:
            return "pad-mode-mirror"
        return "maxpool-pad-value" if node.op_type == "MaxPool" else "pad-constant-value"
    if node.op_type != "Conv":
        return "maxpool-same-asym" if node.op_type == "MaxPool" else "conv-same-stride-asym"
    if wanted.layers and not present.layers:
        return "conv-explicit-pad-layer"
    kernel, strides = node.attributes["kernel_shape"], node.attributes["strides"]
    half = len(wanted.pads) // 2
    if max(strides) > 1:
        return "conv-same-stride-asym"
    if sorted(wanted.pads) == sorted(present.pads) and wanted.pads != present.pads:
        return "conv-same-even-kernel" if any(k % 2 == 0 for k in kernel) else "conv-pad-wrong-side"
    if max(node.attributes.get("dilations", (1,))) > 1:
        return "conv-same-dilated"
    if any(k % 2 == 0 for k in kernel) and wanted.pads[:half] != wanted.pads[half:]:
        return "conv-same-even-kernel"
    return "conv-pad-wrong-side"


def _fix(suspect: Suspect, theirs: Step, wanted: Effective) -> str:
    """Code for the candidate's framework that pads as the reference does.

    A padding that TensorFlow, Keras or JAX may express as SAME is given explicitly: the sizes seen are not all sizes.
    """
    node = nodes(theirs)
    attributes = node.attributes
    try:
        answer = expressible(
            suspect.framework,
            node.op_type,
            Padding.from_onnx(wanted.pads),
            wanted.mode,
            kernel=attributes["kernel_shape"],
            strides=attributes.get("strides", 1),
            dilations=attributes.get("dilations", 1),
            value=wanted.value if wanted.mode == "constant" else None,
            ceil_mode=bool(attributes.get("ceil_mode", 0)),
            count_include_pad=bool(attributes.get("count_include_pad", 0)),
        )
    except PaddingError as error:
        return f"pad {show(wanted.pads)} ({error})"
    return answer.code

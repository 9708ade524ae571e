"""Parts of the comparison of gradients: one side's findings, distances, and words about kinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from porting_check.alignment.regions import Axes
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import parameter_name
from porting_check.numerics.adjoint_chain import GradientFound
from porting_check.numerics.program import to_double

Array = np.ndarray

GROSS = 0.02
"""An error above its limit is beyond doubt from this part of the gradient's scale on; bfloat16 operands leave 0.004 to 0.01."""

ALIKE = 1e-3
"""Two gradients that deviate from their nodes are the same deviation when they differ by less than this (rms over rms)."""


@dataclass(frozen=True, slots=True)
class OneSide:
    """One side's gradients and what was found of them."""

    graph: Graph
    gradients: Mapping[str, Array]
    found: Mapping[str, GradientFound]

    def name(self, key: str) -> str:
        """A value's name for a reader: the layer that made it, the parameter, the input."""
        if key.startswith("parameter:"):
            return parameter_name(key)
        step = self.graph.producer.get(key)
        if step is None:
            return next((f"input {p.name}" for p in self.graph.trace.inputs if p.value == key), key)
        return self.graph.record_of(self.graph.steps[step]).id

    def kind(self, key: str) -> str:
        """What a value is to the model."""
        if key.startswith("parameter:"):
            return "parameter"
        return "layer output" if key in self.graph.producer else "input"


def state(one: GradientFound | None) -> str:
    """``none``, ``unknown``, ``ok``, or above its limit: ``bad`` beyond doubt, ``doubtful`` within reduced precision."""
    if one is None:
        return "none"
    if one.ratio is None:
        return "unknown"
    if one.ratio <= 1:
        return "ok"
    return "bad" if one.gross > GROSS else "doubtful"


def passes(one: GradientFound) -> str:
    """What a side does with the gradient on its first kink, in words."""
    share = one.kinks[0].share
    if share is None:
        return "chooses by a rule of its own"
    return {0.0: "passes 0", 1.0: "passes the gradient on"}.get(round(share, 3), f"passes {share:.3g} of it")


def distance(ours: Array | None, theirs: Array | None) -> float | None:
    """Root mean square of the difference over that of the larger; infinite where only one side has a gradient."""
    if ours is None or theirs is None:
        rest = theirs if ours is None else ours
        return 0.0 if rest is None or not np.any(rest) else float("inf")
    if ours.shape != theirs.shape or not ours.size:
        return None
    left, right = to_double(ours), to_double(theirs)
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.square(left - right).mean()))
        scale = max(float(np.sqrt(np.square(left).mean())), float(np.sqrt(np.square(right).mean())))
    if np.array_equal(left, right, equal_nan=True):
        return 0.0
    return error / scale if scale > 0 and np.isfinite(error) else float("inf")


def roots_of(graph: Graph, key: str) -> tuple[str, ...]:
    """The parameters that a fixed operand is made of by moves alone; empty where it is something else."""
    if key.startswith("parameter:"):
        return (key,)
    if not key or key in graph.fed:
        return ()
    steps = [graph.steps[i] for i in graph.between(key, ())[0]]
    if not steps or any(not step.movement for step in steps):
        return ()
    return tuple(dict.fromkeys(o.key for s in steps for o in s.inputs if o.key.startswith("parameter:")))


def held(graph: Graph, key: str) -> Array:
    """A value that is known to be recorded."""
    array = graph.array(key)
    assert array is not None
    return array


def statistics(graph: Graph) -> set[str]:
    """Running means and variances: no parameters to train."""
    return {
        root
        for step in graph.steps
        if step.node is not None and step.node.op_type == "BatchNormalization"
        for operand in step.inputs[3:5]
        for root in roots_of(graph, operand.key)
    }


def on_kinks(
    pair: tuple[GradientFound | None, GradientFound | None],
    arrays: tuple[Array | None, Array | None],
    order: Axes,
) -> str:
    """What both sides do on kinks, where they do different things; ``""`` where they agree."""
    ours, theirs = pair
    if ours is None or theirs is None or not ours.kinks or not theirs.kinks:
        return ""
    if arrays[0] is None or arrays[1] is None or order.of(arrays[0].shape) != arrays[1].shape:
        return ""
    masks = [np.any([kink.mask for kink in one.kinks], axis=0) for one in (ours, theirs)]
    both = masks[0] & masks[1].transpose(order.back)
    left, right = arrays[0][both], arrays[1].transpose(order.back)[both]
    scale = max(float(np.abs(arrays[0]).max(initial=0.0)), float(np.abs(arrays[1]).max(initial=0.0)))
    differing = int((~(np.abs(left - right) <= ALIKE * scale)).sum())
    if not differing:
        return ""
    did = [passes(one) for one in (ours, theirs)]
    kink = ours.kinks[0]
    return (
        f"{differing} of the {int(both.sum())} elements that sit on a kink of {kink.op_type} get another gradient: "
        f"the reference {did[0]}, the candidate {did[1]}"
    )

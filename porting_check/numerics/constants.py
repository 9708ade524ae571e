"""What rounding a constant to float32 (an epsilon, a slope, the square root in gelu) does to the output of a whole model.

Two float64 runs of one function differ where one of them holds such a constant as float32: ONNX does with every real
attribute, TensorFlow with the slope of ``LeakyRelu`` and with the numbers inside gelu.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from porting_check.neutral.graph import Graph, Step
from porting_check.neutral.node import Node
from porting_check.numerics.program import NO_EDITS, Edits, Program

Array = np.ndarray

STRONGER = 2.0**10
"""Constants are moved by this many times their rounding error, so that the move itself is not rounded away."""

MOST = 6
"""At most this many constants are tried together: every one may be float32 on either side, which makes 3 to the power of it."""

SAMPLES = 4096
"""Elements on which combinations are tried; the best one is then checked on all."""

EXPLAINED = 0.05
"""A combination explains a difference when at most this part of it is left."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of a graph that is no float32.

    ``edits`` move it by :data:`STRONGER` times its rounding error, and ``share`` of the change that this makes is what
    holding it in double instead of float32 does.
    """

    name: str
    edits: Edits
    share: float


def constants(graph: Graph) -> list[Constant]:
    """The constants of a graph that float32 rounds, those of equal operator and value together.

    Example:
        >>> [constant.name for constant in constants(graph)]             # doctest: +SKIP
        ['alpha of LeakyRelu (0.2)', 'the square root of 2 in Gelu']
    """
    found: dict[str, dict[int, tuple[Node, ...]]] = {}
    shares: dict[str, float] = {}
    for step in graph.steps:
        for name, share, chain in _of(step):
            found.setdefault(name, {})[step.index] = chain
            shares[name] = share
    return [Constant(name, Edits(nodes=nodes), shares[name]) for name, nodes in found.items()]


def _of(step: Step) -> Iterable[tuple[str, float, tuple[Node, ...]]]:
    node = step.node
    if node is None:
        return
    for name, value in node.attributes.items():
        if not isinstance(value, float) or not math.isfinite(value):
            continue
        rounded = float(np.float32(value))
        moved = float(np.float32(rounded + STRONGER * (value - rounded)))
        if moved != rounded:
            share = (value - rounded) / (moved - rounded)
            yield f"{name} of {node.op_type} ({value:.7g})", share, (node.edit(**{name: moved}),)
    if node.op_type == "Gelu" and node.attributes.get("approximate", "none") == "none":
        yield "the square root of 2 in Gelu", -1 / STRONGER, _moved_gelu(node)


def _moved_gelu(node: Node) -> tuple[Node, ...]:
    """``x * Phi(x * (1 + d))`` from gelu itself: ``gelu(x * (1 + d)) / (1 + d)``, with d from float32's square root of 2."""
    off = float(np.float32(math.sqrt(2))) / math.sqrt(2) - 1
    factor = np.asarray(1 + STRONGER * off)
    out = node.outputs[0]
    return (
        Node("Constant", (), (f"{out}/factor",), {"value": factor}),
        Node("Mul", (node.inputs[0], f"{out}/factor"), (f"{out}/scaled",)),
        Node("Gelu", (f"{out}/scaled",), (f"{out}/gelu",), node.attributes),
        Node("Div", (f"{out}/gelu", f"{out}/factor"), (out,)),
    )


def effects(graph: Graph, key: str) -> dict[str, Array]:
    """By constant: the change of a value when the constant is held in double instead of float32, first order.

    Args:
        graph: of the side.
        key: of the value; native layout in, native layout out.

    Raises:
        OpaqueStep: a part that has no nodes and whose output was not recorded.
        CannotEvaluate: an operator that nothing evaluates in float64.
    """
    program = Program(graph)
    known = {
        o.key for s in graph.steps if s.node is None for o in s.outputs if graph.array(o.key) is not None
    }
    steps, used = graph.between(key, known)
    given = {name: array for name in used if (array := graph.array(name)) is not None}
    inside = set(steps)
    wanted = [c for c in constants(graph) if inside & set(c.edits.nodes)][:MOST]
    if not wanted:
        return {}
    base = _evaluated(program, steps, given, key, NO_EDITS)
    return {c.name: (_evaluated(program, steps, given, key, c.edits) - base) * c.share for c in wanted}


def _evaluated(
    program: Program, steps: Sequence[int], given: Mapping[str, Array], key: str, edits: Edits
) -> Array:
    return program.evaluate(steps, given, [key], edits=edits)[key]


def explaining(difference: Array, known: Mapping[str, Array]) -> dict[str, int] | None:
    """Which constants, held in float32 on one side only, make a difference; ``None`` when no combination does.

    Args:
        difference: candidate minus reference, in float64.
        known: the effect of each constant, as :func:`effects` gives it, of the same shape.

    Returns:
        Constants by name: 1 where the candidate holds it in double and the reference in float32, -1 the other way round.

    Example:
        >>> explaining(np.array([2.0, -4.0]), {"alpha": np.array([-1.0, 2.0]), "epsilon": np.array([3.0, 2.0])})
        >>> explaining(np.array([1.0, -2.0]), {"alpha": np.array([-1.0, 2.0]), "epsilon": np.array([3.0, 2.0])})
        {'alpha': -1}
    """
    names = list(known)[:MOST]
    size = float(np.abs(difference).max(initial=0.0))
    if not names or size == 0.0 or not np.isfinite(size):
        return None
    flat = difference.ravel()
    stride = max(1, flat.size // SAMPLES)
    columns = np.stack([known[name].ravel()[::stride] for name in names])
    best = min(
        itertools.product((0, 1, -1), repeat=len(names)),
        key=lambda signs: float(np.square(flat[::stride] - np.asarray(signs, float) @ columns).sum()),
    )
    made = sum(
        (sign * known[name].ravel() for sign, name in zip(best, names, strict=True)), np.zeros(flat.size)
    )
    left = float(np.abs(flat - made).max())
    return {n: s for n, s in zip(names, best, strict=True) if s} if left <= EXPLAINED * size else None

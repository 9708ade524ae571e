"""Gradients of operators that move elements: the node is run on the numbers of the elements, and gradients go back there."""

from __future__ import annotations

import numpy as np

from porting_check.numerics.adjoint import Call, NoAdjoint, Sum, adjoint
from porting_check.numerics.operators.dtypes import numpy_dtype
from porting_check.numerics.operators.registry import Array, is_floating
from porting_check.numerics.truth import evaluate_node

_ONE = (
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Pad", "Expand", "Tile", "Gather",
    "GatherElements", "GatherND", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Trilu", "Compress",
)  # fmt: skip
_MANY = {"Concat": None, "ScatterND": (0, 2), "ScatterElements": (0, 2)}
"""Operators with several data operands, and which ones those are (``None`` = all)."""


@adjoint("Identity", "Dropout")
def identity(call: Call) -> dict[int, Sum]:
    """Passed on as it is."""
    return {0: Sum(call.g)}


@adjoint("Cast", "CastLike")
def cast(call: Call) -> dict[int, Sum]:
    """Passed on between floating types; whole numbers carry no gradient."""
    if call.node.op_type == "Cast" and not is_floating(np.empty(0, numpy_dtype(call.node.attributes["to"]))):
        return {}
    return {0: Sum(call.g)} if is_floating(call.outputs[0]) else {}


@adjoint(
    "Shape",
    "Size",
    "Constant",
    "ConstantOfShape",
    "Range",
    "OneHot",
    "EyeLike",
    "NonZero",
    "ArgMax",
    "ArgMin",
    "Hardmax",
)
def nothing(call: Call) -> dict[int, Sum]:
    """What depends on shapes or places only carries no gradient."""
    return {}


@adjoint(*_ONE, *_MANY)
def moved(call: Call) -> dict[int, Sum]:
    """Every element of the output adds its gradient to the element that it came from.

    Raises:
        NoAdjoint: a scatter that adds or multiplies.
    """
    node = call.node
    if str(node.attributes.get("reduction", "none")) != "none":
        raise NoAdjoint(f"{node.op_type} that reduces has no rule for its gradient")
    positions = _MANY.get(node.op_type, (0,)) or range(len(call.inputs))
    numbered: list[Array | None] = list(call.inputs)
    first, starts = 1, {}
    for position in positions:
        array = call.given(position)
        starts[position] = first
        numbered[position] = np.arange(first, first + array.size, dtype=np.float64).reshape(array.shape)
        first += array.size
    if node.op_type == "Pad" and len(numbered) > 2:
        numbered[2] = None  # what is filled in comes from nowhere
    total, count = np.zeros(first), np.zeros(first)
    for places, g in zip(evaluate_node(node, numbered), call.cotangents, strict=False):
        if g is not None:
            flat = places.reshape(-1).astype(np.int64)
            total += np.bincount(flat, g.reshape(-1), first)
            count += np.bincount(flat, minlength=first)
    made = {}
    for position, start in starts.items():
        array = call.given(position)
        part = slice(start, start + array.size)
        made[position] = Sum(total[part].reshape(array.shape), max(1.0, float(count[part].max(initial=1.0))))
    return made

"""Round-off of interpolation: besides the sum itself, the places and the weights are computed in the native arithmetic.

A place ``x = (y + 0.5) scale - 0.5`` is off by up to about three roundings of its size, and the result by that times the slope
of the data, which the differences of neighbouring values bound. The weights, small as they may be, are off by roundings of
1. Both follow from the data by the very interpolation, with linear weights (which are not negative)::

    u (4 sum over axes of size * |difference along the axis| + 4 max |x| nearby)

Without these terms data of scale 100 with small slopes, or large slopes beside exact places, exceed the limit of plain sums
45 times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.truth import evaluate_node

Array = np.ndarray

INTERPOLATION = frozenset({"Resize", "Upsample", "GridSample"})

PLACES, WEIGHTS = 4.0, 4.0
"""Roundings of a place, and of a weight (a cubic one is a polynomial of degree three)."""


def exact_positions(node: Node) -> bool:
    """Whether a node only picks values (nearest neighbour), so that it rounds nothing."""
    default = "linear" if node.op_type == "GridSample" else "nearest"
    return node.op_type in INTERPOLATION and (node.attributes.get("mode") or default) == "nearest"


def positions(node: Node, inputs: Sequence[Array | None], unit: float) -> Array:
    """What rounded places and weights may do to each output.

    Args:
        node: Resize, Upsample or GridSample, not of mode nearest.
        inputs: its operands, canonical layout.
        unit: unit round-off.

    Example:
        >>> x = np.array([[[0.0, 100.0, 200.0, 300.0]]])
        >>> node = Node("Resize", ("x", "", "s"), attributes={"mode": "linear"})
        >>> found = positions(node, [x, None, np.array([1.0, 1.0, 2.0])], 2.0**-24)
        >>> found.shape, bool(found.max() < 1e-3)
        ((1, 1, 8), True)
    """
    data = inputs[0]
    assert data is not None
    cubic = str(node.attributes.get("mode")) in ("cubic", "bicubic")
    filled = node.op_type == "GridSample" and node.attributes.get("padding_mode", "zeros") == "zeros"
    size = np.abs(data, dtype=np.float32)
    total = np.zeros(size.shape, np.float32)
    nearby = size
    for axis in range(2 if node.op_type == "GridSample" else 0, data.ndim):
        total += PLACES * data.shape[axis] * _slopes(data, axis, cubic, filled)
        nearby = _widened(_widened(nearby, axis), axis) if cubic else _widened(nearby, axis)
    total += WEIGHTS * nearby
    # The slope of cubic interpolation is at most twice the largest difference among its four values.
    found = evaluate_node(_linear(node), [total * (2 if cubic else 1), *inputs[1:]], dtype=None)[0]
    if node.op_type == "GridSample" and inputs[1] is not None:
        far = np.maximum(1.0, np.abs(inputs[1]).max(axis=-1))
        found = found * far[:, None]
    return np.asarray(unit * np.abs(found))


def _linear(node: Node) -> Node:
    """The same sampling with weights that are not negative, held at the border where the other fills in zeros."""
    if node.op_type != "GridSample":
        return node.edit(mode="linear", cubic_coeff_a=None, extrapolation_value=None)
    padding = node.attributes.get("padding_mode", "zeros")
    return node.edit(mode="linear", padding_mode="border" if padding == "zeros" else padding)


def _slopes(data: Array, axis: int, cubic: bool, filled: bool) -> Array:
    """The largest difference of neighbours beside each value (at the border also to zero, if that may lie outside)."""
    edges = [(0, 0)] * data.ndim
    edges[axis] = (1, 1)
    around = np.pad(data, edges) if filled else np.pad(data, edges, mode="edge")
    apart = np.abs(np.diff(around, axis=axis)).astype(np.float32)
    ends = [slice(None)] * data.ndim
    ends[axis] = slice(0, -1)
    found = apart[tuple(ends)]
    ends[axis] = slice(1, None)
    found = np.maximum(found, apart[tuple(ends)])
    return _widened(found, axis) if cubic else found


def _widened(data: Array, axis: int) -> Array:
    """The largest of each value and its two neighbours along an axis."""
    ahead, behind = [slice(None)] * data.ndim, [slice(None)] * data.ndim
    ahead[axis], behind[axis] = slice(1, None), slice(0, -1)
    found = data.copy()
    np.maximum(found[tuple(behind)], data[tuple(ahead)], out=found[tuple(behind)])
    np.maximum(found[tuple(ahead)], data[tuple(behind)], out=found[tuple(ahead)])
    return found

"""The error of a normalisation that computes its variance in one pass, recognised by its structure.

``E[x^2] - E[x]^2`` in float32 is off by roundings of ``E[x^2]``; each row is then scaled and shifted a little, and what is left
beside that is ordinary round-off::

    error = (c t + d) g + rest,   t = (x - mean) / sqrt(var + eps),   |c| <= 8 u E[x^2] / (2 (var + eps)) + 8 u

A wrong epsilon scales rows too, but all of them one way; where there are rows enough to tell, that is no explanation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.roundoff_normalization import OPERATORS, axes_of, statistics, two_pass
from porting_check.numerics.roundoff_units import NORMALIZED, TINY

Array = np.ndarray

ROWS = 8
"""From so many rows on, scales that all go one way are not the work of rounding (probability 2 ** -7)."""


def variance_in_one_pass(
    node: Node, inputs: Sequence[Array | None], error: Array, truth: Array, unit: float
) -> bool:
    """Whether an error is what a variance computed in one pass makes.

    Args:
        node: a normalisation.
        inputs: its operands in float64, canonical layout.
        error: of its first output.
        truth: that output in float64.
        unit: unit round-off.
    """
    data = inputs[0]
    training = node.op_type != "BatchNormalization" or node.attributes.get("training_mode", 0)
    if node.op_type not in OPERATORS or not training or data is None or data.shape != error.shape:
        return False
    limit = two_pass(node, inputs, truth, NORMALIZED * unit) + TINY
    found, epsilon = statistics(node, data), float(node.attributes.get("epsilon", 1e-5))
    standard = (data - found.mean) / np.sqrt(found.variance + epsilon)
    gain = _gain(node, inputs[1], data)
    scale, shift = _fitted(node, error, standard, gain)
    rest = np.abs(error - (scale * standard + shift) * gain)
    allowed = NORMALIZED * unit * (found.moment / (2 * (found.variance + epsilon)) + 1)
    signs = np.sign(np.unique(scale[scale != 0]))
    one_way = signs.size >= ROWS and abs(signs.mean()) == 1
    return bool((rest <= limit).all() and (np.abs(scale) <= allowed).all() and not one_way)


def _gain(node: Node, vector: Array | None, data: Array) -> Array:
    if vector is None:
        return np.ones_like(data)
    if node.op_type == "LayerNormalization":
        return np.broadcast_to(vector, data.shape)
    if vector.size != data.shape[1]:
        vector = np.repeat(vector, data.shape[1] // vector.size)
    return np.broadcast_to(vector.reshape((1, -1) + (1,) * (data.ndim - 2)), data.shape)


def _fitted(node: Node, error: Array, standard: Array, gain: Array) -> tuple[Array, Array]:
    """Least squares of ``error / gain`` on the standardised data, row by row; of a shape that broadcasts."""
    shape = error.shape
    if node.op_type == "GroupNormalization":
        shape = (shape[0], int(node.attributes["num_groups"]), -1)
    axes = axes_of(node, error.ndim)
    used = (gain != 0).reshape(shape)
    each = np.where(
        used, np.divide(error, gain, out=np.zeros(error.shape), where=gain != 0).reshape(shape), 0.0
    )
    t = np.where(used, standard.reshape(shape), 0.0)
    count = np.maximum(used.sum(axis=axes, keepdims=True), 1)
    centre, middle = (part.sum(axis=axes, keepdims=True) / count for part in (each, t))
    moved = np.where(used, t - middle, 0.0)
    power = np.square(moved).sum(axis=axes, keepdims=True)
    slope = np.divide(
        (moved * each).sum(axis=axes, keepdims=True), power, out=np.zeros(power.shape), where=power > 0
    )
    wide = np.broadcast_to(slope, t.shape), np.broadcast_to(centre - slope * middle, t.shape)
    return wide[0].reshape(error.shape), wide[1].reshape(error.shape)

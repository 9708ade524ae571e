"""Round-off of normalisations, in units: what their statistics and their affine part may be off by.

With gain ``g`` and bias ``b``, ``r = 1 / sqrt(var + eps)`` and ``D`` normalised values, for the usual two passes over the
data (study, section 1.1; worst measured 2.8 units at D = 768, 2.4 for batch normalisation in inference, folded ones too)::

    u (|g| r (|x| + mean|x|) + |b| + |y|)              batch normalisation in inference: |mean| in place of mean|x|
    + 0.3 u sqrt(D / 3) (|g| r |mean| + |y - b| / 2)   the mean and the variance as sums taken term after term

The second line is the law of sums for positive terms (rms 0.42 sqrt(D / 3) u of the sum, six deviations, over the 8 units
that are allowed); without it group normalisation of uniform data by XLA, which adds in order, was at 1.14 of its limit.

A variance computed in one pass, ``E[x^2] - E[x]^2``, loses what the mean is larger than the deviation; it is legal, and the
default of flax (measured: 5 units at mean / deviation 1.7, and 410 at 100)::

    + u |y - b| E[x^2] / (2 (var + eps))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from porting_check.neutral.node import Node

Array = np.ndarray

OPERATORS = frozenset({
    "LayerNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization",
})  # fmt: skip
"""Those that take a variance about a mean."""

IN_ORDER = 0.3
"""Weight of the error of sums that are taken term after term; see the module's head."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a normalisation takes of its data, each of a shape that broadcasts against the data.

    ``moment`` is E[x^2], whose root stands for mean|x| (it is 1.25 times that for normal data); ``count`` the number of values
    per mean.
    """

    mean: Array
    moment: Array
    variance: Array
    count: float


def statistics(node: Node, data: Array) -> Statistics:
    """The statistics of a layer, group, instance, root-mean-square or training batch normalisation.

    Args:
        node: the operator.
        data: its input in float64, canonical layout.

    Example:
        >>> found = statistics(Node("InstanceNormalization", ("x", "g", "b")), np.arange(8.0).reshape(1, 2, 4))
        >>> found.mean.ravel().tolist(), found.variance.ravel().tolist(), found.count
        ([1.5, 5.5], [1.25, 1.25], 4.0)
    """
    rows, axes = data, axes_of(node, data.ndim)
    if node.op_type == "GroupNormalization":
        rows = data.reshape(data.shape[0], int(node.attributes["num_groups"]), -1)
    letters = "abcdefgh"[: rows.ndim]
    kept = "".join(letter for axis, letter in enumerate(letters) if axis not in axes)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(rows.shape))
    count = rows.size / max(int(np.prod(shape)), 1)
    moment = np.einsum(f"{letters},{letters}->{kept}", rows, rows).reshape(shape) / count
    mean = np.zeros(shape) if node.op_type == "RMSNormalization" else rows.mean(axis=axes, keepdims=True)
    # In float64 the difference is good to 1e-16 of the moment; two digits are wanted.
    variance = np.maximum(moment - np.square(mean), 0.0)
    if rows is not data:
        mean, moment, variance = (_by_channel(part, data) for part in (mean, moment, variance))
    return Statistics(mean, moment, variance, float(count))


def axes_of(node: Node, rank: int) -> tuple[int, ...]:
    """The axes over which a normalisation takes its statistics (of the grouped data for groups)."""
    if node.op_type == "GroupNormalization":
        return (2,)
    if node.op_type == "InstanceNormalization":
        return tuple(range(2, rank))
    if node.op_type == "BatchNormalization":
        return tuple(axis for axis in range(rank) if axis != 1)
    return tuple(range(int(node.attributes.get("axis", -1)) % rank, rank))


def _by_channel(part: Array, data: Array) -> Array:
    """One value per sample and group, for every channel of the group."""
    wide = np.repeat(part[:, :, 0], data.shape[1] // part.shape[1], axis=1)
    return wide.reshape(wide.shape + (1,) * (data.ndim - 2))


def two_pass(node: Node, inputs: Sequence[Array | None], output: Array, unit: float) -> Array:
    """The unit of the usual algorithm; see the module's head.

    Args:
        node: the normalisation.
        inputs: its operands in float64, canonical layout.
        output: its first output in float64.
        unit: unit round-off.
    """
    return _units(node, inputs, output, unit, one_pass=False)


def with_one_pass(node: Node, inputs: Sequence[Array | None], output: Array, unit: float) -> Array:
    """The same when the variance may have been computed in one pass."""
    return _units(node, inputs, output, unit, one_pass=True)


def _units(
    node: Node, inputs: Sequence[Array | None], output: Array, unit: float, *, one_pass: bool
) -> Array:
    data = inputs[0]
    assert data is not None
    gain, bias = (_affine(node, inputs, place, data) for place in (1, 2))
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    if node.op_type == "BatchNormalization" and not node.attributes.get("training_mode", 0):
        mean, variance = (_affine(node, inputs, place, data) for place in (3, 4))
        limit: Array = np.abs(data)
        limit += np.abs(mean)
        limit *= unit * np.abs(gain) / np.sqrt(variance + epsilon)
        rest: Array = np.abs(output)
        rest += np.abs(bias)
        rest *= unit
        limit += rest
        return limit
    found = statistics(node, data)
    inverse, plain = 1 / np.sqrt(found.variance + epsilon), node.op_type == "RMSNormalization"
    order = 1 + IN_ORDER * np.sqrt(found.count / 3) / 2
    if one_pass and not plain:
        order = order + found.moment * np.square(inverse) / 2
    size = (not plain) * np.sqrt(found.moment) + IN_ORDER * np.sqrt(found.count / 3) * np.abs(found.mean)
    limit = np.abs(data)
    limit += size
    limit *= unit * inverse
    limit *= np.abs(gain)
    # |y - b| is at most |y| + |b|.
    rest = np.abs(output)
    rest += np.abs(bias)
    rest *= unit * order
    limit += rest
    return limit


def one_pass_over_two(node: Node, inputs: Sequence[Array | None]) -> float:
    """How many times larger the unit may be with a variance in one pass; 1 where there is no such thing."""
    data = inputs[0]
    training = node.op_type != "BatchNormalization" or node.attributes.get("training_mode", 0)
    if node.op_type not in OPERATORS or not training or data is None or not data.size:
        return 1.0
    found = statistics(node, data)
    return float(
        1 + (found.moment / (found.variance + float(node.attributes.get("epsilon", 1e-5)))).max() / 2
    )


def _affine(node: Node, inputs: Sequence[Array | None], place: int, data: Array) -> Array:
    """An operand of the affine part, of a shape that broadcasts against the data; 0 where absent."""
    vector = inputs[place] if place < len(inputs) else None
    if vector is None or (node.op_type == "RMSNormalization" and place != 1):
        return np.zeros(())
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        return vector
    if node.op_type == "GroupNormalization" and vector.size != data.shape[1]:
        vector = np.repeat(vector, data.shape[1] // vector.size)
    return vector.reshape((1, -1) + (1,) * (data.ndim - 2)) if data.ndim > 1 else vector

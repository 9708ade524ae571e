"""What round-off may do to elementwise operators and softmax: ``u (|f| + |x f'| + floor)``, and what they pass on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.roundoff_units import ELEMENTWISE, NORMALIZED, TINY, errors_of
from porting_check.numerics.truth import evaluate_node

Array = np.ndarray

FUNCTIONS = frozenset({
    "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Tanh", "Softplus", "Softsign",
    "Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tan", "Erf", "Atan", "Asin", "Acos", "Sinh", "Cosh", "Asinh", "Acosh",
    "Atanh", "Shrink",
})  # fmt: skip
"""Functions of one value."""


def addition(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """A rounding of each sum, and the errors of all terms."""
    limit = np.asarray(np.abs(output))
    limit *= 2 * unit * max(1, len(inputs) - 1)
    for position in range(len(inputs)):
        error = errors_of(incoming, position)
        if error is not None:
            limit += error
    return limit


def product(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """A rounding of the product, and each factor's error times the other."""
    limit = np.asarray(np.abs(output))
    limit *= 2 * unit
    limit += TINY * (unit > 2.0**-53)
    for position, other in ((0, 1), (1, 0)):
        error, factor = errors_of(incoming, position), inputs[other]
        if error is not None and factor is not None:
            limit += error * np.abs(factor)
    return limit


def contraction(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """Errors are passed on, at most times the steepest slope."""
    error = errors_of(incoming, 0)
    slope = inputs[1] if node.op_type == "PRelu" else None
    gain = max(
        1.0, abs(node.attributes.get("alpha", 0.0)), float(np.abs(slope).max()) if slope is not None else 0.0
    )
    limit = 2 * unit * np.abs(output) if node.op_type in ("LeakyRelu", "PRelu") else np.zeros(output.shape)
    return np.asarray(limit if error is None else limit + gain * error)


def function(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """U (|f| + |x f'| + floor), floor 1 for saturating functions and |x| for those that multiply by x."""
    data = inputs[0]
    assert data is not None
    slope = _slope(node, data, inputs, output)
    with np.errstate(invalid="ignore"):
        times = np.abs(data) if node.op_type in ("Gelu", "Swish", "HardSwish", "Mish") else 0.0
        floor = (
            1.0
            if node.op_type in ("Sigmoid", "HardSigmoid", "Elu", "Selu", "Celu", "Erf", "Sin", "Cos")
            else 0.0
        )
        limit = ELEMENTWISE * unit * (np.abs(output) + np.abs(data) * slope + times + floor) + TINY * (
            unit > 2.0**-53
        )
    error = errors_of(incoming, 0)
    return np.asarray(limit if error is None else limit + (slope + 1e-3) * error)


STEEPEST = {"Gelu": 1.13, "Swish": 1.1, "HardSwish": 1.5, "Mish": 1.09}
"""The largest slope of functions that multiply by x; a bound is enough, because their floor is |x| anyway."""

_SLOPES: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": lambda f: f * (1 - f),
    "Tanh": lambda f: 1 - f * f,
    "Exp": np.asarray,
    "Sqrt": lambda f: 0.5 / f,
    "Reciprocal": lambda f: f * f,
}
"""Slopes that follow from the value."""


def _slope(node: Node, data: Array, inputs: Sequence[Array | None], output: Array) -> Array:
    """The magnitude of a function's slope: known, from its value, or by a difference; 0 where it has none."""
    if node.op_type in STEEPEST:
        return np.asarray(STEEPEST[node.op_type])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if node.op_type in _SLOPES:
            slope = np.abs(_SLOPES[node.op_type](output))
        else:
            step = 1e-6 * np.maximum(np.abs(data), 1e-3)
            slope = np.abs(evaluate_node(node, [data + step, *inputs[1:]])[0] - output) / step
    return np.where(np.isfinite(slope), slope, 0.0)


def softmax(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """``8 u y (2 + |x - max|)``."""
    data = inputs[0]
    assert data is not None
    axis = node.attributes.get("axis", -1)
    limit = data.max(axis=axis, keepdims=True) - data
    limit += 2
    limit *= output
    limit *= NORMALIZED * unit
    limit += TINY
    error = errors_of(incoming, 0)
    if error is not None:
        limit = limit + output * (error + (output * error).sum(axis=axis, keepdims=True))
    return np.asarray(limit)

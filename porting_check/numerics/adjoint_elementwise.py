"""Gradients of elementwise operators: activations and functions by their derivatives, arithmetic with broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from porting_check.numerics.adjoint import Call, NoAdjoint, Sum, adjoint, unbroadcast
from porting_check.numerics.operators.activation import sigmoid, softplus
from porting_check.numerics.operators.registry import Array, channelwise
from porting_check.numerics.roundoff_units import ELEMENTWISE

Attributes = Mapping[str, Any]
Slope = Callable[[Array, Attributes], Any]

_PIECEWISE: dict[str, Slope] = {
    "Relu": lambda x, a: x > 0,
    "LeakyRelu": lambda x, a: np.where(x > 0, 1.0, a.get("alpha", 0.01)),
    "ThresholdedRelu": lambda x, a: x > a.get("alpha", 1.0),
    "HardSigmoid": lambda x, a: a.get("alpha", 0.2) * _inside(a.get("alpha", 0.2) * x + a.get("beta", 0.5)),
    "Shrink": lambda x, a: np.abs(x) > a.get("lambd", 0.5),
    "Abs": lambda x, a: np.sign(x),
    "Neg": lambda x, a: -np.ones_like(x),
    "Floor": lambda x, a: np.zeros_like(x),
    "Ceil": lambda x, a: np.zeros_like(x),
    "Round": lambda x, a: np.zeros_like(x),
    "Sign": lambda x, a: np.zeros_like(x),
}
"""Derivatives that are exact numbers; away from the kinks a kernel loses at most the rounding of one product."""

_SMOOTH: dict[str, Slope] = {
    "Elu": lambda x, a: np.where(x > 0, 1.0, a.get("alpha", 1.0) * np.exp(np.minimum(x, 0))),
    "Selu": lambda x, a: _selu(x, a),
    "Celu": lambda x, a: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0) / a.get("alpha", 1.0))),
    "Sigmoid": lambda x, a: sigmoid(x) * sigmoid(-x),
    "Tanh": lambda x, a: 1 / np.square(np.cosh(np.clip(x, -350, 350))),
    "Erf": lambda x, a: 2 / np.sqrt(np.pi) * np.exp(-np.square(x)),
    "Softplus": lambda x, a: sigmoid(x),
    "Softsign": lambda x, a: 1 / np.square(1 + np.abs(x)),
    "Mish": lambda x, a: _mish(x),
    "Gelu": lambda x, a: _gelu(x, a),
    "HardSwish": lambda x, a: np.where(x >= 3, 1.0, np.where(x <= -3, 0.0, x / 3 + 0.5)),
    "Swish": lambda x, a: _swish(x, float(a.get("alpha", 1.0))),
    "Sin": lambda x, a: np.cos(x),
    "Cos": lambda x, a: -np.sin(x),
    "Atan": lambda x, a: 1 / (1 + np.square(x)),
}
"""Derivatives of functions whose kernels round at the scale of one (``1 - y*y`` of tanh loses a unit of one)."""

_FREE: dict[str, Slope] = {
    "Exp": lambda x, a: np.exp(x),
    "Log": lambda x, a: 1 / x,
    "Sqrt": lambda x, a: 0.5 / np.sqrt(x),
    "Reciprocal": lambda x, a: -1 / np.square(x),
    "Tan": lambda x, a: 1 + np.square(np.tan(x)),
    "Asin": lambda x, a: 1 / np.sqrt(1 - np.square(x)),
    "Acos": lambda x, a: -1 / np.sqrt(1 - np.square(x)),
    "Sinh": lambda x, a: np.cosh(x),
    "Cosh": lambda x, a: np.sinh(x),
    "Asinh": lambda x, a: 1 / np.sqrt(1 + np.square(x)),
    "Acosh": lambda x, a: 1 / np.sqrt(np.square(x) - 1),
    "Atanh": lambda x, a: 1 / (1 - np.square(x)),
}
"""Derivatives that keep their relative precision as far as their condition lets them."""


def _inside(y: Array) -> Array:
    return ((y > 0) & (y < 1)).astype(np.float64)


def _selu(x: Array, a: Attributes) -> Array:
    alpha, gamma = a.get("alpha", 1.67326319217681884765625), a.get("gamma", 1.05070102214813232421875)
    return np.asarray(gamma * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))))


def _swish(x: Array, alpha: float) -> Array:
    s, t = sigmoid(alpha * x), sigmoid(-alpha * x)
    return np.asarray(s + alpha * x * s * t)


def _mish(x: Array) -> Array:
    t = np.tanh(softplus(x))
    return np.asarray(t + x * sigmoid(x) * (1 - np.square(t)))


def _gelu(x: Array, a: Attributes) -> Array:
    if str(a.get("approximate", "none")) == "tanh":
        inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
        return np.asarray(sigmoid(2 * inner) + x * 2 * slope * sigmoid(2 * inner) * sigmoid(-2 * inner))
    from scipy.special import ndtr

    return np.asarray(ndtr(x) + x * np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi))


def _bound(slope: Slope, x: Array, attributes: Attributes, floor: float) -> Array:
    """``|f'| + |x f''| + floor``: what rounding the input and the inside of the formula does to the derivative."""
    step = 1e-5 * np.maximum(np.abs(x), 1e-3)
    bend = (np.asarray(slope(x + step, attributes)) - np.asarray(slope(x - step, attributes))) / (2 * step)
    bend = np.where(np.isfinite(bend), np.abs(x * bend), 0.0)
    return np.asarray(np.abs(slope(x, attributes)) + bend + floor)


def _unary(names: dict[str, Slope], units: float, floor: float | None) -> None:
    for name, slope in names.items():

        def run(call: Call, slope: Slope = slope) -> dict[int, Sum]:
            x, attributes = call.given(0), call.node.attributes
            if not call.absolute:
                factor = np.asarray(slope(x, attributes), np.float64)
            elif floor is None:
                factor = np.abs(np.asarray(slope(x, attributes), np.float64))
            else:
                factor = _bound(slope, x, attributes, floor)
            # What flows nowhere stays nowhere: 0 * inf at the edge of a domain is the framework's business too.
            return {0: Sum(call.g * factor)}

        adjoint(name, units=units)(run)


_unary(_PIECEWISE, 2.0, None)
_unary(_SMOOTH, ELEMENTWISE, 1.0)
_unary(_FREE, ELEMENTWISE, 0.0)


def _shape(call: Call, position: int) -> tuple[int, ...]:
    return call.given(position).shape


def _spread(call: Call, position: int, gradient: Array) -> Sum:
    full = np.broadcast_to(gradient, call.outputs[0].shape)
    return unbroadcast(full, _shape(call, position))


@adjoint("Add", "Sum", "Sub", "Mean")
def addition(call: Call) -> dict[int, Sum]:
    """Every operand gets the gradient, with its sign and share."""
    g, made = call.g, {}
    share = 1 / len(call.inputs) if call.node.op_type == "Mean" else 1.0
    for position in range(len(call.inputs)):
        sign = -1.0 if call.node.op_type == "Sub" and position == 1 and not call.absolute else 1.0
        made[position] = _spread(call, position, g * (sign * share))
    return made


@adjoint("Mul", units=2.0)
def product(call: Call) -> dict[int, Sum]:
    """Each factor gets the gradient times the other."""
    return {
        position: _spread(call, position, call.g * call.operand(1 - position))
        for position in (0, 1)
        if call.has(position)
    }


@adjoint("Div", units=4.0)
def division(call: Call) -> dict[int, Sum]:
    """``g / b`` and ``-g a / b^2``."""
    a, b = call.operand(0), call.operand(1)
    sign = 1.0 if call.absolute else -1.0
    return {
        0: _spread(call, 0, call.g / b),
        1: _spread(call, 1, sign * call.g * a / np.square(b)),
    }


@adjoint("Pow", units=ELEMENTWISE)
def power(call: Call) -> dict[int, Sum]:
    """``g y x^(y-1)`` and, for a positive base, ``g x^y log x``; the bound counts the condition ``|y log x|``."""
    x, y = call.given(0), call.given(1).astype(np.float64)
    base = np.where(y == 0, 0.0, y * np.power(x, np.where(y == 0, 1.0, y - 1)))
    logarithm = np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0)
    exponent = np.where(x > 0, np.power(np.where(x > 0, x, 1.0), y) * logarithm, 0.0)
    if call.absolute:
        condition = 1 + np.abs(y * np.log(np.where(x == 0, 1.0, np.abs(x))))
        base, exponent = np.abs(base) * condition, np.abs(exponent) * condition
    made = {0: _spread(call, 0, call.g * base)}
    if call.has(1):
        made[1] = _spread(call, 1, call.g * exponent)
    return made


@adjoint("Max", "Min")
def extreme(call: Call) -> dict[int, Sum]:
    """The gradient goes to the first operand that is the result; ties are kinks."""
    free = np.ones(call.outputs[0].shape, bool)
    made = {}
    for position in range(len(call.inputs)):
        chosen = free & (call.given(position) == call.outputs[0])
        free = free & ~chosen
        made[position] = _spread(call, position, np.where(chosen, call.g, 0.0))
    return made


@adjoint("Where")
def where(call: Call) -> dict[int, Sum]:
    """Each branch gets the gradient where it was chosen."""
    chosen = call.given(0).astype(bool)
    return {
        1: _spread(call, 1, np.where(chosen, call.g, 0.0)),
        2: _spread(call, 2, np.where(chosen, 0.0, call.g)),
    }


@adjoint("PRelu", units=2.0)
def prelu(call: Call) -> dict[int, Sum]:
    """``g`` or ``g slope`` for x, and ``g x`` where x is negative for the slope."""
    x, slope = call.given(0), call.given(1)
    shape = slope.shape
    if slope.ndim == 1 and x.ndim > 2 and slope.size not in (1, x.shape[-1]) and slope.size == x.shape[1]:
        slope = channelwise(slope, x.ndim)
    if call.absolute:
        made = unbroadcast(np.where(x > 0, 0.0, call.g * np.abs(x)), slope.shape)
        return {
            0: Sum(np.where(x > 0, call.g, call.g * np.abs(slope))),
            1: Sum(made.gradient.reshape(shape), made.terms),
        }
    made = unbroadcast(np.where(x > 0, 0.0, call.g * x), slope.shape)
    return {0: Sum(np.where(x > 0, call.g, call.g * slope)), 1: Sum(made.gradient.reshape(shape), made.terms)}


@adjoint("Clip")
def clip(call: Call) -> dict[int, Sum]:
    """The gradient passes inside the bounds, and goes to a bound that is real and was met."""
    x, attributes = call.given(0), call.node.attributes
    low, high = (_clip_bound(call, position) for position in (1, 2))
    low = attributes.get("min") if low is None else low
    high = attributes.get("max") if high is None else high
    under = np.zeros(x.shape, bool) if low is None else x < low
    over = np.zeros(x.shape, bool) if high is None else x > high
    made = {0: Sum(np.where(under | over, 0.0, call.g))}
    for position, met in ((1, under), (2, over)):
        if call.has(position):
            made[position] = unbroadcast(np.where(met, call.g, 0.0), _shape(call, position))
    return made


def _clip_bound(call: Call, position: int) -> Array | None:
    return call.inputs[position] if position < len(call.inputs) else None


@adjoint("Mod")
def modulo(call: Call) -> dict[int, Sum]:
    """The dividend gets the gradient; the divisor is not followed.

    Raises:
        NoAdjoint: the divisor is a tensor of many values, for which frameworks differ.
    """
    if call.given(1).size > 1:
        raise NoAdjoint("Mod by a tensor has no rule for its gradient")
    return {0: _spread(call, 0, call.g)}


@adjoint(
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf"
)
def nothing(call: Call) -> dict[int, Sum]:
    """Answers carry no gradient."""
    return {}

"""Elementwise operators of one and several inputs, with numpy broadcasting; comparisons, logic and casts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from porting_check.numerics.operators.dtypes import numpy_dtype, saturated
from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    is_narrow,
    operator,
    optional,
    required,
)


def _unary(name: str, function: Callable[[Array], Any]) -> None:
    """Register a function of one input that keeps its dtype."""

    def run(attributes: Attributes, inputs: Inputs) -> Outputs:
        x = required(inputs, 0, "X")
        return (np.asarray(function(x), x.dtype),)

    run.__name__, run.__doc__ = name.lower(), f"ONNX {name}."
    operator(name)(run)


def _binary(name: str, function: Callable[[Array, Array], Any]) -> None:
    """Register a function of two inputs that broadcast."""

    def run(attributes: Attributes, inputs: Inputs) -> Outputs:
        return (np.asarray(function(required(inputs, 0, "A"), required(inputs, 1, "B"))),)

    run.__name__, run.__doc__ = name.lower(), f"ONNX {name}."
    operator(name)(run)


def _variadic(name: str, combine: Callable[[Array, Array], Any]) -> None:
    """Register a function that folds any number of inputs."""

    def run(attributes: Attributes, inputs: Inputs) -> Outputs:
        items = [required(inputs, index, f"data_{index}") for index in range(len(inputs))]
        return (np.array(functools.reduce(combine, items)),)

    run.__name__, run.__doc__ = name.lower(), f"ONNX {name}."
    operator(name)(run)


for _name, _function in {
    "Abs": np.abs, "Neg": np.negative, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Reciprocal":
    np.reciprocal, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Sign": np.sign, "Sin": np.sin,
    "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh,
    "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh, "Not": np.logical_not,
    "BitwiseNot": np.invert,
}.items():  # fmt: skip
    _unary(_name, _function)

for _name, _pair in {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "And": np.logical_and, "Or": np.logical_or,
    "Xor": np.logical_xor, "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater":
    np.greater, "GreaterOrEqual": np.greater_equal, "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}.items():  # fmt: skip
    _binary(_name, _pair)

_variadic("Sum", np.add)
_variadic("Max", np.maximum)
_variadic("Min", np.minimum)


@operator("Mean")
def mean(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Arithmetic mean of the inputs, elementwise."""
    items = [required(inputs, index, f"data_{index}") for index in range(len(inputs))]
    total = functools.reduce(np.add, items)
    return (np.asarray(total / len(items), total.dtype),)


@operator("Div")
def divide(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Division; integers truncate towards zero."""
    a, b = required(inputs, 0, "A"), required(inputs, 1, "B")
    if a.dtype.kind not in "iu":
        return (np.asarray(np.divide(a, b)),)
    quotient = np.floor_divide(a, b)
    # Floor and truncation differ by one where the signs differ and the division is not exact.
    rounded_down = ((a < 0) != (b < 0)) & (quotient * b != a)
    return (np.asarray(quotient + rounded_down.astype(a.dtype), a.dtype),)


@operator("Mod")
def modulo(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Remainder with the sign of the divisor, or of the dividend with ``fmod``.

    Floats without ``fmod``, which the standard admits only since opset 28, follow the divisor too.
    """
    a, b = required(inputs, 0, "A"), required(inputs, 1, "B")
    return (np.asarray(np.fmod(a, b) if attributes.get("fmod", 0) else np.mod(a, b)),)


@operator("Pow")
def power(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``X ** Y`` in the dtype of X."""
    x, y = required(inputs, 0, "X"), required(inputs, 1, "Y")
    return (np.asarray(np.power(x, y)).astype(x.dtype),)


@operator("Where", moves=True)
def where(attributes: Attributes, inputs: Inputs) -> Outputs:
    """X where the condition holds, else Y."""
    condition = required(inputs, 0, "condition")
    return (np.where(condition.astype(bool), required(inputs, 1, "X"), required(inputs, 2, "Y")),)


@operator("IsNaN", exact=True)
def is_nan(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Whether a value is not a number."""
    x = required(inputs, 0, "X")
    return (np.asarray(x != x),)


@operator("IsInf", exact=True)
def is_inf(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Whether a value is infinite, of the signs that ``detect_positive`` and ``detect_negative`` admit."""
    x = required(inputs, 0, "X")
    x = x.astype(np.float32) if is_narrow(x) else x
    up = np.isposinf(x) if attributes.get("detect_positive", 1) else np.zeros(x.shape, bool)
    down = np.isneginf(x) if attributes.get("detect_negative", 1) else np.zeros(x.shape, bool)
    return (np.asarray(up | down),)


@operator("Cast", exact=True)
def cast(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Another dtype; ``to`` is an ONNX type number or a numpy dtype name."""
    return (saturated(required(inputs, 0, "input"), numpy_dtype(attributes["to"]), attributes),)


@operator("CastLike", exact=True)
def cast_like(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The dtype of the second input."""
    return (saturated(required(inputs, 0, "input"), required(inputs, 1, "target_type").dtype, attributes),)


@operator("Dropout", moves=True)
def dropout(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Dropout as inference has it: the input itself, and a mask of ones.

    Raises:
        ValueError: ``training_mode`` is set with a ratio that drops something: that has no truth.
    """
    x, ratio, training = required(inputs, 0, "data"), optional(inputs, 1), optional(inputs, 2)
    if training is not None and bool(training) and (ratio is None or float(ratio) > 0):
        raise ValueError(
            "Dropout in training mode is random and has no truth; record the model in inference mode"
        )
    return (x, np.ones(x.shape, bool))

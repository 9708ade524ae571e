"""Elementwise operators: unary, binary, variadic, comparisons, logic and bits."""

from __future__ import annotations

import functools
from typing import Callable, Dict

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import REDUCED, Call, Handler, Result, like

Unary = Callable[[tf.Tensor], tf.Tensor]
Binary = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _unary(function: Unary) -> Handler:
    """A handler for a function of the first input."""
    return lambda call: function(call.x)


def _binary(function: Binary) -> Handler:
    """A handler for a function of the first two inputs."""
    return lambda call: function(call.x, call.need(1))


def _variadic(function: Binary) -> Handler:
    """A handler that folds a function over every input."""
    return lambda call: functools.reduce(function, call.present())


def divide(call: Call) -> Result:
    """ONNX Div: integers round toward zero."""
    a, b = call.x, call.need(1)
    return tf.divide(a, b) if a.dtype.is_floating else tf.truncatediv(a, b)


def power(call: Call) -> Result:
    """ONNX Pow: the result has the type of the base; a fractional power of integers goes through float64."""
    base, exponent = call.x, call.need(1)
    if base.dtype.is_floating or exponent.dtype.is_integer:
        return tf.pow(base, tf.cast(exponent, base.dtype))
    return tf.cast(tf.pow(tf.cast(base, tf.float64), tf.cast(exponent, tf.float64)), base.dtype)


def _negative(x: tf.Tensor) -> tf.Tensor:
    """Whether the sign bit is set, that of zero included."""
    return (x < 0) | ((x == 0) & (1 / x < 0))


def _truncated(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The remainder with the dividend's sign; half precision goes through float32, which is exact."""
    if not a.dtype.is_floating:
        return tf.truncatemod(a, b)
    wide = [tf.cast(x, tf.float32) if x.dtype in REDUCED else x for x in (a, b)]
    result = tf.cast(tf.truncatemod(*wide), a.dtype)
    whole = tf.math.is_inf(b) & tf.math.is_finite(a)
    return tf.where(whole, tf.broadcast_to(a, result.shape), result)


def modulo(call: Call) -> Result:
    """ONNX Mod: the sign of the divisor, or of the dividend with ``fmod``; infinite divisors too."""
    a, b = call.x, call.need(1)
    if call.get("fmod", 0):
        return _truncated(a, b)
    result = tf.math.floormod(a, b)
    if not a.dtype.is_floating:
        return result
    infinite = tf.math.is_inf(b) & tf.math.is_finite(a) & (a != 0)
    result = tf.where(infinite, tf.where(_negative(a) == _negative(b), a, b), result)
    zero = (result == 0) & (b != 0)
    return tf.where(zero, tf.where(_negative(b), -tf.zeros_like(result), tf.zeros_like(result)), result)


def shift(call: Call) -> Result:
    """ONNX BitShift; an amount beyond the width leaves what the sign bit alone gives (opset 28)."""
    x, amount = call.x, call.need(1)
    beyond = (amount < 0) | (amount >= like(x.dtype.size * 8, amount))
    held = tf.where(beyond, tf.zeros_like(amount), amount)
    if call.get("direction") == "LEFT":
        return tf.where(beyond, tf.zeros_like(x), tf.bitwise.left_shift(x, held))
    rest = tf.zeros_like(x) if x.dtype.is_unsigned else tf.where(x < 0, -tf.ones_like(x), tf.zeros_like(x))
    return tf.where(beyond, rest, tf.bitwise.right_shift(x, held))


def mean(call: Call) -> Result:
    """ONNX Mean: the elementwise mean of every input."""
    total = functools.reduce(tf.add, call.present())
    return total / like(len(call.inputs), total)


def clip(call: Call) -> Result:
    """ONNX Clip: bounds are optional inputs; where min exceeds max, max wins."""
    low, high, result = call.input(1), call.input(2), tf.identity(call.x)
    result = result if low is None else tf.maximum(result, low)
    return result if high is None else tf.minimum(result, high)


def infinite(call: Call) -> Result:
    """ONNX IsInf with either sign switched off."""
    positive, negative = bool(call.get("detect_positive", 1)), bool(call.get("detect_negative", 1))
    return tf.math.is_inf(call.x) & ((positive & (call.x > 0)) | (negative & (call.x < 0)))


def where(call: Call) -> Result:
    """ONNX Where."""
    return tf.where(call.x, call.need(1), call.need(2))


def erf(x: tf.Tensor) -> tf.Tensor:
    """TensorFlow's error function, in the type of its argument (integers go through float64)."""
    return tf.math.erf(x) if x.dtype.is_floating else tf.cast(tf.math.erf(tf.cast(x, tf.float64)), x.dtype)


UNARY: Dict[str, Unary] = {
    "Abs": tf.abs,
    "Acos": tf.acos,
    "Acosh": tf.acosh,
    "Asin": tf.asin,
    "Asinh": tf.asinh,
    "Atan": tf.atan,
    "Atanh": tf.atanh,
    "BitwiseNot": tf.bitwise.invert,
    "Ceil": tf.math.ceil,
    "Cos": tf.cos,
    "Cosh": tf.cosh,
    "Erf": erf,
    "Exp": tf.exp,
    "Floor": tf.floor,
    "IsNaN": tf.math.is_nan,
    "Log": tf.math.log,
    "Neg": tf.negative,
    "Not": tf.logical_not,
    "Reciprocal": tf.math.reciprocal,
    "Round": tf.round,
    "Sign": tf.sign,
    "Sin": tf.sin,
    "Sinh": tf.sinh,
    "Sqrt": tf.sqrt,
    "Tan": tf.tan,
}

BINARY: Dict[str, Binary] = {
    "Add": tf.add,
    "Sub": tf.subtract,
    "Mul": tf.multiply,
    "And": tf.logical_and,
    "Or": tf.logical_or,
    "Xor": tf.math.logical_xor,
    "BitwiseAnd": tf.bitwise.bitwise_and,
    "BitwiseOr": tf.bitwise.bitwise_or,
    "BitwiseXor": tf.bitwise.bitwise_xor,
    "Equal": tf.equal,
    "Greater": tf.greater,
    "GreaterOrEqual": tf.greater_equal,
    "Less": tf.less,
    "LessOrEqual": tf.less_equal,
}

VARIADIC: Dict[str, Binary] = {"Max": tf.maximum, "Min": tf.minimum, "Sum": tf.add}

OPERATORS: Dict[str, Handler] = {
    "Div": divide,
    "Pow": power,
    "Mod": modulo,
    "BitShift": shift,
    "Mean": mean,
    "Clip": clip,
    "IsInf": infinite,
    "Where": where,
}
OPERATORS.update({name: _unary(function) for name, function in UNARY.items()})
OPERATORS.update({name: _binary(function) for name, function in BINARY.items()})
OPERATORS.update({name: _variadic(function) for name, function in VARIADIC.items()})

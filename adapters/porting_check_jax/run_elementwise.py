"""Elementwise operators: unary, binary, variadic, comparisons, logic and bits."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Optional

import jax
import jax.numpy as jnp
from jax import lax

from porting_check_jax.run_call import Call, Handler, Result, divided, is_floating

Unary = Callable[[Any], Any]
Binary = Callable[[Any, Any], Any]


def _unary(function: Unary) -> Handler:
    """A handler for a function of the first input, of any type."""
    return lambda call: function(call.x)


def _floating(function: Unary) -> Handler:
    """A handler for a function of floating numbers; JAX would take integers to a float of its choice."""

    def run(call: Call) -> Result:
        call.floating()
        return function(call.x)

    return run


def _binary(function: Binary) -> Handler:
    """A handler for a function of the first two inputs."""
    return lambda call: function(call.x, call.need(1))


def _variadic(function: Binary) -> Handler:
    """A handler that folds a function over every input."""
    return lambda call: functools.reduce(function, call.present())


def divide(call: Call) -> Result:
    """ONNX Div: integers round toward zero."""
    return divided(call.x, call.need(1))


def power(call: Call) -> Result:
    """ONNX Pow: the result has the type of the base; integers are multiplied as such, in 64 bits."""
    base, exponent = call.x, call.need(1)
    if not is_floating(base) and not is_floating(exponent):
        wide = jnp.uint64 if jnp.issubdtype(base.dtype, jnp.unsignedinteger) else jnp.int64
        return jnp.power(base.astype(wide), exponent.astype(wide)).astype(base.dtype)
    return jnp.power(base, exponent).astype(base.dtype)


def modulo(call: Call) -> Result:
    """ONNX Mod: the sign of the divisor, also of a zero, or of the dividend with ``fmod``."""
    a, b = call.x, call.need(1)
    if call.get("fmod", 0):
        return jnp.fmod(a, b)
    result = jnp.remainder(a, b)
    if not is_floating(result):
        return result
    return jnp.where((result == 0) & (b != 0), jnp.copysign(jnp.zeros_like(result), b), result)


def shift(call: Call) -> Result:
    """ONNX BitShift; an amount beyond the width leaves what the sign bit alone gives (opset 28)."""
    x, amount = jnp.broadcast_arrays(call.x, call.need(1))
    bits = jnp.iinfo(x.dtype).bits
    beyond = (amount < 0) | (amount >= bits)
    held = jnp.where(beyond, jnp.zeros_like(amount), amount)
    if call.get("direction") == "LEFT":
        return jnp.where(beyond, jnp.zeros_like(x), jnp.left_shift(x, held))
    rest = jnp.where(x < 0, ~jnp.zeros_like(x), jnp.zeros_like(x))
    return jnp.where(beyond, rest, jnp.right_shift(x, held))


def mean(call: Call) -> Result:
    """ONNX Mean: the elementwise mean of every input."""
    call.floating(*range(len(call.inputs)))
    return divided(functools.reduce(jnp.add, call.present()), len(call.inputs))


def clip(call: Call) -> Result:
    """ONNX Clip: bounds are optional inputs; where min exceeds max, max wins."""
    low: Optional[jax.Array] = call.input(1)
    high: Optional[jax.Array] = call.input(2)
    result = call.x if low is None else jnp.maximum(call.x, low)
    return result if high is None else jnp.minimum(result, high)


def infinite(call: Call) -> Result:
    """ONNX IsInf with either sign switched off."""
    call.floating()
    positive, negative = call.get("detect_positive", 1), call.get("detect_negative", 1)
    result = jnp.zeros(call.x.shape, dtype=bool)
    result = result | jnp.isposinf(call.x) if positive else result
    return result | jnp.isneginf(call.x) if negative else result


def where(call: Call) -> Result:
    """ONNX Where."""
    return jnp.where(call.x, call.need(1), call.need(2))


def erf(x: jax.Array) -> jax.Array:
    """JAX's error function, in the type of its argument (integers go through float64)."""
    return lax.erf(x) if is_floating(x) else lax.erf(x.astype(jnp.float64)).astype(x.dtype)


UNARY: Dict[str, Unary] = {
    "Abs": jnp.abs,
    "BitwiseNot": jnp.bitwise_not,
    "Erf": erf,
    "Neg": jnp.negative,
    "Not": jnp.logical_not,
    "Sign": jnp.sign,
}

FLOATING: Dict[str, Unary] = {
    "Acos": jnp.arccos,
    "Acosh": jnp.arccosh,
    "Asin": jnp.arcsin,
    "Asinh": jnp.arcsinh,
    "Atan": jnp.arctan,
    "Atanh": jnp.arctanh,
    "Ceil": jnp.ceil,
    "Cos": jnp.cos,
    "Cosh": jnp.cosh,
    "Exp": jnp.exp,
    "Floor": jnp.floor,
    "IsNaN": jnp.isnan,
    "Log": jnp.log,
    "Reciprocal": jnp.reciprocal,
    "Round": jnp.round,
    "Sin": jnp.sin,
    "Sinh": jnp.sinh,
    "Sqrt": jnp.sqrt,
    "Tan": jnp.tan,
}

BINARY: Dict[str, Binary] = {
    "Add": jnp.add,
    "Sub": jnp.subtract,
    "Mul": jnp.multiply,
    "And": jnp.logical_and,
    "Or": jnp.logical_or,
    "Xor": jnp.logical_xor,
    "BitwiseAnd": jnp.bitwise_and,
    "BitwiseOr": jnp.bitwise_or,
    "BitwiseXor": jnp.bitwise_xor,
    "Equal": jnp.equal,
    "Greater": jnp.greater,
    "GreaterOrEqual": jnp.greater_equal,
    "Less": jnp.less,
    "LessOrEqual": jnp.less_equal,
}

VARIADIC: Dict[str, Binary] = {"Max": jnp.maximum, "Min": jnp.minimum, "Sum": jnp.add}

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
OPERATORS.update({name: _floating(function) for name, function in FLOATING.items()})
OPERATORS.update({name: _binary(function) for name, function in BINARY.items()})
OPERATORS.update({name: _variadic(function) for name, function in VARIADIC.items()})

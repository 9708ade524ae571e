"""Elementwise operators: unary, binary, variadic, comparisons, logic and bits."""

from __future__ import annotations

import functools
from typing import Callable, Dict, Optional

import torch

from porting_check_torch.run_call import Call, Handler, Result

Unary = Callable[[torch.Tensor], torch.Tensor]
Binary = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def power(call: Call) -> Result:
    """ONNX Pow: the result has the type of the base."""
    return torch.pow(call.x, call.need(1)).to(call.x.dtype)


def modulo(call: Call) -> Result:
    """ONNX Mod: the sign of the divisor, or of the dividend with ``fmod``.

    ``torch.remainder`` gives NaN where ONNX names the divisor or the dividend itself (an infinite divisor).
    """
    a, b = call.x, call.need(1)
    if call.get("fmod", 0):
        return torch.fmod(a, b)
    result = torch.remainder(a, b)
    if not result.is_floating_point():
        return result
    a, b = torch.broadcast_tensors(a, b)
    same = torch.signbit(a) == torch.signbit(b)
    result = torch.where(torch.isinf(b) & torch.isfinite(a) & (a != 0), torch.where(same, a, b), result)
    return torch.where((result == 0) & (b != 0), torch.copysign(torch.zeros_like(result), b), result)


def shift(call: Call) -> Result:
    """ONNX BitShift; an amount beyond the width leaves what the sign bit alone gives (opset 28)."""
    x, amount = call.x, call.need(1)
    bits = torch.iinfo(x.dtype).bits
    beyond = (amount < 0) | (amount >= bits)
    held = torch.where(beyond, torch.zeros_like(amount), amount)
    if call.get("direction") == "LEFT":
        return torch.where(beyond, torch.zeros_like(x), torch.bitwise_left_shift(x, held))
    rest = torch.where(x < 0, torch.full_like(x, -1 if x.dtype.is_signed else 0), torch.zeros_like(x))
    return torch.where(beyond, rest, torch.bitwise_right_shift(x, held))


def mean(call: Call) -> Result:
    """ONNX Mean: the elementwise mean of every input."""
    return functools.reduce(torch.add, call.present()) / len(call.inputs)


def clip(call: Call) -> Result:
    """ONNX Clip: bounds are optional inputs; where min exceeds max, max wins."""
    low: Optional[torch.Tensor] = call.input(1)
    high: Optional[torch.Tensor] = call.input(2)
    return call.x.clone() if low is None and high is None else torch.clamp(call.x, low, high)


def infinite(call: Call) -> Result:
    """ONNX IsInf with either sign switched off."""
    positive, negative = call.get("detect_positive", 1), call.get("detect_negative", 1)
    result = torch.zeros_like(call.x, dtype=torch.bool)
    result = result | torch.isposinf(call.x) if positive else result
    return result | torch.isneginf(call.x) if negative else result


def where(call: Call) -> Result:
    """ONNX Where."""
    return torch.where(call.x, call.need(1), call.need(2))


def erf(x: torch.Tensor) -> torch.Tensor:
    """Torch's error function, in the type of its argument (integers go through float64)."""
    return torch.erf(x) if x.is_floating_point() else torch.erf(x.to(torch.float64)).to(x.dtype)


UNARY: Dict[str, Unary] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}

BINARY: Dict[str, Binary] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}

VARIADIC: Dict[str, Binary] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}

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

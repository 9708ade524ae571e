"""Arithmetic, comparisons and other functions of single elements; torch's promotion is made explicit."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Optional, Tuple

import torch

from porting_check_torch.describe.draft import Draft, Ref
from porting_check_torch.describe.table import TABLE, describes

UNARY: Dict[str, str] = {
    "abs": "Abs",
    "absolute": "Abs",
    "__abs__": "Abs",
    "neg": "Neg",
    "negative": "Neg",
    "__neg__": "Neg",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
    "sgn": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "arcsin": "Asin",
    "acos": "Acos",
    "arccos": "Acos",
    "atan": "Atan",
    "arctan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "arcsinh": "Asinh",
    "acosh": "Acosh",
    "arccosh": "Acosh",
    "atanh": "Atanh",
    "arctanh": "Atanh",
    "erf": "Erf",
}
"""One ONNX node, computed in the dtype of the result (integers become floats where torch says so)."""

COMPARE: Dict[str, Tuple[str, bool]] = {
    "eq": ("Equal", False),
    "__eq__": ("Equal", False),
    "ne": ("Equal", True),
    "not_equal": ("Equal", True),
    "__ne__": ("Equal", True),
    "lt": ("Less", False),
    "less": ("Less", False),
    "le": ("LessOrEqual", False),
    "less_equal": ("LessOrEqual", False),
    "gt": ("Greater", False),
    "greater": ("Greater", False),
    "ge": ("GreaterOrEqual", False),
    "greater_equal": ("GreaterOrEqual", False),
}
"""Comparisons; the flag says that a Not follows."""

LOGIC = {
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "And",
    "__and__": "And",
    "__iand__": "And",
    "bitwise_or": "Or",
    "__or__": "Or",
    "__ior__": "Or",
    "bitwise_xor": "Xor",
    "__xor__": "Xor",
    "__ixor__": "Xor",
}
"""Logic on booleans; the bitwise ones are ``Bitwise…`` on integers."""


def common(a: Any, b: Any) -> torch.dtype:
    """The dtype that torch computes an operation of two operands in (torch.result_type)."""
    return torch.result_type(*(value.tensor if isinstance(value, Ref) else value for value in (a, b)))


def pair(d: Draft, a: Any, b: Any, dtype: Optional[torch.dtype] = None) -> Tuple[str, str, torch.dtype]:
    """Two operands in their common dtype, and that dtype."""
    dtype = dtype or common(a, b)
    return d.operand(a, "x", dtype), d.operand(b, "other", dtype), dtype


def number(d: Draft, value: float, dtype: torch.dtype, role: str = "factor") -> str:
    """A scalar constant."""
    return d.scalar(value, role, dtype)


def _unary(op_type: str) -> Callable[..., None]:
    def describe(d: Draft, input: Ref) -> None:
        if input.dtype.is_complex:
            d.refuse("of complex numbers is not described")
        d.give(d.node(op_type, d.operand(input, "x", d.out.dtype)))

    return describe


def _comparison(op_type: str, negated: bool) -> Callable[..., None]:
    def describe(d: Draft, input: Any, other: Any) -> None:
        x, y, _ = pair(d, input, other)
        result = d.node(op_type, x, y)
        d.give_as(d.node("Not", result) if negated else result, torch.bool)

    return describe


def _logic(op_type: str, bitwise: bool) -> Callable[..., None]:
    def describe(d: Draft, input: Any, other: Any) -> None:
        if bitwise and common(input, other) != torch.bool:
            x, y, dtype = pair(d, input, other)
            d.give_as(d.node("Bitwise" + op_type, x, y), dtype)
            return
        x, y, _ = pair(d, input, other, torch.bool)
        d.give_as(d.node(op_type, x, y), torch.bool)

    return describe


TABLE.update({name: _unary(op_type) for name, op_type in UNARY.items()})
TABLE.update({name: _comparison(*entry) for name, entry in COMPARE.items()})
TABLE.update({name: _logic(op_type, not name.startswith("logical")) for name, op_type in LOGIC.items()})


def _arithmetic(d: Draft, op_type: str, a: Any, b: Any) -> None:
    x, y, dtype = pair(d, a, b)
    d.give_as(d.node(op_type, x, y), dtype)


def _sum(d: Draft, op_type: str, a: Any, b: Any, alpha: Any) -> None:
    x, y, dtype = pair(d, a, b)
    if alpha != 1:
        y = d.node("Mul", y, number(d, alpha, dtype, "alpha"))
    if dtype == torch.bool:
        d.give(d.node("Or", x, y))
        return
    d.give_as(d.node(op_type, x, y), dtype)


@describes("add", "__add__", "__radd__")
def add(d: Draft, input: Any, other: Any, *, alpha: Any = 1) -> None:
    """``input + alpha * other``; of two booleans their disjunction."""
    _sum(d, "Add", input, other, alpha)


@describes("sub", "subtract", "__sub__")
def sub(d: Draft, input: Any, other: Any, *, alpha: Any = 1) -> None:
    """``input - alpha * other``."""
    _sum(d, "Sub", input, other, alpha)


@describes("rsub", "__rsub__")
def rsub(d: Draft, input: Any, other: Any, alpha: Any = 1) -> None:
    """``other - alpha * input``."""
    _sum(d, "Sub", other, input, alpha)


@describes("mul", "multiply", "__mul__", "__rmul__")
def mul(d: Draft, input: Any, other: Any) -> None:
    """``input * other``; of two booleans their conjunction."""
    _arithmetic(d, "And" if common(input, other) == torch.bool else "Mul", input, other)


@describes("div", "divide", "true_divide", "__truediv__", "__div__")
def div(d: Draft, input: Any, other: Any, *, rounding_mode: Optional[str] = None) -> None:
    """True division gives floats; ``floor`` and ``trunc`` keep integers."""
    if rounding_mode == "floor":
        floor_divide(d, input, other)
        return
    dtype = common(input, other)
    if rounding_mode is None and not (dtype.is_floating_point or dtype.is_complex):
        dtype = d.out.dtype
    x, y, _ = pair(d, input, other, dtype)
    quotient = d.node("Div", x, y)  # of integers ONNX truncates, which is what ``trunc`` asks for
    d.give_as(_truncated(d, quotient) if rounding_mode and dtype.is_floating_point else quotient, dtype)


@describes("__rdiv__", "__rtruediv__")
def rdiv(d: Draft, input: Any, other: Any) -> None:
    """``other / input``."""
    div(d, other, input)


@describes("floor_divide", "__floordiv__")
def floor_divide(d: Draft, input: Any, other: Any) -> None:
    """``floor(input / other)``, exactly on integers: ``(x - x mod y) / y``."""
    x, y, dtype = pair(d, input, other)
    if dtype.is_floating_point:
        d.give_as(d.node("Floor", d.node("Div", x, y)), dtype)
    else:
        d.give_as(d.node("Div", d.node("Sub", x, d.node("Mod", x, y, fmod=0)), y), dtype)


@describes("__rfloordiv__")
def rfloordiv(d: Draft, input: Any, other: Any) -> None:
    """``other // input``."""
    floor_divide(d, other, input)


@describes("remainder", "__mod__")
def remainder(d: Draft, input: Any, other: Any) -> None:
    """Modulo with the sign of the divisor: ``x - y * floor(x / y)``."""
    x, y, dtype = pair(d, input, other)
    if dtype.is_floating_point:
        whole = d.node("Floor", d.node("Div", x, y))
        d.give_as(d.node("Sub", x, d.node("Mul", y, whole)), dtype)
    else:
        d.give_as(d.node("Mod", x, y, fmod=0), dtype)


@describes("__rmod__")
def rmod(d: Draft, input: Any, other: Any) -> None:
    """``other % input``."""
    remainder(d, other, input)


@describes("fmod")
def fmod(d: Draft, input: Any, other: Any) -> None:
    """Modulo with the sign of the dividend."""
    x, y, dtype = pair(d, input, other)
    d.give_as(d.node("Mod", x, y, fmod=1), dtype)


@describes("pow", "__pow__", "float_power")
def power(d: Draft, input: Any, exponent: Any) -> None:
    """``input ** exponent`` in the dtype of the result."""
    dtype = d.out.dtype if d.out.floating else common(input, exponent)
    d.give_as(d.node("Pow", d.operand(input, "x", dtype), d.operand(exponent, "exponent", dtype)), dtype)


@describes("__rpow__")
def rpow(d: Draft, input: Any, other: Any) -> None:
    """``other ** input``."""
    power(d, other, input)


@describes("square")
def square(d: Draft, input: Ref) -> None:
    """``x * x``."""
    x = d.operand(input)
    d.give(d.node("Mul", x, x))


@describes("rsqrt")
def rsqrt(d: Draft, input: Ref) -> None:
    """``1 / sqrt(x)``."""
    d.give(d.node("Reciprocal", d.node("Sqrt", d.operand(input, "x", d.out.dtype))))


@describes("round")
def round_half_even(d: Draft, input: Ref, *, decimals: int = 0) -> None:
    """To the nearest integer, halves to the even one."""
    if decimals:
        d.refuse("with decimals is not described")
    d.give(d.node("Round", d.operand(input)))


@describes("trunc", "fix")
def trunc(d: Draft, input: Ref) -> None:
    """Towards zero."""
    d.give(_truncated(d, d.operand(input)))


@describes("frac")
def frac(d: Draft, input: Ref) -> None:
    """What truncation takes away."""
    x = d.operand(input)
    d.give(d.node("Sub", x, _truncated(d, x)))


def _truncated(d: Draft, x: str) -> str:
    return d.node("Mul", d.node("Sign", x), d.node("Floor", d.node("Abs", x)))


@describes("exp2")
def exp2(d: Draft, input: Ref) -> None:
    """``2 ** x``."""
    d.give(d.node("Pow", number(d, 2, d.out.dtype, "base"), d.operand(input, "x", d.out.dtype)))


def _log_to(base: float) -> Callable[..., None]:
    def describe(d: Draft, input: Ref) -> None:
        x = d.node("Log", d.operand(input, "x", d.out.dtype))
        d.give(d.node("Div", x, number(d, math.log(base), d.out.dtype, "log_base")))

    return describe


TABLE.update({"log2": _log_to(2), "log10": _log_to(10)})


@describes("log1p")
def log1p(d: Draft, input: Ref) -> None:
    """``2 atanh(x / (x + 2))`` for small x, where ``log(1 + x)`` would lose digits even in float64."""
    dtype = d.out.dtype
    x = d.operand(input, "x", dtype)
    one, two = number(d, 1, dtype, "one"), number(d, 2, dtype, "two")
    near = d.node("Mul", two, d.node("Atanh", d.node("Div", x, d.node("Add", x, two))))
    far = d.node("Log", d.node("Add", x, one))
    d.give(d.node("Where", d.node("Greater", x, one), far, near))


@describes("expm1")
def expm1(d: Draft, input: Ref) -> None:
    """``tanh(x / 2) * (exp(x) + 1)``, which is ``exp(x) - 1`` without the loss of digits near 0."""
    dtype = d.out.dtype
    x = d.operand(input, "x", dtype)
    half = d.node("Tanh", d.node("Mul", x, number(d, 0.5, dtype, "half")))
    d.give(d.node("Mul", half, d.node("Add", d.node("Exp", x), number(d, 1, dtype, "one"))))


@describes("clamp", "clip")
def clamp(d: Draft, input: Ref, min: Any = None, max: Any = None) -> None:
    """``Clip`` for numbers, ``Min`` and ``Max`` for limits that are tensors."""
    dtype = d.out.dtype
    x = d.operand(input, "x", dtype)
    if isinstance(min, Ref) or isinstance(max, Ref):
        if min is not None:
            x = d.node("Max", x, d.operand(min, "min", dtype))
        d.give(x if max is None else d.node("Min", x, d.operand(max, "max", dtype)))
        return
    low = "" if min is None else number(d, min, dtype, "min")
    high = "" if max is None else number(d, max, dtype, "max")
    d.give(d.node("Clip", x, low, high))


@describes("clamp_min")
def clamp_min(d: Draft, input: Ref, min: Any) -> None:
    """Nothing below ``min``."""
    clamp(d, input, min=min)


@describes("clamp_max")
def clamp_max(d: Draft, input: Ref, max: Any) -> None:
    """Nothing above ``max``."""
    clamp(d, input, max=max)


@describes("maximum")
def maximum(d: Draft, input: Any, other: Any) -> None:
    """The larger of two, element by element."""
    _arithmetic(d, "Max", input, other)


@describes("minimum")
def minimum(d: Draft, input: Any, other: Any) -> None:
    """The smaller of two, element by element."""
    _arithmetic(d, "Min", input, other)


@describes("where")
def where(d: Draft, condition: Ref, input: Any = None, other: Any = None) -> None:
    """``input`` where the condition holds, else ``other``."""
    if input is None:
        d.refuse("with a condition alone is not described")
    dtype = d.out.dtype
    chosen = d.operand(condition, "condition", torch.bool)
    d.give(d.node("Where", chosen, d.operand(input, "x", dtype), d.operand(other, "other", dtype)))


@describes("Tensor.where")
def where_method(d: Draft, input: Ref, condition: Ref, other: Any) -> None:
    """``input.where(condition, other)``."""
    where(d, condition, input, other)


@describes("masked_fill")
def masked_fill(d: Draft, input: Ref, mask: Ref, value: Any) -> None:
    """``value`` where the mask holds."""
    where(d, mask, value, input)


@describes("logical_not", "bitwise_not", "__invert__")
def negation(d: Draft, input: Ref) -> None:
    """Not, for booleans; the complement of the bits of integers is left out."""
    if input.dtype != torch.bool and d.out.dtype != torch.bool:
        d.give(d.node("BitwiseNot", d.operand(input)))
        return
    d.give_as(d.node("Not", d.operand(input, "x", torch.bool)), torch.bool)


@describes("isnan")
def isnan(d: Draft, input: Ref) -> None:
    """Whether an element is NaN."""
    d.give(d.node("IsNaN", d.port(input)))


@describes("isinf")
def isinf(d: Draft, input: Ref) -> None:
    """Whether an element is infinite."""
    d.give(d.node("IsInf", d.port(input), detect_negative=1, detect_positive=1))


@describes("isfinite")
def isfinite(d: Draft, input: Ref) -> None:
    """Neither NaN nor infinite."""
    x = d.port(input)
    odd = d.node("Or", d.node("IsNaN", x), d.node("IsInf", x, detect_negative=1, detect_positive=1))
    d.give(d.node("Not", odd))


@describes("lerp")
def lerp(d: Draft, input: Ref, end: Ref, weight: Any) -> None:
    """``input + weight * (end - input)``."""
    x, y, dtype = pair(d, input, end)
    step = d.node("Mul", d.operand(weight, "weight", dtype), d.node("Sub", y, x))
    d.give_as(d.node("Add", x, step), dtype)


def _add_combined(op_type: str) -> Callable[..., None]:
    def describe(d: Draft, input: Ref, tensor1: Ref, tensor2: Ref, *, value: Any = 1) -> None:
        dtype = d.out.dtype
        names = [
            d.operand(ref, role, dtype)
            for ref, role in ((input, "x"), (tensor1, "first"), (tensor2, "second"))
        ]
        combined = d.node(op_type, names[1], names[2])
        d.give(d.node("Add", names[0], d.node("Mul", combined, number(d, value, dtype, "value"))))

    return describe


TABLE.update({"addcmul": _add_combined("Mul"), "addcdiv": _add_combined("Div")})

"""Primitives of single elements: arithmetic, comparisons, logic, casts, choices."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Sequence, Tuple

import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.table import Describer, describes, number, real

UNARY: Dict[str, str] = {
    "abs": "Abs",
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "tanh": "Tanh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "erf": "Erf",
    "logistic": "Sigmoid",
}
"""One ONNX node of the same dtype."""

COMPARE: Dict[str, Tuple[str, bool]] = {
    "eq": ("Equal", False),
    "ne": ("Equal", True),
    "lt": ("Less", False),
    "le": ("LessOrEqual", False),
    "gt": ("Greater", False),
    "ge": ("GreaterOrEqual", False),
}
"""Comparisons; the flag says that a Not follows."""

LOGIC = {"and": "And", "or": "Or", "xor": "Xor"}
"""Logic on booleans; ``Bitwise…`` on integers."""

ARITHMETIC = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
}
"""Two operands of one dtype; an integer Div truncates in both."""


def operands(d: Draft, args: Sequence[Ref]) -> Tuple[str, ...]:
    """The operands: arrays as ports, small numbers as constants."""
    real(d, *args)
    roles = ("x", "other", "third")
    return tuple(_operand(d, ref, roles[place]) for place, ref in enumerate(args))


def _operand(d: Draft, ref: Ref, role: str) -> str:
    name = d.operand(ref, role)
    widened = ref.fixed is not None and ref.floating and ref.dtype.kind != "f"
    return d.cast(name, np.dtype(np.float32), ref.dtype) if widened else name


def _unary(op_type: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        d.give(d.node(op_type, *operands(d, args)))

    return describe


def _comparison(op_type: str, negated: bool) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        found = d.node(op_type, *operands(d, args))
        d.give(d.node("Not", found) if negated else found)

    return describe


def _logic(op_type: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        prefix = "" if args[0].dtype.kind == "b" else "Bitwise"
        d.give(d.node(prefix + op_type, *operands(d, args)))

    return describe


def _arithmetic(op_type: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        of_booleans = {"Add": "Or", "Max": "Or", "Mul": "And", "Min": "And"}
        kind = op_type if args[0].dtype.kind != "b" else of_booleans.get(op_type, "")
        if not kind:
            d.refuse("of booleans is not described")
        d.give(d.node(kind, *operands(d, args)))

    return describe


for _name, _op_type in UNARY.items():
    describes(_name)(_unary(_op_type))
for _name, _entry in COMPARE.items():
    describes(_name, stretches=True)(_comparison(*_entry))
for _name, _op_type in LOGIC.items():
    describes(_name, stretches=True)(_logic(_op_type))
for _name, _op_type in ARITHMETIC.items():
    describes(_name, stretches=True)(_arithmetic(_op_type))


@describes("not")
def negation(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Not, for booleans; the complement of the bits of integers."""
    d.give(d.node("Not" if args[0].dtype.kind == "b" else "BitwiseNot", *operands(d, args)))


@describes("rem", stretches=True)
def remainder(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """The sign is that of the dividend, as in C."""
    d.give(d.node("Mod", *operands(d, args), fmod=1))


@describes("pow", stretches=True)
def power(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """The exponent may be of another dtype."""
    d.give(d.node("Pow", *operands(d, args)))


@describes("integer_pow")
def integer_power(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """A whole exponent that is part of the code; squares are products."""
    x, exponent = operands(d, args)[0], int(params["y"])
    if exponent == 2:
        d.give(d.node("Mul", x, x))
    else:
        d.give(d.node("Pow", x, number(d, exponent, args[0], "exponent")))


def _shift(direction: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        if args[0].dtype.kind != "u":
            d.refuse("of signed integers is not described")
        d.give(d.node("BitShift", *operands(d, args), direction=direction))

    return describe


describes("shift_left", stretches=True)(_shift("LEFT"))
describes("shift_right_logical", stretches=True)(_shift("RIGHT"))


@describes("square")
def square(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``x * x``."""
    x = operands(d, args)[0]
    d.give(d.node("Mul", x, x))


@describes("rsqrt")
def rsqrt(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``1 / sqrt(x)``."""
    d.give(d.node("Reciprocal", d.node("Sqrt", *operands(d, args))))


@describes("cbrt")
def cube_root(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``sign(x) * |x| ** (1 / 3)``."""
    x = operands(d, args)[0]
    root = d.node("Pow", d.node("Abs", x), number(d, 1 / 3, args[0], "third"))
    d.give(d.node("Mul", d.node("Sign", x), root))


@describes("erfc")
def complementary_erf(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``1 - erf(x)``."""
    d.give(d.node("Sub", number(d, 1, args[0], "one"), d.node("Erf", *operands(d, args))))


@describes("exp2")
def power_of_two(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``2 ** x``."""
    d.give(d.node("Pow", number(d, 2, args[0], "base"), *operands(d, args)))


@describes("log1p")
def log1p(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``2 atanh(x / (x + 2))`` for small x, where ``log(1 + x)`` would lose digits even in float64."""
    x, ref = operands(d, args)[0], args[0]
    one, two = number(d, 1, ref, "one"), number(d, 2, ref, "two")
    near = d.node("Mul", two, d.node("Atanh", d.node("Div", x, d.node("Add", x, two))))
    far = d.node("Log", d.node("Add", x, one))
    d.give(d.node("Where", d.node("Greater", x, one), far, near))


@describes("expm1")
def expm1(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``tanh(x / 2) * (exp(x) + 1)`` near 0, where ``exp(x) - 1`` would lose digits; that elsewhere."""
    x, ref = operands(d, args)[0], args[0]
    one, grown = number(d, 1, ref, "one"), d.node("Exp", x)
    half = d.node("Tanh", d.node("Mul", x, number(d, 0.5, ref, "half")))
    near = d.node("Mul", half, d.node("Add", grown, one))
    large = d.node("Greater", d.node("Abs", x), one)
    d.give(d.node("Where", large, d.node("Sub", grown, one), near))


@describes("atan2", stretches=True)
def angle(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """The angle of a point, for points that do not lie on the axes' crossing: by the half-angle formula's quadrants."""
    y, x = operands(d, args)
    ref = args[0]
    zero, pi = number(d, 0, ref, "zero"), number(d, math.pi, ref, "pi")
    plain = d.node("Atan", d.node("Div", y, x))
    turned = d.node("Where", d.node("Less", y, zero), d.node("Neg", pi), pi)
    left = d.node("Add", plain, d.node("Where", d.node("Less", x, zero), turned, zero))
    half = d.node("Mul", d.node("Sign", y), number(d, math.pi / 2, ref, "half_pi"))
    d.give(d.node("Where", d.node("Equal", x, zero), half, left))


@describes("round")
def rounded(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Halves go to the even number, or away from zero."""
    x = operands(d, args)[0]
    if int(params.get("rounding_method", 1)) == 1:
        d.give(d.node("Round", x))
        return
    grown = d.node("Floor", d.node("Add", d.node("Abs", x), number(d, 0.5, args[0], "half")))
    d.give(d.node("Mul", d.node("Sign", x), grown))


@describes("is_finite")
def is_finite(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Neither NaN nor infinite."""
    x = operands(d, args)[0]
    odd = d.node("Or", d.node("IsNaN", x), d.node("IsInf", x, detect_negative=1, detect_positive=1))
    d.give(d.node("Not", odd))


@describes("clamp")
def clamp(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``Clip`` for numbers, ``Max`` and ``Min`` for limits that are arrays."""
    low, ref, high = args
    x, *limits = operands(d, (ref, low, high))
    if low.ndim == 0 and high.ndim == 0:
        d.give(d.node("Clip", x, *limits))
    else:
        d.give(d.node("Min", d.node("Max", x, limits[0]), limits[1]))


@describes("select_n", stretches=True)
def select(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """The first case where the condition is false (0), the second where it is true (1), and so on."""
    which, cases = args[0], args[1:]
    names = (
        operands(d, cases[:2])
        if len(cases) == 2
        else [d.operand(ref, f"case{n}") for n, ref in enumerate(cases)]
    )
    real(d, *cases)
    if len(cases) == 1:
        d.give(names[0])
    elif which.dtype.kind == "b" and len(cases) == 2:
        d.give(d.node("Where", d.operand(which, "condition"), names[1], names[0]))
    else:
        chosen = names[-1]
        picked = d.operand(which, "which")
        for place in range(len(cases) - 2, -1, -1):
            here = d.node("Equal", picked, d.scalar(place, "case", which.dtype))
            chosen = d.node("Where", here, names[place], chosen)
        d.give(chosen)


@describes("convert_element_type")
def convert(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Another dtype; to booleans, whether it is not zero; floats to integers towards zero."""
    ref = args[0]
    if ref.dtype.kind == "c" or d.out.dtype.kind == "c":
        d.refuse("of complex numbers is not described")
    d.give_as(d.port(ref), ref.dtype)


@describes("reduce_precision")
def reduce_precision(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """Rounding to float16 or bfloat16 and back, where those are the bits asked for."""
    bits = int(params["exponent_bits"]), int(params["mantissa_bits"])
    names = {(5, 10): 10, (8, 7): 16, (8, 23): 1, (11, 52): 11}
    to = {"float16": 10, "bfloat16": 16, "float32": 1, "float64": 11}
    if bits not in names or args[0].dtype.name not in to:
        d.refuse(f"to {bits[0]} exponent and {bits[1]} mantissa bits is not described")
    d.give(d.node("Cast", d.node("Cast", d.port(args[0]), to=names[bits]), to=to[args[0].dtype.name]))

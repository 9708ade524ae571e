"""Operators that work element by element, with numpy's broadcasting, on arrays as they are."""

from __future__ import annotations

from porting_check_tensorflow.operators.call import ONNX_TYPES, Call, describes

UNARY = {
    **{name: name for name in "Abs Neg Sign Floor Ceil Round Exp Log Sqrt Erf Reciprocal".split()},
    **{name: name for name in "Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh".split()},
    "Rint": "Round",
    "Inv": "Reciprocal",
    "LogicalNot": "Not",
    "Invert": "BitwiseNot",
    "IsNan": "IsNaN",
    "IsInf": "IsInf",
}
"""TensorFlow's name and ONNX's; both round halves to even."""

BINARY = {
    **{name: name for name in "Add Sub Mul Pow Greater Less Equal BitwiseAnd BitwiseOr BitwiseXor".split()},
    "AddV2": "Add",
    "Div": "Div",
    "RealDiv": "Div",
    "TruncateDiv": "Div",
    "Maximum": "Max",
    "Minimum": "Min",
    "GreaterEqual": "GreaterOrEqual",
    "LessEqual": "LessOrEqual",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
}
"""TensorFlow's name and ONNX's; integer division truncates in both."""


@describes(*UNARY)
def unary(call: Call) -> None:
    """One node for one operand."""
    call.give(call.node(UNARY[call.op_type], call.port(0)))


@describes(*BINARY)
def binary(call: Call) -> None:
    """One node for two operands."""
    call.give(call.node(BINARY[call.op_type], call.operand(0, "a"), call.operand(1, "b")))


@describes("NotEqual")
def not_equal(call: Call) -> None:
    """ONNX has no NotEqual."""
    call.give(call.node("Not", call.node("Equal", call.operand(0, "a"), call.operand(1, "b"))))


@describes("AddN")
def add_n(call: Call) -> None:
    """``Sum`` of any number of tensors of one shape."""
    call.give(call.node("Sum", *[call.operand(index, f"x{index}") for index in range(len(call.inputs))]))


@describes("Rsqrt")
def reciprocal_root(call: Call) -> None:
    """``1 / sqrt(x)``."""
    call.give(call.node("Reciprocal", call.node("Sqrt", call.port(0))))


@describes("Square")
def square(call: Call) -> None:
    """``x * x``."""
    x = call.port(0)
    call.give(call.node("Mul", x, x))


@describes("SquaredDifference")
def squared_difference(call: Call) -> None:
    """``(a - b) ** 2``."""
    difference = call.node("Sub", call.operand(0, "a"), call.operand(1, "b"))
    call.give(call.node("Mul", difference, difference))


@describes("Log1p")
def log1p(call: Call) -> None:
    """``2 atanh(x / (x + 2))`` below 1, where ``log(1 + x)`` would lose the digits of a small x."""
    x, one, two = call.port(0), call.scalar(1, "one"), call.scalar(2, "two")
    near = call.node("Mul", two, call.node("Atanh", call.node("Div", x, call.node("Add", x, two))))
    far = call.node("Log", call.node("Add", x, one))
    call.give(call.node("Where", call.node("Less", x, one), near, far))


@describes("Expm1")
def expm1(call: Call) -> None:
    """``2 sinh(x/2) exp(x/2)``, which keeps the digits of a small x that ``exp(x) - 1`` loses."""
    half = call.node("Mul", call.port(0), call.scalar(0.5, "half"))
    product = call.node("Mul", call.node("Sinh", half), call.node("Exp", half))
    call.give(call.node("Mul", product, call.scalar(2, "two")))


@describes("Erfc")
def erfc(call: Call) -> None:
    """``1 - erf(x)``; ONNX has no Erfc, so the tail of large x keeps absolute, not relative, precision."""
    call.give(call.node("Sub", call.scalar(1, "one"), call.node("Erf", call.port(0))))


@describes("DivNoNan", "MulNoNan", "Xdivy", "Xlogy", "Xlog1py")
def guarded(call: Call) -> None:
    """Products and quotients that are 0 where the guarding operand is 0, whatever the other is."""
    a, b = call.operand(0, "a"), call.operand(1, "b")
    zero = call.scalar(0, "zero")
    guard = b if call.op_type in ("DivNoNan", "MulNoNan") else a
    if call.op_type in ("DivNoNan", "Xdivy"):
        value = call.node("Div", a, b)
    elif call.op_type == "MulNoNan":
        value = call.node("Mul", a, b)
    else:
        inner = call.node("Add", b, call.scalar(1, "one")) if call.op_type == "Xlog1py" else b
        value = call.node("Mul", a, call.node("Log", inner))
    call.give(call.node("Where", call.node("Equal", guard, zero), zero, value))


@describes("FloorDiv")
def floor_division(call: Call) -> None:
    """Towards minus infinity; for integers the remainder is taken off first, because ONNX's Div truncates."""
    a, b = call.operand(0, "a"), call.operand(1, "b")
    if call.floating():
        call.give(call.node("Floor", call.node("Div", a, b)))
    else:
        call.give(call.node("Div", call.node("Sub", a, call.node("Mod", a, b, fmod=0)), b))


@describes("FloorMod")
def floor_remainder(call: Call) -> None:
    """The remainder with the divisor's sign, as Python's ``%``; ONNX has it for integers only."""
    a, b = call.operand(0, "a"), call.operand(1, "b")
    if not call.floating():
        call.give(call.node("Mod", a, b, fmod=0))
        return
    rest = call.node("Mod", a, b, fmod=1)
    call.give(call.node("Mod", call.node("Add", rest, b), b, fmod=1))


@describes("Mod", "TruncateMod")
def truncated_remainder(call: Call) -> None:
    """The remainder with the dividend's sign, as C's ``fmod`` and ``%``."""
    call.give(call.node("Mod", call.operand(0, "a"), call.operand(1, "b"), fmod=1))


@describes("IsFinite")
def is_finite(call: Call) -> None:
    """Neither NaN nor infinite."""
    x = call.port(0)
    call.give(call.node("Not", call.node("Or", call.node("IsNaN", x), call.node("IsInf", x))))


@describes("Select", "SelectV2")
def select(call: Call) -> None:
    """``Where``; the old Select may give one condition per row."""
    condition, a, b = call.operand(0, "condition"), call.operand(1, "a"), call.operand(2, "b")
    rank = call.rank(1)
    if call.op_type == "Select" and call.rank(0) == 1 and rank > 1:
        condition = call.node("Unsqueeze", condition, call.constant(list(range(1, rank)), "axes"))
    call.give(call.node("Where", condition, a, b))


@describes("Cast")
def cast(call: Call) -> None:
    """``Cast`` to the dtype of the output; floats to integers are cut towards zero."""
    call.give(call.node("Cast", call.port(0), to=ONNX_TYPES[call.outputs[0].dtype]))


@describes(
    "Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape", "CheckNumerics"
)
@describes("ReadVariableOp", "PlaceholderWithDefault", "DebugGradientIdentity")
def identity(call: Call) -> None:
    """Each output is the input of the same number."""
    for index in range(len(call.outputs)):
        name = "x" if len(call.outputs) == 1 else f"x{index}"
        call.give(call.node("Identity", call.port(index, name)), index)

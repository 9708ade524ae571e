"""Matrix products."""

from __future__ import annotations

from typing import Tuple

from porting_check_tensorflow.operators.activation import activate
from porting_check_tensorflow.operators.call import Call, describes


@describes("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def product(call: Call) -> None:
    """``Gemm(transB=1)`` of a matrix and a parameter of rank 2, else ``MatMul``."""
    left, right = _turned(call)
    weight = call.inputs[1].parameter and call.rank(1) == 2 and not left
    if weight and call.rank(0) == 2:
        call.give(_gemm(call, right))
    elif weight:
        call.give(call.node("MatMul", call.port(0), call.port(1, "weight", "OI" if right else "IO", "IO")))
    else:
        a = _transpose(call, call.operand(0, "a"), 0) if left else call.operand(0, "a")
        b = _transpose(call, call.operand(1, "b"), 1) if right else call.operand(1, "b")
        call.give(call.node("MatMul", a, b))


def _turned(call: Call) -> Tuple[bool, bool]:
    """Whether the operands are transposed before they are multiplied."""
    batched = call.op_type.startswith("Batch")
    names = ("adj_x", "adj_y") if batched else ("transpose_a", "transpose_b")
    return call.flag(names[0]), call.flag(names[1])


def _gemm(call: Call, turned: bool, *bias: str) -> str:
    x = call.port(0)
    weight = call.port(1, "weight", "OI" if turned else "IO", "OI")
    return call.node("Gemm", x, weight, *bias, alpha=1.0, beta=1.0, transA=0, transB=1)


def _transpose(call: Call, value: str, index: int) -> str:
    rank = call.rank(index)
    return call.node("Transpose", value, perm=tuple(range(rank - 2)) + (rank - 1, rank - 2))


@describes("_FusedMatMul")
def fused_product(call: Call) -> None:
    """``Gemm`` with the bias and the activation that Grappler fused into the product."""
    fused = tuple(str(name) for name in call.attributes.get("fused_ops", ()))
    if fused[:1] != ("BiasAdd",) or len(fused) > 2 or call.flag("transpose_a"):
        call.refuse(
            f"with fused_ops {list(fused)} and transpose_a={call.flag('transpose_a')} is not described"
        )
    value = _gemm(call, call.flag("transpose_b"), call.port(2, "bias"))
    if len(fused) == 2:
        value = activate(call, fused[1], value, call.number("leakyrelu_alpha", 0.2))
    call.give(value)


@describes("Einsum")
def einsum(call: Call) -> None:
    """``Einsum`` with the equation as it is."""
    operands = [call.operand(index, f"x{index}") for index in range(len(call.inputs))]
    call.give(call.node("Einsum", *operands, equation=call.text("equation")))

"""Products of matrices: linear layers, matmul and its forms, einsum."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Callable, Optional

from porting_check_torch.describe.draft import Draft, Ref
from porting_check_torch.describe.elementwise import common
from porting_check_torch.describe.table import TABLE, describes


@describes("linear", main=True)
def linear(d: Draft, input: Ref, weight: Ref, bias: Optional[Ref] = None) -> None:
    """``Gemm`` for a matrix, ``MatMul`` with the kernel as ``IO`` for anything else."""
    x = d.port(input)
    if weight.ndim != 2:
        d.refuse(f"with a weight of rank {weight.ndim} is not described")
    if input.ndim == 2:
        inputs = [x, d.port(weight, "weight", "OI")] + ([] if bias is None else [d.port(bias, "bias")])
        d.give(d.node("Gemm", *inputs, alpha=1.0, beta=1.0, transA=0, transB=1))
        return
    product = d.node("MatMul", x, d.port(weight, "weight", "OI", "IO"))
    d.give(product if bias is None else d.node("Add", product, d.port(bias, "bias")))


@describes("bilinear", main=True)
def bilinear(d: Draft, input1: Ref, input2: Ref, weight: Ref, bias: Optional[Ref] = None) -> None:
    """``sum_ij x_i W_oij y_j`` as an Einsum."""
    lead = "abcdefgh"[: input1.ndim - 1]
    equation = f"{lead}i,oij,{lead}j->{lead}o"
    product = d.node(
        "Einsum", d.port(input1), d.port(weight, "weight"), d.port(input2, "other"), equation=equation
    )
    d.give(product if bias is None else d.node("Add", product, d.port(bias, "bias")))


@describes("matmul", "mm", "bmm", "mv", "dot", "__matmul__")
def matmul(d: Draft, input: Ref, other: Ref) -> None:
    """The product with numpy's rules for vectors and batches."""
    dtype = common(input, other)
    d.give_as(d.node("MatMul", d.operand(input, "x", dtype), d.operand(other, "other", dtype)), dtype)


@describes("__rmatmul__")
def rmatmul(d: Draft, input: Ref, other: Ref) -> None:
    """``other @ input``."""
    matmul(d, other, input)


def _scaled(d: Draft, name: str, factor: Any, role: str, ref: Ref) -> str:
    return name if factor == 1 else d.node("Mul", name, d.scalar(factor, role, ref.dtype))


@describes("addmm")
def addmm(d: Draft, input: Ref, mat1: Ref, mat2: Ref, *, beta: Any = 1, alpha: Any = 1) -> None:
    """``beta * input + alpha * mat1 @ mat2``."""
    inputs = [d.operand(mat1, "x"), d.operand(mat2, "weight"), d.operand(input, "bias")]
    d.give(d.node("Gemm", *inputs, alpha=float(alpha), beta=float(beta), transA=0, transB=0))


@describes("baddbmm", "addmv")
def baddbmm(d: Draft, input: Ref, batch1: Ref, batch2: Ref, *, beta: Any = 1, alpha: Any = 1) -> None:
    """``beta * input + alpha * batch1 @ batch2``."""
    product = d.node("MatMul", d.operand(batch1, "x"), d.operand(batch2, "other"))
    product = _scaled(d, product, alpha, "alpha", batch1)
    if beta == 0:  # torch then ignores the input, even NaN in it
        d.give(product)
        return
    d.give(d.node("Add", _scaled(d, d.operand(input, "added"), beta, "beta", input), product))


@describes("einsum")
def einsum(d: Draft, equation: Any, *operands: Any) -> None:
    """The same equation; operands of another dtype are cast as torch would."""
    if not isinstance(equation, str):
        d.refuse("with sublists is not described")
    refs = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    names = [d.operand(ref, "x" if place == 0 else "other", d.out.dtype) for place, ref in enumerate(refs)]
    d.give(d.node("Einsum", *names, equation=equation.replace(" ", "")))


def _outer_like(equation: str) -> Callable[..., None]:
    def describe(d: Draft, input: Ref, other: Ref) -> None:
        names = d.operand(input, "x", d.out.dtype), d.operand(other, "other", d.out.dtype)
        d.give(d.node("Einsum", *names, equation=equation))

    return describe


TABLE.update({"outer": _outer_like("i,j->ij"), "ger": _outer_like("i,j->ij"), "vdot": _outer_like("i,i->")})


@describes("cosine_similarity")
def cosine_similarity(d: Draft, input: Ref, other: Ref, dim: int = 1, eps: float = 1e-8) -> None:
    """``sum(x y) / (max(|x|, eps) max(|y|, eps))``: each norm is limited by itself."""
    dtype = d.out.dtype
    pair = d.operand(input, "x", dtype), d.operand(other, "other", dtype)
    over = d.integers([dim])
    limits = d.scalar(eps, "eps", dtype)
    unit = [d.node("Div", v, d.node("Max", d.node("ReduceL2", v, over, keepdims=1), limits)) for v in pair]
    d.give(d.node("ReduceSum", d.node("Mul", *unit), over, keepdims=0))

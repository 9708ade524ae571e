"""Matrix products."""

from __future__ import annotations

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    operator,
    optional,
    required,
)


@operator("MatMul")
def matmul(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``A @ B`` with the broadcasting of ``numpy.matmul``."""
    return (np.asarray(np.matmul(required(inputs, 0, "A"), required(inputs, 1, "B"))),)


@operator("Gemm")
def gemm(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``alpha * A' @ B' + beta * C``, transposed by ``transA`` and ``transB`` (ONNX Gemm-13)."""
    a, b, c = required(inputs, 0, "A"), required(inputs, 1, "B"), optional(inputs, 2)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"A of shape {a.shape} and B of shape {b.shape}: Gemm expects two matrices")
    y = np.matmul(a.T if attributes.get("transA", 0) else a, b.T if attributes.get("transB", 0) else b)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if alpha != 1.0:
        y = (y * alpha).astype(y.dtype)
    if c is not None:
        y = y + (c if beta == 1.0 else (c * beta).astype(c.dtype))
    return (y,)


@operator("Einsum")
def einsum(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Einstein summation; pairs of operands are contracted by matrix products where that is possible."""
    equation = str(attributes["equation"])
    operands = [required(inputs, index, f"operand {index}") for index in range(len(inputs))]
    return (np.asarray(_contract(equation.replace(" ", ""), operands)),)


def _contract(equation: str, operands: list[Array]) -> Array:
    """``np.einsum`` with its optimiser, which uses BLAS; a lone operand needs no plan."""
    result: Array = np.einsum(equation, *operands, optimize=len(operands) > 1)
    return result

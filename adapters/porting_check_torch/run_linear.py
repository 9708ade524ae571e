"""Matrix products and Einstein sums."""

from __future__ import annotations

from typing import Dict

import torch

from porting_check_torch.run_call import Call, Handler, Result


def gemm(call: Call) -> Result:
    """ONNX Gemm: ``alpha * A' B' + beta * C``, by ``torch.addmm`` or, without C, a plain product."""
    a, b, c = call.x, call.need(1), call.input(2)
    a = a.t() if call.get("transA", 0) else a
    b = b.t() if call.get("transB", 0) else b
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if not a.is_floating_point():
        alpha, beta = int(alpha), int(beta)
    if c is None:
        product = torch.matmul(a, b)
        return product if alpha == 1 else product * alpha
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


def matmul(call: Call) -> Result:
    """ONNX MatMul, as ``torch.matmul``."""
    return torch.matmul(call.x, call.need(1))


def einsum(call: Call) -> Result:
    """ONNX Einsum, as ``torch.einsum``."""
    return torch.einsum(call.get("equation").replace(" ", ""), *call.present())


def determinant(call: Call) -> Result:
    """ONNX Det, as ``torch.linalg.det``."""
    result: torch.Tensor = torch.linalg.det(call.x)
    return result


OPERATORS: Dict[str, Handler] = {"Gemm": gemm, "MatMul": matmul, "Einsum": einsum, "Det": determinant}

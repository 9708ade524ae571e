"""Matrix products and Einstein sums, in the full precision of their type."""

from __future__ import annotations

from typing import Dict

import jax.numpy as jnp

from porting_check_jax.run_call import HIGHEST, Call, Handler, Result, is_floating


def gemm(call: Call) -> Result:
    """ONNX Gemm: ``alpha * A' B' + beta * C``, by ``jnp.matmul``."""
    a, b, c = call.x, call.need(1), call.input(2)
    a = a.T if call.get("transA", 0) else a
    b = b.T if call.get("transB", 0) else b
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if not is_floating(a):
        alpha, beta = int(alpha), int(beta)
    product = jnp.matmul(a, b, precision=HIGHEST)
    product = product if alpha == 1 else product * alpha
    if c is None:
        return product
    if jnp.broadcast_shapes(c.shape, product.shape) != product.shape:
        raise call.unsupported(f"C has shape {c.shape}, which does not broadcast to {product.shape}")
    return product + (c if beta == 1 else c * beta)


def matmul(call: Call) -> Result:
    """ONNX MatMul, as ``jnp.matmul``."""
    return jnp.matmul(call.x, call.need(1), precision=HIGHEST)


def einsum(call: Call) -> Result:
    """ONNX Einsum, as ``jnp.einsum``."""
    return jnp.einsum(call.get("equation").replace(" ", ""), *call.present(), precision=HIGHEST)


def determinant(call: Call) -> Result:
    """ONNX Det, as ``jnp.linalg.det``."""
    call.floating()
    return jnp.linalg.det(call.x)


OPERATORS: Dict[str, Handler] = {"Gemm": gemm, "MatMul": matmul, "Einsum": einsum, "Det": determinant}

"""Matrix products and Einstein sums."""

from __future__ import annotations

from typing import Dict

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import Call, Handler, Result, like, rank


def gemm(call: Call) -> Result:
    """ONNX Gemm: ``alpha * A' B' + beta * C``."""
    a, b, c = call.x, call.need(1), call.input(2)
    transposes = {"transpose_a": bool(call.get("transA", 0)), "transpose_b": bool(call.get("transB", 0))}
    result = tf.matmul(a, b, **transposes)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    result = result if alpha == 1 else result * like(alpha, result)
    if c is None:
        return result
    return result + (c if beta == 1 else c * like(beta, c))


def product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """A matrix product that takes vectors, as numpy's does; ``tf.matmul`` wants matrices."""
    row, column = rank(a) == 1, rank(b) == 1
    result = tf.matmul(a[None, :] if row else a, b[:, None] if column else b)
    result = result[..., 0] if column else result
    if not row:
        return result
    return result[..., 0] if column else result[..., 0, :]


def matmul(call: Call) -> Result:
    """ONNX MatMul."""
    return product(call.x, call.need(1))


def einsum(call: Call) -> Result:
    """ONNX Einsum, as ``tf.einsum``; an output that is not named holds the letters met once, in order."""
    equation = call.get("equation").replace(" ", "")
    if "->" not in equation:
        letters = sorted(
            letter for letter in set(equation) if letter.isalpha() and equation.count(letter) == 1
        )
        equation += "->" + ("..." if "..." in equation else "") + "".join(letters)
    return tf.einsum(equation, *call.present())


def determinant(call: Call) -> Result:
    """ONNX Det, as ``tf.linalg.det``."""
    return tf.linalg.det(call.x)


OPERATORS: Dict[str, Handler] = {"Gemm": gemm, "MatMul": matmul, "Einsum": einsum, "Det": determinant}

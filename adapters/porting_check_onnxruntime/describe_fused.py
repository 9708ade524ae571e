"""What ONNX Runtime's optimiser makes of several operators: told as these."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from porting_check_onnxruntime.describe_normalization import dense, layer_normalization
from porting_check_onnxruntime.describe_window import convolution
from porting_check_onnxruntime.draft import Draft

PARAMETERS: Dict[str, Dict[str, float]] = {
    "Relu": {},
    "Tanh": {},
    "Sigmoid": {},
    "LeakyRelu": {"alpha": 0.01},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0},
    "Softplus": {},
    "Softsign": {},
}
"""Activations that are fused, with their attributes in the order of ``activation_params``."""


def _activated(d: Draft, name: str, given: List[Any]) -> str:
    """The fused activation, with its parameters."""
    kind = d.get("activation", "")
    if not kind:
        return name
    if kind == "Clip":
        bounds = [d.like(value, 0, role) for value, role in zip(given, ("min", "max"))]
        return d.node("Clip", name, *bounds)
    if kind not in PARAMETERS:
        d.refuse(f"with the activation {kind} is not described")
    attributes = dict(PARAMETERS[kind])
    attributes.update((key, float(value)) for key, value in zip(attributes, given))
    return d.node(kind, name, **attributes)


def fused_conv(d: Draft) -> None:
    """A convolution, perhaps a sum with another tensor, perhaps an activation."""
    result = convolution(d)
    if d.has(3):
        result = d.node("Add", result, d.activation(3))
    d.give_activation(_activated(d, result, list(d.get("activation_params") or [])))


def fused_gemm(d: Draft) -> None:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    given = [d.get(name) for name in names if d.get(name) is not None]
    d.give(_activated(d, dense(d), given))


def fused_matmul(d: Draft) -> None:
    """``alpha`` times the product of operands whose last axes may be exchanged."""
    if d.get("transBatchA", 0) or d.get("transBatchB", 0):
        d.refuse("with batches transposed is not described")
    factors = [_turned(d, index, bool(d.get(name, 0))) for index, name in enumerate(("transA", "transB"))]
    product = d.node("MatMul", *factors)
    alpha = float(d.get("alpha", 1.0))
    d.give(product if alpha == 1.0 else d.node("Mul", product, d.like(alpha, 0, "alpha")))


def _turned(d: Draft, index: int, turned: bool) -> str:
    operand = d.input(index)
    if operand.parameter and operand.rank == 2 and index == 1:
        return d.port(index, "weight", "OI" if turned else "IO", "IO")
    if not turned:
        return d.port(index)
    order = tuple(range(operand.rank - 2)) + (operand.rank - 1, operand.rank - 2)
    return d.node("Transpose", d.port(index), perm=order)


def _gelu(approximate: str) -> Callable[[Draft], None]:
    """Gelu of the input, to which a bias may be added first."""

    def describe(d: Draft) -> None:
        x = d.node("Add", d.port(0), d.port(1, "bias")) if d.has(1) else d.port(0)
        d.give(d.node("Gelu", x, approximate=approximate))

    return describe


def quick_gelu(d: Draft) -> None:
    """``x * sigmoid(alpha * x)``."""
    d.give(d.node("Swish", d.port(0), alpha=float(d.get("alpha", 1.702))))


def _skip(op_type: str) -> Callable[[Draft], None]:
    """A sum of two tensors and perhaps a bias, normalised; the sum may be an output too."""

    def describe(d: Draft) -> None:
        rms = op_type == "RMSNormalization"
        total = d.node("Add", d.port(0), d.port(1, "skip"))
        extra = 3 if rms else 4
        if d.has(extra):
            total = d.node("Add", total, d.port(extra, "added_bias"))
        inputs = [total, d.port(2, "scale")] + ([] if rms else [d.port(3, "bias")])
        attributes = {"axis": -1, "epsilon": float(d.get("epsilon", 1e-12)), "stash_type": 1}
        d.give(d.node(op_type, *inputs, **attributes))
        if len(d.outputs) > 3:
            d.give(d.node("Identity", total), index=3)

    return describe


def bias_softmax(d: Draft) -> None:
    """A softmax of a sum, over the last axis."""
    rank = d.input(0).rank
    if int(d.get("axis", 1)) % rank != rank - 1:
        d.refuse("over several axes is not described")
    d.give(d.node("Softmax", d.node("Add", d.port(0), d.port(1, "bias")), axis=-1))


def _shared(op_type: str) -> Callable[[Draft], None]:
    def describe(d: Draft) -> None:
        d.give(d.node(op_type, *(d.port(index) for index in range(len(d.inputs)))))

    return describe


OPERATORS: Dict[str, Callable[[Draft], None]] = {}

MICROSOFT: Dict[str, Callable[[Draft], None]] = {
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": fused_matmul,
    "Gelu": _gelu("none"),
    "BiasGelu": _gelu("none"),
    "FastGelu": _gelu("tanh"),
    "QuickGelu": quick_gelu,
    "LayerNormalization": layer_normalization,
    "SkipLayerNormalization": _skip("LayerNormalization"),
    "SkipSimplifiedLayerNormalization": _skip("RMSNormalization"),
    "BiasSoftmax": bias_softmax,
    "BiasAdd": _shared("Sum"),
}

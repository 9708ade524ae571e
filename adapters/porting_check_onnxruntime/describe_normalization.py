"""Normalisations, softmax, dense layers."""

from __future__ import annotations

from typing import Callable, Dict

import numpy as np

from porting_check_onnxruntime.draft import ACTIVATION, Draft, Operand


def batch_normalization(d: Draft) -> None:
    """In inference; before opset 9 ``spatial=0`` had statistics for every place, not every channel."""
    if d.get("training_mode", 0) or (d.opset < 7 and not d.get("is_test", 0)):
        d.refuse("computes batch statistics (training mode)")
    epsilon = float(d.get("epsilon", 1e-5))
    if not d.get("spatial", 1):
        _at_every_place(d, epsilon)
        return
    roles = ("scale", "bias", "mean", "var")
    inputs = [d.activation(), *(d.port(place + 1, role) for place, role in enumerate(roles))]
    d.give_activation(d.node("BatchNormalization", *inputs, epsilon=epsilon))


def _at_every_place(d: Draft, epsilon: float) -> None:
    scale, bias, mean, var = (
        d.port(place + 1, role) for place, role in enumerate(("scale", "bias", "mean", "var"))
    )
    deviation = d.node("Sqrt", d.node("Add", var, d.like(epsilon, 4, "epsilon")))
    normal = d.node("Div", d.node("Sub", d.port(0), mean), deviation)
    d.give(d.node("Add", d.node("Mul", normal, scale), bias))


def instance_normalization(d: Draft) -> None:
    inputs = [d.activation(), d.port(1, "scale"), d.port(2, "bias")]
    d.give_activation(d.node("InstanceNormalization", *inputs, epsilon=float(d.get("epsilon", 1e-5))))


def group_normalization(d: Draft) -> None:
    """Before opset 21, scale and bias were those of a group, not of a channel."""
    groups, channels = int(d.get("num_groups")), d.input(0).shape[1]
    x = d.activation()
    affine = [d.port(1, "scale"), d.port(2, "bias")]
    if d.opset < 21:
        affine = [_spread(d, name, groups, channels) for name in affine]
    d.give_activation(
        d.node("GroupNormalization", x, *affine, num_groups=groups, epsilon=float(d.get("epsilon", 1e-5)))
    )


def _spread(d: Draft, name: str, groups: int, channels: int) -> str:
    wide = d.node("Expand", d.reshape(name, (groups, 1)), d.integers((groups, channels // groups), "shape"))
    return d.reshape(wide, (channels,))


def lrn(d: Draft) -> None:
    attributes = {"size": int(d.get("size")), "alpha": float(d.get("alpha", 1e-4))}
    attributes.update(beta=float(d.get("beta", 0.75)), bias=float(d.get("bias", 1.0)))
    d.give_activation(d.node("LRN", d.activation(), **attributes))


def layer_normalization(d: Draft) -> None:
    """Also the form that ONNX Runtime had in ONNX' domain before opset 17 brought it."""
    attributes = {"axis": int(d.get("axis", -1)), "epsilon": float(d.get("epsilon", 1e-5)), "stash_type": 1}
    inputs = [d.port(0), d.port(1, "scale"), d.port(2, "bias")]
    for index, name in enumerate(d.nodes(len(d.outputs), "LayerNormalization", *inputs, **attributes)):
        d.give(name, index=index)


def rms_normalization(d: Draft) -> None:
    """RMSNormalization, which ONNX Runtime calls SimplifiedLayerNormalization."""
    attributes = {"axis": int(d.get("axis", -1)), "epsilon": float(d.get("epsilon", 1e-5)), "stash_type": 1}
    d.give(d.node("RMSNormalization", d.port(0), d.port(1, "scale"), **attributes))


def _along(op_type: str) -> Callable[[Draft], None]:
    """Softmax and its like: before opset 13 over all axes from ``axis`` on, flattened."""

    def describe(d: Draft) -> None:
        x, new = d.input(0), d.opset >= 13
        axis = int(d.get("axis", -1 if new else 1))
        axis += x.rank if axis < 0 else 0
        rest = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
        if new or rest == 1:
            axis = axis - x.rank if axis == x.rank - 1 else axis
            d.give(d.node(op_type, d.port(0), axis=axis))
            return
        flat = d.node("Flatten", d.port(0), axis=axis)
        d.give(d.reshape(d.node(op_type, flat, axis=-1), x.shape))

    return describe


def dense(d: Draft) -> str:
    """A Gemm node and its output; a weight that is stored the other way round is presented so, not transposed."""
    transposed, weight = int(d.get("transB", 0)), d.input(1)
    own = weight.parameter
    layout = ("OI" if transposed else "IO") if own else ""
    inputs = [d.port(0), d.port(1, "weight", layout, "OI" if own else ""), d.port(2, "bias")]
    return d.node(
        "Gemm",
        *inputs,
        alpha=float(d.get("alpha", 1.0)),
        beta=float(d.get("beta", 1.0)),
        transA=int(d.get("transA", 0)),
        transB=1 if own else transposed,
    )


def gemm(d: Draft) -> None:
    d.give(dense(d))


def matmul_inputs(d: Draft) -> list:  # type: ignore[type-arg]
    """Both operands of a product; a matrix of weights is declared as one."""
    return [_factor(d, index, operand) for index, operand in enumerate((d.input(0), d.input(1)))]


def _factor(d: Draft, index: int, operand: Operand) -> str:
    if operand.parameter and operand.rank == 2 and index == 1:
        return d.port(index, "weight", "IO")
    return d.port(index)


def matmul(d: Draft) -> None:
    d.give(d.node("MatMul", *matmul_inputs(d)))


def prelu(d: Draft) -> None:
    """The slope broadcasts to the right; a slope per channel is ``(C, 1, 1)``."""
    d.give(d.node("PRelu", d.port(0), d.port(1, "slope")))


def depth_space(op_type: str) -> Callable[[Draft], None]:
    """DepthToSpace and SpaceToDepth."""

    def describe(d: Draft) -> None:
        attributes = {"blocksize": int(d.get("blocksize"))}
        if op_type == "DepthToSpace":
            attributes["mode"] = d.get("mode", "DCR")
        layout = ACTIVATION[4]
        d.give(d.node(op_type, d.port(0, "x", layout), **attributes), layout)

    return describe


OPERATORS: Dict[str, Callable[[Draft], None]] = {
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "SimplifiedLayerNormalization": rms_normalization,
    "Softmax": _along("Softmax"),
    "LogSoftmax": _along("LogSoftmax"),
    "Hardmax": _along("Hardmax"),
    "Gemm": gemm,
    "MatMul": matmul,
    "PRelu": prelu,
    "DepthToSpace": depth_space("DepthToSpace"),
    "SpaceToDepth": depth_space("SpaceToDepth"),
}

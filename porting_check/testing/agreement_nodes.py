"""Nodes on which all adapters must agree, beside those of the standard: forms that frameworks treat apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from porting_check.neutral.node import Node

CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "depthwise": ({"group": 3, "strides": (2, 2), "pads": (0, 0, 1, 1)}, (2, 3, 7, 6), (3, 1, 3, 3)),
    "depthwise with two filters each": ({"group": 3, "pads": (1, 1, 1, 1)}, (1, 3, 5, 5), (6, 1, 3, 2)),
    "depthwise with unequal strides": ({"group": 3, "strides": (1, 2)}, (1, 3, 5, 6), (3, 1, 3, 3)),
    "depthwise, dilated": ({"group": 2, "strides": (2, 2), "dilations": (2, 2)}, (1, 2, 9, 9), (2, 1, 3, 3)),
    "one channel": ({"group": 1}, (1, 1, 5, 5), (2, 1, 3, 3)),
    "grouped in three dimensions": ({"group": 2, "strides": (1, 2, 1)}, (1, 4, 4, 5, 4), (6, 2, 2, 3, 2)),
    "dilated in three dimensions": (
        {"strides": (2, 1, 2), "dilations": (2, 1, 2)},
        (1, 2, 6, 5, 7),
        (3, 2, 2, 2, 3),
    ),
    "cropping": ({"pads": (-1, 2, 0, -1)}, (1, 2, 6, 6), (3, 2, 2, 2)),
}

X = np.random.default_rng(2).normal(size=(2, 3, 4, 5)).astype(np.float32)
COUNTS = np.random.default_rng(3).integers(1, 9, (3, 4)).astype(np.int32)
EXACT: dict[str, tuple[Node, list[np.ndarray | None]]] = {
    "slope for all": (Node("PRelu", ("x", "s")), [X, np.array([0.25], np.float32)]),
    "slope by channel": (Node("PRelu", ("x", "s")), [X, np.array([[[0.5]], [[2.0]], [[-1.0]]], np.float32)]),
    "slope by place": (Node("PRelu", ("x", "s")), [X, np.array([0.5, 2, -1, 4, 8], np.float32)]),
    "slope of integers": (Node("PRelu", ("x", "s")), [COUNTS - 4, np.array([2, 3, 4, 5], np.int32)]),
    "mean of integers": (Node("ReduceMean", ("x", "a")), [COUNTS, np.array([1])]),
    "norm of integers": (Node("ReduceL2", ("x", "a")), [COUNTS, np.array([0])]),
    "log of integers": (Node("ReduceLogSumExp", ("x", "a")), [COUNTS, np.array([0])]),
    "maximum of nothing": (Node("ReduceMax", ("x", "a")), [np.zeros((0, 3), np.int16), np.array([0])]),
    "any of nothing": (Node("ReduceMax", ("x", "a")), [np.zeros((0, 3), bool), np.array([0])]),
    "scalar": (Node("ReduceSum", ("x",)), [np.array(3, np.float32)]),
    "power of integers": (Node("Pow", ("x", "e")), [COUNTS, np.array(1.5, np.float32)]),
    "error function of integers": (Node("Erf", ("x",)), [COUNTS - 4]),
    "shrunk integers": (Node("Shrink", ("x",), attributes={"lambd": 2.0, "bias": 1.0}), [COUNTS - 4]),
    "scaled powers of two, up": (
        Node("Cast", ("x",), attributes={"to": 24, "round_mode": "up"}),
        [np.abs(X)],
    ),
    "powers of two, down": (Node("Cast", ("x",), attributes={"to": 24, "round_mode": "down"}), [np.abs(X)]),
    "powers of two, nearest": (
        Node("Cast", ("x",), attributes={"to": 24, "round_mode": "nearest"}),
        [np.abs(X)],
    ),
    "nearest of integers": (
        Node("Resize", ("x", "", "s"), attributes={"mode": "nearest"}),
        [COUNTS.astype(np.uint8), None, np.array([2, 1.5], np.float32)],
    ),
    "linear of integers": (
        Node("Resize", ("x", "", "s"), attributes={"mode": "linear"}),
        [COUNTS.astype(np.uint8), None, np.array([2, 2], np.float32)],
    ),
    "constants": (Node("Constant", (), attributes={"value_floats": (1.5, 2.0)}), []),
    "no regions": (
        Node("RoiAlign", ("x", "r", "b"), attributes={"output_height": 2, "output_width": 3}),
        [X, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)],
    ),
}
"""Forms that the standard's cases leave out, on values for which every order of arithmetic gives the same."""

MATRICES: dict[str, tuple[str, dict[str, Any], list[tuple[int, ...]]]] = {
    "vector by vector": ("MatMul", {}, [(5,), (5,)]),
    "vector by matrices": ("MatMul", {}, [(5,), (2, 5, 3)]),
    "matrices by vector": ("MatMul", {}, [(2, 4, 5), (5,)]),
    "broadcast matrices": ("MatMul", {}, [(3, 1, 4, 5), (2, 5, 6)]),
    "dense": ("Gemm", {"transB": 1}, [(4, 5), (3, 5), (3,)]),
    "both transposed": (
        "Gemm",
        {"transA": 1, "transB": 1, "alpha": 2.0, "beta": 3.0},
        [(5, 4), (3, 5), (4, 1)],
    ),
    "without C": ("Gemm", {"alpha": 2.0}, [(4, 5), (5, 3)]),
    "contraction": ("Einsum", {"equation": "bij, bjk -> bik"}, [(2, 4, 5), (2, 5, 3)]),
    "implicit output": ("Einsum", {"equation": "ba"}, [(2, 4)]),
    "diagonal": ("Einsum", {"equation": "...ii->...i"}, [(3, 4, 4)]),
    "three operands": ("Einsum", {"equation": "ab,bc,cd->ad"}, [(2, 3), (3, 4), (4, 2)]),
}

NORMALIZATIONS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "BatchNormalization": ({"epsilon": 1e-3}, [(4,), (4,), (4,), "variance"]),
    "LayerNormalization": ({"axis": -2, "epsilon": 1e-6}, [(5, 3), (5, 3)]),
    "LayerNormalization by a scale beyond its axes": ({"axis": -1}, [(4, 1, 1), (4, 5, 3)]),
    "RMSNormalization": ({"axis": 1, "epsilon": 1e-6}, [(4, 5, 3)]),
    "RMSNormalization by a scale beyond its axes": ({"axis": -1}, [(4, 1, 1)]),
    "GroupNormalization": ({"num_groups": 2, "epsilon": 1e-5}, [(4,), (4,)]),
    "InstanceNormalization": ({"epsilon": 1e-3}, [(4,), (4,)]),
    "LRN": ({"size": 3, "alpha": 0.1, "beta": 0.7, "bias": 1.5}, []),
    "LRN even": ({"size": 4, "alpha": 0.1, "beta": 0.7, "bias": 1.5}, []),
    "LpNormalization": ({"axis": 1, "p": 1}, []),
    "MeanVarianceNormalization": ({"axes": (0, 2, 3)}, []),
}
"""Attributes and shapes of the parameters, on an input of (2, 4, 5, 3)."""

NO_PLACE: dict[str, tuple[Node, list[np.ndarray]]] = {
    "unpooled": (
        Node("MaxUnpool", ("x", "i"), attributes={"kernel_shape": (2,), "strides": (2,)}),
        [np.ones((1, 1, 2), np.float32), np.array([[[0, 4]]])],
    ),
    "turned": (
        Node("RotaryEmbedding", ("x", "c", "s", "p")),
        [np.ones((1, 1, 2, 2), np.float32), *np.ones((2, 3, 1), np.float32), np.array([[0, 3]])],
    ),
    "cut out": (
        Node("RoiAlign", ("x", "r", "b")),
        [np.ones((1, 1, 3, 3), np.float32), np.zeros((1, 4), np.float32), np.array([1])],
    ),
}
"""Nodes that ask for places that do not exist."""

FUNCTIONS = (
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
"""Functions of one input."""

"""The same nodes in torch and TensorFlow: integers bit for bit, floats to round-off, float64 to 1e-12."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from porting_check_tensorflow import run as by_tensorflow
from porting_check_torch import run as by_torch

from porting_check.neutral.node import EXTENSION, Node
from tests.adapters import run_cases
from tests.adapters.run_strategies import (
    convolutions,
    noise,
    recurrent_layers,
    resizes,
    small_integers,
    transposed_convolutions,
    windows,
)

Arrays = Sequence[np.ndarray | None]

NARROW_FLOATS = ("bfloat16", "float8", "float4")
SOME = settings(deadline=None, max_examples=40)
U32 = 2.0**-24


def both(node: Node, inputs: Arrays, float64: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each output by torch and by TensorFlow."""
    by_both = [adapter.run(node, inputs, float64=float64) for adapter in (by_torch, by_tensorflow)]
    return list(zip(*by_both, strict=True))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest value; infinite where anything but values differs."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return math.inf
    wide_a, wide_b = a.astype(float), b.astype(float)
    finite = np.isfinite(wide_a)
    if (
        not np.array_equal(wide_a[~finite], wide_b[~finite], equal_nan=True)
        or not np.isfinite(wide_b[finite]).all()
    ):
        return math.inf
    if not finite.any():
        return 0.0
    wide_a, wide_b = wide_a[finite], wide_b[finite]
    return float(np.abs(wide_a - wide_b).max() / max(np.abs(wide_a).max(), 1e-30))


def agrees_exactly(node: Node, inputs: Arrays) -> None:
    """Bit-equal results; a zero may have either sign, because a sum may start from either."""
    for a, b in both(node, inputs):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def agrees_in_float64(node: Node, inputs: Arrays, limit: float = 1e-12) -> None:
    """The whole evaluation in float64 gives the same function."""
    for a, b in both(node, inputs, float64=True):
        assert a.dtype == np.float64 or a.dtype.kind != "f"
        assert distance(a, b) <= limit


def agrees_to_round_off(node: Node, inputs: Arrays, terms: int) -> None:
    """Float32 sums of ``terms`` products: within the bound for any order of summation."""
    sizes = [None if x is None else np.abs(x) for x in inputs]
    magnitude = by_torch.run(node, sizes, float64=True)[0]
    for a, b in both(node, inputs):
        assert (np.abs(a.astype(float) - b) <= 2 * (terms + 1) * U32 * magnitude + 1e-30).all()


@SOME
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_convolutions_agree(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
    node, shapes = found
    agrees_exactly(node, small_integers(seed, *shapes))
    agrees_to_round_off(node, noise(seed, *shapes), math.prod(shapes[1][1:]))
    agrees_in_float64(node, noise(seed, *shapes))


@SOME
@given(transposed_convolutions(), st.integers(0, 2**32 - 1))
def test_transposed_convolutions_agree(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
    node, shapes = found
    agrees_exactly(node, small_integers(seed, *shapes))
    agrees_to_round_off(node, noise(seed, *shapes), math.prod(shapes[1]))
    agrees_in_float64(node, noise(seed, *shapes))


@SOME
@given(
    windows(),
    st.sampled_from(("MaxPool", "AveragePool", "LpPool")),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_pools_agree(found: dict[str, Any], op_type: str, ceil: bool, include: bool, seed: int) -> None:
    sizes = found.pop("sizes")
    if "pads" in found and op_type != "LpPool":
        # a window may not lie in the padding alone: its average and its maximum are not defined
        found["pads"] = tuple(
            min(pad, k - 1) for pad, k in zip(found["pads"], 2 * found["kernel_shape"], strict=True)
        )
    if ceil and "pads" in found:
        found["ceil_mode"] = 1
    if op_type == "AveragePool":
        found["count_include_pad"] = int(include)
    outputs = ("y", "places") if op_type == "MaxPool" and include else ("y",)
    node = Node(op_type, ("x",), outputs, found)
    (x,) = noise(seed, (2, 3, *sizes))
    for a, b in both(node, [x]):
        assert distance(a, b) <= (0 if op_type == "MaxPool" else 1e-6)
    agrees_in_float64(node, [x])
    if op_type != "LpPool":
        agrees_exactly(node, small_integers(seed, x.shape))


@SOME
@given(windows(dilated=False), st.sampled_from((None, np.int8, np.uint8)), st.integers(0, 99))
def test_max_pools_of_integers_agree(found: dict[str, Any], dtype: Any, seed: int) -> None:
    shape = (1, 2, *found.pop("sizes"))
    x = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype or np.int8)
    if "pads" in found:
        found["pads"] = tuple(
            min(pad, k - 1) for pad, k in zip(found["pads"], 2 * found["kernel_shape"], strict=True)
        )
    agrees_exactly(Node("MaxPool", ("x",), attributes=found), [x])


@SOME
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=3), st.integers(0, 99))
def test_adaptive_and_global_pools_agree(axes: list[tuple[int, int]], seed: int) -> None:
    (x,) = noise(seed, (2, 3, *(size for size, _ in axes)))
    wanted = {"output_size": tuple(count for _, count in axes)}
    for op_type, attributes, domain in (
        ("AdaptiveAveragePool", wanted, EXTENSION),
        ("AdaptiveMaxPool", wanted, EXTENSION),
        ("GlobalAveragePool", {}, ""),
        ("GlobalMaxPool", {}, ""),
        ("GlobalLpPool", {"p": 3}, ""),
    ):
        node = Node(op_type, ("x",), ("y",), attributes, domain)
        agrees_in_float64(node, [x])
        for a, b in both(node, [x]):
            assert distance(a, b) <= (0 if "Max" in op_type else 2e-6)


def test_adaptive_average_is_the_mean_of_its_windows() -> None:
    x = np.arange(7, dtype=np.float32).reshape(1, 1, 7)
    node = Node("AdaptiveAveragePool", ("x",), ("y",), {"output_size": (3,)}, EXTENSION)
    for found in both(node, [x])[0]:
        assert found.ravel().tolist() == [1.0, 3.0, 5.0]  # windows 0-2, 2-4, 4-6 of floor and ceil


CONVOLUTIONS = {
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


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_that_frameworks_treat_apart_agree(name: str) -> None:
    attributes, *shapes = CONVOLUTIONS[name]
    node = Node("Conv", ("x", "weight"), attributes=attributes)
    agrees_exactly(node, small_integers(1, *shapes))
    agrees_in_float64(node, noise(1, *shapes))


X = np.random.default_rng(2).normal(size=(2, 3, 4, 5)).astype(np.float32)
COUNTS = np.random.default_rng(3).integers(1, 9, (3, 4)).astype(np.int32)
EXACT = {
    "slope for all": (Node("PRelu", ("x", "s")), [X, np.array([0.25], np.float32)]),
    "slope by channel": (Node("PRelu", ("x", "s")), [X, np.array([[[0.5]], [[2.0]], [[-1.0]]], np.float32)]),
    "slope by place": (Node("PRelu", ("x", "s")), [X, np.float32([0.5, 2, -1, 4, 8])]),
    "slope of integers": (Node("PRelu", ("x", "s")), [COUNTS - 4, np.int32([2, 3, 4, 5])]),
    "mean of integers": (Node("ReduceMean", ("x", "a")), [COUNTS, np.array([1])]),
    "norm of integers": (Node("ReduceL2", ("x", "a")), [COUNTS, np.array([0])]),
    "log of integers": (Node("ReduceLogSumExp", ("x", "a")), [COUNTS, np.array([0])]),
    "maximum of nothing": (Node("ReduceMax", ("x", "a")), [np.zeros((0, 3), np.int16), np.array([0])]),
    "any of nothing": (Node("ReduceMax", ("x", "a")), [np.zeros((0, 3), bool), np.array([0])]),
    "scalar": (Node("ReduceSum", ("x",)), [np.float32(3)]),
    "power of integers": (Node("Pow", ("x", "e")), [COUNTS, np.float32(1.5)]),
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
        [COUNTS.astype(np.uint8), None, np.float32([2, 1.5])],
    ),
    "linear of integers": (
        Node("Resize", ("x", "", "s"), attributes={"mode": "linear"}),
        [COUNTS.astype(np.uint8), None, np.float32([2, 2])],
    ),
    "constants": (Node("Constant", (), attributes={"value_floats": (1.5, 2.0)}), []),
    "no regions": (
        Node("RoiAlign", ("x", "r", "b"), attributes={"output_height": 2, "output_width": 3}),
        [X, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)],
    ),
}
"""Forms that the standard's cases leave out, on values for which every order of arithmetic gives the same."""


@pytest.mark.parametrize("name", EXACT)
def test_forms_without_a_case_agree_exactly(name: str) -> None:
    node, inputs = EXACT[name]
    for a, b in both(node, inputs):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a.astype(float), b.astype(float))


def test_normalizations_by_a_scale_beyond_their_axes_agree() -> None:
    scale, bias = noise(5, (3, 1, 1), (3, 4, 5))
    layer = Node("LayerNormalization", ("x", "s", "b"), ("y", "m", "d"), {"axis": -1, "epsilon": 1e-5})
    agrees_in_float64(layer, [X, scale, bias])
    agrees_in_float64(Node("RMSNormalization", ("x", "s"), attributes={"axis": -1}), [X, scale])


MATRICES = {
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


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_products_agree(name: str) -> None:
    op_type, attributes, shapes = MATRICES[name]
    node = Node(op_type, tuple("abc"[: len(shapes)]), attributes=attributes)
    agrees_exactly(node, small_integers(7, *shapes))
    agrees_in_float64(node, noise(7, *shapes))


@settings(deadline=None, max_examples=150)
@given(resizes(), st.integers(0, 99))
def test_resizes_agree(found: tuple[Node, tuple[int, ...], list[int]], seed: int) -> None:
    node, shape, sizes = found
    (x,) = noise(seed, shape)
    inputs = [x, None, None, np.array(sizes)]
    agrees_in_float64(node, inputs)
    for a, b in both(node, inputs):
        assert distance(a, b) <= (0 if node.attributes["mode"] == "nearest" else 1e-5)


@settings(deadline=None, max_examples=60)
@given(recurrent_layers())
def test_recurrent_layers_agree(found: tuple[Node, list[np.ndarray | None]]) -> None:
    node, inputs = found
    agrees_in_float64(node, inputs)
    for a, b in both(node, inputs):
        assert distance(a, b) <= 2e-5


NORMALIZATIONS = {
    "BatchNormalization": ({"epsilon": 1e-3}, [(4,), (4,), (4,), "variance"]),
    "LayerNormalization": ({"axis": -2, "epsilon": 1e-6}, [(5, 3), (5, 3)]),
    "RMSNormalization": ({"axis": 1, "epsilon": 1e-6}, [(4, 5, 3)]),
    "GroupNormalization": ({"num_groups": 2, "epsilon": 1e-5}, [(4,), (4,)]),
    "InstanceNormalization": ({"epsilon": 1e-3}, [(4,), (4,)]),
    "LRN": ({"size": 3, "alpha": 0.1, "beta": 0.7, "bias": 1.5}, []),
    "LRN even": ({"size": 4, "alpha": 0.1, "beta": 0.7, "bias": 1.5}, []),
    "LpNormalization": ({"axis": 1, "p": 1}, []),
    "MeanVarianceNormalization": ({"axes": (0, 2, 3)}, []),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_agree(name: str) -> None:
    attributes, parameters = NORMALIZATIONS[name]
    inputs = noise(3, (2, 4, 5, 3))
    for shape in parameters:
        inputs.append(np.abs(noise(4, (4,))[0]) if shape == "variance" else noise(len(inputs), shape)[0])
    node = Node(name.split(maxsplit=1)[0], tuple("xabcd"[: len(inputs)]), attributes=attributes)
    agrees_in_float64(node, inputs)
    for a, b in both(node, inputs):
        assert distance(a, b) <= 5e-6


FUNCTIONS = [
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
]


@pytest.mark.parametrize("op_type", FUNCTIONS)
def test_functions_agree_on_a_wide_grid(op_type: str) -> None:
    x = np.concatenate([np.linspace(-45, 45, 181), np.linspace(-2, 2, 41), [0.0, -0.0, 1e-9, 700.0, -700.0]])
    node = Node(op_type, ("x",))
    a, b = both(node, [x], float64=True)[0]
    finite = np.isfinite(a.astype(float))
    np.testing.assert_array_equal(np.isfinite(b.astype(float)), finite)
    # relative, with the floor of functions that cancel (NUMERICS 1.1)
    np.testing.assert_allclose(b[finite], a[finite], rtol=1e-12, atol=1e-14)
    for narrow in (np.float32, np.float16):
        for single, wide in zip(both(node, [x.astype(narrow)])[0], (a, b), strict=True):
            assert single.dtype in (narrow, bool)
            assert wide.shape == single.shape


def test_every_case_of_the_standard_agrees_in_float64() -> None:
    different, count = {}, 0
    for op_type, chosen in run_cases.cases().items():
        for case in chosen:
            if op_type == "BitCast" or not any(_floating(x) for x in case.inputs):
                continue
            count += 1
            apart = max(distance(a, b) for a, b in both(case.node, case.inputs, float64=True))
            if apart > 1e-12:
                different[case.name] = apart
    assert count > 900
    assert different == {}


def _floating(x: np.ndarray | None) -> bool:
    """Whether an input is of a floating type, numpy's or another."""
    return x is not None and (x.dtype.kind == "f" or x.dtype.name.startswith(NARROW_FLOATS))


def test_both_run_the_same_operators() -> None:
    assert by_torch.supported() == by_tensorflow.supported()
    assert by_torch.supported() >= run_cases.WITHOUT_CASES.keys()

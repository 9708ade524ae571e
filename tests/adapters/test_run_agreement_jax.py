"""The same nodes in torch and JAX: integers bit for bit, floats to round-off, float64 to 1e-12."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("jax")

from porting_check_jax import run as by_jax
from porting_check_torch import run as by_torch

from porting_check.neutral.errors import RunError
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

SOME = settings(deadline=None, max_examples=20)
"""Every new shape is a program that JAX compiles, for some tenths of a second."""


def agrees(node: Node, inputs: Arrays, limit: float, float64: bool = False) -> None:
    """Same dtypes and shapes; apart by at most ``limit`` times the largest value, where that is 0 not at all."""
    by_both = (adapter.run(node, inputs, float64=float64) for adapter in (by_torch, by_jax))
    for a, b in zip(*by_both, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert not float64 or a.dtype.kind != "f" or a.dtype == np.float64
        size = float(np.abs(np.where(np.isfinite(a), a, 0)).max(initial=0.0))
        np.testing.assert_allclose(b, a, rtol=0, atol=limit * size)


def agrees_exactly(node: Node, inputs: Arrays) -> None:
    """Equal results; a zero may have either sign, because a sum may start from either."""
    agrees(node, inputs, 0.0)


def agrees_in_float64(node: Node, inputs: Arrays) -> None:
    """The whole evaluation in float64 gives the same function."""
    agrees(node, inputs, 1e-12, float64=True)


@SOME
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_convolutions_agree(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
    node, shapes = found
    agrees_exactly(node, small_integers(seed, *shapes))
    agrees_in_float64(node, noise(seed, *shapes))


CONVOLUTIONS = {
    "cropping": ({"pads": (-1, 2, 0, -1)}, (1, 2, 6, 6), (3, 2, 2, 2)),
    "depthwise with two filters each": ({"group": 3, "pads": (1, 1, 1, 1)}, (1, 3, 5, 5), (6, 1, 3, 2)),
    "three dimensions": ({"strides": (2, 1, 2)}, (1, 2, 6, 5, 7), (3, 2, 2, 2, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_other_forms_agree(name: str) -> None:
    attributes, *shapes = CONVOLUTIONS[name]
    node = Node("Conv", ("x", "weight"), attributes=attributes)
    agrees_exactly(node, small_integers(1, *shapes))


@SOME
@given(transposed_convolutions(), st.integers(0, 2**32 - 1))
def test_transposed_convolutions_agree(found: tuple[Node, list[Sequence[int]]], seed: int) -> None:
    node, shapes = found
    agrees_exactly(node, small_integers(seed, *shapes))
    agrees_in_float64(node, noise(seed, *shapes))


def kept_inside(found: dict[str, Any]) -> None:
    """Pads below the kernel: what a window in the padding alone gives is not defined."""
    if "pads" in found:
        kernels = 2 * found["kernel_shape"]
        found["pads"] = tuple(min(pad, k - 1) for pad, k in zip(found["pads"], kernels, strict=True))


@settings(deadline=None, max_examples=30)
@given(
    windows(),
    st.sampled_from(("MaxPool", "AveragePool", "LpPool")),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_pools_agree(found: dict[str, Any], op_type: str, ceil: bool, include: bool, seed: int) -> None:
    sizes = found.pop("sizes")
    kept_inside(found)
    if ceil and "pads" in found:
        found["ceil_mode"] = 1
    if op_type == "AveragePool":
        found["count_include_pad"] = int(include)
    node = Node(op_type, ("x",), ("y", "places") if op_type == "MaxPool" and include else ("y",), found)
    (x,) = noise(seed, (2, 3, *sizes))
    agrees_in_float64(node, [x])
    # sums of powers are exact as well, their roots are rounded
    (whole,) = small_integers(seed, x.shape)
    agrees(node, [whole], 1e-6 if op_type == "LpPool" else 0.0)


@settings(deadline=None, max_examples=15)
@given(windows(), st.sampled_from((np.int8, np.uint8)), st.booleans(), st.integers(0, 99))
def test_max_pools_of_integers_agree(found: dict[str, Any], dtype: Any, places: bool, seed: int) -> None:
    shape = (1, 2, *found.pop("sizes"))
    kept_inside(found)
    x = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    agrees_exactly(Node("MaxPool", ("x",), ("y", "places")[: 1 + places], found), [x])


@settings(deadline=None, max_examples=12)
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
        agrees_in_float64(Node(op_type, ("x",), ("y",), attributes, domain), [x])


@settings(deadline=None, max_examples=30)
@given(resizes(), st.integers(0, 99))
def test_resizes_agree(found: tuple[Node, tuple[int, ...], list[int]], seed: int) -> None:
    node, shape, sizes = found
    inputs = [noise(seed, shape)[0], None, None, np.array(sizes)]
    agrees_in_float64(node, inputs)
    agrees(node, inputs, 0.0 if node.attributes["mode"] == "nearest" else 1e-5)


def test_an_infinity_reaches_only_the_places_that_read_it() -> None:
    x = np.zeros((1, 1, 1, 9), np.float32)
    x[..., 8] = np.inf
    node = Node("Resize", ("x", "", "", "sizes"), attributes={"mode": "linear"})
    (found,) = by_jax.run(node, [x, None, None, np.array([1, 1, 1, 18])])
    assert np.isfinite(found.ravel()).tolist() == [True] * 15 + [False] * 3


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_samples_agree(mode: str, padding: str, corners: int) -> None:
    node = Node(
        "GridSample", ("x", "g"), attributes={"mode": mode, "padding_mode": padding, "align_corners": corners}
    )
    for space in ((5, 4), (3, 4, 2))[: 1 if mode == "cubic" else 2]:
        x, grid = noise(6, (2, 3, *space), (2, 4, 5, *space[2:], len(space)))
        agrees_in_float64(node, [x, grid])


@settings(deadline=None, max_examples=15)
@given(recurrent_layers())
def test_recurrent_layers_agree(found: tuple[Node, list[np.ndarray | None]]) -> None:
    agrees_in_float64(*found)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_of_float32_agree(kind: str) -> None:
    gates, inputs = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], ("x", "w", "r", "b")
    arrays = noise(8, (7, 2, 5), (2, gates * 3, 5), (2, gates * 3, 3), (2, 2 * gates * 3))
    attributes = {"hidden_size": 3, "direction": "bidirectional"}
    agrees(Node(kind, inputs, ("y", "h"), attributes), arrays, 2e-6)


NORMALIZATIONS = {
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


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_agree(name: str) -> None:
    attributes, parameters = NORMALIZATIONS[name]
    inputs = noise(3, (2, 4, 5, 3))
    for shape in parameters:
        inputs.append(np.abs(noise(4, (4,))[0]) if shape == "variance" else noise(len(inputs), shape)[0])
    node = Node(name.split(maxsplit=1)[0], tuple("xabcd"[: len(inputs)]), attributes=attributes)
    agrees_in_float64(node, inputs)
    agrees(node, inputs, 5e-6)


CASES = (
    "AffineGrid",
    "CausalConvWithState",
    "Col2Im",
    "DeformConv",
    "LinearAttention",
    "MaxUnpool",
    "RoiAlign",
)


@pytest.mark.parametrize("op_type", [*CASES, "RotaryEmbedding", "Upsample", "Attention"])
def test_cases_of_the_standard_agree_in_float64(op_type: str) -> None:
    chosen = run_cases.cases()[op_type]
    for case in chosen[:: max(1, len(chosen) // 3)]:
        agrees_in_float64(case.node, case.inputs)


REFUSED = {
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


@pytest.mark.parametrize("name", REFUSED)
def test_places_that_do_not_exist_are_refused_as_by_torch(name: str) -> None:
    node, inputs = REFUSED[name]
    for adapter in (by_torch, by_jax):
        with pytest.raises(RunError, match=f"could not run {node.op_type}"):
            adapter.run(node, inputs)

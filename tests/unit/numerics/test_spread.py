"""The unit of sums, the limits that go with it, and how both pass through other operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.node import Node
from porting_check.numerics import roundoff
from porting_check.numerics.own import judged
from porting_check.numerics.roundoff_units import LONG
from porting_check.numerics.spread import Bounds, bounds_of
from porting_check.numerics.truth import evaluate_node
from tests.unit.numerics.arithmetic import KINDS, in_order, matrices

U = 2.0**-24
GEMM = Node("Gemm", ("x", "w"), attributes={"transB": 1})


def bounded(node, inputs, incoming=None):
    """The truth and its bounds."""
    wide = [None if a is None else a.astype("f8") if a.dtype.kind == "f" else a for a in inputs]
    outputs = evaluate_node(node, wide)
    return outputs[0], bounds_of(node, wide, incoming or [None] * len(wide), outputs, U)[0]


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(KINDS)))
@settings(deadline=None, max_examples=25)
def test_tau_is_what_its_formula_says(seed, kind):
    rng = np.random.default_rng(seed)
    x, w = matrices(kind, seed, *(int(n) for n in rng.integers(1, 60, 3)))
    truth, bounds = bounded(GEMM, [x, w])
    products = x.astype("f8")[:, None] * w.astype("f8")[None]
    n, squares = products.shape[2] + 1, np.square(products).sum(axis=2)
    expected = U * np.sqrt(n * (truth**2 / 3 + squares / 6) + squares + truth**2)
    np.testing.assert_allclose(bounds.spread(True), expected, rtol=1e-5)
    # The cheap one needs no squares and is never larger.
    assert (bounds.spread(False) <= expected * (1 + 1e-5)).all()
    assert (bounds.spread(False) > expected / np.sqrt(n) * 0.5).all()


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_tau_of_a_convolution_is_that_of_its_products(seed):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((2, 4, 7, 6)), rng.standard_normal((6, 2, 3, 3))
    node = Node("Conv", ("x", "w"), attributes={"group": 2, "strides": (2, 1)})
    truth, bounds = bounded(node, [x, w])
    squares = evaluate_node(node, [x**2, w**2])[0]
    expected = U * np.sqrt(19 * (truth**2 / 3 + squares / 6) + squares + truth**2)
    np.testing.assert_allclose(bounds.spread(True), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_in_order_err_as_the_law_predicts(kind):
    x, w = matrices(kind, 5, 16, 2000, 32)
    truth, bounds = bounded(GEMM, [x, w])
    z = (in_order(x, w) - truth) / bounds.spread(True)
    assert 0.15 < np.sqrt(np.square(z).mean()) < 0.55


@pytest.mark.parametrize(
    ("node", "parameters"),
    [
        (Node("Relu", ("x",)), []),
        (Node("Transpose", ("x",), attributes={"perm": (1, 0)}), []),
        (Node("Add", ("x", "b")), [np.full(24, 0.5, "f4")]),
        (Node("Mul", ("x", "b")), [np.full(24, -2.0, "f4")]),
    ],
)
def test_the_unit_goes_on_through_what_follows(node, parameters):
    x, w = matrices("normal", 6, 16, 300, 24)
    truth, bounds = bounded(GEMM, [x, w])
    inputs = [truth, *(p.astype("f8") for p in parameters)]
    outputs = evaluate_node(node, inputs)
    after = bounds_of(node, inputs, [bounds, *(None for _ in parameters)], outputs, U)[0]
    assert after.terms == 301
    given_ = [in_order(x, w), *parameters]
    native = evaluate_node(node, given_, dtype=None)[0]
    assert judged(native, outputs[0], after, channel=1).good
    coarse = evaluate_node(node, [in_order(x, w.astype("f2").astype("f4")), *parameters], dtype=None)[0]
    assert not judged(coarse, outputs[0], after, channel=1).good


def test_moved_bounds_move_everything():
    x, w = matrices("normal", 7, 5, 30, 4)
    bounds = bounded(GEMM, [x, w])[1].moved(np.transpose)
    assert bounds.limit.shape == bounds.spread(True).shape == (4, 5)
    usual = Bounds(np.ones((2, 3)), usual=lambda: np.zeros((2, 3)), looser=3.0).moved(np.transpose)
    assert (usual.usual().shape, usual.looser) == ((3, 2), 3.0)


def test_very_long_sums_are_allowed_what_adding_in_step_rounds():
    """Values near 100 added one after the other are all rounded alike once the sum is large."""
    count = int(1.5 * LONG)
    x = (100 + np.random.default_rng(0).standard_normal((1, count))).astype("f4")
    node = Node("ReduceSum", ("x", "a"), attributes={"keepdims": 1})
    truth, bounds = bounded(node, [x, np.array([1])])
    native = np.cumsum(x, axis=1, dtype=np.float32)[:, -1:]
    assert bounds.spread is None
    assert judged(native, truth, bounds).good
    statistical = roundoff.any_order(count, np.abs(truth), truth, U)
    assert bounds.limit > 10 * statistical
    short = x[:, : int(LONG) // 2]
    assert bounded(node, [short, np.array([1])])[1].spread is not None


def test_nearest_neighbours_round_nothing_and_interpolation_has_no_law():
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype("f4")
    sizes = np.array([1, 2, 8, 9])
    for mode, zero in (("nearest", True), ("linear", False), ("cubic", False)):
        node = Node("Resize", ("x", "", "", "s"), attributes={"mode": mode})
        bounds = bounded(node, [x, None, None, sizes])[1]
        assert bounds.spread is None
        assert (not bounds.limit.any()) is zero


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("data", ["far", "steep", "tiny"])
def test_interpolation_may_round_its_places(mode, align, data):
    rng = np.random.default_rng(1)
    x = {
        "far": 1000 + rng.standard_normal((1, 3, 40, 50)),
        "steep": 10.0 ** rng.uniform(-4, 4, (1, 3, 40, 50)),
        "tiny": 1e-5 * rng.standard_normal((1, 3, 40, 50)),
    }[data].astype("f4")
    where = "align_corners" if align else "pytorch_half_pixel"
    form = {"mode": mode, "coordinate_transformation_mode": where}
    node = Node("Resize", ("x", "", "", "s"), attributes=form)
    truth, bounds = bounded(node, [x, None, None, np.array([1, 3, 97, 123])])
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    native = F.interpolate(torch.from_numpy(x), (97, 123), mode=name, align_corners=align).numpy()
    found = judged(native, truth, bounds)
    assert found.good, found
    # A coefficient of the cubic kernel that differs, or corners that are not aligned, are far beyond it.
    wrong = F.interpolate(torch.from_numpy(x), (97, 123), mode=name, align_corners=not align).numpy()
    assert not judged(wrong, truth, bounds).good


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_sampling_by_a_grid_may_round_its_places(mode, padding, scale):
    rng = np.random.default_rng(2)
    x = (scale * (1 + rng.standard_normal((2, 3, 30, 40)))).astype("f4")
    grid = rng.uniform(-1.3, 1.3, (2, 11, 12, 2)).astype("f4")
    form = {
        "mode": {"bilinear": "linear", "bicubic": "cubic"}[mode],
        "padding_mode": padding,
        "align_corners": 0,
    }
    truth, bounds = bounded(Node("GridSample", ("x", "g"), attributes=form), [x, grid])
    arrays = torch.from_numpy(x), torch.from_numpy(grid)
    native = F.grid_sample(*arrays, mode=mode, padding_mode=padding, align_corners=False).numpy()
    assert judged(native, truth, bounds).ratio < 1
    wrong = F.grid_sample(*arrays, mode=mode, padding_mode=padding, align_corners=True).numpy()
    assert judged(wrong, truth, bounds).ratio > 100


def test_what_overflows_in_the_native_type_agrees():
    truth, limit = np.array([1e39, -1e39, 3.4028235e38, 1.0]), np.array([1e32, 1e32, 1e32, 1e-6])
    bounds = Bounds(limit)
    assert judged(np.float32([np.inf, -np.inf, np.inf, 1.0]), truth, bounds).verdict == "exact"
    assert judged(np.float32([np.inf, np.inf, 3.4028235e38, 1.0]), truth, bounds).verdict == "exceeds"
    assert judged(np.float32([np.inf, -np.inf, 3.4028235e38, np.inf]), truth, bounds).verdict == "exceeds"
    assert judged(np.float32([np.nan, -np.inf, 3.4028235e38, 1.0]), truth, bounds).verdict == "exceeds"

"""The truth of a network step by step."""

from __future__ import annotations

import numpy as np

from porting_check.network import Network
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node
from porting_check.numerics.stepwise import Stepwise

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 8)).astype(np.float32)
W = RNG.standard_normal((5, 8)).astype(np.float32)


def two_layers() -> Graph:
    nodes = [Node("Gemm", ("x", "w"), ("h",), {"transB": 1}), Node("Exp", ("h",), ("y",))]
    return Graph(Network(nodes, {"w": W}).trace({"x": X}))


def test_each_step_stands_on_the_rounded_truth_of_the_one_before():
    stepwise = Stepwise(two_layers())
    first, second = stepwise
    wide = X.astype(np.float64) @ W.T.astype(np.float64)
    np.testing.assert_array_equal(first.outputs[0], wide)
    assert stepwise.rounded["h"].dtype == np.float32
    np.testing.assert_array_equal(second.outputs[0], np.exp(wide.astype(np.float32).astype(np.float64)))


def test_the_bounds_hold_for_float32_and_are_not_loose():
    first, _ = Stepwise(two_layers())
    found = X @ W.T
    error = np.abs(found - first.outputs[0])
    assert (error <= first.bounds[0].limit).all()
    assert first.bounds[0].limit.max() < 1e-4
    narrow = X.astype(np.float16).astype(np.float32) @ W.T
    assert (np.abs(narrow - first.outputs[0]) > first.bounds[0].limit).any()


def test_in_float64_values_stay_wide_and_bounds_shrink():
    stepwise = Stepwise(two_layers(), float64=True)
    first, _ = stepwise
    assert stepwise.rounded["h"].dtype == np.float64
    assert 0 < first.bounds[0].limit.max() < 1e-13


def test_parameters_that_are_only_moved_keep_their_bits():
    nodes = [Node("Transpose", ("w",), ("t",), {"perm": (1, 0)}), Node("MatMul", ("x", "t"), ("y",))]
    stepwise = Stepwise(Graph(Network(nodes, {"w": W}).trace({"x": X})))
    (only,) = stepwise
    assert only.step.node.op_type == "MatMul"
    assert stepwise.rounded["t"].dtype == np.float32
    np.testing.assert_array_equal(stepwise.rounded["t"], W.T)


def test_casts_are_held_in_their_dtype():
    nodes = [Node("Cast", ("x",), ("h",), {"to": 10}), Node("Relu", ("h",), ("y",))]
    stepwise = Stepwise(Graph(Network(nodes).trace({"x": X})))
    list(stepwise)
    assert stepwise.rounded["h"].dtype == stepwise.rounded["y"].dtype == np.float16
    np.testing.assert_array_equal(stepwise.rounded["h"], X.astype(np.float16))

"""Structured terms: errors that only a given order of summation makes are recognised, and mistakes are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.node import Node
from porting_check.numerics.orders import plausible
from porting_check.numerics.products import SAMPLE, sampled
from porting_check.numerics.truth import evaluate_node
from tests.unit.numerics.arithmetic import in_lanes, in_order

U = 2.0**-24
GEMM = Node("Gemm", ("x", "w"), attributes={"transB": 1})


def edges(seed=0, rows=16, terms=512, columns=24):
    """Positive data and filters whose first half is positive, the second negative."""
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(0, 1, (rows, terms)), np.abs(rng.standard_normal((columns, terms)))
    w[:, terms // 2 :] *= -1
    return x.astype("f4"), w.astype("f4")


def order_of(native, x, w, also=()):
    wide = [x.astype("f8"), w.astype("f8")]
    products = sampled(GEMM, wide, native.shape, also=also)
    error = native - wide[0] @ wide[1].T
    return plausible(products, error[products.index], U)


def test_edge_filters_added_in_order_or_in_lanes_are_recognised():
    x, w = edges()
    assert order_of(in_order(x, w), x, w) == "one after the other"
    parity = w[:, np.arange(512).reshape(2, 256).T.ravel()]
    assert order_of(in_lanes(x, parity, 2), x, parity) is not None


@pytest.mark.parametrize("share", [1e-5, -1e-5])
def test_a_wrong_filter_is_no_order(share):
    x, w = edges()
    native = in_order(x, w)
    native[:, 5] *= np.float32(1 + 1000 * share)
    assert order_of(native, x, w) is None
    assert order_of(in_order(x, w * np.float32(1 + 100 * share)), x, w) is None


def test_a_mistake_outside_of_the_sample_is_looked_at_when_it_is_large():
    rng = np.random.default_rng(3)
    x, w = rng.uniform(0, 1, (400, 64)).astype("f4"), rng.standard_normal((40, 64)).astype("f4")
    native = in_order(x, w)
    drawn = sampled(GEMM, [x, w], native.shape).index
    outside = np.ones(native.shape, bool)
    outside[drawn] = False
    place = tuple(np.argwhere(outside)[0])
    native[place] += 1e-3
    assert len(drawn[0]) == SAMPLE < native.size
    assert order_of(native, x, w) is not None
    assert order_of(native, x, w, also=[np.ravel_multi_index(place, native.shape)]) is None


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_the_products_of_a_convolution_add_up_to_it(seed):
    rng = np.random.default_rng(seed)
    group, stride, dilation = (int(n) for n in rng.integers(1, 3, 3))
    x = rng.standard_normal((2, 2 * group, 9, 8))
    w = rng.standard_normal((3 * group, 2, 3, 2))
    attributes = {"group": group, "strides": (stride, 1), "dilations": (1, dilation), "pads": (1, 0, 0, 2)}
    node = Node("Conv", ("x", "w"), attributes=attributes)
    truth = evaluate_node(node, [x, w])[0]
    found = sampled(node, [x, w], truth.shape)
    np.testing.assert_allclose(
        found.terms.reshape(len(found.terms), -1).sum(axis=1), truth[found.index], atol=1e-12
    )


@pytest.mark.parametrize(
    ("node", "shapes", "extra"),
    [
        (Node("MatMul", ("x", "w")), [(2, 3, 5, 7), (3, 7, 4)], []),
        (Node("Gemm", ("x", "w"), attributes={"transA": 1, "alpha": 2.0}), [(7, 5), (7, 4)], []),
        (Node("ReduceMean", ("x", "a"), attributes={"keepdims": 0}), [(3, 4, 5)], [np.array([-1])]),
        (Node("ReduceSum", ("x", "a"), attributes={"keepdims": 0}), [(3, 4, 5)], [np.array([0, 2])]),
    ],
)
def test_the_products_of_other_sums_add_up_too(node, shapes, extra):
    rng = np.random.default_rng(0)
    inputs = [*(rng.standard_normal(shape) for shape in shapes), *extra]
    truth = evaluate_node(node, inputs)[0]
    found = sampled(node, inputs, truth.shape)
    np.testing.assert_allclose(
        found.terms.reshape(len(found.terms), -1).sum(axis=1), truth[found.index], atol=1e-12
    )
    assert sampled(Node("Exp", ("x",)), inputs, truth.shape) is None

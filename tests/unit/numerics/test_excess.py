"""What is more than round-off is explained when it can be proven, and only then."""

from __future__ import annotations

import numpy as np
import pytest

import porting_check as pc
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node
from porting_check.numerics.excess import explain, settled
from porting_check.numerics.own import SideTruth
from porting_check.numerics.precision import TF32
from porting_check.numerics.spread import bounds_of
from porting_check.numerics.truth import evaluate_node
from tests.unit.numerics.arithmetic import in_lanes, in_order, matrices, truncating

U = 2.0**-24
GEMM = Node("Gemm", ("x", "w"), ("h",), {"transB": 1})


def judged(native, x, w):
    wide = [x.astype("f8"), w.astype("f8")]
    outputs = evaluate_node(GEMM, wide)
    return settled(GEMM, [x, w], native, outputs[0], bounds_of(GEMM, wide, [None, None], outputs, U)[0])


def edges():
    x, w = matrices("uniform", 0, 16, 512, 24)
    w[:, 256:] *= -1
    return x, w


OUTCOMES = {
    "in lanes": (lambda x, w: in_lanes(x, w, 16), "round-off", ""),
    "TF32": (lambda x, w: in_order(*(TF32.round(a).astype("f4") for a in (x, w))), "low-precision", "TF32"),
    "float16 weights": (
        lambda x, w: in_order(x, w.astype("f2").astype("f4")),
        "low-precision",
        "the weights",
    ),
    "float16 results": (
        lambda x, w: in_lanes(x, w, 16).astype("f2").astype("f4"),
        "low-precision",
        "results",
    ),
    "another weight": (
        lambda x, w: in_order(x, np.where(w == w[3, 5], 1.5 * w, w)),
        "divergent",
        "no narrower format",
    ),
    "a shape": (lambda x, w: in_order(x, w)[:, :-1], "divergent", ""),
    "NaN": (lambda x, w: in_order(x, w) * np.float32([np.nan] + [1] * 23), "divergent", "not finite"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_one_node_is_settled_with_words(name):
    make, verdict, words = OUTCOMES[name]
    x, w = matrices("normal", 1, 16, 128, 24)
    found = judged(make(x, w), x, w)
    assert found.verdict == verdict, found
    assert words in found.words
    assert found.good is (verdict in ("exact", "round-off"))


def test_ordered_terms_are_round_off_and_a_truncating_accumulator_is_named():
    x, w = edges()
    found = judged(in_order(x, w), x, w)
    assert (found.verdict, found.rounding.verdict) == ("round-off", "undecided")
    assert "one after the other" in found.words
    x, w = matrices("uniform", 2, 24, 3000, 24)
    found = judged(truncating(x, w, 8), x, w)
    assert found.verdict == "low-precision"
    assert "truncating accumulator" in found.words


def test_a_slight_mistake_under_ordered_terms_stays_undecided():
    x, w = edges()
    native = in_order(x, w)
    native[3, 5] *= np.float32(1.002)
    found = judged(native, x, w)
    assert found.verdict in ("undecided", "divergent")
    assert "times" in found.words


def side(native, after):
    """A recorded layer of a product and what follows it; the product itself was not recorded."""
    x, w = matrices("normal", 3, 16, 128, 24)
    nodes = [GEMM, *after]
    network = pc.Network(nodes, {"w": w})
    trace = network.trace({"x": x})
    graph = Graph(trace)
    target = graph.steps[-1].outputs[0].key
    value = native(x, w)
    for node in after:
        value = evaluate_node(node, [value], dtype=None)[0]
    graph.trace.values[target] = value
    return SideTruth(graph), target


@pytest.mark.parametrize("after", [(), (Node("Relu", ("h",), ("y",)),)], ids=["alone", "with an activation"])
def test_a_region_of_a_graph_is_explained_by_its_operands(after):
    def coarse(x, w):
        return in_order(*(TF32.round(a).astype("f4") for a in (x, w)))

    one, target = side(coarse, after)
    steps, boundary = one.graph.between(target, {p.value for p in one.graph.trace.inputs})
    truth, bounds = one.bounded(tuple(steps), target, sorted(boundary))
    rounding = one.judged(target, sorted(boundary), truth, bounds)
    assert not rounding.good
    found = explain(one, steps, target, sorted(boundary), truth, rounding)
    assert found.verdict == "low-precision"
    assert "both operands rounded to TF32" in found.words
    wrong, target = side(lambda x, w: in_order(x, w) * np.float32(1.003), after)
    truth, bounds = wrong.bounded(tuple(steps), target, sorted(boundary))
    rounding = wrong.judged(target, sorted(boundary), truth, bounds)
    assert explain(wrong, steps, target, sorted(boundary), truth, rounding) is None

from __future__ import annotations

import numpy as np
import pytest

from porting_check.alignment.idioms import idioms, whole
from porting_check.examination import examine
from porting_check.neutral.node import Node
from porting_check.report.assemble import assemble
from porting_check.transfer import moved_parameters
from tests.unit.traces import constant, conv, graph, run_network

RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 3, 9, 8)).astype("f4")
W1, W2 = (RNG.standard_normal((3, 3, 3, 3)).astype("f4") for _ in range(2))
B = RNG.standard_normal(3).astype("f4")
SWISH = Node("Swish", ("x",), ("y",), {"alpha": 1.0})
WRITTEN_OUT = [
    ("sigmoid", [Node("Sigmoid", ("x",), ("y",))], {}),
    ("times", [Node("Mul", ("x", "x2"), ("y",))], {}, ("conv1", "sigmoid")),
]


def first(weight=W1):
    return ("conv1", [conv((1, 1, 1, 1))], {"weight": weight, "bias": B})


def second(pads):
    return ("conv2", [conv(pads, strides=(2, 2))], {"weight": W2, "bias": B})


def test_a_gate_is_recognised_as_the_operator_that_it_is():
    stands, parts = idioms(graph([first(), *WRITTEN_OUT], X))
    assert stands == {2: "Swish"}
    assert parts == {1}


def test_a_sigmoid_that_something_else_reads_too_is_no_part():
    stands, _ = idioms(
        graph([first(), *WRITTEN_OUT, ("more", [Node("Neg", ("x",), ("y",))], {}, ("sigmoid",))], X)
    )
    assert stands == {}


def test_two_mistakes_around_an_activation_that_is_written_out_are_both_located():
    reference = run_network([first(), ("swish", [SWISH], {}), second((1, 0, 1, 1))], X)
    wrong = run_network([first(-W1), *WRITTEN_OUT, second((1, 1, 1, 0))], X)
    report = assemble(examine(reference, wrong), {}, lambda *_: None)
    assert [f.pair.candidate for f in report.findings] == [("conv1",), ("conv2",)]
    right = run_network([first(), *WRITTEN_OUT, second((1, 0, 1, 1))], X)
    assert assemble(examine(reference, right), {}, lambda *_: None).verdict == "faithful"


SLOPE = RNG.uniform(0.1, 0.4, (3, 1, 1)).astype("f4")
PRELU = ("prelu", [Node("PRelu", ("x", "slope"), ("y",))], {"slope": SLOPE})


def chosen(comparison, slope=SLOPE, bound=0.0):
    """PReLU by ``where``; the comparison says on which side ``x`` stays as it is."""
    choices = ("x", "multiple") if comparison.startswith("Greater") else ("multiple", "x")
    nodes = [
        constant("bound", np.float32(bound)),
        Node(comparison, ("x", "bound"), ("mask",)),
        Node("Mul", ("slope", "x"), ("multiple",)),
        Node("Where", ("mask", *choices), ("y",)),
    ]
    return ("chosen", nodes, {"slope": slope})


@pytest.mark.parametrize("comparison", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_a_slope_that_where_chooses_is_a_prelu_and_its_slope_moves(comparison):
    written = graph([first(), chosen(comparison)], X)
    stands, parts = idioms(written)
    assert list(stands.values()) == ["PRelu"]
    assert [written.steps[i].node.op_type for i in sorted(parts)] == [comparison, "Mul"]
    step = whole(written, written.steps[next(iter(stands))])
    assert step.inputs[1].key == "parameter:chosen.slope"
    empty = run_network([first(), chosen(comparison, 0 * SLOPE)], X)
    full = run_network([first(), PRELU], X)
    np.testing.assert_array_equal(moved_parameters(full, empty)[1]["chosen.slope"], SLOPE)
    back = run_network([first(), ("prelu", PRELU[1], {"slope": 0 * SLOPE})], X)
    moved = moved_parameters(run_network([first(), chosen(comparison)], X), back)[1]
    np.testing.assert_array_equal(moved["prelu.slope"], SLOPE)
    assert assemble(examine(full, written.trace), {}, lambda *_: None).verdict == "faithful"


def test_where_with_another_bound_is_no_prelu():
    assert idioms(graph([first(), chosen("Greater", bound=0.5)], X)) == ({}, set())

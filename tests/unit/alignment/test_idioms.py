from __future__ import annotations

import numpy as np

from porting_check.alignment.idioms import idioms
from porting_check.examination import examine
from porting_check.neutral.node import Node
from porting_check.report.assemble import assemble
from tests.unit.traces import conv, graph, run_network

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

"""Regions whose two sides read other inputs, or hold their result in another rank."""

from __future__ import annotations

import numpy as np

from porting_check.neutral.node import Node, chain
from porting_check.neutral.trace import Environment, MemorySink, Port, Record
from tests.unit.test_examination import report_of
from tests.unit.traces import run_network

RNG = np.random.default_rng(11)
ROWS = RNG.standard_normal((2, 6, 5)).astype(np.float32)
KERNEL = RNG.standard_normal((5, 4)).astype(np.float32)
BIAS = RNG.standard_normal(4).astype(np.float32)


def two_inputs(factor: float | None):
    """``relu(x)``, plus a rate times a factor where one is given."""
    sink = MemorySink()
    x, rate = ROWS, np.array(16000.0, np.float32)
    for name, array in (("x", x), ("rate", rate)):
        sink.value(f"input:{name}", array)
        sink.input(Port(name, f"input:{name}"))
    y = np.maximum(x, 0)
    sink.value("relu:0", y)
    sink.record(
        Record(
            "relu", 0, "f.relu", (Port("x", "input:x"),), (Port("y", "relu:0"),), (), (Node("Relu", ("x",)),)
        )
    )
    if factor is not None:
        sink.value("rated:0", y + rate * np.float32(factor))
        nodes = (Node("Mul", ("rate", "factor"), ("_1",)), Node("Add", ("x", "_1")))
        ports = Port("x", "relu:0"), Port("rate", "input:rate")
        constants = {"factor": np.array(factor, np.float32)}
        sink.record(Record("rated", 0, "f.rated", ports, (Port("y", "rated:0"),), (), nodes, constants))
    sink.output(Port("0", "relu:0" if factor is None else "rated:0"))
    return sink.trace("two inputs", Environment("numpy", {}))


def test_an_input_that_only_one_side_reads_is_known_all_the_same():
    assert report_of(two_inputs(None), two_inputs(0.0)).verdict == "faithful"
    assert report_of(two_inputs(0.0), two_inputs(None)).verdict == "faithful"
    assert report_of(two_inputs(None), two_inputs(1.0)).verdict == "divergent"


def reshape(goal: str) -> Node:
    return Node("Reshape", ("x", goal), ("y",), {"allowzero": 0})


def dense(rows: bool, shift: float = 0.0):
    """A dense layer over the last axis, as a product of the whole, or of rows between two reshapes."""
    relu = ("relu", [Node("Relu", ("x",), ("y",))], {})
    if not rows:
        product = list(chain([Node("MatMul", ("x", "weight")), Node("Add", ("x", "bias"))]))
        return run_network([relu, ("dense", product, {"weight": KERNEL, "bias": BIAS})], ROWS)
    gemm = Node("Gemm", ("x", "weight"), ("y",), {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1})
    layers = [
        relu,
        ("there", [reshape("rows")], {"rows": np.array([-1, 5], np.int64)}),
        ("product", [gemm], {"weight": np.ascontiguousarray(KERNEL.T) + np.float32(shift)}),
        ("back", [reshape("whole")], {"whole": np.array([2, 6, 4], np.int64)}),
        ("shifted", [Node("Add", ("x", "bias"))], {"bias": BIAS}),
    ]
    return run_network(layers, ROWS)


def test_rows_and_a_batch_of_sequences_are_the_same_numbers():
    report = report_of(dense(rows=False), dense(rows=True))
    assert report.verdict == "faithful", (report.reason, [(p.op, p.explanation) for p in report.pairs])
    assert report_of(dense(rows=True), dense(rows=False)).verdict == "faithful"
    assert report_of(dense(rows=False), dense(rows=True, shift=0.01)).verdict == "divergent"

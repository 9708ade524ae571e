from __future__ import annotations

import numpy as np
import pytest

from porting_check.alignment.regions import Axes, Cut, region
from porting_check.alignment.twins import twins
from porting_check.neutral.graph import Graph
from porting_check.neutral.layout import Layout, convert
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, MemorySink, Port, Record, parameter_key
from porting_check.numerics.program import Program
from porting_check.numerics.truth import evaluate_node
from tests.unit.traces import conv

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 4, 4)).astype("f4")
WEIGHT, BIAS = RNG.standard_normal((4, 4, 1, 1)).astype("f4"), RNG.standard_normal(4).astype("f4")
POINTWISE = conv(kernel=(1, 1))


def network(layout: str, after: Node, weight: np.ndarray = WEIGHT) -> Program:
    """A convolution that declares its layout, then an operator that takes the native array as it is."""
    sink = MemorySink()
    native = np.ascontiguousarray(convert(X, Layout("NCHW"), Layout(layout)))
    made = evaluate_node(POINTWISE, [X, weight, BIAS], dtype=None)[0]
    middle = np.ascontiguousarray(convert(made, Layout("NCHW"), Layout(layout)))
    sink.value("input:0", native)
    sink.input(Port("0", "input:0", layout))
    for name, array in (("weight", weight), ("bias", BIAS)):
        sink.value(parameter_key(name), array)
    ports = tuple(Port(name, parameter_key(name)) for name in ("weight", "bias"))
    sink.value("conv:0", middle)
    sink.record(
        Record(
            "conv",
            0,
            "test",
            (Port("x", "input:0", layout, "NCHW"),),
            (Port("y", "conv:0", layout, "NCHW"),),
            ports,
            (POINTWISE,),
        )
    )
    sink.value("last:0", evaluate_node(after, [middle], dtype=None)[0])
    sink.record(Record("last", 0, "test", (Port("x", "conv:0"),), (Port("y", "last:0"),), nodes=(after,)))
    sink.output(Port("0", "last:0"))
    return Program(Graph(sink.trace("network", Environment("test", {}))))


def judged(one: Program, other: Program, target: str, layouts: tuple[str, str]) -> Axes | None:
    cuts = [Cut("input:0", "input:0"), Cut(target, target)]
    order = Layout(layouts[0]).permutation(Layout(layouts[1]))
    return twins(
        (one, other), {"input:0": Axes(tuple(order), "")}, region(one.graph, other.graph, cuts, cuts[1])
    )


RELU = Node("Relu", ("x",), ("y",))


def test_a_convolution_in_two_layouts_with_equal_bits_is_one_program():
    found = judged(network("NHWC", RELU), network("NCHW", RELU), "conv:0", ("NHWC", "NCHW"))
    assert found.permutation == (0, 3, 1, 2)


def test_other_bits_are_another_program():
    other = WEIGHT.copy()
    other[0, 0] = np.nextafter(other[0, 0], np.float32(9))
    assert judged(network("NHWC", RELU), network("NCHW", RELU, other), "conv:0", ("NHWC", "NCHW")) is None


@pytest.mark.parametrize("axis", [1, 3, -1])
def test_one_axis_number_in_two_layouts_is_not_one_program(axis):
    softmax = Node("Softmax", ("x",), ("y",), {"axis": axis})
    assert judged(network("NHWC", softmax), network("NCHW", softmax), "last:0", ("NHWC", "NCHW")) is None
    same = judged(network("NHWC", softmax), network("NHWC", softmax), "last:0", ("NHWC", "NHWC"))
    assert not same.moved


def test_another_attribute_is_another_program_and_a_default_is_none():
    one, other = Node("LeakyRelu", ("x",), ("y",)), Node("LeakyRelu", ("x",), ("y",), {"alpha": 0.01})
    assert judged(network("NHWC", one), network("NHWC", other), "last:0", ("NHWC", "NHWC")) is not None
    other = other.edit(alpha=0.2)
    assert judged(network("NHWC", one), network("NHWC", other), "last:0", ("NHWC", "NHWC")) is None

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.graph import Graph, input_layouts
from porting_check.neutral.node import Node, chain
from tests.unit.traces import conv, graph, run_network

X = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype("f4")
W, B = np.ones((4, 3, 3, 3), "f4"), np.ones(4, "f4")
RELU = Node("Relu", ("x",), ("y",))
FUSED = ("conv", list(chain([conv((1, 1, 1, 1)), RELU])), {"weight": W, "bias": B})


def test_a_fused_layer_is_several_steps_joined_by_an_inner_value():
    found = graph([FUSED], X)
    assert [str(step.node.op_type) for step in found.steps] == ["Conv", "Relu"]
    assert found.steps[0].outputs[0].key == found.steps[1].inputs[0].key == "conv/_1"
    assert found.array("conv/_1") is None
    assert found.array("conv:0").shape == (2, 4, 6, 8)


def test_what_lies_between_two_values_is_found_with_the_values_it_begins_at():
    found = graph([FUSED, ("relu", [RELU], {})], X)
    assert found.between("relu:0", {"conv:0"}) == ([2], {"conv:0"})
    assert found.between("relu:0", ()) == ([0, 1, 2], {"input:0"})


def test_parameters_do_not_depend_on_the_input():
    found = graph([FUSED], X)
    assert "parameter:conv.weight" not in found.fed
    assert {"input:0", "conv/_1", "conv:0"} == found.fed


@pytest.mark.parametrize(
    ("node", "layout"),
    [
        (RELU, "NHWC"),
        (Node("Transpose", ("x",), ("y",), {"perm": (0, 3, 1, 2)}), "NCHW"),
        (Node("Flatten", ("x",), ("y",)), ""),
        (Node("Softmax", ("x",), ("y",), {"axis": -1}), "NHWC"),
    ],
)
def test_layouts_follow_through_operators_that_keep_or_permute_them(node, layout):
    trace = run_network([("conv", [conv((1, 1, 1, 1))], {"weight": W, "bias": B})], X, layout="NHWC")
    found = Graph(trace)
    assert found.layouts["conv:0"] == "NHWC"
    from dataclasses import replace

    from porting_check.neutral.trace import Port, Record

    last = Record("last", 0, "test", (Port("x", "conv:0"),), (Port("y", "last:0"),), nodes=(node,))
    longer = replace(trace, records=(*trace.records, last), values={**trace.values, "last:0": np.zeros(1)})
    assert Graph(longer).layouts.get("last:0", "") == layout


def test_the_layout_of_a_kernel_says_nothing_about_what_is_made_with_it():
    from dataclasses import replace

    trace = run_network([FUSED], X, layout="NHWC")
    record = trace.records[0]
    kernel, bias = record.parameters
    declared = replace(record, parameters=(replace(kernel, layout="OIHW", canonical="OIHW"), bias))
    found = Graph(replace(trace, records=(declared,)))
    assert found.layouts["conv/_1"] == "NCHW"


def test_the_layout_of_an_input_is_what_its_first_reader_declares():
    from dataclasses import replace

    trace = run_network([("conv", [conv((1, 1, 1, 1))], {"weight": W, "bias": B})], X, layout="NHWC")
    silent = replace(trace, inputs=tuple(replace(port, layout="") for port in trace.inputs))
    assert input_layouts(silent) == {"0": "NHWC"}


def test_an_opaque_record_is_one_step_without_a_node():
    found = graph([FUSED, ("relu", [RELU], {})], X, opaque=["relu"])
    assert found.steps[-1].node is None
    assert found.record_of(found.steps[-1]).reason == "hidden"

"""Networks written with nodes: what they read, what they return, and what is no network."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.network import Network, lifted
from porting_check.neutral.errors import InputError, ModelError
from porting_check.neutral.graph import Graph
from porting_check.neutral.node import Node

DENSE = Node("Gemm", ("x", "w", "b"), ("h",), {"transB": 1})
RELU = Node("Relu", ("h",), ("y",))
WEIGHTS = {"w": np.ones((3, 4), np.float32), "b": np.zeros(3, np.float32)}
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_inputs_and_outputs_follow_from_the_nodes():
    network = Network([DENSE, RELU], WEIGHTS)
    assert (network.inputs, network.outputs) == (("x",), ("y",))
    assert Network([DENSE, RELU], WEIGHTS, ("h", "y")).outputs == ("h", "y")


def test_a_network_becomes_a_trace_that_knows_its_parameters():
    trace = Network([DENSE, RELU], WEIGHTS).trace({"x": X})
    assert [(record.id, record.operator) for record in trace.records] == [("h", "Gemm"), ("y", "Relu")]
    assert set(trace.parameters()) == {"w", "b"}
    graph = Graph(trace)
    assert graph.fed == {"input:x", "h", "y"}
    assert [port.value for port in trace.outputs] == ["y"]


def test_one_tensor_may_be_read_twice():
    trace = Network([Node("Mul", ("x", "x"), ("y",))]).trace({"x": X})
    assert [port.name for port in trace.records[0].inputs] == ["x"]


@pytest.mark.parametrize(
    ("nodes", "parameters", "outputs", "said"),
    [
        ([], {}, (), "no nodes"),
        ([DENSE, Node("Relu", ("x",), ("h",))], WEIGHTS, (), "makes 'h' twice"),
        ([RELU, DENSE], WEIGHTS, (), "reads 'h', which is made after it"),
        ([DENSE], WEIGHTS, ("z",), "no node makes the output 'z'"),
        ([DENSE], {**WEIGHTS, "h": X}, (), "makes 'h' twice"),
        ([Node("Add", ("x", "y"), ("y",))], {}, (), "cycle"),
    ],
)
def test_what_is_no_network_is_refused(nodes, parameters, outputs, said):
    with pytest.raises(ModelError, match=said):
        Network(nodes, parameters, outputs)


def test_missing_and_unknown_inputs_are_named():
    network = Network([DENSE, RELU], WEIGHTS)
    with pytest.raises(InputError, match="reads x from outside, and was given nothing"):
        network.trace({})
    with pytest.raises(InputError, match="was given x, z"):
        network.trace({"x": X, "z": X})


def test_lifting_takes_nodes_networks_and_lone_arrays():
    assert lifted([Node("Relu", ("x",), ("y",))], X).records[0].operator == "Relu"
    trace = lifted(Network([DENSE, RELU], WEIGHTS), {"x": X})
    assert lifted(trace, None) is trace
    with pytest.raises(InputError, match="as arrays by name"):
        lifted(Network([Node("Add", ("a", "b"), ("y",))]), X)

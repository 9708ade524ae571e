"""Names of records, from the marks that exporters leave."""

from __future__ import annotations

from onnx import helper
from porting_check_onnxruntime.names import Place, _called_again, _named, _script_place, _tensorflow_places

from tests.adapters.onnx_graphs import graph_model, noise, recorded

NODE = helper.make_node


def test_module_paths_are_read_from_the_names_of_torchscript():
    assert _script_place("/layer1/layer1.0/conv/Conv_2") == Place("layer1.0.conv", "Conv")
    assert _script_place("/layers/layers.1/layers.1.0/Relu") == Place("layers.1.0", "Relu")
    assert _script_place("/Add") == Place("", "Add")
    assert _script_place("Conv_12") is None


def test_layers_are_read_from_the_scopes_of_tensorflow():
    def places(*names):
        return _tensorflow_places([NODE("Relu", ["a"], ["b"], name=name) for name in names])

    found = places(
        "StatefulPartitionedCall/model/conv/Conv2D", "StatefulPartitionedCall/model/conv/Relu__12", "T__3"
    )
    assert found == [Place("conv", "Conv2D"), Place("conv", "Relu"), Place("", "T")]
    assert places("net_1/a_1/mul", "net_1/b_1/add") == [Place("a", "mul"), Place("b", "add")]


def test_a_shared_module_has_the_name_twice():
    nodes = [
        NODE("Gemm", ["x", "w"], ["a"], name="/fc/Gemm"),
        NODE("Relu", ["a"], ["b"], name="/act/Relu"),
        NODE("Gemm", ["b", "w"], ["y"], name="/fc/Gemm_1"),
    ]
    x = noise(2, 3)
    trace = recorded(graph_model(nodes, {"x": x}, ["y"], {"w": noise(3, 3)}), {"x": x})
    assert [record.id for record in trace.records] == ["fc", "act", "fc#1"]


def test_a_module_with_several_nodes_gives_its_name_to_the_one_with_the_weights():
    nodes = [
        NODE("Transpose", ["x"], ["t"]),
        NODE("MatMul", ["t", "w"], ["m"]),
        NODE("Add", ["m", "b"], ["y"]),
    ]
    places = [Place("fc", node.op_type) for node in nodes]
    assert _named(nodes, ["", "w", "b"], places) == ["fc/Transpose", "fc", "fc/Add"]


def test_a_second_call_is_told_from_another_module():
    relu, again, other = Place("a.relu", "Relu"), Place("a.relu_1", "Relu"), Place("a.fc_1", "Gemm")
    first = Place("a.fc", "Gemm")
    assert _called_again([relu, again], ["", ""]) == [relu, relu]
    assert _called_again([first, other], ["v", "w"]) == [first, other]
    assert _called_again([first, other], ["w", "w"]) == [first, first]
    assert _called_again([again, None], ["", ""]) == [again, None]

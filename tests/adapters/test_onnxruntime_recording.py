"""The contract of recording ONNX models: what a run leaves behind, in the trace and in the model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from porting_check_onnxruntime.model import VARIABLE, OnnxModel

from porting_check.neutral.errors import InputError, ModelError, UnsupportedNode, WeightsError
from porting_check.recorder.inputs import probe
from porting_check.testing.replay import check_trace
from tests.adapters.onnx_graphs import ADAPTER, graph_model, noise, recorded

NODE = helper.make_node
X = noise(2, 3, 8, 8)


def network(opset: int = 17) -> onnx.ModelProto:
    """Convolution, normalisation, activation, a sum, pooling and a dense layer."""
    weights = {
        "conv.weight": noise(4, 3, 3, 3, seed=1),
        "conv.bias": noise(4, seed=2),
        "norm.scale": noise(4, seed=3),
        "norm.bias": noise(4, seed=4),
        "norm.mean": noise(4, seed=5),
        "norm.var": np.abs(noise(4, seed=6)) + 1,
        "half": np.float32(0.5),
        "head.weight": noise(4, 5, seed=7),
    }
    norm = ["conv.out", "norm.scale", "norm.bias", "norm.mean", "norm.var"]
    nodes = [
        NODE("Conv", ["x", "conv.weight", "conv.bias"], ["conv.out"], name="conv", pads=[1, 1, 1, 1]),
        NODE("BatchNormalization", norm, ["norm.out"], name="norm"),
        NODE("Relu", ["norm.out"], ["relu.out"], name="relu"),
        NODE("Mul", ["relu.out", "half"], ["mul.out"], name="mul"),
        NODE("Add", ["mul.out", "relu.out"], ["add.out"], name="add"),
        NODE("GlobalAveragePool", ["add.out"], ["pool.out"], name="pool"),
        NODE("Shape", ["pool.out"], ["shape"], name="shape"),
        NODE("Slice", ["shape", "zero", "two"], ["lead"], name="lead"),
        NODE("Reshape", ["pool.out", "lead"], ["flat"], name="flat"),
        NODE("MatMul", ["flat", "head.weight"], ["y"], name="head"),
    ]
    weights["zero"], weights["two"] = np.array([0]), np.array([2])
    return graph_model(nodes, {"x": X}, ["y"], weights, opset=opset)


def test_every_node_is_a_record_that_computes_what_it_recorded():
    trace = recorded(network(), {"x": X})
    assert [r.id for r in trace.records] == ["conv", "norm", "relu", "mul", "add", "pool", "flat", "head"]
    assert check_trace(trace) == []
    assert (trace.checks.observer_difference, trace.checks.repeat_difference) == (0.0, 0.0)
    assert [port.name for port in trace.inputs + trace.outputs] == ["x", "y"]


def test_weights_are_parameters_and_numbers_of_the_code_are_constants():
    trace = recorded(network(), {"x": X})
    records = {record.name: record for record in trace.records}
    assert [port.value for port in records["conv"].parameters] == [
        "parameter:conv.weight",
        "parameter:conv.bias",
    ]
    assert [array.tolist() for array in records["mul"].constants.values()] == [0.5]
    assert [array.tolist() for array in records["flat"].constants.values()] == [[2, 4]]
    assert records["head"].parameters[0].layout == "IO"
    assert (records["conv"].inputs[0].layout, records["conv"].parameters[0].layout) == ("NCHW", "OIHW")
    assert sorted(ADAPTER.parameters(network())) == sorted(trace.parameters())


def test_the_callers_model_and_inputs_stay_as_they_were():
    model, x = network(), X.copy()
    before = model.SerializeToString(deterministic=True)
    recorded(model, {"x": x})
    assert model.SerializeToString(deterministic=True) == before
    assert x.tobytes() == X.tobytes()


def test_positional_inputs_go_in_order():
    assert ADAPTER.predict(network(), {"0": X})["y"].shape == (2, 5)


def test_a_constant_node_is_a_weight_like_an_initializer():
    table = numpy_helper.from_array(noise(70, 4), "value")
    nodes = [
        NODE("Constant", [], ["table"], value=table),
        NODE("Constant", [], ["two"], value_float=2.0),
        NODE("Gather", ["table", "i"], ["rows"], name="lookup"),
        NODE("Mul", ["rows", "two"], ["y"], name="twice"),
    ]
    model = graph_model(nodes, {"i": np.array([3, 69])}, ["y"])
    trace = recorded(model, {"i": np.array([3, 69])})
    assert [port.value for port in trace.records[0].parameters] == ["parameter:table"]
    assert ADAPTER.inputs(model)[0].limit == 70
    ADAPTER.assign(model, {"table": np.zeros((70, 4), np.float32)})
    assert not ADAPTER.predict(model, {"i": np.array([1, 2])})["y"].any()


# Functions and control flow.


def test_functions_are_recorded_inside_and_named_after_their_call():
    inner = helper.make_function(
        "own",
        "Scaled",
        ["a"],
        ["b"],
        [
            helper.make_node("LeakyRelu", ["a"], ["t"], name="leaky"),
            NODE("Add", ["t", "a"], ["b"], name="add"),
        ],
        [helper.make_opsetid("", 17)],
        ["alpha"],
    )
    reference = onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    inner.node[0].attribute.append(reference)
    outer = helper.make_function(
        "own",
        "Twice",
        ["p"],
        ["q"],
        [
            NODE("Scaled", ["p"], ["m"], name="first", domain="own", alpha=0.5),
            NODE("Scaled", ["m"], ["q"], name="second", domain="own", alpha=0.25),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )
    nodes = [NODE("Twice", ["x"], ["y"], name="block", domain="own")]
    model = graph_model(nodes, {"x": X}, ["y"], functions=[inner, outer], domains=["own"])
    trace = recorded(model, {"x": X})
    assert [record.name for record in trace.records] == [
        "block/first/leaky",
        "block/first/add",
        "block/second/leaky",
        "block/second/add",
    ]
    assert [r.nodes[0].attributes["alpha"] for r in trace.records[::2]] == [0.5, 0.25]
    assert check_trace(trace) == []
    assert trace.checks.observer_difference == 0.0


def test_a_function_that_calls_itself_is_refused():
    body = [NODE("Again", ["a"], ["b"], domain="own")]
    function = helper.make_function("own", "Again", ["a"], ["b"], body, [helper.make_opsetid("own", 1)])
    model = graph_model(
        [NODE("Again", ["x"], ["y"], domain="own")], {"x": X}, ["y"], functions=[function], domains=["own"]
    )
    with pytest.raises(ModelError, match="calls itself"):
        ADAPTER.predict(model, {"x": X})


def branching(nested: bool = False) -> onnx.ModelProto:
    """An If on the input's sum; both branches use one name, and a value of the main graph."""

    def branch(name, *nodes):
        return helper.make_graph(list(nodes), name, [], [onnx.ValueInfoProto(name="out")])

    def choose(condition, then, other, output, name):
        return NODE("If", [condition], [output], name=name, then_branch=then, else_branch=other)

    inner = choose(
        "no",
        branch("a", NODE("Neg", ["t"], ["out"])),
        branch("b", NODE("Abs", ["t"], ["out"])),
        "out",
        "inner",
    )
    last = inner if nested else NODE("Exp", ["t"], ["out"], name="exp")
    then = branch("then", NODE("Tanh", ["twice"], ["t"], name="tanh"), last)
    other = branch("else", NODE("Sigmoid", ["twice"], ["t"], name="sigmoid"), NODE("Sqrt", ["t"], ["out"]))
    nodes = [
        NODE("Add", ["x", "x"], ["twice"], name="twice"),
        NODE("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        NODE("Greater", ["sum", "zero"], ["positive"], name="positive"),
        choose("positive", then, other, "chosen", "If_0"),
        NODE("Relu", ["chosen"], ["y"], name="relu"),
    ]
    return graph_model(nodes, {"x": X}, ["y"], {"zero": np.float32(0), "no": np.array(False)})


@pytest.mark.parametrize(("sign", "branch"), [(1, "then_branch/tanh"), (-1, "else_branch/sigmoid")])
def test_the_branch_that_is_taken_is_recorded_inside(sign, branch):
    x = sign * np.abs(X)
    trace = recorded(branching(), {"x": x})
    names = [record.name for record in trace.records]
    assert f"If_0/{branch}" in names
    assert names[-1] == "relu"
    assert check_trace(trace) == []
    assert trace.checks.observer_difference == 0.0


def test_an_if_inside_a_branch_is_opened_too():
    trace = recorded(branching(nested=True), {"x": np.abs(X)})
    names = [record.name for record in trace.records]
    assert any("then_branch/inner/else_branch/Abs" in name for name in names), names
    assert check_trace(trace) == []


def test_a_loop_is_one_record_that_says_why():
    step = NODE("Add", ["state", "x"], ["next"])
    through = NODE("Identity", ["go"], ["on"])
    values = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
    ]
    ends = [onnx.ValueInfoProto(name="on"), onnx.ValueInfoProto(name="next")]
    body = helper.make_graph([step, through], "body", values, ends)
    nodes = [
        NODE("Loop", ["three", "", "x"], ["sum"], name="loop", body=body),
        NODE("Relu", ["sum"], ["y"], name="relu"),
    ]
    trace = recorded(graph_model(nodes, {"x": X}, ["y"], {"three": np.array(3)}), {"x": X})
    loop, relu = trace.records
    assert loop.opaque and "its body was not opened" in loop.reason
    assert relu.inputs[0].value == loop.outputs[0].value
    np.testing.assert_allclose(trace.values[loop.outputs[0].value], 4 * X, rtol=1e-6)


def test_what_is_no_tensor_is_named_and_what_follows_is_recorded():
    nodes = [
        NODE("SplitToSequence", ["x"], ["s"], name="split"),
        NODE("SequenceAt", ["s", "one"], ["p"], name="at"),
        NODE("Relu", ["p"], ["y"], name="relu"),
    ]
    trace = recorded(graph_model(nodes, {"x": X}, ["y"], {"one": np.array(1)}), {"x": X})
    assert [record.opaque for record in trace.records] == [True, True, False]
    assert "sequence" in trace.records[0].reason


def test_bfloat16_values_survive():
    bf16 = TensorProto.BFLOAT16
    nodes = [
        NODE("Cast", ["x"], ["b"], name="down", to=bf16),
        NODE("Identity", ["b"], ["c"], name="same"),
        NODE("Cast", ["c"], ["y"], name="up", to=1),
    ]
    trace = recorded(graph_model(nodes, {"x": X}, ["y"]), {"x": X})
    assert trace.values["down:0"].dtype.name == "bfloat16"
    np.testing.assert_allclose(trace.values["down:0"].astype(np.float32), X, rtol=2**-8)


def test_random_operators_stay_opaque():
    nodes = [
        NODE("RandomNormalLike", ["x"], ["r"], name="noise", seed=1.0),
        NODE("Add", ["x", "r"], ["y"], name="add"),
    ]
    trace = recorded(graph_model(nodes, {"x": X}, ["y"]), {"x": X})
    assert trace.records[0].opaque and "random" in trace.records[0].reason


def test_an_output_that_is_an_input_or_a_weight():
    nodes = [NODE("Relu", ["x"], ["y"], name="relu")]
    model = graph_model(nodes, {"x": X}, ["y", "w"], {"w": noise(3)})
    trace = recorded(model, {"x": X})
    assert [port.value for port in trace.outputs] == ["relu:0", "parameter:w"]
    assert trace.values["parameter:w"].tolist() == noise(3).tolist()


# Levels of optimisation.


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_the_optimised_graph_is_recorded_as_it_runs(level):
    trace = recorded(OnnxModel(network(), optimization=level), {"x": X})
    assert trace.checks.observer_difference == 0.0
    assert check_trace(trace) == []
    assert trace.environment.modes["optimization"] == level
    assert any(f"level {level!r}" in note for note in trace.checks.notes)
    if level != "basic":
        assert any(record.operator == "com.microsoft.FusedConv" for record in trace.records)


def test_the_environment_chooses_the_level(monkeypatch):
    monkeypatch.setenv(VARIABLE, "extended")
    assert OnnxModel(network()).optimization == "extended"
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ModelError, match=f"{VARIABLE} is 'fast'"):
        OnnxModel(network())
    with pytest.raises(ModelError, match="expected one of disabled, basic"):
        OnnxModel(network(), optimization="max")


def test_fused_operators_of_attention_like_code_are_told_as_several():
    """A product with a transposed operand and a factor becomes FusedMatMul; its nodes compute the same."""
    q, k = noise(2, 4, 5), noise(2, 4, 5, seed=1)
    nodes = [
        NODE("Transpose", ["k"], ["t"], name="turn", perm=[0, 2, 1]),
        NODE("MatMul", ["q", "t"], ["m"], name="scores"),
        NODE("Mul", ["m", "factor"], ["s"], name="scale"),
        NODE("Softmax", ["s"], ["y"], name="softmax"),
    ]
    model = graph_model(nodes, {"q": q, "k": k}, ["y"], {"factor": np.float32(0.5)})
    trace = recorded(OnnxModel(model, optimization="extended"), {"q": q, "k": k})
    fused = next(record for record in trace.records if "FusedMatMul" in record.operator)
    assert [node.op_type for node in fused.nodes] == ["Transpose", "MatMul", "Mul"]
    assert check_trace(trace) == []


# Quantised models.


def test_a_quantised_network_is_recorded():
    scale, zero = np.float32(0.05), np.uint8(128)
    weight = np.random.default_rng(0).integers(-100, 100, (4, 3, 3, 3)).astype(np.int8)
    nodes = [
        NODE("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        NODE("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantize"),
        NODE("DequantizeLinear", ["w", "ws", "wz"], ["f"], name="weights", axis=0),
        NODE("Conv", ["d", "f"], ["y"], name="conv"),
    ]
    weights = {
        "scale": scale,
        "zero": zero,
        "w": weight,
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    trace = recorded(graph_model(nodes, {"x": X}, ["y"], weights), {"x": X})
    assert [r.name for r in trace.records] == ["quantize", "dequantize", "weights", "conv"]
    assert "parameter:w" in {p.value for r in trace.records for p in r.parameters}
    assert not any(record.opaque for record in trace.records)


# Inputs.


def test_shapes_types_and_layouts_of_inputs():
    (spec,) = ADAPTER.inputs(network())
    assert (spec.name, spec.shape, spec.dtype, spec.layout) == ("x", (2, 3, 8, 8), "float32", "NCHW")


def test_the_layout_is_found_through_operators_and_a_transposition():
    nodes = [
        NODE("Sub", ["image", "mean"], ["centred"]),
        NODE("Transpose", ["centred"], ["turned"], perm=[0, 3, 1, 2]),
        NODE("Pad", ["turned", "pads"], ["padded"]),
        NODE("Conv", ["padded", "w"], ["y"]),
    ]
    weights = {"mean": noise(3), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": noise(2, 3, 3, 3)}
    model = graph_model(nodes, {"image": noise(2, 8, 8, 3)}, ["y"], weights)
    assert ADAPTER.inputs(model)[0].layout == "NHWC"


def test_free_sizes_are_filled_by_the_probe():
    model = network()
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    (spec,) = ADAPTER.inputs(model)
    assert spec.shape == (None, 3, None, None)
    found = ADAPTER.predict(model, probe([spec]))
    assert found["y"].shape[1] == 5


def test_an_initializer_that_is_also_an_input_need_not_be_given():
    model = network()
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, tuple(t.dims)) for t in model.graph.initializer
    )
    assert [spec.name for spec in ADAPTER.inputs(model)] == ["x"]
    trace = recorded(model, {"x": X})
    assert check_trace(trace) == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"x": X[0]}, r"shape \(3, 8, 8\); the model takes \(2, 3, 8, 8\)"),
        ({"x": X.astype(np.float64)}, "dtype float64; the model takes float32"),
        ({"z": X}, "takes the inputs x; found z; missing: x"),
        ({}, "found none"),
    ],
)
def test_inputs_that_the_model_does_not_take(inputs, said):
    for call in (ADAPTER.predict, lambda model, given: recorded(model, given)):
        with pytest.raises(InputError, match=said):
            call(network(), inputs)


# Weights and replay.


def test_weights_are_written_all_or_none():
    model = network()
    before = ADAPTER.predict(model, {"x": X})["y"]
    head = ADAPTER.parameters(model)["head.weight"]
    with pytest.raises(WeightsError, match="nothing"):
        ADAPTER.assign(model, {"head.weight": 2 * head, "nothing": head})
    with pytest.raises(WeightsError, match=r"shape \(4, 5\)"):
        ADAPTER.assign(model, {"conv.bias": np.zeros(4, np.float32), "head.weight": head.T})
    assert ADAPTER.predict(model, {"x": X})["y"].tobytes() == before.tobytes()
    ADAPTER.assign(model, {"head.weight": 2 * head})
    assert ADAPTER.predict(model, {"x": X})["y"].tobytes() == (2 * before).tobytes()


def test_one_node_runs_alone():
    model = network()
    trace = recorded(model, {"x": X})
    found = ADAPTER.replay(model, "conv", [X])[0]
    assert found.tobytes() == trace.values["conv:0"].tobytes()
    wide = ADAPTER.replay(model, "head", [trace.values["flat:0"]], float64=True)[0]
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, trace.values["head:0"], rtol=1e-5)
    with pytest.raises(UnsupportedNode, match="Conv"):
        ADAPTER.replay(model, "conv", [X], float64=True)
    with pytest.raises(UnsupportedNode, match="no node of that name"):
        ADAPTER.replay(model, "nowhere", [X])
    with pytest.raises(InputError, match="1 arrays were given"):
        ADAPTER.replay(model, "add", [X])

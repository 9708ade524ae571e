"""Files and graphs that are damaged, hostile or beyond ONNX Runtime are refused in words; large ones are not loaded."""

from __future__ import annotations

import os
import resource

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from porting_check_onnxruntime.model import OnnxModel

from porting_check.neutral.errors import ModelError, WeightsError
from porting_check.testing.replay import check_trace
from tests.adapters.onnx_graphs import ADAPTER, graph_model, noise, recorded

NODE = helper.make_node
X = noise(2, 3)
RELU = [NODE("Relu", ["x"], ["y"], name="relu")]


def external(folder, location="model.data", *, size=None, dims=(3, 4), entries=()):
    """A model file whose one weight lies outside; the data file is written with this many bytes (None: enough)."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **dict(entries)}.items():
        tensor.external_data.add(key=key, value=value)
    model = graph_model([NODE("MatMul", ["x", "w"], ["y"], name="head")], {"x": X}, ["y"])
    model.graph.initializer.append(tensor)
    data = noise(*dims).tobytes()
    if size is not None:
        data = data[:size]
    (folder / "model.data").write_bytes(data)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_a_file_is_loaded_and_run(tmp_path):
    path = tmp_path / "relu.onnx"
    onnx.save(graph_model(RELU, {"x": X}, ["y"]), str(path))
    model = ADAPTER.load(str(path))
    assert ADAPTER.owns(model) and ADAPTER.owns(model.proto) and not ADAPTER.owns(model.proto.graph)
    assert ADAPTER.predict(model, {"x": X})["y"].tolist() == np.maximum(X, 0).tolist()


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02 no protobuf at all", b"\x08\x08", b"PK\x03\x04zip"])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx.*(damaged|holds no graph)"):
        ADAPTER.load(str(path))


def test_a_file_that_is_cut_short(tmp_path):
    path = tmp_path / "cut.onnx"
    content = graph_model(RELU, {"x": X}, ["y"], {"w": noise(50)}).SerializeToString()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        ADAPTER.load(str(path))


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        ADAPTER.load(str(tmp_path / "none.onnx"))


# External data.


def test_external_data_are_read_where_they_are(tmp_path):
    model = ADAPTER.load(external(tmp_path))
    trace = recorded(model, {"x": X})
    assert check_trace(trace) == []
    assert trace.values["parameter:w"].tolist() == noise(3, 4).tolist()
    np.testing.assert_allclose(ADAPTER.predict(model, {"x": X})["y"], X @ noise(3, 4), rtol=1e-5)
    assert not os.access(tmp_path / "model.data", os.W_OK) or sorted(os.listdir(tmp_path)) == [
        "model.data",
        "model.onnx",
    ]


def test_missing_external_data(tmp_path):
    path = external(tmp_path)
    (tmp_path / "model.data").unlink()
    with pytest.raises(
        ModelError, match=r"'w' is stored in 'model\.data', which is not in the model's folder"
    ):
        ADAPTER.load(path)


@pytest.mark.parametrize("location", ["../outside.data", "/etc/hostname", "a/../../outside.data", ""])
def test_external_data_outside_of_the_folder_are_never_opened(tmp_path, location):
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "outside.data").write_bytes(noise(3, 4).tobytes())
    with pytest.raises(ModelError, match="outside of the model's folder: it is not opened"):
        ADAPTER.load(external(inside, location))


def test_a_link_that_leads_outside_is_not_followed(tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "outside.data").write_bytes(noise(3, 4).tobytes())
    (inside / "linked.data").symlink_to(tmp_path / "outside.data")
    with pytest.raises(ModelError, match="outside of the model's folder"):
        ADAPTER.load(external(inside, "linked.data"))


def test_external_data_that_are_too_short(tmp_path):
    with pytest.raises(ModelError, match=r"takes 48 bytes from byte 0 of 'model\.data'.*has 20"):
        ADAPTER.load(external(tmp_path, size=20))
    with pytest.raises(ModelError, match="from byte 16"):
        ADAPTER.load(external(tmp_path, entries={"offset": "16"}.items()))


def test_a_live_model_must_say_where_its_data_are(tmp_path):
    path = external(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    with pytest.raises(ModelError, match=r"OnnxModel\(proto, folder="):
        ADAPTER.predict(proto, {"x": X})
    assert ADAPTER.predict(OnnxModel(proto, str(tmp_path)), {"x": X})["y"].shape == (2, 4)


def test_external_weights_are_not_written(tmp_path):
    model = ADAPTER.load(external(tmp_path))
    with pytest.raises(WeightsError, match="stored outside of the model"):
        ADAPTER.assign(model, {"w": noise(3, 4)})
    assert ADAPTER.parameters(model)["w"].tolist() == noise(3, 4).tolist()


@pytest.mark.slow
def test_a_model_above_two_gigabytes_is_not_loaded(tmp_path):
    """The data file is sparse: 2.2 GB of zeros that take no disk."""
    rows = 2_200_000_000 // 4096
    path = external(tmp_path, dims=(3, 4))
    proto = onnx.load(path, load_external_data=False)
    del proto.graph.node[:], proto.graph.initializer[0].dims[:], proto.graph.input[:]
    proto.graph.node.append(NODE("Gather", ["w", "i"], ["y"], name="lookup"))
    proto.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, [None]))
    proto.graph.initializer[0].dims.extend([rows, 1024])
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    os.truncate(tmp_path / "model.data", rows * 4096)
    assert os.stat(tmp_path / "model.data").st_blocks * 512 < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = ADAPTER.load(path)
    trace = recorded(model, {"i": np.array([0, rows - 1])})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert trace.values["lookup:0"].shape == (2, 1024)
    assert isinstance(trace.values["parameter:w"], np.memmap)
    assert grown < 300_000, f"{grown} kB more than before"
    with pytest.raises(ModelError, match=r"MB of weights.*optimization='disabled'"):
        recorded(OnnxModel(model.proto, model.folder, "basic"), {"i": np.array([0])})


# Graphs.


def test_an_opset_that_is_too_new():
    with pytest.raises(ModelError, match=r"opset 99; onnxruntime .* runs opsets up to \d+"):
        ADAPTER.predict(graph_model(RELU, {"x": X}, ["y"], opset=99), {"x": X})


def test_a_file_format_that_is_too_new():
    with pytest.raises(ModelError, match=r"IR version 99; onnxruntime .* reads up to"):
        ADAPTER.predict(graph_model(RELU, {"x": X}, ["y"], ir=99), {"x": X})


def test_an_opset_that_is_too_old():
    model = graph_model([NODE("Add", ["x", "x"], ["y"], name="add")], {"x": X}, ["y"], opset=6)
    with pytest.raises(ModelError, match=r"Add\(6\).*version_converter"):
        ADAPTER.predict(model, {"x": X})


def test_a_custom_operator_domain():
    nodes = [NODE("Blur", ["x"], ["y"], name="blur", domain="com.example")]
    model = graph_model(nodes, {"x": X}, ["y"], domains=["com.example"])
    with pytest.raises(ModelError, match=r"'blur' is Blur of the custom domain 'com\.example'"):
        ADAPTER.inputs(model)


def test_an_unknown_operator_or_attribute():
    with pytest.raises(ModelError, match="No Op registered for Blur"):
        ADAPTER.predict(graph_model([NODE("Blur", ["x"], ["y"])], {"x": X}, ["y"]), {"x": X})
    with pytest.raises(ModelError, match="Unrecognized attribute: slope"):
        ADAPTER.predict(graph_model([NODE("Relu", ["x"], ["y"], slope=1)], {"x": X}, ["y"]), {"x": X})


@pytest.mark.parametrize(
    ("nodes", "outputs", "said"),
    [
        (
            [NODE("Relu", ["b"], ["y"], name="one"), NODE("Abs", ["y"], ["b"], name="two")],
            ["y"],
            "cycle: 'one'.*'two'",
        ),
        ([NODE("Relu", ["x"], ["y"]), NODE("Abs", ["x"], ["y"], name="again")], ["y"], "'y' is made twice"),
        ([NODE("Relu", ["nothing"], ["y"], name="lost")], ["y"], "'lost'.*reads 'nothing'"),
        (RELU, ["z"], "nothing makes its output 'z'"),
        (RELU, [], "empty graph"),
        ([], [], "empty graph"),
    ],
)
def test_an_invalid_graph(nodes, outputs, said):
    with pytest.raises(ModelError, match=said):
        ADAPTER.predict(graph_model(nodes, {"x": X}, outputs), {"x": X})


def test_no_operator_set():
    model = graph_model(RELU, {"x": X}, ["y"])
    del model.opset_import[:]
    with pytest.raises(ModelError, match="names no opset"):
        ADAPTER.inputs(model)


def test_nodes_in_the_wrong_order_are_sorted():
    nodes = [NODE("Abs", ["a"], ["y"], name="abs"), NODE("Neg", ["x"], ["a"], name="neg")]
    trace = recorded(graph_model(nodes, {"x": X}, ["y"]), {"x": X})
    assert [record.name for record in trace.records] == ["neg", "abs"]


@pytest.mark.parametrize("ir", [3, 4, 6, 8, 10])
def test_versions_of_the_file_format(ir):
    trace = recorded(graph_model(RELU, {"x": X}, ["y"], opset=9, ir=ir), {"x": X})
    assert trace.environment.modes["ir_version"] == str(ir)
    assert trace.environment.modes["opset ai.onnx"] == "9"

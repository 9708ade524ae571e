"""The request that the recorder's process gets: as an argument or late on standard input, and what it announces."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from porting_check.neutral.errors import InputError
from porting_check.neutral.tensorfile import read_header, read_tensor
from porting_check.neutral.tracefile import load_trace
from porting_check.recorder.__main__ import asked, choose_inputs, failed, main


@pytest.fixture
def model(tmp_path):
    value = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [[value(name, TensorProto.FLOAT, [1, 2, 3, 4])] for name in "xy"]
    graph = helper.make_graph([node], "g", *ends)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(tmp_path / "relu.onnx"))
    return str(tmp_path / "relu.onnx")


def test_a_late_request_is_read_when_the_model_is_open_and_the_inputs_are_announced(
    model, tmp_path, monkeypatch, capsys
):
    request = {
        "seed": 3,
        "name": "mine",
        "origin": {"image": "i"},
        "announce": str(tmp_path / "a.safetensors"),
    }
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request) + "\n"))
    error, out = str(tmp_path / "error.json"), str(tmp_path / "x.trace")
    assert main([model, "--out", out, "--request", "-", "--error", error]) == 0
    trace = load_trace(out)
    assert (trace.model, trace.environment.origin) == ("mine", {"image": "i"})
    header = read_header(request["announce"])
    chosen = read_tensor(request["announce"], "x", header)
    np.testing.assert_array_equal(chosen, trace.values[trace.inputs[0].value])
    layouts = json.loads((tmp_path / "a.safetensors.json").read_text())
    assert set(layouts) == {"x"}
    assert capsys.readouterr().err.index("inputs chosen") < 10**4


def test_announced_inputs_and_layouts_serve_as_the_other_sides_request(model, tmp_path):
    first = {"announce": str(tmp_path / "a.safetensors")}
    assert main([model, "--out", str(tmp_path / "1.trace"), "--request", json.dumps(first)]) == 0
    second = {"inputs": {"": first["announce"]}, "like": first["announce"] + ".json"}
    assert main([model, "--out", str(tmp_path / "2.trace"), "--request", json.dumps(second)]) == 0
    one, two = (load_trace(str(tmp_path / name)) for name in ("1.trace", "2.trace"))
    np.testing.assert_array_equal(one.values[one.inputs[0].value], two.values[two.inputs[0].value])


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_what_is_no_request_is_said_to_be_none(text):
    with pytest.raises(InputError, match="request"):
        asked(text)


def test_layouts_that_cannot_be_read_are_an_input_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 2)))
    request = {"inputs": {"": str(tmp_path / "x.npy")}, "like": str(tmp_path / "absent.json")}
    with pytest.raises(InputError, match=r"absent\.json"):
        choose_inputs([], request)


def test_an_error_is_left_for_the_other_side_or_said_where_that_cannot_be_written(tmp_path, capsys):
    assert failed(InputError("wrong"), str(tmp_path / "e.json")) == 2
    assert json.loads((tmp_path / "e.json").read_text()) == {"type": "InputError", "message": "wrong"}
    assert failed(InputError("wrong"), "") == 2
    assert failed(InputError("worse"), str(tmp_path / "no" / "e.json")) == 2
    assert capsys.readouterr().err.splitlines() == ["porting-check: wrong", "porting-check: worse"]

"""What ONNX Runtime makes of nodes beyond the contract of test_onnxruntime.py: refusals, narrow types, casts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from porting_check_onnxruntime.run import run

from porting_check.neutral.errors import RunError, UnsupportedNode
from porting_check.neutral.node import EXTENSION, Node


def test_what_cannot_be_run_is_refused_with_a_reason() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(UnsupportedNode, match=r"'Blur'.*onnxruntime"):
        run(Node("Blur", ("x",)), [x])
    with pytest.raises(UnsupportedNode, match=r"'Relu' of domain 'com\.example'"):
        run(Node("Relu", ("x",), domain="com.example"), [x])
    with pytest.raises(UnsupportedNode, match="AdaptiveAveragePool"):
        run(Node("AdaptiveAveragePool", ("x",), ("y",), {"output_size": (1,)}, EXTENSION), [x[None]])
    with pytest.raises(UnsupportedNode, match="strings"):
        run(Node("Identity", ("x",)), [np.array(["text"])])
    with pytest.raises(UnsupportedNode, match="training_mode"):
        run(Node("Dropout", ("x", "ratio", "mode")), [x, np.float32(0.5), np.array(True)])
    with pytest.raises(RunError, match=r"onnxruntime could not run MatMul\(\)"):
        run(Node("MatMul", ("a", "b")), [x, x])
    lstm = Node("LSTM", ("x", "w", "r"), ("y",), {"hidden_size": 2, "layout": 1})
    arrays = [np.zeros(shape, np.float32) for shape in ((2, 4, 3), (1, 8, 3), (1, 8, 2))]
    with pytest.raises(UnsupportedNode, match=r"LSTM.*[Bb]atchwise"):
        run(lstm, arrays)


def test_types_of_less_than_a_byte_go_in_and_out() -> None:
    for name in ("int4", "uint4", "bfloat16", "float8_e4m3fn"):
        dtype = np.dtype(getattr(ml_dtypes, name))
        given = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
        wide = TensorProto.FLOAT if "float" in name else TensorProto.INT8
        (opened,) = run(Node("Cast", ("x",), ("y",), {"to": wide}), [given])
        assert opened.tolist() == [[0, 1, 2], [3, 4, 5]]
        number = helper.np_dtype_to_tensor_dtype(dtype)
        (closed,) = run(Node("Cast", ("x",), ("y",), {"to": number}), [opened])
        assert (closed.dtype, closed.astype(float).tolist()) == (dtype, [[0, 1, 2], [3, 4, 5]])


def test_float64_casts_do_not_round() -> None:
    value = np.array([1 + 2.0**-40])
    assert run(Node("Cast", ("x",), ("y",), {"to": 1}), [value], float64=True)[0][0] == value[0]

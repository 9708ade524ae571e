from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.node import Node
from porting_check.numerics.normal import normalized


def form(op_type, **attributes):
    return dict(normalized(Node(op_type, ("x",), ("y",), attributes)).attributes)


def test_reals_are_float32():
    assert form("BatchNormalization", epsilon=1e-3) == form(
        "BatchNormalization", epsilon=float(np.float32(1e-3))
    )
    assert form("BatchNormalization", epsilon=1e-3) != form("BatchNormalization", epsilon=1.0001e-3)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("MaxPool", {"storage_order": 0, "ceil_mode": 0}),
        ("Gemm", {"alpha": 1.0, "beta": 1.0, "transA": 0}),
        ("LeakyRelu", {"alpha": 0.01}),
        ("Gelu", {"approximate": "none"}),
        ("Softmax", {"axis": -1}),
    ],
)
def test_what_onnx_takes_for_granted_is_left_out(op_type, attributes):
    assert form(op_type, **attributes) == {}


def test_what_has_no_effect_is_left_out_and_what_has_one_is_kept():
    linear = {"mode": "linear", "nearest_mode": "ceil", "cubic_coeff_a": -0.5}
    assert form("Resize", **linear) == {"mode": "linear"}
    assert "nearest_mode" in form("Resize", mode="nearest", nearest_mode="ceil")
    assert "cubic_coeff_a" in form("Resize", mode="cubic", cubic_coeff_a=-0.5)
    pooled = {"kernel_shape": (2, 2), "count_include_pad": 1}
    assert "count_include_pad" not in form("AveragePool", pads=(0, 0, 0, 0), **pooled)
    assert "count_include_pad" in form("AveragePool", pads=(0, 0, 1, 1), **pooled)


def test_operators_that_onnx_lacks_keep_everything():
    node = Node("AdaptiveAveragePool", ("x",), ("y",), {"output_size": (2, 2)}, "porting_check")
    assert normalized(node).attributes == {"output_size": (2, 2)}

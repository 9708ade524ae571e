"""Pools whose stride exceeds their kernel, with SAME: ONNX Runtime itself makes the total padding negative there."""

from __future__ import annotations

import numpy as np
import pytest
from porting_check_onnxruntime.adapter import OnnxRuntimeAdapter

from porting_check.neutral.node import Node


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_windows_of_a_stride_beyond_the_kernel_begin_at_the_first_element(dtype, mode):
    attributes = {"auto_pad": mode, "dilations": (1, 1), "kernel_shape": (1, 1), "strides": (3, 1)}
    x = np.arange(6, dtype=dtype).reshape(1, 1, 6, 1)
    found = OnnxRuntimeAdapter().run(Node("MaxPool", ("x",), ("y",), attributes), [x])[0]
    np.testing.assert_array_equal(found.ravel(), [0, 3])

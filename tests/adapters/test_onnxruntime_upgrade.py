"""Nodes of every opset since 7 become nodes of opset 24 that compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from porting_check_onnxruntime.describe import describe
from porting_check_onnxruntime.draft import Operand

from porting_check.neutral.errors import PortingError
from porting_check.testing import cases
from porting_check.testing.replay import check_record
from tests.adapters.onnx_graphs import graph_model, noise, recorded

I64 = np.int64
X = noise(2, 3, 4, 6)

OLD: dict[str, tuple[str, int, list[Any], dict[str, Any], int, str]] = {
    # name: operator, opset, inputs (arrays after the first are constants), attributes, outputs, nodes
    "squeeze": ("Squeeze", 11, [noise(2, 1, 3, 1)], {"axes": [1]}, 1, "Squeeze()"),
    "squeeze-all": ("Squeeze", 13, [noise(2, 1, 3, 1)], {}, 1, "Squeeze()"),
    "unsqueeze": ("Unsqueeze", 11, [X], {"axes": [0, 5]}, 1, "Unsqueeze()"),
    "reduce-sum": (
        "ReduceSum",
        11,
        [X],
        {"axes": [1, 2], "keepdims": 0},
        1,
        "ReduceSum(keepdims=0, noop_with_empty_axes=0)",
    ),
    "reduce-mean": (
        "ReduceMean",
        13,
        [X],
        {"axes": [-1]},
        1,
        "ReduceMean(keepdims=1, noop_with_empty_axes=0)",
    ),
    "reduce-all": ("ReduceMax", 12, [X], {}, 1, "ReduceMax(keepdims=1, noop_with_empty_axes=0)"),
    "reduce-none": ("ReduceSum", 13, [X, np.zeros(0, I64)], {"noop_with_empty_axes": 1}, 1, "Identity()"),
    "split": ("Split", 11, [X], {"axis": 3, "split": [2, 4]}, 2, "Split(axis=3)"),
    "split-equal": ("Split", 13, [X], {"axis": 2}, 2, "Split(axis=2)"),
    "split-uneven": ("Split", 18, [noise(2, 5)], {"axis": 1, "num_outputs": 3}, 3, "Split(axis=1)"),
    "slice": ("Slice", 9, [X], {"starts": [1, -3], "ends": [9, -1], "axes": [2, 3]}, 1, "Slice()"),
    "slice-inputs": (
        "Slice",
        11,
        [X, np.array([0]), np.array([4]), np.array([3]), np.array([2])],
        {},
        1,
        "Slice()",
    ),
    "pad": ("Pad", 10, [X], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}, 1, "Pad(mode=constant)"),
    "pad-axes": (
        "Pad",
        18,
        [X, np.array([1, 2, 0, 1]), np.float32(2), np.array([3, 2])],
        {},
        1,
        "Pad(mode=constant)",
    ),
    "pad-reflect": (
        "Pad",
        7,
        [X],
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"},
        1,
        "Pad(mode=reflect)",
    ),
    "clip": ("Clip", 7, [X], {"min": 0.0, "max": 6.0}, 1, "Clip()"),
    "clip-below": ("Clip", 10, [X], {"min": -0.5}, 1, "Clip()"),
    "clip-inputs": ("Clip", 13, [X, np.float32(-1), np.float32(1)], {}, 1, "Clip()"),
    "dropout": ("Dropout", 7, [X], {"ratio": 0.4}, 1, "Identity()"),
    "dropout-mask": ("Dropout", 12, [X], {}, 2, "Identity()"),
    "top-k": ("TopK", 9, [X], {"k": 2, "axis": 1}, 2, "TopK(axis=1, largest=1, sorted=1)"),
    "top-k-input": ("TopK", 11, [X, np.array([3])], {"largest": 0}, 2, "TopK(axis=-1, largest=0, sorted=1)"),
    "upsample": ("Upsample", 7, [X], {"scales": [1.0, 1.0, 2.0, 3.0]}, 1, "Resize("),
    "upsample-linear": ("Upsample", 9, [X, np.float32([1, 1, 2, 2])], {"mode": "linear"}, 1, "asymmetric"),
    "resize-10": ("Resize", 10, [X, np.float32([1, 1, 2, 0.5])], {}, 1, "nearest_mode=floor"),
    "resize-11": (
        "Resize",
        11,
        [X, np.float32([]), np.float32([]), np.array([2, 3, 8, 9])],
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
        1,
        "align_corners",
    ),
    "resize-18": (
        "Resize",
        18,
        [X, None, None, np.array([5, 7])],
        {"mode": "linear", "axes": [2, 3]},
        1,
        "half_pixel",
    ),
    "softmax-flat": ("Softmax", 11, [X], {"axis": 1}, 1, "Flatten(axis=1)"),
    "softmax-default": ("Softmax", 9, [noise(3, 5)], {}, 1, "Softmax(axis=-1)"),
    "softmax-new": ("Softmax", 13, [X], {"axis": 1}, 1, "Softmax(axis=1)"),
    "log-softmax-flat": ("LogSoftmax", 12, [X], {"axis": 2}, 1, "LogSoftmax(axis=-1)"),
    "hardmax-flat": ("Hardmax", 11, [X], {}, 1, "Hardmax(axis=-1)"),
    "batch-norm": (
        "BatchNormalization",
        9,
        [X, noise(3), noise(3), noise(3), np.abs(noise(3)) + 1],
        {"momentum": 0.99},
        1,
        "BatchNormalization(epsilon=1e-05)",
    ),
    "batch-norm-7": (
        "BatchNormalization",
        7,
        [X, noise(3), noise(3), noise(3), np.abs(noise(3)) + 1],
        {"spatial": 1, "epsilon": 1e-3},
        1,
        "BatchNormalization(epsilon=0.001)",
    ),
    "gemm": (
        "Gemm",
        9,
        [noise(2, 3), noise(3, 5), noise(5)],
        {"alpha": 0.5},
        1,
        "Gemm(alpha=0.5, beta=1, transA=0, transB=1)",
    ),
    "scatter": ("Scatter", 9, [X[0, 0], np.array([[0, 1]]), noise(1, 2)], {"axis": 1}, 1, "ScatterElements("),
    "cast": ("Cast", 9, [X], {"to": 7}, 1, "Cast(saturate=1, to=7)"),
    "concat": ("Concat", 7, [X, X], {"axis": -1}, 1, "Concat(axis=-1)"),
    "reshape": ("Reshape", 7, [X, np.array([0, -1])], {}, 1, "Reshape(allowzero=0)"),
    "flatten": ("Flatten", 11, [X], {"axis": -2}, 1, "Flatten(axis=2)"),
    "expand": ("Expand", 8, [noise(1, 3, 1), np.array([2, 1, 4])], {}, 1, "Expand()"),
    "tile": ("Tile", 7, [noise(2, 3), np.array([2, 1])], {}, 1, "Tile()"),
    "transpose": ("Transpose", 7, [X], {}, 1, "Transpose(perm=[3,2,1,0])"),
    "conv-same": (
        "Conv",
        7,
        [X, noise(4, 3, 3, 3)],
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        1,
        "Conv(dilations=[1,1], group=1, kernel_shape=[3,3], pads=[0,0,1,1], strides=[2,2])",
    ),
    "conv-same-lower": ("Conv", 11, [X, noise(4, 3, 2, 3)], {"auto_pad": "SAME_LOWER"}, 1, "pads=[1,1,0,1]"),
    "conv-transpose": (
        "ConvTranspose",
        11,
        [X, noise(3, 2, 3, 3)],
        {"strides": [2, 2], "output_shape": [8, 12]},
        1,
        "ConvTranspose(dilations=[1,1]",
    ),
    "max-pool-same": (
        "MaxPool",
        8,
        [X],
        {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 1]},
        1,
        "pads=[0,0,1,1]",
    ),
    "average-pool": (
        "AveragePool",
        7,
        [X],
        {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]},
        1,
        "count_include_pad=0",
    ),
    "lp-pool": ("LpPool", 11, [X], {"kernel_shape": [2, 2], "p": 1}, 1, "p=1"),
    "group-norm-18": (
        "GroupNormalization",
        18,
        [noise(2, 6, 5), noise(2), noise(2)],
        {"num_groups": 2},
        1,
        "Expand()",
    ),
    "grid-sample-16": ("GridSample", 16, [X, noise(2, 3, 3, 2)], {"mode": "bilinear"}, 1, "mode=linear"),
    "lrn": ("LRN", 7, [X], {"size": 3}, 1, "LRN(alpha=0.0001, beta=0.75, bias=1, size=3)"),
    "instance-norm": ("InstanceNormalization", 7, [X, noise(3), noise(3)], {}, 1, "epsilon=1e-05"),
    "leaky": ("LeakyRelu", 7, [X], {}, 1, "LeakyRelu(alpha=0.01)"),
    "elu": ("Elu", 7, [X], {}, 1, "Elu(alpha=1)"),
    "prelu": ("PRelu", 7, [X, np.abs(noise(3, 1, 1))], {}, 1, "PRelu()"),
    "arg-max": ("ArgMax", 11, [X], {"axis": 1}, 1, "select_last_index=0"),
    "depth-to-space": ("DepthToSpace", 7, [noise(1, 8, 2, 3)], {"blocksize": 2}, 1, "mode=DCR"),
    "gru": (
        "GRU",
        7,
        [noise(4, 2, 3), noise(1, 6, 3), noise(1, 6, 2)],
        {"hidden_size": 2},
        2,
        "linear_before_reset=0",
    ),
    "lstm": (
        "LSTM",
        7,
        [noise(4, 2, 3), noise(2, 8, 3), noise(2, 8, 2), noise(2, 16)],
        {"hidden_size": 2, "direction": "bidirectional"},
        3,
        "activations=[Sigmoid,Tanh,Tanh,Sigmoid,Tanh,Tanh]",
    ),
    "layer-norm": (
        "LayerNormalization",
        17,
        [noise(2, 5), noise(5)],
        {},
        1,
        "LayerNormalization(axis=-1, epsilon=1e-05",
    ),
}


@pytest.mark.parametrize("case", list(OLD))
def test_an_older_form_is_told_in_opset_24_and_computes_the_same(case):
    op_type, opset, arrays, attributes, count, said = OLD[case]
    names = ["" if array is None else f"x{place}" for place, array in enumerate(arrays)]
    outputs = [f"y{place}" for place in range(count)]
    node = helper.make_node(op_type, names, outputs, name="node", **attributes)
    constants = {name: array for name, array in zip(names[1:], arrays[1:]) if name}
    trace = recorded(
        graph_model([node], {"x0": arrays[0]}, outputs, constants, opset=opset), {"x0": arrays[0]}
    )
    record = trace.records[-1]
    assert not record.opaque, record.reason
    assert any(said in str(node) for node in record.nodes), list(map(str, record.nodes))
    assert trace.checks.observer_difference == 0.0
    check_record(record, trace.values)


def test_statistics_for_every_place_are_told_as_arithmetic():
    """``spatial=0`` of opset 7, which ONNX Runtime 1.31 itself refuses."""
    mean = noise(3, 4, 6)
    operands = [
        Operand(f"x{n}", a.shape, "float32", lambda a=a: a) for n, a in enumerate([X, mean, mean, mean, mean])
    ]
    found = describe("BatchNormalization", "", 7, {"spatial": 0}, operands, operands[:1])
    assert [node.op_type for node in found.nodes] == ["Add", "Sqrt", "Sub", "Div", "Mul", "Add"]


UNTOLD = {
    "AffineGrid",
    "Attention",
    "LinearAttention",
    "CausalConvWithState",
    "SwiGLU",
    "DFT",
    "STFT",
    "NonMaxSuppression",
    "MelWeightMatrix",
    "BlackmanWindow",
    "HammingWindow",
    "HannWindow",
    "MaxUnpool",
    "BitCast",
    "DynamicQuantizeLinear",
}
"""Operators whose kernels differ from the standard by more than this test allows, or that are newer than ONNX Runtime."""


EXPLAINED = ("computed from the input", "training mode", "is not described")
"""Why a record of the standard's cases may be opaque: theirs are all inputs, also axes and shapes."""


def _cases():
    return [name for name in cases.cases() if name not in UNTOLD]


@pytest.mark.parametrize("op_type", _cases())
def test_the_standards_own_models_are_recorded_and_compute_what_was_recorded(op_type):
    """Each of the standard's cases as a model: recorded, and its nodes evaluated in float64."""
    models = {case.name: case for case in cases.collected()}
    done = 0
    for case in cases.cases()[op_type][:4]:
        if any(
            given is not None and given.dtype.name not in ("float32", "int64", "bool", "int32")
            for given in case.inputs
        ):
            continue
        model = models[case.name].model
        feeds = {
            proto.name: array
            for proto, array in zip(model.graph.input, [a for a in case.inputs if a is not None])
        }
        try:
            trace = recorded(model, feeds)
        except PortingError:
            continue  # what ONNX Runtime cannot run is the business of test_run_onnxruntime.py
        for record in trace.records:
            if record.opaque:
                assert any(words in record.reason for words in EXPLAINED), record.reason
            else:
                check_record(record, trace.values, 1e-4, 1e-5)
        done += 1
    if not done:
        pytest.skip("no case of these types that ONNX Runtime runs")

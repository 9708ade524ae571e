"""Round-off of float32 arithmetic stays within the limits; the mistakes of the numerics study do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from porting_check.neutral.node import Node
from porting_check.numerics.own import ratio
from porting_check.numerics.roundoff import limits
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.truth import evaluate_node
from tests.unit.traces import conv

U = UNIT["float32"]
KINDS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(0, 1, shape),
    "mean 100": lambda rng, shape: 100 + rng.standard_normal(shape),
    "small": lambda rng, shape: 1e-5 * rng.standard_normal(shape),
}
UNARY = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Gelu": F.gelu,
    "Elu": F.elu,
    "Softplus": F.softplus,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
    "Exp": torch.exp,
    "Erf": torch.erf,
}


def error(node, arrays, native):
    """The native result's error in units of its limit."""
    wide = [a if a is None or a.dtype.kind != "f" else a.astype("f8") for a in arrays]
    truth = evaluate_node(node, wide)
    bound = limits(node, wide, [None] * len(wide), truth, U)[0]
    return ratio(native.numpy(), truth[0], bound)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "kernel"), [(3, 3), (64, 1), (16, 5), (128, 3)])
def test_a_native_convolution_is_within_its_limit(kind, channels, kernel):
    rng = np.random.default_rng(1)
    x, w = (KINDS[kind](rng, s).astype("f4") for s in ((2, channels, 12, 14), (8, channels, kernel, kernel)))
    b = rng.standard_normal(8).astype("f4")
    native = F.conv2d(*map(torch.from_numpy, (x, w, b)))
    node = conv(kernel=(kernel, kernel))
    assert error(node, [x, w, b], native) < 1
    coarse = w.astype("f2").astype("f4")
    wrong = F.conv2d(*map(torch.from_numpy, (x, coarse, b)))
    assert error(node, [x, w, b], wrong) > 1 or kind == "small"


@pytest.mark.parametrize("kind", KINDS)
def test_a_native_matrix_product_is_within_its_limit(kind):
    rng = np.random.default_rng(2)
    x, w = KINDS[kind](rng, (7, 1024)).astype("f4"), KINDS[kind](rng, (33, 1024)).astype("f4")
    node = Node("Gemm", ("x", "w"), ("y",), {"transB": 1})
    assert error(node, [x, w], torch.from_numpy(x) @ torch.from_numpy(w).T) < 1


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_native_functions_are_within_their_limits(name, scale):
    x = (scale * np.random.default_rng(3).standard_normal((4, 500))).astype("f4")
    assert error(Node(name, ("x",), ("y",)), [x], UNARY[name](torch.from_numpy(x))) <= 1


def test_the_two_forms_of_gelu_are_told_apart():
    x = np.random.default_rng(4).standard_normal((4, 500)).astype("f4")
    assert error(Node("Gelu", ("x",), ("y",)), [x], F.gelu(torch.from_numpy(x), approximate="tanh")) > 5


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_native_normalisations_are_within_their_limits(scale):
    rng = np.random.default_rng(5)
    x = (scale * rng.standard_normal((6, 10, 8, 9)) + scale).astype("f4")
    g, b, m = (rng.standard_normal(10).astype("f4") for _ in range(3))
    v = rng.uniform(0.5, 2, 10).astype("f4")
    node = Node("BatchNormalization", tuple("xgbmv"), ("y",), {"epsilon": 1e-3})
    native = F.batch_norm(*map(torch.from_numpy, (x, m, v, g, b)), eps=1e-3)
    assert error(node, [x, g, b, m, v], native) < 1
    rows = x.reshape(60, 72)
    gain, shift = rng.standard_normal(72).astype("f4"), rng.standard_normal(72).astype("f4")
    native = F.layer_norm(torch.from_numpy(rows), (72,), torch.from_numpy(gain), torch.from_numpy(shift))
    node = Node("LayerNormalization", tuple("xgb"), ("y",), {"axis": -1, "epsilon": 1e-5})
    assert error(node, [rows, gain, shift], native) < 1


def test_softmax_and_pooling_are_within_their_limits():
    x = (5 * np.random.default_rng(6).standard_normal((3, 4, 20, 22))).astype("f4")
    t = torch.from_numpy(x)
    assert error(Node("Softmax", ("x",), ("y",), {"axis": 1}), [x], t.softmax(1)) < 1
    assert error(Node("GlobalAveragePool", ("x",), ("y",)), [x], F.adaptive_avg_pool2d(t, 1)) < 1
    pool = Node("MaxPool", ("x",), ("y",), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 0, 0)})
    assert error(pool, [x], F.max_pool2d(t, 3, 2)) == 0


def test_a_value_where_none_is_allowed_is_infinitely_wrong():
    assert ratio(np.float32([1e-30]), np.zeros(1), np.zeros(1)) == float("inf")
    assert ratio(np.float32([np.nan]), np.zeros(1), np.ones(1)) == float("inf")
    assert ratio(np.float32([np.nan]), np.array([np.nan]), np.ones(1)) == 0.0
    assert ratio(np.float32([np.inf]), np.array([np.inf]), np.ones(1)) == 0.0


@pytest.mark.parametrize("mean", [0.0, 2.0, 100.0])
def test_the_logits_of_attention_may_round_like_sums(mean):
    """Near 100 every logit is a sum of large positive products, and softmax makes much of its last digits."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        q, k, v = ((mean + rng.standard_normal((1, 3, n, 64))).astype("f4") for n in (12, 15, 15))
        node = Node("Attention", ("q", "k", "v"))
        logits = np.zeros((1, 3, 12, 15), np.float32)
        for term in range(64):
            logits += q[..., None, term] * k[..., None, :, term]
        weights = torch.from_numpy(logits * np.float32(1 / 8)).softmax(-1)
        assert error(node, [q, k, v], weights @ torch.from_numpy(v)) < 1
        wrong = torch.from_numpy(logits * np.float32(1 / 7.9)).softmax(-1)
        assert error(node, [q, k, v], wrong @ torch.from_numpy(v)) > 5 or mean == 100


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "CumSum", "ReduceLogSumExp"])
def test_reductions_may_add_one_after_the_other(op):
    x = np.random.default_rng(8).uniform(0, 1, (4, 30000)).astype("f4")
    terms = {"ReduceL2": np.square, "ReduceSumSquare": np.square, "ReduceLogSumExp": np.exp}.get(op, np.abs)(
        x
    )
    total = np.cumsum(terms, axis=1, dtype=np.float32)
    native = total if op == "CumSum" else total[:, -1:]
    native = {"ReduceL2": np.sqrt, "ReduceLogSumExp": np.log}.get(op, np.asarray)(native)
    axes = np.array(1) if op == "CumSum" else np.array([1])
    node = Node(op, ("x", "a"), ("y",), {} if op == "CumSum" else {"keepdims": 1})
    assert error(node, [x, axes], torch.from_numpy(native)) < 1
    assert error(node, [x, axes], torch.from_numpy(native * np.float32(1.001))) > 1


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_saturated_gates_may_be_off_by_a_rounding_of_one(scale):
    rng = np.random.default_rng(9)
    x = (scale + rng.standard_normal((6, 2, 5))).astype("f4")
    torch.manual_seed(0)
    layer = torch.nn.GRU(5, 7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype("f4")))
        native = layer(torch.from_numpy(x))[0]
    order = np.r_[7:14, 0:7, 14:21]  # torch: reset, update, new; ONNX: update, reset, new
    w, r, bw, br = (p.detach().numpy()[order] for p in layer.parameters())
    node = Node("GRU", ("x", "w", "r", "b"), ("y",), {"hidden_size": 7, "linear_before_reset": 1})
    given = [x, w[None], r[None], np.concatenate([bw, br])[None]]
    assert error(node, given, native[:, None]) < 1
    assert error(node.edit(linear_before_reset=0), given, native[:, None]) > 5 or scale == 100

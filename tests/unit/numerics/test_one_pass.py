"""A variance computed in one pass is recognised by what it does to each row; a wrong epsilon or gain is not."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.node import Node
from porting_check.numerics.excess import settled
from porting_check.numerics.one_pass import variance_in_one_pass
from porting_check.numerics.spread import bounds_of
from porting_check.numerics.truth import evaluate_node

U = 2.0**-24
LAYER = Node("LayerNormalization", ("x", "g", "b"), attributes={"axis": -1, "epsilon": 1e-5})
GROUP = Node("GroupNormalization", ("x", "g", "b"), attributes={"num_groups": 3, "epsilon": 1e-5})
INSTANCE = Node("InstanceNormalization", ("x", "g", "b"), attributes={"epsilon": 1e-5})
BATCH = Node("BatchNormalization", tuple("xgbmv"), attributes={"training_mode": 1, "epsilon": 1e-5})
NODES = {"layer": LAYER, "group": GROUP, "instance": INSTANCE, "batch": BATCH}


def case(name, mean, seed=0):
    """Operands in float32, and the truth."""
    rng, node = np.random.default_rng(seed), NODES[name]
    shape = (24, 64) if name == "layer" else (4, 6, 9, 10)
    x = mean + rng.standard_normal(shape)
    size = 64 if name == "layer" else 6
    rest = [rng.standard_normal(size), rng.standard_normal(size)]
    rest += [np.zeros(6), np.ones(6)] if name == "batch" else []
    inputs = [a.astype("f4") for a in (x, *rest)]
    wide = [a.astype("f8") for a in inputs]
    outputs = evaluate_node(node, wide)
    return node, inputs, outputs[0], bounds_of(node, wide, [None] * len(wide), outputs, U)[0]


def normalized(name, inputs, one_pass, epsilon=1e-5):
    """The layer in float32."""
    x, g, b = inputs[:3]
    axes = {"layer": (1,), "instance": (2, 3), "batch": (0, 2, 3), "group": (2,)}[name]
    rows = x.reshape(4, 3, -1) if name == "group" else x
    mean = rows.mean(axis=axes, keepdims=True, dtype=np.float32)
    if one_pass:
        var = np.square(rows).mean(axis=axes, keepdims=True, dtype=np.float32) - mean * mean
    else:
        var = np.square(rows - mean).mean(axis=axes, keepdims=True, dtype=np.float32)
    y = ((rows - mean) / np.sqrt(var + np.float32(epsilon))).reshape(x.shape)
    wide = (1, -1, *(1,) * (x.ndim - 2))
    return y * g.reshape(wide) + b.reshape(wide)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("mean", [0.0, 2.0, 30.0])
def test_two_passes_are_round_off(name, mean):
    node, inputs, truth, bounds = case(name, mean)
    assert settled(node, inputs, normalized(name, inputs, False), truth, bounds).verdict == "round-off"


@pytest.mark.parametrize("name", NODES)
def test_one_pass_is_named_where_the_mean_is_large(name):
    node, inputs, truth, bounds = case(name, 60.0)
    found = settled(node, inputs, normalized(name, inputs, True), truth, bounds)
    assert found.verdict == "low-precision", found
    assert "one pass" in found.words


@pytest.mark.parametrize("name", ["layer", "group", "instance"])
@pytest.mark.parametrize("mean", [0.0, 60.0])
def test_mistakes_are_not_called_one_pass(name, mean):
    node, inputs, truth, bounds = case(name, mean)
    wrong_epsilon = normalized(name, inputs, False, 2e-2)
    gain = [inputs[0], inputs[1] * np.float32(1.01), inputs[2]]
    for native in (wrong_epsilon, normalized(name, gain, False)):
        assert not settled(node, inputs, native, truth, bounds).good
        assert not variance_in_one_pass(node, [a.astype("f8") for a in inputs], native - truth, truth, U)


def test_operators_without_a_variance_have_none():
    x = np.ones((3, 4))
    node = Node("RMSNormalization", ("x", "g"))
    assert not variance_in_one_pass(node, [x, np.ones(4)], x * 1e-6, x, U)
    assert not variance_in_one_pass(Node("Exp", ("x",)), [x], x * 1e-6, x, U)
    inference = BATCH.edit(training_mode=0)
    given = [np.ones((2, 6, 3)), *(np.ones(6) for _ in range(4))]
    assert not variance_in_one_pass(inference, given, given[0] * 1e-6, given[0], U)

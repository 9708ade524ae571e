"""``pc.matrix`` between old frameworks and the current ones: one file or function, the same weights, which layer changed.

Each test needs the interpreter that an environment variable names (see ``test_old_frameworks.py``) and is skipped without it.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest

from porting_check.report.version_table import VersionTable
from porting_check.versions import matrix
from tests.adapters.test_old_frameworks import NEEDS, weights, write_onnx

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def old(key: str) -> str:
    """The environment of an old framework."""
    variable = f"PORTING_CHECK_PYTHON_{key}"
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no interpreter with {NEEDS[key][1]}")
    return f"python:{python},env.OMP_NUM_THREADS=1"


def check(table: VersionTable, places: dict[str, str]) -> None:
    """Every version computes the same function; what changed is within round-off and has its place."""
    assert table.verdict == "agree", str(table)
    assert len({row.environment.versions[row.environment.framework] for row in table.rows}) == len(places)
    for row in table.rows[1:]:
        change = row.against_previous
        assert change.layers >= 4, str(table)
        assert change.worst.ratio <= 1, str(table)
        if change.changed:
            assert change.first.layer
            assert 0 < change.first.largest < 1e-4, str(table)
    if table.first_change is None:
        assert "the same bits in every layer" in str(table)
    else:
        assert "changed the numbers first, at" in str(table).splitlines()[0]


TORCH = """
    import torch
    from torch import nn


    def build():
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Softmax(-1),
        ).eval()
"""

KERAS = """
    import tensorflow as tf


    def build():
        layers = tf.keras.layers
        return tf.keras.Sequential([
            layers.Conv2D(8, 3, strides=2, padding="same", name="conv1", input_shape=(16, 16, 3)),
            layers.BatchNormalization(name="bn1"),
            layers.Activation("swish", name="swish1"),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(5, activation="softmax", name="dense"),
        ])
"""

FLAX = """
    import os

    import jax
    import jax.numpy as jnp
    from flax import linen as nn


    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.gelu(nn.Conv(8, (3, 3), strides=2, name="conv1")(x))
            x = nn.relu(nn.Conv(8, (3, 3), name="conv2")(x)).mean(axis=(1, 2))
            return nn.softmax(nn.Dense(5, name="dense")(x))


    def build():
        net = Net()
        return net, net.init(jax.random.PRNGKey(int(os.environ.get("SEED", "0"))), jnp.zeros((1, 16, 16, 3)))
"""


def written(folder: Path, text: str) -> str:
    path = folder / "net.py"
    path.write_text(textwrap.dedent(text))
    return f"{path}:build"


def image(layout: str = "NHWC") -> np.ndarray:
    found = weights()["image"]
    return found if layout == "NHWC" else np.ascontiguousarray(found.transpose(0, 3, 1, 2))


def test_torch_without_a_seed_gets_the_weights_of_the_old_one(tmp_path):
    places = {"old": old("TORCH"), "new": "local"}
    table = matrix(written(tmp_path, TORCH), places, image("NCHW"), layouts="NCHW", folder=tmp_path / "kept")
    check(table, places)
    assert table.rows[1].weights == "the baseline's, put in by name"
    again = matrix(written(tmp_path, TORCH), places, image("NCHW"), layouts="NCHW", folder=tmp_path / "kept")
    assert all(row.kept for row in again.rows)
    assert [row.against_baseline for row in again.rows] == [row.against_baseline for row in table.rows]


def test_an_onnx_file_in_two_runtimes(tmp_path):
    write_onnx(tmp_path / "net.onnx", weights())
    places = {"old": old("ONNXRUNTIME"), "new": "local"}
    table = matrix(tmp_path / "net.onnx", places, image("NCHW"), layouts="NCHW")
    check(table, places)
    assert table.rows[1].weights == "the same bits"


def test_a_frozen_graph_in_three_tensorflows(tmp_path):
    places = {"1.15": old("TF1"), "2.5": old("TF2"), "current": "local"}
    np.savez(tmp_path / "weights.npz", **weights())
    script = tmp_path / "freeze.py"
    script.write_text(textwrap.dedent(FREEZE))
    python = os.environ["PORTING_CHECK_PYTHON_TF1"]
    subprocess.run([python, str(script)], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    table = matrix(tmp_path / "net.pb", places, image(), layouts="NHWC")
    check(table, places)
    assert [row.against_previous.reference for row in table.rows[1:]] == ["1.15", "2.5"]


FREEZE = """
    import numpy as np
    import tensorflow as tf

    held = np.load("weights.npz")
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [2, 16, 16, 3], name="x")
        c = v1.nn.conv2d(x, tf.constant(held["kernel"]), strides=[1, 2, 2, 1], padding="SAME", name="conv")
        b = v1.nn.bias_add(c, tf.constant(held["bias"]), name="bias")
        given = [tf.constant(held[name]) for name in ("gamma", "beta", "mean", "variance")]
        n = v1.nn.fused_batch_norm(b, *given, epsilon=1e-3, is_training=False, name="bn")[0]
        p = v1.nn.max_pool(tf.tanh(n, name="tanh"), [1, 2, 2, 1], [1, 2, 2, 1], "VALID", name="pool")
        f = tf.reshape(p, [2, 128], name="flat")
        d = tf.matmul(f, tf.constant(held["dense"]), name="dense")
        tf.nn.softmax(v1.nn.bias_add(d, tf.constant(held["offset"]), name="logits"), name="y")
        with open("net.pb", "wb") as file:
            file.write(graph.as_graph_def().SerializeToString())
"""


def test_a_keras_function_whose_layers_have_other_names_for_their_weights(tmp_path):
    places = {"2.5": old("TF2"), "current": "local"}
    table = matrix(written(tmp_path, KERAS), places, image(), layouts="NHWC")
    check(table, places)
    assert table.rows[1].weights.startswith("the baseline's, put in by ")


def test_a_flax_module_in_two_versions_of_jax(tmp_path):
    places = {"old": old("JAX"), "new": "local"}
    table = matrix(written(tmp_path, FLAX), places, image(), layouts="NHWC")
    check(table, places)

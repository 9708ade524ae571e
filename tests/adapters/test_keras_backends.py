"""Keras 3 on its torch and JAX backends, each in a process of its own: layers go by Keras' names on all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="keras is not installed")

import porting_check as pc
from porting_check.testing.replay import check_trace

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
BACKENDS = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax"}

WEIGHTS = {
    "first/kernel", "first/bias", "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance",
    "block/deep/kernel", "block/deep/bias", "head/kernel", "head/bias",
}  # fmt: skip

CODE = """
import keras
import numpy as np

L = keras.layers


def randomised(model):
    rng = np.random.default_rng(5)
    for variable in sorted(model.weights, key=lambda v: v.path):
        values = rng.standard_normal(variable.shape) * 0.4
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def net():
    x = inputs = keras.Input((12, 9, 3), name="image")
    x = L.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="first")(x)
    x = L.BatchNormalization(name="bn")(x)
    block = keras.Sequential(
        [keras.Input((6, 5, 6)), L.DepthwiseConv2D(3, padding="same", name="deep"), L.ReLU(6.0, name="six")],
        name="block",
    )
    x = x + block(x)
    x = L.MaxPooling2D(2, padding="same", name="pool")(x)
    x = L.Dense(5, name="head")(L.Flatten(name="flat")(x))
    return randomised(keras.Model(inputs, keras.ops.softmax(x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(7, activation="tanh", name="inner")
        self.norm = L.LayerNormalization(name="norm")
        self.drop = L.Dropout(0.5, name="drop")

    def call(self, x, training=None):
        return {"a": self.drop(self.norm(self.dense(x)), training=training), "b": keras.ops.sum(x, axis=-1)}


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    return randomised(model)


def two_inputs():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    return randomised(keras.Model([a, b], L.Dense(3, name="d")(a - 2 * b)))
"""

CHECK = """
import json, sys
import numpy as np
import net as built
from porting_check.recorder.registry import adapter_for

model = getattr(built, sys.argv[1])()
before = {v.path: np.array(v) for v in model.weights}
adapter = adapter_for(model)
specs = adapter.inputs(model)
parameters = adapter.parameters(model)
x = np.random.default_rng(0).standard_normal((2, 12, 9, 3)).astype("float32")
outputs = adapter.predict(model, {specs[0].name: x})
name = next(name for name in parameters if name.endswith("head/kernel"))
adapter.assign(model, {name: parameters[name] * 0})
zero = adapter.predict(model, {specs[0].name: x})
adapter.assign(model, {name: parameters[name]})
same = all(np.array_equal(before[v.path], np.array(v)) for v in model.weights)
print(json.dumps({
    "framework": adapter.framework,
    "spec": [specs[0].name, specs[0].shape, specs[0].dtype, specs[0].layout],
    "parameters": sorted(parameters),
    "changed": float(np.abs(zero["0"] - outputs["0"]).max()),
    "same": same,
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("backends")
    (path / "net.py").write_text(CODE)
    (path / "check.py").write_text(CHECK)
    rng = np.random.default_rng(0)
    np.savez(path / "net.npz", **{"0": rng.standard_normal((2, 12, 9, 3)).astype(np.float32)})
    np.savez(path / "subclassed.npz", **{"0": rng.standard_normal((3, 4)).astype(np.float32)})
    pair = {str(place): rng.standard_normal((2, 4)).astype(np.float32) for place in (0, 1)}
    np.savez(path / "two_inputs.npz", **pair)
    return path


def run(folder, backend, *arguments):
    pytest.importorskip(BACKENDS[backend], reason=f"{backend} is not installed")
    environment = dict(os.environ, KERAS_BACKEND=backend, PYTHONPATH=PATHS, TF_CPP_MIN_LOG_LEVEL="3")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def recorded(folder, backend, model):
    """The recording of a model on a backend, made once."""
    out = folder / f"{model}-{backend}.trace"
    if not out.exists():
        request = json.dumps({"inputs": {"": f"{model}.npz"}})
        arguments = [
            "-m",
            "porting_check.recorder",
            f"net.py:{model}",
            "--out",
            str(out),
            "--request",
            request,
        ]
        run(folder, backend, *arguments)
    return pc.load_trace(str(out))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_operators_stand_under_the_paths_of_their_layers(folder, backend):
    trace = recorded(folder, backend, "net")
    assert trace.environment.framework == backend
    assert trace.checks.observer_difference == 0.0
    scopes = list(dict.fromkeys(record.name.rpartition("/")[0] for record in trace.records))
    wanted = ["first", "bn", "block/deep", "block/six", "pool", "flat", "head"]
    assert [scope for scope in scopes if scope in wanted] == wanted
    assert set(trace.parameters()) == WEIGHTS
    assert check_trace(trace, 1e-5, 2e-6) == []


@pytest.mark.parametrize("model", ["net", "subclassed", "two_inputs"])
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_same_model_on_two_backends_is_faithful(folder, backend, model):
    report = pc.compare(recorded(folder, "tensorflow", model), recorded(folder, backend, model))
    said = [
        (p.op, p.verdict, p.explanation) for p in report.pairs if p.verdict not in ("round-off", "identical")
    ]
    assert report.verdict == "faithful", (report.reason, said, report.not_compared[:3])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_backend_s_adapter_owns_the_model_and_knows_inputs_and_weights(folder, backend):
    said = json.loads(run(folder, backend, "check.py", "net").splitlines()[-1])
    assert said["framework"] == backend
    assert said["spec"] == ["0", [None, 12, 9, 3], "float32", "NHWC"]
    assert set(said["parameters"]) == WEIGHTS
    assert said["changed"] > 1e-3
    assert said["same"]

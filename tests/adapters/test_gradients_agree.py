"""The same network in torch, Keras and flax: the same gradients, by layer, in canonical layout."""

from __future__ import annotations

from typing import Any

import flax.linen as flax
import jax
import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

from porting_check.neutral.layout import convert
from porting_check.neutral.trace import MemorySink
from porting_check.recorder.registry import load_adapter

RNG = np.random.default_rng(8)
IMAGE = RNG.standard_normal((2, 8, 8, 3)).astype(np.float32)
COTANGENT = RNG.standard_normal((2, 3)).astype(np.float32)
SHAPES = {"conv/w": (4, 3, 3, 3), "fc1/w": (6, 4), "fc2/w": (3, 6)}
"""Kernels in canonical layout: outputs, inputs, space."""

WEIGHTS = {name: (0.5 * RNG.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}
for _name, _size in (
    ("conv/b", 4),
    ("fc1/b", 6),
    ("fc2/b", 3),
    ("ln/b", 6),
    ("ln/w", 6),
    ("bn/b", 4),
    ("bn/w", 4),
):
    WEIGHTS[_name] = (1 + 0.3 * RNG.standard_normal(_size)).astype(np.float32)
WEIGHTS["bn/mean"] = RNG.standard_normal(4).astype(np.float32)
WEIGHTS["bn/var"] = (0.5 + RNG.random(4)).astype(np.float32)

LAYERS = ("conv", "bn", "fc1", "ln", "fc2")


class Torch(nn.Module):
    """Channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.fc1, self.ln, self.fc2 = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        """Logits."""
        x = nn.functional.max_pool2d(nn.functional.silu(self.bn(self.conv(x))), 2).mean((2, 3))
        return self.fc2(torch.tanh(self.ln(self.fc1(x))))


def in_torch() -> Any:
    made = Torch().eval()
    names = {"w": "weight", "b": "bias", "mean": "running_mean", "var": "running_var"}
    state = {
        "{}.{}".format(k.split("/")[0], names[k.split("/")[1]]): torch.tensor(a) for k, a in WEIGHTS.items()
    }
    made.load_state_dict(state, strict=False)
    return made


def in_keras() -> Any:
    x = given = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, 2, name="conv")(layers.ZeroPadding2D(1)(x))
    x = layers.Activation("silu")(layers.BatchNormalization(epsilon=1e-5, name="bn")(x))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    x = layers.LayerNormalization(epsilon=1e-5, name="ln")(layers.Dense(6, name="fc1")(x))
    made = keras.Model(given, layers.Dense(3, name="fc2")(layers.Activation("tanh")(x)))
    names = {
        "kernel": "w",
        "gamma": "w",
        "bias": "b",
        "beta": "b",
        "moving_mean": "mean",
        "moving_variance": "var",
    }
    for name in LAYERS:
        for variable in made.get_layer(name).weights:
            variable.assign(native(WEIGHTS[f"{name}/{names[variable.name]}"]))
    return made


class Flax(flax.Module):
    """Channels last."""

    @flax.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = flax.Conv(4, (3, 3), strides=2, padding=((1, 1), (1, 1)), name="conv")(x)
        x = jax.nn.silu(flax.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn")(x))
        x = flax.max_pool(x, (2, 2), (2, 2)).mean((1, 2))
        x = flax.LayerNorm(epsilon=1e-5, name="ln")(flax.Dense(6, name="fc1")(x))
        return flax.Dense(3, name="fc2")(jax.numpy.tanh(x))


def in_flax() -> Any:
    parameters: dict[str, dict[str, Any]] = {name: {} for name in LAYERS}
    for key, array in WEIGHTS.items():
        name, what = key.split("/")
        if what in ("w", "b"):
            kernel = "scale" if name in ("bn", "ln") else "kernel"
            parameters[name][kernel if what == "w" else "bias"] = native(array)
    statistics = {"bn": {"mean": WEIGHTS["bn/mean"], "var": WEIGHTS["bn/var"]}}
    return Flax(), {"params": parameters, "batch_stats": statistics}


def native(array: np.ndarray) -> np.ndarray:
    """A kernel as Keras and flax hold it."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    return np.ascontiguousarray(array.T)


def gradients_by_layer(framework: str, model: Any, image: np.ndarray, float64: bool) -> dict[str, np.ndarray]:
    """Gradients by layer and role in canonical layout: ``conv weight``, ``fc1 y``, ``conv x``."""
    adapter, sink = load_adapter(framework), MemorySink()
    adapter.record(model, {"0": image}, sink)
    gradients = adapter.gradients(model, {"0": image}, {"0": COTANGENT}, float64=float64)
    found = {}
    for record in sink.records:
        for port in record.inputs[:1] + record.parameters + record.outputs:
            if record.name in LAYERS and port.value in gradients and port.value != "zero_padding2d:0":
                array = gradients[port.value]
                found[f"{record.name} {port.name}"] = (
                    convert(array, port.layout, port.canonical) if port.layout else array
                )
    layout = {"torch": "NCHW"}.get(framework, "NHWC")
    return {**found, "conv x": convert(gradients["input:0"], layout, "NCHW")}


@pytest.mark.parametrize(("float64", "rtol"), [(False, 1e-5), (True, 1e-12)])
def test_three_frameworks_give_the_same_gradients(float64: bool, rtol: float) -> None:
    """Of every layer's input, output and parameters: within a part of the largest of the tensor."""
    first = np.ascontiguousarray(IMAGE.transpose(0, 3, 1, 2))
    sides = {
        "torch": gradients_by_layer("torch", in_torch(), first, float64),
        "tensorflow": gradients_by_layer("tensorflow", in_keras(), IMAGE, float64),
        "jax": gradients_by_layer("jax", in_flax(), IMAGE, float64),
    }
    for framework in ("tensorflow", "jax"):
        shared = sides["torch"].keys() & sides[framework].keys()
        assert len(shared) == 20
        assert sides[framework].keys() - shared == {"bn mean", "bn var"}  # torch does not differentiate these
        for key in shared:
            reference, candidate = sides["torch"][key], sides[framework][key]
            assert np.abs(reference).max() > 1e-3, key
            room = rtol * np.abs(reference).max()
            np.testing.assert_allclose(candidate, reference, rtol=0, atol=room, err_msg=f"{framework} {key}")
    for key in ("bn mean", "bn var"):
        keras_side, flax_side = sides["tensorflow"][key], sides["jax"][key]
        np.testing.assert_allclose(flax_side, keras_side, rtol=0, atol=rtol * np.abs(keras_side).max())

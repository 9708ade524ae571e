"""The main job with JAX on one side: weights go over, layers are paired and named, mistakes are found."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch
from flax import nnx

import porting_check

RNG = np.random.default_rng(7)


class LinenPort(nn.Module):
    """Of the Keras model below."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3), strides=2)(x)))
        return nn.Dense(5)(nn.max_pool(x, (2, 2), (2, 2)).mean((1, 2)))


class NnxPort(nnx.Module):
    """Of the torch model below; ``approximate`` is the mistake that can be made."""

    def __init__(self, approximate: bool) -> None:
        rngs = nnx.Rngs(0)
        self.conv, self.norm = (
            nnx.Conv(3, 8, (3, 3), padding=1, rngs=rngs),
            nnx.LayerNorm(16, epsilon=1e-5, rngs=rngs),
        )
        self.hidden, self.out = nnx.Linear(128, 16, rngs=rngs), nnx.Linear(16, 5, rngs=rngs)
        self.approximate = approximate

    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = nnx.avg_pool(nnx.relu(self.conv(x)), (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        return self.out(self.norm(nnx.gelu(self.hidden(x), approximate=self.approximate)))


def keras_model() -> Any:
    """Convolution, normalisation, pooling, dense, with weights that are not trivial."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, strides=2, padding="same", name="conv"),
            keras.layers.BatchNormalization(epsilon=1e-5, name="norm"),
            keras.layers.ReLU(name="relu"),
            keras.layers.MaxPooling2D(name="pool"),
            keras.layers.GlobalAveragePooling2D(name="gap"),
            keras.layers.Dense(5, name="head"),
        ]
    )
    model.set_weights([np.abs(RNG.standard_normal(w.shape)).astype(np.float32) for w in model.get_weights()])
    return model


def torch_model() -> Any:
    """Convolution, pooling, GELU, LayerNorm."""
    layers = torch.nn
    return layers.Sequential(
        layers.Conv2d(3, 8, 3, padding=1), layers.ReLU(), layers.AvgPool2d(2), layers.Flatten(),
        layers.Linear(128, 16), layers.GELU(), layers.LayerNorm(16), layers.Linear(16, 5),
    ).eval()  # fmt: skip


def test_a_linen_port_of_a_keras_model_is_faithful() -> None:
    """Kernels need no transposition, their names are paired by place."""
    x = RNG.standard_normal((2, 16, 16, 3)).astype(np.float32)
    port = LinenPort()
    variables = port.init(jax.random.key(0), jnp.asarray(x))
    result = porting_check.compare(keras_model(), (port, variables), x, transfer=True)
    assert result.verdict == "faithful", str(result)
    assert float(jnp.abs(variables["params"]["Conv_0"]["kernel"]).sum()) > 0
    assert any("BatchNorm_0" in name for pair in result.pairs for name in pair.candidate)


def test_an_nnx_port_of_a_torch_model_is_faithful_and_its_mistake_is_proven() -> None:
    """Axes, layouts and weights differ; the approximate GELU is found."""
    x = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
    assert porting_check.compare(torch_model(), NnxPort(False), x, transfer=True).verdict == "faithful"
    wrong = porting_check.compare(torch_model(), NnxPort(True), x, transfer=True)
    assert wrong.verdict == "divergent" and "gelu-tanh (proven)" in str(wrong)

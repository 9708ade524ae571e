"""JAX, flax and equinox under the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from hypothesis import strategies as st

from porting_check.testing import AdapterContract, DescribeContract, Example, Layer, RunContract
from porting_check.testing.strategies import Geometry, geometries


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded standard normal float32."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def randomised(tree: Any) -> Any:
    """Random values for every parameter, variances positive: zeros and ones hide mistakes."""
    rng = np.random.default_rng(1)

    def value(path: Any, leaf: Any) -> Any:
        values = rng.standard_normal(leaf.shape) * 0.5
        return jnp.asarray(np.abs(values) + 0.5 if "var" in jax.tree_util.keystr(path) else values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, tree)


def linen(module: nn.Module, *arrays: np.ndarray) -> tuple[Any, Any]:
    """A linen module with random variables, as plain dicts."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return module, randomised(nn.meta.unbox(jax.eval_shape(lambda: module.init(keys, *arrays))))


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x))
        x = nn.max_pool(x, (2, 2), (2, 2)).mean((1, 2))
        return nn.Dense(5, name="head")(x)


class Mlp(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.fc1, self.norm, self.fc2 = nnx.Linear(6, 8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.norm(nnx.gelu(self.fc1(x))))


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        fc = nn.Dense(6, name="fc")
        return fc(nn.relu(fc(x)))


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x):
        return {"deep": [x * 2, {"sum": x.sum(-1)}], "logits": nn.Dense(3, name="fc")(x)}


class Broken(nn.Module):
    @nn.compact
    def __call__(self, x):
        raise KeyError("nothing here")


class Breaks(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Broken(name="inner")(nn.Dense(6, name="first")(x))


class Noisy(nnx.Module):
    def __init__(self):
        self.rngs, self.fc = nnx.Rngs(0), nnx.Linear(6, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.fc(x) + jax.random.normal(self.rngs.noise(), (3,))


class Counting(nnx.Module):
    def __init__(self):
        self.count = nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] = self.count[...] + 1
        return x * self.count[...]


class Drops(nnx.Module):
    def __init__(self):
        self.fc, self.drop = nnx.Linear(6, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.drop(self.fc(x))


class Equinox(equinox.Module):
    layers: list

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 2)
        self.layers = [equinox.nn.Linear(6, 4, key=keys[0]), equinox.nn.Linear(4, 5, key=keys[1])]

    def __call__(self, x):
        return self.layers[1](jax.nn.relu(self.layers[0](x)))


def moved(dtype: str) -> Example:
    x = np.arange(12).reshape(2, 6).astype(getattr(ml_dtypes, dtype))
    return Example(dtype, "narrow", lambda: lambda x: x.reshape(3, 4).T, {"0": x})


class TestRecording(AdapterContract):
    framework = "jax"
    lacks = {"in-place": "arrays of JAX are immutable"}  # noqa: RUF012

    def examples(self):
        x, image = noise(2, 6), noise(2, 9, 8, 3)
        nested = ("deep/0", "deep/1/sum", "logits")
        return [
            Example("linen", "plain", lambda: linen(Network(), image), {"0": image}),
            Example("nnx", "plain", Mlp, {"0": x}, ("fc1", "gelu", "norm", "fc2")),
            Example("equinox", "plain", lambda: jax.vmap(Equinox()), {"0": x}, ("layers/0", "relu", "layers/1")),
            Example("twice", "repeated", lambda: linen(Twice(), x), {"0": x}, ("fc", "relu", "fc#1")),
            *map(moved, ("bfloat16", "float8_e4m3fn", "float8_e5m2")),
            Example("nested", "nested", lambda: linen(Nested(), x), {"0": x}, outputs=nested),
            Example("svd", "opaque", lambda: lambda x: jnp.linalg.svd(x)[1], {"0": x}, reasons={"svd": ""}),
            Example("noisy", "random", Noisy, {"0": x}),
            Example("counting", "stateful", Counting, {"0": x}),
            Example("dropout", "training", Drops, {"0": x}, reasons={"drop": ""}, deterministic=False),
            Example("broken", "raises", lambda: linen(Breaks(), x), {"0": x}, fails_in="inner"),
        ]

    def state(self, model):
        held = nnx.state(model) if isinstance(model, nnx.Module) else {}
        leaves = [np.asarray(jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v).tolist()
                  for v in jax.tree_util.tree_leaves(held)]  # fmt: skip
        return leaves, jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision, vars(nnx.Linear)["__call__"]


class TestRun(RunContract):
    framework = "jax"
    at_least = 165
    # every new form of a node is a program that XLA compiles, for some tenths of a second
    max_examples = 12
    float64_cases = 2
    graphs_every = 6

    def state(self):
        config = jax.config
        return config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_numpy_dtype_promotion

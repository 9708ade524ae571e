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
        return jnp.asarray(
            np.abs(values) + 0.5 if "var" in jax.tree_util.keystr(path) else values, leaf.dtype
        )

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
        self.fc1, self.norm, self.fc2 = (
            nnx.Linear(6, 8, rngs=rngs),
            nnx.LayerNorm(8, rngs=rngs),
            nnx.Linear(8, 3, rngs=rngs),
        )

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


def broken() -> tuple[Any, Any]:
    return Breaks(), {"params": {"first": {"kernel": jnp.eye(6), "bias": jnp.ones(6)}}}


def drawn(*more: str, scope: str = "") -> dict[str, str]:
    """The primitives that random numbers are made of."""
    names = ("random_fold_in", "random_bits", "bitcast_convert_type", *more)
    return {scope + name: "is not described" for name in names}


class TestRecording(AdapterContract):
    framework = "jax"
    lacks = {"in-place": "arrays of JAX are immutable"}  # noqa: RUF012

    def examples(self):
        x, image = noise(2, 6), noise(2, 9, 8, 3)
        nested = ("deep/0", "deep/1/sum", "logits")
        return [
            Example("linen", "plain", lambda: linen(Network(), image), {"0": image}),
            Example("nnx", "plain", Mlp, {"0": x}, ("fc1", "gelu", "norm", "fc2")),
            Example(
                "equinox", "plain", lambda: jax.vmap(Equinox()), {"0": x}, ("layers/0", "relu", "layers/1")
            ),
            Example("twice", "repeated", lambda: linen(Twice(), x), {"0": x}, ("fc", "relu", "fc#1")),
            *map(moved, ("bfloat16", "float8_e4m3fn", "float8_e5m2")),
            Example("nested", "nested", lambda: linen(Nested(), x), {"0": x}, outputs=nested),
            Example("svd", "opaque", lambda: lambda x: jnp.linalg.svd(x)[1], {"0": x}, reasons={"svd": ""}),
            Example("noisy", "random", Noisy, {"0": x}, reasons=drawn("erf_inv")),
            Example("counting", "stateful", Counting, {"0": x}),
            Example(
                "dropout", "training", Drops, {"0": x}, reasons=drawn(scope="drop/"), deterministic=False
            ),
            Example("broken", "raises", broken, {"0": x}, fails_in="inner"),
        ]

    def state(self, model):
        held = nnx.state(model) if isinstance(model, nnx.Module) else {}
        leaves = [np.asarray(jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v).tolist()
                  for v in jax.tree_util.tree_leaves(held)]  # fmt: skip
        return (
            leaves,
            jax.config.jax_enable_x64,
            jax.config.jax_default_matmul_precision,
            vars(nnx.Linear)["__call__"],
        )


class TestRun(RunContract):
    framework = "jax"
    at_least = 165
    # every new form of a node is a program that XLA compiles, for some tenths of a second
    max_examples = 12
    float64_cases = 2
    graphs_every = 12

    def state(self):
        config = jax.config
        return config.jax_enable_x64, config.jax_default_matmul_precision, config.jax_numpy_dtype_promotion


def layer(module: nn.Module, *arrays: np.ndarray) -> Layer:
    """A linen layer with random variables."""
    inputs = {str(place): array for place, array in enumerate(arrays)}
    return Layer(lambda: linen(module, *arrays), inputs, f"{module} on {[a.shape for a in arrays]}")


def last(g: Geometry) -> np.ndarray:
    """Data for a layer, channels last; one more per axis than the window spans."""
    return noise(g.batch, *(n + 1 for n in g.sizes), g.channels)


def convolution(g: Geometry) -> Layer:
    padding = g.padding.upper() if g.batch == 1 else [(k // 2, (k - 1) // 2) for k in g.kernel]
    options = {
        "strides": g.stride,
        "kernel_dilation": g.dilation,
        "feature_group_count": g.groups,
        "use_bias": g.bias,
    }
    return layer(nn.Conv(g.filters, g.kernel, padding=padding, **options), last(g))


def transposed(g: Geometry) -> Layer:
    options = {"strides": g.stride, "kernel_dilation": g.dilation, "transpose_kernel": g.batch == 1}
    return layer(
        nn.ConvTranspose(g.filters, g.kernel, padding=g.padding.upper(), use_bias=g.bias, **options), last(g)
    )


def pool(g: Geometry, kind: Callable[..., Any], more: dict[str, Any]) -> Layer:
    x = last(g)

    def function(x: Any) -> Any:
        return kind(x, g.kernel, g.stride, g.padding.upper(), **more)

    return Layer(lambda: function, {"0": x}, f"{kind.__name__} {more} {g}")


def normalization(g: Geometry, kind: str) -> Layer:
    options = {"use_scale": g.bias, "epsilon": 1e-4}
    build = {
        "BatchNorm": lambda: nn.BatchNorm(use_running_average=True, use_bias=g.batch == 1, **options),
        "LayerNorm": lambda: nn.LayerNorm(use_bias=g.batch == 1, **options),
        "GroupNorm": lambda: nn.GroupNorm(g.groups, **options),
        "InstanceNorm": lambda: nn.InstanceNorm(**options),
        "RMSNorm": lambda: nn.RMSNorm(**options),
    }[kind]
    return layer(build(), noise(*last(g).shape[:-1], 3 * g.channels))


def dense(g: Geometry) -> Layer:
    shape = (g.batch, g.channels) if g.rank == 1 else (g.batch, *g.sizes[:1], g.channels)
    return layer(nn.Dense(g.filters, use_bias=g.bias), noise(*shape))


def recurrent(g: Geometry, cell: Any) -> Layer:
    return layer(nn.RNN(cell(g.filters), reverse=g.bias, keep_order=True), noise(g.batch, 3, g.channels))


def of_equinox(g: Geometry) -> Layer:
    kind = getattr(equinox.nn, f"Conv{g.rank}d")
    options = {
        "stride": g.stride,
        "dilation": g.dilation,
        "groups": g.groups,
        "use_bias": g.bias,
        "padding": g.rank,
    }

    def build() -> Any:
        return jax.vmap(kind(g.channels, g.filters, g.kernel, key=jax.random.key(0), **options))

    return Layer(build, {"0": noise(*g.first)}, f"equinox {kind.__name__} {g}")


def of_nnx(g: Geometry) -> Layer:
    def build() -> Any:
        sizes = g.channels, g.filters, g.kernel, g.stride
        return nnx.Conv(*sizes, padding=g.padding.upper(), rngs=nnx.Rngs(0))

    return Layer(build, {"0": last(g)}, f"nnx Conv {g}")


FUNCTIONS = (
    jax.nn.relu, jax.nn.relu6, jax.nn.elu, jax.nn.selu, jax.nn.celu, jax.nn.gelu, jax.nn.silu, jax.nn.mish, jax.nn.sigmoid,
    jax.nn.softplus, jax.nn.soft_sign, jax.nn.hard_sigmoid, jax.nn.hard_swish, jax.nn.hard_tanh, jax.nn.glu,
    jax.nn.softmax, jax.nn.log_softmax, jax.nn.log_sigmoid, jnp.tanh, jnp.exp, jnp.cumsum, jnp.ravel, jnp.transpose,
)  # fmt: skip


class TestDescribe(DescribeContract):
    framework = "jax"
    max_examples = 5

    def layers(self):
        flat, whole = geometries(groups=(1,)), geometries()
        pools = {"MaxPool": (nn.max_pool, {}), "AvgPool": (nn.avg_pool, {"count_include_pad": False})}
        norms = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")
        cells = (nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.SimpleCell)
        return {
            "Conv": whole.map(convolution),
            "ConvTranspose": flat.map(transposed),
            **{name: flat.map(lambda g, of=of: pool(g, *of)) for name, of in pools.items()},
            **{kind: whole.map(lambda g, kind=kind: normalization(g, kind)) for kind in norms},
            "Dense": flat.map(dense),
            **{cell.__name__: flat.map(lambda g, cell=cell: recurrent(g, cell)) for cell in cells},
            "Embed": st.just(layer(nn.Embed(9, 4), np.arange(8).reshape(2, 4))),
            "equinox": whole.map(of_equinox),
            "nnx": flat.map(of_nnx),
            "functions": st.sampled_from(FUNCTIONS).map(
                lambda f: Layer(lambda: lambda x: f(x), {"0": noise(2, 4, 6)}, f.__name__)
            ),
        }


def test_a_leaky_relu_of_the_default_slope_is_described():
    TestDescribe().check(Layer(lambda: lambda x: jax.nn.leaky_relu(x), {"0": noise(2, 4, 6)}, "leaky_relu"))

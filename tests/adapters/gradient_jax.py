"""Models of JAX, flax and equinox whose gradients are tested."""

from __future__ import annotations

from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from porting_check.testing.gradient_contract import Differentiable
from tests.adapters.gradient_models import (
    FIRST,
    FIRST_BIAS,
    IMAGE,
    INTEGERS,
    ROWS,
    SECOND,
    SECOND_BIAS,
    SOFT,
    normal,
    reversed_gradient,
    two_layers,
    weights,
)


class Dense(nn.Module):
    """Two dense layers by name."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Linear."""
        return nn.Dense(3, name="second")(nn.Dense(4, name="first")(x))


class Convolutions(nn.Module):
    """Convolution, normalisation, dense."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = nn.silu(nn.Conv(4, (3, 3), strides=2, name="conv")(x))
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = x.mean((1, 2))
        return nn.Dense(3, name="head")(x)


class Broken(nn.Module):
    """Raises in its second layer."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """No result."""
        return nn.Dense(3, name="second")(nn.Dense(4, name="first")(x)[:, :2])


class Repeated(nnx.Module):
    """One layer twice."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.fc = nnx.Linear(6, 6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """The layer, and again."""
        return self.fc(self.drop(jnp.sin(self.fc(x))))


class Equinox(equinox.Module):
    """For one row."""

    fc: Any
    norm: Any
    spare: Any

    def __init__(self) -> None:
        self.fc = equinox.nn.Linear(6, 4, key=jax.random.key(1))
        self.norm = equinox.nn.LayerNorm(4)
        self.spare = jnp.ones(3)

    def __call__(self, x: Any) -> Any:
        """A row."""
        return jnp.tanh(self.norm(self.fc(x)))


def linear() -> Any:
    parts = {"first": (FIRST, FIRST_BIAS), "second": (SECOND, SECOND_BIAS)}
    return Dense(), {
        "params": {name: {"kernel": kernel, "bias": bias} for name, (kernel, bias) in parts.items()}
    }


def convolutions() -> Any:
    variables = Convolutions().init(jax.random.key(0), jnp.asarray(IMAGE))
    return Convolutions(), jax.tree_util.tree_map(lambda leaf: leaf + 0.1, variables)


def broken() -> Any:
    return Broken(), {"params": linear()[1]["params"]}


def with_parameters(function: Any) -> Any:
    """A function of parameters, and these."""
    kernel, bias, table = weights((6, 4), (4,), (5, 4))
    return lambda: (function, {"kernel": kernel, "bias": bias, "table": table, "spare": bias})


def frozen(p: Any, x: Any) -> Any:
    return jnp.tanh(x @ p["kernel"] + p["bias"]) * jax.lax.stop_gradient(p["spare"])


def looped(p: Any, x: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        carry = jnp.tanh(carry + row @ p["kernel"]) * p["bias"]
        return carry, jnp.sin(carry)

    return jax.lax.scan(step, jnp.zeros(4, x.dtype), x)[1]


def branching(p: Any, x: Any) -> Any:
    y = x @ p["kernel"]
    return jax.nn.relu(jnp.sin(y)) if y.sum() > -1e9 else y


def with_integers(p: Any, x: Any, i: Any) -> Any:
    return x @ p["kernel"] + p["table"][i].mean(1)


@jax.custom_vjp
def turned(x: Any) -> Any:
    """The argument; the gradient turns round."""
    return x


turned.defvjp(lambda x: (x, None), lambda _, gradient: (-gradient,))


@jax.custom_jvp
def tilted(x: Any) -> Any:
    """The argument; the gradient turns round."""
    return x


tilted.defjvp(lambda values, slopes: (values[0], -slopes[0]))


def whiled(x: Any) -> Any:
    return jax.lax.while_loop(lambda s: s.sum() < 100, lambda s: s * s + 1, x)


def examples() -> list[Differentiable]:
    x, soft = {"0": ROWS}, {"0": SOFT}
    names = ("first/kernel", "first/bias", "second/kernel", "second/bias")
    integers = {"0": SOFT, "1": INTEGERS.astype(np.int32)}
    rules = {
        "turned": lambda x: 2 * x + turned(3 * x),
        "turned, jitted": jax.jit(lambda x: 2 * x + turned(3 * x)),
        "turned, by rows": jax.vmap(lambda x: 2 * x + turned(3 * x)),
        "turned in its place": lambda x: -2 * x - 3 * turned(turned(turned(x))) - 4 * turned(x) - 6 * x,
        "tilted": lambda x: 2 * x + tilted(3 * x),
        "tilted, jitted": jax.jit(lambda x: 2 * x + jax.jit(tilted)(3 * x)),
    }
    return [
        Differentiable("linear", "linear", linear, x, expected=two_layers(names, False)),
        Differentiable("convolutions", "smooth", convolutions, {"0": IMAGE}),
        Differentiable("rows", "unused", lambda: jax.vmap(Equinox()), soft),
        Differentiable("scan", "smooth", with_parameters(looped), {"0": normal(5, 6)}, ("scan:0",)),
        Differentiable("repeated", "repeated", Repeated, soft),
        Differentiable(
            "two outputs",
            "two-outputs",
            with_parameters(lambda p, x: {"a": jnp.sin(x @ p["kernel"]), "b": [x @ p["kernel"] + p["bias"]]}),
            soft,
        ),
        Differentiable(
            "integers", "integers", with_parameters(with_integers), integers, present=("parameter:table",)
        ),
        Differentiable("detached", "detached", with_parameters(frozen), soft, ("parameter:spare",)),
        Differentiable("branching", "branching", with_parameters(branching), soft, ("reduce_sum:0",)),
        Differentiable("dropout", "dropout", Repeated, soft),
        *(
            Differentiable(name, "rule", lambda f=f: f, x, expected=reversed_gradient)
            for name, f in rules.items()
        ),
        Differentiable("raises", "raises", broken, x, says="second"),
        Differentiable("while", "unsupported", lambda: whiled, x, says="while"),
    ]

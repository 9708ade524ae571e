"""Recording JAX models in tests: the models, and one call checked against the unrecorded run and by replay."""

from __future__ import annotations

from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from porting_check_jax import JaxAdapter

from porting_check.neutral.trace import MemorySink, Record, Trace
from porting_check.testing.replay import check_trace

RNG = np.random.default_rng(5)
IMAGE = RNG.standard_normal((2, 8, 8, 3)).astype(np.float32)
FIRST = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
ROWS = RNG.standard_normal((2, 4)).astype(np.float32)
KEY = jax.random.key(0)
LAYERS = ["conv", "norm", "relu", "reduce_window_max", "mean", "head"]


class LinenNet(nn.Module):
    """Convolution, normalisation, pooling, dense."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """Logits."""
        x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.max_pool(x, (2, 2), (2, 2)).mean((1, 2))
        return nn.Dense(5, name="head")(x)


def linen_net() -> tuple[Any, Any]:
    """Module and variables whose statistics are not the trivial ones."""
    variables = LinenNet().init(KEY, jnp.asarray(IMAGE))
    return LinenNet(), jax.tree_util.tree_map(lambda leaf: leaf + 0.1, variables)


class NnxNet(nnx.Module):
    """The same with nnx."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(nnx.max_pool(x, (2, 2), (2, 2)).mean((1, 2)))


class EquinoxNet(equinox.Module):
    """One image, channels first."""

    conv: Any
    layers: list[Any]

    def __init__(self) -> None:
        self.conv = equinox.nn.Conv2d(3, 4, 3, key=KEY)
        self.layers = [equinox.nn.Linear(4, 4, key=KEY), equinox.nn.Linear(4, 5, key=KEY)]

    def __call__(self, x: Any) -> Any:
        """Logits."""
        x = jax.nn.relu(self.conv(x)).mean((1, 2))
        for layer in self.layers:
            x = layer(x)
        return x


def record(model: Any, *arrays: Any, unroll: bool = False, **named: Any) -> Trace:
    """The trace of one run.

    Args:
        model: any model of JAX.
        arrays: positional inputs.
        unroll: enter loops.
        named: keyword inputs.
    """
    adapter = JaxAdapter()
    adapter.unroll = unroll
    inputs = {str(place): np.asarray(array) for place, array in enumerate(arrays)}
    inputs.update({name: np.asarray(array) for name, array in named.items()})
    sink = MemorySink()
    adapter.record(model, inputs, sink)
    return sink.trace("model", adapter.environment())


def checked(
    model: Any, *arrays: Any, opaque: tuple[str, ...] = (), rtol: float = 1e-5, unroll: bool = False
) -> Trace:
    """A trace whose outputs are those of the unrecorded run, and whose described records replay."""
    trace = record(model, *arrays, unroll=unroll)
    expected = JaxAdapter().predict(model, {str(place): np.asarray(a) for place, a in enumerate(arrays)})
    assert [port.name for port in trace.outputs] == list(expected)
    for port in trace.outputs:
        found = np.asarray(trace.values[port.value])
        assert found.dtype == expected[port.name].dtype
        if found.dtype.kind in "fc":
            np.testing.assert_allclose(found, expected[port.name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, expected[port.name])
    assert tuple(check_trace(trace, rtol=rtol)) == opaque, [r.reason for r in trace.records if r.opaque]
    return trace


def names(trace: Trace) -> list[str]:
    """The ids of the records."""
    return [record.id for record in trace.records]


def operators(record: Record) -> list[str]:
    """The ONNX operators of a record."""
    return [node.op_type for node in record.nodes]


def by_name(trace: Trace, name: str) -> Record:
    """The record of an id."""
    return next(record for record in trace.records if record.id == name)

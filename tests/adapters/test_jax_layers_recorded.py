"""Layers of flax and equinox as the recorder sees them: one described record each, inside ``vmap`` too."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.adapters.jax_layers import noise
from tests.adapters.jax_recording import by_name, checked, operators

KEY = jax.random.key(3)


def varied(build: Any, seed: int = 1) -> Any:
    """What a function would build, its floats random numbers, positive where a variance must be.

    Nothing runs: JAX would compile an initialiser for every shape.
    """
    rng = np.random.default_rng(seed)

    def vary(path: Any, leaf: Any) -> Any:
        if not hasattr(leaf, "dtype"):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        values = rng.standard_normal(leaf.shape) * 0.3 * jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(
            np.abs(values) + 0.5 if "var" in jax.tree_util.keystr(path) else values, leaf.dtype
        )

    return jax.tree_util.tree_map_with_path(vary, eqx.filter_eval_shape(build))


def weights(module: nn.Module, *args: Any) -> Any:
    """Random variables of a linen module."""
    return varied(lambda: module.init(KEY, *args))


def kinds(trace: Any) -> dict[str, str]:
    """What each record is, by its id."""
    return {record.id: record.operator for record in trace.records}


class Picture(nn.Module):
    """Every kind of linen layer that pictures go through."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(8, (3, 3), strides=2, name="conv")(x)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.ConvTranspose(8, (3, 3), strides=(2, 2), name="up")(nn.relu(x))
        x = nn.InstanceNorm(name="instance")(nn.GroupNorm(4, name="group")(x))
        x = nn.Dropout(0.5, deterministic=True, name="drop")(nn.PReLU(name="prelu")(x))
        return nn.Dense(5, name="dense")(x.reshape(x.shape[0], -1))


def test_every_layer_of_a_linen_network_is_one_record():
    module, x = Picture(), noise(2, 7, 8, 3)
    trace = checked((module, weights(module, x)), x)
    found = kinds(trace)
    for name, kind in (
        ("conv", "Conv"),
        ("norm", "BatchNorm"),
        ("up", "ConvTranspose"),
        ("group", "GroupNorm"),
        ("instance", "InstanceNorm"),
        ("prelu", "PReLU"),
        ("drop", "Dropout"),
        ("dense", "Dense"),
    ):
        assert found[name] == f"flax.linen.{kind}"
    assert operators(by_name(trace, "norm")) == ["BatchNormalization"]
    assert operators(by_name(trace, "dense")) == ["Gemm"]
    assert [port.value for port in by_name(trace, "conv").parameters] == [
        "parameter:conv/kernel",
        "parameter:conv/bias",
    ]


class Text(nn.Module):
    """Embedding, attention and recurrence."""

    cell: str = "OptimizedLSTMCell"

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        x = nn.Embed(11, 8, name="embed")(tokens)
        mask = nn.make_causal_mask(tokens)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="norm")(x), mask=mask)
        x = nn.RNN(getattr(nn, self.cell)(6, parent=None), name="rnn")(nn.RMSNorm(name="rms")(x))
        sides = [nn.RNN(nn.GRUCell(4, parent=None), parent=None) for _ in range(2)]
        return nn.Bidirectional(*sides, name="both")(x)


@pytest.mark.parametrize("cell", ["OptimizedLSTMCell", "SimpleCell"])
def test_a_linen_network_for_text(cell):
    module, tokens = Text(cell), np.array([[1, 2, 3, 4], [5, 6, 7, 10]], np.int32)
    trace = checked((module, weights(module, tokens)), tokens)
    found = kinds(trace)
    for name, kind in (
        ("embed", "Embed"),
        ("attention", "MultiHeadDotProductAttention"),
        ("norm", "LayerNorm"),
        ("rms", "RMSNorm"),
        ("rnn", "RNN"),
        ("both", "Bidirectional"),
    ):
        assert found[name] == f"flax.linen.{kind}", found


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell"])
def test_a_lone_linen_cell_and_sequence(cell):
    module, x = nn.RNN(getattr(nn, cell)(4), return_carry=True), noise(2, 5, 3)
    trace = checked((module, weights(module, x)), x)
    assert [record.operator for record in trace.records] == ["flax.linen.RNN"]

    def step(variables: Any, carry: Any, inputs: Any) -> Any:
        start = (carry, carry * 2) if cell == "LSTMCell" else carry
        return getattr(nn, cell)(4).apply(variables, start, inputs)

    start = (noise(2, 4), noise(2, 4)) if cell == "LSTMCell" else noise(2, 4)
    held = weights(getattr(nn, cell)(4), start, noise(2, 3))
    trace = checked((step, held), noise(2, 4), noise(2, 3))
    assert trace.records[-1].operator == f"flax.linen.{cell}"


class Mixed(nnx.Module):
    """Layers of nnx."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.up = nnx.ConvTranspose(8, 4, (2, 2), strides=(2, 2), transpose_kernel=True, rngs=rngs)
        self.group = nnx.GroupNorm(4, 2, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(4, 6, rngs=rngs), rngs=rngs)
        sides = [nnx.RNN(nnx.OptimizedLSTMCell(6, 3, rngs=rngs), rngs=rngs) for _ in range(2)]
        self.both = nnx.Bidirectional(*sides, rngs=rngs)
        self.dense = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.group(self.up(nnx.relu(self.norm(self.conv(x)))))
        x = self.drop(x).reshape(x.shape[0], -1, 4)
        return self.dense(self.both(self.rnn(self.attention(x))))


def test_every_layer_of_an_nnx_network_is_one_record():
    graph, state = nnx.split(nnx.eval_shape(lambda: Mixed(nnx.Rngs(0))))
    model = nnx.merge(graph, varied(lambda: state))
    trace = checked(model, noise(1, 2, 3, 3))
    found = kinds(trace)
    for name in ("conv", "norm", "up", "group", "drop", "attention", "rnn", "both", "dense"):
        assert found[name] == f"flax.nnx.{type(getattr(model, name)).__name__}", found


class Sample(eqx.Module):
    """Layers of equinox, which see one sample."""

    conv: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    group: eqx.nn.GroupNorm
    pool: eqx.nn.MaxPool2d
    mean: eqx.nn.AdaptiveAvgPool2d
    linear: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    cell: eqx.nn.LSTMCell

    def __init__(self) -> None:
        self.conv = eqx.nn.Conv2d(3, 4, 3, padding=1, key=KEY)
        self.up = eqx.nn.ConvTranspose2d(4, 4, 2, 2, key=KEY)
        self.group = eqx.nn.GroupNorm(2, 4)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.mean = eqx.nn.AdaptiveAvgPool2d(2)
        self.linear = eqx.nn.Linear(4, 6, key=KEY)
        self.norm = eqx.nn.LayerNorm(6)
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=KEY)
        self.cell = eqx.nn.LSTMCell(6, 3, key=KEY)

    def __call__(self, x: Any) -> Any:
        x = self.mean(self.pool(self.group(self.up(jax.nn.relu(self.conv(x))))))
        x = self.attention(*[x.reshape(4, 4)] * 3)
        x = self.norm(self.linear(x[0]))
        return self.cell(x, (jnp.zeros(3), jnp.ones(3)))


@pytest.mark.parametrize("mapped", [False, True])
def test_every_layer_of_an_equinox_network_is_one_record(mapped):
    model = varied(Sample)
    x = noise(2, 3, 4, 4) if mapped else noise(3, 4, 4)
    trace = checked(jax.vmap(model) if mapped else model, x)
    found = kinds(trace)
    names = list(vars(model))
    ends = {name.rpartition("/")[2]: kind for name, kind in found.items()}
    for name in names:
        assert ends.get(name) == f"equinox.nn.{type(getattr(model, name)).__name__}", found


def test_equinox_batch_norm_inside_vmap():
    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm

        def __init__(self) -> None:
            self.conv = eqx.nn.Conv2d(3, 4, 3, key=KEY)
            self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")

        def __call__(self, x: Any, state: Any) -> Any:
            return self.norm(self.conv(x), state)

    model, state = eqx.nn.make_with_state(Net)()
    index = model.norm.batch_state_index
    state = state.set(index, (jnp.asarray(noise(4)), jnp.asarray(np.abs(noise(4, seed=1)) + 0.5)))
    model = eqx.nn.inference_mode(varied(lambda: model))

    def run(x: Any) -> Any:
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)[0]

    trace = checked(run, noise(2, 3, 5, 6))
    record = next(record for record in trace.records if record.operator == "equinox.nn.BatchNorm")
    assert "BatchNormalization" in operators(record)


@pytest.mark.parametrize("shape", [(3, 5, 5), (3, 2, 5, 5)])
def test_masks_states_and_indices_inside_vmap(shape):
    class Net(eqx.Module):
        attention: eqx.nn.MultiheadAttention
        cell: eqx.nn.GRUCell
        table: eqx.nn.Embedding

        def __init__(self) -> None:
            self.attention = eqx.nn.MultiheadAttention(2, 4, key=KEY)
            self.cell = eqx.nn.GRUCell(4, 3, key=KEY)
            self.table = eqx.nn.Embedding(7, 4, key=KEY)

        def __call__(self, x: Any, mask: Any, index: Any) -> Any:
            return self.cell(self.attention(x, x, x, mask=mask)[0], jnp.zeros(3)), self.table(index)

    mask, index = noise(*shape) > -0.5, np.arange(3, dtype=np.int32)
    found = kinds(checked(jax.vmap(varied(Net)), noise(3, 5, 4), mask, index))
    assert {"attention", "cell", "table"} <= set(found), found

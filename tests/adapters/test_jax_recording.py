"""How JAX models are recorded: flax linen, flax nnx, equinox, plain functions; and what is left as it was."""

from __future__ import annotations

import functools
from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from jax import lax
from porting_check_jax import JaxAdapter

from porting_check.neutral.errors import WeightsError
from porting_check.neutral.trace import MemorySink
from tests.adapters.jax_recording import (
    FIRST,
    IMAGE,
    KEY,
    LAYERS,
    RNG,
    ROWS,
    EquinoxNet,
    NnxNet,
    by_name,
    checked,
    linen_net,
    names,
    operators,
    record,
)

# Libraries.


def test_linen_layers_are_records_under_their_paths() -> None:
    """Layers whole, functions between them by name, parameters under the layer's path."""
    model = linen_net()
    trace = checked(model, IMAGE)
    assert names(trace) == LAYERS
    assert [operators(r)[0] for r in trace.records] == [
        "Conv", "BatchNormalization", "Relu", "MaxPool", "ReduceMean", "Gemm",
    ]  # fmt: skip
    assert set(trace.parameters()) == set(JaxAdapter().parameters(model))
    assert {"conv/kernel", "norm/scale", "norm/mean", "head/bias"} <= set(trace.parameters())
    assert by_name(trace, "conv").location.startswith("jax_recording.py:")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda module, variables: (module.apply, variables),
        lambda module, variables: (jax.jit(module.apply), variables),
        lambda module, variables: functools.partial(module.apply, variables, train=False),
        lambda module, variables: module.bind(variables),
    ],
)
def test_other_ways_to_hand_in_a_linen_model(wrap: Any) -> None:
    """``apply`` jitted, with its variables beside it or inside a partial; a bound module."""
    trace = checked(wrap(*linen_net()), IMAGE)
    assert names(trace) == LAYERS and "conv/kernel" in trace.parameters()


def test_a_jitted_function_around_a_linen_model_shows_its_layers() -> None:
    """Also after it was compiled: weights that it captured are constants."""
    module, variables = linen_net()
    function = jax.jit(lambda x: module.apply(variables, x))
    function(IMAGE)
    assert names(checked(function, IMAGE)) == LAYERS


def test_nnx_layers_are_records_under_their_paths() -> None:
    """By attribute, jitted too."""
    model = NnxNet()
    assert names(checked(model, IMAGE)) == LAYERS
    trace = checked(nnx.jit(lambda x: model(x)), IMAGE)
    assert names(trace) == LAYERS and "norm/var" in trace.parameters()


@pytest.mark.parametrize("wrap", [jax.vmap, equinox.filter_vmap, lambda m: equinox.filter_jit(jax.vmap(m))])
def test_equinox_layers_keep_their_paths_inside_vmap(wrap: Any) -> None:
    """Also where equinox takes the module apart and puts it together again."""
    trace = checked(wrap(EquinoxNet()), FIRST)
    assert names(trace) == ["conv", "relu", "mean", "layers/0", "layers/1"]
    assert set(trace.parameters()) == set(JaxAdapter().parameters(EquinoxNet()))


def test_equinox_module_on_one_sample() -> None:
    """As equinox' layers are written."""
    assert names(checked(EquinoxNet(), FIRST[0])) == ["conv", "relu", "mean", "layers/0", "layers/1"]


def test_a_layer_called_twice_is_counted() -> None:
    """One name, two calls, the same weights."""

    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            dense = nn.Dense(4, name="dense")
            return dense(dense(x))

    model = Twice(), Twice().init(KEY, ROWS)
    trace = checked(model, ROWS)
    assert names(trace) == ["dense", "dense#1"]
    assert trace.records[0].parameters == trace.records[1].parameters


def test_a_subclass_of_a_library_layer_is_entered() -> None:
    """Its class does not say what it computes."""

    class Scaled(nn.Dense):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return super().__call__(x) * 2

    class Own(nnx.Linear):
        def __call__(self, x: Any) -> Any:
            return super().__call__(x) * 2

    trace = checked((Scaled(3), Scaled(3).init(KEY, ROWS)), ROWS)
    assert names(trace)[-1] == "mul" and len(trace.records) > 1

    class Net(nnx.Module):
        def __init__(self) -> None:
            self.own = Own(4, 3, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return self.own(x)

    assert names(checked(Net(), ROWS)) == ["own/dot_general", "own/add", "own/mul"]


def test_python_control_flow_on_values_is_followed() -> None:
    """Values are there while the model runs."""

    def model(x: Any) -> Any:
        return jnp.exp(x) if x.sum() > 0 else jnp.tanh(x)

    assert names(checked(model, np.abs(ROWS)))[-1] == "exp"
    assert names(checked(model, -np.abs(ROWS)))[-1] == "tanh"


def test_the_branch_that_is_taken_is_entered() -> None:
    """``cond`` and ``switch``."""

    def model(x: Any) -> Any:
        x = lax.cond(x.sum() > 0, jnp.exp, jnp.tanh, x)
        return lax.switch(2, [jnp.sin, jnp.cos, jnp.abs], x)

    assert [n for n in names(checked(model, np.abs(ROWS))) if n in ("exp", "tanh", "sin", "abs")] == [
        "exp",
        "abs",
    ]


def loop(x: Any) -> Any:
    """Three steps of scan, then a while."""
    last, rows = lax.scan(lambda c, r: (c * 0.5 + r, jnp.tanh(c)), x[0], x)
    return lax.while_loop(lambda c: c.sum() < 50, lambda c: c + 7, jnp.abs(last)), rows


def test_loops_are_opaque_unless_unrolled() -> None:
    """One record with a reason; on request every step."""
    trace = checked(loop, ROWS, opaque=("scan", "while"))
    assert "PORTING_CHECK_UNROLL" in by_name(trace, "scan").reason
    unrolled = names(checked(loop, ROWS, unroll=True))
    assert {"scan/0/mul", "scan/1/add", "scan/1/tanh", "while/0/add", "while/condition"} & set(unrolled) >= {
        "scan/0/mul", "scan/1/add", "scan/1/tanh", "while/0/add",
    }  # fmt: skip


def test_remat_is_entered_and_named_scopes_are_part_of_the_names() -> None:
    """What is inside is what is computed."""

    def model(x: Any) -> Any:
        with jax.named_scope("outer"):
            x = jax.checkpoint(lambda y: jnp.sin(y))(x)
        return x * 2

    assert names(checked(model, ROWS)) == ["outer/sin", "mul"]


def test_custom_derivatives_change_nothing() -> None:
    """The function computes as it is written."""

    @jax.custom_vjp
    def double(x: Any) -> Any:
        return x * 2

    double.defvjp(lambda x: (x * 2, None), lambda _, g: (g,))
    assert names(checked(double, ROWS)) == ["mul"]
    assert names(checked(jax.jit(double), ROWS)) == ["mul"]


def test_gradients_inside_a_model_are_recorded() -> None:
    """``jax.grad`` is primitives in the end."""
    checked(lambda x: jax.grad(lambda y: (jnp.tanh(y) ** 2).sum())(x), ROWS)


def test_attention_and_recurrent_layers_of_linen() -> None:
    """Whole where they have a description, entered where not; the values are the same."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x, x)
            return nn.RNN(nn.LSTMCell(5), name="rnn")(nn.LayerNorm(name="norm")(x))

    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    found = names(checked((Net(), Net().init(KEY, x)), x, rtol=1e-4))
    assert {"norm", "add"} <= set(found) and any(name.startswith("attention") for name in found)


def test_lifted_linen_modules_keep_their_names() -> None:
    """Inside ``nn.remat`` layers are operators under the layer's name."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.remat(nn.Dense)(3, name="again")(x)

    trace = checked((Net(), Net().init(KEY, ROWS)), ROWS)
    assert all(name.startswith("again") for name in names(trace)), names(trace)
    assert set(trace.parameters()) == {"again/kernel", "again/bias"}


def test_equinox_batch_norm_with_its_state_inside_vmap() -> None:
    """The state is handed through."""
    norm, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(3, axis_name="batch", mode="ema")
    norm = equinox.nn.inference_mode(norm)

    def model(x: Any) -> Any:
        return jax.vmap(norm, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(x, state)[0]

    trace = checked(model, FIRST)
    assert all(record.nodes for record in trace.records)


# Inputs, outputs, parameters.


def test_trees_of_parameters_and_outputs_are_named_by_path() -> None:
    """Dicts and lists; numpy leaves too."""
    params = {
        "layers": [{"w": np.eye(4, dtype=np.float32)}, {"w": np.ones((4, 4), np.float32)}],
        "unused": np.ones(2),
    }

    def model(params: Any, x: Any) -> Any:
        for layer in params["layers"]:
            x = x @ layer["w"]
        return {"boxes": [x, x + 1], "logits": x.sum()}

    trace = checked((model, params), ROWS)
    assert [port.name for port in trace.outputs] == ["boxes/0", "boxes/1", "logits"]
    assert set(trace.parameters()) == {"layers/0/w", "layers/1/w"}
    assert set(JaxAdapter().parameters((model, params))) == {"layers/0/w", "layers/1/w", "unused"}


def test_inputs_by_keyword_and_an_input_given_back() -> None:
    """Ports bear the names that the caller used."""
    trace = record(lambda x, scale: (x, x * scale), ROWS, scale=np.float32(3))
    assert [port.value for port in trace.inputs] == ["input:0", "input:scale"]
    assert trace.outputs[0].value == "input:0"


def test_sixty_four_bits_enter_as_thirty_two_and_that_is_noted() -> None:
    """As JAX does itself; the reader is told."""
    adapter, sink = JaxAdapter(), MemorySink()
    adapter.record(lambda x: x * 2, {"0": ROWS.astype(np.float64)}, sink)
    assert "float64 enters as float32" in adapter.notes[0] and sink.values["input:0"].dtype == np.float32


def test_random_numbers_with_a_key_of_the_code_are_constants() -> None:
    """They depend on no input."""
    trace = checked(lambda x: x + jax.random.normal(jax.random.key(1), (4,)), ROWS)
    assert names(trace) == ["add"]


def test_writing_parameters_reaches_the_callers_model_or_none() -> None:
    """Linen, nnx, equinox, and a pair; a wrong shape leaves everything alone."""
    adapter = JaxAdapter()
    for model in (
        linen_net(),
        NnxNet(),
        EquinoxNet(),
        (lambda p, x: x @ p["w"], {"w": np.ones((4, 4), np.float32)}),
    ):
        before = adapter.parameters(model)
        name = next(iter(before))
        with pytest.raises(WeightsError, match="nothing was written"):
            adapter.assign(model, {name: before[name] + 1, "nowhere": before[name]})
        with pytest.raises(WeightsError, match="shape"):
            adapter.assign(model, {name: np.zeros((9, 9), np.float32)})
        np.testing.assert_array_equal(adapter.parameters(model)[name], before[name])
        adapter.assign(model, {name: before[name] + 1})
        np.testing.assert_array_equal(adapter.parameters(model)[name], before[name] + 1)


def test_frozen_variables_are_refused_with_what_to_do() -> None:
    """A FrozenDict cannot be changed in place, nor can what filter_jit holds."""
    module, variables = linen_net()
    adapter = JaxAdapter()
    for model in ((module, freeze(variables)), equinox.filter_jit(EquinoxNet())):
        name, value = next(iter(adapter.parameters(model).items()))
        with pytest.raises(WeightsError, match="plain dicts"):
            adapter.assign(model, {name: value})


def test_names_that_two_collections_share_begin_with_the_collection() -> None:
    """Otherwise they would stand for two arrays."""

    class Both(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            w = self.param("w", nn.initializers.ones, (4,))
            return x * w + self.variable("state", "w", lambda: jnp.ones(4)).value

    model = Both(), Both().init(KEY, ROWS)
    assert set(JaxAdapter().parameters(model)) == {"params/w", "state/w"}
    assert set(checked(model, ROWS).parameters()) == {"params/w", "state/w"}

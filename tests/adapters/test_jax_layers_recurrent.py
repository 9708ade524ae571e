"""Recurrent layers and attention of flax linen, flax nnx and equinox against their nodes in float64."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from porting_check_jax.draft import Undescribed

from tests.adapters.jax_layers import describe, equinox, linen, noise, of_nnx

few = settings(max_examples=10, deadline=None)
KEY = jax.random.key(3)
CELLS = ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"]
cells = st.sampled_from(CELLS)
functions = st.sampled_from([nn.tanh, nn.relu, nn.soft_sign, nn.elu, nn.softplus])
SINGLE = (1e-5, 1e-6)
"""nnx takes the softmax in float32 always (jax.nn.dot_product_attention)."""
OPERATORS = {"LSTMCell": "LSTM", "OptimizedLSTMCell": "LSTM", "GRUCell": "GRU", "SimpleCell": "RNN"}


def carry(kind: str, lead: tuple[int, ...], size: int) -> Any:
    """A state that is not zero: (c, h) of an LSTM, h of the others."""
    pair = noise(*lead, size, seed=5), noise(*lead, size, seed=6)
    return pair if OPERATORS[kind] == "LSTM" else pair[0]


@few
@given(cells, st.sampled_from([(), (2,), (2, 3)]), functions, st.booleans())
def test_one_step_of_a_flax_cell(kind, lead, function, in_nnx):
    state, x = carry(kind, lead, 4), noise(*lead, 3)
    if in_nnx:
        wide = kind != "SimpleCell"  # which computes in float32 unless told otherwise
        build = lambda rngs: getattr(nnx, kind)(3, 4, activation_fn=function, rngs=rngs)  # noqa: E731
        record = of_nnx(build, state, x, wide=wide)
    else:
        record = linen(getattr(nn, kind)(4, activation_fn=function), state, x)
    node = next(node for node in record.nodes if node.op_type == OPERATORS[kind])
    assert node.attributes["hidden_size"] == 4
    assert node.attributes.get("linear_before_reset", 1) == 1


def layers(kind: str, in_nnx: bool, **options: Any) -> Any:
    """An RNN of 3 inputs and 4 features: a linen module, or a function that builds an nnx one."""
    if not in_nnx:
        return nn.RNN(getattr(nn, kind)(4, parent=None), **options)
    return lambda rngs: nnx.RNN(getattr(nnx, kind)(3, 4, rngs=rngs), rngs=rngs, **options)


def check(layer: Any, in_nnx: bool, *args: Any, **kwargs: Any) -> Any:
    """Check a layer of either library."""
    return (of_nnx if in_nnx else linen)(layer, *args, wide=False, **kwargs)  # flax starts from float32


@few
@given(cells, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_a_sequence(kind, in_nnx, time_major, reverse, keep_order, return_carry, started):
    options = {"time_major": time_major, "reverse": reverse, "keep_order": keep_order}
    layer = layers(kind, in_nnx, return_carry=return_carry, **options)
    x = noise(5, 2, 3) if time_major else noise(2, 5, 3)
    start = {"initial_carry": carry(kind, (2,), 4)} if started else {}
    record = check(layer, in_nnx, x, **start)
    assert [node.op_type for node in record.nodes].count(OPERATORS[kind]) == 1


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 5, 3)])
def test_sequences_with_no_and_with_two_batch_axes(shape):
    linen(layers("GRUCell", False), noise(*shape), wide=False)


def test_options_of_the_call_win_over_those_of_the_layer():
    options = {"time_major": True, "reverse": True, "return_carry": True}
    record = linen(layers("LSTMCell", False), noise(5, 2, 3), wide=False, **options)
    assert len(record.outputs) == 3


@few
@given(cells, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_both_directions(kind, in_nnx, time_major, return_carry, started):
    if in_nnx:

        def layer(rngs: Any) -> Any:
            sides = [nnx.RNN(getattr(nnx, kind)(3, 4, rngs=rngs), rngs=rngs) for _ in range(2)]
            return nnx.Bidirectional(*sides, time_major=time_major, return_carry=return_carry, rngs=rngs)
    else:
        sides = [layers(kind, False), layers(kind, False)]
        layer = nn.Bidirectional(*sides, time_major=time_major, return_carry=return_carry)
    start = {"initial_carry": (carry(kind, (2,), 4), carry(kind, (2,), 4))} if started else {}
    x = noise(5, 2, 3) if time_major else noise(2, 5, 3)
    record = check(layer, in_nnx, x, **start)
    node = next(node for node in record.nodes if node.op_type == OPERATORS[kind])
    assert node.attributes["direction"] == "bidirectional"


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.RNN(nn.MGUCell(4, parent=None)), "MGUCell"),
        (nn.RNN(nn.GRUCell(4, activation_fn=jnp.sin, parent=None)), "activation 'sin'"),
        (nn.RNN(nn.SimpleCell(4, residual=True, parent=None)), "residual"),
        (nn.RNN(nn.GRUCell(4, carry_init=nn.initializers.ones, parent=None)), "carry_init"),
    ],
    ids=str,
)
def test_what_no_operator_says_is_refused(layer, reason):
    with pytest.raises(Undescribed, match=reason):
        linen(layer, noise(2, 5, 3), wide=False)


def test_a_cell_whose_parameters_the_layer_does_not_hold_is_refused():
    """A cell made in the ``@compact`` method of a parent belongs to the parent."""
    with pytest.raises(Undescribed, match="held elsewhere"):
        describe(nn.RNN(nn.GRUCell(4)), {}, noise(2, 5, 4), noise(2, 5, 3))


def test_lengths_of_sequences_are_refused():
    with pytest.raises(Undescribed, match="seq_lengths"):
        linen(layers("GRUCell", False), noise(2, 5, 3), wide=False, seq_lengths=jnp.array([3, 5]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_equinox_cells(kind, bias):
    build = functools.partial(getattr(eqx.nn, kind), 3, 4, bias, key=KEY)
    state = (noise(4, seed=5), noise(4, seed=6)) if kind == "LSTMCell" else noise(4, seed=5)
    record = equinox(build, noise(3), state)
    assert len(record.parameters) == {"LSTMCell": 2 + bias, "GRUCell": 2 + 2 * bias}[kind]


# Attention.


@few
@given(
    st.data(),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(), (2,), (2, 3)]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_attention_of_flax(draw, heads, lead, bias, normalised, in_nnx):
    query, key, value = noise(*lead, 4, 6), noise(*lead, 5, 6, seed=1), noise(*lead, 5, 6, seed=2)
    inputs = draw.draw(st.sampled_from([(query,), (query, key), (query, key, value)]))
    width = (4 if len(inputs) == 1 else 5,)
    masked = draw.draw(st.sampled_from(["none", "booleans", "numbers"]))
    options = {
        "num_heads": heads,
        "qkv_features": 8,
        "out_features": 7,
        "use_bias": bias,
        "normalize_qk": normalised,
    }
    kwargs: dict[str, Any] = {}
    if masked != "none":
        visible = noise(*lead, 1, 4, *width, seed=3) > -0.5
        kwargs["mask"] = visible if masked == "booleans" else visible.astype("float32")
    if in_nnx:
        record = of_nnx(
            lambda rngs: nnx.MultiHeadAttention(in_features=6, decode=False, rngs=rngs, **options),
            *inputs,
            tolerance=SINGLE,
            **kwargs,
        )
    else:
        record = linen(nn.MultiHeadDotProductAttention(**options), *inputs, **kwargs)
    assert [node.op_type for node in record.nodes].count("Softmax") == 1


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_causal_attention_of_nnx_with_shared_heads(rate):
    options = {"num_kv_heads": 2, "dropout_rate": rate, "deterministic": True, "decode": False}
    of_nnx(
        lambda rngs: nnx.MultiHeadAttention(4, 6, 8, rngs=rngs, **options),
        noise(2, 5, 6),
        is_causal=True,
        tolerance=SINGLE,
    )


def test_a_query_that_may_attend_to_nothing_attends_to_all():
    mask = noise(2, 1, 4, 4) > 0
    mask[0, 0, 1] = False
    linen(nn.MultiHeadAttention(2), noise(2, 4, 6), mask=mask)
    of_nnx(
        lambda rngs: nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs),
        noise(2, 4, 6),
        mask=mask,
        tolerance=SINGLE,
    )


def test_self_attention_takes_its_mask_by_place():
    mask = nn.make_causal_mask(jnp.ones((2, 4)))
    linen(nn.SelfAttention(2), noise(2, 4, 6), mask)


def test_attention_that_drops_or_decodes_is_refused():
    with pytest.raises(Undescribed, match="training mode"):
        of_nnx(
            lambda rngs: nnx.MultiHeadAttention(
                2, 6, dropout_rate=0.5, deterministic=False, decode=False, rngs=rngs
            ),
            noise(2, 4, 6),
        )


@few
@given(st.booleans(), st.booleans(), st.sampled_from(["none", "one", "per head"]), st.integers(1, 3))
def test_attention_of_equinox(bias, other_sizes, masked, heads):
    sizes = (
        {"key_size": 5, "value_size": 4, "output_size": 7, "qk_size": 3, "vo_size": 2} if other_sizes else {}
    )
    biases = {f"use_{name}_bias": bias for name in ("query", "key", "value", "output")}
    build = functools.partial(eqx.nn.MultiheadAttention, heads, 6, key=KEY, **sizes, **biases)
    inputs = noise(4, 6), noise(5, 5 if other_sizes else 6, seed=1), noise(5, 4 if other_sizes else 6, seed=2)
    shape = {"none": None, "one": (4, 5), "per head": (heads, 4, 5)}[masked]
    kwargs = {} if shape is None else {"mask": noise(*shape, seed=3) > -0.5}
    equinox(build, *inputs, **kwargs)

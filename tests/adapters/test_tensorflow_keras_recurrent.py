"""Recurrent, distributed and attention layers of Keras against their nodes in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_keras import check_layer, noise, randomise, trace_of

few = settings(max_examples=10, deadline=None)
kinds = st.sampled_from(["LSTM", "GRU", "SimpleRNN"])
inner = st.sampled_from(["tanh", "relu", "softsign", "elu", "hard_sigmoid", None])
sequence = noise(3, 5, 4)


@few
@given(kinds, st.booleans(), st.booleans(), st.booleans(), st.booleans(), inner)
def test_one_way(kind, sequences, state, backwards, bias, activation):
    options = {
        "return_sequences": sequences,
        "return_state": state,
        "go_backwards": backwards,
        "use_bias": bias,
    }
    record = check_layer(getattr(layers, kind)(6, activation=activation, **options), sequence)
    assert record.nodes[-1].op_type != "Identity"
    assert [node.op_type for node in record.nodes].count("RNN" if kind == "SimpleRNN" else kind) == 1


@few
@given(st.booleans(), st.booleans(), st.sampled_from(["sigmoid", "hard_sigmoid", "tanh"]))
def test_gru_reset_before_and_after(after, bias, recurrent):
    layer = layers.GRU(
        6, reset_after=after, use_bias=bias, recurrent_activation=recurrent, return_sequences=True
    )
    record = check_layer(layer, sequence)
    node = next(node for node in record.nodes if node.op_type == "GRU")
    assert node.attributes["linear_before_reset"] == int(after)


@few
@given(kinds, st.sampled_from(["concat", "sum", "ave", "mul", None]), st.booleans(), st.booleans())
def test_bidirectional(kind, mode, sequences, state):
    layer = getattr(layers, kind)(4, return_sequences=sequences, return_state=state)
    check_layer(layers.Bidirectional(layer, merge_mode=mode), sequence)


@pytest.mark.parametrize(("kind", "states"), [("LSTM", 2), ("GRU", 1), ("SimpleRNN", 1)])
@pytest.mark.parametrize("both", [False, True])
def test_an_initial_state_is_an_input(kind, states, both):
    inputs = keras.Input((5, 4))
    count = states * (2 if both else 1)
    starts = [keras.Input((6,)) for _ in range(count)]
    layer = getattr(layers, kind)(6, return_sequences=True, return_state=True)
    layer = layers.Bidirectional(layer, name="rnn") if both else layer
    model = randomise(keras.Model([inputs, *starts], layer(inputs, initial_state=starts)))
    trace = trace_of(model, sequence, *[noise(3, 6, seed=i) for i in range(count)])
    assert check_trace(trace) == []
    assert len(trace.records) == 1
    assert len(trace.records[0].inputs) == 1 + count


def test_the_gates_of_an_lstm_are_reordered_for_onnx():
    record = check_layer(layers.LSTM(4), sequence)
    concat = next(node for node in record.nodes if node.op_type == "Concat" and len(node.inputs) == 4)
    split = next(node for node in record.nodes if len(node.outputs) == 4)
    assert [split.outputs.index(name) for name in concat.inputs] == [0, 3, 1, 2]


def test_masked_time_steps_make_a_recurrent_layer_opaque_unless_nothing_is_hidden():
    inputs = keras.Input((6,))
    embedded = layers.Embedding(9, 4, mask_zero=True, name="table")(inputs)
    model = randomise(keras.Model(inputs, layers.LSTM(3, name="lstm")(embedded)))
    hidden = trace_of(model, np.array([[1, 2, 3, 0, 0, 0]], np.int32))
    assert {record.name for record in hidden.records if record.opaque} == {"lstm"}
    assert "mask" in next(record.reason for record in hidden.records if record.opaque)
    shown = trace_of(model, np.array([[1, 2, 3, 4, 5, 6]], np.int32))
    assert check_trace(shown) == []


def test_stateful_layers_keep_their_states_and_are_opaque():
    inputs = keras.Input(batch_shape=(3, 5, 4))
    layer = layers.LSTM(3, stateful=True, name="lstm")
    model = randomise(keras.Model(inputs, layer(inputs)))
    before = [np.array(state) for state in layer.states]
    trace = trace_of(model, sequence)
    assert "stateful" in trace.records[0].reason
    for state, value in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(np.array(state), value)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Dense(4, activation="relu"), (2, 3, 5)),
        (layers.Conv2D(4, 3, 2, "same", activation="softmax"), (2, 3, 6, 7, 2)),
        (layers.GlobalAveragePooling2D(), (2, 3, 6, 7, 2)),
        (layers.MaxPooling2D(), (2, 3, 6, 7, 2)),
        (layers.BatchNormalization(), (2, 3, 6, 7, 2)),
        (layers.Flatten(), (2, 3, 6, 7)),
        (layers.LSTM(4), (2, 3, 5, 2)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_time_distributed(layer, shape):
    check_layer(layers.TimeDistributed(layer), noise(*shape))


def test_time_distributed_models_are_entered():
    inner_model = keras.Sequential([keras.Input((5,)), layers.Dense(4, name="dense")], name="inner")
    inputs = keras.Input((3, 5))
    model = randomise(keras.Model(inputs, layers.TimeDistributed(inner_model, name="steps")(inputs)))
    trace = trace_of(model, noise(2, 3, 5))
    assert check_trace(trace) == []
    assert [record.call for record in trace.records if record.operator.endswith("Dense")] == [0, 1, 2]


def attended(layer, *shapes, **options):
    """A model around an attention layer, recorded, its single record checked."""
    inputs = [keras.Input(shape[1:], batch_size=shape[0]) for shape in shapes]
    first = inputs if not isinstance(layer, layers.MultiHeadAttention) else inputs[0]
    rest = inputs[1:] if isinstance(layer, layers.MultiHeadAttention) else []
    model = randomise(keras.Model(inputs, layer(first, *rest, **options)))
    trace = trace_of(model, *[noise(*shape, seed=i) for i, shape in enumerate(shapes)])
    assert check_trace(trace, atol=5e-6) == []
    assert len(trace.records) == 1, [record.id for record in trace.records]
    return trace.records[0]


@few
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
)
def test_multi_head_attention(heads, size, bias, causal, scores, dropout):
    layer = layers.MultiHeadAttention(heads, size, value_dim=size + 1, use_bias=bias, dropout=dropout)
    shapes = [(2, 5, 6), (2, 7, 4), (2, 7, 3)]
    attended(layer, *shapes, use_causal_mask=causal, return_attention_scores=scores)


def test_self_attention_reads_its_input_once():
    inputs = keras.Input((5, 6))
    model = randomise(keras.Model(inputs, layers.MultiHeadAttention(2, 3)(inputs, inputs)))
    trace = trace_of(model, noise(2, 5, 6))
    assert check_trace(trace) == []
    assert [port.value for port in trace.records[0].inputs] == ["input:0"]


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 1, 7), (2, 2, 5, 7)])
def test_multi_head_attention_with_a_mask(scores, shape):
    query, value = keras.Input((5, 6)), keras.Input((7, 6))
    mask = keras.Input(shape[1:], dtype="bool")
    layer = layers.MultiHeadAttention(2, 3)
    output = layer(query, value, attention_mask=mask, return_attention_scores=scores, use_causal_mask=True)
    model = randomise(keras.Model([query, value, mask], output))
    visible = np.random.default_rng(3).random(shape) > 0.4
    trace = trace_of(model, noise(2, 5, 6), noise(2, 7, 6), visible)
    assert check_trace(trace, atol=5e-6) == []
    assert any(node.op_type == "Where" for node in trace.records[-1].nodes)


def test_masks_that_travel_with_tensors_reach_attention():
    inputs = keras.Input((6,))
    embedded = layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = randomise(keras.Model(inputs, layers.MultiHeadAttention(2, 3, name="mha")(embedded, embedded)))
    trace = trace_of(model, np.array([[1, 2, 3, 0, 0, 0], [4, 0, 5, 6, 0, 7]], np.int32))
    assert check_trace(trace, atol=5e-6) == []
    assert any(node.op_type == "Where" for node in trace.records[-1].nodes)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"use_scale": True}, {"score_mode": "concat"}, {"score_mode": "concat", "use_scale": True}],
)
@pytest.mark.parametrize("scores", [False, True])
def test_luong_attention(causal, options, scores):
    shapes = [(2, 5, 4), (2, 5, 4), (2, 5, 4)]
    attended(layers.Attention(**options), *shapes, use_causal_mask=causal, return_attention_scores=scores)


@pytest.mark.parametrize("scale", [False, True])
def test_bahdanau_attention(scale):
    attended(layers.AdditiveAttention(use_scale=scale), (2, 5, 4), (2, 3, 4))

"""Whole models as people have them: every record is described and reproduced, the output unchanged."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from porting_check.neutral.node import Node
from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_keras import ADAPTER, noise, randomise, trace_of


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ResNet50", 64),
        ("MobileNetV2", 64),
        ("EfficientNetB0", 64),
        ("MobileNetV3Small", 64),
    ],
)
def test_networks_of_keras_applications(name, size):
    keras.utils.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    array = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    trace = trace_of(model, array)
    assert check_trace(trace, rtol=1e-4, atol=1e-5) == []
    expected = ADAPTER.predict(model, {"0": array})["0"]
    np.testing.assert_array_equal(trace.values[trace.outputs[0].value], expected)
    assert ADAPTER.inputs(model)[0].layout == "NHWC"
    assert set(trace.parameters()) <= set(ADAPTER.parameters(model))


def test_a_transformer_block():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(tokens)
    x = x + layers.Embedding(6, 8)(tf.range(6))
    for _ in range(2):
        y = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        y = layers.Dense(8)(layers.Dense(32, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    model = randomise(keras.Model(tokens, layers.Dense(20, activation="softmax")(x)))
    trace = trace_of(model, np.arange(12, dtype=np.int32).reshape(2, 6))
    assert check_trace(trace, atol=1e-5) == []
    assert ADAPTER.inputs(model)[0].limit == 20


@pytest.mark.parametrize(
    "layer",
    [
        layers.RNN(layers.LSTMCell(2), return_sequences=True),
        layers.RNN(layers.StackedRNNCells([layers.GRUCell(2), layers.SimpleRNNCell(3)])),
    ],
    ids=["lstm_cell", "stacked_cells"],
)
def test_cells_of_a_general_recurrent_layer_are_entered(layer):
    model = randomise(keras.Sequential([keras.Input((4, 3)), layer]))
    trace = trace_of(model, noise(2, 4, 3))
    assert check_trace(trace, atol=1e-5) == []
    assert len(trace.records) > 10


def test_a_wrapper_is_entered_and_preprocessing_that_only_trains_makes_no_record():
    stack = [layers.RandomFlip(), layers.CenterCrop(4, 4), layers.SpectralNormalization(layers.Conv2D(2, 3))]
    trace = trace_of(keras.Sequential([keras.Input((8, 8, 3)), *stack]), noise(2, 8, 8, 3))
    assert check_trace(trace) == []
    assert [record.operator for record in trace.records] == [
        "tf.raw_ops.StridedSlice",
        "keras.layers.Conv2D",
    ]


def test_grouped_query_attention_is_described_through_what_it_runs():
    inputs = keras.Input((5, 8))
    model = randomise(keras.Model(inputs, layers.GroupQueryAttention(4, 4, 2)(inputs, inputs)))
    assert check_trace(trace_of(model, noise(2, 5, 8)), atol=1e-5) == []


def test_python_control_flow_and_loops_run_as_the_operators_they_execute():
    class Loops(keras.Model):
        def call(self, x):
            doubled = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 2.0), (0, x))[1]
            return doubled + tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x)

    trace = trace_of(Loops(), np.abs(noise(2, 3)))
    assert [record.id for record in trace.records] == [
        "Mul",
        "Mul#1",
        "Mul#2",
        "Sum",
        "Greater",
        "AddV2",
    ]


def test_a_compiled_function_of_a_library_is_opaque_under_a_name_without_its_number():
    layer = layers.Conv2D(4, 3, groups=2, activation=lambda x: x * 2, name="conv")
    names = [[record.id for record in trace_of(layer, noise(1, 6, 6, 4)).records] for _ in range(2)]
    assert names[0] == names[1]
    assert names[0][0] == "conv/conv_xla"


def test_text_inputs_stop_at_the_lookup():
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential(
        [keras.Input((1,), dtype="string"), lookup, layers.Embedding(4, 3, name="table")]
    )
    trace = trace_of(model, np.array([["a"], ["c"]]))
    assert [record.id for record in trace.records] == ["table"]
    assert trace.inputs == ()
    assert check_trace(trace) == []


def test_objects_without_keras_go_to_the_graph(tmp_path):
    class Net(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(noise(3, 2), name="weight")

        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
        def __call__(self, x):
            return tf.nn.relu(x @ self.weight)

    module, array = Net(), noise(4, 3)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = ADAPTER.load(str(tmp_path / "saved"))
    for model in (module, loaded):
        assert ADAPTER.owns(model)
        assert ADAPTER.training(model) == ()
        name = ADAPTER.inputs(model)[0].name
        (output,) = ADAPTER.predict(model, {name: array}).values()
        np.testing.assert_allclose(output, np.maximum(array @ module.weight.numpy(), 0), rtol=1e-5)
        assert check_trace(trace_of(model, **{name: array})) == []


def test_one_node_runs_natively():
    (found,) = ADAPTER.run(Node("Relu", ("x",)), [noise(2, 3)], float64=True)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.maximum(noise(2, 3), 0))

"""Keras 2 beside Keras 3 (``tf_keras``): the same adapter, with Keras 2's own constants."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_keras import ADAPTER, noise, randomise, trace_of

tf_keras = pytest.importorskip("tf_keras")
layers = tf_keras.layers


def build():
    inputs = layers.Input((18, 17, 3))
    x = layers.ZeroPadding2D(((0, 1), (2, 1)))(inputs)
    x = layers.Conv2D(8, 3, 2, "same", activation="hard_sigmoid", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Add(name="sum")([x, x * 2 + tf_keras.activations.relu(x)])
    x = layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)(x)
    x = layers.LeakyReLU(name="leaky")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.SeparableConv2D(5, 3, activation="swish")(layers.UpSampling2D(2)(x))
    x = layers.Dense(6, activation="softmax", name="dense")(layers.GlobalAveragePooling2D()(x))
    x = layers.Reshape((3, 2))(x)
    first = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    return randomise(tf_keras.Model(inputs, [first, layers.Bidirectional(layers.GRU(3), name="both")(x)]))


def test_a_keras_2_model_is_recorded_and_described():
    model, array = build(), noise(2, 18, 17, 3)
    trace = trace_of(model, array)
    assert check_trace(trace) == []
    expected = ADAPTER.predict(model, {"0": array})
    for port in trace.outputs:
        np.testing.assert_array_equal(trace.values[port.value], expected[port.name])
    assert {"conv", "sum", "lstm", "both"} <= {record.name for record in trace.records}
    assert {"conv/kernel", "lstm/lstm_cell/kernel"} <= set(ADAPTER.parameters(model))


def test_keras_2_has_its_own_constants():
    trace = trace_of(build(), noise(2, 18, 17, 3))
    nodes = {record.name: record.nodes for record in trace.records}
    assert nodes["conv"][1].attributes["alpha"] == 0.2
    assert nodes["leaky"][0].attributes["alpha"] == pytest.approx(0.3)


def test_inputs_and_weights_of_a_keras_2_model():
    model = build()
    assert ADAPTER.inputs(model)[0].layout == "NHWC"
    assert ADAPTER.inputs(model)[0].shape == (None, 18, 17, 3)
    assert ADAPTER.owns(model)
    before = ADAPTER.parameters(model)
    ADAPTER.assign(model, {name: array + 1 for name, array in before.items()})
    np.testing.assert_allclose(ADAPTER.parameters(model)["dense/bias"], before["dense/bias"] + 1)


def test_a_subclassed_keras_2_model_with_training_forced_on():
    class Net(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, name="dense")
            self.drop = layers.Dropout(0.5, name="drop")

        def call(self, x):
            return self.drop(self.dense(x) * 2.0, training=True)

    trace = trace_of(Net(), noise(2, 4))
    assert [record.id for record in trace.records] == ["dense", "Mul", "drop"]
    assert "training" in trace.records[-1].reason


def test_a_functional_keras_2_model_tells_which_layers_train():
    inputs = layers.Input((4,))
    model = tf_keras.Model(inputs, layers.Dropout(0.5, name="drop")(inputs, training=True))
    assert ADAPTER.training(model) == ("drop",)

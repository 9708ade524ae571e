"""Recording whole Keras models.

Edges, reuse, nesting, operators between layers, and a model left as it was found.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from porting_check.neutral.adapter import InputSpec
from porting_check.neutral.errors import InputError, RecordingError, RunError, UnsupportedNode, WeightsError
from porting_check.neutral.trace import MemorySink
from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_keras import ADAPTER, noise, randomise, trace_of


class Block(layers.Layer):
    """A user's own layer: two inner layers and operators of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(4, 3, padding="same", name="conv")
        self.norm = layers.BatchNormalization(name="norm")
        self.shift = self.add_weight(shape=(4,), name="shift", initializer="ones")

    def call(self, x):
        y = self.norm(self.conv(x))
        return tf.nn.relu(y + self.shift) * 0.5


class Net(keras.Model):
    """A subclassed model with a reused layer, data-dependent control flow, and a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.blocks = [Block(name="block"), Block(name="block")]
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        if tf.reduce_mean(x) > -100:
            x = tf.concat([x, x[..., :1]], axis=-1)
        pooled = tf.reduce_mean(x, axis=[1, 2])
        return {"first": self.head(pooled), "more": (self.head(pooled * 2), x)}


def records(trace):
    return [record.id for record in trace.records]


def test_a_subclassed_model_is_recorded_layer_by_layer():
    model = Net()
    model(noise(2, 6, 5, 4))
    randomise(model)
    trace = trace_of(model, noise(2, 6, 5, 4))
    assert check_trace(trace) == []
    ids = records(trace)
    assert ids[:5] == ["block/conv", "block/norm", "block/AddV2", "block/Relu", "block/Mul"]
    assert ids[5:7] == ["block~2/conv", "block~2/norm"]
    assert {"head", "head#1"} <= set(ids)
    assert [port.name for port in trace.outputs] == ["first", "more/0", "more/1"]
    assert trace.outputs[0].value == "head:0"
    assert trace.outputs[1].value == "head#1:0"
    assert "parameter:block~2/shift" in trace.values


def test_operators_say_where_in_the_users_code_they_stand():
    model = Net()
    model(noise(2, 6, 5, 4))
    trace = trace_of(model, noise(2, 6, 5, 4))
    relu = next(record for record in trace.records if record.id == "block/Relu")
    assert relu.location.startswith("test_tensorflow_keras_models.py:")


def test_names_of_parameters_are_the_names_of_records():
    model = Net()
    model(noise(2, 6, 5, 4))
    names = set(ADAPTER.parameters(model))
    assert {"block/conv/kernel", "block/shift", "block~2/norm/moving_mean", "head/bias"} <= names
    trace = trace_of(model, noise(2, 6, 5, 4))
    assert set(trace.parameters()) <= names
    assert all(not record.location for record in trace.records if record.operator.startswith("keras.layers."))


def test_edges_of_a_functional_model_with_operators_between_layers():
    inputs = keras.Input((8, 7, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    y = ops.relu(x) + x[:, ::2][:, :1] * 2.0
    y = ops.einsum("nhwc,cd->nhwd", y, ops.ones((4, 5)))
    outputs = layers.Flatten(name="flat")(ops.transpose(y, (0, 3, 1, 2)))
    trace = trace_of(randomise(keras.Model(inputs, outputs)), noise(2, 8, 7, 3))
    assert check_trace(trace) == []
    made = {port.value: record.id for record in trace.records for port in record.outputs}
    seen = {"input:0"}
    for record in trace.records:
        for port in record.inputs:
            assert port.value in seen or port.value.startswith("constant:"), (record.id, port)
        seen |= {port.value for port in record.outputs}
    assert made[trace.outputs[0].value] == "flat"


def test_a_shared_layer_and_a_shared_model_count_their_calls():
    tower = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="dense"), layers.ReLU(name="relu")], name="tower"
    )
    first, second = keras.Input((4,)), keras.Input((4,))
    model = randomise(
        keras.Model([first, second], layers.Subtract(name="difference")([tower(first), tower(second)]))
    )
    trace = trace_of(model, noise(2, 4), noise(2, 4, seed=1))
    assert records(trace) == ["tower/dense", "tower/relu", "tower/dense#1", "tower/relu#1", "difference"]
    assert [port.value for port in trace.records[-1].inputs] == ["tower/relu:0", "tower/relu#1:0"]
    assert trace.records[0].parameters == trace.records[2].parameters
    assert check_trace(trace) == []


def test_inputs_by_name_by_position_and_by_keyword():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Subtract()([a, b]))
    assert [spec.name for spec in ADAPTER.inputs(model)] == ["a", "b"]
    left, right = noise(2, 4), noise(2, 4, seed=1)
    named = ADAPTER.predict(model, {"b": right, "a": left})["0"]
    np.testing.assert_array_equal(named, left - right)
    np.testing.assert_array_equal(ADAPTER.predict(model, {"0": left, "1": right})["0"], named)
    listed = keras.Model([a, b], layers.Subtract()([a, b]))
    np.testing.assert_array_equal(ADAPTER.predict(listed, {"b": right, "a": left})["0"], named)
    with pytest.raises(InputError, match=r"a.*b"):
        ADAPTER.predict(model, {"a": left, "c": right})


def test_several_arguments_of_a_subclassed_model():
    class Two(keras.Model):
        def call(self, left, right, scale=1.0):
            return (left - right) * scale

    left, right = noise(2, 4), noise(2, 4, seed=1)
    assert trace_of(Two(), left, right).outputs[0].value == "Mul:0"
    np.testing.assert_array_equal(ADAPTER.predict(Two(), {"right": right, "left": left})["0"], left - right)


def test_tf_functions_inside_a_model_are_opened():
    class Compiled(keras.Model):
        @tf.function
        def call(self, x):
            return self.inner(tf.nn.relu(x)) + 1.0

        @tf.function
        def inner(self, x):
            return tf.math.sin(x)

    trace = trace_of(Compiled(), noise(2, 4))
    assert [record.operator for record in trace.records] == [
        "tf.raw_ops.Relu",
        "tf.raw_ops.Sin",
        "tf.raw_ops.AddV2",
    ]


class Noisy(keras.Model):
    """Random in inference, from three generators, one of them its own."""

    def __init__(self):
        super().__init__()
        self.dense, self.drop = layers.Dense(4), layers.Dropout(0.5)

    def call(self, x):
        x = self.drop(self.dense(x), training=True)
        return x + keras.random.normal((4,)) + tf.random.normal((4,)) + np.random.normal(size=4).astype("f4")


def test_recording_changes_nothing_in_keras_the_model_or_the_random_state():
    model = Noisy()
    model(noise(3, 4))
    randomise(model)
    calls = keras.layers.Layer.__call__, keras.Operation.__call__, type(tf.function(lambda: None)).__call__
    state, weights = np.random.get_state()[1].tolist(), [w.copy() for w in model.get_weights()]
    array = noise(3, 4)
    kept = array.copy()
    tf.random.set_seed(5)
    one = ADAPTER.predict(model, {"0": array})["0"]
    trace = trace_of(model, array)
    np.testing.assert_array_equal(trace.values[trace.outputs[0].value], one)
    assert calls == (
        keras.layers.Layer.__call__,
        keras.Operation.__call__,
        type(tf.function(lambda: None)).__call__,
    )
    assert state == np.random.get_state()[1].tolist()
    np.testing.assert_array_equal(array, kept)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [record.reason for record in trace.records if record.opaque] == [
        "Dropout: it ran in training mode"
    ]


class Broken(layers.Layer):
    def call(self, x):
        raise ValueError("the wrong sort of tensor\nwith a second line")


class Inner(keras.Model):
    def __init__(self):
        super().__init__(name="inner")
        self.dense, self.broken = layers.Dense(3), Broken(name="broken")

    def call(self, x):
        return self.broken(self.dense(x))


class Outer(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.inner = layers.Dense(4), Inner()

    def call(self, x):
        return self.inner(self.dense(x))


def test_an_error_in_the_model_names_the_layer_and_leaves_keras_as_it_was():
    calls = keras.layers.Layer.__call__, keras.Operation.__call__
    model = Outer()
    with pytest.raises(
        RunError, match=r"raised ValueError while recording layer inner/broken: the wrong sort of tensor$"
    ):
        trace_of(model, noise(2, 4))
    assert calls == (keras.layers.Layer.__call__, keras.Operation.__call__)
    assert keras.config.is_traceback_filtering_enabled()
    with pytest.raises(RunError, match=r"raised ValueError: the wrong sort of tensor$"):
        ADAPTER.predict(model, {"0": noise(2, 4)})
    layers.Dense(2)(noise(2, 4))


def test_a_sink_that_fails_stops_the_recording_with_its_own_error():
    class Full(MemorySink):
        def record(self, record):
            raise RecordingError("disk full")

    inputs = keras.Input((4,))
    for outputs in (layers.Dense(3)(inputs), ops.sin(inputs)):
        with pytest.raises(RecordingError, match=r"^disk full$"):
            ADAPTER.record(keras.Model(inputs, outputs), {"0": noise(2, 4)}, Full())


def test_a_caught_error_inside_a_model_does_not_end_the_recording():
    class Tries(keras.Model):
        def __init__(self):
            super().__init__()
            self.bad = layers.Reshape((7,))

        def call(self, x):
            try:
                return self.bad(x)
            except Exception:
                return tf.nn.relu(x)

    assert records(trace_of(Tries(), noise(2, 4))) == ["Relu"]


def test_what_was_recorded_survives_a_later_change_of_the_weights():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    randomise(model)
    trace = trace_of(model, noise(2, 4))
    kernel = (
        trace.values["parameter:dense/kernel"]
        if "parameter:dense/kernel" in trace.values
        else next(value for key, value in trace.values.items() if key.endswith("/kernel"))
    )
    before = kernel.copy()
    model.layers[0].kernel.assign_add(np.ones((4, 3)))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(noise(4, 4), noise(4, 3), verbose=0)
    np.testing.assert_array_equal(kernel, before)


def test_a_model_that_was_never_built_is_built_by_recording():
    trace = trace_of(keras.Sequential([layers.Dense(3, name="dense"), layers.ReLU(name="relu")]), noise(2, 4))
    assert records(trace) == ["dense", "relu"]
    assert {port.value for port in trace.records[0].parameters} == {
        "parameter:dense/kernel",
        "parameter:dense/bias",
    }


def test_quantised_and_adapted_layers_are_entered():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    model.layers[0].enable_lora(2)
    randomise(model)
    trace = trace_of(model, noise(2, 4))
    assert all(record.operator.startswith("tf.raw_ops.") for record in trace.records)
    assert check_trace(trace) == []


def test_a_subclass_of_a_library_layer_is_entered():
    class Scaled(layers.Dense):
        def call(self, x):
            return 2.0 * super().call(x)

    trace = trace_of(keras.Sequential([keras.Input((4,)), Scaled(3, name="scaled")]), noise(2, 4))
    assert [record.operator for record in trace.records][-1] == "tf.raw_ops.Mul"
    assert all(record.name.startswith("scaled/") for record in trace.records)


def test_losses_of_the_activity_are_not_recorded():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activity_regularizer="l2", name="dense")])
    assert records(trace_of(model, noise(2, 4))) == ["dense"]


def test_mixed_precision_keeps_its_dtypes():
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype=policy, name="dense")])
    trace = trace_of(model, noise(2, 4))
    assert trace.values[trace.outputs[0].value].dtype.name == "bfloat16"
    assert trace.records[-1].name == "dense"
    assert trace.records[0].operator == "tf.raw_ops.Cast"


@pytest.mark.parametrize(
    ("layer", "shape", "layout"),
    [
        (layers.Conv2D(2, 3), (8, 8, 3), "NHWC"),
        (layers.MaxPooling2D(data_format="channels_first"), (3, 8, 8), "NCHW"),
        (layers.Conv1D(2, 3), (8, 3), "NLC"),
        (layers.Conv3D(2, 3), (8, 8, 8, 3), "NDHWC"),
        (layers.LSTM(2), (8, 3), ""),
        (layers.Dense(2), (3,), ""),
    ],
)
def test_layouts_of_inputs_follow_the_first_layer_that_has_one(layer, shape, layout):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(layers.ReLU()(inputs)))
    assert ADAPTER.inputs(model) == (InputSpec("0", (None, *shape), "float32", layout),)
    wrapped = keras.Sequential(
        [keras.Input(shape), layers.Rescaling(2.0), keras.Sequential([keras.Input(shape), layer])]
    )
    assert ADAPTER.inputs(wrapped)[0].layout == layout


def test_inputs_of_an_embedding_are_integers_below_its_size():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Embedding(11, 3)(inputs))
    assert ADAPTER.inputs(model) == (InputSpec("0", (None, 5), "int32", "", 11),)


def test_inputs_of_a_layer_of_ones_own_are_known_once_it_was_built():
    model = Block()
    assert ADAPTER.inputs(model) == (
        InputSpec("", None, "float32", "NHWC"),
    )  # any input: its first layer is Conv2D
    model(noise(2, 6, 5, 4))
    assert ADAPTER.inputs(model) == (InputSpec("0", (None, 6, 5, 4), "float32", "NHWC"),)
    assert ADAPTER.inputs(Net()) == (InputSpec("", None, "float32", "NHWC"),)


def test_layers_that_are_told_to_train_run_in_the_mode_of_a_functional_model():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dropout(0.5)(inputs, training=True))
    assert ADAPTER.training(model) == ()
    assert check_trace(trace_of(model, noise(2, 4))) == []


def test_parameters_are_owned_and_assign_is_all_or_nothing():
    model = randomise(
        keras.Sequential(
            [keras.Input((4,)), layers.Dense(3, name="dense"), layers.BatchNormalization(name="norm")]
        )
    )
    parameters = ADAPTER.parameters(model)
    assert list(parameters) == ["dense/kernel", "dense/bias"] + [
        f"norm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    parameters["dense/kernel"][:] = 0
    assert np.any(model.get_weights()[0])
    with pytest.raises(WeightsError, match=r"norm/gamma.*\(3,\).*\(4,\)"):
        ADAPTER.assign(model, {"dense/kernel": parameters["dense/kernel"], "norm/gamma": np.ones(4)})
    with pytest.raises(WeightsError, match=r"no weights.*dense/weight"):
        ADAPTER.assign(model, {"dense/kernel": parameters["dense/kernel"], "dense/weight": np.ones(4)})
    assert np.any(model.get_weights()[0])
    ADAPTER.assign(model, {"dense/kernel": parameters["dense/kernel"]})
    assert not np.any(model.get_weights()[0])
    with pytest.raises(WeightsError, match="not built"):
        ADAPTER.parameters(keras.Sequential([layers.Dense(3)]))


def test_replay_of_one_layer_in_both_precisions():
    inputs = keras.Input((8, 7, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="gelu", name="conv")(inputs)
    model = randomise(
        keras.Model(inputs, layers.Add(name="add")([layers.BatchNormalization(name="norm")(x), x]))
    )
    trace = trace_of(model, noise(2, 8, 7, 3))
    for record in trace.records:
        arrays = [trace.values[port.value] for port in record.inputs]
        expected = trace.values[record.outputs[0].value]
        (again,) = ADAPTER.replay(model, record.id, arrays)
        np.testing.assert_array_equal(again, expected)
        (wide,) = ADAPTER.replay(model, record.id, arrays, float64=True)
        assert wide.dtype == np.float64
        np.testing.assert_allclose(wide, expected, rtol=1e-4, atol=1e-5)
    assert model.get_layer("conv").compute_dtype == "float32"
    with pytest.raises(UnsupportedNode, match="no layer 'nothing'"):
        ADAPTER.replay(model, "nothing", [])


def test_environment_names_versions_and_modes():
    environment = ADAPTER.environment()
    assert environment.versions["tensorflow"] == tf.__version__
    assert environment.versions["keras"] == keras.__version__
    assert {"onednn", "keras_backend", "keras_floatx"} <= set(environment.modes)


def test_only_keras_and_tensorflow_objects_are_owned():
    assert ADAPTER.owns(layers.Dense(2))
    assert ADAPTER.owns(Net())
    assert not ADAPTER.owns(np.zeros(3))
    assert not ADAPTER.owns(lambda x: x)
    assert not ADAPTER.owns(object())


def test_an_embedding_of_positions_is_recorded_although_it_reads_a_constant():
    class Positions(keras.Model):
        def __init__(self):
            super().__init__()
            self.tokens = layers.Embedding(11, 4, name="tokens")
            self.places = layers.Embedding(6, 4, name="places")

        def call(self, x):
            return self.tokens(x) + self.places(tf.range(tf.shape(x)[1]))

    trace = trace_of(Positions(), np.arange(10, dtype=np.int32).reshape(2, 5))
    assert records(trace) == ["tokens", "places", "AddV2"]
    assert check_trace(trace) == []
    assert [port.value for port in trace.records[2].inputs] == ["tokens:0", "places:0"]


def test_an_opaque_layer_keeps_its_weights():
    inputs = keras.Input((6,))
    embedded = layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.LSTM(3, name="lstm")(embedded))
    trace = trace_of(model, np.array([[1, 2, 3, 0, 0, 0]], np.int32))
    opaque = next(record for record in trace.records if record.opaque)
    assert [port.name for port in opaque.parameters] == ["kernel", "recurrent_kernel", "bias"]
    assert [port.name for port in opaque.outputs] == ["y0"]

"""Models without Keras: functions, modules, SavedModels and frozen graphs, recorded node by node."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from porting_check_tensorflow import graph

from porting_check.neutral.errors import InputError, ModelError, RunError, WeightsError
from porting_check.neutral.trace import MemorySink
from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_graphs import by_name, noise, recorded

v1 = tf.compat.v1
FEATURES = 6


class Network(tf.Module):
    """Convolution, batch normalization and a loop, with a counter that each run writes."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(noise(3, 3, 3, FEATURES), name="conv/kernel")
        self.scale = tf.Variable(1 + noise(FEATURES) / 10, name="bn/scale")
        self.offset = tf.Variable(noise(FEATURES), name="bn/offset")
        self.mean = tf.Variable(noise(FEATURES), name="bn/mean")
        self.variance = tf.Variable(1 + np.abs(noise(FEATURES)), name="bn/variance")
        self.step = tf.Variable(tf.eye(FEATURES) * 1.5, name="loop/step")
        self.runs = tf.Variable(0, name="runs", trainable=False)

    @tf.function
    def __call__(self, x):
        self.runs.assign_add(1)
        y = tf.nn.conv2d(x, self.kernel, 2, "SAME", name="conv")
        moments = {"mean": self.mean, "variance": self.variance}
        y = tf.compat.v1.nn.fused_batch_norm(y, self.scale, self.offset, is_training=False, **moments)[0]
        y = tf.reduce_mean(tf.nn.relu(y), [1, 2])
        while tf.reduce_sum(tf.abs(y)) < 100.0:
            y = y @ self.step
        return {"logits": y - tf.reduce_max(y), "sizes": tf.shape(x)[1:3]}


def test_a_module_with_convolution_normalization_and_loop():
    model = Network()
    trace = recorded(model, {"0": noise(2, 9, 8, 3)})
    opaque = check_trace(trace)
    assert opaque == ["while"]
    assert "while_body" in by_name(trace)["while"].reason
    records = by_name(trace)
    assert records["conv"].operator == "tf.raw_ops.Conv2D"
    assert records["conv"].parameters[0].value == "parameter:conv/kernel"
    norm = next(record for record in trace.records if record.operator == "tf.raw_ops.FusedBatchNormV3")
    assert [port.name for port in norm.parameters] == ["scale", "bias", "mean", "var"]
    assert [port.value for port in records["while"].parameters] == ["parameter:loop/step"]
    assert model.runs.numpy() == 0


def test_variables_are_as_before_also_when_the_model_raises():
    class Raises(tf.Module):
        def __init__(self):
            super().__init__()
            self.seen = tf.Variable(0.0)

        @tf.function
        def __call__(self, x):
            self.seen.assign(tf.reduce_sum(x))
            return tf.debugging.check_numerics(x / 0.0, "not finite", name="check")

    model = Raises()
    for run in (
        lambda: graph.predict(model, {"0": noise(3)}),
        lambda: graph.record(model, {"0": noise(3)}, MemorySink()),
    ):
        with pytest.raises(RunError, match="not finite"):
            run()
        assert model.seen.numpy() == 0.0


def test_an_error_names_the_operator():
    @tf.function
    def wrong(x, indices):
        with tf.name_scope("lookup"):
            return tf.gather(x, indices)

    with pytest.raises(RunError, match=r"lookup/GatherV2 \(GatherV2\)"):
        graph.record(wrong, {"0": noise(3), "1": np.array([7])}, MemorySink())


def test_what_the_run_wrote_into_a_variable_is_what_it_reads_later():
    class Writes(tf.Module):
        def __init__(self):
            super().__init__()
            self.state = tf.Variable(tf.zeros(3), name="state")
            self.total = tf.Variable(tf.ones(3), name="total")

        @tf.function
        def __call__(self, x):
            before = self.state + x
            self.state.assign(x * 2.0)
            self.total.assign_add(x)
            return before, self.state + 1.0, self.total - 1.0

    trace = recorded(Writes(), {"0": noise(3)})
    assert len(check_trace(trace)) == 1
    changed = next(record for record in trace.records if record.opaque)
    assert changed.reason == "reads a variable that the run itself changed before"
    product = next(record for record in trace.records if record.operator == "tf.raw_ops.Mul")
    after = next(
        r
        for r in trace.records
        if r.operator == "tf.raw_ops.AddV2" and product.outputs[0].value in {p.value for p in r.inputs}
    )
    assert after.outputs


def test_both_branches_of_a_condition_are_followed():
    @tf.function
    def choose(x, flag):
        return tf.cond(flag, lambda: tf.nn.relu(x), lambda: tf.tanh(x) * 2.0)

    for flag, operators in ((True, ["Relu"]), (False, ["Tanh", "Mul"])):
        trace = recorded(choose, {"0": noise(4), "1": np.array(flag)})
        assert check_trace(trace) == []
        assert [record.operator for record in trace.records] == [f"tf.raw_ops.{name}" for name in operators]
        assert trace.records[0].name.startswith("cond/")


def test_a_switch_of_several_branches_is_followed():
    @tf.function
    def choose(x, which):
        return tf.switch_case(which, [lambda: x + 1.0, lambda: x * 2.0, lambda: x - 3.0])

    for which in (0, 1, 2, 9):
        assert check_trace(recorded(choose, {"0": noise(4), "1": np.array(which, np.int32)})) == []


def test_inner_functions_are_entered_and_calls_counted():
    @tf.function
    def inner(x):
        return tf.nn.relu(x - 0.1, name="cut")

    @tf.function
    def outer(x):
        return inner(inner(x))

    trace = recorded(outer, {"0": noise(5)})
    assert [(record.name, record.call) for record in trace.records] == [
        ("sub", 0),
        ("cut", 0),
        ("sub", 1),
        ("cut", 1),
    ]
    assert check_trace(trace) == []


def test_inputs_and_outputs_in_dicts_and_tuples_are_named_by_path():
    @tf.function
    def forward(batch):
        joined = tf.concat([batch["image"], batch["extra"]], -1)
        return {"z": joined, "a": (batch["image"] + 1.0, [batch["extra"]])}

    trace = recorded(forward, {"image": noise(2, 3), "extra": noise(2, 4)})
    assert sorted(port.name for port in trace.outputs) == ["a/0", "a/1/0", "z"]
    assert sorted(port.name for port in trace.inputs) == ["extra", "image"]


def test_arguments_by_position_keyword_and_literal():
    @tf.function
    def forward(x, scale=2.0, *, mask=None):
        return x * scale if mask is None else tf.where(mask, x, 0.0)

    assert check_trace(recorded(forward, {"0": noise(3)})) == []
    assert check_trace(recorded(forward, {"x": noise(3)})) == []
    assert check_trace(recorded(forward, {"0": noise(3), "mask": np.array([True, False, True])})) == []


def test_a_concrete_function_is_called_by_the_names_of_its_signature():
    @tf.function
    def forward(x, flag, pair):
        return pair["b"] * x if flag else pair["a"]

    pair = {"b": tf.TensorSpec((2,)), "a": tf.TensorSpec((1,))}
    traced = forward.get_concrete_function(tf.TensorSpec((None, 2), name="x"), True, pair)
    assert [spec.name for spec in graph.inputs(traced)] == ["0", "2/a", "2/b"]
    trace = recorded(traced, {"0": noise(3, 2), "2/a": noise(1), "2/b": noise(2)})
    assert check_trace(trace) == []


def test_a_plain_module_is_traced():
    class Plain(tf.Module):
        def __init__(self):
            super().__init__()
            self.layers = [tf.Variable(noise(4, 4), name="w"), tf.Variable(noise(4, 4), name="w")]

        def __call__(self, x):
            for weight in self.layers:
                x = tf.nn.elu(x @ weight)
            return x

    model = Plain()
    assert graph.inputs(model) == ()
    trace = recorded(model, {"0": noise(2, 4)})
    assert check_trace(trace) == []
    assert sorted(graph.parameters(model)) == ["layers/0", "layers/1"]
    assert trace.records[0].nodes[0].op_type == "Gemm"


def test_variables_are_read_and_written_by_name():
    model = Network()
    before = graph.parameters(model)
    assert set(before) >= {"conv/kernel", "bn/scale", "loop/step", "runs"}
    graph.assign(model, {"bn/scale": np.full(FEATURES, 2.0, np.float32)})
    np.testing.assert_array_equal(model.scale.numpy(), 2.0)
    with pytest.raises(WeightsError, match="no variables"):
        graph.assign(model, {"bn/scale": before["bn/scale"], "nonsense": np.zeros(1)})
    with pytest.raises(WeightsError, match="shape"):
        graph.assign(model, {"bn/scale": before["bn/scale"], "bn/mean": np.zeros(1)})
    np.testing.assert_array_equal(model.scale.numpy(), 2.0)


def test_a_constant_table_is_a_weight_and_a_scalar_is_part_of_the_code():
    table = noise(5, 4)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="ids")])
    def lookup(ids):
        return tf.gather(tf.constant(table, name="table"), ids) * 0.5

    trace = recorded(lookup, {"ids": np.array([1, 4], np.int32)})
    assert check_trace(trace) == []
    assert list(trace.parameters()) == ["table"]
    np.testing.assert_array_equal(graph.parameters(lookup)["table"], table)
    assert graph.inputs(lookup)[0].limit == 5
    assert trace.records[0].parameters[0].name == "weight"


def test_a_table_in_a_variable_limits_its_indices_through_inner_functions(tmp_path):
    class Words(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = tf.Variable(noise(9, 4), name="table")

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.int32, name="ids")])
        def __call__(self, ids):
            return tf.gather(self.table, ids) + tf.nn.embedding_lookup(self.table, ids)

    folder = str(tmp_path / "words")
    module = Words()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.__call__})
    model = graph.load(folder)
    assert graph.inputs(model)[0].limit == 9
    trace = recorded(model, {"ids": np.array([[1, 8]], np.int32)})
    assert check_trace(trace) == []
    lookups = [record for record in trace.records if record.operator.endswith(("ResourceGather", "GatherV2"))]
    assert len(lookups) == 2
    assert all(record.parameters[0].value == "parameter:table" for record in lookups)


def test_a_captured_array_is_a_weight():
    weight = tf.constant(noise(3, 4))
    trace = recorded(tf.function(lambda x: x @ weight), {"0": noise(2, 3)})
    assert list(trace.parameters()) == ["captured/0"]


def test_batch_moments_are_reported_as_training():
    @tf.function(input_signature=[tf.TensorSpec((2, 4, 4, 3))])
    def normalize(x):
        return v1.nn.fused_batch_norm(x, tf.ones(3), tf.zeros(3), is_training=True, name="bn")[0]

    assert graph.training(normalize) == ("bn",)
    trace = recorded(normalize, {"0": noise(2, 4, 4, 3)})
    assert check_trace(trace) == ["bn"]


def test_values_reach_the_sink_while_the_graph_runs():
    events = []

    class Log(MemorySink):
        def value(self, key, array):
            events.append(("value", key))

        def record(self, record):
            events.append(("record", record.name))

    graph.record(tf.function(lambda x: tf.exp(tf.tanh(x))), {"0": noise(3)}, Log())
    kinds = [kind for kind, _ in events]
    assert kinds.count("record") == 2
    assert kinds[kinds.index("record") + 1 :].count("value") >= 1


def test_shape_arithmetic_is_not_recorded():
    @tf.function
    def flatten(x):
        return tf.reshape(x, [tf.shape(x)[0], tf.reduce_prod(tf.shape(x)[1:])])

    trace = recorded(flatten, {"0": noise(2, 3, 4)})
    assert [record.operator for record in trace.records] == ["tf.raw_ops.Reshape"]
    assert trace.records[0].constants["shape"].tolist() == [2, 12]


def test_the_random_state_is_as_before():
    @tf.function
    def noisy(x):
        return x + tf.random.uniform((3,))

    tf.random.set_seed(3)
    expected = tf.random.uniform((2,)).numpy()
    tf.random.set_seed(3)
    graph.predict(noisy, {"0": noise(3)})
    graph.record(noisy, {"0": noise(3)}, MemorySink())
    np.testing.assert_array_equal(tf.random.uniform((2,)).numpy(), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"0": noise(2, 9, 8, 3), "1": noise(1)}, "no input '1'"),
        ({}, r"inputs \['0'\] were not given"),
        ({"0": noise(2, 9, 8, 3).astype(np.int32)}, "dtype int32; the model expects float32"),
        ({"0": noise(2, 9, 8, 4)}, r"shape \(2, 9, 8, 4\); the model expects \(any, any, any, 3\)"),
    ],
)
def test_wrong_inputs_are_refused_in_words(inputs, message):
    model = Network()
    traced = model.__call__.get_concrete_function(tf.TensorSpec((None, None, None, 3), name="x"))
    with pytest.raises(InputError, match=message):
        graph.predict(traced, inputs)


def test_a_function_that_cannot_be_traced_says_why():
    @tf.function
    def forward(x):
        raise ValueError("this cannot be")

    with pytest.raises(RunError, match="this cannot be"):
        graph.predict(forward, {"0": noise(2)})


@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_model_that_was_built_in_a_graph_of_tensorflow_1_says_what_to_do(kind):
    with tf.Graph().as_default():
        module = Network()
        constant = tf.constant(np.ones((3, 2), np.float32), name="made_outside")
    model = module if kind == "module" else tf.function(lambda x: tf.matmul(x, constant))
    with pytest.raises(ModelError, match=r"graph of TensorFlow 1 .*enable_eager_execution\(\) before"):
        graph.predict(model, {"0": np.ones((1, 8, 8, 3) if kind == "module" else (2, 3), np.float32)})


def test_an_operator_that_tensorflow_does_not_know_is_named():
    unknown = v1.GraphDef()
    unknown.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    unknown.node.add(name="y", op="SentencepieceOp", input=["x"])
    with pytest.raises(ModelError, match="SentencepieceOp"):
        graph.predict(unknown, {"x": noise(1)})


def test_ownership():
    import keras

    assert all(
        graph.owns(model) for model in (Network(), tf.Graph(), tf.function(lambda x: x), v1.GraphDef())
    )
    assert not any(
        graph.owns(model) for model in (keras.layers.Dense(2), keras.Sequential(), tf.zeros(2), "text", abs)
    )

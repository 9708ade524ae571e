"""Models without Keras: functions, modules, SavedModels and frozen graphs, recorded node by node."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from porting_check_tensorflow import graph
from tests.adapters.replay import check_trace

from porting_check.neutral.errors import InputError, ModelError, RunError, WeightsError
from porting_check.neutral.trace import Environment, MemorySink, Trace

v1 = tf.compat.v1
FEATURES = 6


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def recorded(model, inputs) -> Trace:
    """A recording whose outputs are those of an ordinary run, bit for bit, and whose edges are whole."""
    plain = graph.predict(model, inputs)
    sink = MemorySink()
    graph.record(model, inputs, sink)
    trace = sink.trace("model", Environment("tensorflow", {}))
    assert {port.name for port in trace.outputs} == set(plain)
    for port in trace.outputs:
        np.testing.assert_array_equal(trace.values[port.value], plain[port.name])
    assert set(trace.parameters()) <= set(graph.parameters(model))
    _check_edges(trace)
    return trace


def _check_edges(trace: Trace) -> None:
    """Everything that a record reads is an input, a parameter, a constant of the run, or was made before."""
    known = {port.value for port in trace.inputs}
    for record in trace.records:
        for port in record.inputs + record.parameters:
            assert port.value in known or port.value.startswith(("parameter:", "constant:")), (record.id, port)
        known |= {port.value for port in record.outputs}
    assert len({record.id for record in trace.records}) == len(trace.records)


def by_name(trace: Trace):
    return {record.id: record for record in trace.records}


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
    for run in (lambda: graph.predict(model, {"0": noise(3)}), lambda: graph.record(model, {"0": noise(3)}, MemorySink())):
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
    after = next(r for r in trace.records if r.operator == "tf.raw_ops.AddV2" and product.outputs[0].value in {p.value for p in r.inputs})
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
    assert [(record.name, record.call) for record in trace.records] == [("sub", 0), ("cut", 0), ("sub", 1), ("cut", 1)]
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


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A Keras model as a SavedModel, an input, and what Keras makes of it."""
    import keras

    keras.utils.set_random_seed(7)
    image = keras.Input((12, 10, 4), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", groups=2, name="grouped")(x)
    x = keras.layers.DepthwiseConv2D(3, dilation_rate=2, name="spread")(x)
    x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = keras.layers.Flatten()(keras.layers.LayerNormalization(name="ln")(x))
    logits = keras.layers.Dense(5, activation="softmax", name="logits")(keras.layers.Dropout(0.5)(x))
    model = keras.Model(image, {"logits": logits, "features": x})
    folder = str(tmp_path_factory.mktemp("saved") / "model")
    model.export(folder, verbose=False)
    array = noise(2, 12, 10, 4)
    return folder, array, {name: np.array(value) for name, value in model(array).items()}


def test_a_saved_model_of_keras_is_recorded_whole(exported):
    folder, array, expected = exported
    model = graph.load(folder)
    trace = recorded(model, {"image": array})
    assert check_trace(trace) == []
    for port in trace.outputs:
        np.testing.assert_allclose(trace.values[port.value], expected[port.name], rtol=1e-4, atol=1e-5)
    assert "stem/kernel" in trace.parameters()
    grouped = next(record for record in trace.records if "parameter:grouped/kernel" in {p.value for p in record.parameters})
    assert grouped.nodes[0].attributes["group"] == 2
    spec = graph.inputs(model)[0]
    assert (spec.name, spec.shape, spec.layout) == ("image", (None, 12, 10, 4), "NHWC")


def test_a_saved_model_needs_no_keras(exported, tmp_path):
    """In a fresh process where importing Keras fails."""
    folder, array, expected = exported
    np.save(tmp_path / "x.npy", array)
    code = (
        "import sys; sys.modules['keras'] = None; sys.modules['tf_keras'] = None\n"
        "import numpy as np; from porting_check_tensorflow import graph\n"
        "from porting_check.neutral.trace import MemorySink\n"
        "folder, x, out = sys.argv[1:]; sink = MemorySink(); model = graph.load(folder)\n"
        "graph.record(model, {'0': np.load(x)}, sink)\n"
        "port = next(p for p in sink.outputs if p.name == 'logits'); np.save(out, sink.values[port.value])\n"
        "assert not any(r.opaque for r in sink.records) and len(sink.records) > 20\n"
    )
    out = str(tmp_path / "y.npy")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), TF_CPP_MIN_LOG_LEVEL="3")
    arguments = [sys.executable, "-c", code, folder, str(tmp_path / "x.npy"), out]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(out), expected["logits"], rtol=1e-4, atol=1e-6)


def test_saved_models_with_several_signatures(tmp_path):
    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3), name="x")])
        def double(self, x):
            return x * 2.0

        @tf.function(input_signature=[tf.TensorSpec((None, 3), name="x")])
        def halve(self, x):
            return x * 0.5

    module = Two()
    paths = {}
    for names in (("double", "halve"), ("halve",), ("serving_default", "halve"), ()):
        signatures = {name: module.halve if name == "halve" else module.double for name in names}
        paths[names] = str(tmp_path / ("-".join(names) or "none"))
        tf.saved_model.save(module, paths[names], signatures=signatures)
    x = noise(2, 3)
    with pytest.raises(ModelError, match=r"\['double', 'halve'\].*model.signatures\['double'\]"):
        graph.predict(graph.load(paths["double", "halve"]), {"0": x})
    chosen = graph.load(paths["double", "halve"]).signatures["halve"]
    np.testing.assert_array_equal(graph.predict(chosen, {"x": x})["output_0"], x * 0.5)
    np.testing.assert_array_equal(graph.predict(graph.load(paths["halve",]), {"0": x})["output_0"], x * 0.5)
    np.testing.assert_array_equal(graph.predict(graph.load(paths["serving_default", "halve"]), {"0": x})["output_0"], x * 2)
    with pytest.raises(ModelError, match=r"give one of its functions \['double', 'halve'\]"):
        graph.predict(graph.load(paths[()]), {"0": x})
    assert check_trace(recorded(chosen, {"0": x})) == []


def frozen_graph(loop: bool, resource: bool = False):
    """A graph as TensorFlow 1 built it: placeholders, a condition on a training flag, perhaps a loop with another inside."""
    built = tf.Graph()
    with built.as_default():
        v1.disable_control_flow_v2()
        image = v1.placeholder(tf.float32, [None, 9, 8, 3], name="image")
        training = v1.placeholder_with_default(False, [], name="phase_train")
        weights = v1.get_variable("conv/weights", [3, 3, 3, 4], initializer=v1.random_normal_initializer(seed=1), use_resource=resource)
        y = tf.nn.conv2d(image, weights, 2, "SAME", name="conv/Conv2D")
        y = v1.cond(training, lambda: tf.nn.dropout(y, rate=0.5), lambda: tf.nn.relu(y), name="cond")
        if loop:
            grow = lambda j, b: (j + 1, b + tf.reduce_mean(weights))  # noqa: E731
            body = lambda i, a: (i + 1, v1.while_loop(lambda j, b: j < 2, grow, [tf.constant(0), a * 1.5], name="inner")[1])  # noqa: E731
            y = v1.while_loop(lambda i, a: i < 3, body, [tf.constant(0), y], name="loop")[1]
            y = v1.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a - 0.5), [tf.constant(0), y], name="second")[1]
        embeddings = tf.reduce_mean(y, [1, 2], name="embeddings")
        v1.enable_control_flow_v2()
    return built, image, embeddings


def frozen_file(path, loop: bool) -> str:
    built, _, _ = frozen_graph(loop)
    with v1.Session(graph=built) as session:
        session.run([variable.initializer for variable in built.get_collection("variables")])
        frozen = v1.graph_util.convert_variables_to_constants(session, built.as_graph_def(), ["embeddings"])
    path.write_bytes(frozen.SerializeToString())
    return str(path)


def test_a_frozen_graph_is_recorded_with_its_weights_as_parameters(tmp_path):
    model = graph.load(frozen_file(tmp_path / "graph.pb", loop=False))
    trace = recorded(model, {"image": noise(2, 9, 8, 3)})
    assert check_trace(trace) == []
    assert [record.id for record in trace.records] == ["conv/Conv2D", "cond/Relu", "embeddings"]
    assert list(trace.parameters()) == ["conv/weights"]
    assert list(graph.parameters(model)) == ["conv/weights"]
    with pytest.raises(WeightsError, match="frozen"):
        graph.assign(model, {"conv/weights": noise(3, 3, 3, 4)})


def test_a_frozen_graph_follows_the_other_branch_when_its_flag_is_given(tmp_path):
    model = graph.load(frozen_file(tmp_path / "graph.pb", loop=False))
    sink = MemorySink()
    graph.record(model, {"image": noise(2, 9, 8, 3), "phase_train": np.array(True)}, sink)
    random = [record for record in sink.records if record.operator == "tf.raw_ops.RandomUniform"]
    assert len(random) == 1
    assert random[0].reason == "tf.raw_ops.RandomUniform is not described"
    assert not any(record.name == "cond/Relu" for record in sink.records)


def test_loops_of_tensorflow_1_run_whole(tmp_path):
    model = graph.load(frozen_file(tmp_path / "graph.pb", loop=True))
    trace = recorded(model, {"0": noise(2, 9, 8, 3)})
    assert check_trace(trace) == ["loop", "second"]
    records = by_name(trace)
    assert records["loop"].reason == "a loop of TensorFlow 1 runs whole"
    assert [port.value for port in records["loop"].parameters] == ["parameter:conv/weights"]
    assert records["second"].inputs[-1].value == records["loop"].outputs[0].value


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("loop", [False, True])
def test_a_saved_model_of_tensorflow_1(tmp_path, loop, resource):
    built, image, embeddings = frozen_graph(loop, resource)
    folder = str(tmp_path / "saved")
    with v1.Session(graph=built) as session:
        session.run([variable.initializer for variable in built.get_collection("variables")])
        v1.saved_model.simple_save(session, folder, {"image": image}, {"embeddings": embeddings})
        expected = session.run(embeddings, {image: noise(2, 9, 8, 3)})
    model = graph.load(folder)
    trace = recorded(model, {"image": noise(2, 9, 8, 3)})
    assert check_trace(trace) == (["loop", "second"] if loop else [])
    assert list(trace.parameters()) == ["conv/weights"]
    np.testing.assert_allclose(trace.values[trace.outputs[0].value], expected, rtol=1e-5)


def test_a_graph_with_several_outputs_names_them_by_tensor():
    built = tf.Graph()
    with built.as_default():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        tf.split(x, 2, axis=1, name="halves")
        tf.nn.relu(x, name="positive")
    trace = recorded(built, {"x": noise(3, 4)})
    assert [port.name for port in trace.outputs] == ["halves", "halves:1", "positive"]
    chosen = graph.FrozenGraph(built.as_graph_def(), outputs=["halves:1"])
    assert list(graph.predict(chosen, {"x": noise(3, 4)})) == ["halves:1"]


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

    assert graph.training(normalize) == ("bn/FusedBatchNormV3",)
    trace = recorded(normalize, {"0": noise(2, 4, 4, 3)})
    assert check_trace(trace) == ["bn/FusedBatchNormV3"]


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
    traced = Network().__call__.get_concrete_function(tf.TensorSpec((None, None, None, 3), name="x"))
    with pytest.raises(InputError, match=message):
        graph.predict(traced, inputs)


def test_a_function_that_cannot_be_traced_says_why():
    @tf.function
    def forward(x):
        raise ValueError("this cannot be")

    with pytest.raises(RunError, match="this cannot be"):
        graph.predict(forward, {"0": noise(2)})


def test_files_that_are_no_graphs_are_refused(tmp_path):
    (tmp_path / "broken.pb").write_bytes(b"\x08\x96this is no graph")
    (tmp_path / "empty.pb").write_bytes(b"")
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "saved_model.pb").write_bytes(b"nonsense")
    cases = {"missing.pb": "does not exist", "broken.pb": "no TensorFlow graph", "empty.pb": "no operators"}
    cases.update({"model.tflite": "TFLite", "bad": "could not be loaded", ".": "holds no saved_model.pb"})
    for name, message in cases.items():
        with pytest.raises(ModelError, match=message):
            graph.load(str(tmp_path / name))


def test_a_saved_model_is_loaded_by_its_file_too(exported):
    folder, array, expected = exported
    outputs = graph.predict(graph.load(os.path.join(folder, "saved_model.pb")), {"0": array})
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=1e-4, atol=1e-6)


def test_an_operator_that_tensorflow_does_not_know_is_named():
    unknown = v1.GraphDef()
    unknown.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    unknown.node.add(name="y", op="SentencepieceOp", input=["x"])
    with pytest.raises(ModelError, match="SentencepieceOp"):
        graph.inputs_of(graph.FrozenGraph(unknown)) if hasattr(graph, "inputs_of") else graph.predict(unknown, {"x": noise(1)})


def test_ownership():
    import keras

    assert all(graph.owns(model) for model in (Network(), tf.Graph(), tf.function(lambda x: x), v1.GraphDef()))
    assert not any(graph.owns(model) for model in (keras.layers.Dense(2), keras.Sequential(), tf.zeros(2), "text", abs))

"""SavedModels of TensorFlow 1 and 2 and frozen graphs, loaded from disk and recorded node by node."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from porting_check_tensorflow import graph

from porting_check.neutral.errors import ModelError, WeightsError
from porting_check.neutral.trace import MemorySink
from porting_check.testing.replay import check_trace
from tests.adapters.tensorflow_graphs import by_name, noise, recorded

v1 = tf.compat.v1


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
    grouped = next(
        record
        for record in trace.records
        if "parameter:grouped/kernel" in {p.value for p in record.parameters}
    )
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
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
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
    np.testing.assert_array_equal(
        graph.predict(graph.load(paths["serving_default", "halve"]), {"0": x})["output_0"], x * 2
    )
    with pytest.raises(ModelError, match=r"give one of its functions \['double', 'halve'\]"):
        graph.predict(graph.load(paths[()]), {"0": x})
    assert check_trace(recorded(chosen, {"0": x})) == []


def frozen_graph(loop: bool, resource: bool = False):
    """A graph as TensorFlow 1 built it: placeholders, a condition on a flag, perhaps nested loops."""
    built = tf.Graph()

    def inner(start):
        grow = [tf.constant(0), start * 1.5]
        return v1.while_loop(
            lambda j, b: j < 2, lambda j, b: (j + 1, b + tf.reduce_mean(weights)), grow, name="inner"
        )[1]

    with built.as_default():
        v1.disable_control_flow_v2()
        image = v1.placeholder(tf.float32, [None, 9, 8, 3], name="image")
        training = v1.placeholder_with_default(False, [], name="phase_train")
        weights = v1.get_variable(
            "conv/weights",
            [3, 3, 3, 4],
            initializer=v1.random_normal_initializer(seed=1),
            use_resource=resource,
        )
        y = tf.nn.conv2d(image, weights, 2, "SAME", name="conv/Conv2D")
        y = v1.cond(training, lambda: tf.nn.dropout(y, rate=0.5), lambda: tf.nn.relu(y), name="cond")
        if loop:
            y = v1.while_loop(
                lambda i, a: i < 3, lambda i, a: (i + 1, inner(a)), [tf.constant(0), y], name="loop"
            )[1]
            y = v1.while_loop(
                lambda i, a: i < 2, lambda i, a: (i + 1, a - 0.5), [tf.constant(0), y], name="second"
            )[1]
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
    off = {"image": noise(2, 9, 8, 3), "phase_train": np.array(False)}
    np.testing.assert_array_equal(
        *(graph.predict(model, x)["embeddings"] for x in (off, {"image": off["image"]}))
    )
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


def test_files_that_are_no_graphs_are_refused(tmp_path):
    (tmp_path / "broken.pb").write_bytes(b"\x08\x96this is no graph")
    (tmp_path / "empty.pb").write_bytes(b"")
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "saved_model.pb").write_bytes(b"nonsense")
    cases = {"missing.pb": "does not exist", "broken.pb": "no TensorFlow graph", "empty.pb": "no operators"}
    cases.update(
        {
            "model.tflite": "no TensorFlow graph|no operators",
            "bad": "could not be loaded",
            ".": "holds no saved_model.pb",
        }
    )
    for name, message in cases.items():
        with pytest.raises(ModelError, match=message):
            graph.load(str(tmp_path / name))


def test_a_saved_model_is_loaded_by_its_file_too(exported):
    folder, array, expected = exported
    outputs = graph.predict(graph.load(os.path.join(folder, "saved_model.pb")), {"0": array})
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=1e-4, atol=1e-6)

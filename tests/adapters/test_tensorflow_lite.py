"""TFLite: small Keras models, converted, must compare as faithful, and every described record must replay."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install ai-edge-litert")

from porting_check_tensorflow import TensorFlowAdapter, lite  # noqa: E402

import porting_check as pc  # noqa: E402
from porting_check.neutral.errors import FrameworkMissing, InputError, ModelError, WeightsError  # noqa: E402
from porting_check.neutral.trace import MemorySink  # noqa: E402
from porting_check.recorder.session import record_model  # noqa: E402
from porting_check.testing.replay import check_trace  # noqa: E402

ADAPTER = TensorFlowAdapter()
L = keras.layers


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def randomised(model, seed=1):
    """Random weights of a moderate size; variances positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.standard_normal(variable.shape) * 0.4
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def sequential(*layers, shape):
    return randomised(keras.Sequential([keras.Input(shape), *layers]))


def converted(model, **options):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in options.items():
        setattr(converter, name, value)
    return lite.LiteModel(converter.convert(), "model.tflite")


def trace_of(model, *arrays):
    sink = MemorySink()
    inputs = dict(zip(model.graph.inputs, arrays))
    checks = record_model(ADAPTER, model, inputs, sink)
    assert checks.observer_difference == 0.0
    return sink.trace("tflite", ADAPTER.environment(), checks)


def operators(trace):
    return [record.operator.removeprefix("tflite.") for record in trace.records]


def small_net():
    x = inputs = keras.Input((12, 14, 3))
    x = L.Conv2D(4, 3, padding="same", strides=2, name="first")(x)
    x = L.BatchNormalization(name="bn")(x)
    x = L.ReLU(max_value=6, name="six")(x)
    x = y = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="tanh", name="deep")(x)
    x = L.SeparableConv2D(8, 3, padding="valid", name="apart")(x)
    x = L.ZeroPadding2D(1)(x)
    x = L.Add()([x, y])
    x = L.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(inputs, L.Dense(5, activation="softmax", name="head")(x)))


def attention():
    x = inputs = keras.Input((6, 8))
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4)(x, x))
    return randomised(keras.Model(inputs, L.Dense(8, activation="gelu")(x)))


def joined():
    a, b = keras.Input((6, 7, 2), name="a"), keras.Input((6, 7, 3), name="b")
    x = L.Concatenate()([a, b])
    x = L.Conv2D(4, (3, 2), activation="relu", groups=1)(x)
    y = keras.ops.split(x, 2, axis=-1)
    z = keras.ops.stack([y[0], y[1]], axis=1)
    return randomised(keras.Model([a, b], keras.ops.sum(z, axis=2)))


def arithmetic():
    x = inputs = keras.Input((5, 4))
    ops = keras.ops
    y = ops.sqrt(ops.abs(x) + 1.5) - ops.exp(-ops.square(x))
    y = ops.maximum(y, ops.log(ops.abs(x) + 2.0)) / (ops.sigmoid(x) + 0.5)
    y = ops.where(x > 0, y, -y) + ops.minimum(x, 0.3) * ops.rsqrt(ops.abs(x) + 1)
    y = ops.concatenate([y[:, 1:], ops.flip(y[:, :1], axis=-1)], axis=1)
    y = ops.transpose(y, (0, 2, 1)) + ops.max(ops.transpose(y, (0, 2, 1)), axis=2, keepdims=True)
    y = ops.pad(y, ((0, 0), (1, 1), (0, 2)), mode="reflect") + ops.mean(y)
    return keras.Model(inputs, ops.power(ops.abs(y) + 0.1, 1.5))


IMAGE, ODD = (1, 8, 10, 3), (1, 9, 7, 3)
ZOO = {
    "net": (small_net, [(2, 12, 14, 3)]),
    "attention": (attention, [(2, 6, 8)]),
    "joined": (joined, [(1, 6, 7, 2), (1, 6, 7, 3)]),
    "arithmetic": (arithmetic, [(2, 5, 4)]),
    "conv_dilated": (lambda: sequential(L.Conv2D(4, 3, dilation_rate=2, padding="same"), shape=ODD[1:]), [ODD]),
    "conv_1d": (lambda: sequential(L.Conv1D(4, 5, strides=2, padding="causal", activation="elu"), shape=(11, 3)), [(2, 11, 3)]),
    "conv_grouped": (lambda: sequential(L.Conv2D(6, 3, groups=3), shape=IMAGE[1:]), [IMAGE]),
    "transposed_same": (lambda: sequential(L.Conv2DTranspose(4, 3, strides=2, padding="same"), shape=ODD[1:]), [ODD]),
    "transposed_valid": (lambda: sequential(L.Conv2DTranspose(2, (4, 3), (1, 3), activation="relu"), shape=ODD[1:]), [ODD]),
    "max_pool": (lambda: sequential(L.MaxPooling2D(3, 2, "same"), shape=IMAGE[1:]), [IMAGE]),
    "average_pool": (lambda: sequential(L.AveragePooling2D(3, 2, "same"), shape=ODD[1:]), [ODD]),
    "bilinear": (lambda: sequential(L.UpSampling2D(2, interpolation="bilinear"), shape=ODD[1:]), [ODD]),
    "nearest": (lambda: sequential(L.UpSampling2D((3, 2)), shape=ODD[1:]), [ODD]),
    "resizing": (lambda: sequential(L.Resizing(13, 5), shape=ODD[1:]), [ODD]),
    "prelu": (lambda: sequential(L.PReLU(shared_axes=[1, 2]), shape=ODD[1:]), [ODD]),
    "leaky": (lambda: sequential(L.LeakyReLU(negative_slope=0.3), shape=(7,)), [(3, 7)]),
    "hard_swish": (lambda: sequential(L.Activation("hard_silu"), shape=(7,)), [(3, 7)]),
    "silu": (lambda: sequential(L.Activation("silu"), shape=(7,)), [(3, 7)]),
    "dense_of_rows": (lambda: sequential(L.Dense(5, activation="relu6"), shape=(4, 7)), [(3, 4, 7)]),
    "flatten": (lambda: sequential(L.Flatten(), L.Dense(3), shape=(4, 5, 2)), [(2, 4, 5, 2)]),
    "permute": (lambda: sequential(L.Permute((2, 1)), L.Dense(4), shape=(4, 7)), [(3, 4, 7)]),
    "group_norm": (lambda: sequential(L.GroupNormalization(3), shape=(5, 6, 6)), [(2, 5, 6, 6)]),
    "unit_norm": (lambda: sequential(L.UnitNormalization(), shape=(6,)), [(3, 6)]),
    "conv_3d": (lambda: sequential(L.Conv3D(3, 3, padding="same", strides=2), shape=(5, 6, 7, 2)), [(1, 5, 6, 7, 2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_a_converted_keras_model_is_faithful(name):
    build, shapes = ZOO[name]
    model = build()
    arrays = [noise(*shape, seed=place) for place, shape in enumerate(shapes)]
    candidate = converted(model)
    trace = trace_of(candidate, *arrays)
    reasons = [record.reason for record in trace.records if record.reason]
    assert not reasons, reasons
    check_trace(trace, 1e-4, 1e-5)
    report = pc.compare(model, candidate, arrays[0] if len(arrays) == 1 else arrays)
    said = [
        (p.op, p.verdict, p.explanation) for p in report.pairs if p.verdict not in ("round-off", "identical")
    ]
    assert report.verdict == "faithful", (report.reason, said, report.not_compared[:3])


def test_fused_activations_and_folded_batch_norms_are_nodes_of_their_own():
    trace = trace_of(converted(small_net()), noise(2, 12, 14, 3))
    nodes = {record.operator: [node.op_type for node in record.nodes] for record in trace.records}
    assert nodes["tflite.CONV_2D"] in (["Conv", "Clip"], ["Conv"])
    first = trace.records[0]
    assert first.operator == "tflite.CONV_2D"
    assert first.nodes[0].attributes["pads"] == (0, 0, 1, 1)
    weight = next(port for port in first.parameters if port.name == "weight")
    assert (weight.layout, weight.canonical) == ("OHWI", "OIHW")
    assert [port.layout for port in first.inputs] == ["NHWC"]
    assert operators(trace)[-1] == "SOFTMAX"


def test_a_wrong_weight_and_a_wrong_padding_are_found():
    right = small_net()
    wrong = keras.models.clone_model(right)
    wrong.set_weights(right.get_weights())
    image = noise(2, 12, 14, 3)
    assert pc.compare(right, converted(wrong), image).verdict == "faithful"
    kernel = wrong.get_layer("head").kernel
    kernel.assign(np.asarray(kernel) * np.float32(1.001))
    report = pc.compare(right, converted(wrong), image)
    assert report.verdict == "divergent"
    assert [f.pair.reference[-1] for f in report.findings] == ["head"]


def test_names_shapes_and_layouts_of_inputs_and_parameters():
    model = converted(small_net())
    (spec,) = ADAPTER.inputs(model)
    assert (spec.shape, spec.dtype, spec.layout) == ((None, 12, 14, 3), "float32", "NHWC")
    parameters = ADAPTER.parameters(model)
    assert len(set(parameters)) == len(parameters) >= 8
    trace = trace_of(model, noise(2, 12, 14, 3))
    for name, array in trace.parameters().items():
        np.testing.assert_array_equal(array, parameters[name])
    assert ADAPTER.owns(model)
    assert ADAPTER.training(model) == ()
    with pytest.raises(WeightsError, match="part of the file"):
        ADAPTER.assign(model, parameters)


def test_a_free_batch_is_resized_and_other_shapes_are_refused():
    model = converted(sequential(L.Dense(3), shape=(4,)))
    for batch in (1, 5):
        assert next(iter(ADAPTER.predict(model, {"0": noise(batch, 4)}).values())).shape == (batch, 3)
    with pytest.raises(InputError, match=r"shape \(2, 5\); the model expects \(any, 4\)"):
        ADAPTER.predict(model, {"0": noise(2, 5)})
    with pytest.raises(InputError, match="dtype float64"):
        ADAPTER.predict(model, {"0": noise(2, 4).astype(np.float64)})
    with pytest.raises(InputError, match="has the inputs"):
        ADAPTER.predict(model, {"p": noise(2, 4), "q": noise(2, 4)})


def test_outputs_go_by_the_names_of_the_signature(tmp_path):
    class Heads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 6), tf.float32, name="sound")])
        def serve(self, sound):
            return {"note": tf.sin(sound) * 2.0, "onset": tf.cos(sound) * 2.0, "contour": tf.tanh(sound)}

    heads = Heads()
    tf.saved_model.save(heads, str(tmp_path / "saved"), signatures=heads.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    (tmp_path / "heads.tflite").write_bytes(converter.convert())
    model = ADAPTER.load(str(tmp_path / "heads.tflite"))
    assert list(model.graph.inputs) == ["sound"]
    found = ADAPTER.predict(model, {"sound": noise(1, 6)})
    np.testing.assert_allclose(found["note"], np.sin(noise(1, 6)) * 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["contour"], np.tanh(noise(1, 6)), rtol=1e-5, atol=1e-6)
    report = pc.compare(ADAPTER.load(str(tmp_path / "saved")), model, {"sound": noise(1, 6)})
    assert report.verdict == "faithful", report.reason
    assert len(report.outputs) == 3


def test_what_is_quantized_is_opaque_with_the_reason_and_its_values():
    model = sequential(L.Dense(64, activation="relu"), L.Dense(4), shape=(40,))

    def samples():
        for place in range(4):
            yield [noise(1, 40, seed=place)]

    options = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": samples}
    trace = trace_of(converted(model, **options), noise(1, 40))
    reasons = {record.operator: record.reason for record in trace.records}
    assert "on quantized int8 is not described" in reasons["tflite.FULLY_CONNECTED"]
    report = pc.compare(model, converted(model, **options), noise(1, 40))
    assert report.verdict == "inconclusive"
    half = converted(model, optimizations=[tf.lite.Optimize.DEFAULT], target_spec=_half())
    assert "tflite.DEQUANTIZE" in {record.operator for record in trace_of(half, noise(1, 40)).records}


def _half():
    spec = tf.lite.TargetSpec()
    spec.supported_types = [tf.float16]
    return spec


def test_control_flow_is_opaque_with_the_reason():
    class Loop(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((3,), tf.float32)])
        def __call__(self, x):
            return tf.while_loop(
                lambda y: tf.reduce_sum(y) < 100.0, lambda y: (y * 2.0,), (tf.abs(x) + 1.0,)
            )[0]

    loop = Loop()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loop.__call__.get_concrete_function()], loop)
    trace = trace_of(lite.LiteModel(converter.convert()), noise(3))
    opaque = [record for record in trace.records if record.opaque]
    assert [record.reason for record in opaque] == ["tflite.WHILE runs other graphs of the file whole"]
    np.testing.assert_allclose(
        trace.values[trace.outputs[0].value], loop(tf.constant(noise(3))).numpy(), rtol=1e-6
    )


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 64, b"PK\3\4" * 30])
def test_files_that_are_no_models_are_refused(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="TFLite model"):
        ADAPTER.load(str(path))


def test_a_cut_file_and_a_missing_one_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(sequential(L.Dense(3), shape=(4,))).content[:700])
    with pytest.raises(ModelError, match="damaged TFLite model"):
        ADAPTER.load(str(path))
    with pytest.raises(ModelError, match="does not exist"):
        ADAPTER.load(str(tmp_path / "none.tflite"))


def test_without_an_interpreter_the_package_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith(("ai_edge_litert", "tensorflow.lite")):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    model = converted(sequential(L.Dense(3), shape=(4,)))
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(FrameworkMissing, match="pip install ai-edge-litert"):
        ADAPTER.predict(model, {"0": noise(1, 4)})
    with pytest.raises(FrameworkMissing, match="pip install ai-edge-litert"):
        lite.LiteModel(model.content)

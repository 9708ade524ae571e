"""TensorFlow and Keras under the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from keras import layers

from porting_check.neutral.node import Node
from porting_check.testing import AdapterContract, DescribeContract, Example, Layer, RunContract
from porting_check.testing.strategies import Geometry, geometries
from tests.adapters.tensorflow_keras import noise, randomise


def built(*stack: Any, shape: tuple[int, ...] = (6,)) -> Callable[[], Any]:
    """A sequential model of layers made anew at every call, with random weights."""
    return lambda: randomise(keras.Sequential([keras.Input(shape), *(make() for make in stack)]))


def functional(forward: Callable[[Any], Any], shape: tuple[int, ...] = (6,)) -> Callable[[], Any]:
    """A functional model with random weights."""

    def build() -> Any:
        x = keras.Input(shape)
        return randomise(keras.Model(x, forward(x)))

    return build


class Broken(layers.Layer):
    def build(self, shape):
        self.built = True

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x, training=None):
        raise KeyError("nothing here")


class Noise(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


class Counting(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x):
        self.count.assign_add(1.0)
        return x * self.count


class Bessel(layers.Layer):
    def call(self, x):
        return tf.math.special.bessel_j0(x)


class Moved(tf.Module):
    @tf.function
    def __call__(self, x):
        return tf.transpose(tf.reshape(x, (3, 4)))


class Variable(tf.Module):
    """A variable that is written to after it was read."""

    def __init__(self):
        super().__init__()
        self.total = tf.Variable(tf.zeros((2, 6)))

    @tf.function
    def __call__(self, x):
        self.total.assign(x)
        first = self.total * 2.0
        self.total.assign_add(x)
        return first + self.total


def twice() -> Callable[[], Any]:
    def forward(x: Any) -> Any:
        fc = layers.Dense(6, name="fc")
        return fc(layers.ReLU(name="relu")(fc(x)))

    return functional(forward)


def network() -> Callable[[], Any]:
    return built(
        lambda: layers.Conv2D(4, 3, 2, "same", activation="relu"),
        lambda: layers.BatchNormalization(),
        lambda: layers.MaxPooling2D(),
        lambda: layers.Flatten(),
        lambda: layers.Dense(2),
        shape=(15, 16, 3),
    )


def mlp() -> Callable[[], Any]:
    return built(
        lambda: layers.Dense(8, activation="gelu", name="fc1"),
        lambda: layers.LayerNormalization(name="norm"),
        lambda: layers.Dense(3, name="fc2"),
    )


def nested(x: Any) -> Any:
    return {"logits": layers.Dense(3)(x), "deep": [layers.ReLU()(x), {"soft": layers.Softmax()(x)}]}


def moved(dtype: str) -> Example:
    x = np.arange(12).reshape(2, 6).astype(getattr(ml_dtypes, dtype))
    return Example(dtype, "narrow", Moved, {"0": x})


class TestRecording(AdapterContract):
    framework = "tensorflow"
    lacks = {"training": "a model is run with training=False, whatever a layer's own flag says (Keras 3)"}  # noqa: RUF012

    def examples(self):
        x = noise(2, 6)
        broken = built(lambda: layers.Dense(6), lambda: Broken(name="inner"))
        return [
            Example("mlp", "plain", mlp(), {"0": x}, ("fc1", "norm", "fc2")),
            Example("network", "plain", network(), {"0": noise(2, 15, 16, 3)}),
            Example("twice", "repeated", twice(), {"0": x}, ("fc", "relu", "fc#1")),
            Example(
                "variable", "in-place", Variable, {"0": x}, reasons={"add/ReadVariableOp": "itself changed"}
            ),
            *map(moved, ("bfloat16", "float8_e4m3fn", "float8_e5m2")),
            Example(
                "nested", "nested", functional(nested), {"0": x}, outputs=("logits", "deep/0", "deep/1/soft")
            ),
            Example(
                "bessel",
                "opaque",
                built(lambda: Bessel(name="bessel")),
                {"0": x},
                reasons={"bessel/BesselJ0": ""},
            ),
            Example("noise", "random", built(Noise), {"0": x}),
            Example("counting", "stateful", built(Counting), {"0": x}),
            Example("broken", "raises", broken, {"0": x}, fails_in="inner"),
        ]

    def state(self, model):
        seeds = [v.numpy().tolist() for v in getattr(model, "non_trainable_variables", ())]
        generator = tf.random.get_global_generator().state.numpy().tolist()
        return generator, seeds, keras.config.floatx(), tf.executing_eagerly()


class TestRun(RunContract):
    framework = "tensorflow"
    at_least = 165

    def state(self):
        generator = tf.random.get_global_generator().state.numpy().tolist()
        return generator, keras.config.floatx(), tf.executing_eagerly()


def test_operators_that_go_through_float32_silently_are_routed_around():
    x = np.random.default_rng(1).normal(size=(1, 3, 5, 4))
    third = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nodes = [
        (Node("Resize", ("x", "", "", "s"), attributes=third), [x, None, None, np.array([1, 3, 10, 8])]),
        (Node("LRN", ("x",), attributes={"size": 3, "alpha": 0.1}), [x]),
        (Node("Gelu", ("x",), attributes={"approximate": "none"}), [x]),
        (Node("LeakyRelu", ("x",), attributes={"alpha": 0.1}), [x]),
    ]
    run = TestRun().run
    for node, inputs in nodes:
        wide, native = run(node, inputs, float64=True)[0], run(node, [x.astype(np.float32), *inputs[1:]])[0]
        assert wide.dtype == np.float64
        assert native.dtype == np.float32
        assert 0 < np.abs(wide - native).max() < 1e-5
        assert (wide.astype(np.float32) != wide).mean() > 0.5


def layer(build: Callable[[], Any], *arrays: np.ndarray, what: str = "") -> Layer:
    """A layer in a model of its own, with random weights."""

    def model() -> Any:
        inputs = [keras.Input(array.shape[1:], dtype=array.dtype.name) for array in arrays]
        made = build()
        outputs = made(inputs if len(inputs) > 1 else inputs[0])
        return randomise(keras.Model(inputs, outputs))

    return Layer(model, {str(place): array for place, array in enumerate(arrays)}, what)


def convolution(g: Geometry, name: str, **more: Any) -> Layer:
    options = {"strides": g.stride, "padding": g.padding, "use_bias": g.bias, **more}
    if name in ("Conv", "SeparableConv"):
        options["dilation_rate"] = g.dilation
    depthwise = name == "DepthwiseConv"
    kernel = g.kernel if not depthwise or g.rank == 1 else g.kernel[:1] * g.rank
    if depthwise or name == "SeparableConv":  # TensorFlow has only equal strides and rates for these
        options |= {"strides": g.stride[0], "depth_multiplier": g.groups}
        options |= {"dilation_rate": g.dilation[0]} if "dilation_rate" in options else {}
    if name == "Conv":
        options["groups"] = g.groups
    kind = getattr(
        layers, f"{name.removesuffix('Transpose')}{g.rank}D{'Transpose' * name.endswith('Transpose')}"
    )
    given = (kernel,) if depthwise else (g.filters, kernel)
    sizes = [max(g.dilation[0], d) * (k - 1) + 1 + n for d, k, n in zip(g.dilation, kernel, g.sizes)]
    return layer(lambda: kind(*given, **options), noise(g.batch, *sizes, g.channels), what=f"{name} {g}")


def pool(g: Geometry, kind: str) -> Layer:
    build = getattr(layers, f"{kind}Pooling{g.rank}D")
    sizes = [n + 1 for n in g.sizes]
    shape = (g.batch, *sizes, g.channels)
    return layer(lambda: build(g.kernel, g.stride, g.padding), noise(*shape), what=f"{kind} {g}")


def normalization(g: Geometry, kind: str) -> Layer:
    build = {
        "BatchNormalization": lambda: layers.BatchNormalization(
            epsilon=1e-3, center=g.bias, scale=g.batch == 1
        ),
        "LayerNormalization": lambda: layers.LayerNormalization(epsilon=1e-4, center=g.bias),
        "GroupNormalization": lambda: layers.GroupNormalization(g.groups, epsilon=1e-4, scale=g.bias),
        "RMSNormalization": lambda: layers.RMSNormalization(epsilon=1e-6),
        "UnitNormalization": lambda: layers.UnitNormalization(),
    }[kind]
    return layer(build, noise(g.batch, *(n + 1 for n in g.sizes), g.channels), what=f"{kind} {g}")


def dense(g: Geometry) -> Layer:
    shape = (g.batch, g.channels) if g.rank == 1 else (g.batch, *g.sizes[:1], g.channels)
    word = ("relu", "softmax", None)[g.kernel[0] % 3]
    return layer(
        lambda: layers.Dense(g.filters, word, use_bias=g.bias), noise(*shape), what=f"Dense {word} {g}"
    )


def recurrent(g: Geometry, kind: str) -> Layer:
    options = {"return_sequences": g.bias, "go_backwards": g.groups == 2}
    if kind == "GRU":
        options["reset_after"] = g.batch == 1

    def build() -> Any:
        cell = getattr(layers, kind)(g.filters, **options)
        return layers.Bidirectional(cell) if g.rank == 3 and g.groups == 1 else cell

    return layer(build, noise(g.batch, 4, g.channels), what=f"{kind} {options} {g}")


def enlarged(g: Geometry, interpolation: str) -> Layer:
    if g.rank != 2:
        kind = getattr(layers, f"UpSampling{g.rank}D")
        return layer(
            lambda: kind(g.stride if g.rank > 1 else g.stride[0]), noise(*g.last), what=f"UpSampling {g}"
        )
    build = lambda: layers.UpSampling2D(g.stride, interpolation=interpolation)  # noqa: E731
    return layer(build, noise(*g.last), what=f"UpSampling2D {interpolation} {g}")


OTHERS: dict[str, Callable[[], Any]] = {
    **{word: (lambda word=word: layers.Activation(word)) for word in (
        "relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "softplus", "softsign", "exponential",
        "hard_sigmoid", "hard_silu", "leaky_relu", "softmax", "log_softmax", "linear", "log_sigmoid", "hard_tanh", "tanh_shrink",
    )},
    "LeakyReLU": lambda: layers.LeakyReLU(0.2),
    "PReLU": lambda: layers.PReLU(shared_axes=[1, 2]),
    "ELU": lambda: layers.ELU(0.7),
    "ReLU": lambda: layers.ReLU(max_value=4.0, negative_slope=0.1, threshold=0.5),
    "Softmax": lambda: layers.Softmax(axis=1),
    "Flatten": layers.Flatten,
    "Reshape": lambda: layers.Reshape((6, -1)),
    "Permute": lambda: layers.Permute((3, 1, 2)),
    "ZeroPadding2D": lambda: layers.ZeroPadding2D(((1, 0), (2, 1))),
    "Cropping2D": lambda: layers.Cropping2D(((1, 0), (2, 1))),
    "GlobalAveragePooling2D": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "GlobalMaxPooling2D": layers.GlobalMaxPooling2D,
    "Dropout": lambda: layers.Dropout(0.3),
    "Rescaling": lambda: layers.Rescaling(1 / 127.5, -1.0),
}  # fmt: skip


class TestDescribe(DescribeContract):
    framework = "tensorflow"

    def layers(self):
        simple = geometries(groups=(1,), stride_or_dilation=True)
        grouped = geometries(groups=(1, 2), stride_or_dilation=True)
        plane = geometries(ranks=(1, 2), groups=(1, 2), stride_or_dilation=True)
        norms = (
            "BatchNormalization",
            "LayerNormalization",
            "GroupNormalization",
            "RMSNormalization",
            "UnitNormalization",
        )
        return {
            "Conv": grouped.map(lambda g: convolution(g, "Conv")),
            "ConvTranspose": simple.map(lambda g: convolution(g, "ConvTranspose")),
            "DepthwiseConv": plane.map(lambda g: convolution(g, "DepthwiseConv")),
            "SeparableConv": plane.map(lambda g: convolution(g, "SeparableConv")),
            "MaxPooling": simple.map(lambda g: pool(g, "Max")),
            "AveragePooling": simple.map(lambda g: pool(g, "Average")),
            **{kind: grouped.map(lambda g, kind=kind: normalization(g, kind)) for kind in norms},
            "Dense": simple.map(dense),
            **{k: grouped.map(lambda g, k=k: recurrent(g, k)) for k in ("LSTM", "GRU", "SimpleRNN")},
            "UpSampling": st.builds(enlarged, simple, st.sampled_from(("nearest", "bilinear"))),
            "Embedding": st.just(
                layer(lambda: layers.Embedding(9, 4), np.arange(8, dtype=np.int32).reshape(2, 4))
            ),
            "the others": st.sampled_from(sorted(OTHERS)).map(
                lambda name: layer(OTHERS[name], noise(2, 4, 6, 3), what=name)
            ),
        }

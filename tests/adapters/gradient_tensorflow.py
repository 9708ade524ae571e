"""Models of Keras and TensorFlow whose gradients are tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from porting_check.testing.gradient_contract import Differentiable
from tests.adapters.gradient_models import (
    FIRST,
    FIRST_BIAS,
    IMAGE,
    INTEGERS,
    ROWS,
    SECOND,
    SECOND_BIAS,
    SOFT,
    normal,
    reversed_gradient,
    two_layers,
    weights,
)
from tests.adapters.tensorflow_keras import randomise


def functional(
    forward: Callable[..., Any], *shapes: tuple[int, ...], integers: bool = False
) -> Callable[[], Any]:
    """A functional model with the same random weights at every call; integers for the last input if wanted."""

    def build() -> Any:
        given = [keras.Input(shape) for shape in shapes]
        if integers:
            given[-1] = keras.Input(shapes[-1], dtype="int32")
        return randomise(keras.Model(given if len(given) > 1 else given[0], forward(*given)))

    return build


def linear() -> Any:
    x = keras.Input((6,))
    made = keras.Model(x, layers.Dense(3, name="second")(layers.Dense(4, name="first")(x)))
    made.set_weights([FIRST, FIRST_BIAS, SECOND, SECOND_BIAS])
    return made


class Broken(layers.Layer):
    def build(self, shape):
        self.built = True

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x, training=None):
        raise KeyError("nothing here")


class Branching(layers.Layer):
    def call(self, x):
        return tf.tanh(x) if float(tf.reduce_sum(x)) > -1e9 else x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


class Detached(layers.Layer):
    def call(self, x):
        return tf.stop_gradient(x) * 3.0


@tf.custom_gradient
def turned(x):
    return tf.identity(x), lambda gradient: -gradient


class Turned(layers.Layer):
    def call(self, x):
        return 2.0 * x + turned(3.0 * x)


class Module(tf.Module):
    """A function of an array and of variables, of which one is not trained and one not read."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        kernel, bias = weights((6, 4), (4,))
        self.kernel, self.bias = (
            tf.Variable(kernel, name="kernel"),
            tf.Variable(bias, name="bias", trainable=False),
        )
        self.spare = tf.Variable(bias, name="spare")
        self.forward = forward

    @tf.function
    def __call__(self, x):
        return self.forward(self, x)


class Written(tf.Module):
    """Reads a variable, changes it, and reads it again."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(tf.ones((2, 6)), name="total")

    @tf.function
    def __call__(self, x):
        first = self.total * x
        self.total.assign(tf.zeros((2, 6)))
        return first + self.total + x


def looped(m: Any, x: Any) -> Any:
    y = tf.matmul(x, m.kernel) + m.bias
    for _ in tf.range(3):
        y = tf.sin(y) + m.bias
    return y


def decided(m: Any, x: Any) -> Any:
    y = tf.matmul(x, m.kernel)
    if tf.reduce_sum(y) > -1e9:
        y = tf.sin(y) * m.bias
    return y


def frozen() -> Any:
    made = functional(lambda x: layers.Activation("tanh")(layers.Dense(3, name="fc")(x)), (6,))()
    made.get_layer("fc").trainable = False
    return made


class Spare(layers.Layer):
    def build(self, shape):
        self.spare = self.add_weight(shape=(3,), name="spare")

    def call(self, x):
        return tf.tanh(x)


def convolutions(x: Any) -> Any:
    x = layers.Conv2D(4, 3, 2, "same", activation="gelu")(x)
    x = layers.BatchNormalization()(layers.UpSampling2D(2, interpolation="bilinear")(x))
    x = layers.DepthwiseConv2D(3, activation="silu")(x)
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def recurrent(x: Any) -> Any:
    return layers.GRU(3)(layers.LSTM(4, return_sequences=True)(x))


def repeated(x: Any) -> Any:
    fc = layers.Dense(6, name="fc")
    return fc(layers.Activation("tanh")(fc(x)))


def two_outputs(x: Any) -> Any:
    y = layers.Dense(4)(x)
    return {"a": layers.Softmax()(y), "b": layers.Dense(2)(y)}


def with_integers(x: Any, i: Any) -> Any:
    table = layers.GlobalAveragePooling1D()(layers.Embedding(5, 4, name="table")(i))
    return layers.Add()([layers.Dense(4)(x), table])


def examples() -> list[Differentiable]:
    x, soft = {"0": ROWS}, {"0": SOFT}
    names = ("first/kernel", "first/bias", "second/kernel", "second/bias")
    integers = {"0": SOFT, "1": INTEGERS.astype(np.int32)}
    parts = ("parameter:bias",)
    tanh = functional(lambda x: layers.Softmax()(layers.Dense(6, activation="tanh", name="fc")(x)), (6,))
    return [
        Differentiable("linear", "linear", linear, x, expected=two_layers(names, False)),
        Differentiable("smooth", "smooth", tanh, soft),
        Differentiable("convolutions", "smooth", functional(convolutions, (7, 7, 3)), {"0": IMAGE}),
        Differentiable("recurrent", "smooth", functional(recurrent, (5, 6)), {"0": normal(2, 5, 6)}),
        Differentiable("repeated", "repeated", functional(repeated, (6,)), soft),
        Differentiable("two outputs", "two-outputs", functional(two_outputs, (6,)), soft),
        Differentiable(
            "integers",
            "integers",
            functional(with_integers, (6,), (3,), integers=True),
            integers,
            present=("table:0",),
        ),
        Differentiable("unused", "unused", functional(lambda x: Spare()(layers.Dense(3)(x)), (6,)), soft),
        Differentiable("frozen", "frozen", frozen, soft, present=("parameter:fc/kernel",)),
        Differentiable("not trained", "frozen", lambda: Module(decided), soft, ("Sum:0",), parts),
        Differentiable("loop", "frozen", lambda: Module(looped), soft, present=parts),
        Differentiable(
            "detached",
            "detached",
            functional(lambda x: layers.Multiply()([x, Detached(name="off")(x)]), (6,)),
            soft,
            ("off/Mul:0",),
        ),
        Differentiable("written", "in-place", Written, soft, ("parameter:zeros",), ("parameter:total",)),
        Differentiable("branching", "branching", functional(Branching(), (6,)), soft, ("branching/Sum:0",)),
        Differentiable(
            "dropout", "dropout", functional(lambda x: layers.Dropout(0.5)(layers.Dense(3)(x)), (6,)), soft
        ),
        Differentiable("turned", "rule", functional(Turned(), (6,)), x, expected=reversed_gradient),
        Differentiable(
            "raises",
            "raises",
            functional(lambda x: Broken(name="inner")(layers.Dense(3)(x)), (6,)),
            x,
            says="inner",
        ),
        Differentiable(
            "lu", "unsupported", lambda: tf.function(lambda x: tf.linalg.lu(x[:, :2])[0]), x, says="Lu"
        ),
    ]

"""Activation functions, with ONNX's own default coefficients."""

from __future__ import annotations

import math
from typing import Callable, Dict, Optional

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import Call, Handler, Result, like

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def leaky_relu(x: tf.Tensor, alpha: float) -> tf.Tensor:
    """``tf.nn.leaky_relu``; in float64 a choice by sign, because its slope is a float32 attribute."""
    return tf.where(x > 0, x, like(alpha, x) * x) if x.dtype == tf.float64 else tf.nn.leaky_relu(x, alpha)


def elu(x: tf.Tensor, alpha: float) -> tf.Tensor:
    """``tf.nn.elu``, whose alpha is 1, scaled below zero for any other."""
    return tf.nn.elu(x) if alpha == 1.0 else tf.where(x > 0, x, like(alpha, x) * tf.nn.elu(x))


def celu(x: tf.Tensor, alpha: float) -> tf.Tensor:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return tf.where(x > 0, x, like(alpha, x) * tf.nn.elu(x / like(alpha, x)))


def selu(x: tf.Tensor, alpha: float, gamma: float) -> tf.Tensor:
    """``gamma * elu(x, alpha)``; TensorFlow's own selu fixes both at more digits than ONNX's have."""
    return like(gamma, x) * elu(x, alpha)


def gelu(call: Call) -> Result:
    """ONNX Gelu, exact or with the tanh approximation.

    In float64 by its formula: ``tf.nn.gelu`` rounds its constants to float32.
    """
    x, approximate = call.x, call.get("approximate", "none") == "tanh"
    if x.dtype != tf.float64:
        return tf.nn.gelu(x, approximate)
    if approximate:
        return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2.0)))


def prelu(call: Call) -> Result:
    """ONNX PRelu: a choice by sign, the slope broadcasts."""
    return tf.where(call.x < 0, call.need(1) * call.x, call.x)


def hard_swish(x: tf.Tensor) -> tf.Tensor:
    """``x * relu6(x + 3) / 6``, as Keras has it."""
    return x * tf.nn.relu6(x + 3) / 6


def mish(x: tf.Tensor) -> tf.Tensor:
    """``x * tanh(softplus(x))``, as Keras has it."""
    return x * tf.tanh(tf.nn.softplus(x))


def swish(call: Call) -> Result:
    """ONNX Swish: ``x * sigmoid(alpha * x)``; TensorFlow's SiLU when alpha is 1."""
    alpha = call.get("alpha", 1.0)
    return tf.nn.silu(call.x) if alpha == 1.0 else call.x * tf.sigmoid(like(alpha, call.x) * call.x)


def swiglu(call: Call) -> Result:
    """ONNX SwiGLU (opset 28): the swish of the first input times the second."""
    a, b = call.x, call.need(1)
    if a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise call.unsupported(f"its inputs have shapes {shapes}; they must be the same")
    return swish(call) * b


def shrink(call: Call) -> Result:
    """ONNX Shrink: zero inside [-lambd, lambd], moved by ``bias`` outside."""
    x, limit, bias = call.x, call.get("lambd", 0.5), call.get("bias", 0.0)
    kind = float if x.dtype.is_floating else int
    low, move = like(kind(limit), x), like(kind(bias), x)
    return tf.where(x < -low, x + move, tf.where(x > low, x - move, tf.zeros_like(x)))


def hardmax(call: Call) -> Result:
    """ONNX Hardmax: one at the first maximum along the axis, zero elsewhere."""
    axis = call.get("axis", -1)
    return tf.one_hot(tf.argmax(call.x, axis=axis), call.x.shape[axis], axis=axis, dtype=call.x.dtype)


def scaled_tanh(x: tf.Tensor, alpha: float, beta: float) -> tf.Tensor:
    """``alpha * tanh(beta * x)``, an activation of recurrent layers."""
    return like(alpha, x) * tf.tanh(like(beta, x) * x)


def affine(x: tf.Tensor, alpha: float, beta: float) -> tf.Tensor:
    """``alpha * x + beta``."""
    return like(alpha, x) * x + like(beta, x)


def hard_sigmoid(x: tf.Tensor, alpha: float, beta: float) -> tf.Tensor:
    """``max(0, min(1, alpha * x + beta))``."""
    return tf.clip_by_value(affine(x, alpha, beta), like(0.0, x), like(1.0, x))


def thresholded(x: tf.Tensor, alpha: float) -> tf.Tensor:
    """``x`` above ``alpha``, zero elsewhere."""
    return tf.where(x > like(alpha, x), x, tf.zeros_like(x))


def _coefficients(function: Callable[..., tf.Tensor], **defaults: float) -> Handler:
    """A handler that calls ``function(x, …)`` with attributes in the order of their defaults."""

    def run(call: Call) -> Result:
        return function(call.x, *(call.get(name, default) for name, default in defaults.items()))

    return run


OPERATORS: Dict[str, Handler] = {
    "Relu": _coefficients(tf.nn.relu),
    "LeakyRelu": _coefficients(leaky_relu, alpha=0.01),
    "PRelu": prelu,
    "Elu": _coefficients(elu, alpha=1.0),
    "Celu": _coefficients(celu, alpha=1.0),
    "Selu": _coefficients(selu, alpha=SELU_ALPHA, gamma=SELU_GAMMA),
    "Gelu": gelu,
    "Sigmoid": _coefficients(tf.sigmoid),
    "HardSigmoid": _coefficients(hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _coefficients(hard_swish),
    "Mish": _coefficients(mish),
    "Swish": swish,
    "SwiGLU": swiglu,
    "Softplus": _coefficients(tf.nn.softplus),
    "Softsign": _coefficients(tf.nn.softsign),
    "ThresholdedRelu": _coefficients(thresholded, alpha=1.0),
    "Shrink": shrink,
    "Tanh": _coefficients(tf.tanh),
    "Softmax": _coefficients(tf.nn.softmax, axis=-1),
    "LogSoftmax": _coefficients(tf.nn.log_softmax, axis=-1),
    "Hardmax": hardmax,
}


def recurrent_activation(
    name: str, alpha: Optional[float], beta: Optional[float]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """An activation of ONNX's RNN, GRU and LSTM by its name, with their defaults for coefficients not given.

    Raises:
        KeyError: ONNX has no such activation.
    """
    table: Dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
        "relu": tf.nn.relu,
        "tanh": tf.tanh,
        "sigmoid": tf.sigmoid,
        "softsign": tf.nn.softsign,
        "softplus": tf.nn.softplus,
        "affine": lambda x: affine(x, _or(alpha, 1.0), _or(beta, 0.0)),
        "leakyrelu": lambda x: leaky_relu(x, _or(alpha, 0.01)),
        "thresholdedrelu": lambda x: thresholded(x, _or(alpha, 1.0)),
        "scaledtanh": lambda x: scaled_tanh(x, _or(alpha, 1.0), _or(beta, 1.0)),
        "hardsigmoid": lambda x: hard_sigmoid(x, _or(alpha, 0.2), _or(beta, 0.5)),
        "elu": lambda x: elu(x, _or(alpha, 1.0)),
    }
    return table[name.lower()]


def _or(value: Optional[float], default: float) -> float:
    """A coefficient, or its default."""
    return default if value is None else value

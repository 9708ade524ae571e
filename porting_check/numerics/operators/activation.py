"""Activations: the formulas of ONNX, written so that they neither overflow nor cancel in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    channelwise,
    normalized_axis,
    operator,
    optional,
    required,
)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow and with full relative precision on both sides."""
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, decay) / (1 + decay), x.dtype)


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``, exact for large and small arguments."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), x.dtype)


def erf(x: Array) -> Array:
    """The error function, from scipy (imported on first use)."""
    from scipy.special import erf as scipy_erf

    return np.asarray(scipy_erf(x), x.dtype)


def _normal_cdf(x: Array) -> Array:
    """``(1 + erf(x / sqrt 2)) / 2`` without the cancellation on the negative side."""
    from scipy.special import ndtr

    return np.asarray(ndtr(x), x.dtype)


def softmax(x: Array, axis: int) -> Array:
    """Softmax along an axis; a slice that is minus infinity throughout gives NaN, as the formula does."""
    shifted: Array = np.exp(x - x.max(axis=axis, keepdims=True)) if x.size else x.copy()
    shifted /= shifted.sum(axis=axis, keepdims=True)
    return shifted


def _unary(name: str, function: Callable[[Array, Attributes], Any]) -> None:
    """Register an activation of one input."""

    def run(attributes: Attributes, inputs: Inputs) -> Outputs:
        x = required(inputs, 0, "X")
        return (np.asarray(function(x, attributes), x.dtype),)

    run.__name__, run.__doc__ = name.lower(), f"ONNX {name}."
    operator(name)(run)


def _leaky(x: Array, a: Attributes) -> Array:
    return np.where(x < 0, a.get("alpha", 0.01) * x, x)


def _elu(x: Array, a: Attributes) -> Array:
    return np.where(x < 0, a.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)), x)


def _selu(x: Array, a: Attributes) -> Array:
    alpha, gamma = a.get("alpha", 1.67326319217681884765625), a.get("gamma", 1.05070102214813232421875)
    return np.asarray(gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def _celu(x: Array, a: Attributes) -> Array:
    alpha = a.get("alpha", 1.0)
    return np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)))


def _gelu(x: Array, a: Attributes) -> Array:
    """Exact, or with ``approximate="tanh"`` the polynomial of Hendrycks and Gimpel (ONNX Gelu-20)."""
    if str(a.get("approximate", "none")) != "tanh":
        return np.asarray(x * _normal_cdf(x))
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    # (1 + tanh t) / 2 is the logistic function of 2 t, which does not cancel for negative t.
    return x * sigmoid(np.asarray(2 * inner, x.dtype))


def _hard_sigmoid(x: Array, a: Attributes) -> Array:
    return np.asarray(np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1))


def _hard_swish(x: Array, a: Attributes) -> Array:
    return np.asarray(x * np.clip(x / 6 + 0.5, 0, 1))


def _swish(x: Array, a: Attributes) -> Array:
    return x * sigmoid(np.asarray(a.get("alpha", 1.0) * x, x.dtype))


def _thresholded(x: Array, a: Attributes) -> Array:
    return np.where(x > a.get("alpha", 1.0), x, 0)


def _shrink(x: Array, a: Attributes) -> Array:
    bias, edge = a.get("bias", 0.0), a.get("lambd", 0.5)
    return np.where(x < -edge, x + bias, np.where(x > edge, x - bias, 0))


_unary("Relu", lambda x, a: np.maximum(x, 0))
_unary("Sigmoid", lambda x, a: sigmoid(x))
_unary("Tanh", lambda x, a: np.tanh(x))
_unary("Erf", lambda x, a: erf(x))
_unary("Softplus", lambda x, a: softplus(x))
_unary("Softsign", lambda x, a: x / (1 + np.abs(x)))
_unary("Mish", lambda x, a: x * np.tanh(softplus(x)))
_unary("LeakyRelu", _leaky)
_unary("Elu", _elu)
_unary("Selu", _selu)
_unary("Celu", _celu)
_unary("Gelu", _gelu)
_unary("HardSigmoid", _hard_sigmoid)
_unary("HardSwish", _hard_swish)
_unary("Swish", _swish)
_unary("ThresholdedRelu", _thresholded)
_unary("Shrink", _shrink)


@operator("PRelu")
def prelu(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``slope * x`` where x is negative; the slope broadcasts to x.

    A one-dimensional slope that has one value per channel but cannot broadcast is taken per channel, as
    exporters of old operator sets wrote it.
    """
    x, slope = required(inputs, 0, "X"), required(inputs, 1, "slope")
    if slope.ndim == 1 and x.ndim > 2 and slope.size not in (1, x.shape[-1]) and slope.size == x.shape[1]:
        slope = channelwise(slope, x.ndim)
    return (np.where(x < 0, slope * x, x),)


@operator("Clip")
def clip(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Bounded by inputs 1 and 2 (or by the old attributes ``min`` and ``max``); NaN stays NaN."""
    x, low, high = required(inputs, 0, "input"), optional(inputs, 1), optional(inputs, 2)
    low, high = attributes.get("min") if low is None else low, attributes.get("max") if high is None else high
    # Where the bounds cross, the upper one wins, as the standard says.
    y = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    y = y if high is None else np.minimum(y, np.asarray(high, x.dtype))
    return (y.copy() if y is x else np.asarray(y),)


@operator("Softmax")
def softmax_operator(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``exp(x) / sum(exp(x))`` along ``axis`` (-1)."""
    x = required(inputs, 0, "input")
    return (softmax(x, normalized_axis(int(attributes.get("axis", -1)), x.ndim)),)


@operator("LogSoftmax")
def log_softmax(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Logarithm of softmax along ``axis`` (-1)."""
    x = required(inputs, 0, "input")
    axis = normalized_axis(int(attributes.get("axis", -1)), x.ndim)
    shifted = x - x.max(axis=axis, keepdims=True) if x.size else x
    return (shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)),)


@operator("Hardmax")
def hardmax(attributes: Attributes, inputs: Inputs) -> Outputs:
    """One at the first maximum along ``axis`` (-1), zero elsewhere."""
    x = required(inputs, 0, "input")
    axis = normalized_axis(int(attributes.get("axis", -1)), x.ndim)
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(x.argmax(axis=axis), axis), 1, axis)
    return (y,)

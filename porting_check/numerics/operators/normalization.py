"""Normalisations. Statistics are taken in two passes, so that a large mean costs no digits."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    channelwise,
    integers,
    normalized_axis,
    operator,
    optional,
    required,
)

CACHED = 1 << 15
"""Values that are normalised at a time, so that the passes over them stay in the cache."""


def _epsilon(attributes: Attributes) -> float:
    return float(attributes.get("epsilon", 1e-5))


@operator("BatchNormalization")
def batch_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``scale * (x - mean) / sqrt(var + epsilon) + B`` per channel of ``(N, C, …)``; the inference form.

    With ``training_mode`` the batch's own (biased) statistics are used and the running ones returned as well.

    Source: ONNX BatchNormalization-15.
    """
    x = required(inputs, 0, "X")
    names = ("scale", "B", "input_mean", "input_var")
    scale, shift, mean, var = (required(inputs, index, name) for index, name in enumerate(names, 1))
    running: Outputs = ()
    if attributes.get("training_mode", 0):
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        keep = float(attributes.get("momentum", 0.9))
        old, mean, var = (mean, var), x.mean(axis=axes), x.var(axis=axes)
        pairs = zip(old, (mean, var), strict=True)
        running = tuple(np.asarray(keep * before + (1 - keep) * now, x.dtype) for before, now in pairs)
    factor = scale / np.sqrt(var + _epsilon(attributes))
    return (_affine(x, np.asarray(mean), factor, shift), *running)


def _affine(x: Array, mean: Array, factor: Array, shift: Array) -> Array:
    """``(x - mean) * factor + shift`` per channel, a few channels at a time."""
    y = np.empty(x.shape, np.result_type(x, factor, shift))
    if x.ndim < 2:
        return np.asarray((x - mean) * factor + shift)
    channels, inner = x.shape[1], prod(x.shape[2:])
    step = max(CACHED // max(inner, 1), 1)
    columns = [channelwise(item, x.ndim) for item in (mean, factor, shift)]
    for sample in range(x.shape[0]):
        for start in range(0, channels, step):
            part = slice(start, start + step)
            out = y[sample, part]
            np.subtract(x[sample, part], columns[0][part], out=out)
            out *= columns[1][part]
            out += columns[2][part]
    return y


def _standardized(x: Array, axes: Sequence[int], epsilon: float) -> tuple[Array, Array, Array]:
    """``(x - mean) / sqrt(var + epsilon)`` over axes, with the mean and the inverse deviation (axes kept)."""
    over = tuple(axes)
    mean = x.mean(axis=over, keepdims=True)
    centred = x - mean
    inverse = 1 / np.sqrt(np.square(centred).mean(axis=over, keepdims=True) + epsilon)
    centred *= inverse
    return centred, mean, np.asarray(inverse, x.dtype)


@operator("LayerNormalization")
def layer_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Standardised over all axes from ``axis`` (-1) on, ``* Scale + B``; mean and inverse deviation too."""
    x, scale, shift = required(inputs, 0, "X"), required(inputs, 1, "Scale"), optional(inputs, 2)
    axis = normalized_axis(int(attributes.get("axis", -1)), x.ndim)
    y, mean, inverse = _standardized(x, range(axis, x.ndim), _epsilon(attributes))
    y = y * scale if shift is None else y * scale + shift
    return (y, mean, inverse)


@operator("RMSNormalization")
def rms_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``x / sqrt(mean(x^2) + epsilon) * scale`` over all axes from ``axis`` (-1) on."""
    x, scale = required(inputs, 0, "X"), required(inputs, 1, "scale")
    axis = normalized_axis(int(attributes.get("axis", -1)), x.ndim)
    mean = np.square(x).mean(axis=tuple(range(axis, x.ndim)), keepdims=True)
    return (x / np.sqrt(mean + _epsilon(attributes)) * scale,)


@operator("GroupNormalization")
def group_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Standardised per sample and group of channels, then scale and bias per channel (opset 21).

    Scale and bias of one value per group (opset 18) are spread over the group's channels.
    """
    x, scale, shift = required(inputs, 0, "X"), required(inputs, 1, "scale"), required(inputs, 2, "bias")
    groups, channels = int(attributes["num_groups"]), x.shape[1]
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be divided into num_groups={groups}")
    grouped = x.reshape(x.shape[0], groups, -1)
    y = _standardized(grouped, (2,), _epsilon(attributes))[0].reshape(x.shape)
    if scale.size == groups != channels:
        scale, shift = np.repeat(scale, channels // groups), np.repeat(shift, channels // groups)
    y *= channelwise(scale, x.ndim)
    y += channelwise(shift, x.ndim)
    return (y,)


@operator("InstanceNormalization")
def instance_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Standardised per sample and channel, then scale and bias per channel."""
    x, scale, shift = required(inputs, 0, "input"), required(inputs, 1, "scale"), required(inputs, 2, "B")
    y = _standardized(x, range(2, x.ndim), _epsilon(attributes))[0]
    y *= channelwise(scale, x.ndim)
    y += channelwise(shift, x.ndim)
    return (y,)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``(x - mean) / (deviation + 1e-9)`` over ``axes`` (0, 2, 3); the constant is the standard's."""
    x = required(inputs, 0, "X")
    axes = tuple(normalized_axis(axis, x.ndim) for axis in integers(attributes.get("axes"), (0, 2, 3)))
    centred = x - x.mean(axis=axes, keepdims=True)
    return (centred / (np.sqrt(np.square(centred).mean(axis=axes, keepdims=True)) + 1e-9).astype(x.dtype),)


@operator("LRN")
def local_response_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``x / (bias + alpha / size * sum of squares of size neighbouring channels) ** beta`` (ONNX LRN-13)."""
    x, size = required(inputs, 0, "X"), int(attributes["size"])
    alpha, beta = float(attributes.get("alpha", 1e-4)), float(attributes.get("beta", 0.75))
    squares, channels = np.square(x), x.shape[1]
    total = np.zeros_like(x)
    # Channel c sums the squares from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2).
    for offset in range(-((size - 1) // 2), size // 2 + 1):
        low, high = max(0, -offset), min(channels, channels - offset)
        if low < high:
            total[:, low:high] += squares[:, low + offset : high + offset]
    return (np.asarray(x / (float(attributes.get("bias", 1.0)) + alpha / size * total) ** beta, x.dtype),)


@operator("LpNormalization")
def lp_normalization(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``x / norm`` along ``axis`` (-1) with p = 1 or 2; zero where the norm is zero."""
    x, p = required(inputs, 0, "input"), int(attributes.get("p", 2))
    axis = normalized_axis(int(attributes.get("axis", -1)), x.ndim)
    if p not in (1, 2):
        raise ValueError(f"p is {p}, LpNormalization knows 1 and 2")
    values = np.abs(x) if p == 1 else np.square(x)
    norm = values.sum(axis=axis, keepdims=True)
    norm = norm if p == 1 else np.sqrt(norm)
    return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0),)

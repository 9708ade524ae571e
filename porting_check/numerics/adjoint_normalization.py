"""Gradients of normalisations and softmax, by their formulas.

With ``r = 1 / sqrt(var + epsilon)``, ``h = (x - mean) r`` and ``d`` the gradient of ``h``:
``dx = r (d - mean(d) - h mean(d h))`` over the normalised axes (Ioffe & Szegedy 2015, section 3; Ba et al. 2016). The bound
takes ``(|x| + |mean|) r`` for ``|h|``, because a kernel subtracts the mean in float32.
"""

from __future__ import annotations

from math import prod

import numpy as np

from porting_check.numerics.adjoint import Call, NoAdjoint, Sum, adjoint, unbroadcast
from porting_check.numerics.operators.activation import softmax
from porting_check.numerics.operators.registry import Array, channelwise, normalized_axis
from porting_check.numerics.roundoff_units import NORMALIZED


def _epsilon(call: Call) -> float:
    return float(call.node.attributes.get("epsilon", 1e-5))


@adjoint("BatchNormalization", units=NORMALIZED)
def batch(call: Call) -> dict[int, Sum]:
    """Inference: an affine map per channel; gradients of gain, bias, mean and variance too.

    Raises:
        NoAdjoint: the form that takes the batch's own statistics.
    """
    if call.node.attributes.get("training_mode", 0):
        raise NoAdjoint("BatchNormalization in training mode has no rule for its gradient")
    x, g = call.given(0), call.g
    gain, mean, var = (channelwise(call.given(i), max(x.ndim, 2)) for i in (1, 3, 4))
    r = 1 / np.sqrt(var + _epsilon(call))
    axes, count = tuple(a for a in range(x.ndim) if a != 1), x.size / max(gain.size, 1)
    if call.absolute:
        gain, centred, sign = np.abs(gain), np.abs(x) + np.abs(mean), 1.0
    else:
        centred, sign = x - mean, -1.0
    return {
        0: Sum(g * gain * r),
        1: Sum((g * centred * r).sum(axis=axes), count),
        2: Sum(g.sum(axis=axes), count),
        3: Sum(sign * (g * gain * r).sum(axis=axes), count),
        4: Sum(sign * 0.5 * (g * gain * centred * r**3).sum(axis=axes), count),
    }


def _standard(
    call: Call, x: Array, d: Array, axes: tuple[int, ...], centre: bool = True
) -> tuple[Array, Array]:
    """``dx`` for a gradient ``d`` of the standardised values, and those values (their bounds with ``absolute``)."""
    mean = x.mean(axis=axes, keepdims=True) if centre else 0.0
    spread = np.square(x - mean).mean(axis=axes, keepdims=True)
    r = 1 / np.sqrt(spread + _epsilon(call))
    if call.absolute:
        h = (np.abs(x) + (np.abs(x).mean(axis=axes, keepdims=True) if centre else 0.0)) * r
        d_mean = d.mean(axis=axes, keepdims=True) if centre else 0.0
        return r * (d + d_mean + h * (d * h).mean(axis=axes, keepdims=True)), h
    h = (x - mean) * r
    d_mean = d.mean(axis=axes, keepdims=True) if centre else 0.0
    return r * (d - d_mean - h * (d * h).mean(axis=axes, keepdims=True)), h


def _size(x: Array, axes: tuple[int, ...]) -> int:
    return prod(x.shape[a] for a in axes)


@adjoint("LayerNormalization", units=NORMALIZED)
def layer(call: Call) -> dict[int, Sum]:
    """Over all axes from ``axis`` on."""
    x, g = call.given(0), call.g
    axes = tuple(range(normalized_axis(int(call.node.attributes.get("axis", -1)), x.ndim), x.ndim))
    dx, h = _standard(call, x, g * call.operand(1), axes)
    made = {0: Sum(dx, _size(x, axes)), 1: unbroadcast(g * h, call.given(1).shape)}
    if call.has(2):
        made[2] = unbroadcast(g, call.given(2).shape)
    return made


@adjoint("RMSNormalization", units=NORMALIZED)
def rms(call: Call) -> dict[int, Sum]:
    """Like layer normalisation without a mean."""
    x, g = call.given(0), call.g
    axes = tuple(range(normalized_axis(int(call.node.attributes.get("axis", -1)), x.ndim), x.ndim))
    dx, h = _standard(call, x, g * call.operand(1), axes, centre=False)
    return {0: Sum(dx, _size(x, axes)), 1: unbroadcast(g * h, call.given(1).shape)}


@adjoint("InstanceNormalization", units=NORMALIZED)
def instance(call: Call) -> dict[int, Sum]:
    """Per sample and channel."""
    x = call.given(0)
    return _grouped(call, x.shape[1])


@adjoint("GroupNormalization", units=NORMALIZED)
def group(call: Call) -> dict[int, Sum]:
    """Per sample and group of channels; gain and bias per channel.

    Raises:
        NoAdjoint: gain and bias per group (opset 18).
    """
    if call.given(1).size != call.given(0).shape[1]:
        raise NoAdjoint("GroupNormalization with a gain per group has no rule for its gradient")
    return _grouped(call, int(call.node.attributes["num_groups"]))


def _grouped(call: Call, groups: int) -> dict[int, Sum]:
    x, g = call.given(0), call.g
    shape = (x.shape[0], groups, -1)
    d = g * channelwise(call.operand(1), x.ndim)
    dx, h = _standard(call, x.reshape(shape), d.reshape(shape), (2,))
    axes, count = (0, *range(2, x.ndim)), x.size / max(x.shape[1], 1)
    return {
        0: Sum(dx.reshape(x.shape), x.size / max(x.shape[0] * groups, 1)),
        1: Sum((g * h.reshape(x.shape)).sum(axis=axes), count),
        2: Sum(g.sum(axis=axes), count),
    }


@adjoint("LpNormalization", units=NORMALIZED)
def lp(call: Call) -> dict[int, Sum]:
    """``x / |x|``: ``(g - y (g . s)) / |x|`` with ``s`` = y for p = 2 and the signs for p = 1."""
    x, g, p = call.given(0), call.g, int(call.node.attributes.get("p", 2))
    axis = normalized_axis(int(call.node.attributes.get("axis", -1)), x.ndim)
    norm = (np.abs(x) if p == 1 else np.square(x)).sum(axis=axis, keepdims=True)
    norm = norm if p == 1 else np.sqrt(norm)
    y = x / norm
    if call.absolute:
        y = np.abs(y)
        along = (g * y).sum(axis=axis, keepdims=True)
        return {0: Sum((g + (1.0 if p == 1 else y) * along) / norm, x.shape[axis])}
    along = (g * y).sum(axis=axis, keepdims=True)
    return {0: Sum((g - (np.sign(x) if p == 1 else y) * along) / norm, x.shape[axis])}


@adjoint("Softmax", units=2 * NORMALIZED)
def softmax_rule(call: Call) -> dict[int, Sum]:
    """``y (g - sum(y g))``; the bound counts what the exponential of a large argument loses."""
    x, g = call.given(0), call.g
    axis = normalized_axis(int(call.node.attributes.get("axis", -1)), x.ndim)
    y = softmax(x, axis)
    if call.absolute:
        y = y * (1 + np.abs(x - x.max(axis=axis, keepdims=True)))
        return {0: Sum(y * (g + (y * g).sum(axis=axis, keepdims=True)), x.shape[axis])}
    return {0: Sum(y * (g - (y * g).sum(axis=axis, keepdims=True)), x.shape[axis])}


@adjoint("LogSoftmax", units=2 * NORMALIZED)
def log_softmax_rule(call: Call) -> dict[int, Sum]:
    """``g - softmax(x) sum(g)``."""
    x, g = call.given(0), call.g
    axis = normalized_axis(int(call.node.attributes.get("axis", -1)), x.ndim)
    y, total = softmax(x, axis), g.sum(axis=axis, keepdims=True)
    if call.absolute:
        return {0: Sum(g + y * (1 + np.abs(x - x.max(axis=axis, keepdims=True))) * total, x.shape[axis])}
    return {0: Sum(g - y * total, x.shape[axis])}

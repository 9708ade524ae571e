"""Normalizations, as Flax composes them: moments, then scale and shift."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check_jax.run_call import Call, Handler, Result
from porting_check_jax.run_convolution import per_channel
from porting_check_jax.run_pooling import norm, wide


def _scaled(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: Optional[jax.Array],
    bias: Optional[jax.Array],
    epsilon: float,
) -> jax.Array:
    """``(x - mean) * (scale / sqrt(variance + epsilon)) + bias``."""
    factor = lax.rsqrt(variance + float(epsilon))
    result = (x - mean) * (factor if scale is None else factor * scale)
    return result if bias is None else result + bias


def batch_normalization(call: Call) -> Result:
    """ONNX BatchNormalization; in training mode also the statistics, moved by ONNX's ``momentum``."""
    x, mean, variance = wide(call.x), call.need(3), call.need(4)
    scale, bias = per_channel(call.need(1), x), per_channel(call.need(2), x)
    epsilon, keep = call.get("epsilon", 1e-5), call.get("momentum", 0.9)
    if not call.get("training_mode", 0):
        used = per_channel(mean, x), per_channel(variance, x)
        return _scaled(x, *used, scale, bias, epsilon).astype(call.x.dtype)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    seen = jnp.mean(x, axis=axes), jnp.var(x, axis=axes)
    used = per_channel(seen[0], x), per_channel(seen[1], x)
    moved = [old * keep + new.astype(old.dtype) * (1 - keep) for old, new in zip((mean, variance), seen)]
    return [_scaled(x, *used, scale, bias, epsilon).astype(call.x.dtype)] + moved


def moments(x: jax.Array, axes: Sequence[int]) -> Tuple[jax.Array, jax.Array]:
    """Mean and variance along axes, which stay with size one."""
    return jnp.mean(x, axis=tuple(axes), keepdims=True), jnp.var(x, axis=tuple(axes), keepdims=True)


def _grouped(call: Call, groups: int) -> Result:
    """Moments over groups of channels and their planes, then scale and shift per channel."""
    x, epsilon = wide(call.x), call.get("epsilon", 1e-5)
    parts = x.reshape((x.shape[0], groups, x.shape[1] // groups) + x.shape[2:])
    mean, variance = moments(parts, range(2, parts.ndim))
    centred = _scaled(parts, mean, variance, None, None, epsilon).reshape(x.shape)
    result = centred * per_channel(call.need(1), x) + per_channel(call.need(2), x)
    return result.astype(call.x.dtype)


def group_normalization(call: Call) -> Result:
    """ONNX GroupNormalization (opset 21: scale and bias per channel)."""
    return _grouped(call, call.get("num_groups"))


def instance_normalization(call: Call) -> Result:
    """ONNX InstanceNormalization: one group per channel."""
    return _grouped(call, call.x.shape[1])


def layer_normalization(call: Call) -> Result:
    """ONNX LayerNormalization over the axes from ``axis`` on; mean and inverse deviation when asked for."""
    x, epsilon, bias = wide(call.x), call.get("epsilon", 1e-5), call.input(2)
    mean, variance = moments(x, range(call.get("axis", -1) % x.ndim, x.ndim))
    scale = call.need(1).astype(x.dtype)
    result = _scaled(x, mean, variance, scale, None if bias is None else bias.astype(x.dtype), epsilon)
    return result.astype(call.x.dtype), mean, lax.rsqrt(variance + float(epsilon))


def rms_normalization(call: Call) -> Result:
    """ONNX RMSNormalization."""
    x = wide(call.x)
    axes = tuple(range(call.get("axis", -1) % x.ndim, x.ndim))
    mean = jnp.mean(jnp.square(x), axis=axes, keepdims=True)
    result = x * lax.rsqrt(mean + float(call.get("epsilon", 1e-5))) * call.need(1).astype(x.dtype)
    return result.astype(call.x.dtype)


def local_response_normalization(call: Call) -> Result:
    """ONNX LRN: squares summed over a window of channels, the longer half of an even one ahead."""
    x, size = wide(call.x), call.get("size")
    before, rest = (size - 1) // 2, (1,) * (x.ndim - 2)
    total = lax.reduce_window(
        jnp.square(x),
        np.zeros((), x.dtype),
        lax.add,
        (1, size) + rest,
        (1,) * x.ndim,
        ((0, 0), (before, size - 1 - before)) + ((0, 0),) * len(rest),
    )
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    return (x / (float(bias) + float(alpha / size) * total) ** float(beta)).astype(call.x.dtype)


def lp_normalization(call: Call) -> Result:
    """ONNX LpNormalization; a vector of norm zero stays zero."""
    axis = call.get("axis", -1)
    length = norm(call.x, call.get("p", 2), lambda powers: jnp.sum(powers, axis=axis, keepdims=True))
    return call.x / jnp.where(length == 0, 1, length)


def mean_variance_normalization(call: Call) -> Result:
    """ONNX MeanVarianceNormalization: ``(x - mean) / (deviation + 1e-9)``."""
    x = wide(call.x)
    mean, variance = moments(x, call.get("axes") or (0, 2, 3))
    return ((x - mean) / (jnp.sqrt(variance) + 1e-9)).astype(call.x.dtype)


OPERATORS: Dict[str, Handler] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
}

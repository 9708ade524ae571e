"""Normalizations, as Keras composes them: moments, then scale and shift."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import REDUCED, Call, Handler, Result, like, rank, sizes
from porting_check_tensorflow.run_convolution import channels_first, channels_last
from porting_check_tensorflow.run_pooling import norm


def _wide(x: tf.Tensor) -> tf.Tensor:
    """Half precision is normalized in float32 (ONNX ``stash_type`` 1; Keras does the same)."""
    return tf.cast(x, tf.float32) if x.dtype in REDUCED else x


def _per_channel(value: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """A vector over channels that broadcasts over a channel-first tensor, in its type."""
    return tf.cast(tf.reshape(value, [1, -1] + [1] * (rank(x) - 2)), x.dtype)


def batch_normalization(call: Call) -> Result:
    """ONNX BatchNormalization; in training mode also the statistics, moved by ONNX's ``momentum``."""
    x, (scale, bias, mean, variance) = call.x, [call.need(index) for index in range(1, 5)]
    wide, epsilon, training = _wide(x), call.get("epsilon", 1e-5), bool(call.get("training_mode", 0))
    seen_mean, seen_variance = mean, variance
    if training:
        seen_mean, seen_variance = tf.nn.moments(wide, [axis for axis in range(rank(x)) if axis != 1])
    affine = [_per_channel(value, wide) for value in (seen_mean, seen_variance, bias, scale)]
    result = tf.cast(tf.nn.batch_normalization(wide, *affine, variance_epsilon=like(epsilon, wide)), x.dtype)
    if not training:
        return result
    keep = call.get("momentum", 0.9)
    moved = [
        old * keep + tf.cast(new, old.dtype) * (1 - keep)
        for old, new in ((mean, seen_mean), (variance, seen_variance))
    ]
    return (result, *moved)


def normalize(
    x: tf.Tensor, axes: Sequence[int], scale: Optional[tf.Tensor], bias: Optional[tf.Tensor], epsilon: float
) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Zero mean and unit deviation along axes; also the mean and the variance."""
    mean, variance = tf.nn.moments(x, list(axes), keepdims=True)
    result = tf.nn.batch_normalization(x, mean, variance, bias, scale, variance_epsilon=like(epsilon, x))
    return result, mean, variance


def _grouped(call: Call, groups: int) -> Result:
    """Moments over groups of channels and their planes, then scale and shift per channel."""
    x = _wide(call.x)
    shape = sizes(x)
    parts = tf.reshape(x, [shape[0], groups, shape[1] // groups, *shape[2:]])
    centred, _, _ = normalize(parts, range(2, rank(parts)), None, None, call.get("epsilon", 1e-5))
    result = tf.reshape(centred, shape) * _per_channel(call.need(1), x) + _per_channel(call.need(2), x)
    return tf.cast(result, call.x.dtype)


def group_normalization(call: Call) -> Result:
    """ONNX GroupNormalization (opset 21: scale and bias per channel)."""
    return _grouped(call, call.get("num_groups"))


def instance_normalization(call: Call) -> Result:
    """ONNX InstanceNormalization: one group per channel."""
    return _grouped(call, sizes(call.x)[1])


def layer_normalization(call: Call) -> Result:
    """ONNX LayerNormalization over the axes from ``axis`` on; mean and inverse deviation when asked for."""
    x, epsilon = _wide(call.x), call.get("epsilon", 1e-5)
    axes = range(call.get("axis", -1) % rank(x), rank(x))
    scale = tf.cast(call.need(1), x.dtype)
    bias = None if call.input(2) is None else tf.cast(call.need(2), x.dtype)
    result, mean, variance = normalize(x, axes, scale, bias, epsilon)
    return tf.cast(result, call.x.dtype), mean, tf.math.rsqrt(variance + like(epsilon, x))


def rms_normalization(call: Call) -> Result:
    """ONNX RMSNormalization."""
    x = _wide(call.x)
    axes = list(range(call.get("axis", -1) % rank(x), rank(x)))
    mean = tf.reduce_mean(tf.square(x), axes, keepdims=True)
    result = x * tf.math.rsqrt(mean + like(call.get("epsilon", 1e-5), x))
    return tf.cast(result * tf.cast(call.need(1), x.dtype), call.x.dtype)


def local_response_normalization(call: Call) -> Result:
    """ONNX LRN: TensorFlow's own for float32 and an odd size, else its formula.

    ``tf.nn.local_response_normalization`` has no float64, and only windows that reach equally far both
    ways; its alpha is per channel of the window, ONNX's is for the whole window.
    """
    x, size = call.x, call.get("size")
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    if x.dtype == tf.float32 and size % 2 and rank(x) == 4:
        last = channels_last(x)
        return channels_first(tf.nn.local_response_normalization(last, size // 2, bias, alpha / size, beta))
    before = (size - 1) // 2
    squares = tf.pad(tf.square(x), [(0, 0), (before, size - 1 - before)] + [(0, 0)] * (rank(x) - 2))
    total = tf.add_n([squares[:, start : start + sizes(x)[1]] for start in range(size)])
    return x / tf.pow(like(bias, x) + like(alpha / size, x) * total, like(beta, x))


def lp_normalization(call: Call) -> Result:
    """ONNX LpNormalization; a vector of norm zero stays zero."""
    return tf.math.divide_no_nan(call.x, norm(call.x, call.get("p", 2), call.get("axis", -1), True))


def mean_variance_normalization(call: Call) -> Result:
    """ONNX MeanVarianceNormalization: ``(x - mean) / (deviation + 1e-9)``."""
    axes: List[int] = list(call.get("axes") or (0, 2, 3))
    mean, variance = tf.nn.moments(call.x, axes, keepdims=True)
    return (call.x - mean) / (tf.sqrt(variance) + like(1e-9, call.x))


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

"""Pooling: windows, global, adaptive, and the inverse of max pooling."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Dict, List, Optional, Sequence

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.geometry import Windows, product, windows_of
from porting_check.neutral.padding import Padding, same_padding
from porting_check_tensorflow.run_call import Call, Handler, Result, rank, sizes
from porting_check_tensorflow.run_convolution import channels_first, channels_last, pad_spatial

AVERAGES: Dict[int, Any] = {1: tf.nn.avg_pool1d, 2: tf.nn.avg_pool2d, 3: tf.nn.avg_pool3d}
MAXIMA: Dict[int, Any] = {1: tf.nn.max_pool1d, 2: tf.nn.max_pool2d, 3: tf.nn.max_pool3d}
NATIVE = {1: (tf.float32, tf.float64), 2: (tf.float32, tf.float64), 3: (tf.float32,)}
"""Types that TensorFlow's pooling takes on the CPU, by number of spatial axes."""


def geometry(call: Call) -> Windows:
    """The node's windows over its input."""
    kernel = call.get("kernel_shape")
    if kernel is None or len(kernel) != rank(call.x) - 2:
        raise call.unsupported(f"kernel_shape {kernel} does not fit an input of shape {tuple(call.x.shape)}")
    return windows_of(call.node, sizes(call.x)[2:], kernel)


def unfold(x: tf.Tensor, windows: Windows) -> tf.Tensor:
    """Every window of an already padded ``x`` (N, C, …): (N, C, …out, cells)."""
    reach = [(k - 1) * d + 1 for k, d in zip(windows.kernel, windows.dilations)]
    steps = [(n - span) // s for n, span, s in zip(sizes(x)[2:], reach, windows.strides)]
    cells = []
    for tap in itertools.product(*[range(k) for k in windows.kernel]):
        starts = [at * d for at, d in zip(tap, windows.dilations)]
        cuts = [slice(start, start + n * s + 1, s) for start, n, s in zip(starts, steps, windows.strides)]
        cells.append(x[(slice(None), slice(None), *cuts)])
    return tf.stack(cells, axis=-1)


def _native(x: tf.Tensor, windows: Windows) -> bool:
    """Whether TensorFlow's own pooling takes this type and these windows."""
    return x.dtype in NATIVE.get(rank(x) - 2, ()) and set(windows.dilations) == {1}


def _pool(table: Dict[int, Any], x: tf.Tensor, windows: Windows, padding: str) -> tf.Tensor:
    """TensorFlow's own pooling, channels last."""
    result = table[rank(x) - 2](channels_last(x), list(windows.kernel), list(windows.strides), padding)
    return channels_first(result)


def max_pool(call: Call) -> Result:
    """ONNX MaxPool: pads are what never wins; with a second output, the flat index of each maximum."""
    x, windows = call.x, geometry(call)
    if len(call.node.outputs) > 1:
        return _max_pool_with_indices(x, windows, call.get("storage_order", 0))
    padded = pad_spatial(x, windows.whole, _lowest(x))
    if _native(x, windows):
        return _pool(MAXIMA, padded, windows, "VALID")
    return tf.reduce_max(unfold(padded, windows), axis=-1)


def _lowest(x: tf.Tensor) -> Any:
    """What never wins a maximum."""
    return float("-inf") if x.dtype.is_floating else x.dtype.min


def _max_pool_with_indices(x: tf.Tensor, windows: Windows, storage_order: int) -> List[tf.Tensor]:
    """Maxima and their index into the whole input (planes column-major when ``storage_order`` is 1)."""
    batch, channels, *space = sizes(x)
    cells = product(space)
    plane = tf.range(cells, dtype=tf.int64)
    plane = tf.transpose(tf.reshape(plane, space[::-1])) if storage_order else tf.reshape(plane, space)
    places = unfold(pad_spatial(plane[None, None], windows.whole, -1), windows)
    values = unfold(pad_spatial(x, windows.whole, _lowest(x)), windows)
    best = tf.argmax(values, axis=-1)
    index = tf.gather(tf.broadcast_to(places, values.shape), best, axis=-1, batch_dims=rank(best))
    planes = tf.reshape(tf.range(batch * channels, dtype=tf.int64), [batch, channels] + [1] * len(space))
    return [tf.reduce_max(values, axis=-1), index + planes * cells]


def average(x: tf.Tensor, windows: Windows, include_pad: bool) -> tf.Tensor:
    """Mean of each window: TensorFlow's own pooling where it divides alike, else sums over counts.

    What ``ceil_mode`` adds beyond the end pad never counts (ONNX AveragePool, opset 22).
    """
    padding = windows.padding
    if _native(x, windows) and windows.whole == padding:
        if include_pad or padding.is_none:
            return _pool(AVERAGES, pad_spatial(x, padding), windows, "VALID")
        if padding == same_padding(sizes(x)[2:], windows.kernel, windows.strides):
            return _pool(AVERAGES, x, windows, "SAME")
    ones = tf.ones([1, 1, *sizes(x)[2:]], dtype=x.dtype)
    counted = pad_spatial(pad_spatial(ones, padding, float(include_pad)), windows.whole - padding)
    total = tf.reduce_sum(unfold(pad_spatial(x, windows.whole), windows), axis=-1)
    return total / tf.reduce_sum(unfold(counted, windows), axis=-1)


def average_pool(call: Call) -> Result:
    """ONNX AveragePool."""
    return average(call.x, geometry(call), bool(call.get("count_include_pad", 0)))


def norm(x: tf.Tensor, p: int, axis: Any, keep: bool = False) -> tf.Tensor:
    """The p-norm along axes."""
    if p == 1:
        return tf.reduce_sum(tf.abs(x), axis=axis, keepdims=keep)
    if p == 2:
        return tf.sqrt(tf.reduce_sum(x * x, axis=axis, keepdims=keep))
    power = tf.constant(float(p), dtype=x.dtype)
    return tf.pow(tf.reduce_sum(tf.pow(tf.abs(x), power), axis=axis, keepdims=keep), 1 / power)


def lp_pool(call: Call) -> Result:
    """ONNX LpPool: the p-norm of each window."""
    windows = geometry(call)
    return norm(unfold(pad_spatial(call.x, windows.whole), windows), call.get("p", 2), -1)


def _spatial_axes(x: tf.Tensor) -> List[int]:
    """Every axis after batch and channel."""
    return list(range(2, rank(x)))


def global_average(call: Call) -> Result:
    """ONNX GlobalAveragePool, a mean over the spatial axes."""
    return tf.reduce_mean(call.x, axis=_spatial_axes(call.x), keepdims=True)


def global_max(call: Call) -> Result:
    """ONNX GlobalMaxPool."""
    return tf.reduce_max(call.x, axis=_spatial_axes(call.x), keepdims=True)


def global_lp(call: Call) -> Result:
    """ONNX GlobalLpPool."""
    return norm(call.x, call.get("p", 2), _spatial_axes(call.x), True)


def _adaptive(reduce: Callable[..., tf.Tensor]) -> Handler:
    """porting_check's adaptive pooling: window i covers floor(i n/m) to ceil((i+1) n/m), axis by axis."""

    def pool(call: Call) -> Result:
        x = call.x
        wanted: Optional[Sequence[int]] = call.get("output_size")
        if wanted is None or len(wanted) != rank(x) - 2:
            raise call.unsupported(f"output_size {wanted} does not fit an input of shape {tuple(x.shape)}")
        for axis, count in enumerate(wanted, start=2):
            size = sizes(x)[axis]
            cuts = [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]
            x = tf.concat(
                [reduce(tf.gather(x, range(*cut), axis=axis), axis=axis, keepdims=True) for cut in cuts], axis
            )
        return x

    return pool


def max_unpool(call: Call) -> Result:
    """ONNX MaxUnpool: each value at its flat index of the unpooled tensor, zero elsewhere."""
    x, indices, wanted = call.x, call.need(1), call.integers(2)
    dims = rank(x) - 2
    strides, pads = call.get("strides") or (1,) * dims, call.get("pads") or (0,) * (2 * dims)
    kernel, shape = call.get("kernel_shape"), sizes(x)
    natural = [(shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[i + dims] for i in range(dims)]
    shape = shape[:2] + natural
    flat = tf.zeros([product(shape)], dtype=x.dtype)
    flat = tf.tensor_scatter_nd_update(flat, tf.reshape(indices, [-1, 1]), tf.reshape(x, [-1]))
    result = tf.reshape(flat, shape)
    if wanted is None:
        return result
    more = tuple(size - found for size, found in zip(wanted[2:], natural))
    return pad_spatial(result, Padding((0,) * dims, more))


OPERATORS: Dict[str, Handler] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
    "GlobalLpPool": global_lp,
    "MaxUnpool": max_unpool,
}

EXTENSION: Dict[str, Handler] = {
    "AdaptiveAveragePool": _adaptive(tf.reduce_mean),
    "AdaptiveMaxPool": _adaptive(tf.reduce_max),
}

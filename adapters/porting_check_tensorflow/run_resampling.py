"""Resize, grid sampling and regions of interest."""

from __future__ import annotations

import math
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.geometry import Axis, resize_axes
from porting_check_tensorflow.run_call import Call, Handler, Result, like, rank, sizes
from porting_check_tensorflow.run_convolution import channels_first, channels_last
from porting_check_tensorflow.run_taps import taps

Resizer = Callable[[tf.Tensor, List[int]], tf.Tensor]


def resize(call: Call) -> Result:
    """ONNX Resize: by TensorFlow's own operators where they mean the same, else gathers along each axis."""
    roi, scales = call.numbers(1), call.numbers(2)
    axes = resize_axes(call.node, sizes(call.x), roi or None, scales or None, call.integers(3) or None)
    native = _native(call, axes)
    if native is None:
        return _by_taps(call, axes)
    return channels_first(native(channels_last(call.x), [axis.size for axis in axes[2:]]))


def upsample(call: Call) -> Result:
    """ONNX Upsample (until opset 9): Resize with asymmetric coordinates, nearest by floor."""
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    asked = Call(call.node.edit(**settings), [call.x], call.dtypes, call.float64)
    return _by_taps(asked, resize_axes(asked.node, sizes(call.x), None, call.numbers(1), None))


def _v2(method: str, antialias: bool) -> Resizer:
    """``tf.image.resize``, whose pixels are centred at halves."""
    return lambda x, size: tf.image.resize(x, size, method, antialias=antialias)


def _v1(method: str, corners: bool) -> Resizer:
    """TensorFlow 1's operators, with aligned corners or with asymmetric coordinates."""
    return lambda x, size: tf.compat.v1.image.resize(x, size, method, align_corners=corners)


def _native(call: Call, axes: Sequence[Axis]) -> Optional[Resizer]:
    """TensorFlow's own resize when it computes exactly this node, else ``None``.

    They compute in float32 whatever they are given, so only float32 goes there.
    """
    get = call.get
    fits = len(axes) == 4 and call.x.dtype == tf.float32 and all(axis.scale == 1.0 for axis in axes[:2])
    exact = all(axis.scale == axis.size / axis.length and axis.size > 1 for axis in axes if not axis.plain)
    if not (fits and exact):
        return None
    mode, where = get("mode", "nearest"), get("coordinate_transformation_mode", "half_pixel")
    antialias, exclude = bool(get("antialias", 0)), bool(get("exclude_outside", 0))
    if mode == "nearest":
        whole = all(axis.size % axis.length == 0 or axis.length % axis.size == 0 for axis in axes)
        floor = where == "asymmetric" and get("nearest_mode", "round_prefer_floor") == "floor"
        return _v1("nearest", False) if floor and whole else None
    centred = where in ("half_pixel", "pytorch_half_pixel")
    if mode == "cubic":
        # without antialias, TensorFlow rounds the kernel's argument to 1/1024: not this function
        keys = get("cubic_coeff_a", -0.75) == -0.5 and exclude and centred and antialias
        return _v2("bicubic", True) if keys else None
    if antialias:
        return _v2("bilinear", True) if exclude and centred else None
    if where in ("asymmetric", "align_corners"):
        return _v1("bilinear", where == "align_corners")
    return _v2("bilinear", False) if centred else None


def _by_taps(call: Call, axes: Sequence[Axis]) -> tf.Tensor:
    """One axis after the other: gather the taps of every place and add them up by weight."""
    x = call.x
    result = x if x.dtype.is_floating else tf.cast(x, tf.float32)
    outside = tf.zeros([1], dtype=tf.bool)
    for dim, axis in enumerate(axes):
        if axis.plain:
            continue
        chosen = taps(axis, call.node)
        after = [1] * (rank(x) - dim - 1)
        gathered = tf.gather(result, chosen.places, axis=dim)
        weights = tf.reshape(tf.cast(chosen.weights, result.dtype), [*chosen.weights.shape, *after])
        result = tf.reduce_sum(gathered * weights, dim + 1)
        outside = outside | tf.reshape(chosen.outside, [-1, *after])
    result = tf.where(outside, like(call.get("extrapolation_value", 0.0), result), result)
    if x.dtype.is_floating:
        return result
    limits = (like(float(limit), result) for limit in (x.dtype.min, x.dtype.max))
    return tf.cast(tf.clip_by_value(tf.round(result), *limits), x.dtype)


def affine_grid(call: Call) -> Result:
    """ONNX AffineGrid: the base grid of the output, transformed by each ``theta``."""
    corners, wanted = bool(call.get("align_corners", 0)), (call.integers(1) or [])[2:]
    lines = []
    for size in wanted:
        step = 2.0 / (size - 1) if corners and size > 1 else 2.0 / size
        start = -1.0 if corners else -1.0 + step / 2
        places = start + step * tf.range(size, dtype=tf.float64)
        lines.append(tf.zeros_like(places) if corners and size == 1 else places)
    grid = tf.stack([*reversed(tf.meshgrid(*lines, indexing="ij")), tf.ones(wanted, tf.float64)], axis=-1)
    flat = tf.cast(tf.reshape(grid, [-1, len(wanted) + 1]), call.x.dtype)
    result = tf.matmul(flat, call.x, transpose_b=True)
    return tf.reshape(result, [sizes(call.x)[0], *wanted, len(wanted)])


def _line(start: tf.Tensor, step: tf.Tensor, bins: int, samples: int, length: int) -> Tuple[tf.Tensor, ...]:
    """Samples along one axis of a region: lower and upper index, weights (zero beyond a pixel outside)."""
    fractions = (tf.range(samples, dtype=start.dtype) + 0.5) / samples
    places = start + (tf.range(bins, dtype=start.dtype)[:, None] + fractions[None, :]) * step
    places = tf.reshape(places, [-1])
    valid = tf.cast((places >= -1.0) & (places <= length), start.dtype)
    places = tf.clip_by_value(places, 0.0, length - 1.0)
    low = tf.floor(places)
    high = tf.minimum(low + 1, length - 1)
    part = places - low
    return tf.cast(low, tf.int32), tf.cast(high, tf.int32), (1 - part) * valid, part * valid


def _align_one(call: Call, image: tf.Tensor, region: tf.Tensor) -> tf.Tensor:
    """One region of one image (C, H, W), pooled to the node's output size."""
    half = call.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    bins = (call.get("output_height", 1), call.get("output_width", 1))
    corners = region * like(call.get("spatial_scale", 1.0), region) - (0.5 if half else 0.0)
    lines = []
    for axis in (0, 1):
        start, extent = corners[1 - axis], corners[3 - axis] - corners[1 - axis]
        step = (extent if half else tf.maximum(extent, 1.0)) / bins[axis]
        samples = call.get("sampling_ratio", 0) or max(1, math.ceil(step.numpy()))
        lines.append((_line(start, step, bins[axis], samples, sizes(image)[1 + axis]), samples))
    (top, bottom, top_weight, bottom_weight), rows = lines[0]
    (left, right, left_weight, right_weight), columns = lines[1]
    products: List[tf.Tensor] = []
    for row, row_weight in ((top, top_weight), (bottom, bottom_weight)):
        for column, column_weight in ((left, left_weight), (right, right_weight)):
            corner = tf.gather(tf.gather(image, row, axis=1), column, axis=2)
            products.append(corner * row_weight[:, None] * column_weight[None, :])
    stacked = tf.stack(products)
    best = call.get("mode", "avg") == "max"
    sampled = tf.reduce_max(stacked, 0) if best else tf.reduce_sum(stacked, 0)
    cells = tf.reshape(sampled, [sizes(image)[0], bins[0], rows, bins[1], columns])
    return tf.reduce_max(cells, [2, 4]) if best else tf.reduce_mean(cells, [2, 4])


def roi_align(call: Call) -> Result:
    """ONNX RoiAlign: bilinear samples of each region, averaged (or their largest product) per bin."""
    batches: List[int] = call.integers(2) or []
    regions = call.need(1)
    if not batches:
        shape = [0, sizes(call.x)[1], call.get("output_height", 1), call.get("output_width", 1)]
        return tf.zeros(shape, dtype=call.x.dtype)
    return tf.stack([_align_one(call, call.x[batch], regions[index]) for index, batch in enumerate(batches)])


OPERATORS: Dict[str, Handler] = {
    "Resize": resize,
    "Upsample": upsample,
    "AffineGrid": affine_grid,
    "RoiAlign": roi_align,
}

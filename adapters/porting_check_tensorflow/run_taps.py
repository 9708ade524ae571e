"""Where each place of a resized axis comes from, and by which weights (ONNX Resize, opset 19)."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.geometry import Axis
from porting_check.neutral.node import Node


class Taps(NamedTuple):
    """For each place of the result: the places read (size, taps), their weights, whether it is outside."""

    places: tf.Tensor
    weights: tf.Tensor
    outside: tf.Tensor


def coordinates(axis: Axis, mode: str) -> tf.Tensor:
    """The input coordinate of every place of the result, in float64."""
    place = tf.range(axis.size, dtype=tf.float64)
    whole = axis.scale * axis.length
    if mode == "asymmetric":
        return place / axis.scale
    if mode == "align_corners":
        return place * 0.0 if whole == 1 else place * (axis.length - 1) / (whole - 1)
    if mode == "tf_crop_and_resize":
        start, end = axis.region
        if axis.size == 1:
            return place + (start + end) * (axis.length - 1) / 2
        return start * (axis.length - 1) + place * (end - start) * (axis.length - 1) / (axis.size - 1)
    centred = (place + 0.5) / axis.scale - 0.5
    if mode == "pytorch_half_pixel" and whole == 1:
        return place - 0.5
    if mode == "half_pixel_symmetric":
        return axis.length / 2 * (1 - axis.size / whole) + centred
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return centred
    raise UnsupportedNode(f"Resize has coordinate_transformation_mode {mode!r}, which ONNX does not know")


def nearest(coordinate: tf.Tensor, mode: str) -> tf.Tensor:
    """The nearest place by ONNX's ``nearest_mode``."""
    if mode == "round_prefer_floor":
        return tf.math.ceil(coordinate - 0.5)
    if mode == "round_prefer_ceil":
        return tf.floor(coordinate + 0.5)
    return tf.floor(coordinate) if mode == "floor" else tf.math.ceil(coordinate)


def cubic_kernel(distance: tf.Tensor, a: float) -> tf.Tensor:
    """Keys' cubic convolution kernel (R. Keys, IEEE ASSP 29(6), 1981)."""
    x = tf.abs(distance)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return tf.where(x <= 1, inner, tf.where(x < 2, outer, tf.zeros_like(x)))


def interpolated(coordinate: tf.Tensor, scale: float, a: Optional[float]) -> Tuple[tf.Tensor, tf.Tensor]:
    """Places and weights of a linear kernel (or cubic, with ``a``), stretched by 1/scale when antialiased."""
    first = math.floor(-(1 if a is None else 2) / scale) + 1
    places = tf.math.ceil(coordinate)[:, None] - 1 + tf.range(first, 2 - first, dtype=tf.float64)
    distance = scale * (places - coordinate[:, None])
    weights = tf.nn.relu(1 - tf.abs(distance)) if a is None else cubic_kernel(distance, a)
    return places, weights if scale == 1 else weights / tf.reduce_sum(weights, 1, keepdims=True)


def taps(axis: Axis, node: Node) -> Taps:
    """The taps of one axis of a Resize node.

    Raises:
        UnsupportedNode: a mode that ONNX does not know.
    """
    get = node.attributes.get
    mode, where = get("mode", "nearest"), get("coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedNode(f"{node} has mode {mode!r}; ONNX knows nearest, linear and cubic")
    coordinate = coordinates(axis, where)
    if mode == "nearest":
        places = nearest(coordinate, get("nearest_mode", "round_prefer_floor"))[:, None]
        weights = tf.ones_like(places)
    else:
        stretch = min(axis.scale, 1.0) if get("antialias", 0) else 1.0
        places, weights = interpolated(
            coordinate, stretch, get("cubic_coeff_a", -0.75) if mode == "cubic" else None
        )
        if get("exclude_outside", 0):
            weights = tf.where((places >= 0) & (places < axis.length), weights, tf.zeros_like(weights))
            weights = weights / tf.reduce_sum(weights, 1, keepdims=True)
    cropped = where == "tf_crop_and_resize"
    outside = (
        (coordinate < 0) | (coordinate > axis.length - 1) if cropped else tf.zeros([axis.size], dtype=tf.bool)
    )
    return Taps(tf.cast(tf.clip_by_value(places, 0, axis.length - 1), tf.int64), weights, outside)

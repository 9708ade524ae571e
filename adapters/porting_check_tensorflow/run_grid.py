"""GridSample, which TensorFlow does not have: gathers at computed places and weighted sums."""

from __future__ import annotations

import itertools
from typing import Dict, List, Sequence, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.geometry import product
from porting_check_tensorflow.run_call import Call, Handler, Result, rank, sizes
from porting_check_tensorflow.run_taps import cubic_kernel

CUBIC_A = -0.75
"""ONNX GridSample fixes the cubic coefficient, as torch does."""


def reflected(place: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Places folded back at the borders until they lie between them."""
    span = high - low
    if span <= 0:
        return tf.zeros_like(place)
    moved = tf.math.floormod(place - low, 2 * span)
    return tf.minimum(moved, 2 * span - moved) + low


def inside(place: tf.Tensor, length: int, padding: str, corners: bool) -> tf.Tensor:
    """A coordinate as the padding mode maps it; ``zeros`` leaves it where it is."""
    if padding == "border":
        return tf.clip_by_value(place, 0, length - 1)
    if padding == "reflection":
        low, high = (0.0, length - 1.0) if corners else (-0.5, length - 0.5)
        return tf.clip_by_value(reflected(place, low, high), 0, length - 1)
    return place


def _axis_taps(place: tf.Tensor, mode: str) -> List[Tuple[tf.Tensor, tf.Tensor]]:
    """The whole places that a coordinate reads along one axis, with their weights."""
    if mode == "nearest":
        return [(tf.round(place), tf.ones_like(place))]
    low = tf.floor(place)
    if mode == "linear":
        return [(low, 1 - (place - low)), (low + 1, place - low)]
    return [(low + step, cubic_kernel(place - (low + step), CUBIC_A)) for step in (-1, 0, 1, 2)]


def _gathered(x: tf.Tensor, places: Sequence[tf.Tensor], padding: str, corners: bool) -> tf.Tensor:
    """Elements of ``x`` (N, C, …) at whole places (N, P) per axis, by the padding mode: (N, C, P)."""
    batch, channels, *space = sizes(x)
    flat = tf.reshape(x, [batch, channels, product(space)])
    index, valid = tf.zeros_like(places[0], dtype=tf.int64), tf.ones_like(places[0], dtype=tf.bool)
    for place, length in zip(places, space):
        mapped = inside(place, length, padding, corners)
        valid = valid & (mapped >= 0) & (mapped <= length - 1)
        index = index * length + tf.cast(tf.clip_by_value(mapped, 0, length - 1), tf.int64)
    values = tf.gather(flat, index, axis=2, batch_dims=1)
    return tf.where(valid[:, None], values, tf.zeros_like(values))


def grid_sample(call: Call) -> Result:
    """ONNX GridSample in any number of dimensions: nearest, linear or cubic."""
    x, grid, corners = call.x, call.need(1), bool(call.get("align_corners", 0))
    mode, padding = call.get("mode", "linear"), call.get("padding_mode", "zeros")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    batch, channels, *space = sizes(x)
    points = tf.cast(tf.reshape(grid, [batch, -1, rank(x) - 2]), x.dtype)
    taps = []
    for axis, length in enumerate(space):
        place = points[..., rank(x) - 3 - axis]
        place = (place + 1) / 2 * (length - 1) if corners else ((place + 1) * length - 1) / 2
        # cubic taps are mapped one by one; the others sample at a place that was mapped first
        place = place if mode == "cubic" else inside(place, length, padding, corners)
        taps.append(_axis_taps(place, mode))
    total = tf.zeros([batch, channels, sizes(points)[1]], dtype=x.dtype)
    for chosen in itertools.product(*taps):
        weight = tf.ones_like(chosen[0][1])
        for _, part in chosen:
            weight = weight * part
        total = total + _gathered(x, [place for place, _ in chosen], padding, corners) * weight[:, None]
    return tf.reshape(total, [batch, channels, *sizes(grid)[1:-1]])


OPERATORS: Dict[str, Handler] = {"GridSample": grid_sample}

"""Where each place of a resized axis comes from, and by which weights (ONNX Resize, opset 19).

These are tables of numbers that depend on sizes and attributes alone, in float64 by numpy.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.geometry import Axis
from porting_check.neutral.node import Node


class Taps(NamedTuple):
    """For each place of the result: the places read (size, taps), their weights, whether it is outside."""

    places: np.ndarray
    weights: np.ndarray
    outside: np.ndarray


def coordinates(axis: Axis, mode: str) -> np.ndarray:
    """The input coordinate of every place of the result."""
    place = np.arange(axis.size, dtype=np.float64)
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


def nearest(coordinate: np.ndarray, mode: str) -> np.ndarray:
    """The nearest place by ONNX's ``nearest_mode``."""
    if mode == "round_prefer_floor":
        return np.ceil(coordinate - 0.5)
    if mode == "round_prefer_ceil":
        return np.floor(coordinate + 0.5)
    return np.floor(coordinate) if mode == "floor" else np.ceil(coordinate)


def cubic_kernel(distance: Any, a: float, xp: Any = np) -> Any:
    """Keys' cubic convolution kernel (R. Keys, IEEE ASSP 29(6), 1981), of arrays of numpy or of ``xp``."""
    x = abs(distance)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return xp.where(x <= 1, inner, xp.where(x < 2, outer, 0.0))


def interpolated(coordinate: np.ndarray, scale: float, a: Optional[float]) -> Tuple[np.ndarray, np.ndarray]:
    """Places and weights of a linear kernel (or cubic, with ``a``), stretched by 1/scale when antialiased."""
    first = math.floor(-(1 if a is None else 2) / scale) + 1
    places = np.ceil(coordinate)[:, None] - 1 + np.arange(first, 2 - first)
    distance = scale * (places - coordinate[:, None])
    weights = np.maximum(1 - abs(distance), 0) if a is None else cubic_kernel(distance, a)
    return places, weights if scale == 1 else weights / weights.sum(1, keepdims=True)


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
        weights = np.ones_like(places)
    else:
        stretch = min(axis.scale, 1.0) if get("antialias", 0) else 1.0
        places, weights = interpolated(
            coordinate, stretch, get("cubic_coeff_a", -0.75) if mode == "cubic" else None
        )
        if get("exclude_outside", 0):
            weights = np.where((places >= 0) & (places < axis.length), weights, 0.0)
            weights = weights / weights.sum(1, keepdims=True)
    cropped = where == "tf_crop_and_resize"
    outside = (coordinate < 0) | (coordinate > axis.length - 1) if cropped else np.zeros(axis.size, bool)
    return Taps(np.clip(places, 0, axis.length - 1).astype(np.int64), weights, outside)

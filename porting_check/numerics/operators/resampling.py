"""Resize and Upsample: one axis after the other, as weights over a few neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    integers,
    normalized_axis,
    operator,
    optional,
    required,
)

Kernel = Callable[[Array], Array]


@dataclass(frozen=True)
class AxisPlan:
    """How one axis is resized: input and output size, scale (given or of the sizes), region."""

    axis: int
    size: int
    out: int
    scale: float
    by_size: bool
    roi: tuple[float, float]

    @property
    def width(self) -> float:
        """The output width, which is not a whole number for some scales."""
        return float(self.out) if self.by_size else self.scale * self.size

    def unscaled(self, places: Array) -> Array:
        """Places divided by the scale; from sizes in one rounding, so that whole results come out whole."""
        return places * self.size / self.out if self.by_size else places / self.scale


def coordinates(plan: AxisPlan, mode: str) -> Array:
    """Where each output place lies in the input (``coordinate_transformation_mode`` of ONNX Resize-19).

    Raises:
        ValueError: the mode is not one of the standard.
    """
    y, n, width = np.arange(plan.out, dtype=np.float64), plan.size, plan.width
    if mode == "half_pixel":
        return plan.unscaled(y + 0.5) - 0.5
    if mode == "half_pixel_symmetric":
        return n / 2 * (1 - plan.out / width) + plan.unscaled(y + 0.5) - 0.5
    if mode == "pytorch_half_pixel":
        return plan.unscaled(y + 0.5) - 0.5 if plan.out > 1 else np.zeros(plan.out)
    if mode == "align_corners":
        return y * (n - 1) / (width - 1) if width != 1 else np.zeros(plan.out)
    if mode == "asymmetric":
        return plan.unscaled(y)
    if mode == "tf_crop_and_resize":
        begin, end = plan.roi
        if width == 1:
            return np.full(plan.out, 0.5 * (begin + end) * (n - 1))
        return begin * (n - 1) + y * (end - begin) * (n - 1) / (width - 1)
    raise ValueError(f"coordinate_transformation_mode is {mode!r}, which is not one of the ONNX standard")


def linear_kernel(t: Array) -> Array:
    """The triangle of linear interpolation."""
    return np.asarray(np.clip(1 - np.abs(t), 0, 1))


def cubic_kernel(a: float) -> Kernel:
    """The cubic convolution of Keys (1981), equation 4, with coefficient ``a``."""

    def kernel(t: Array) -> Array:
        t = np.abs(t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0))

    return kernel


def _nearest(x: Array, rule: str) -> Array:
    """The input place nearest to each coordinate."""
    rules: dict[str, Kernel] = {
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if rule not in rules:
        raise ValueError(f"nearest_mode is {rule!r}, expected one of {', '.join(rules)}")
    return rules[rule](x).astype(np.intp)


def _neighbours(x: Array, plan: AxisPlan, attributes: Attributes, mode: str) -> tuple[Array, Array]:
    """Input places and their weights for every output place, both ``(out, taps)``; places may lie outside."""
    reach, kernel = 1, cast(Kernel, linear_kernel)
    if mode == "cubic":
        reach, kernel = 2, cubic_kernel(float(attributes.get("cubic_coeff_a", -0.75)))
    elif mode != "linear":
        raise ValueError(f"mode is {mode!r}, expected nearest, linear or cubic")
    shrink = min(plan.scale, 1.0) if attributes.get("antialias", 0) else 1.0
    first = int(np.floor(-reach / shrink)) + 1
    offsets = np.arange(first, 2 - first)
    # A whole coordinate counts as the right end of its interval, as in the reference implementation of ONNX.
    base = np.ceil(x) - 1
    weights = kernel((offsets - (x - base)[:, None]) * shrink)
    if shrink < 1:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return (base[:, None] + offsets).astype(np.intp), weights


def _resized(x: Array, plan: AxisPlan, attributes: Attributes, mode: str) -> Array:
    """One axis resized."""
    transformation = str(attributes.get("coordinate_transformation_mode") or "half_pixel")
    where = coordinates(plan, transformation)
    if mode == "nearest":
        places = _nearest(where, str(attributes.get("nearest_mode") or "round_prefer_floor"))
        y = np.take(x, np.clip(places, 0, plan.size - 1), axis=plan.axis)
    else:
        neighbours, weights = _neighbours(where, plan, attributes, mode)
        if attributes.get("exclude_outside", 0):
            weights = np.where((neighbours < 0) | (neighbours >= plan.size), 0, weights)
            weights = weights / weights.sum(axis=1, keepdims=True)
        y = _weighted(x, np.clip(neighbours, 0, plan.size - 1), weights, plan.axis)
    if transformation == "tf_crop_and_resize":
        outside = ((where < 0) | (where > plan.size - 1)).reshape((-1,) + (1,) * (x.ndim - plan.axis - 1))
        y = np.where(outside, np.asarray(attributes.get("extrapolation_value", 0.0), y.dtype), y)
    return y


def _weighted(x: Array, places: Array, weights: Array, axis: int) -> Array:
    """The sum over neighbours of value times weight."""
    columns = weights.reshape(weights.shape + (1,) * (x.ndim - axis - 1)).astype(x.dtype)
    y = np.take(x, places[:, 0], axis=axis)
    y *= columns[:, 0]
    for index in range(1, places.shape[1]):
        term = np.take(x, places[:, index], axis=axis)
        term *= columns[:, index]
        y += term
    return y


def _plans(attributes: Attributes, inputs: Inputs) -> list[AxisPlan]:
    """What happens to each axis that is resized."""
    x, roi, scales, sizes = (
        required(inputs, 0, "X"),
        optional(inputs, 1),
        optional(inputs, 2),
        optional(inputs, 3),
    )
    axes = [normalized_axis(axis, x.ndim) for axis in integers(attributes.get("axes"), range(x.ndim))]
    by_size = sizes is not None and sizes.size > 0
    given = sizes if by_size else scales
    if given is None or given.size != len(axes):
        raise ValueError(f"Resize needs scales or sizes for the axes {axes}, found {given!r}")
    lengths = [x.shape[axis] for axis in axes]
    factors = (
        [float(v) / n for v, n in zip(given, lengths, strict=True)] if by_size else [float(v) for v in given]
    )
    targets = (
        [int(v) for v in given] if by_size else [int(f * n) for f, n in zip(factors, lengths, strict=True)]
    )
    policy = str(attributes.get("keep_aspect_ratio_policy") or "stretch")
    if by_size and policy != "stretch":
        factor = min(factors) if policy == "not_larger" else max(factors)
        factors, targets = [factor] * len(axes), [int(factor * n + 0.5) for n in lengths]
        by_size = False
    regions = _regions(roi, len(axes))
    return [
        AxisPlan(axis, n, out, factor, by_size, region)
        for axis, n, out, factor, region in zip(axes, lengths, targets, factors, regions, strict=True)
    ]


def _regions(roi: Array | None, count: int) -> Sequence[tuple[float, float]]:
    """Begin and end per axis of the region of interest, in units of the input; all of it by default."""
    if roi is None or roi.size == 0:
        return [(0.0, 1.0)] * count
    return [(float(roi[index]), float(roi[index + count])) for index in range(count)]


@operator("Resize")
def resize(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Resampled along axes by ``scales`` or to ``sizes``: nearest, linear or cubic, antialiased or not.

    Source: ONNX Resize-19. Integers are interpolated in float64 and rounded.
    """
    x = required(inputs, 0, "X")
    mode = str(attributes.get("mode") or "nearest")
    y = x.astype(np.float64) if mode != "nearest" and x.dtype.kind in "iu" else x
    whole = str(attributes.get("coordinate_transformation_mode")) == "tf_crop_and_resize"
    for plan in _plans(attributes, inputs):
        if whole or plan.scale != 1 or plan.out != plan.size:
            y = _resized(y, plan, attributes, mode)
    if y.dtype == x.dtype:
        return (y,)
    info = np.iinfo(x.dtype)
    return (np.clip(np.rint(y), info.min, info.max).astype(x.dtype),)


@operator("Upsample")
def upsample(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The older form of Resize: nearest or linear, place y lies at ``y / scale`` (ONNX Upsample-10)."""
    settings = {
        "mode": str(attributes.get("mode") or "nearest"),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    scales = optional(inputs, 1)
    scales = np.asarray(attributes["scales"]) if scales is None else scales
    return resize(settings, (required(inputs, 0, "X"), None, scales))

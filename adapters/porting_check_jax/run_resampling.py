"""Resize, grid sampling and regions of interest."""

from __future__ import annotations

import functools
import math
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check.neutral.geometry import Axis, product, resize_axes
from porting_check_jax.run_call import HIGHEST, Call, Handler, Result, is_floating
from porting_check_jax.run_taps import cubic_kernel, taps

CUBIC_A = -0.75
"""ONNX GridSample fixes the cubic coefficient, as torch does."""


def resize(call: Call) -> Result:
    """ONNX Resize.

    ``jax.image.resize`` computes some of these nodes too, but as products with whole matrices, in which one
    infinity spreads over the image.
    """
    roi, scales, sizes = call.numbers(1), call.numbers(2), call.integers(3)
    return _by_taps(call, resize_axes(call.node, call.x.shape, roi or None, scales or None, sizes or None))


def upsample(call: Call) -> Result:
    """ONNX Upsample (until opset 9): Resize with asymmetric coordinates, nearest by floor."""
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    asked = Call(call.node.edit(**settings), [call.x], call.arrays[:1], call.float64)
    return _by_taps(asked, resize_axes(asked.node, call.x.shape, None, call.numbers(1), None))


def _by_taps(call: Call, axes: Sequence[Axis]) -> jax.Array:
    """One axis after the other: gather the taps of every place and add them up by weight."""
    x = call.x
    result = x if is_floating(x) else x.astype(jnp.float32)
    outside = np.zeros(1, bool)
    for dim, axis in enumerate(axes):
        if axis.plain:
            continue
        chosen = taps(axis, call.node)
        after = (1,) * (x.ndim - dim - 1)
        gathered = jnp.take(result, chosen.places, axis=dim, mode="clip")
        weights = jnp.asarray(chosen.weights.reshape(chosen.weights.shape + after), result.dtype)
        result = jnp.sum(gathered * weights, axis=dim + 1)
        outside = outside | chosen.outside.reshape((-1,) + after)
    if outside.any():
        result = jnp.where(outside, float(call.get("extrapolation_value", 0.0)), result)
    if is_floating(x):
        return result
    limits = jnp.iinfo(x.dtype)
    return jnp.clip(jnp.round(result), float(limits.min), float(limits.max)).astype(x.dtype)


def _reflected(place: jax.Array, low: float, high: float) -> jax.Array:
    """Places folded back at the borders until they lie between them."""
    span = high - low
    if span <= 0:
        return jnp.zeros_like(place)
    moved = jnp.mod(place - low, 2 * span)
    return jnp.minimum(moved, 2 * span - moved) + low


def _inside(place: jax.Array, length: int, padding: str, corners: bool) -> jax.Array:
    """A coordinate as the padding mode maps it; ``zeros`` leaves it where it is."""
    if padding == "border":
        return jnp.clip(place, 0, length - 1)
    if padding == "reflection":
        low, high = (0.0, length - 1.0) if corners else (-0.5, length - 0.5)
        return jnp.clip(_reflected(place, low, high), 0, length - 1)
    return place


def _axis_taps(place: jax.Array, mode: str) -> Tuple[jax.Array, jax.Array]:
    """The whole places that coordinates (N, P) read along one axis, and their weights: (N, P, taps)."""
    if mode == "nearest":
        return jnp.round(place)[..., None], jnp.ones_like(place)[..., None]
    low = jnp.floor(place)
    steps = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    places = low[..., None] + np.array(steps, place.dtype)
    distance = place[..., None] - places
    return places, 1 - jnp.abs(distance) if mode == "linear" else cubic_kernel(distance, CUBIC_A, jnp)


def grid_sample(call: Call) -> Result:
    """ONNX GridSample in any number of dimensions: nearest, linear or cubic."""
    x, grid, corners = call.x, call.need(1), bool(call.get("align_corners", 0))
    mode, padding = call.get("mode", "linear"), call.get("padding_mode", "zeros")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    (batch, channels), space = x.shape[:2], x.shape[2:]
    rank = len(space)
    points = grid.reshape(batch, -1, rank).astype(x.dtype)
    index, weight = jnp.zeros((1,) * (2 + rank), int), jnp.ones((1,) * (2 + rank), x.dtype)
    for axis, length in enumerate(space):
        place = points[..., rank - 1 - axis]
        place = (place + 1) / 2 * (length - 1) if corners else ((place + 1) * length - 1) / 2
        # cubic taps are mapped one by one; the others sample at a place that was mapped first
        place = place if mode == "cubic" else _inside(place, length, padding, corners)
        found, part = (
            one.reshape(one.shape[:2] + (1,) * axis + one.shape[2:] + (1,) * (rank - 1 - axis))
            for one in _axis_taps(place, mode)
        )
        found = _inside(found, length, padding, corners)
        weight = jnp.where((found >= 0) & (found <= length - 1), weight * part, 0)
        index = index * length + jnp.clip(found, 0, length - 1).astype(int)
    index, weight = (
        one.reshape(batch, 1, points.shape[1], -1) for one in jnp.broadcast_arrays(index, weight)
    )
    count = weight.shape[-1]
    flat = x.reshape(batch, channels, product(space))
    read = jnp.take_along_axis(flat, index.reshape(batch, 1, -1), axis=2, mode="clip")
    values = jnp.where(weight == 0, 0, read.reshape(batch, channels, -1, count))
    return jnp.sum(values * weight, axis=-1).reshape(x.shape[:2] + grid.shape[1:-1])


def affine_grid(call: Call) -> Result:
    """ONNX AffineGrid: the base grid of the output, transformed by each ``theta``."""
    theta, corners, wanted = call.x, bool(call.get("align_corners", 0)), (call.integers(1) or [])[2:]
    lines = []
    for size in wanted:
        step = 2.0 / (size - 1) if corners and size > 1 else 2.0 / size
        start = 0.0 if size == 1 else -1.0 if corners else -1.0 + step / 2
        lines.append(start + step * np.arange(size))
    grid = np.stack(list(np.meshgrid(*lines, indexing="ij"))[::-1] + [np.ones(wanted)], axis=-1)
    flat = jnp.asarray(grid.reshape(-1, len(wanted) + 1), theta.dtype)
    result = jnp.matmul(flat, jnp.swapaxes(theta, 1, 2), precision=HIGHEST)
    return result.reshape([theta.shape[0]] + list(wanted) + [len(wanted)])


class Bins(NamedTuple):
    """How a RoiAlign node samples: bins per axis, the most samples in one, maxima or means."""

    counts: Tuple[int, int]
    samples: Tuple[int, int]
    best: bool


def _line(
    start: jax.Array, step: jax.Array, count: jax.Array, bins: int, samples: int, length: int
) -> Tuple[jax.Array, ...]:
    """Samples along one axis of a region: lower and upper index, weights (zero beyond a pixel outside).

    ``samples`` is the most of any region; the last one tells which of them are this region's.
    """
    fractions = (jnp.arange(samples, dtype=start.dtype) + 0.5) / count.astype(start.dtype)
    places = (start + (jnp.arange(bins, dtype=start.dtype)[:, None] + fractions[None, :]) * step).reshape(-1)
    valid = ((places >= -1.0) & (places <= length)).astype(start.dtype)
    places = jnp.clip(places, 0.0, length - 1.0)
    low = jnp.floor(places)
    high = jnp.minimum(low + 1, length - 1)
    part = places - low
    used = jnp.tile(jnp.arange(samples) < count, bins)
    return low.astype(int), high.astype(int), (1 - part) * valid, part * valid, used


def _align_one(bins: Bins, x: jax.Array, region: Tuple[jax.Array, ...]) -> jax.Array:
    """One region, given as image, starts, steps and sample counts per axis, pooled to the output size."""
    batch, starts, steps, counts = region
    image = x[batch]
    lines = [
        _line(starts[at], steps[at], counts[at], bins.counts[at], bins.samples[at], image.shape[1 + at])
        for at in (0, 1)
    ]
    (top, bottom, top_weight, bottom_weight, rows), (left, right, left_weight, right_weight, columns) = lines
    products: List[jax.Array] = []
    for row, row_weight in ((top, top_weight), (bottom, bottom_weight)):
        for column, column_weight in ((left, left_weight), (right, right_weight)):
            corner = jnp.take(jnp.take(image, row, axis=1, mode="clip"), column, axis=2, mode="clip")
            products.append(corner * row_weight[:, None] * column_weight[None, :])
    stacked, used = jnp.stack(products), rows[:, None] & columns[None, :]
    shape = (image.shape[0], bins.counts[0], bins.samples[0], bins.counts[1], bins.samples[1])
    if bins.best:
        return jnp.max(jnp.where(used, jnp.max(stacked, axis=0), -math.inf).reshape(shape), axis=(2, 4))
    total = jnp.sum(jnp.where(used, jnp.sum(stacked, axis=0), 0).reshape(shape), axis=(2, 4))
    return total / (counts[0] * counts[1]).astype(total.dtype)


def _extents(call: Call, regions: Any) -> Tuple[Any, Any]:
    """Start and size in pixels of each region, along height and width."""
    half = call.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    corners = regions * float(call.get("spatial_scale", 1.0)) - (0.5 if half else 0.0)
    starts, extents = corners[:, 1::-1], corners[:, 3:1:-1] - corners[:, 1::-1]
    return starts, extents if half else extents.clip(min=1)


def _sample_counts(call: Call, bins: Sequence[int]) -> np.ndarray:
    """Samples per bin of each region along each axis: as the node says, or one for each pixel begun."""
    regions, ratio = call.need(1), call.get("sampling_ratio", 0)
    if ratio:
        return np.full((regions.shape[0], 2), ratio)
    values: Any = call.value(1)
    _, extents = _extents(call, values.astype(regions.dtype))
    return np.maximum(np.ceil(extents / np.array(bins, regions.dtype)), 1).astype(np.int64)


def roi_align(call: Call) -> Result:
    """ONNX RoiAlign: bilinear samples of each region, averaged (or their largest product) per bin."""
    x, regions, batches = call.x, call.need(1), call.integers(2) or []
    bins = (call.get("output_height", 1), call.get("output_width", 1))
    if any(not -x.shape[0] <= batch < x.shape[0] for batch in batches):
        raise IndexError(f"batch_indices {batches} do not lie in a batch of {x.shape[0]}")
    if not batches:
        return jnp.zeros((0, x.shape[1]) + bins, x.dtype)
    counts = _sample_counts(call, bins)
    starts, extents = _extents(call, regions)
    most = (int(counts[:, 0].max()), int(counts[:, 1].max()))
    align = functools.partial(_align_one, Bins(bins, most, call.get("mode", "avg") == "max"), x)
    steps = extents / jnp.asarray(bins, regions.dtype)
    return lax.map(align, (jnp.asarray(batches), starts, steps, jnp.asarray(counts)))


OPERATORS: Dict[str, Handler] = {
    "Resize": resize,
    "Upsample": upsample,
    "GridSample": grid_sample,
    "AffineGrid": affine_grid,
    "RoiAlign": roi_align,
}

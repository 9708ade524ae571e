"""GridSample: values of the input at given places, in one to three spatial dimensions."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from porting_check.numerics.operators.registry import Array, Attributes, Inputs, Outputs, operator, required
from porting_check.numerics.operators.resampling import cubic_kernel, linear_kernel

_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@operator("GridSample")
def grid_sample(attributes: Attributes, inputs: Inputs) -> Outputs:
    """X ``(N, C, *spatial)`` sampled at grid ``(N, *out, dims)``, whose last axis is (x, y, …) in [-1, 1].

    Modes nearest, linear, cubic (a = -0.75); outside values by ``padding_mode`` zeros, border or reflection.

    Source: ONNX GridSample-22, after PyTorch's ``grid_sample``.
    """
    x, grid = required(inputs, 0, "X"), required(inputs, 1, "grid")
    mode = str(attributes.get("mode") or "linear")
    mode, align = _MODES.get(mode, mode), bool(attributes.get("align_corners", 0))
    padding, sizes = str(attributes.get("padding_mode") or "zeros"), x.shape[2:]
    if padding not in ("zeros", "border", "reflection") or mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"mode {mode!r} with padding_mode {padding!r} is not in the ONNX standard")
    places, weights = [], []
    for axis, size in enumerate(sizes):
        where = _unnormalized(grid[..., len(sizes) - 1 - axis], size, align)
        if mode != "cubic":
            # Cubic interpolation brings each neighbour inside, the others the place itself.
            where = _inside(where, size, padding, align)
        axis_places, axis_weights = _neighbours(where, mode)
        places.append(axis_places)
        weights.append(axis_weights)
    return (_gathered(x, places, weights, padding, align).astype(x.dtype),)


def _unnormalized(grid: Array, size: int, align: bool) -> Array:
    """From [-1, 1] to pixels: the ends are pixel centres (``align_corners``) or pixel borders."""
    return (grid + 1) / 2 * (size - 1) if align else ((grid + 1) * size - 1) / 2


def _inside(where: Array, size: int, padding: str, align: bool) -> Array:
    """Places moved inside the input by clamping or by reflection at the ends."""
    if padding == "border":
        return np.clip(where, 0, size - 1)
    if padding == "reflection":
        low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        span = high - low
        if span <= 0:
            return np.zeros_like(where)
        distance = np.mod(where - low, 2 * span)
        return np.clip(np.where(distance > span, 2 * span - distance, distance) + low, 0, size - 1)
    return where


def _neighbours(where: Array, mode: str) -> tuple[list[Array], list[Array]]:
    """Neighbouring places (whole, perhaps outside) and their weights, one array per tap."""
    if mode == "nearest":
        return [np.rint(where)], [np.ones_like(where)]
    base = np.floor(where)
    offsets, kernel = ((0, 1), linear_kernel) if mode == "linear" else ((-1, 0, 1, 2), cubic_kernel(-0.75))
    return [base + offset for offset in offsets], [kernel(where - base - offset) for offset in offsets]


def _gathered(
    x: Array, places: list[list[Array]], weights: list[list[Array]], padding: str, align: bool
) -> Array:
    """The weighted sum over all combinations of neighbours; outside places count nothing under ``zeros``."""
    samples = np.arange(x.shape[0]).reshape((-1,) + (1,) * (places[0][0].ndim - 1))
    total = np.zeros((*places[0][0].shape, x.shape[1]), np.result_type(x, weights[0][0]))
    for choice in product(*(range(len(taps)) for taps in places)):
        index, weight = [], np.ones_like(weights[0][0])
        for axis, at in enumerate(choice):
            size, place = x.shape[axis + 2], places[axis][at]
            weight = weight * weights[axis][at]
            if padding == "zeros":
                weight = np.where((place < 0) | (place >= size), 0, weight)
            place = _inside(place, size, padding, align)
            index.append(np.clip(np.rint(place), 0, size - 1).astype(np.intp))
        # Advanced indices around the channel slice put the channels last.
        where: tuple[Any, ...] = (samples, slice(None), *index)
        total += x[where] * weight[..., None]
    return np.moveaxis(total, -1, 1)

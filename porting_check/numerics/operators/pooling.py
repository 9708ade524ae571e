"""Pooling. Maximum and sum are separable: one axis after the other, k1 + k2 passes instead of k1 * k2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np

from porting_check.numerics.operators.registry import (
    OUTPUT_COUNT,
    Array,
    Attributes,
    Inputs,
    Outputs,
    integers,
    operator,
    required,
)
from porting_check.numerics.operators.windows import Windows, padded, resolve, tap

Combine = Callable[..., Array]


def _windows(attributes: Attributes, x: Array) -> Windows:
    """The windows of a pooling call over ``(N, C, *spatial)``."""
    if "kernel_shape" not in attributes:
        raise ValueError("pooling needs the attribute kernel_shape")
    kernel = integers(attributes["kernel_shape"])
    if len(kernel) != x.ndim - 2:
        raise ValueError(f"kernel_shape {kernel} does not fit an input of shape {x.shape} (N, C, *spatial)")
    return resolve(attributes, x.shape[2:], kernel, bool(attributes.get("ceil_mode", 0)))


def _prepared(x: Array, windows: Windows, value: float) -> Array:
    """The input padded by ``value``, with room for a last window that hangs over."""
    overhang = windows.overhang(x.shape[2:])
    return padded(x, tuple((b, e + o) for (b, e), o in zip(windows.pads, overhang, strict=True)), value)


def _reduced(x: Array, windows: Windows, combine: Combine) -> Array:
    """Combine all values under each window of a padded input, axis by axis from the last."""
    for axis in reversed(range(2, x.ndim)):
        k, stride = windows.kernel[axis - 2], windows.strides[axis - 2]
        dilation, count = windows.dilations[axis - 2], windows.counts[axis - 2]
        lead = (slice(None),) * axis
        out = None
        for start in range(0, k * dilation, dilation):
            part = x[(*lead, slice(start, start + (count - 1) * stride + 1, stride))]
            out = part.copy() if out is None else combine(out, part, out=out)
        x = x if out is None else out
    return x


def _lowest(dtype: np.dtype[Any]) -> float:
    """The value that never wins a maximum."""
    return -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


@operator("MaxPool")
def max_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Maximum under each window, and the flat indices of the maxima. A NaN under a window wins.

    Source: ONNX MaxPool-22; the indices count over the whole input, ``storage_order`` 1 swaps rows and
        columns.
    """
    x = required(inputs, 0, "X")
    windows = _windows(attributes, x)
    y = _reduced(_prepared(x, windows, _lowest(x.dtype)), windows, np.maximum)
    if int(attributes.get(OUTPUT_COUNT, 2)) < 2:
        return (y,)
    return (y, _max_indices(x, windows, bool(attributes.get("storage_order", 0))))


def _max_indices(x: Array, windows: Windows, column_major: bool) -> Array:
    """Index of the first maximum under each window, into the flattened unpadded input."""
    source = _prepared(x, windows, _lowest(x.dtype))
    order: Literal["C", "F"] = "F" if column_major else "C"
    numbers = np.arange(prod(x.shape[2:])).reshape(x.shape[2:], order=order)
    places = _prepared(numbers[None, None], windows, -1)
    index = np.full(x.shape[:2] + windows.counts, -1, np.int64)
    best = np.full(index.shape, _lowest(x.dtype), x.dtype)
    for offsets in product(*map(range, windows.kernel)):
        where = (slice(None), slice(None), *tap(offsets, windows))
        value, place = source[where], np.broadcast_to(places[where], index.shape)
        better = (index < 0) | (value > best) | ((value != value) & (best == best))
        better &= place >= 0
        np.copyto(best, value, where=better)
        np.copyto(index, place, where=better)
    channel = np.arange(prod(x.shape[:2])).reshape(x.shape[:2] + (1,) * len(windows.counts))
    return np.asarray(index + channel * prod(x.shape[2:]), np.int64)


@operator("AveragePool")
def average_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Mean under each window; the divisor counts real values, or padding as well with ``count_include_pad``.

    What hangs over the padded input in ``ceil_mode`` is never counted (ONNX AveragePool-22, as in PyTorch).
    """
    x = required(inputs, 0, "X")
    windows = _windows(attributes, x)
    total = _reduced(_prepared(x, windows, 0), windows, np.add)
    total /= _divisor(x.shape[2:], windows, bool(attributes.get("count_include_pad", 0))).astype(total.dtype)
    return (total,)


def _divisor(sizes: Sequence[int], windows: Windows, include_pad: bool) -> Array:
    """How many values each window averages: the product of one count per axis."""
    result = np.ones((1,) * len(sizes))
    for axis, (size, (begin, end)) in enumerate(zip(sizes, windows.pads, strict=True)):
        taps = np.arange(windows.kernel[axis]) * windows.dilations[axis]
        places = np.arange(windows.counts[axis])[:, None] * windows.strides[axis] + taps - begin
        low, high = (-begin, size + end) if include_pad else (0, size)
        counted = ((places >= low) & (places < high)).sum(axis=1)
        result = result * counted.reshape((-1,) + (1,) * (len(sizes) - axis - 1))
    return result


@operator("LpPool")
def lp_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The p-th root of the sum of p-th powers under each window (ONNX LpPool-22; a sum, not a mean)."""
    x, p = required(inputs, 0, "X"), int(attributes.get("p", 2))
    windows = _windows(attributes, x)
    powers = np.abs(x) ** p
    return (_reduced(_prepared(powers, windows, 0), windows, np.add) ** (1.0 / p),)


def _spatial(x: Array) -> tuple[int, ...]:
    """The axes after batch and channels."""
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Mean over all spatial axes, kept with size 1."""
    x = required(inputs, 0, "X")
    return (x.mean(axis=_spatial(x), keepdims=True),)


@operator("GlobalMaxPool")
def global_max_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Maximum over all spatial axes, kept with size 1."""
    x = required(inputs, 0, "X")
    return (x.max(axis=_spatial(x), keepdims=True),)


@operator("GlobalLpPool")
def global_lp_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The p-norm over all spatial axes, kept with size 1."""
    x, p = required(inputs, 0, "X"), int(attributes.get("p", 2))
    return ((np.abs(x) ** p).sum(axis=_spatial(x), keepdims=True) ** (1.0 / p),)


@operator("AdaptiveAveragePool")
def adaptive_average_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Mean of ``output_size`` bins per spatial axis (domain ``porting_check``).

    Bin i is ``[floor(i * n / m), ceil((i + 1) * n / m))``: bins overlap and differ in size where m does not
    divide n.
    Source: PyTorch AdaptiveAvgPool; catalogue entry ``adaptive-pool-bins``.
    """
    return (_adaptive(attributes, required(inputs, 0, "X"), np.mean),)


@operator("AdaptiveMaxPool")
def adaptive_max_pool(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Maximum of ``output_size`` bins per spatial axis (domain ``porting_check``), the same bins."""
    return (_adaptive(attributes, required(inputs, 0, "X"), np.max),)


def _adaptive(attributes: Attributes, x: Array, reduce: Callable[..., Array]) -> Array:
    """Reduce bins axis by axis; a size of 0 or -1 in ``output_size`` keeps the axis as it is."""
    sizes = integers(attributes.get("output_size"))
    if len(sizes) == 1:
        sizes *= x.ndim - 2
    if len(sizes) != x.ndim - 2:
        raise ValueError(f"output_size {sizes} does not fit an input of shape {x.shape} (N, C, *spatial)")
    for axis, m in enumerate(sizes, 2):
        n = x.shape[axis]
        if m <= 0 or m == n:
            continue
        bins = [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        x = np.stack([reduce(x[(slice(None),) * axis + (part,)], axis=axis) for part in bins], axis=axis)
    return x

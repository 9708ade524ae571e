"""Conv and ConvTranspose of any spatial rank, as matrix products over blocks of windows.

A block of windows is copied side by side (a part of im2col, at most ``BLOCK`` values) and multiplied by the
kernel in one product; the whole im2col matrix never exists. A 1x1 convolution is one product without any
copy, a depthwise one a multiply-accumulate per kernel tap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    channelwise,
    integers,
    operator,
    optional,
    required,
)
from porting_check.numerics.operators.windows import (
    Pairs,
    Windows,
    explicit_pads,
    padded,
    resolve,
    sliding,
    tap,
)

BLOCK = 1 << 20
"""Most values of copied windows at a time (8 MiB of float64)."""

CACHED = 1 << 15
"""Values per array of a depthwise block, so that accumulator and product stay in the cache."""


@operator("Conv")
def conv(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Convolution: x ``(N, C, *spatial)``, w ``(O, C / group, *kernel)``, b ``(O,)`` or absent.

    Raises:
        ValueError: channels, groups or kernel do not fit.

    Source: ONNX Conv-22.
    """
    x, w, bias = required(inputs, 0, "X"), required(inputs, 1, "W"), optional(inputs, 2)
    group = int(attributes.get("group", 1))
    _check(x, w, group, attributes)
    windows = resolve(attributes, x.shape[2:], w.shape[2:])
    x = padded(x, windows.pads)
    if prod(windows.kernel) == 1:
        y = _pointwise(x, w, windows, group)
    elif w.shape[1] == 1 and group > 1:
        y = _depthwise(x, w, windows)
    else:
        y = _blockwise(x, w, windows, group)
    if bias is not None:
        y += channelwise(bias, y.ndim)
    return (y,)


def _check(x: Array, w: Array, group: int, attributes: Attributes) -> None:
    """Refuse shapes that do not belong together."""
    if x.ndim != w.ndim or x.ndim < 3:
        raise ValueError(
            f"X of shape {x.shape} and W of shape {w.shape}: expected (N, C, …) and (O, C/group, …)"
        )
    if x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise ValueError(
            f"X has {x.shape[1]} channels, but W of shape {w.shape} with group {group} does not fit"
        )
    kernel = integers(attributes.get("kernel_shape"), w.shape[2:])
    if kernel != w.shape[2:]:
        raise ValueError(f"kernel_shape is {kernel}, but W has the spatial shape {w.shape[2:]}")


def _pointwise(x: Array, w: Array, windows: Windows, group: int) -> Array:
    """A kernel of one tap: one matrix product per sample and group."""
    x = x[(slice(None), slice(None), *tap((0,) * len(windows.kernel), windows))]
    batch, outputs = x.shape[0], w.shape[0]
    columns = x.reshape(batch, group, x.shape[1] // group, prod(windows.counts))
    y: Array = np.matmul(w.reshape(group, outputs // group, w.shape[1]), columns)
    return y.reshape((batch, outputs, *windows.counts))


def _blockwise(x: Array, w: Array, windows: Windows, group: int) -> Array:
    """The general case: copy a block of windows, multiply by all kernels, go on."""
    batch, outputs, counts = x.shape[0], w.shape[0], windows.counts
    y = np.empty((batch, outputs, *counts), np.result_type(x, w))
    if not y.size:
        return y
    kernels = w.reshape(group, outputs // group, prod(w.shape[1:]))
    depth, rest = group * kernels.shape[2], prod(counts[1:])
    rows = min(max(BLOCK // (depth * rest), 1), counts[0])
    view = sliding(x, windows)
    first = 2 + len(counts)
    buffer = np.empty(depth * rows * rest, x.dtype)
    for sample in range(batch):
        target = y[sample].reshape(group, outputs // group, counts[0] * rest)
        for start in range(0, counts[0], rows):
            stop = min(start + rows, counts[0])
            part = view[sample][(slice(None),) * (first - 1) + (slice(start, stop),)]
            block = buffer[: part.size].reshape(part.shape)
            np.copyto(block, part)
            columns = block.reshape(group, kernels.shape[2], (stop - start) * rest)
            _multiply(kernels, columns, target[:, :, start * rest : stop * rest])
    return y


def _multiply(kernels: Array, columns: Array, out: Array) -> None:
    """Matrix products of all groups into ``out``; the plain product where there is one group."""
    if len(kernels) == 1:
        np.matmul(kernels[0], columns[0], out=out[0])
    else:
        np.matmul(kernels, columns, out=out)


def _depthwise(x: Array, w: Array, windows: Windows) -> Array:
    """One input channel per kernel: multiply and accumulate tap by tap, in blocks that fit the cache."""
    batch, channels, counts = x.shape[0], x.shape[1], windows.counts
    multiplier = w.shape[0] // channels
    y = np.empty((batch, channels, multiplier, *counts), np.result_type(x, w))
    weights = w.reshape((channels, multiplier, *windows.kernel))
    step = max(CACHED // max(multiplier * prod(counts), 1), 1)
    taps = [(offsets, tap(offsets, windows)) for offsets in product(*map(range, windows.kernel))]
    spread = (slice(None), slice(None)) + (None,) * len(counts)
    for sample, start in product(range(batch), range(0, channels, step)):
        part, kernels = x[sample, start : start + step], weights[start : start + step]
        total, term = y[sample, start : start + step], None
        for offsets, where in taps:
            view = part[(slice(None), *where)][:, None]
            at: tuple[Any, ...] = (slice(None), slice(None), *offsets)
            factor = kernels[at][spread]
            if term is None:
                np.multiply(view, factor, out=total)
                term = np.empty_like(total)
            else:
                total += np.multiply(view, factor, out=term)
    return y.reshape((batch, channels * multiplier, *counts))


@operator("ConvTranspose")
def conv_transpose(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Transposed convolution: x ``(N, C, *spatial)``, w ``(C, O / group, *kernel)``, b ``(O,)`` or absent.

    ``pads`` crop the full output (negative ones extend it); with ``output_shape`` or ``auto_pad`` they are
    computed.

    Source: ONNX ConvTranspose-22.
    """
    x, w, bias = required(inputs, 0, "X"), required(inputs, 1, "W"), optional(inputs, 2)
    group = int(attributes.get("group", 1))
    if x.ndim != w.ndim or x.shape[1] != w.shape[0] or w.shape[0] % group:
        raise ValueError(f"X of shape {x.shape} and W of shape {w.shape} with group {group} do not fit")
    windows, crops = _transposed_windows(attributes, x.shape[2:], w.shape[2:])
    full = [n + max(-b, 0) + max(-e, 0) for n, (b, e) in zip(windows.counts, crops, strict=True)]
    y = np.zeros((x.shape[0], w.shape[1] * group, *full), np.result_type(x, w))
    inside = tuple(slice(max(-b, 0), max(-b, 0) + n) for n, (b, _) in zip(windows.counts, crops, strict=True))
    _scatter(x, w, replace(windows, counts=x.shape[2:]), group, y[(slice(None), slice(None), *inside)])
    kept = (slice(max(b, 0), n - max(e, 0)) for n, (b, e) in zip(full, crops, strict=True))
    y = y[(slice(None), slice(None), *tuple(kept))]
    if bias is not None:
        y = y + channelwise(bias, y.ndim)
    return (np.ascontiguousarray(y),)


def _transposed_windows(
    attributes: Attributes, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[Windows, Pairs]:
    """The geometry with the full output sizes as ``counts``, and how much of each end is cropped."""
    rank = len(sizes)
    strides = integers(attributes.get("strides"), (1,) * rank)
    dilations = integers(attributes.get("dilations"), (1,) * rank)
    extra = integers(attributes.get("output_padding"), (0,) * rank)
    auto_pad = str(attributes.get("auto_pad") or "NOTSET")
    full = tuple(
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(sizes, strides, kernel, dilations, extra, strict=True)
    )
    wanted = attributes.get("output_shape")
    if wanted is not None:
        # The standard counts spatial axes only; some exporters write batch and channels too.
        crops = _crops(full, integers(wanted)[-rank:], upper=auto_pad == "SAME_UPPER")
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
        crops = _crops(full, wanted, upper=auto_pad == "SAME_UPPER")
    else:
        crops = explicit_pads(attributes, rank) if auto_pad == "NOTSET" else ((0, 0),) * rank
    return Windows(tuple(kernel), strides, dilations, ((0, 0),) * rank, full), crops


def _crops(full: Sequence[int], wanted: Sequence[int], upper: bool) -> Pairs:
    """Divide the surplus over both ends; the odd one at the end for SAME_UPPER, else at the begin.

    A shortage (``wanted`` is larger) becomes a negative crop at the end: the output is extended by zeros
    there.
    """
    pairs = []
    for have, want in zip(full, wanted, strict=True):
        surplus = have - want
        half = surplus // 2
        both = (half, surplus - half) if upper else (surplus - half, half)
        pairs.append(both if surplus >= 0 else (0, surplus))
    return tuple(pairs)


def _scatter(x: Array, w: Array, windows: Windows, group: int, out: Array) -> None:
    """Add every input value times the kernel into ``out``, one kernel tap at a time."""
    batch, channels = x.shape[:2]
    columns = x.reshape(batch, group, channels // group, prod(windows.counts))
    taps = w.reshape((group, channels // group, w.shape[1], *windows.kernel))
    shape = (batch, group * w.shape[1], *windows.counts)
    for offsets in _offsets(windows):
        kernel = taps[(slice(None),) * 3 + offsets].swapaxes(1, 2)
        out[(slice(None), slice(None), *tap(offsets, windows))] += np.matmul(kernel, columns).reshape(shape)


def _offsets(windows: Windows) -> Iterator[tuple[int, ...]]:
    """All kernel taps."""
    return product(*map(range, windows.kernel))

"""Sliding windows: sizes, padding and views, shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from porting_check.numerics.operators.registry import Array, Attributes, integers

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Windows:
    """Where windows lie: per spatial axis the kernel, stride, dilation, pads and number of windows."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pairs
    counts: tuple[int, ...]

    def overhang(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Per axis, how far the last window reaches beyond the padded input (``ceil_mode``)."""
        return tuple(
            max((count - 1) * stride + (k - 1) * dilation + 1 - (size + begin + end), 0)
            for size, k, stride, dilation, (begin, end), count in zip(
                sizes, self.kernel, self.strides, self.dilations, self.pads, self.counts, strict=True
            )
        )


def resolve(
    attributes: Attributes, sizes: Sequence[int], kernel: Sequence[int], ceil_mode: bool = False
) -> Windows:
    """The windows that ONNX attributes mean for an input of the given spatial sizes.

    Args:
        attributes: ``strides``, ``dilations``, ``pads`` (all begins, then all ends; negative crops),
            ``auto_pad``.
        sizes: spatial sizes of the input.
        kernel: spatial sizes of the kernel.
        ceil_mode: a last window may hang over, if it starts inside the input or its begin padding.

    Raises:
        ValueError: lengths do not fit, or a window does not fit at all.

    Source: ONNX operators Conv-22 and MaxPool-22.
    """
    rank = len(sizes)
    strides = integers(attributes.get("strides"), (1,) * rank)
    dilations = integers(attributes.get("dilations"), (1,) * rank)
    auto_pad = str(attributes.get("auto_pad") or "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == rank:
        raise ValueError(
            f"kernel {tuple(kernel)}, strides {strides}, dilations {dilations}: expected {rank} of each"
        )
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(sizes, extents, strides, upper=auto_pad == "SAME_UPPER")
        ceil_mode = False
    else:
        pads = explicit_pads(attributes, rank) if auto_pad == "NOTSET" else ((0, 0),) * rank
    counts = tuple(map(_count, sizes, extents, strides, pads, [ceil_mode] * rank))
    return Windows(tuple(kernel), strides, dilations, pads, counts)


def explicit_pads(attributes: Attributes, rank: int) -> Pairs:
    """The attribute ``pads`` as one (begin, end) pair per axis; zeros when it is absent."""
    pads = integers(attributes.get("pads"), (0,) * (2 * rank))
    if len(pads) != 2 * rank:
        raise ValueError(
            f"pads {pads} has {len(pads)} values, expected {2 * rank}: all begins, then all ends"
        )
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def _same(sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int], upper: bool) -> Pairs:
    """The pads of SAME: ceil(size / stride) outputs, the odd pixel at the end (upper) or begin (lower)."""
    pads = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        smaller, larger = total // 2, total - total // 2
        pads.append((smaller, larger) if upper else (larger, smaller))
    return tuple(pads)


def _count(size: int, extent: int, stride: int, pads: tuple[int, int], ceil_mode: bool) -> int:
    """How many windows one axis has."""
    begin, end = pads
    room = size + begin + end - extent
    if room < 0 and not (ceil_mode and room > -stride):
        raise ValueError(f"a window of {extent} does not fit into {size} values padded by ({begin}, {end})")
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + begin:
        count -= 1
    return count


def padded(x: Array, pads: Pairs, value: float = 0.0) -> Array:
    """``x`` with its last axes padded by a constant; negative pads crop. May return ``x`` itself."""
    if not any(begin or end for begin, end in pads):
        return x
    lead = x.ndim - len(pads)
    sizes = [size + begin + end for size, (begin, end) in zip(x.shape[lead:], pads, strict=True)]
    if min(sizes) < 0:
        raise ValueError(f"pads {pads} crop more than the input of shape {x.shape} holds")
    out = np.empty(x.shape[:lead] + tuple(sizes), x.dtype)
    target, source = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for axis, (begin, end) in enumerate(pads, lead):
        # Only the margins are filled, axis by axis, so that the inside is written once.
        low, high = min(max(begin, 0), out.shape[axis]), max(out.shape[axis] - max(end, 0), 0)
        for margin in (slice(0, low), slice(max(high, low), None)):
            out[(*tuple(target[:axis]), margin)] = value
        target[axis] = slice(low, max(high, low))
        start = max(-begin, 0)
        source[axis] = slice(start, start + max(high - low, 0))
    out[tuple(target)] = x[tuple(source)]
    return out


def sliding(x: Array, windows: Windows) -> Array:
    """A view of a padded ``(*lead, *spatial)`` array as ``(*lead, *kernel, *counts)``; reads no memory."""
    rank = len(windows.kernel)
    lead, spatial = x.shape[:-rank], x.strides[-rank:]
    taps = tuple(step * d for step, d in zip(spatial, windows.dilations, strict=True))
    hops = tuple(step * s for step, s in zip(spatial, windows.strides, strict=True))
    shape = lead + windows.kernel + windows.counts
    return as_strided(x, shape, x.strides[:-rank] + taps + hops, writeable=False)


def tap(offsets: Sequence[int], windows: Windows) -> tuple[slice, ...]:
    """The slices that pick, for one kernel tap, the input value under each window."""
    return tuple(
        slice(offset * d, offset * d + (count - 1) * s + 1 if count else offset * d, s)
        for offset, d, s, count in zip(
            offsets, windows.dilations, windows.strides, windows.counts, strict=True
        )
    )

"""Pooling: windows, global, adaptive, and the inverse of max pooling."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch.nn import functional

from porting_check.neutral.geometry import Windows, product, windows_of
from porting_check.neutral.padding import Padding
from porting_check_torch.run_call import Call, Handler, Result
from porting_check_torch.run_convolution import pad_spatial

AVERAGES: Dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
MAXIMA: Dict[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
ADAPTIVE_AVERAGES: Dict[int, Any] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
ADAPTIVE_MAXIMA: Dict[int, Any] = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}


def geometry(call: Call) -> Windows:
    """The node's windows over its input."""
    kernel = call.get("kernel_shape")
    if kernel is None or len(kernel) != call.x.dim() - 2:
        raise call.unsupported(f"kernel_shape {kernel} does not fit an input of shape {tuple(call.x.shape)}")
    return windows_of(call.node, call.x.shape[2:], kernel)


def unfold(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    """Every window of an already padded ``x`` (N, C, …) flattened: (N, C, …out, cells)."""
    rank = len(windows.kernel)
    for axis in range(rank):
        span = (windows.kernel[axis] - 1) * windows.dilations[axis] + 1
        x = x.unfold(2 + axis, span, windows.strides[axis])[..., :: windows.dilations[axis]]
    return x.flatten(2 + rank)


def _lowest(x: torch.Tensor) -> Any:
    """What never wins a maximum."""
    return -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min


def max_pool(call: Call) -> Result:
    """ONNX MaxPool: pads are minus infinity; with a second output, the flat index of each maximum."""
    x, windows = call.x, geometry(call)
    if len(call.node.outputs) > 1:
        return _max_pool_with_indices(x, windows, call.get("storage_order", 0))
    padded = pad_spatial(x, windows.whole, _lowest(x))
    if x.is_floating_point() and x.dim() - 2 in MAXIMA:
        result: torch.Tensor = MAXIMA[x.dim() - 2](
            padded, windows.kernel, windows.strides, 0, windows.dilations
        )
        return result
    return unfold(padded, windows).amax(-1)


def _max_pool_with_indices(x: torch.Tensor, windows: Windows, storage_order: int) -> List[torch.Tensor]:
    """Maxima and their index into the whole input (planes column-major when ``storage_order`` is 1)."""
    sizes = list(x.shape[2:])
    cells = product(sizes)
    plane = torch.arange(cells)
    plane = (
        plane.reshape(sizes[::-1]).permute(*reversed(range(len(sizes))))
        if storage_order
        else plane.reshape(sizes)
    )
    places = unfold(pad_spatial(plane[None, None], windows.whole, -1), windows)
    values = unfold(pad_spatial(x, windows.whole, _lowest(x)), windows)
    best = values.argmax(-1, keepdim=True)
    index = torch.gather(places.expand(values.shape), -1, best)[..., 0]
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape((x.shape[0], x.shape[1]) + (1,) * len(sizes))
    return [torch.gather(values, -1, best)[..., 0], index + planes * cells]


def average(x: torch.Tensor, windows: Windows, include_pad: bool) -> torch.Tensor:
    """Mean of each window: torch's own pooling where it can pad like this, else sums over counts.

    What ``ceil_mode`` adds beyond the end pad never counts (ONNX AveragePool, opset 22).
    """
    rank, padding = x.dim() - 2, windows.padding
    fits = all(0 <= 2 * pad <= k for pad, k in zip(padding.begins, windows.kernel))
    if set(windows.dilations) == {1} and padding.is_symmetric and fits and rank in AVERAGES:
        ceil = windows.whole != padding
        pooled: torch.Tensor = AVERAGES[rank](
            x, windows.kernel, windows.strides, padding.begins, ceil, include_pad
        )
        return pooled
    ones = torch.ones((1, 1) + tuple(x.shape[2:]), dtype=x.dtype)
    counted = pad_spatial(pad_spatial(ones, padding, float(include_pad)), windows.whole - padding)
    return unfold(pad_spatial(x, windows.whole), windows).sum(-1) / unfold(counted, windows).sum(-1)


def average_pool(call: Call) -> Result:
    """ONNX AveragePool."""
    return average(call.x, geometry(call), bool(call.get("count_include_pad", 0)))


def lp_pool(call: Call) -> Result:
    """ONNX LpPool: the p-norm of each window."""
    windows = geometry(call)
    return torch.linalg.vector_norm(
        unfold(pad_spatial(call.x, windows.whole), windows), call.get("p", 2), dim=-1
    )


def _spatial_axes(x: torch.Tensor) -> Sequence[int]:
    """Every axis after batch and channel."""
    return tuple(range(2, x.dim()))


def global_average(call: Call) -> Result:
    """ONNX GlobalAveragePool, a mean over the spatial axes."""
    return call.x.mean(dim=_spatial_axes(call.x), keepdim=True)


def global_max(call: Call) -> Result:
    """ONNX GlobalMaxPool."""
    return torch.amax(call.x, dim=_spatial_axes(call.x), keepdim=True)


def global_lp(call: Call) -> Result:
    """ONNX GlobalLpPool."""
    return torch.linalg.vector_norm(call.x, call.get("p", 2), dim=_spatial_axes(call.x), keepdim=True)


def _adaptive(table: Dict[int, Any]) -> Handler:
    """porting_check's adaptive pooling is torch's: window i covers floor(i n/m) to ceil((i+1) n/m)."""

    def pool(call: Call) -> Result:
        rank = call.x.dim() - 2
        sizes: Optional[Sequence[int]] = call.get("output_size")
        if rank not in table or sizes is None or len(sizes) != rank:
            raise call.unsupported(
                f"output_size {sizes} does not fit an input of shape {tuple(call.x.shape)}"
            )
        result: torch.Tensor = table[rank](call.x, tuple(sizes))
        return result

    return pool


def max_unpool(call: Call) -> Result:
    """ONNX MaxUnpool: each value at its flat index of the unpooled tensor, zero elsewhere."""
    x, indices, wanted = call.x, call.need(1), call.integers(2)
    rank = x.dim() - 2
    strides, pads = call.get("strides") or (1,) * rank, call.get("pads") or (0,) * (2 * rank)
    kernel = call.get("kernel_shape")
    natural = [(x.shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[i + rank] for i in range(rank)]
    shape = [x.shape[0], x.shape[1]] + natural
    flat = torch.zeros(product(shape), dtype=x.dtype).scatter(0, indices.reshape(-1), x.reshape(-1))
    result = flat.reshape(shape)
    if wanted is None:
        return result
    return pad_spatial(
        result, Padding((0,) * rank, tuple(size - found for size, found in zip(wanted[2:], natural)))
    )


OPERATORS: Dict[str, Handler] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
    "GlobalLpPool": global_lp,
    "MaxUnpool": max_unpool,
}

EXTENSION: Dict[str, Handler] = {
    "AdaptiveAveragePool": _adaptive(ADAPTIVE_AVERAGES),
    "AdaptiveMaxPool": _adaptive(ADAPTIVE_MAXIMA),
}

"""Pooling, and the operators that cut an image into windows."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from porting_check.neutral.padding import Padding, same_padding
from porting_check_tensorflow.operators.call import Call, channel_layouts, describes
from porting_check_tensorflow.operators.geometry import Windows, spatial


def _pool(call: Call, op_type: str, ksize: Sequence[int], strides: Sequence[int]) -> None:
    """One pooling node; TensorFlow's average never counts padding."""
    rank = call.rank()
    native, canonical = channel_layouts(rank, call.text("data_format", "NDHWC" if rank == 5 else "NHWC"))
    letters = canonical[2:]
    call.attributes = dict(call.attributes, strides=tuple(strides))
    sizes = [call.shape()[native.index(letter)] for letter in letters]
    window = Windows(call, native, sizes, spatial(call, native, ksize))
    attributes = dict(window.attributes(), ceil_mode=0)
    if op_type == "AveragePool":
        attributes["count_include_pad"] = 0
    call.give(call.node(op_type, call.port(0, "x", native, canonical), **attributes), 0, native, canonical)


@describes("MaxPool", "MaxPool3D")
def max_pool(call: Call) -> None:
    """``MaxPool`` with explicit pads, which never win."""
    _pool(call, "MaxPool", call.integers("ksize"), call.integers("strides"))


@describes("MaxPoolV2")
def max_pool_v2(call: Call) -> None:
    """``MaxPool`` whose window and strides are inputs."""
    _pool(call, "MaxPool", call.seen(1), call.seen(2))


@describes("AvgPool", "AvgPool3D")
def average_pool(call: Call) -> None:
    """``AveragePool`` with ``count_include_pad=0``."""
    _pool(call, "AveragePool", call.integers("ksize"), call.integers("strides"))


@describes("ExtractImagePatches")
def image_patches(call: Call) -> None:
    """Patches ``(N, rows, columns, kh*kw*C)``: padded, then gathered along height and width."""
    batch, height, width, channels = call.shape()
    _, rows, columns, _ = call.outputs[0].shape
    kernel, strides, rates = (call.integers(name)[1:3] for name in ("ksizes", "strides", "rates"))
    same = call.text("padding") == "SAME"
    padding = same_padding((height, width), kernel, strides, rates) if same else Padding.none(2)
    value = call.port(0)
    if not padding.is_none:
        flat = (0,) + padding.begins + (0, 0) + padding.ends + (0,)
        zero = call.scalar(0, "pad_value")
        value = call.node("Pad", value, call.constant(flat, "pads"), zero, mode="constant")
    value = call.node(
        "Gather", value, call.constant(_places(rows, kernel[0], strides[0], rates[0]), "rows"), axis=1
    )
    across = _places(columns, kernel[1], strides[1], rates[1])
    value = call.node("Gather", value, call.constant(across, "columns"), axis=3)
    value = call.node("Transpose", value, perm=(0, 1, 3, 2, 4, 5))
    shape = (batch, rows, columns, kernel[0] * kernel[1] * channels)
    call.give(call.node("Reshape", value, call.constant(shape, "shape"), allowzero=0))


def _places(count: int, kernel: int, stride: int, rate: int) -> np.ndarray:
    """Which entries of a padded axis each window reads, ``(windows, kernel)``."""
    return np.arange(count, dtype=np.int64)[:, None] * stride + np.arange(kernel, dtype=np.int64)[None] * rate

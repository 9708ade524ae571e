"""Sizes of sliding windows and slices: integers only, no tensors."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence, Tuple

from porting_check.neutral.node import Node
from porting_check.neutral.padding import Padding, convolution_output_sizes
from porting_check.neutral.padding_forms import onnx_padding
from porting_check.neutral.pooling_padding import ceil_mode_as_padding
from porting_check.neutral.transposed_padding import onnx_crop


class Windows(NamedTuple):
    """Sliding windows over the spatial axes; ``whole`` is the padding with the overhang of ``ceil_mode``."""

    kernel: Tuple[int, ...]
    strides: Tuple[int, ...]
    dilations: Tuple[int, ...]
    padding: Padding
    whole: Padding


def windows_of(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Windows:
    """Windows of a node over these spatial sizes, ``auto_pad`` and ``ceil_mode`` resolved.

    Raises:
        PaddingError: pads that do not fit, or a kernel that is larger than the padded input.
    """
    get = node.attributes.get
    strides, dilations = _steps(node, len(sizes))
    padding = onnx_padding(get("auto_pad", "NOTSET"), get("pads"), kernel, strides, dilations, sizes)
    convolution_output_sizes(sizes, padding, kernel, strides, dilations)  # raises where nothing is left
    whole = (
        ceil_mode_as_padding(sizes, padding, kernel, strides, dilations) if get("ceil_mode", 0) else padding
    )
    return Windows(tuple(kernel), strides, dilations, padding, whole)


class Transposed(NamedTuple):
    """Geometry of a transposed convolution; the crop of its full output is negative where it grows."""

    strides: Tuple[int, ...]
    dilations: Tuple[int, ...]
    crop: Padding


def transposed_of(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Transposed:
    """Geometry of a ConvTranspose node, ``output_shape`` and ``auto_pad`` resolved.

    Raises:
        PaddingError: attributes that fit no output.
    """
    get = node.attributes.get
    strides, dilations = _steps(node, len(sizes))
    wanted: Any = get("output_shape")
    wanted = None if wanted is None else list(wanted)[-len(sizes) :]
    mode = get("auto_pad", "NOTSET")
    crop = onnx_crop(mode, get("pads"), get("output_padding"), wanted, sizes, kernel, strides, dilations)
    return Transposed(strides, dilations, crop)


def _steps(node: Node, rank: int) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    """Strides and dilations, one for each spatial axis."""
    ones = (1,) * rank
    return tuple(node.attributes.get("strides") or ones), tuple(node.attributes.get("dilations") or ones)


def product(values: Sequence[int]) -> int:
    """The product of sizes, 1 for none."""
    result = 1
    for value in values:
        result *= int(value)
    return result


def split_sizes(size: int, parts: int) -> List[int]:
    """Sizes of equal parts, the last one smaller where the size does not divide (ONNX Split, opset 18)."""
    step = -(-size // parts)
    return [step] * (parts - 1) + [size - step * (parts - 1)]


def slice_places(start: int, end: int, step: int, size: int) -> List[int]:
    """The places that a Slice takes from an axis: from the end where negative, clamped to the axis."""
    stop = end if end >= -size else (-size if step > 0 else None)
    return list(range(*slice(start, stop, step).indices(size)))

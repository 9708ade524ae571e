"""Sizes of sliding windows, slices and resized axes: numbers only, no tensors."""

from __future__ import annotations

import math
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from porting_check.neutral.errors import UnsupportedNode
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


class Axis(NamedTuple):
    """One axis of a resize: from ``length`` to ``size`` places at this scale; the region is for cropping."""

    length: int
    size: int
    scale: float
    region: Tuple[float, float]

    @property
    def plain(self) -> bool:
        """Whether nothing changes along this axis."""
        return self.length == self.size and abs(self.scale - 1.0) < 1e-9 and self.region == (0.0, 1.0)


def resize_axes(
    node: Node,
    shape: Sequence[int],
    roi: Optional[Sequence[float]],
    scales: Optional[Sequence[float]],
    sizes: Optional[Sequence[int]],
) -> List[Axis]:
    """Every axis of the input, with ``axes`` and ``keep_aspect_ratio_policy`` resolved.

    Raises:
        UnsupportedNode: neither or both of scales and sizes.
    """
    rank = len(shape)
    chosen = [axis % rank for axis in node.attributes.get("axes") or range(rank)]
    crop = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    result = [Axis(int(length), int(length), 1.0, (0.0, 1.0)) for length in shape]
    if (scales is None) == (sizes is None):
        raise UnsupportedNode(f"{node} needs scales or sizes, and not both")
    if sizes is not None:
        scales, sizes = _from_sizes(node, [shape[axis] for axis in chosen], sizes)
    for index, axis in enumerate(chosen):
        region = (float(roi[index]), float(roi[index + len(chosen)])) if crop and roi else (0.0, 1.0)
        scale = float((scales or ())[index])
        size = math.floor(shape[axis] * (region[1] - region[0]) * scale) if sizes is None else sizes[index]
        result[axis] = Axis(int(shape[axis]), int(size), scale, region)
    return result


def _from_sizes(node: Node, lengths: Sequence[int], sizes: Sequence[int]) -> Tuple[List[float], List[int]]:
    """Scales and sizes of the resized axes under the node's policy on aspect ratios."""
    factors = [size / length for size, length in zip(sizes, lengths)]
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return factors, list(sizes)
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [factor] * len(factors), [int(factor * length + 0.5) for length in lengths]

"""Pooling, resizing, padding and cropping of channels-last and channels-first data."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from porting_check.neutral.node import EXTENSION
from porting_check_tensorflow.describe_convolution import padding_of
from porting_check_tensorflow.sketch import LayerCall, NotDescribedError, Sketch, dtype_of, numbers, spatial

Describer = Callable[[LayerCall, Sketch], None]


def pooling(op_type: str, ndim: int) -> Describer:
    """A describer of max and average pooling; TensorFlow's SAME average does not count the padding."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layer = call.layer
        layout, canonical, sizes = spatial(call, ndim)
        kernel = numbers(layer.pool_size, ndim)
        strides = numbers(layer.strides if layer.strides is not None else layer.pool_size, ndim)
        ones = (1,) * ndim
        x = sketch.input("x", call.x, layout, canonical)
        if ndim == 3 and str(layer.padding) == "same":
            x, sizes = _skipped(sketch, x, sizes, kernel, strides)
        extra: Dict[str, Any] = {"count_include_pad": 0} if op_type == "AveragePool" else {}
        value = sketch.add(
            op_type,
            x,
            kernel_shape=kernel,
            strides=strides,
            dilations=ones,
            pads=padding_of(str(layer.padding), sizes, kernel, strides, ones).to_onnx(),
            ceil_mode=0,
            **extra,
        )
        sketch.output(value, call.y, layout, canonical)

    return describe


def _skipped(
    sketch: Sketch, x: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Tuple[str, List[int]]:
    """What TensorFlow's 3-D pooling does with SAME where the windows leave gaps at the border.

    The total padding ``(ceil(n / stride) - 1) * stride + kernel - n`` is then negative. 1-D and 2-D
    pooling take 0 instead; 3-D pooling starts half of it later (measured on TensorFlow 2.21: kernel 1,
    stride 3, 6 elements start at 1).
    """
    totals = [(-(-n // s) - 1) * s + k - n for n, k, s in zip(sizes, kernel, strides)]
    starts = [max(-total, 0) // 2 for total in totals]
    if not any(starts):
        return x, list(sizes)
    names = [sketch.integers("starts", starts), sketch.integers("ends", list(sizes))]
    names += [sketch.integers("axes", [2, 3, 4]), sketch.integers("steps", [1, 1, 1])]
    return str(sketch.add("Slice", x, *names)), [n - start for n, start in zip(sizes, starts)]


def global_pooling(op_type: str, ndim: int) -> Describer:
    """A describer of global pooling: a ``Flatten`` follows unless ``keepdims``."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layout, canonical, _ = spatial(call, ndim)
        if call.mask("mask", call.x) is not None and op_type == "GlobalAveragePool":
            raise NotDescribedError("a mask hides some positions")
        value = sketch.add(op_type, sketch.input("x", call.x, layout, canonical))
        if getattr(call.layer, "keepdims", False):
            sketch.output(value, call.y, layout, canonical)
        else:
            sketch.output(sketch.add("Flatten", value, axis=1), call.y, "NC", "NC")

    return describe


def adaptive_pooling(op_type: str, ndim: int) -> Describer:
    """A describer of adaptive pooling, an operator that ONNX lacks."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layout, canonical, _ = spatial(call, ndim)
        x = sketch.input("x", call.x, layout, canonical)
        size = numbers(call.layer.output_size, ndim)
        sketch.output(sketch.add(op_type, x, domain=EXTENSION, output_size=size), call.y, layout, canonical)

    return describe


def _pairs(value: Any, ndim: int) -> List[Tuple[int, int]]:
    """Amounts before and after each axis, as Keras' ``padding`` and ``cropping`` hold them."""
    items = list(value) if isinstance(value, (list, tuple)) else [value] * ndim
    if ndim == 1 and len(items) == 2 and not isinstance(items[0], (list, tuple)):
        items = [items]
    return [(int(i[0]), int(i[1])) if isinstance(i, (list, tuple)) else (int(i), int(i)) for i in items]


def zero_padding(ndim: int) -> Describer:
    """A describer of ``ZeroPadding1D`` … ``ZeroPadding3D``."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layout, canonical, _ = spatial(call, ndim)
        pairs = _pairs(call.layer.padding, ndim)
        x = sketch.input("x", call.x, layout, canonical)
        pads = sketch.integers("pads", [0, 0] + [p[0] for p in pairs] + [0, 0] + [p[1] for p in pairs])
        zero = sketch.constant("value", np.zeros((), dtype_of(call.x)))
        sketch.output(sketch.add("Pad", x, pads, zero, mode="constant"), call.y, layout, canonical)

    return describe


def cropping(ndim: int) -> Describer:
    """A describer of ``Cropping1D`` … ``Cropping3D``: a ``Slice``."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layout, canonical, sizes = spatial(call, ndim)
        pairs = _pairs(call.layer.cropping, ndim)
        x = sketch.input("x", call.x, layout, canonical)
        starts = sketch.integers("starts", [begin for begin, _ in pairs])
        ends = sketch.integers("ends", [size - end for size, (_, end) in zip(sizes, pairs)])
        axes = sketch.integers("axes", list(range(2, 2 + ndim)))
        steps = sketch.integers("steps", [1] * ndim)
        sketch.output(sketch.add("Slice", x, starts, ends, axes, steps), call.y, layout, canonical)

    return describe


RESIZE: Dict[str, Dict[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
}
"""``tf.image.resize`` as ONNX: half-pixel centres.

Nearest is ``floor((i + 0.5) * scale)``, which is half-pixel rounded half up; bicubic is Keys' with -0.5,
renormalised at the border (MISTAKES: resize-nearest-rule, resize-bicubic-a).
"""


def resize_node(sketch: Sketch, x: str, sizes: Sequence[int], interpolation: str) -> str:
    """A ``Resize`` to these canonical sizes (batch and channels included).

    Raises:
        NotDescribedError: an interpolation that ONNX lacks (lanczos, area, …).
    """
    if interpolation not in RESIZE:
        raise NotDescribedError(f"interpolation={interpolation!r} has no ONNX form")
    attributes: Dict[str, Any] = {
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_floor",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "antialias": 0,
    }
    attributes.update(RESIZE[interpolation])
    return str(sketch.add("Resize", x, "", "", sketch.integers("sizes", sizes), **attributes))


def _canonical_sizes(tensor: Any, layout: str, canonical: str) -> List[int]:
    return [int(tensor.shape[layout.index(letter)]) for letter in canonical]


def upsampling(ndim: int) -> Describer:
    """A describer of ``UpSampling1D`` … ``UpSampling3D``."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layout, canonical, _ = spatial(call, ndim)
        x = sketch.input("x", call.x, layout, canonical)
        sizes = _canonical_sizes(call.y, layout, canonical)
        value = resize_node(sketch, x, sizes, str(getattr(call.layer, "interpolation", "nearest")))
        sketch.output(value, call.y, layout, canonical)

    return describe


def resizing(call: LayerCall, sketch: Sketch) -> None:
    """The preprocessing layer ``Resizing`` of a batch of images."""
    layer = call.layer
    layout, canonical, _ = spatial(call, 2)
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if getattr(layer, option, False):
            raise NotDescribedError(f"{option}=True is not described")
    x = sketch.input("x", call.x, layout, canonical)
    value = resize_node(sketch, x, _canonical_sizes(call.y, layout, canonical), str(layer.interpolation))
    sketch.output(value, call.y, layout, canonical)


def _table() -> Dict[str, Describer]:
    table: Dict[str, Describer] = {"Resizing": resizing}
    for n in (1, 2, 3):
        table[f"MaxPooling{n}D"] = pooling("MaxPool", n)
        table[f"AveragePooling{n}D"] = pooling("AveragePool", n)
        table[f"GlobalMaxPooling{n}D"] = global_pooling("GlobalMaxPool", n)
        table[f"GlobalAveragePooling{n}D"] = global_pooling("GlobalAveragePool", n)
        table[f"AdaptiveAveragePooling{n}D"] = adaptive_pooling("AdaptiveAveragePool", n)
        table[f"AdaptiveMaxPooling{n}D"] = adaptive_pooling("AdaptiveMaxPool", n)
        table[f"ZeroPadding{n}D"] = zero_padding(n)
        table[f"Cropping{n}D"] = cropping(n)
        table[f"UpSampling{n}D"] = upsampling(n)
    return table


LAYERS: Dict[str, Describer] = _table()

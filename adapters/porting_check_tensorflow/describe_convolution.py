"""Convolutions: "same", "valid" and "causal" resolved to explicit pads for the size seen."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

from porting_check.neutral.padding import Padding, same_padding
from porting_check_tensorflow.describe_activations import Place, activate
from porting_check_tensorflow.sketch import LayerCall, NotDescribedError, Sketch, numbers, spatial, weight

KERNELS = {1: ("LIO", "OIL"), 2: ("HWIO", "OIHW"), 3: ("DHWIO", "OIDHW")}
DEPTHWISE = {1: ("LCM", "(CM)1L"), 2: ("HWCM", "(CM)1HW")}
TRANSPOSED = {1: ("LOI", "IOL"), 2: ("HWOI", "IOHW"), 3: ("DHWOI", "IODHW")}
"""Native and canonical layouts of kernels, by number of spatial axes."""


def padding_of(
    word: str, sizes: Sequence[int], kernel: Sequence[int], strides: Any, dilations: Any
) -> Padding:
    """A Keras padding word as explicit amounts for the sizes seen.

    ``same`` is TensorFlow's SAME, which depends on the input's size; ``causal`` puts all before, so that no
    output sees a later input (Keras layer Conv1D).

    Example:
        >>> padding_of("same", [32], [3], [2], [1]).pairs
        ((0, 1),)
    """
    if word == "same":
        return same_padding(
            tuple(sizes), kernel=tuple(kernel), strides=tuple(strides), dilations=tuple(dilations)
        )
    if word == "causal":
        return Padding(tuple((k - 1) * d for k, d in zip(kernel, dilations)), (0,) * len(sizes))
    if word != "valid":
        raise NotDescribedError(f"padding={word!r} is not described")
    return Padding.none(len(sizes))


def _window(layer: Any, ndim: int) -> Tuple[Tuple[int, ...], Tuple[int, ...], Tuple[int, ...]]:
    kernel, strides = numbers(layer.kernel_size, ndim), numbers(layer.strides, ndim)
    return kernel, strides, numbers(layer.dilation_rate, ndim)


def _finish(call: LayerCall, sketch: Sketch, value: str, layout: str, canonical: str) -> None:
    place = Place(call.y, layout, canonical, call.keras)
    value = activate(sketch, value, getattr(call.layer, "activation", None), place)
    sketch.output(value, call.y, layout, canonical)


def _bias(call: LayerCall, sketch: Sketch) -> List[str]:
    bias = weight(call.layer, "bias")
    return [] if bias is None else [sketch.parameter("bias", bias)]


def convolution(ndim: int) -> Callable[[LayerCall, Sketch], None]:
    """A describer of ``Conv1D`` … ``Conv3D``, grouped ones too."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layer = call.layer
        layout, canonical, sizes = spatial(call, ndim)
        kernel, strides, dilations = _window(layer, ndim)
        inputs = [sketch.input("x", call.x, layout, canonical)]
        inputs.append(sketch.parameter("weight", layer.kernel, *KERNELS[ndim]))
        value = sketch.add(
            "Conv",
            *inputs,
            *_bias(call, sketch),
            kernel_shape=kernel,
            strides=strides,
            dilations=dilations,
            group=int(getattr(layer, "groups", 1)),
            pads=padding_of(str(layer.padding), sizes, kernel, strides, dilations).to_onnx(),
        )
        _finish(call, sketch, value, layout, canonical)

    return describe


def depthwise(ndim: int) -> Callable[[LayerCall, Sketch], None]:
    """A describer of ``DepthwiseConv1D`` and ``DepthwiseConv2D``.

    A grouped Conv, channel ``c * multiplier + m``.
    """

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layer = call.layer
        layout, canonical, _ = spatial(call, ndim)
        x = sketch.input("x", call.x, layout, canonical)
        kernel = weight(layer, "depthwise_kernel", "kernel")
        name = sketch.parameter("weight", kernel, *DEPTHWISE[ndim])
        value = _depthwise_node(call, sketch, ndim, [x, name, *_bias(call, sketch)])
        _finish(call, sketch, value, layout, canonical)

    return describe


def _depthwise_node(call: LayerCall, sketch: Sketch, ndim: int, inputs: List[str]) -> str:
    layout, _, sizes = spatial(call, ndim)
    kernel, strides, dilations = _window(call.layer, ndim)
    return str(
        sketch.add(
            "Conv",
            *inputs,
            kernel_shape=kernel,
            strides=strides,
            dilations=dilations,
            group=int(call.x.shape[layout.index("C")]),
            pads=padding_of(str(call.layer.padding), sizes, kernel, strides, dilations).to_onnx(),
        )
    )


def separable(ndim: int) -> Callable[[LayerCall, Sketch], None]:
    """A describer of ``SeparableConv1D`` and ``SeparableConv2D``.

    A depthwise Conv, then a pointwise one with the bias.
    """

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layer = call.layer
        layout, canonical, _ = spatial(call, ndim)
        x = sketch.input("x", call.x, layout, canonical)
        first = sketch.parameter("depthwise_weight", layer.depthwise_kernel, *DEPTHWISE[ndim])
        value = _depthwise_node(call, sketch, ndim, [x, first])
        second = sketch.parameter("weight", layer.pointwise_kernel, *KERNELS[ndim])
        ones = (1,) * ndim
        value = sketch.add(
            "Conv",
            value,
            second,
            *_bias(call, sketch),
            kernel_shape=ones,
            strides=ones,
            dilations=ones,
            group=1,
            pads=(0,) * (2 * ndim),
        )
        _finish(call, sketch, value, layout, canonical)

    return describe


def transposed_crop(full: int, made: int, same: bool) -> Tuple[int, int, int]:
    """Begin crop, end crop and output padding of one axis of a transposed convolution.

    The full result has ``full = (n - 1) * stride + extent`` elements and TensorFlow keeps ``made``. SAME
    crops ``(full - made) // 2`` before and the rest after; VALID crops nothing. What the full result lacks at
    the end is output padding (it holds the bias only). Source: TensorFlow's transposed convolution is the
    gradient of the forward one, whose SAME pads are these.

    Example:
        >>> transposed_crop(9, 8, True), transposed_crop(5, 6, False)
        ((0, 1, 0), (0, 0, 1))
    """
    begin = max(full - made, 0) // 2 if same else 0
    end = full - begin - made
    return begin, max(end, 0), max(-end, 0)


def transposed(ndim: int) -> Callable[[LayerCall, Sketch], None]:
    """A describer of ``Conv1DTranspose`` … ``Conv3DTranspose``."""

    def describe(call: LayerCall, sketch: Sketch) -> None:
        layer = call.layer
        layout, canonical, sizes = spatial(call, ndim)
        _, _, made = spatial(call, ndim, call.y)
        kernel, strides, dilations = _window(layer, ndim)
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
        full = [(n - 1) * s + extent for n, s, extent in zip(sizes, strides, extents)]
        crops = [transposed_crop(f, m, str(layer.padding) == "same") for f, m in zip(full, made)]
        if any(extra >= max(s, d) for (_, _, extra), s, d in zip(crops, strides, dilations)):
            raise NotDescribedError(
                f"an output padding of {[crop[2] for crop in crops]} is not below the stride {strides}"
            )
        x = sketch.input("x", call.x, layout, canonical)
        name = sketch.parameter("weight", layer.kernel, *TRANSPOSED[ndim])
        value = sketch.add(
            "ConvTranspose",
            x,
            name,
            *_bias(call, sketch),
            kernel_shape=kernel,
            strides=strides,
            dilations=dilations,
            group=1,
            pads=[crop[0] for crop in crops] + [crop[1] for crop in crops],
            output_padding=[crop[2] for crop in crops],
        )
        _finish(call, sketch, value, layout, canonical)

    return describe


LAYERS: Dict[str, Callable[[LayerCall, Sketch], None]] = {
    "Conv1D": convolution(1),
    "Conv2D": convolution(2),
    "Conv3D": convolution(3),
    "DepthwiseConv1D": depthwise(1),
    "DepthwiseConv2D": depthwise(2),
    "SeparableConv1D": separable(1),
    "SeparableConv2D": separable(2),
    "Conv1DTranspose": transposed(1),
    "Conv2DTranspose": transposed(2),
    "Conv3DTranspose": transposed(3),
}

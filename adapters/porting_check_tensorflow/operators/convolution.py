"""Convolutions: forward, transposed, depthwise, grouped, and fused as Grappler leaves them in graphs."""

from __future__ import annotations

from typing import Tuple

from porting_check.neutral.padding import Padding
from porting_check.neutral.transposed_padding import full_output_sizes, onnx_transposed_pads
from porting_check_tensorflow.operators.activation import activate
from porting_check_tensorflow.operators.call import Call, channel_layouts, describes
from porting_check_tensorflow.operators.geometry import Windows

SPATIAL = {4: "HW", 5: "DHW"}


def _layouts(call: Call, index: int) -> Tuple[str, str, str]:
    """Native and canonical layout of the activation at ``index``, and the spatial letters."""
    rank = call.rank(index)
    data_format = call.text("data_format", "NDHWC" if rank == 5 else "NHWC")
    native, canonical = channel_layouts(rank, data_format)
    return native, canonical, SPATIAL[rank]


def _sizes(shape: Tuple[int, ...], native: str, letters: str) -> Tuple[int, ...]:
    return tuple(shape[native.index(letter)] for letter in letters)


def _convolve(call: Call, kernel_layout: str, group: int, *bias: str) -> Tuple[str, str, str]:
    """Add the Conv node for inputs 0 and 1; returns its output with its native and canonical layout."""
    native, canonical, letters = _layouts(call, 0)
    window = Windows(call, native, _sizes(call.shape(0), native, letters), call.shape(1)[: len(letters)])
    goal = f"(CM)1{letters}" if "M" in kernel_layout else f"OI{letters}"
    x = call.port(0, "x", native, canonical)
    weight = call.port(1, "weight", kernel_layout, goal)
    value = call.node("Conv", x, weight, *bias, group=group, **window.attributes())
    return value, native, canonical


def _groups(call: Call) -> int:
    native, _, _ = _layouts(call, 0)
    return max(call.shape(0)[native.index("C")] // max(call.shape(1)[-2], 1), 1)


@describes("Conv2D", "Conv3D")
def convolution(call: Call) -> None:
    """``Conv``; the kernel has ``Cin / groups`` input channels, which says how many groups there are."""
    letters = SPATIAL[call.rank(0)]
    value, native, canonical = _convolve(call, f"{letters}IO", _groups(call))
    call.give(value, 0, native, canonical)


@describes("DepthwiseConv2dNative")
def depthwise(call: Call) -> None:
    """``Conv`` with one group per input channel; the output channel ``c*M + m`` is ONNX's order too."""
    value, native, canonical = _convolve(call, "HWCM", call.shape(1)[2])
    call.give(value, 0, native, canonical)


@describes("_FusedConv2D", "_FusedDepthwiseConv2dNative")
def fused_convolution(call: Call) -> None:
    """``Conv``, then what Grappler fused into it: BiasAdd or FusedBatchNorm, and an activation."""
    fused = tuple(str(name) for name in call.attributes.get("fused_ops", ()))
    head, tail = fused[:1], fused[1:]
    if head not in (("BiasAdd",), ("FusedBatchNorm",)) or len(tail) > 1:
        call.refuse(f"with fused_ops {list(fused)} is not described")
    deep = "Depthwise" in call.op_type
    kernel_layout, group = ("HWCM", call.shape(1)[2]) if deep else ("HWIO", _groups(call))
    bias = (call.port(2, "bias"),) if head == ("BiasAdd",) else ()
    value, native, canonical = _convolve(call, kernel_layout, group, *bias)
    if head == ("FusedBatchNorm",):
        roles = [call.port(place + 2, role) for place, role in enumerate(("scale", "bias", "mean", "var"))]
        epsilon = call.number("epsilon", 1e-4)
        value = call.node("BatchNormalization", value, *roles, epsilon=epsilon)
    if tail:
        value = activate(call, tail[0], value, call.number("leakyrelu_alpha", 0.2))
    call.give(value, 0, native, canonical)


def _transposed(call: Call, kernel_layout: str, goal: str, group: int, output: Tuple[int, ...]) -> None:
    """``ConvTranspose`` for the gradient operators: inputs (sizes, kernel, values).

    TensorFlow says which forward convolution is undone: the crop at the begin of each axis is what that one
    pads there, having seen the output's size, and the rest goes at the end.
    """
    native, canonical, letters = _layouts(call, 2)
    sizes, seen = _sizes(output, native, letters), _sizes(call.shape(2), native, letters)
    window = Windows(call, native, sizes, call.shape(1)[: len(letters)])
    shape = (window.kernel, window.strides, window.dilations)
    begins = window.padding.begins
    full = full_output_sizes(seen, *shape)
    crop = Padding(begins, tuple(whole - out - begin for whole, out, begin in zip(full, sizes, begins)))
    pads, lacking = onnx_transposed_pads(crop, *shape)
    attributes = dict(window.attributes(), group=group, pads=pads, output_padding=lacking)
    x = call.port(2, "x", native, canonical)
    value = call.node("ConvTranspose", x, call.port(1, "weight", kernel_layout, goal), **attributes)
    call.give(value, 0, native, canonical)


@describes("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed_convolution(call: Call) -> None:
    """``tf.nn.conv_transpose``: the kernel's axes are ``(…, output channels / groups, input channels)``."""
    native, _, letters = _layouts(call, 2)
    output = call.outputs[0].shape
    group = max(output[native.index("C")] // max(call.shape(1)[-2], 1), 1)
    _transposed(call, f"{letters}OI", f"IO{letters}", group, output)


@describes("DepthwiseConv2dNativeBackpropInput")
def transposed_depthwise(call: Call) -> None:
    """A depthwise convolution undone: one group per output channel."""
    _transposed(call, "HWCM", "(CM)1HW", call.shape(1)[2], call.outputs[0].shape)

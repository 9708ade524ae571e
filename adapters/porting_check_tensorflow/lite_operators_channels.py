"""Operators of TFLite that know channels, or have no equal in TensorFlow: convolutions, pools, dense layers, joins."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from porting_check.neutral.padding import Padding
from porting_check.neutral.transposed_padding import full_output_sizes, onnx_transposed_pads
from porting_check_tensorflow.lite_operators import LiteCall, lite
from porting_check_tensorflow.operators.activation import activate
from porting_check_tensorflow.operators.call import TABLE
from porting_check_tensorflow.operators.geometry import Windows

PADDING = {0: "SAME", 1: "VALID"}
"""``Padding`` of the schema by number."""


def _window(call: LiteCall, sizes: Tuple[int, ...], kernel: Tuple[int, ...]) -> Windows:
    """The window of a 2-D operator: strides and dilations from the options, padding resolved for these sizes."""
    strides = (1, call.option("strideH", 1), call.option("strideW", 1), 1)
    dilations = (1, call.option("dilationHFactor", 1) or 1, call.option("dilationWFactor", 1) or 1, 1)
    call.attributes = {"strides": strides, "dilations": dilations, "padding": PADDING[call.option("padding")]}
    return Windows(call, "NHWC", sizes, kernel)


def _bias(call: LiteCall, index: int) -> List[str]:
    return [call.port(index, "bias")] if call.given(index) else []


@lite("CONV_2D")
def convolution(call: LiteCall) -> None:
    """``Conv``; kernels are (output, height, width, input / groups)."""
    out, height, width, channels = call.shape(1)
    window = _window(call, call.shape()[1:3], (height, width))
    x, weight = call.port(0, "x", "NHWC", "NCHW"), call.port(1, "weight", "OHWI", "OIHW")
    group = max(call.shape()[3] // max(channels, 1), 1)
    value = call.node("Conv", x, weight, *_bias(call, 2), group=group, **window.attributes())
    call.give(value, 0, "NHWC", "NCHW")


@lite("DEPTHWISE_CONV_2D")
def depthwise(call: LiteCall) -> None:
    """``Conv`` with one group per input channel; kernels are (1, height, width, channels * multiplier)."""
    _, height, width, _ = call.shape(1)
    window = _window(call, call.shape()[1:3], (height, width))
    x, weight = call.port(0, "x", "NHWC", "NCHW"), call.port(1, "weight", "1HWC", "C1HW")
    group = call.shape()[3]
    value = call.node("Conv", x, weight, *_bias(call, 2), group=group, **window.attributes())
    call.give(value, 0, "NHWC", "NCHW")


@lite("TRANSPOSE_CONV")
def transposed_convolution(call: LiteCall) -> None:
    """``ConvTranspose``: inputs (sizes, kernel, values, bias), kernels (output, height, width, input).

    The crop at the begin of each axis is what the forward convolution pads there, having seen the output's
    size; the rest goes at the end (tensorflow/lite/kernels/transpose_conv.cc).
    """
    _, height, width, _ = call.shape(1)
    sizes, seen = tuple(call.outputs[0].shape)[1:3], call.shape(2)[1:3]
    window = _window(call, sizes, (height, width))
    shape = (window.kernel, window.strides, window.dilations)
    begins = window.padding.begins
    full = full_output_sizes(seen, *shape)
    crop = Padding(begins, tuple(whole - out - begin for whole, out, begin in zip(full, sizes, begins)))
    pads, lacking = onnx_transposed_pads(crop, *shape)
    attributes = dict(window.attributes(), group=1, pads=pads, output_padding=lacking)
    x, weight = call.port(2, "x", "NHWC", "NCHW"), call.port(1, "weight", "OHWI", "IOHW")
    value = call.node("ConvTranspose", x, weight, *_bias(call, 3), **attributes)
    call.give(value, 0, "NHWC", "NCHW")


@lite("CONV_3D")
def convolution_3d(call: LiteCall) -> None:
    """``Conv`` over volumes; kernels as TensorFlow's."""
    options = [call.option(name, 1) for name in ("strideD", "strideH", "strideW")]
    dilated = [call.option(f"dilation{axis}Factor", 1) or 1 for axis in "DHW"]
    attributes = {"strides": (1, *options, 1), "dilations": (1, *dilated, 1), "data_format": "NDHWC"}
    call.attributes = dict(attributes, padding=PADDING[call.option("padding")])
    window = Windows(call, "NDHWC", call.shape()[1:4], call.shape(1)[:3])
    x, weight = call.port(0, "x", "NDHWC", "NCDHW"), call.port(1, "weight", "DHWIO", "OIDHW")
    group = max(call.shape()[4] // max(call.shape(1)[3], 1), 1)
    value = call.node("Conv", x, weight, *_bias(call, 2), group=group, **window.attributes())
    call.give(value, 0, "NDHWC", "NCDHW")


@lite("MAX_POOL_2D", "AVERAGE_POOL_2D")
def pool(call: LiteCall) -> None:
    """As TensorFlow's pools; the average never counts padding."""
    kernel = (1, call.option("filterHeight", 1), call.option("filterWidth", 1), 1)
    _window(call, call.shape()[1:3], kernel[1:3])
    kind = "MaxPool" if call.op_type == "MAX_POOL_2D" else "AvgPool"
    call.attributes = dict(call.attributes, ksize=kernel, data_format="NHWC")
    TABLE[kind](call)


@lite("FULLY_CONNECTED")
def dense(call: LiteCall) -> None:
    """``Gemm`` with weights (output, input); of a tensor with more axes ``MatMul`` and ``Add``.

    Unless ``keepNumDims`` says otherwise, an input of more axes is taken as rows of the weight's length.
    """
    if call.option("weightsFormat"):
        call.refuse("with shuffled weights is not described")
    keep, length = bool(call.option("keepNumDims")), call.shape(1)[1]
    x, bias = call.port(0), _bias(call, 2)
    if call.rank() > 2 and keep:
        if call.inputs[1].parameter:
            weight = call.port(1, "weight", "OI", "IO")
        else:
            weight = call.node("Transpose", call.port(1, "weight"), perm=(1, 0))
        value = call.node("MatMul", x, weight)
        call.give(call.node("Add", value, *bias) if bias else value)
        return
    if call.rank() != 2:
        x = call.node("Reshape", x, call.constant([-1, length], "rows"), allowzero=0)
    layout = "OI" if call.inputs[1].parameter else ""
    weight = call.port(1, "weight", layout, layout)
    value = call.node("Gemm", x, weight, *bias, alpha=1.0, beta=1.0, transA=0, transB=1)
    shape = tuple(call.outputs[0].shape)
    if len(shape) != 2:
        value = call.node("Reshape", value, call.constant(list(shape), "shape"), allowzero=int(0 in shape))
    call.give(value)


@lite("RESHAPE")
def reshape(call: LiteCall) -> None:
    """``Reshape`` to the output's shape."""
    shape = list(call.outputs[0].shape)
    call.give(call.node("Reshape", call.port(0), call.constant(shape, "shape"), allowzero=int(0 in shape)))


@lite("CONCATENATION")
def concat(call: LiteCall) -> None:
    """``Concat``; the axis is an option."""
    parts = [call.operand(place, f"x{place}") for place in range(len(call.inputs))]
    call.give(call.node("Concat", *parts, axis=int(call.option("axis")) % max(call.rank(), 1)))


@lite("SOFTMAX")
def softmax(call: LiteCall) -> None:
    """Over the last axis, of ``beta`` times the input."""
    x, beta = call.port(0), float(np.float32(call.option("beta", 1.0)))
    if beta != 1.0:
        x = call.node("Mul", x, call.scalar(beta, "beta"))
    call.give(activate(call, "Softmax", x))


@lite("PRELU")
def prelu(call: LiteCall) -> None:
    """``PRelu`` with slopes that broadcast, per channel where only the last axis varies."""
    slopes = call.shape(1)
    if call.rank() == 4 and len(slopes) == 3 and slopes[:2] == (1, 1):
        x, slope = call.port(0, "x", "NHWC", "NCHW"), call.port(1, "slope", "HWC", "CHW")
        call.give(call.node("PRelu", x, slope), 0, "NHWC", "NCHW")
        return
    call.give(call.node("PRelu", call.port(0), call.port(1, "slope")))


@lite("HARD_SWISH")
def hard_swish(call: LiteCall) -> None:
    """``x * clip(x + 3, 0, 6) / 6``."""
    call.give(call.node("HardSwish", call.port(0)))


@lite("GELU")
def gelu(call: LiteCall) -> None:
    """``Gelu``, exact or by tanh."""
    kind = "GeluApproximate" if call.option("approximate", False) else "GeluExact"
    call.give(activate(call, kind, call.port(0)))


@lite("RELU_N1_TO_1", "RELU_0_TO_1")
def clipped(call: LiteCall) -> None:
    """``Clip``."""
    low = -1 if call.op_type == "RELU_N1_TO_1" else 0
    call.give(call.node("Clip", call.port(0), call.limit(low, "min"), call.limit(1, "max")))


@lite("DEQUANTIZE")
def widen(call: LiteCall) -> None:
    """Half-precision weights as they are used; quantized ones are not described."""
    if not call.floating():
        call.refuse(f"of {call.inputs[0].dtype} is not described")
    call.give(call.node("Cast", call.port(0), to=1))

"""Conversions between types, and linear quantization."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import (
    BITS,
    PACKED,
    Call,
    Handler,
    Result,
    Typed,
    like,
    rank,
    sizes,
    tf_dtype,
)
from porting_check_tensorflow.run_convolution import convolve
from porting_check_tensorflow.run_minifloat import decode, encode, encode_e8m0

RANGES: Dict[str, Tuple[int, int]] = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint2": (0, 3),
    "int2": (-2, 1),
}


def convert(x: tf.Tensor, name: str, saturate: bool = True, round_mode: str = "up") -> Result:
    """``x`` as the named type, by ONNX's rules for Cast (opset 24): float8 saturates, integers drop bits."""
    if name == "bool":
        return x != tf.zeros([], dtype=x.dtype)
    if name in PACKED:
        low, high = RANGES[name]
        return Typed(tf.math.floormod(tf.cast(x, tf.int64) - low, high - low + 1) + low, name)
    if name == "float8_e8m0fnu":
        return Typed(encode_e8m0(x, saturate, round_mode), name)
    if name in BITS:
        return Typed(encode(x, name, saturate), name)
    dtype = tf_dtype(name)
    if name.startswith("float8"):
        x = tf.cast(x, tf.float32)
        limit = float(dtype.max)
        x = tf.clip_by_value(x, -limit, limit) if saturate else x
    if x.dtype.is_floating and dtype.is_integer and dtype.size < 8:
        # out of range is undefined; through int64 it wraps alike on every machine
        x = tf.cast(x, tf.int64)
    return tf.cast(x, dtype)


def value(call: Call, index: int) -> tf.Tensor:
    """An input as numbers, whatever its type."""
    tensor, name = call.need(index), call.dtypes[index]
    tensor = decode(tensor, name) if name in BITS else tensor
    one_byte = tensor.dtype.is_floating and tensor.dtype.size == 1
    return tf.cast(tensor, tf.float32) if one_byte else tensor


def cast(call: Call) -> Result:
    """ONNX Cast. Asked for in float64, a cast between floating types rounds nothing."""
    saturate, rounding = bool(call.get("saturate", 1)), call.get("round_mode", "up")
    return convert(value(call, 0), call.dtype(call.get("to")), saturate, rounding)


def cast_like(call: Call) -> Result:
    """ONNX CastLike: the type of the second input."""
    name = call.dtypes[1]
    name = call.need(1).dtype.name if name in ("float16", "bfloat16", "float32") else name
    return convert(value(call, 0), name, bool(call.get("saturate", 1)), call.get("round_mode", "up"))


def bit_cast(call: Call) -> Result:
    """ONNX BitCast (opset 26): the same bits read as another type of the same width."""
    if call.float64 and call.dtypes[0] in ("float16", "bfloat16", "float32"):
        raise call.unsupported(f"the bits of a {call.dtypes[0]} do not exist in a float64 evaluation")
    target = tf_dtype(call.dtype(call.get("to")))
    if tf.bool in (target, call.x.dtype):
        # tf.bitcast has no booleans, whose one byte is 0 or 1
        return tf.cast(
            tf.bitcast(tf.cast(call.x, tf.uint8) if call.x.dtype == tf.bool else call.x, tf.uint8), target
        )
    return tf.bitcast(call.x, target)


def _spread(given: tf.Tensor, x: tf.Tensor, axis: int, block: int) -> tf.Tensor:
    """A scale or zero point that broadcasts over ``x``: per tensor, per axis, or per block of an axis."""
    if given.shape.num_elements() == 1:
        return tf.reshape(given, [])
    axis = axis % rank(x)
    if block:
        return tf.gather(given, tf.range(sizes(x)[axis]) // block, axis=axis)
    shape = [1] * rank(x)
    shape[axis] = -1
    return tf.reshape(given, shape)


def quantize(call: Call) -> Result:
    """ONNX QuantizeLinear, to integers (round half to even, saturate) or to float8 and float4."""
    x, scale, zero = call.x, call.need(1), call.input(2)
    name = call.dtypes[2] if zero is not None else call.dtype(call.get("output_dtype") or 2)
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    wide = tf_dtype(call.dtype(call.get("precision"))) if call.get("precision") else scale.dtype
    ratio = tf.cast(x, wide) / _spread(tf.cast(scale, wide), x, axis, block)
    if name not in RANGES:
        return convert(ratio, name, bool(call.get("saturate", 1)))
    rounded = tf.cast(tf.round(ratio), tf.float64)
    if zero is not None:
        rounded = rounded + _spread(tf.cast(zero, tf.float64), x, axis, block)
    return convert(tf.clip_by_value(rounded, *map(float, RANGES[name])), name)


def dequantize(call: Call) -> Result:
    """ONNX DequantizeLinear: ``(x - zero_point) * scale`` in the type of the scale or ``output_dtype``."""
    x, scale = value(call, 0), call.need(1)
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    wide = tf.float64 if scale.dtype == tf.float64 else tf.float32
    shifted = tf.cast(x, wide)
    if call.input(2) is not None:
        shifted = shifted - _spread(tf.cast(value(call, 2), wide), x, axis, block)
    number = call.get("output_dtype")
    result = shifted * _spread(tf.cast(scale, wide), x, axis, block)
    return tf.cast(result, tf_dtype(call.dtype(number)) if number else scale.dtype)


def dynamic_quantize(call: Call) -> Result:
    """ONNX DynamicQuantizeLinear to uint8: the range is that of the data, zero included."""
    zero = like(0.0, call.x)
    high, low = tf.maximum(tf.reduce_max(call.x), zero), tf.minimum(tf.reduce_min(call.x), zero)
    scale = tf.where(high == low, like(1.0, call.x), high - low) / 255
    point = tf.round(tf.clip_by_value(-low / scale, 0, 255))
    quantized = tf.clip_by_value(tf.round(call.x / scale) + point, 0, 255)
    return tf.cast(quantized, tf.uint8), scale, tf.cast(point, tf.uint8)


def _centred(x: tf.Tensor, zero: Optional[tf.Tensor], axis: int, dtype: tf.DType) -> tf.Tensor:
    """Quantized values minus their zero point."""
    wide = tf.cast(x, dtype)
    return wide if zero is None else wide - _spread(tf.cast(zero, dtype), x, axis, 0)


def _integer_convolution(
    call: Call, places: Tuple[int, int, int, int], bias: Optional[tf.Tensor]
) -> tf.Tensor:
    """A convolution of integers, in float64 where every sum of products is exact."""
    x, x_zero, weight, weight_zero = places
    wide = tf.float64
    kernel = _centred(call.need(weight), call.input(weight_zero), 0, wide)
    total = convolve(call, _centred(call.need(x), call.input(x_zero), 1, wide), kernel, None)
    if bias is not None:
        total = total + tf.reshape(tf.cast(bias, wide), [-1] + [1] * (rank(total) - 2))
    return tf.cast(total, tf.int32)


def conv_integer(call: Call) -> Result:
    """ONNX ConvInteger: a convolution of values minus zero points, in int32."""
    return _integer_convolution(call, (0, 2, 1, 3), None)


def matmul_integer(call: Call) -> Result:
    """ONNX MatMulInteger: an int32 product of values minus zero points (per row of A, per column of B)."""
    a = _centred(call.x, call.input(2), rank(call.x) - 2, tf.int32)
    return tf.matmul(a, _centred(call.need(1), call.input(3), rank(call.need(1)) - 1, tf.int32))


def _requantize(total: tf.Tensor, factor: tf.Tensor, zero: tf.Tensor, name: str) -> Result:
    """An int32 accumulator scaled, rounded half to even and saturated."""
    scaled = tf.round(tf.cast(total, factor.dtype) * factor) + tf.cast(zero, factor.dtype)
    return tf.cast(tf.clip_by_value(scaled, *(like(limit, scaled) for limit in RANGES[name])), tf_dtype(name))


def quantized_convolution(call: Call) -> Result:
    """ONNX QLinearConv."""
    total = _integer_convolution(call, (0, 2, 3, 5), call.input(8))
    factor = call.need(1) * _spread(call.need(4), total, 1, 0) / call.need(6)
    return _requantize(total, factor, call.need(7), call.dtypes[7])


def quantized_matmul(call: Call) -> Result:
    """ONNX QLinearMatMul."""
    a, b = call.x, call.need(3)
    left = _centred(a, call.input(2), rank(a) - 2, tf.int32)
    total = tf.matmul(left, _centred(b, call.input(5), rank(b) - 1, tf.int32))
    factor = _spread(call.need(1), total, rank(a) - 2, 0) * _spread(call.need(4), total, rank(b) - 1, 0)
    return _requantize(total, factor / call.need(6), call.need(7), call.dtypes[7])


OPERATORS: Dict[str, Handler] = {
    "Cast": cast,
    "CastLike": cast_like,
    "BitCast": bit_cast,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    "QLinearConv": quantized_convolution,
    "QLinearMatMul": quantized_matmul,
}

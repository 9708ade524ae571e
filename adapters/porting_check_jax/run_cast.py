"""Conversions between types, and linear quantization."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check_jax.run_call import HIGHEST, Call, Handler, Result, divided, is_floating, jax_dtype
from porting_check_jax.run_convolution import convolve

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


def convert(x: jax.Array, name: str, saturate: bool = True, round_mode: str = "up") -> jax.Array:
    """``x`` as the named type, by ONNX's rules for Cast (opset 24): float8 saturates, integers drop bits."""
    if name == "bool":
        return x != 0
    dtype = jax_dtype(name)
    if name == "float8_e8m0fnu":
        return to_float8_e8m0(x.astype(jnp.float32), dtype, saturate, round_mode)
    if name.startswith(("float8", "float4")):
        return to_narrow_float(x, dtype, saturate or name.startswith("float4"))
    if is_floating(x) and not jnp.issubdtype(dtype, jnp.floating) and name not in ("int64", "uint64"):
        # out of range is undefined; through int64 it wraps alike on every machine
        x = x.astype(jnp.int64)
    return x.astype(dtype)


def to_narrow_float(x: jax.Array, dtype: np.dtype, saturate: bool) -> jax.Array:
    """The nearest float8 or float4; what is too large becomes the largest, or what the type has for it."""
    x = x if is_floating(x) else x.astype(jnp.float32)
    if jnp.finfo(dtype).bits < 8:
        x = jnp.where(jnp.isnan(x), jnp.zeros_like(x), x)  # these types have no NaN
    limit = float(jnp.finfo(dtype).max)
    return (jnp.clip(x, -limit, limit) if saturate else x).astype(dtype)


def to_float8_e8m0(x: jax.Array, dtype: np.dtype, saturate: bool, round_mode: str) -> jax.Array:
    """Powers of two (float8_e8m0fnu): the exponent of ``x``, rounded up, down or to the nearest."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if round_mode == "up":
        more = fraction > 0
    elif round_mode == "nearest":
        more = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
    else:
        more = jnp.zeros(x.shape, dtype=bool)
    if saturate:
        more = more & (exponent != 0xFE)
    result = jnp.where(exponent == 0xFF, exponent, exponent + more.astype(jnp.int32))
    return lax.bitcast_convert_type(result.astype(jnp.uint8), dtype)


def value(call: Call, index: int) -> jax.Array:
    """An input as numbers to compute with: types of a byte or less hold too few."""
    tensor, name = call.need(index), call.dtypes[index]
    if is_floating(tensor):
        return tensor if tensor.dtype.itemsize > 1 else tensor.astype(jnp.float32)
    return tensor.astype(jnp.int32) if name in RANGES else tensor


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
    x, target = call.x, jax_dtype(call.dtype(call.get("to")))
    if target.itemsize != x.dtype.itemsize:
        raise call.unsupported(f"{x.dtype} and {target} are not of the same width")
    if bool in (target, x.dtype):
        # a boolean's one byte is 0 or 1, and JAX does not look into it
        return lax.bitcast_convert_type(x.astype(jnp.uint8) if x.dtype == bool else x, jnp.uint8).astype(
            target
        )
    return lax.bitcast_convert_type(x, target)


def _spread(given: jax.Array, x: jax.Array, axis: int, block: int) -> jax.Array:
    """A scale or zero point that broadcasts over ``x``: per tensor, per axis, or per block of an axis."""
    if given.size == 1:
        return given.reshape(())
    axis = axis % x.ndim
    if block:
        return jnp.take(given, np.arange(x.shape[axis]) // block, axis=axis)
    shape = [1] * x.ndim
    shape[axis] = given.size
    return given.reshape(shape)


def quantize(call: Call) -> Result:
    """ONNX QuantizeLinear, to integers (round half to even, saturate) or to float8 and float4."""
    x, scale, zero = call.x, call.need(1), call.input(2)
    name = call.dtypes[2] if zero is not None else call.dtype(call.get("output_dtype") or 2)
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    wide = jax_dtype(call.dtype(call.get("precision"))) if call.get("precision") else scale.dtype
    ratio = divided(x.astype(wide), _spread(scale.astype(wide), x, axis, block))
    if name not in RANGES:
        return convert(ratio, name, bool(call.get("saturate", 1)))
    rounded = jnp.round(ratio).astype(jnp.float64)
    if zero is not None:
        rounded = rounded + _spread(zero.astype(jnp.float64), x, axis, block)
    return convert(jnp.clip(rounded, *RANGES[name]), name)


def dequantize(call: Call) -> Result:
    """ONNX DequantizeLinear: ``(x - zero_point) * scale`` in the type of the scale or ``output_dtype``."""
    x, scale = value(call, 0), call.need(1)
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    wide = jnp.promote_types(scale.dtype, jnp.float32)
    shifted = x.astype(wide)
    if call.input(2) is not None:
        shifted = shifted - _spread(value(call, 2).astype(wide), x, axis, block)
    number = call.get("output_dtype")
    result = shifted * _spread(scale.astype(wide), x, axis, block)
    return result.astype(jax_dtype(call.dtype(number)) if number else scale.dtype)


def dynamic_quantize(call: Call) -> Result:
    """ONNX DynamicQuantizeLinear to uint8: the range is that of the data, zero included."""
    high, low = jnp.maximum(jnp.max(call.x), 0), jnp.minimum(jnp.min(call.x), 0)
    scale = divided(jnp.where(high == low, jnp.ones_like(high), high - low), 255)
    zero = jnp.round(jnp.clip(divided(-low, scale), 0, 255))
    quantized = jnp.clip(jnp.round(divided(call.x, scale)) + zero, 0, 255)
    return convert(quantized, "uint8"), scale, convert(zero, "uint8")


def _centred(x: jax.Array, zero: Optional[jax.Array], axis: int) -> jax.Array:
    """Quantized values minus their zero point, as int32."""
    wide = x.astype(jnp.int32)
    return wide if zero is None else wide - _spread(zero.astype(jnp.int32), x, axis, 0)


def _multiplied(call: Call, left: Tuple[int, int], right: Tuple[int, int]) -> jax.Array:
    """The int32 product of two inputs minus their zero points (per row of A, per column of B)."""
    a, b = call.need(left[0]), call.need(right[0])
    rows, columns = (
        _centred(a, call.input(left[1]), a.ndim - 2),
        _centred(b, call.input(right[1]), b.ndim - 1),
    )
    return jnp.matmul(rows, columns, precision=HIGHEST)


def conv_integer(call: Call) -> Result:
    """ONNX ConvInteger: an int32 convolution of values minus zero points."""
    weight = _centred(call.need(1), call.input(3), 0)
    return convolve(call, _centred(call.x, call.input(2), 1), weight, None)


def matmul_integer(call: Call) -> Result:
    """ONNX MatMulInteger."""
    return _multiplied(call, (0, 2), (1, 3))


def _requantize(total: jax.Array, factor: jax.Array, zero: jax.Array, name: str) -> jax.Array:
    """An int32 accumulator scaled, rounded half to even and saturated."""
    scaled = jnp.round(total.astype(factor.dtype) * factor) + zero.astype(factor.dtype)
    return convert(jnp.clip(scaled, *RANGES[name]), name)


def quantized_convolution(call: Call) -> Result:
    """ONNX QLinearConv."""
    weight = _centred(call.need(3), call.input(5), 0)
    total = convolve(call, _centred(call.x, call.input(2), 1), weight, call.input(8))
    factor = divided(call.need(1) * _spread(call.need(4), total, 1, 0), call.need(6))
    return _requantize(total, factor, call.need(7), call.dtypes[7])


def quantized_matmul(call: Call) -> Result:
    """ONNX QLinearMatMul."""
    total = _multiplied(call, (0, 2), (3, 5))
    a_scale = _spread(call.need(1), total, total.ndim - 2, 0)
    factor = divided(a_scale * _spread(call.need(4), total, total.ndim - 1, 0), call.need(6))
    return _requantize(total, factor, call.need(7), call.dtypes[7])


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

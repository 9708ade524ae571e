"""Conversions between types, and linear quantization."""

from __future__ import annotations

import math
from typing import Dict, Optional, Tuple

import torch

from porting_check_torch.run_call import FLOAT4, PACKED, Call, Handler, Result, Typed, torch_dtype
from porting_check_torch.run_convolution import convolve

FLOAT4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The magnitudes of float4_e2m1fn in the order of their bits; even places have even significands."""

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


def convert(x: torch.Tensor, name: str, saturate: bool = True, round_mode: str = "up") -> Result:
    """``x`` as the named type, by ONNX's rules for Cast (opset 24): float8 saturates, integers drop bits."""
    if name == "bool":
        return x != 0
    if name in PACKED:
        low, high = RANGES[name]
        return Typed(torch.remainder(x.to(torch.int64) - low, high - low + 1) + low, name)
    if name == FLOAT4:
        return Typed(to_float4(x.to(torch.float32)), name)
    if name == "float8_e8m0fnu":
        return to_float8_e8m0(x.to(torch.float32), saturate, round_mode)
    dtype = torch_dtype(name)
    if name.startswith("float8"):
        x = x.to(torch.float32)
        limit = torch.finfo(dtype).max
        if name == "float8_e4m3fn" and not saturate:
            # torch itself saturates this type; what rounds beyond 448 (the tie at 464 is even) is NaN
            return torch.where(x.abs() > 464.0, torch.full_like(x, math.nan), x).to(dtype)
        return (torch.clamp(x, -limit, limit) if saturate else x).to(dtype)
    return x.to(dtype)


def to_float4(x: torch.Tensor) -> torch.Tensor:
    """The bits of the nearest float4_e2m1fn (ties to even, overflow to the largest, NaN to zero)."""
    table = torch.tensor(FLOAT4_VALUES)
    size = torch.where(torch.isnan(x), torch.zeros_like(x), x.abs())
    middles = (table[1:] + table[:-1]) / 2
    place = torch.bucketize(size, middles)
    # bucketize leaves a tie at the lower value; the one above is the even one when the lower place is odd
    tie = (place < 7) & (size == middles[place.clamp(max=6)]) & (place % 2 == 1)
    return (place + tie.to(torch.int64) + 8 * torch.signbit(x).to(torch.int64)).to(torch.uint8)


def from_float4(bits: torch.Tensor) -> torch.Tensor:
    """The float32 values of float4_e2m1fn bits."""
    table = torch.tensor(FLOAT4_VALUES + tuple(-value for value in FLOAT4_VALUES))
    return table[bits.to(torch.int64)]


def value(call: Call, index: int) -> torch.Tensor:
    """An input as numbers, whatever its type."""
    tensor = call.need(index)
    return from_float4(tensor) if call.dtypes[index] == FLOAT4 else tensor


def to_float8_e8m0(x: torch.Tensor, saturate: bool, round_mode: str) -> torch.Tensor:
    """Powers of two (float8_e8m0fnu): the exponent of ``x``, rounded up, down or to the nearest."""
    bits = x.view(torch.int32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if round_mode == "up":
        more = fraction > 0
    elif round_mode == "nearest":
        more = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
    else:
        more = torch.zeros_like(fraction, dtype=torch.bool)
    if saturate:
        more = more & (exponent != 0xFE)
    result = torch.where(exponent == 0xFF, exponent, exponent + more.to(torch.int32))
    return result.to(torch.uint8).view(torch.float8_e8m0fnu)


def cast(call: Call) -> Result:
    """ONNX Cast. Asked for in float64, a cast between floating types rounds nothing."""
    saturate, rounding = bool(call.get("saturate", 1)), call.get("round_mode", "up")
    return convert(value(call, 0), call.dtype(call.get("to")), saturate, rounding)


def cast_like(call: Call) -> Result:
    """ONNX CastLike: the type of the second input."""
    name = call.dtypes[1]
    name = str(call.need(1).dtype).split(".")[-1] if name in ("float16", "bfloat16", "float32") else name
    return convert(value(call, 0), name, bool(call.get("saturate", 1)), call.get("round_mode", "up"))


def bit_cast(call: Call) -> Result:
    """ONNX BitCast (opset 26): the same bits read as another type of the same width."""
    if call.float64 and call.dtypes[0] in ("float16", "bfloat16", "float32"):
        raise call.unsupported(f"the bits of a {call.dtypes[0]} do not exist in a float64 evaluation")
    return call.x.contiguous().view(torch_dtype(call.dtype(call.get("to"))))


def _spread(given: torch.Tensor, x: torch.Tensor, axis: int, block: int) -> torch.Tensor:
    """A scale or zero point that broadcasts over ``x``: per tensor, per axis, or per block of an axis."""
    if given.numel() == 1:
        return given.reshape(())
    if block:
        return given.repeat_interleave(block, dim=axis).narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = given.numel()
    return given.reshape(shape)


def quantize(call: Call) -> Result:
    """ONNX QuantizeLinear, to integers (round half to even, saturate) or to float8 and float4."""
    x, scale, zero = call.x, call.need(1), call.input(2)
    name = call.dtypes[2] if zero is not None else call.dtype(call.get("output_dtype") or 2)
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    wide = torch_dtype(call.dtype(call.get("precision") or 0)) if call.get("precision") else scale.dtype
    ratio = x.to(wide) / _spread(scale.to(wide), x, axis, block)
    if name not in RANGES:
        return convert(ratio, name, bool(call.get("saturate", 1)))
    rounded = torch.round(ratio)
    if zero is not None:
        rounded = rounded.to(torch.float64) + _spread(zero.to(torch.float64), x, axis, block)
    return convert(torch.clamp(rounded, *RANGES[name]), name)


def dequantize(call: Call) -> Result:
    """ONNX DequantizeLinear: ``(x - zero_point) * scale`` in the type of the scale or ``output_dtype``."""
    x, scale = value(call, 0), call.need(1)
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    wide = torch.promote_types(scale.dtype, torch.float32)
    shifted = x.to(wide)
    if call.input(2) is not None:
        shifted = shifted - _spread(value(call, 2).to(wide), x, axis, block)
    number = call.get("output_dtype")
    result = shifted * _spread(scale.to(wide), x, axis, block)
    return result.to(torch_dtype(call.dtype(number)) if number else scale.dtype)


def dynamic_quantize(call: Call) -> Result:
    """ONNX DynamicQuantizeLinear to uint8: the range is that of the data, zero included."""
    high, low = call.x.max().clamp(min=0), call.x.min().clamp(max=0)
    scale = torch.where(high == low, torch.ones_like(high), high - low) / 255
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    quantized = torch.clamp(torch.round(call.x / scale) + zero, 0, 255)
    return quantized.to(torch.uint8), scale, zero.to(torch.uint8)


def _centred(x: torch.Tensor, zero: Optional[torch.Tensor], axis: int) -> torch.Tensor:
    """Quantized values minus their zero point, as int32."""
    wide = x.to(torch.int32)
    return wide if zero is None else wide - _spread(zero.to(torch.int32), x, axis, 0)


def conv_integer(call: Call) -> Result:
    """ONNX ConvInteger: an int32 convolution of values minus zero points."""
    weight = _centred(call.need(1), call.input(3), 0)
    return convolve(call, _centred(call.x, call.input(2), 1), weight, None)


def matmul_integer(call: Call) -> Result:
    """ONNX MatMulInteger: an int32 product of values minus zero points (per row of A, per column of B)."""
    a, b = call.x, call.need(1)
    return torch.matmul(_centred(a, call.input(2), a.dim() - 2), _centred(b, call.input(3), b.dim() - 1))


def _requantize(total: torch.Tensor, factor: torch.Tensor, zero: torch.Tensor, name: str) -> Result:
    """An int32 accumulator scaled, rounded half to even and saturated."""
    scaled = torch.round(total.to(factor.dtype) * factor) + zero.to(factor.dtype)
    return torch.clamp(scaled, *RANGES[name]).to(torch_dtype(name))


def quantized_convolution(call: Call) -> Result:
    """ONNX QLinearConv."""
    weight = _centred(call.need(3), call.input(5), 0)
    total = convolve(call, _centred(call.x, call.input(2), 1), weight, call.input(8))
    factor = call.need(1) * _spread(call.need(4), total, 1, 0) / call.need(6)
    return _requantize(total, factor, call.need(7), call.dtypes[7])


def quantized_matmul(call: Call) -> Result:
    """ONNX QLinearMatMul."""
    a, b = call.x, call.need(3)
    total = torch.matmul(_centred(a, call.input(2), a.dim() - 2), _centred(b, call.input(5), b.dim() - 1))
    factor = (
        _spread(call.need(1), total, a.dim() - 2, 0)
        * _spread(call.need(4), total, b.dim() - 1, 0)
        / call.need(6)
    )
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

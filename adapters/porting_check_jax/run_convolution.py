"""Convolutions, transposed and deformable, and their inverse rearrangement (Col2Im)."""

from __future__ import annotations

from typing import Dict, Optional

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check.neutral.geometry import Transposed, product, transposed_of, windows_of
from porting_check.neutral.padding import Padding, convolution_output_sizes
from porting_check_jax.run_call import HIGHEST, Call, Handler, Result


def pad_spatial(x: jax.Array, padding: Padding, value: float = 0) -> jax.Array:
    """Pad (or crop, where negative) the spatial axes with a constant."""
    pairs = ((0, 0), (0, 0)) + padding.pairs
    return lax.pad(x, jnp.asarray(value, x.dtype), [(begin, end, 0) for begin, end in pairs])


def per_channel(value: jax.Array, x: jax.Array) -> jax.Array:
    """A vector over channels that broadcasts over a channel-first array, in its type."""
    return value.reshape((-1,) + (1,) * (x.ndim - 2)).astype(x.dtype)


def convolve(call: Call, x: jax.Array, weight: jax.Array, bias: Optional[jax.Array]) -> jax.Array:
    """A convolution by ``lax.conv_general_dilated``, which pads, crops and groups by itself."""
    windows = windows_of(call.node, x.shape[2:], weight.shape[2:])
    result = lax.conv_general_dilated(
        x,
        weight,
        windows.strides,
        windows.padding.pairs,
        rhs_dilation=windows.dilations,
        feature_group_count=call.get("group", 1),
        precision=HIGHEST,
    )
    return result if bias is None else result + per_channel(bias, result)


def convolution(call: Call) -> Result:
    """ONNX Conv."""
    return convolve(call, call.x, call.need(1), call.input(2))


def transpose_convolve(
    x: jax.Array, weight: jax.Array, bias: Optional[jax.Array], geometry: Transposed, group: int
) -> jax.Array:
    """A transposed convolution: an ordinary one over the spread input, its kernel flipped.

    Source: V. Dumoulin and F. Visin, A guide to convolution arithmetic for deep learning, 2016, section 4.
    """
    strides, dilations, crop = geometry
    rank, (inner, outer), kernel = x.ndim - 2, weight.shape[:2], weight.shape[2:]
    parts = jnp.flip(weight, tuple(range(2, 2 + rank))).reshape((group, inner // group, outer) + kernel)
    turned = jnp.swapaxes(parts, 1, 2).reshape((group * outer, inner // group) + kernel)
    reach = Padding.symmetric([(k - 1) * d for k, d in zip(kernel, dilations)])
    result = lax.conv_general_dilated(
        x,
        turned,
        (1,) * rank,
        (reach - crop).pairs,
        lhs_dilation=strides,
        rhs_dilation=dilations,
        feature_group_count=group,
        precision=HIGHEST,
    )
    return result if bias is None else result + per_channel(bias, result)


def transposed_convolution(call: Call) -> Result:
    """ONNX ConvTranspose."""
    x, weight = call.x, call.need(1)
    geometry = transposed_of(call.node, x.shape[2:], weight.shape[2:])
    return transpose_convolve(x, weight, call.input(2), geometry, call.get("group", 1))


def column_to_image(call: Call) -> Result:
    """ONNX Col2Im: every element of every block is added at its place of the padded image."""
    x, image, block = call.x, call.integers(1) or [], call.integers(2) or []
    rank = len(block)
    strides, dilations = call.get("strides") or (1,) * rank, call.get("dilations") or (1,) * rank
    padding = Padding.from_onnx(call.get("pads") or (0,) * (2 * rank))
    grid = convolution_output_sizes(image, padding, block, strides, dilations)
    whole = [size + more for size, more in zip(image, padding.totals)]
    places = np.zeros((1,) * (2 * rank), np.int64)
    for axis in range(rank):
        line = np.arange(block[axis])[:, None] * dilations[axis] + np.arange(grid[axis]) * strides[axis]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = line.shape
        places = places * whole[axis] + line.reshape(shape)
    batch, channels = x.shape[0], x.shape[1] // product(block)
    empty = jnp.zeros((batch, channels, product(whole)), x.dtype)
    flat = empty.at[:, :, places.reshape(-1)].add(x.reshape(batch, channels, -1))
    return pad_spatial(flat.reshape([batch, channels] + whole), -padding)


def sample_zero(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Bilinear samples of ``x`` (N, C, H, W) at ``rows``/``columns`` (N, P), zero outside: (N, C, P)."""
    height, width = x.shape[2:]
    flat = x.reshape(x.shape[:2] + (-1,))
    top, left = jnp.floor(rows), jnp.floor(columns)
    total = jnp.zeros(x.shape[:2] + rows.shape[1:], x.dtype)
    for row, row_weight in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for column, column_weight in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = jnp.clip(row, 0, height - 1).astype(int) * width + jnp.clip(column, 0, width - 1).astype(
                int
            )
            values = jnp.take_along_axis(flat, place[:, None], axis=2, mode="clip")
            total = total + values * jnp.where(inside, row_weight * column_weight, 0)[:, None]
    return total


def deformable_convolution(call: Call) -> Result:
    """ONNX DeformConv in two dimensions: bilinear samples at every kernel tap, then a matrix product."""
    x, weight, offset, bias, mask = call.x, call.need(1), call.need(2), call.input(3), call.input(4)
    if x.ndim != 4:
        raise call.unsupported(f"it has {x.ndim - 2} spatial axes; only two are described")
    windows = windows_of(call.node, x.shape[2:], weight.shape[2:])
    (batch, channels), (outputs, _, tall, wide) = x.shape[:2], weight.shape
    groups, parts, taps = call.get("group", 1), call.get("offset_group", 1), tall * wide
    height, width = offset.shape[2:]
    shifts = offset.reshape(batch, parts, taps, 2, height, width)
    corners = np.indices((tall, wide)).reshape(2, taps, 1, 1) * np.reshape(windows.dilations, (2, 1, 1, 1))
    rows = corners[0] + np.arange(height)[:, None] * windows.strides[0] - windows.padding.begins[0]
    columns = corners[1] + np.arange(width) * windows.strides[1] - windows.padding.begins[1]
    pieces = x.reshape((batch * parts, channels // parts) + x.shape[2:])
    at_row = (shifts[:, :, :, 0] + rows.astype(x.dtype)).reshape(batch * parts, -1)
    at_column = (shifts[:, :, :, 1] + columns.astype(x.dtype)).reshape(batch * parts, -1)
    sampled = sample_zero(pieces, at_row, at_column)
    if mask is not None:
        sampled = sampled * mask.reshape(batch * parts, 1, -1)
    stacked = sampled.reshape(batch, groups, channels // groups * taps, -1)
    kernel = weight.reshape(groups, outputs // groups, -1)
    result = jnp.matmul(kernel, stacked, precision=HIGHEST).reshape(batch, outputs, height, width)
    return result if bias is None else result + per_channel(bias, result)


def causal_convolution(call: Call) -> Result:
    """ONNX CausalConvWithState (opset 27): a depthwise convolution over the past; its tail is the state."""
    x, weight, bias, past = call.x, call.need(1), call.input(2), call.input(3)
    keep = weight.shape[-1] - 1
    state = jnp.zeros(x.shape[:2] + (keep,), x.dtype) if past is None else past
    joined = jnp.concatenate([state, x], axis=-1)
    result = lax.conv_general_dilated(
        joined, weight, (1,), ((0, 0),), feature_group_count=x.shape[1], precision=HIGHEST
    )
    result = result if bias is None else result + per_channel(bias, result)
    activation = call.get("activation", "none")
    if activation in ("silu", "swish"):
        result = jax.nn.silu(result)
    elif activation != "none":
        raise call.unsupported(f"activation {activation!r} is not known; ONNX has none, silu and swish")
    return result, joined[..., joined.shape[-1] - keep :]


OPERATORS: Dict[str, Handler] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Col2Im": column_to_image,
    "DeformConv": deformable_convolution,
    "CausalConvWithState": causal_convolution,
}

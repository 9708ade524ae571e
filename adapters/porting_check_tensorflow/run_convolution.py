"""Convolutions, transposed and deformable, and their inverse rearrangement (Col2Im)."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.geometry import Transposed, Windows, product, transposed_of, windows_of
from porting_check.neutral.padding import Padding, convolution_output_sizes
from porting_check.neutral.transposed_padding import full_output_sizes
from porting_check_tensorflow.run_call import Call, Handler, Result, rank, sizes

TRANSPOSED: Dict[int, Any] = {
    1: tf.nn.conv1d_transpose,
    2: tf.nn.conv2d_transpose,
    3: tf.nn.conv3d_transpose,
}


def channels_last(x: tf.Tensor) -> tf.Tensor:
    """NC… to N…C, the only layout that TensorFlow's CPU kernels take."""
    return tf.transpose(x, [0, *range(2, rank(x)), 1])


def channels_first(x: tf.Tensor) -> tf.Tensor:
    """N…C to NC…."""
    return tf.transpose(x, [0, rank(x) - 1, *range(1, rank(x) - 1)])


def kernel_last(weight: tf.Tensor) -> tf.Tensor:
    """OI… to …IO (and a transposed convolution's IO… to …OI)."""
    return tf.transpose(weight, [*range(2, rank(weight)), 1, 0])


def pad_spatial(x: tf.Tensor, padding: Padding, value: float = 0) -> tf.Tensor:
    """Pad (or crop, where negative) the spatial axes of a channel-first tensor with a constant."""
    if not padding.grown.is_none:
        fill = tf.constant(value, dtype=x.dtype)
        x = tf.pad(x, [(0, 0), (0, 0), *padding.grown.pairs], constant_values=fill)
    if not padding.crops:
        return x
    ends = [size - less for size, less in zip(sizes(x)[2:], padding.cropped.ends)]
    cuts = [slice(begin, end) for begin, end in zip(padding.cropped.begins, ends)]
    return x[(slice(None), slice(None), *cuts)]


def convolve(call: Call, x: tf.Tensor, weight: tf.Tensor, bias: Optional[tf.Tensor]) -> tf.Tensor:
    """A convolution: explicit pad, then TensorFlow's own, channels last."""
    dims = rank(x) - 2
    if dims not in TRANSPOSED:
        raise call.unsupported(f"it has {dims} spatial axes, tensorflow has 1 to 3")
    windows = windows_of(call.node, sizes(x)[2:], sizes(weight)[2:])
    last = channels_last(pad_spatial(x, windows.padding))
    group = call.get("group", 1)
    if dims == 3:
        result = _grouped_3d(last, kernel_last(weight), windows, group)
    elif (
        dims == 2
        and group == x.shape[1] > 1
        and len(set(windows.strides)) == 1
        and set(windows.dilations) == {1}
    ):
        result = _depthwise(last, weight, windows, group)
    else:
        function = tf.nn.conv1d if dims == 1 else tf.nn.conv2d
        steps = {"stride": windows.strides[0]} if dims == 1 else {"strides": list(windows.strides)}
        result = function(
            last, kernel_last(weight), padding="VALID", dilations=list(windows.dilations), **steps
        )
    return channels_first(result if bias is None else tf.nn.bias_add(result, bias))


def _depthwise(x: tf.Tensor, weight: tf.Tensor, windows: Windows, group: int) -> tf.Tensor:
    """One group per channel: the kernel (C M, 1, H, W) becomes TensorFlow's (H, W, C, M)."""
    shape = sizes(weight)
    kernel = tf.transpose(tf.reshape(weight, [group, shape[0] // group, *shape[2:]]), [2, 3, 0, 1])
    return tf.nn.depthwise_conv2d(x, kernel, [1, *windows.strides, 1], "VALID")


def _grouped_3d(x: tf.Tensor, kernel: tf.Tensor, windows: Windows, group: int) -> tf.Tensor:
    """Three dimensions: group by group; dilated ones in steps of one, of which the stride keeps some."""
    results = []
    for part, piece in zip(tf.split(x, group, axis=-1), tf.split(kernel, group, axis=-1)):
        if set(windows.dilations) == {1}:
            results.append(tf.nn.conv3d(part, piece, [1, *windows.strides, 1], "VALID"))
        else:
            dense = tf.nn.convolution(part, piece, padding="VALID", dilations=list(windows.dilations))
            results.append(dense[(slice(None), *[slice(None, None, step) for step in windows.strides])])
    return tf.concat(results, axis=-1)


def convolution(call: Call) -> Result:
    """ONNX Conv."""
    return convolve(call, call.x, call.need(1), call.input(2))


def spread_kernel(weight: tf.Tensor, dilations: Sequence[int]) -> tf.Tensor:
    """A kernel with zeros between its elements: TensorFlow's transposed convolutions take no dilation."""
    for axis, step in enumerate(dilations, start=2):
        if step == 1:
            continue
        shape = sizes(weight)
        apart = tf.pad(
            tf.expand_dims(weight, axis + 1),
            [(0, 0)] * (axis + 1) + [(0, step - 1)] + [(0, 0)] * (rank(weight) - axis - 1),
        )
        joined = tf.reshape(apart, shape[:axis] + [shape[axis] * step] + shape[axis + 1 :])
        weight = joined[(slice(None),) * axis + (slice(0, (shape[axis] - 1) * step + 1),)]
    return weight


def transpose_convolve(
    call: Call, x: tf.Tensor, weight: tf.Tensor, bias: Optional[tf.Tensor], geometry: Transposed, group: int
) -> tf.Tensor:
    """A transposed convolution: TensorFlow's full output, group by group, then cropped."""
    if rank(x) - 2 not in TRANSPOSED:
        raise call.unsupported(f"it has {rank(x) - 2} spatial axes, tensorflow has 1 to 3")
    weight = spread_kernel(weight, geometry.dilations)
    full = full_output_sizes(sizes(x)[2:], sizes(weight)[2:], geometry.strides)
    parts = []
    for part, piece in zip(tf.split(x, group, axis=1), tf.split(weight, group, axis=0)):
        shape = [sizes(x)[0], *full, sizes(piece)[1]]
        function = TRANSPOSED[rank(x) - 2]
        parts.append(
            function(channels_last(part), kernel_last(piece), shape, list(geometry.strides), "VALID")
        )
    whole = tf.concat(parts, axis=-1)
    cropped = pad_spatial(channels_first(whole), -geometry.crop)
    return cropped if bias is None else cropped + tf.reshape(bias, [-1] + [1] * (rank(x) - 2))


def transposed_convolution(call: Call) -> Result:
    """ONNX ConvTranspose."""
    x, weight = call.x, call.need(1)
    geometry = transposed_of(call.node, sizes(x)[2:], sizes(weight)[2:])
    return transpose_convolve(call, x, weight, call.input(2), geometry, call.get("group", 1))


def column_to_image(call: Call) -> Result:
    """ONNX Col2Im: overlapping blocks are added, as a transposed convolution with one-hot kernels does."""
    x, image, block = call.x, call.integers(1) or [], call.integers(2) or []
    dims, cells = len(block), product(block)
    strides, dilations = call.get("strides") or (1,) * dims, call.get("dilations") or (1,) * dims
    padding = Padding.from_onnx(call.get("pads") or (0,) * (2 * dims))
    grid = convolution_output_sizes(image, padding, block, strides, dilations)
    full = full_output_sizes(grid, block, strides, dilations)
    channels = sizes(x)[1] // cells
    kernel = tf.tile(
        tf.reshape(tf.eye(cells, dtype=x.dtype), [cells, 1, *block]), [channels] + [1] * (dims + 1)
    )
    ends = tuple(whole - size - begin for whole, size, begin in zip(full, image, padding.begins))
    geometry = Transposed(tuple(strides), tuple(dilations), Padding(padding.begins, ends))
    return transpose_convolve(call, tf.reshape(x, [sizes(x)[0], -1, *grid]), kernel, None, geometry, channels)


def sample_zero(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Bilinear samples of ``x`` (N, C, H, W) at ``rows``/``columns`` (N, P), zero outside: (N, C, P)."""
    batch, channels, height, width = sizes(x)
    flat = tf.reshape(x, [batch, channels, -1])
    top, left = tf.floor(rows), tf.floor(columns)
    total = tf.zeros([batch, channels, sizes(rows)[1]], dtype=x.dtype)
    for row, row_weight in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for column, column_weight in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = tf.clip_by_value(row, 0, height - 1) * width + tf.clip_by_value(column, 0, width - 1)
            values = tf.gather(flat, tf.cast(place, tf.int64), axis=2, batch_dims=1)
            weight = tf.where(inside, row_weight * column_weight, tf.zeros_like(row_weight))
            total = total + values * weight[:, None]
    return total


def deformable_convolution(call: Call) -> Result:
    """ONNX DeformConv in two dimensions: bilinear samples at every kernel tap, then a matrix product."""
    x, weight, offset, bias, mask = call.x, call.need(1), call.need(2), call.input(3), call.input(4)
    if rank(x) != 4:
        raise call.unsupported(f"it has {rank(x) - 2} spatial axes; only two are described")
    windows = windows_of(call.node, sizes(x)[2:], sizes(weight)[2:])
    batch, channels = sizes(x)[:2]
    outputs, _, tall, wide = sizes(weight)
    groups, parts = call.get("group", 1), call.get("offset_group", 1)
    height, width = sizes(offset)[2:]
    rows = tf.cast(tf.range(height) * windows.strides[0] - windows.padding.begins[0], x.dtype)[:, None]
    columns = tf.cast(tf.range(width) * windows.strides[1] - windows.padding.begins[1], x.dtype)[None, :]
    taps = [(i * windows.dilations[0], j * windows.dilations[1]) for i in range(tall) for j in range(wide)]
    shifts = tf.reshape(offset, [batch, parts, len(taps), 2, height, width])
    scales = None if mask is None else tf.reshape(mask, [batch, parts, len(taps), 1, -1])
    sampled: List[tf.Tensor] = []
    for part, piece in enumerate(tf.split(x, parts, axis=1)):
        for index, (down, right) in enumerate(taps):
            at_row = tf.reshape(rows + down + shifts[:, part, index, 0], [batch, -1])
            at_column = tf.reshape(columns + right + shifts[:, part, index, 1], [batch, -1])
            values = sample_zero(piece, at_row, at_column)
            sampled.append(values if scales is None else values * scales[:, part, index])
    # (parts, taps) were stacked in that order; bring channels of all parts together before the taps
    stacked = tf.reshape(tf.stack(sampled), [parts, len(taps), batch, channels // parts, -1])
    stacked = tf.transpose(stacked, [2, 0, 3, 1, 4])
    stacked = tf.reshape(stacked, [batch, groups, channels // groups * len(taps), -1])
    result = tf.matmul(tf.reshape(weight, [groups, outputs // groups, -1]), stacked)
    result = tf.reshape(result, [batch, outputs, height, width])
    return result if bias is None else result + tf.reshape(bias, [-1, 1, 1])


def causal_convolution(call: Call) -> Result:
    """ONNX CausalConvWithState (opset 27): a depthwise convolution over the past; its tail is the state."""
    x, weight, bias, past = call.x, call.need(1), call.input(2), call.input(3)
    batch, channels, _ = sizes(x)
    keep = sizes(weight)[-1] - 1
    state = tf.zeros([batch, channels, keep], dtype=x.dtype) if past is None else past
    joined = tf.concat([state, x], axis=-1)
    result = tf.nn.conv1d(channels_last(joined), kernel_last(weight), stride=1, padding="VALID")
    result = channels_first(result if bias is None else tf.nn.bias_add(result, bias))
    activation = call.get("activation", "none")
    if activation in ("silu", "swish"):
        result = tf.nn.silu(result)
    elif activation != "none":
        raise call.unsupported(f"activation {activation!r} is not known; ONNX has none, silu and swish")
    return result, joined[..., sizes(joined)[-1] - keep :]


OPERATORS: Dict[str, Handler] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Col2Im": column_to_image,
    "DeformConv": deformable_convolution,
    "CausalConvWithState": causal_convolution,
}

"""Convolutions, transposed and deformable, and their inverse rearrangement (Col2Im)."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import torch
from torch.nn import functional

from porting_check.neutral.geometry import Transposed, product, transposed_of, windows_of
from porting_check.neutral.padding import Padding, convolution_output_sizes
from porting_check.neutral.padding_forms import to_torch_pad
from porting_check.neutral.transposed_padding import full_output_sizes
from porting_check_torch.run_call import Call, Handler, Result

CONVOLUTIONS: Dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: Dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def pad_spatial(x: torch.Tensor, padding: Padding, value: float = 0) -> torch.Tensor:
    """Pad (or crop, where negative) the spatial axes with a constant."""
    for part in (padding.grown, -padding.cropped):
        x = x if part.is_none else functional.pad(x, to_torch_pad(part), value=value)
    return x


def _spatial(call: Call, x: torch.Tensor, table: Dict[int, Any]) -> Any:
    """Torch's function for this number of spatial axes."""
    rank = x.dim() - 2
    if rank not in table:
        raise call.unsupported(f"it has {rank} spatial axes, torch has 1 to 3")
    return table[rank]


def convolve(call: Call, x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor]) -> torch.Tensor:
    """A convolution; pads that differ between begin and end go through an explicit pad."""
    function = _spatial(call, x, CONVOLUTIONS)
    windows = windows_of(call.node, x.shape[2:], weight.shape[2:])
    padding = windows.padding
    if padding.crops or not padding.is_symmetric:
        x, padding = pad_spatial(x, padding), Padding.none(padding.ndim)
    group = call.get("group", 1)
    result: torch.Tensor = function(
        x, weight, bias, windows.strides, padding.begins, windows.dilations, group
    )
    return result


def convolution(call: Call) -> Result:
    """ONNX Conv."""
    return convolve(call, call.x, call.need(1), call.input(2))


def transpose_convolve(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Optional[torch.Tensor],
    geometry: Transposed,
    group: int,
) -> torch.Tensor:
    """A transposed convolution; what torch's ``padding`` and ``output_padding`` cannot say is cropped."""
    function = _spatial(call, x, TRANSPOSED)
    strides, dilations, crop = geometry
    grow = tuple(begin - end for begin, end in crop.pairs)
    fits = all(0 <= more < max(s, d) for more, s, d in zip(grow, strides, dilations))
    if fits and min(crop.begins) >= 0:
        result: torch.Tensor = function(x, weight, bias, strides, crop.begins, grow, group, dilations)
        return result
    full = pad_spatial(function(x, weight, None, strides, 0, 0, group, dilations), -crop)
    return full if bias is None else full + bias.reshape((-1,) + (1,) * (x.dim() - 2))


def transposed_convolution(call: Call) -> Result:
    """ONNX ConvTranspose."""
    x, weight = call.x, call.need(1)
    geometry = transposed_of(call.node, x.shape[2:], weight.shape[2:])
    return transpose_convolve(call, x, weight, call.input(2), geometry, call.get("group", 1))


def column_to_image(call: Call) -> Result:
    """ONNX Col2Im: overlapping blocks are added, as a transposed convolution with one-hot kernels does."""
    x, image, block = call.x, call.integers(1) or [], call.integers(2) or []
    rank, cells = len(block), product(block)
    strides, dilations = call.get("strides") or (1,) * rank, call.get("dilations") or (1,) * rank
    pads = call.get("pads") or (0,) * (2 * rank)
    if rank == 2 and pads[:2] == pads[2:]:
        return functional.fold(x, tuple(image), tuple(block), dilations, pads[:2], strides)
    padding = Padding.from_onnx(pads)
    grid = convolution_output_sizes(image, padding, block, strides, dilations)
    full = full_output_sizes(grid, block, strides, dilations)
    channels = x.shape[1] // cells
    kernel = torch.eye(cells, dtype=x.dtype).reshape(cells, 1, *block).repeat(channels, *([1] * (rank + 1)))
    ends = tuple(whole - size - begin for whole, size, begin in zip(full, image, padding.begins))
    geometry = Transposed(tuple(strides), tuple(dilations), Padding(padding.begins, ends))
    return transpose_convolve(call, x.reshape(x.shape[0], -1, *grid), kernel, None, geometry, channels)


def sample_zero(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Bilinear samples of ``x`` (N, C, H, W) at ``rows``/``columns`` (N, P), zero outside: (N, C, P)."""
    height, width = x.shape[2:]
    flat = x.reshape(x.shape[0], x.shape[1], -1)
    top, left = torch.floor(rows), torch.floor(columns)
    total = torch.zeros(x.shape[0], x.shape[1], rows.shape[1], dtype=x.dtype)
    for row, row_weight in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for column, column_weight in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).to(torch.int64)
            values = torch.gather(flat, 2, index[:, None].expand(-1, x.shape[1], -1))
            total = total + values * (row_weight * column_weight * inside)[:, None].to(x.dtype)
    return total


def deformable_convolution(call: Call) -> Result:
    """ONNX DeformConv in two dimensions: bilinear samples at every kernel tap, then a matrix product."""
    x, weight, offset, bias, mask = call.x, call.need(1), call.need(2), call.input(3), call.input(4)
    if x.dim() != 4:
        raise call.unsupported(f"it has {x.dim() - 2} spatial axes; only two are described")
    windows = windows_of(call.node, x.shape[2:], weight.shape[2:])
    batch, channels = x.shape[:2]
    groups, parts = call.get("group", 1), call.get("offset_group", 1)
    height, width = offset.shape[2:]
    rows = torch.arange(height, dtype=x.dtype)[:, None] * windows.strides[0] - windows.padding.begins[0]
    columns = torch.arange(width, dtype=x.dtype)[None, :] * windows.strides[1] - windows.padding.begins[1]
    taps = [
        (i * windows.dilations[0], j * windows.dilations[1])
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    ]
    shifts = offset.reshape(batch, parts, len(taps), 2, height, width)
    sampled: List[torch.Tensor] = []
    for part, piece in enumerate(torch.chunk(x, parts, dim=1)):
        for index, (down, right) in enumerate(taps):
            at_row = (rows + down + shifts[:, part, index, 0]).reshape(batch, -1)
            at_column = (columns + right + shifts[:, part, index, 1]).reshape(batch, -1)
            values = sample_zero(piece, at_row, at_column)
            if mask is not None:
                values = values * mask.reshape(batch, parts, len(taps), -1)[:, part, index][:, None]
            sampled.append(values)
    # (parts, taps) were stacked in that order; bring channels of all parts together before the taps
    stacked = torch.stack(sampled).reshape(parts, len(taps), batch, channels // parts, -1)
    stacked = stacked.permute(2, 0, 3, 1, 4).reshape(batch, groups, channels // groups * len(taps), -1)
    kernel = weight.reshape(groups, weight.shape[0] // groups, -1)
    result = torch.matmul(kernel, stacked).reshape(batch, weight.shape[0], height, width)
    return result if bias is None else result + bias.reshape(-1, 1, 1)


def causal_convolution(call: Call) -> Result:
    """ONNX CausalConvWithState (opset 27): a depthwise convolution over the past; its tail is the state."""
    x, weight, bias, past = call.x, call.need(1), call.input(2), call.input(3)
    keep = weight.shape[-1] - 1
    state = torch.zeros(x.shape[0], x.shape[1], keep, dtype=x.dtype) if past is None else past
    joined = torch.cat([state, x], dim=-1)
    result = functional.conv1d(joined, weight, bias, groups=x.shape[1])
    activation = call.get("activation", "none")
    if activation in ("silu", "swish"):
        result = functional.silu(result)
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

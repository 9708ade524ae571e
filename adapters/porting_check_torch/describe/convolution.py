"""Convolutions and their transposes in one to three dimensions, and sliding blocks (unfold, fold)."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.padding_forms import torch_padding
from porting_check_torch.describe.draft import ACTIVATION, Draft, Ref, spread
from porting_check_torch.describe.table import TABLE, describes

SPATIAL = {1: "L", 2: "HW", 3: "DHW"}


def batched(d: Draft, input: Ref, spatial: int) -> Tuple[str, Callable[[str], None]]:
    """The input with a batch axis, and how to give an output of the same kind (batched or not)."""
    if input.ndim == spatial + 2:
        layout = "NC" + SPATIAL[spatial]
        return d.port(input, "x", layout), lambda name: d.give(name, layout)
    if input.ndim != spatial + 1:
        d.refuse(f"with an input of rank {input.ndim} is not described")
    layout = "C" + SPATIAL[spatial]
    x = d.node("Unsqueeze", d.port(input, "x", layout), d.integers([0], "batch_axis"))
    return x, lambda name: d.give(d.node("Squeeze", name, d.integers([0], "batch_axis")), layout)


def kernel_layout(spatial: int, transposed: bool = False) -> str:
    """How torch stores a kernel, which is the canonical layout too."""
    return ("IO" if transposed else "OI") + SPATIAL[spatial]


def _convolution(spatial: int) -> Callable[..., None]:
    def describe(
        d: Draft,
        input: Ref,
        weight: Ref,
        bias: Optional[Ref] = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        kernel = weight.shape[2:]
        strides, dilations = spread(stride, spatial), spread(dilation, spatial)
        amounts = padding if isinstance(padding, str) else spread(padding, spatial)
        try:
            pads = torch_padding(amounts, kernel, strides, dilations).to_onnx()
        except PaddingError as error:
            d.refuse(f"cannot be described: {error}")
        x, give = batched(d, input, spatial)
        inputs = [x, d.port(weight, "weight", kernel_layout(spatial))]
        inputs += [] if bias is None else [d.port(bias, "bias")]
        attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
        give(d.node("Conv", *inputs, group=int(groups), **attributes))

    return describe


def _transposed(spatial: int) -> Callable[..., None]:
    def describe(
        d: Draft,
        input: Ref,
        weight: Ref,
        bias: Optional[Ref] = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> None:
        crops = spread(padding, spatial)
        x, give = batched(d, input, spatial)
        inputs = [x, d.port(weight, "weight", kernel_layout(spatial, transposed=True))]
        inputs += [] if bias is None else [d.port(bias, "bias")]
        result = d.node(
            "ConvTranspose",
            *inputs,
            kernel_shape=weight.shape[2:],
            strides=spread(stride, spatial),
            dilations=spread(dilation, spatial),
            pads=crops + crops,
            output_padding=spread(output_padding, spatial),
            group=int(groups),
        )
        give(result)

    return describe


for _spatial in (1, 2, 3):
    describes(f"conv{_spatial}d", main=True)(_convolution(_spatial))
    describes(f"conv_transpose{_spatial}d", main=True)(_transposed(_spatial))


@describes("_convolution_mode", main=True)
def convolution_by_word(
    d: Draft,
    input: Ref,
    weight: Ref,
    bias: Optional[Ref],
    stride: Any,
    padding: str,
    dilation: Any,
    groups: int,
) -> None:
    """The form that tracing gives to ``padding="same"`` and ``"valid"``."""
    spatial = weight.ndim - 2
    if spatial not in SPATIAL:
        d.refuse(f"with a kernel of rank {weight.ndim} is not described")
    TABLE[f"conv{spatial}d"](d, input, weight, bias, stride, padding, dilation, groups)


@describes("convolution", "_convolution", main=True)
def convolution(
    d: Draft,
    input: Ref,
    weight: Ref,
    bias: Optional[Ref],
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_flags: Any,
) -> None:
    """The form of all convolutions that torch.export writes."""
    spatial = weight.ndim - 2
    if spatial not in SPATIAL:
        d.refuse(f"with a kernel of rank {weight.ndim} is not described")
    if transposed:
        TABLE[f"conv_transpose{spatial}d"](
            d, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    else:
        TABLE[f"conv{spatial}d"](d, input, weight, bias, stride, padding, dilation, groups)


@describes("_weight_norm")
def weight_norm(d: Draft, v: Ref, g: Ref, dim: int = 0) -> None:
    """``g * v / |v|``, the norm over all axes but ``dim``."""
    others = list(range(v.ndim)) if dim == -1 else [axis for axis in range(v.ndim) if axis != dim % v.ndim]
    direction = d.port(v, "weight_v")
    norm = d.node("ReduceL2", direction, d.integers(others), keepdims=1)
    d.give(d.node("Mul", direction, d.node("Div", d.port(g, "weight_g"), norm)))


@describes("F.unfold", "im2col")
def unfold(
    d: Draft, input: Ref, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> None:
    """Sliding blocks as columns: rows and columns are picked by index, kernel before block position."""
    kernel, dilations, amounts, strides = (spread(v, 2) for v in (kernel_size, dilation, padding, stride))
    if input.ndim != 4:
        d.refuse(f"with an input of rank {input.ndim} is not described")
    n, c, height, width = input.shape
    x = d.port(input, "x", "NCHW")
    if any(amounts):
        pads = (0, 0) + amounts + (0, 0) + amounts
        x = d.node("Pad", x, d.integers(pads, "pads"), d.scalar(0, "value", input.dtype), mode="constant")
    picked = [
        _window_indices(size + 2 * amounts[i], kernel[i], strides[i], dilations[i])
        for i, size in enumerate((height, width))
    ]
    rows = d.node("Gather", x, d.integers(picked[0], "rows"), axis=2)  # N C kh oh W
    both = d.node("Gather", rows, d.integers(picked[1], "columns"), axis=4)  # N C kh oh kw ow
    ordered = d.node("Transpose", both, perm=(0, 1, 2, 4, 3, 5))
    columns = picked[0].shape[1] * picked[1].shape[1]
    d.give(d.reshape(ordered, (n, c * kernel[0] * kernel[1], columns)))


def _window_indices(size: int, kernel: int, stride: int, dilation: int) -> np.ndarray:
    """``(kernel, positions)``: where each kernel element lies for each position of the window."""
    positions = (size - (kernel - 1) * dilation - 1) // stride + 1
    return np.arange(kernel)[:, None] * dilation + np.arange(positions)[None, :] * stride


@describes("F.fold", "col2im")
def fold(
    d: Draft,
    input: Ref,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> None:
    """Overlapping blocks added up."""
    if input.ndim != 3:
        d.refuse(f"with an input of rank {input.ndim} is not described")
    amounts = spread(padding, 2)
    sizes: List[str] = [
        d.integers(spread(output_size, 2), "image_shape"),
        d.integers(spread(kernel_size, 2), "block"),
    ]
    attributes = {"dilations": spread(dilation, 2), "pads": amounts + amounts, "strides": spread(stride, 2)}
    d.give(d.node("Col2Im", d.port(input), *sizes, **attributes), ACTIVATION[4])

"""Operators that slide a window: convolutions and pooling."""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence, Tuple

from porting_check.neutral.padding_forms import onnx_padding
from porting_check.neutral.transposed_padding import onnx_crop, onnx_transposed_pads
from porting_check_onnxruntime.draft import SPATIAL, Draft

Window = Dict[str, Any]


def kernel_layout(spatial: int, transposed: bool = False) -> str:
    """How ONNX stores a kernel, which is the canonical layout too."""
    return ("IO" if transposed else "OI") + SPATIAL.get(spatial, "")


def spatial_axes(d: Draft) -> int:
    """How many axes the window slides along.

    Raises:
        Undescribed: none, or more than three.
    """
    spatial = d.input(0).rank - 2
    if spatial not in SPATIAL:
        d.refuse(f"with an input of rank {d.input(0).rank} is not described")
    return spatial


def window(d: Draft, kernel: Sequence[int], dilated: bool = True) -> Window:
    """Kernel, strides, dilations and pads, all explicit; SAME resolved for the size seen."""
    ones = (1,) * len(kernel)
    strides = tuple(d.get("strides") or ones)
    dilations = tuple(d.get("dilations") or ones)
    # ONNX Runtime leaves dilation out of SAME in pooling
    reach = dilations if dilated else ones
    sizes = d.input(0).shape[2:]
    pads = onnx_padding(d.get("auto_pad", "NOTSET"), d.get("pads") or None, kernel, strides, reach, sizes)
    return {
        "kernel_shape": tuple(kernel),
        "strides": strides,
        "dilations": dilations,
        "pads": tuple(pads.to_onnx()),
    }


def convolution(d: Draft) -> str:
    """A Conv node and its output."""
    spatial = spatial_axes(d)
    attributes = window(d, d.input(1).shape[2:])
    inputs = [d.activation(), d.port(1, "weight", kernel_layout(spatial)), d.port(2, "bias")]
    return d.node("Conv", *inputs, group=int(d.get("group", 1)), **attributes)


def conv(d: Draft) -> None:
    d.give_activation(convolution(d))


def conv_integer(d: Draft) -> None:
    spatial = spatial_axes(d)
    attributes = window(d, d.input(1).shape[2:])
    zeros = [d.port(2, "x_zero_point"), d.port(3, "w_zero_point")]
    inputs = [d.activation(), d.port(1, "weight", kernel_layout(spatial)), *zeros]
    d.give_activation(d.node("ConvInteger", *inputs, group=int(d.get("group", 1)), **attributes))


def conv_transpose(d: Draft) -> None:
    spatial = spatial_axes(d)
    kernel, sizes = d.input(1).shape[2:], d.input(0).shape[2:]
    ones = (1,) * spatial
    strides, dilations = tuple(d.get("strides") or ones), tuple(d.get("dilations") or ones)
    mode, pads, extra = d.get("auto_pad", "NOTSET"), d.get("pads"), d.get("output_padding")
    wanted = d.get("output_shape")
    if wanted is None and mode in ("", "NOTSET"):
        cropped, appended = tuple(pads or (0,) * 2 * spatial), tuple(extra or (0,) * spatial)
    else:
        shape = None if wanted is None else list(wanted)[-spatial:]
        crop = onnx_crop(mode, pads, extra, shape, sizes, kernel, strides, dilations)
        found = onnx_transposed_pads(crop, kernel, strides, dilations)
        cropped, appended = tuple(found[0]), tuple(found[1])
    result = d.node(
        "ConvTranspose",
        d.activation(),
        d.port(1, "weight", kernel_layout(spatial, transposed=True)),
        d.port(2, "bias"),
        kernel_shape=tuple(kernel),
        strides=strides,
        dilations=dilations,
        pads=cropped,
        output_padding=appended,
        group=int(d.get("group", 1)),
    )
    d.give_activation(result)


def _pool(op_type: str, **more: Any) -> Callable[[Draft], None]:
    """A pooling operator with these further attributes and their defaults."""

    def describe(d: Draft) -> None:
        spatial_axes(d)
        attributes = window(d, tuple(d.get("kernel_shape")), dilated=False)
        attributes.update((name, d.get(name, value)) for name, value in more.items())
        results = d.nodes(
            len(d.outputs), op_type, d.activation(), ceil_mode=int(d.get("ceil_mode", 0)), **attributes
        )
        for index, name in enumerate(results):
            d.give_activation(name, index)

    return describe


def _global(op_type: str, **more: Any) -> Callable[[Draft], None]:
    """A pooling operator over all places."""

    def describe(d: Draft) -> None:
        attributes = {name: d.get(name, value) for name, value in more.items()}
        d.give_activation(d.node(op_type, d.activation(), **attributes))

    return describe


def qlinear_conv(d: Draft) -> None:
    """A quantised convolution: x, w and y each with scale and zero point."""
    spatial = spatial_axes(d)
    attributes = window(d, d.input(3).shape[2:])
    roles: Tuple[str, ...] = ("x_scale", "x_zero_point")
    inputs = [d.activation(), *(d.port(place + 1, role) for place, role in enumerate(roles))]
    inputs.append(d.port(3, "weight", kernel_layout(spatial)))
    for place, role in enumerate(("w_scale", "w_zero_point", "y_scale", "y_zero_point", "bias")):
        inputs.append(d.port(place + 4, role))
    d.give_activation(d.node("QLinearConv", *inputs, group=int(d.get("group", 1)), **attributes))


OPERATORS: Dict[str, Callable[[Draft], None]] = {
    "Conv": conv,
    "ConvInteger": conv_integer,
    "ConvTranspose": conv_transpose,
    "QLinearConv": qlinear_conv,
    "MaxPool": _pool("MaxPool", storage_order=0),
    "AveragePool": _pool("AveragePool", count_include_pad=0),
    "LpPool": _pool("LpPool", p=2),
    "GlobalAveragePool": _global("GlobalAveragePool"),
    "GlobalMaxPool": _global("GlobalMaxPool"),
    "GlobalLpPool": _global("GlobalLpPool", p=2),
}

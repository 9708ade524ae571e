"""Convolutions and their transposes: flax linen and nnx (channels last), equinox (channels first, no batch)."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.padding import Padding
from porting_check.neutral.padding_forms import jax_padding
from porting_check.neutral.transposed_padding import jax_crop, onnx_transposed_pads
from porting_check_jax.draft import Draft, Ref
from porting_check_jax.layers import LayerCall
from porting_check_jax.layers_shared import (
    SPATIAL,
    activation,
    amounts,
    fed,
    number,
    optional,
    plain,
    promoted,
    required,
    reversed_axes,
    sizes_of,
)

MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect", "REPLICATE": "edge"}
"""Pad modes of flax (words of ``padding``) and equinox (``padding_mode``) by ONNX' names."""


class Geometry(NamedTuple):
    """Sliding windows of a layer, one number per spatial axis."""

    kernel: Tuple[int, ...]
    strides: Tuple[int, ...]
    dilations: Tuple[int, ...]
    group: int = 1

    @property
    def spatial(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def extents(self) -> Tuple[int, ...]:
        """How far the dilated kernel reaches along each axis."""
        return tuple((size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations))


def pad(d: Draft, x: str, padding: Padding, mode: str, dtype: np.dtype) -> str:
    """A Pad of the spatial axes of a value with batch and channels first."""
    if padding.is_none:
        return x
    pads = (0, 0) + padding.begins + (0, 0) + padding.ends
    fill = [number(d, 0, "value", dtype)] if mode == "constant" else []
    return d.node("Pad", x, d.integers(pads, "pads"), *fill, mode=mode)


def _geometry(call: LayerCall, d: Draft) -> Geometry:
    """That of a flax layer, whose kernel size may be one integer for one axis."""
    size = call.module.kernel_size
    kernel = (int(size),) if isinstance(size, (int, np.integer)) else tuple(int(item) for item in size)
    if not 1 <= len(kernel) <= 3:
        d.refuse(f"over {len(kernel)} spatial axes is not described")
    count = len(kernel)
    strides = amounts(call.module.strides, count)
    dilations = amounts(call.module.kernel_dilation, count)
    return Geometry(kernel, strides, dilations, int(getattr(call.module, "feature_group_count", 1)))


def flax_convolution(call: LayerCall, d: Draft) -> None:
    """``linen.Conv`` and ``nnx.Conv``: any number of batch axes, dilated inputs, padding in any form."""
    plain(call, d)
    x_ref, bias = call.x, optional(call, "bias")
    weight = required(call, d, "kernel")[0]
    geometry = _geometry(call, d)
    dtype = promoted(d, (x_ref, weight, bias), call.module.dtype)
    x, give = activation(d, x_ref, geometry.spatial, dtype)
    letters = SPATIAL[geometry.spatial]
    kernel = fed(d, weight, "weight", dtype, letters + "IO", "OI" + letters)
    sizes = sizes_of(x_ref, geometry.spatial)
    spread = amounts(call.module.input_dilation, geometry.spatial)
    words = call.module.padding
    padding = words if isinstance(words, str) else _pairs(words, geometry.spatial)
    try:
        if padding in MODES:
            before = Padding.from_pairs([((extent - 1) // 2, extent // 2) for extent in geometry.extents])
            x, pads = pad(d, x, before, MODES[padding], dtype), Padding.none(geometry.spatial)
        else:
            pads = jax_padding(padding, geometry.kernel, geometry.strides, geometry.dilations, sizes)
    except PaddingError as error:
        d.refuse(f"cannot be described: {error}")
    x = _dilated(d, x, x_ref, sizes, spread, dtype)
    give(_convolved(d, x, kernel, _bias(d, bias, dtype), geometry, pads))


def _pairs(padding: Any, spatial: int) -> Tuple[Tuple[int, int], ...]:
    """Flax' amounts per axis as pairs (flax.linen.linear.canonicalize_padding)."""
    entries = [padding] * spatial if isinstance(padding, (int, np.integer)) else list(padding)
    return tuple(
        (int(item), int(item)) if isinstance(item, (int, np.integer)) else (int(item[0]), int(item[1]))
        for item in entries
    )


def _bias(d: Draft, bias: Optional[Ref], dtype: np.dtype, spatial: int = 0) -> Tuple[str, ...]:
    """The bias as an optional further input; equinox stores it with axes of size one behind it."""
    if bias is None:
        return ()
    layouts = ("O" + "1" * spatial, "O") if spatial else ("", "")
    return (fed(d, bias, "bias", dtype, *layouts),)


def _convolved(d: Draft, x: str, kernel: str, bias: Sequence[str], geometry: Geometry, pads: Padding) -> str:
    if pads.crops:
        # Negative amounts crop the input, which Conv does not know.
        zeros = (0, 0)
        cropped = (-pads.cropped).to_onnx()
        both = zeros + tuple(cropped[: pads.ndim]) + zeros + tuple(cropped[pads.ndim :])
        x, pads = d.node("Pad", x, d.integers(both, "crop"), mode="constant"), pads.grown
    return d.node(
        "Conv",
        x,
        kernel,
        *bias,
        kernel_shape=geometry.kernel,
        strides=geometry.strides,
        dilations=geometry.dilations,
        pads=pads.to_onnx(),
        group=geometry.group,
    )


def _dilated(d: Draft, x: str, ref: Ref, sizes: Sequence[int], spread: Sequence[int], dtype: np.dtype) -> str:
    """Zeros between the elements of a value (N, C, spatial): ``input_dilation``."""
    if max(spread) == 1:
        return x
    spatial = len(sizes)
    lead = (int(np.prod(ref.shape[: ref.ndim - spatial - 1])), ref.shape[-1])
    apart, padded, joined = list(lead), [0, 0], list(lead)
    for size, step in zip(sizes, spread):
        apart += [size, 1]
        padded += [0, step - 1]
        joined.append(size * step)
    x = d.reshape(x, apart)
    gaps = d.integers([0] * len(padded) + padded, "gaps")
    x = d.node("Pad", x, gaps, number(d, 0, "value", dtype), mode="constant")
    ends = [(size - 1) * step + 1 for size, step in zip(sizes, spread)]
    bounds = [
        d.integers(values, role)
        for values, role in (
            ([0] * spatial, "starts"),
            (ends, "ends"),
            (list(range(2, 2 + spatial)), "axes"),
            ([1] * spatial, "steps"),
        )
    ]
    return d.node("Slice", d.reshape(x, joined), *bounds)


def flax_transposed(call: LayerCall, d: Draft) -> None:
    """``linen.ConvTranspose`` and ``nnx.ConvTranspose``: a convolution of the dilated input.

    Its kernel is ONNX' one with the spatial axes back to front, unless ``transpose_kernel`` is set, which
    flips it and swaps input and output channels (jax.lax.conv_transpose).
    """
    plain(call, d)
    x_ref, bias_ref = call.x, optional(call, "bias")
    weight = required(call, d, "kernel")[0]
    geometry = _geometry(call, d)
    dtype = promoted(d, (x_ref, weight, bias_ref), call.module.dtype)
    x, give = activation(d, x_ref, geometry.spatial, dtype)
    letters, flipped = SPATIAL[geometry.spatial], bool(call.module.transpose_kernel)
    kernel = fed(d, weight, "weight", dtype, letters + ("OI" if flipped else "IO"), "IO" + letters)
    if not flipped:
        kernel = reversed_axes(d, kernel, range(2, 2 + geometry.spatial))
    padding, bias = call.module.padding, _bias(d, bias_ref, dtype)
    around = padding == "CIRCULAR"
    words = "VALID" if around else padding if isinstance(padding, str) else _pairs(padding, geometry.spatial)
    try:
        crop = jax_crop(words, geometry.kernel, geometry.strides, geometry.dilations)
    except PaddingError as error:
        d.refuse(f"cannot be described: {error}")
    if not around:
        give(_transposed(d, x, kernel, bias, geometry, crop, dtype))
        return
    y = _transposed(d, x, kernel, (), geometry, crop, dtype)
    sizes = sizes_of(x_ref, geometry.spatial)
    lead = (int(np.prod(x_ref.shape[: x_ref.ndim - geometry.spatial - 1])), d.out.shape[-1])
    y = _wrapped(d, y, lead, sizes, geometry, flipped, dtype)
    give(_with_bias(d, y, bias, geometry.spatial))


def _with_bias(d: Draft, y: str, bias: Sequence[str], spatial: int) -> str:
    """A bias per channel added after other nodes."""
    if not bias:
        return y
    return d.node("Add", y, d.node("Unsqueeze", bias[0], d.integers(range(1, 1 + spatial), "bias_axes")))


def _transposed(
    d: Draft, x: str, kernel: str, bias: Sequence[str], geometry: Geometry, crop: Padding, dtype: np.dtype
) -> str:
    """A ConvTranspose with this crop; where it appends elements at the begin, a Pad does that afterwards."""
    windows = (geometry.kernel, geometry.strides, geometry.dilations)
    after = None
    try:
        pads, extra = onnx_transposed_pads(crop, *windows)
    except PaddingError:
        pads, extra, after = crop.grown.to_onnx(), [0] * geometry.spatial, crop.cropped
    y = d.node(
        "ConvTranspose",
        x,
        kernel,
        *(bias if after is None else ()),
        kernel_shape=geometry.kernel,
        strides=geometry.strides,
        dilations=geometry.dilations,
        pads=pads,
        output_padding=extra,
        group=geometry.group,
    )
    if after is None:
        return y
    return _with_bias(d, pad(d, y, after, "constant", dtype), bias, geometry.spatial)


def _wrapped(
    d: Draft,
    y: str,
    lead: Tuple[int, int],
    sizes: Sequence[int],
    geometry: Geometry,
    flipped: bool,
    dtype: np.dtype,
) -> str:
    """Flax' ``CIRCULAR``: the full output cut into periods, which are added up (flax.linen.ConvTranspose)."""
    periods = [size * stride for size, stride in zip(sizes, geometry.strides)]
    full = [
        (size - 1) * stride + max(extent, stride)
        for size, stride, extent in zip(sizes, geometry.strides, geometry.extents)
    ]
    rests = [-(have - period) % (2 * period) for have, period in zip(full, periods)]
    small, large = [rest // 2 for rest in rests], [(rest + 1) // 2 for rest in rests]
    around = Padding(*((tuple(small), tuple(large)) if flipped else (tuple(large), tuple(small))))
    y = pad(d, y, around, "constant", dtype)
    shape = list(lead) + [have + total for have, total in zip(full, around.totals)]
    for place, period in enumerate(periods):
        axis = 2 + place
        y = d.reshape(y, shape[:axis] + [shape[axis] // period, period] + shape[axis + 1 :])
        y = d.node("ReduceSum", y, d.integers([axis]), keepdims=0)
        shape[axis] = period
    return y


def equinox_convolution(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.Conv``: one sample, channels first; torch's kernel, a bias with axes of size one."""
    module, bias = call.module, optional(call, "bias")
    weight = required(call, d, "weight")[0]
    geometry = Geometry(module.kernel_size, module.stride, module.dilation, int(module.groups))
    dtype = promoted(d, (call.x, weight, bias))
    x, give = activation(d, call.x, geometry.spatial, dtype, last=False)
    letters = SPATIAL[geometry.spatial]
    kernel = fed(d, weight, "weight", dtype, "OI" + letters)
    windows = (geometry.kernel, geometry.strides, geometry.dilations)
    try:
        pads = jax_padding(module.padding, *windows, sizes=sizes_of(call.x, geometry.spatial, last=False))
    except PaddingError as error:
        d.refuse(f"cannot be described: {error}")
    if module.padding_mode != "ZEROS":
        x, pads = pad(d, x, pads, MODES[module.padding_mode], dtype), Padding.none(geometry.spatial)
    give(_convolved(d, x, kernel, _bias(d, bias, dtype, geometry.spatial), geometry, pads))


def equinox_transposed(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.ConvTranspose``: a convolution of the dilated input, its kernel stored as that of Conv."""
    module, bias_ref = call.module, optional(call, "bias")
    weight = required(call, d, "weight")[0]
    geometry = Geometry(module.kernel_size, module.stride, module.dilation, int(module.groups))
    dtype = promoted(d, (call.x, weight, bias_ref))
    x, give = activation(d, call.x, geometry.spatial, dtype, last=False)
    pads = Padding.from_pairs(module._padding_transpose())
    if module.padding_mode == "CIRCULAR":
        whole = [divmod(amount, step) for amount, step in zip(pads.to_onnx(), geometry.strides * 2)]
        x = pad(d, x, Padding.from_onnx([times for times, _ in whole]), "wrap", dtype)
        pads = Padding.from_onnx([rest for _, rest in whole])
    crop = Padding.symmetric([extent - 1 for extent in geometry.extents]) - pads
    kernel = _regrouped(d, weight, geometry, dtype)
    bias = _bias(d, bias_ref, dtype, geometry.spatial)
    give(_transposed(d, x, kernel, bias, geometry, crop, dtype))


def _regrouped(d: Draft, weight: Ref, geometry: Geometry, dtype: np.dtype) -> str:
    """Equinox' kernel (out, in / group, …) as ONNX' one (in, out / group, …), spatial axes back to front."""
    letters, spatial = SPATIAL[geometry.spatial], geometry.spatial
    if geometry.group == 1:
        kernel = fed(d, weight, "weight", dtype, "OI" + letters, "IO" + letters)
    else:
        group, (outputs, inputs), sizes = geometry.group, weight.shape[:2], weight.shape[2:]
        kernel = d.reshape(fed(d, weight, "weight", dtype), (group, outputs // group, inputs) + tuple(sizes))
        kernel = d.node("Transpose", kernel, perm=(0, 2, 1) + tuple(range(3, 3 + spatial)))
        kernel = d.reshape(kernel, (group * inputs, outputs // group) + tuple(sizes))
    return reversed_axes(d, kernel, range(2, 2 + spatial))

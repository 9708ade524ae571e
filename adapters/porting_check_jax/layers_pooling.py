"""Pooling layers of equinox: one sample, channels first."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np

from porting_check.neutral.node import EXTENSION
from porting_check.neutral.padding import Padding
from porting_check_jax.draft import Draft
from porting_check_jax.layers import LayerCall, LayerDescriber
from porting_check_jax.layers_shared import activation, promoted, sizes_of


def pooling(op_type: str, spatial: int) -> LayerDescriber:
    """A describer of ``MaxPool1d`` … ``AvgPool3d``.

    An average divides by the whole window, padding included; ``use_ceil`` pads the end by one more stride
    where the windows do not come out even (equinox.nn.Pool).
    """

    def describe(call: LayerCall, d: Draft) -> None:
        module, dtype = call.module, promoted(d, (call.x,))
        if not call.x.floating:
            d.refuse(f"of {call.x.dtype.name} is not described")
        x, give = activation(d, call.x, spatial, dtype, last=False)
        sizes = sizes_of(call.x, spatial, last=False)
        pairs: Sequence[Any] = (
            module._update_padding_for_ceil((0,) + sizes) if module.use_ceil else module.padding
        )
        pads = Padding.from_pairs(pairs)
        attributes = {"kernel_shape": module.kernel_size, "strides": module.stride, "pads": pads.to_onnx()}
        attributes.update(dilations=(1,) * spatial, ceil_mode=0)
        if op_type == "AveragePool":
            attributes["count_include_pad"] = 1
        give(d.node(op_type, x, **attributes))

    return describe


def adaptive_pooling(mean: bool, spatial: int) -> LayerDescriber:
    """A describer of ``AdaptiveAvgPool1d`` … ``AdaptiveMaxPool3d``.

    Where the sizes do not divide, equinox makes the first windows longer by one, and none overlap; torch's
    overlap. Only sizes that divide are the adaptive pooling that other frameworks know.
    """

    def describe(call: LayerCall, d: Draft) -> None:
        dtype = promoted(d, (call.x,))
        if not call.x.floating:
            d.refuse(f"of {call.x.dtype.name} is not described")
        x, give = activation(d, call.x, spatial, dtype, last=False)
        sizes = sizes_of(call.x, spatial, last=False)
        wanted = tuple(int(size) for size in call.module.target_shape)
        if any(size < goal for size, goal in zip(sizes, wanted)):
            d.refuse(f"to sizes {wanted}, larger than {sizes}, is not described")
        if not any(size % goal for size, goal in zip(sizes, wanted)):
            if set(wanted) == {1}:
                give(d.node("GlobalAveragePool" if mean else "GlobalMaxPool", x))
                return
            name = "AdaptiveAveragePool" if mean else "AdaptiveMaxPool"
            give(d.nodes(1, name, x, domain=EXTENSION, output_size=wanted)[0])
            return
        lead = call.x.ndim - spatial - 1
        shape = [int(np.prod(call.x.shape[:lead])), call.x.shape[lead]] + list(sizes)
        for place, goal in enumerate(wanted):
            x = _windows(d, x, shape, 2 + place, goal, "ReduceMean" if mean else "ReduceMax")
            shape[2 + place] = goal
        give(x)

    return describe


def _windows(d: Draft, x: str, shape: List[int], axis: int, goal: int, reduce: str) -> str:
    """One axis cut into windows side by side, the first ones longer by one, each reduced to one element."""
    short, longer = divmod(shape[axis], goal)
    sizes = [longer * (short + 1), (goal - longer) * short]
    counts = [(longer, short + 1), (goal - longer, short)]
    pieces = d.nodes(2, "Split", x, d.integers(sizes, "halves"), axis=axis) if longer else (x,)
    parts = []
    for piece, count in zip(pieces, counts if longer else counts[1:]):
        cut = d.reshape(piece, shape[:axis] + list(count) + shape[axis + 1 :])
        parts.append(d.node(reduce, cut, d.integers([axis + 1]), keepdims=0))
    return parts[0] if len(parts) == 1 else d.node("Concat", *parts, axis=axis)

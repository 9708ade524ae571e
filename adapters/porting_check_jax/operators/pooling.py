"""Reductions over windows."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.table import Describer, describes, number, real

SPATIAL = {1: "L", 2: "HW", 3: "DHW"}


def _window(kind: str) -> Describer:
    def describe(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
        real(d, *args)
        ref = args[0]
        if not ref.floating:
            d.refuse("of integers is not described")
        if any(int(n) != 1 for n in params.get("base_dilation") or ()):
            d.refuse("with a dilated input is not described")
        window, strides, dilations = (_amounts(params, name, ref.ndim) for name in _NAMES)
        pooled(d, ref, kind, window, strides, dilations, _pads(params))

    return describe


_NAMES = ("window_dimensions", "window_strides", "window_dilation")


def _amounts(params: Mapping[str, Any], name: str, count: int) -> Tuple[int, ...]:
    return tuple(int(n) for n in params.get(name) or (1,) * count)


def _pads(params: Mapping[str, Any]) -> List[Tuple[int, int]]:
    return [(int(low), int(high)) for low, high in params["padding"]]


def pooled(
    d: Draft,
    ref: Ref,
    kind: str,
    window: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[Tuple[int, int]],
) -> None:
    """Give a pooling over all axes of which the window takes more than one element.

    Args:
        d: the draft.
        ref: the input, axes in any order.
        kind: ``"max"``, ``"min"``, ``"sum"``, ``"mean"`` (padding counted) or ``"mean of present"`` (not counted).
        window: size along every axis.
        strides: along every axis.
        dilations: of the window along every axis.
        pads: before and after every axis.
    """
    moved = [n for n in range(ref.ndim) if (window[n], strides[n], pads[n]) != (1, 1, (0, 0))] or [
        ref.ndim - 1
    ]
    if len(moved) > 3 or any(low < 0 or high < 0 for low, high in pads):
        d.refuse("over these axes is not described")
    native = channel_layout(ref.ndim, moved)
    chosen = [[values[axis] for axis in moved] for values in (window, strides, dilations, pads)]
    if native:
        canonical = "NC" + SPATIAL[len(moved)]
        d.give(_pool(d, d.port(ref, "x", native, canonical), ref, kind, *chosen), native, canonical)
        return
    others = [axis for axis in range(ref.ndim) if axis not in moved]
    order = others + moved
    x = d.node("Transpose", d.port(ref), perm=tuple(order))
    x = d.reshape(
        x, [1, int(np.prod([ref.shape[axis] for axis in others]))] + [ref.shape[axis] for axis in moved]
    )
    y = d.reshape(_pool(d, x, ref, kind, *chosen), [d.out.shape[axis] for axis in order])
    d.give(d.node("Transpose", y, perm=tuple(order.index(axis) for axis in range(ref.ndim))))


def channel_layout(ndim: int, moved: Sequence[int]) -> str:
    """The layout of an activation whose spatial axes are these; "" where batch and channels cannot be told.

    Example:
        >>> channel_layout(4, [1, 2]), channel_layout(4, [2, 3]), channel_layout(4, [1])
        ('NHWC', 'NCHW', '')
    """
    letters = SPATIAL[len(moved)]
    if ndim != len(moved) + 2:
        return ""
    if list(moved) == list(range(1, ndim - 1)):
        return f"N{letters}C"
    return f"NC{letters}" if list(moved) == list(range(2, ndim)) else ""


def _pool(d: Draft, x: str, ref: Ref, kind: str, window: Any, strides: Any, dilations: Any, pads: Any) -> str:
    shared = {
        "kernel_shape": tuple(window), "strides": tuple(strides), "dilations": tuple(dilations),
        "pads": tuple(low for low, _ in pads) + tuple(high for _, high in pads), "ceil_mode": 0,
    }  # fmt: skip
    if kind == "max":
        return d.node("MaxPool", x, storage_order=0, **shared)
    if kind == "min":
        return d.node("Neg", d.node("MaxPool", d.node("Neg", x), storage_order=0, **shared))
    mean = d.node("AveragePool", x, count_include_pad=int(kind != "mean of present"), **shared)
    if kind != "sum":
        return mean
    return d.node("Mul", mean, number(d, float(np.prod(window)), ref, "count"))


describes("reduce_window_max")(_window("max"))
describes("reduce_window_min")(_window("min"))
describes("reduce_window_sum")(_window("sum"))

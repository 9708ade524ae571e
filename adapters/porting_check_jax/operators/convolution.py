"""Convolutions in any order of axes, and those of a dilated input, which are transposed convolutions."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence, Tuple

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.movement import LAST, cut
from porting_check_jax.operators.table import describes, real

SPATIAL = {1: "L", 2: "HW", 3: "DHW"}


def layout_of(places: Sequence[int], letters: str) -> str:
    """Which letter lies where.

    Example:
        >>> layout_of((0, 3, 1, 2), "NCHW"), layout_of((3, 2, 0, 1), "OIHW")
        ('NHWC', 'HWIO')
    """
    found = [""] * len(places)
    for letter, place in zip(letters, places):
        found[place] = letter
    return "".join(found)


@describes("conv_general_dilated")
def convolution(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``Conv``, or ``ConvTranspose`` where the input is dilated."""
    real(d, *args)
    numbers = params["dimension_numbers"]
    spatial = args[0].ndim - 2
    if spatial not in SPATIAL:
        d.refuse(f"over {spatial} axes is not described")
    if int(params["batch_group_count"]) != 1:
        d.refuse("with batch groups is not described")
    letters = SPATIAL[spatial]
    layouts = [
        layout_of(getattr(numbers, spec), kind + letters)
        for spec, kind in (("lhs_spec", "NC"), ("rhs_spec", "OI"), ("out_spec", "NC"))
    ]
    dilated = [int(n) for n in params["lhs_dilation"]]
    x = d.cast(d.port(args[0], "x", layouts[0], "NC" + letters), args[0].dtype, d.out.dtype)
    sizes = [args[0].shape[axis] for axis in numbers.lhs_spec]
    kernel = [args[1].shape[axis] for axis in numbers.rhs_spec[2:]]
    if any(n > 1 for n in dilated):
        y = _transposed(d, x, args, params, (layouts[1], letters), kernel)
    else:
        weight = d.cast(d.port(args[1], "weight", layouts[1], "OI" + letters), args[1].dtype, d.out.dtype)
        pads, x = _cropped(d, x, sizes, params["padding"])
        y = d.node(
            "Conv", x, weight, kernel_shape=tuple(kernel), strides=_ints(params["window_strides"]),
            dilations=_ints(params["rhs_dilation"]), group=int(params["feature_group_count"]), pads=pads,
        )  # fmt: skip
    d.give(y, layouts[2], "NC" + letters)


def _ints(values: Any) -> Tuple[int, ...]:
    return tuple(int(value) for value in values)


def _cropped(d: Draft, x: str, sizes: Sequence[int], padding: Any) -> Tuple[Tuple[int, ...], str]:
    """Amounts to pad, after negative ones have cut the input."""
    pairs: List[Tuple[int, int]] = [(int(low), int(high)) for low, high in padding]
    starts = [0, 0] + [max(-low, 0) for low, _ in pairs]
    ends = list(sizes[:2]) + [size + min(high, 0) for size, (_, high) in zip(sizes[2:], pairs)]
    x = cut(d, x, starts, ends, [1] * len(sizes), sizes)
    return tuple(max(low, 0) for low, _ in pairs) + tuple(max(high, 0) for _, high in pairs), x


def _transposed(
    d: Draft,
    x: str,
    args: Sequence[Ref],
    params: Mapping[str, Any],
    layout: Tuple[str, str],
    kernel: Sequence[int],
) -> str:
    """A convolution of an input with zeros between its elements.

    It is the transpose of one with those strides, its kernel back to front; ``(k - 1) * dilation - padding`` is
    cropped from its output, or padded where that is negative.
    """
    if any(int(n) != 1 for n in params["window_strides"]):
        d.refuse("of a dilated input with strides is not described")
    if int(params["feature_group_count"]) != 1:
        d.refuse("of a dilated input in groups is not described")
    native, letters = layout
    weight = d.cast(d.port(args[1], "weight", native, "IO" + letters), args[1].dtype, d.out.dtype)
    count = len(kernel)
    bounds = [d.integers([-1] * count, "starts"), d.integers([LAST] * count, "ends")]
    axes = d.integers([2 + axis for axis in range(count)])
    weight = d.node("Slice", weight, *bounds, axes, d.integers([-1] * count, "steps"))
    dilations = _ints(params["rhs_dilation"])
    reach = [(size - 1) * step for size, step in zip(kernel, dilations)]
    crops = [(far - int(low), far - int(high)) for far, (low, high) in zip(reach, params["padding"])]
    pads = tuple(max(low, 0) for low, _ in crops) + tuple(max(high, 0) for _, high in crops)
    y = d.node(
        "ConvTranspose", x, weight, kernel_shape=tuple(kernel), strides=_ints(params["lhs_dilation"]),
        dilations=dilations, group=1, pads=pads, output_padding=(0,) * count,
    )  # fmt: skip
    grown = [0, 0] + [max(-low, 0) for low, _ in crops] + [0, 0] + [max(-high, 0) for _, high in crops]
    if any(grown):
        y = d.node("Pad", y, d.integers(grown, "pads"), d.scalar(0, "value", d.out.dtype), mode="constant")
    return y

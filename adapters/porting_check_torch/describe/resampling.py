"""Resizing, pixel shuffling, grid sampling."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from porting_check.neutral.node import EXTENSION
from porting_check_torch.describe.draft import ACTIVATION, Draft, Ref
from porting_check_torch.describe.table import describes

INTERPOLATION = {
    "nearest": "nearest",
    "nearest-exact": "nearest",
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
    "bicubic": "cubic",
}
"""Modes of torch.nn.functional.interpolate as ONNX Resize names them."""


def _resize_attributes(mode: str, align_corners: Optional[bool], antialias: bool) -> Dict[str, Any]:
    """Nearest is ``floor(i * scale)``, cubic has a = -0.75 (-0.5 and cut-off weights with antialias)."""
    coordinates = "align_corners" if align_corners else "asymmetric" if mode == "nearest" else "half_pixel"
    return {
        "mode": INTERPOLATION[mode],
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": "floor" if mode == "nearest" else "round_prefer_ceil",
        "cubic_coeff_a": -0.5 if antialias else -0.75,
        "antialias": int(antialias),
        "exclude_outside": int(antialias),
    }


@describes("interpolate")
def interpolate(
    d: Draft,
    input: Ref,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Optional[bool] = None,
    recompute_scale_factor: Optional[bool] = None,
    antialias: bool = False,
) -> None:
    """``Resize`` to the sizes seen, or by ``scales`` where torch uses factors that do not fit the sizes."""
    spatial = input.ndim - 2
    layout, target = ACTIVATION.get(input.ndim, ""), d.out.shape[2:]
    x = d.port(input, "x", layout)
    if mode == "area":
        whole = set(target) == {1}
        pooled = d.node("GlobalAveragePool", x) if whole else ""
        d.give(
            pooled or d.nodes(1, "AdaptiveAveragePool", x, domain=EXTENSION, output_size=target)[0], layout
        )
        return
    factors = None if size is not None or recompute_scale_factor else _factors(scale_factor, spatial)
    attributes = _resize_attributes(mode, align_corners, antialias)
    exact = factors is None or all(f * n == t for f, n, t in zip(factors, input.shape[2:], target))
    if INTERPOLATION[mode] == "nearest":
        ways = [
            (n, t, None if exact else f, mode) for n, t, f in zip(input.shape[2:], target, factors or target)
        ]
        rows = [_picked(*way) for way in ways]
        if not all(np.array_equal(row, _formula(*way)) for row, way in zip(rows, ways)):
            for place, row in enumerate(rows):
                x = d.node("Gather", x, d.integers(row, "indices"), axis=place + 2)
            d.give(x, layout)
            return
    if exact or align_corners:
        sizes = d.integers(input.shape[:2] + tuple(target), "sizes")
        d.give(d.node("Resize", x, "", "", sizes, **attributes), layout)
    else:
        scales = d.constant(np.array([1.0, 1.0] + list(factors or ()), np.float32), "scales")
        d.give(d.node("Resize", x, "", scales, **attributes), layout)


def _picked(size: int, target: int, factor: Optional[float], mode: str) -> np.ndarray:
    """Which elements torch takes along an axis.

    It multiplies in float32: a coordinate that is a whole number may come out just below it, and then the
    formula fails.
    """
    how: Dict[str, Any] = {"size": target} if factor is None else {"scale_factor": factor}
    line = torch.arange(size, dtype=torch.float32).reshape(1, 1, size)
    taken: np.ndarray = torch.nn.functional.interpolate(line, mode=mode, **how).reshape(-1).numpy()
    return taken.astype(np.int64)


def _formula(size: int, target: int, factor: Optional[float], mode: str) -> np.ndarray:
    """``floor(i * scale)``, or ``floor((i + 1/2) * scale)`` for nearest-exact, within the axis."""
    scale = size / target if factor is None else 1.0 / float(np.float32(factor))
    places = np.floor((np.arange(target) + (0.5 if mode == "nearest-exact" else 0.0)) * scale)
    return np.clip(places, 0, size - 1).astype(np.int64)


def _factors(scale_factor: Any, spatial: int) -> Tuple[float, ...]:
    factors = scale_factor if isinstance(scale_factor, (list, tuple)) else [scale_factor] * spatial
    return tuple(float(factor) for factor in factors)


def _upsample(mode: str, aligned: bool, antialias: bool = False) -> Any:
    """The forms that torch.export writes: ``(input, output_size, [align_corners,] scale_factors)``."""

    def describe(d: Draft, input: Ref, output_size: Any, *rest: Any) -> None:
        align_corners = bool(rest[0]) if aligned and rest else None
        factors = rest[1 if aligned else 0] if len(rest) > int(aligned) else None
        size = None if isinstance(factors, (list, tuple)) and factors else output_size
        interpolate(d, input, size, factors, mode, align_corners, None, antialias)

    return describe


for _name, _mode in (
    ("linear1d", "linear"),
    ("bilinear2d", "bilinear"),
    ("trilinear3d", "trilinear"),
    ("bicubic2d", "bicubic"),
):
    describes(f"upsample_{_name}")(_upsample(_mode, True))
    describes(f"_upsample_{_name}_aa")(_upsample(_mode, True, True))
for _spatial in (1, 2, 3):
    describes(f"upsample_nearest{_spatial}d")(_upsample("nearest", False))
    describes(f"_upsample_nearest_exact{_spatial}d")(_upsample("nearest-exact", False))


@describes("pixel_shuffle")
def pixel_shuffle(d: Draft, input: Ref, upscale_factor: int) -> None:
    """Channels are read as ``(C, r, r)``."""
    layout = _image(d, input)
    d.give(
        d.node("DepthToSpace", d.port(input, "x", layout), blocksize=int(upscale_factor), mode="CRD"), layout
    )


@describes("pixel_unshuffle")
def pixel_unshuffle(d: Draft, input: Ref, downscale_factor: int) -> None:
    """Blocks go to channels in the order ``(C, r, r)``, which ONNX SpaceToDepth cannot say."""
    layout, r = _image(d, input), int(downscale_factor)
    n, c, height, width = input.shape
    x = d.reshape(d.port(input, "x", layout), (n, c, height // r, r, width // r, r))
    x = d.node("Transpose", x, perm=(0, 1, 3, 5, 2, 4))
    d.give(d.reshape(x, (n, c * r * r, height // r, width // r)), layout)


@describes("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(d: Draft, input: Ref, groups: int) -> None:
    """Channels dealt out from groups, one of each in turn."""
    layout = ACTIVATION.get(input.ndim, "")
    n, c, rest = input.shape[0], input.shape[1], input.shape[2:]
    x = d.reshape(d.port(input, "x", layout), (n, int(groups), c // int(groups)) + rest)
    x = d.node("Transpose", x, perm=(0, 2, 1) + tuple(range(3, 3 + len(rest))))
    d.give(d.reshape(x, input.shape), layout)


def _image(d: Draft, input: Ref) -> str:
    if input.ndim != 4:
        d.refuse(f"with an input of rank {input.ndim} is not described")
    return ACTIVATION[4]


SAMPLING = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
"""aten's numbers for the interpolation and padding modes."""


@describes("grid_sample")
def grid_sample(
    d: Draft,
    input: Ref,
    grid: Ref,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: Optional[bool] = None,
) -> None:
    """Values at the points of a grid with coordinates from -1 to 1, x first."""
    layout = ACTIVATION.get(input.ndim, "")
    modes = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
    attributes = {
        "mode": modes[mode],
        "padding_mode": padding_mode,
        "align_corners": int(bool(align_corners)),
    }
    d.give(
        d.node("GridSample", d.port(input, "x", layout), d.operand(grid, "grid", input.dtype), **attributes),
        layout,
    )


@describes("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(
    d: Draft, input: Ref, grid: Ref, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> None:
    """The same with numbers for the modes."""
    grid_sample(d, input, grid, SAMPLING[0][interpolation_mode], SAMPLING[1][padding_mode], align_corners)


@describes("affine_grid")
def affine_grid(d: Draft, theta: Ref, size: Sequence[int], align_corners: Optional[bool] = None) -> None:
    """The grid of an affine map of the plane: ``base @ theta^T``, the base a constant of the sizes."""
    if len(size) != 4:
        d.refuse("in three dimensions is not described")
    axes_: List[np.ndarray] = []
    for count in (int(size[3]), int(size[2])):
        points = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
        axes_.append(points if align_corners else points * (count - 1) / count)
    x, y = np.meshgrid(*axes_)
    base = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float64)
    maps = d.node("Transpose", d.port(theta, "theta"), perm=(0, 2, 1))
    points_ = d.node("MatMul", d.constant(base.astype(np.float32), "base"), maps)
    d.give(d.reshape(points_, d.out.shape))

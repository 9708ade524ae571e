"""Resize, grid sampling and regions of interest."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch.nn import functional

from porting_check.neutral.geometry import Axis, resize_axes
from porting_check_torch.run_call import Call, Handler, Result
from porting_check_torch.run_taps import taps

GRID_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


def resize(call: Call) -> Result:
    """ONNX Resize: by ``functional.interpolate`` where it means the same, else gathers along each axis."""
    scales = None if call.input(2) is None else [float(value) for value in call.need(2).reshape(-1).tolist()]
    roi = None if call.input(1) is None else [float(value) for value in call.need(1).reshape(-1).tolist()]
    axes = resize_axes(call.node, call.x.shape, roi or None, scales or None, call.integers(3) or None)
    native = _native(call, axes)
    if native is not None:
        sizes = tuple(axis.size for axis in axes[2:])
        return functional.interpolate(call.x, size=sizes, **native)
    return _by_taps(call, axes)


def upsample(call: Call) -> Result:
    """ONNX Upsample (until opset 9): Resize with asymmetric coordinates, nearest by floor."""
    scales = [float(value) for value in call.need(1).reshape(-1).tolist()]
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    asked = Call(call.node.edit(**settings), [call.x], call.dtypes, call.float64)
    return _by_taps(asked, resize_axes(asked.node, call.x.shape, None, scales, None))


def _native(call: Call, axes: Sequence[Axis]) -> Optional[Dict[str, Any]]:
    """Arguments of ``functional.interpolate`` when it computes exactly this node, else ``None``."""
    get = call.get
    rank = len(axes) - 2
    changed = [axis for axis in axes if axis.scale != 1.0]
    spatial = 1 <= rank <= 3 and all(axis.scale == 1.0 for axis in axes[:2])
    exact = all(axis.scale == axis.size / axis.length and axis.size > 1 for axis in changed)
    if not (spatial and exact and call.x.is_floating_point()):
        return None
    mode, where = get("mode", "nearest"), get("coordinate_transformation_mode", "half_pixel")
    antialias, exclude = bool(get("antialias", 0)), bool(get("exclude_outside", 0))
    coefficient = get("cubic_coeff_a", -0.75)
    if mode == "nearest":
        whole = all(axis.size % axis.length == 0 or axis.length % axis.size == 0 for axis in axes)
        floor = where == "asymmetric" and get("nearest_mode", "round_prefer_floor") == "floor"
        return {"mode": "nearest"} if floor and whole else None
    if where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return None
    corners = where == "align_corners"
    if antialias:
        fits = rank == 2 and exclude and not corners and (mode == "linear" or coefficient == -0.5)
        return {"mode": {"linear": "bilinear"}.get(mode, "bicubic"), "antialias": True} if fits else None
    if mode == "linear":
        return {"mode": ("linear", "bilinear", "trilinear")[rank - 1], "align_corners": corners}
    fits = rank == 2 and coefficient == -0.75 and not exclude
    return {"mode": "bicubic", "align_corners": corners} if fits else None


def _by_taps(call: Call, axes: Sequence[Axis]) -> torch.Tensor:
    """One axis after the other: gather the taps of every place and add them up by weight."""
    x = call.x
    result = x if x.is_floating_point() else x.to(torch.float32)
    outside = torch.zeros(1, dtype=torch.bool)
    for dim, axis in enumerate(axes):
        if axis.plain:
            continue
        chosen = taps(axis, call.node)
        size, count = chosen.places.shape
        gathered = result.index_select(dim, chosen.places.reshape(-1)).unflatten(dim, (size, count))
        after = (1,) * (x.dim() - dim - 1)
        result = (gathered * chosen.weights.to(result.dtype).reshape((size, count) + after)).sum(dim + 1)
        outside = outside | chosen.outside.reshape((-1,) + after)
    if bool(outside.any()):
        result = torch.where(outside, torch.full_like(result, call.get("extrapolation_value", 0.0)), result)
    if x.is_floating_point():
        return result
    limits = torch.iinfo(x.dtype)
    return torch.clamp(torch.round(result), limits.min, limits.max).to(x.dtype)


def grid_sample(call: Call) -> Result:
    """ONNX GridSample, as ``functional.grid_sample``."""
    mode = GRID_MODES[call.get("mode", "linear")]
    if mode == "bicubic" and call.x.dim() != 4:
        raise call.unsupported("torch samples cubically only in two spatial dimensions")
    padding = call.get("padding_mode", "zeros")
    return functional.grid_sample(call.x, call.need(1), mode, padding, bool(call.get("align_corners", 0)))


def affine_grid(call: Call) -> Result:
    """ONNX AffineGrid, as ``functional.affine_grid``."""
    return functional.affine_grid(call.x, call.integers(1) or [], bool(call.get("align_corners", 0)))


def _line(
    start: torch.Tensor, step: torch.Tensor, bins: int, samples: int, length: int
) -> Tuple[torch.Tensor, ...]:
    """Samples along one axis of a region: lower and upper index, weights (zero beyond a pixel outside)."""
    fractions = (torch.arange(samples, dtype=start.dtype) + 0.5) / samples
    places = (start + (torch.arange(bins, dtype=start.dtype)[:, None] + fractions[None, :]) * step).reshape(
        -1
    )
    valid = ((places >= -1.0) & (places <= length)).to(start.dtype)
    places = places.clamp(0.0, length - 1.0)
    low = torch.floor(places)
    high = (low + 1).clamp(max=length - 1)
    part = places - low
    return low.to(torch.int64), high.to(torch.int64), (1 - part) * valid, part * valid


def _align_one(call: Call, image: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """One region of one image (C, H, W), pooled to the node's output size."""
    half = call.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    bins = (call.get("output_height", 1), call.get("output_width", 1))
    corners = region * call.get("spatial_scale", 1.0) - (0.5 if half else 0.0)
    lines = []
    for axis in (0, 1):
        start, extent = corners[1 - axis], corners[3 - axis] - corners[1 - axis]
        extent = extent if half else extent.clamp(min=1.0)
        step = extent / bins[axis]
        samples = call.get("sampling_ratio", 0) or max(1, int(torch.ceil(step).item()))
        lines.append((_line(start, step, bins[axis], samples, image.shape[1 + axis]), samples))
    (top, bottom, top_weight, bottom_weight), rows = lines[0]
    (left, right, left_weight, right_weight), columns = lines[1]
    products: List[torch.Tensor] = []
    for row, row_weight in ((top, top_weight), (bottom, bottom_weight)):
        for column, column_weight in ((left, left_weight), (right, right_weight)):
            corner = image.index_select(1, row).index_select(2, column)
            products.append(corner * row_weight[:, None] * column_weight[None, :])
    stacked = torch.stack(products)
    best = call.get("mode", "avg") == "max"
    sampled = stacked.amax(0) if best else stacked.sum(0)
    cells = sampled.reshape(image.shape[0], bins[0], rows, bins[1], columns)
    return cells.amax((2, 4)) if best else cells.mean((2, 4))


def roi_align(call: Call) -> Result:
    """ONNX RoiAlign: bilinear samples of each region, averaged (or their largest product) per bin."""
    batches: List[int] = call.integers(2) or []
    regions = call.need(1)
    if not batches:
        shape = (0, call.x.shape[1], call.get("output_height", 1), call.get("output_width", 1))
        return call.x.new_zeros(shape)
    return torch.stack(
        [_align_one(call, call.x[batch], regions[index]) for index, batch in enumerate(batches)]
    )


OPERATORS: Dict[str, Handler] = {
    "Resize": resize,
    "Upsample": upsample,
    "GridSample": grid_sample,
    "AffineGrid": affine_grid,
    "RoiAlign": roi_align,
}

"""Resizing, sampling grids, regions; the first forms of Resize and Upsample said less than those of today."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

import numpy as np

from porting_check_onnxruntime.draft import ACTIVATION, Draft

FIRST = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""How Upsample, and Resize of opset 10, find places (ONNX Runtime: upsample.cc)."""

MODERN = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}


def upsample(d: Draft) -> None:
    """Upsample, and Resize of opset 10: nothing but scales."""
    scales = d.value(1, "scales") if d.has(1) else d.get("scales")
    if scales is None:
        d.refuse("without scales is not described")
    mode = {"bilinear": "linear"}.get(d.get("mode", "nearest"), d.get("mode", "nearest"))
    _resize(d, mode, FIRST, scales, None)


def resize(d: Draft) -> None:
    if d.opset < 11:
        upsample(d)
        return
    scales, sizes = d.value(2, "scales"), d.value(3, "sizes")
    scales = None if scales is None or not scales.size or sizes is not None and sizes.size else scales
    ways = {name: d.get(name, default) for name, default in MODERN.items()}
    _resize(d, d.get("mode", "nearest"), ways, scales, sizes)


def _resize(d: Draft, mode: str, ways: Dict[str, Any], scales: Any, sizes: Optional[np.ndarray]) -> None:
    """The node; sizes are told of every axis that scales are told of."""
    attributes = {"mode": mode, "cubic_coeff_a": float(d.get("cubic_coeff_a", -0.75)), **ways}
    attributes["exclude_outside"] = int(d.get("exclude_outside", 0))
    attributes["extrapolation_value"] = float(d.get("extrapolation_value", 0.0))
    attributes["antialias"] = int(d.get("antialias", 0))
    rank, axes = d.input(0).rank, d.get("axes")
    if axes is not None and sizes is not None and d.get("keep_aspect_ratio_policy", "stretch") == "stretch":
        full = list(d.input(0).shape)
        for place, axis in enumerate(axes):
            full[axis % rank] = int(sizes[place])
        sizes, axes = np.asarray(full), None
    if axes is not None:
        attributes["axes"] = tuple(axes)
    if sizes is not None:
        attributes["keep_aspect_ratio_policy"] = d.get("keep_aspect_ratio_policy", "stretch")
    crops = ways["coordinate_transformation_mode"] == "tf_crop_and_resize"
    roi = d.port(1, "roi") if crops and d.has(1) else ""
    how = (
        ["", d.integers(sizes, "sizes")]
        if sizes is not None
        else [d.constant(np.asarray(scales, np.float32), "scales")]
    )
    layout = ACTIVATION[rank] if rank in (3, 4, 5) else ""
    d.give(d.node("Resize", d.port(0, "x", layout), roi, *how, **attributes), layout)


def grid_sample(d: Draft) -> None:
    """The modes were called bilinear and bicubic until opset 20."""
    mode = d.get("mode", "bilinear" if d.opset < 20 else "linear")
    attributes = {
        "mode": {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
        "padding_mode": d.get("padding_mode", "zeros"),
        "align_corners": int(d.get("align_corners", 0)),
    }
    d.give_activation(d.node("GridSample", d.activation(), d.port(1, "grid"), **attributes))


def roi_align(d: Draft) -> None:
    """Until opset 16 without the half pixel."""
    attributes = {
        "mode": d.get("mode", "avg"),
        "output_height": int(d.get("output_height", 1)),
        "output_width": int(d.get("output_width", 1)),
        "sampling_ratio": int(d.get("sampling_ratio", 0)),
        "spatial_scale": float(d.get("spatial_scale", 1.0)),
        "coordinate_transformation_mode": d.get(
            "coordinate_transformation_mode", "half_pixel" if d.opset >= 16 else "output_half_pixel"
        ),
    }
    layout = ACTIVATION[4]
    inputs = [d.port(0, "x", layout), d.port(1, "rois"), d.port(2, "batch_indices")]
    d.give(d.node("RoiAlign", *inputs, **attributes), layout)


def dft(d: Draft) -> None:
    """The axis was an attribute until opset 20."""
    attributes = {"inverse": int(d.get("inverse", 0)), "onesided": int(d.get("onesided", 0))}
    axis = (
        d.port(2, "axis") if d.has(2) else d.integers(int(d.get("axis", -2 if d.opset >= 20 else 1)), "axis")
    )
    d.give(d.node("DFT", d.port(0), d.port(1, "length"), axis, **attributes))


OPERATORS: Dict[str, Callable[[Draft], None]] = {
    "Upsample": upsample,
    "Resize": resize,
    "GridSample": grid_sample,
    "RoiAlign": roi_align,
    "DFT": dft,
}

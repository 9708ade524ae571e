"""Resizing images, and moving space into channels or batch and back."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from porting_check_tensorflow.operators.call import ONNX_TYPES, Call, channel_layouts, describes

RESIZE: Dict[str, Any] = {
    "mode": "linear",
    "nearest_mode": "round_prefer_floor",
    "cubic_coeff_a": -0.75,
    "antialias": 0,
    "exclude_outside": 0,
}
"""Attributes of ``Resize`` unless an operator says otherwise; what a mode does not use has ONNX's default."""


def _grid(call: Call) -> str:
    """ONNX's name for the map from output to input coordinates."""
    if call.flag("align_corners"):
        return "align_corners"
    return "half_pixel" if call.flag("half_pixel_centers") else "asymmetric"


def _image(call: Call, widen: bool) -> Tuple[str, str]:
    """The image as a port, cast where the operator computes in float32, and the constant of output sizes."""
    value = call.port(0, "x", "NHWC", "NCHW")
    if widen and call.inputs[0].dtype != call.outputs[0].dtype:
        value = call.node("Cast", value, to=ONNX_TYPES[call.outputs[0].dtype])
    batch, height, width, channels = call.outputs[0].shape
    return value, call.constant([batch, channels, height, width], "sizes")


@describes("ResizeBilinear", "ResizeBicubic")
def resize_smoothly(call: Call) -> None:
    """``Resize``; the cubic is a=-0.5 without what lies outside for half-pixel centers, else a=-0.75.

    TensorFlow reads its cubic weights from a table of 1024 offsets (resize_bicubic_op.cc), so at scales that
    are not dyadic it differs from this node by about 1e-4: a fact about TensorFlow, not a mistake of a port.
    """
    value, sizes = _image(call, widen=True)
    grid = _grid(call)
    attributes = dict(RESIZE, coordinate_transformation_mode=grid)
    if call.op_type == "ResizeBicubic":
        half = grid == "half_pixel"
        attributes.update(mode="cubic", cubic_coeff_a=-0.5 if half else -0.75, exclude_outside=int(half))
    call.give(call.node("Resize", value, "", "", sizes, **attributes), 0, "NHWC", "NCHW")


@describes("ResizeNearestNeighbor")
def resize_nearest(call: Call) -> None:
    """``Resize(mode=nearest)``, or explicit positions where float32 picks another neighbour."""
    grid = _grid(call)
    _, height, width, _ = call.shape()
    _, rows, columns, _ = call.outputs[0].shape
    found = [_neighbours(*axis, grid, np.float32) for axis in ((height, rows), (width, columns))]
    exact = [_neighbours(*axis, grid, np.float64) for axis in ((height, rows), (width, columns))]
    if all(np.array_equal(a, b) for a, b in zip(found, exact)):
        value, sizes = _image(call, widen=False)
        rule = "floor" if grid == "asymmetric" else "round_prefer_ceil"
        attributes = dict(RESIZE, mode="nearest", coordinate_transformation_mode=grid, nearest_mode=rule)
        value = call.node("Resize", value, "", "", sizes, **attributes)
    else:
        value = call.port(0, "x", "NHWC", "NCHW")
        for axis, places in ((2, found[0]), (3, found[1])):
            value = call.node("Gather", value, call.constant(places, "places"), axis=axis)
    call.give(value, 0, "NHWC", "NCHW")


def _neighbours(size: int, wanted: int, grid: str, precision: type) -> np.ndarray:
    """Which input entry each output entry takes, in a precision (tensorflow/core/util/image_resizer_state.h).

    Example:
        >>> _neighbours(2, 4, "asymmetric", np.float32).tolist()
        [0, 0, 1, 1]
    """
    corners = grid == "align_corners" and wanted > 1
    scale = precision(size - 1) / precision(wanted - 1) if corners else precision(size) / precision(wanted)
    place: np.ndarray = np.arange(wanted).astype(precision)
    if grid == "half_pixel":
        coordinate = np.floor((place + precision(0.5)) * scale)
    else:
        coordinate = np.floor(place * scale + precision(0.5 if grid == "align_corners" else 0))
    return np.clip(coordinate, 0, size - 1).astype(np.int64)


@describes("SpaceToDepth", "DepthToSpace")
def space_and_depth(call: Call) -> None:
    """The same order in ONNX: the block's row, its column, then the channel (``mode=DCR``)."""
    native, canonical = channel_layouts(call.rank(), call.text("data_format", "NHWC"))
    attributes: Dict[str, Any] = {"blocksize": call.integer("block_size")}
    if call.op_type == "DepthToSpace":
        attributes = dict(attributes, mode="DCR")
    call.give(
        call.node(call.op_type, call.port(0, "x", native, canonical), **attributes), 0, native, canonical
    )


@describes("SpaceToBatchND", "SpaceToBatch")
def space_to_batch(call: Call) -> None:
    """Padded, cut into blocks, the places within a block moved in front of the batch (tf.space_to_batch)."""
    block, amounts = _blocks(call)
    rest = list(call.shape()[1 + len(block) :])
    padded = [size + sum(pair) for size, pair in zip(call.shape()[1:], amounts)]
    value = call.port(0)
    if any(map(any, amounts)):
        tail = [0] * len(rest)
        begins, ends = ([pair[side] for pair in amounts] for side in (0, 1))
        pads = call.constant([0] + begins + tail + [0] + ends + tail, "pads")
        value = call.node("Pad", value, pads, call.scalar(0, "pad_value"), mode="constant")
    inner = [part for size, edge in zip(padded, block) for part in (size // edge, edge)]
    value = _reshaped(call, value, [call.shape()[0]] + inner + rest)
    count = len(block)
    perm = [2 * place + 2 for place in range(count)] + [0] + [2 * place + 1 for place in range(count)]
    perm += list(range(2 * count + 1, 2 * count + 1 + len(rest)))
    value = call.node("Transpose", value, perm=tuple(perm))
    call.give(_reshaped(call, value, call.outputs[0].shape))


@describes("BatchToSpaceND", "BatchToSpace")
def batch_to_space(call: Call) -> None:
    """The reverse: batch entries laid out as blocks, then cropped (tf.batch_to_space)."""
    block, crops = _blocks(call)
    count, sizes = len(block), call.shape()[1 : 1 + len(block)]
    rest = list(call.shape()[1 + count :])
    batch = call.shape()[0] // int(np.prod(block))
    value = _reshaped(call, call.port(0), list(block) + [batch] + list(sizes) + rest)
    perm = [count] + [place for pair in zip(range(count + 1, 2 * count + 1), range(count)) for place in pair]
    perm += list(range(2 * count + 1, 2 * count + 1 + len(rest)))
    value = call.node("Transpose", value, perm=tuple(perm))
    grown = [size * edge for size, edge in zip(sizes, block)]
    value = _reshaped(call, value, [batch] + grown + rest)
    if any(map(any, crops)):
        starts = call.constant([begin for begin, _ in crops], "starts")
        ends = call.constant([size - end for size, (_, end) in zip(grown, crops)], "ends")
        value = call.node("Slice", value, starts, ends, call.constant(list(range(1, count + 1)), "axes"))
    call.give(value)


def _blocks(call: Call) -> Tuple[Tuple[int, ...], List[Tuple[int, int]]]:
    """The block's shape, and the pairs of paddings or crops."""
    if call.op_type.endswith("ND"):
        block, flat = call.seen(1), call.seen(2)
    else:
        block, flat = (call.integer("block_size"),) * 2, call.seen(1)
    return block, list(zip(flat[::2], flat[1::2]))


def _reshaped(call: Call, value: str, shape: Sequence[int]) -> str:
    return call.node("Reshape", value, call.constant(list(shape), "shape"), allowzero=int(0 in shape))

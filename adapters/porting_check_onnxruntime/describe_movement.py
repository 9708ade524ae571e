"""Operators that move elements, and those whose numbers were attributes before they became inputs."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from porting_check.neutral.geometry import split_sizes
from porting_check_onnxruntime.draft import Draft

LIMITS = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
"""What Clip had as defaults before opset 11."""


def _listed(d: Draft, index: int, attribute: str, what: str) -> Optional[List[int]]:
    """Integers that are an input in newer opsets and an attribute in older ones."""
    found: Any = d.value(index, what) if d.has(index) else d.get(attribute)
    return None if found is None else [int(item) for item in np.asarray(found).reshape(-1)]


def squeeze(d: Draft) -> None:
    """Axes as a constant, those of size one where none are named."""
    axes = _listed(d, 1, "axes", "axes")
    shape = d.input(0).shape
    chosen = [axis for axis, size in enumerate(shape) if size == 1] if axes is None else axes
    d.give(d.node("Squeeze", d.port(0), d.integers(chosen)))


def unsqueeze(d: Draft) -> None:
    d.give(d.node("Unsqueeze", d.port(0), d.integers(_listed(d, 1, "axes", "axes"))))


def split(d: Draft) -> None:
    """The sizes of the parts as a constant."""
    axis, size = int(d.get("axis", 0)), 0
    size = d.input(0).shape[axis]
    sizes = _listed(d, 1, "split", "sizes") or split_sizes(size, int(d.get("num_outputs") or len(d.outputs)))
    names = d.nodes(len(d.outputs), "Split", d.port(0), d.integers(sizes, "split"), axis=axis)
    for index, name in enumerate(names):
        d.give(name, index=index)


def slice_(d: Draft) -> None:
    """Starts, ends, axes and steps as constants; attributes until opset 10."""
    starts, ends = _listed(d, 1, "starts", "starts"), _listed(d, 2, "ends", "ends")
    if starts is None or ends is None:
        d.refuse("without starts and ends is not described")
    axes = _listed(d, 3, "axes", "axes") or list(range(len(starts)))
    steps = _listed(d, 4, "", "steps") or [1] * len(starts)
    rows = zip(("starts", "ends", "axes", "steps"), (starts, ends, axes, steps))
    d.give(d.node("Slice", d.port(0), *(d.integers(row, role) for role, row in rows)))


def pad(d: Draft) -> None:
    """Pads and value as constants; attributes until opset 11. With ``axes`` the pads are written out."""
    rank = d.input(0).rank
    pads = _listed(d, 1, "pads", "pads") or _listed(d, 1, "paddings", "pads")
    if pads is None:
        d.refuse("without pads is not described")
    axes = _listed(d, 3, "", "axes")
    if axes is not None:
        full = [0] * (2 * rank)
        for place, axis in enumerate(axes):
            full[axis % rank], full[axis % rank + rank] = pads[place], pads[place + len(axes)]
        pads = full
    mode = d.get("mode", "constant")
    inputs = [d.port(0), d.integers(pads, "pads")]
    if mode == "constant":
        inputs.append(d.port(2, "value") if d.has(2) else d.like(d.get("value", 0.0), 0, "value"))
    d.give(d.node("Pad", *inputs, mode=mode))


def clip(d: Draft) -> None:
    """Bounds as constants; attributes until opset 11."""
    bounds = [d.port(index, role) for index, role in ((1, "min"), (2, "max"))]
    if d.opset < 11:
        given = [d.get("min", LIMITS[0]), d.get("max", LIMITS[1])]
        kept = [None if value == limit else value for value, limit in zip(given, LIMITS)]
        bounds = ["" if v is None else d.like(v, 0, role) for v, role in zip(kept, ("min", "max"))]
    d.give(d.node("Clip", d.port(0), *bounds))


def dropout(d: Draft) -> None:
    """Nothing in inference; the mask is true everywhere."""
    mode = d.value(2, "training_mode")
    if (mode is not None and bool(mode)) or (d.opset < 7 and not d.get("is_test", 0)):
        d.refuse("draws random numbers (training mode)")
    d.give(d.node("Identity", d.port(0)))
    if len(d.outputs) > 1 and d.outputs[1] is not None:
        mask = d.outputs[1]
        d.give(d.constant(np.ones(mask.shape, mask.dtype), "mask"), index=1)


def reshape(d: Draft) -> None:
    """To the shape that came out, so that ``0`` and ``-1`` are resolved."""
    d.give(d.reshape(d.port(0), _shape(d)))


def _shape(d: Draft) -> Sequence[int]:
    found = d.outputs[0]
    if found is None:
        d.refuse("whose output is not used is not described")
    return found.shape


def flatten(d: Draft) -> None:
    axis = int(d.get("axis", 1))
    d.give(d.node("Flatten", d.port(0), axis=axis + d.input(0).rank if axis < 0 else axis))


def expand(d: Draft) -> None:
    """To the shape that came out."""
    d.give(d.node("Expand", d.port(0), d.integers(_shape(d), "shape")))


def tile(d: Draft) -> None:
    repeats = [new // max(old, 1) for old, new in zip(d.input(0).shape, _shape(d))]
    d.give(d.node("Tile", d.port(0), d.integers(repeats, "repeats")))


def concat(d: Draft) -> None:
    inputs = [d.port(index) for index in range(len(d.inputs))]
    d.give(d.node("Concat", *inputs, axis=int(d.get("axis", 1))))


def transpose(d: Draft) -> None:
    """The order of axes explicit; reversed where none is given."""
    order = d.get("perm") or tuple(reversed(range(d.input(0).rank)))
    d.give(d.node("Transpose", d.port(0), perm=tuple(order)))


def scatter(d: Draft) -> None:
    """What ScatterElements was called until opset 11."""
    inputs = [d.port(0), d.port(1, "indices"), d.port(2, "updates")]
    reduction = d.get("reduction", "none")
    d.give(d.node("ScatterElements", *inputs, axis=int(d.get("axis", 0)), reduction=reduction))


def gather(d: Draft) -> None:
    inputs = [d.port(0, "weight" if d.input(0).parameter else "x"), d.port(1, "indices")]
    d.give(d.node("Gather", *inputs, axis=int(d.get("axis", 0))))


def cast(d: Draft) -> None:
    """A cast that changes nothing is an Identity; ``to`` was a word until opset 6."""
    found, target = d.outputs[0], d.get("to")
    if isinstance(target, str):
        import onnx

        target = onnx.TensorProto.DataType.Value(target)
    if found is not None and found.dtype == d.input(0).dtype:
        d.give(d.node("Identity", d.port(0)))
    else:
        d.give(d.node("Cast", d.port(0), to=int(target), saturate=int(d.get("saturate", 1))))


OPERATORS: Dict[str, Callable[[Draft], None]] = {
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Clip": clip,
    "Dropout": dropout,
    "Reshape": reshape,
    "Flatten": flatten,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Transpose": transpose,
    "Scatter": scatter,
    "ScatterElements": scatter,
    "Gather": gather,
    "Cast": cast,
}

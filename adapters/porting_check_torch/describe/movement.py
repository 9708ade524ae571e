"""Functions that only move elements: shapes, axes, joining, splitting, padding, repeating."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch

from porting_check_torch.describe.draft import ACTIVATION, Draft, Ref, axes, axis
from porting_check_torch.describe.table import describes

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Pad modes of torch and of ONNX."""

SPATIAL_PADS = ("ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad")
"""Layers whose input has channels and spatial axes."""


def numbers(values: Sequence[Any]) -> List[int]:
    """Integers given one by one or as one list."""
    given = values[0] if len(values) == 1 and isinstance(values[0], (list, tuple)) else values
    return [int(value) for value in given]


@describes(
    "contiguous", "clone", "detach", "data", "to", "float", "double", "half", "bfloat16", "int", "long",
    "short", "char", "byte", "bool", "type", "type_as", "_to_copy", "alias", "cpu", "cuda", "real",
    "lift_fresh_copy", "as_subclass", "positive", "to_dense",
)  # fmt: skip
def cast(d: Draft, input: Ref, *_how: Any, **_options: Any) -> None:
    """Another dtype; the same values."""
    if input.dtype.is_complex and not d.out.dtype.is_complex:
        d.refuse("of complex numbers is not described")
    d.give_as(d.port(input), input.dtype)


@describes("Tensor.copy_", "aten.copy_")
def copy_into(d: Draft, input: Ref, src: Any, non_blocking: bool = False) -> None:
    """The source's values, cast and stretched to the target."""
    value = d.operand(src, "x", d.out.dtype)
    d.give(_stretched(d, value, src.shape if isinstance(src, Ref) else (), d.out.shape))


@describes("fill", "fill_", "zero_", "zero")
def fill(d: Draft, input: Ref, value: Any = 0) -> None:
    """One number everywhere."""
    d.give(_stretched(d, d.operand(value, "value", d.out.dtype), (), d.out.shape))


def _stretched(d: Draft, name: str, found: Sequence[int], wanted: Sequence[int]) -> str:
    if tuple(found) == tuple(wanted):
        return d.node("Identity", name)
    return d.node("Expand", name, d.integers(list(wanted), "shape"))


@describes(
    "view", "reshape", "view_as", "reshape_as", "unflatten", "ravel", "_unsafe_view", "view_copy",
    "_reshape_alias", "squeeze_copy", "atleast_1d", "atleast_2d", "atleast_3d",
)  # fmt: skip
def reshape(d: Draft, input: Ref, *_shape: Any, **_options: Any) -> None:
    """To the shape seen."""
    if input.dtype != d.out.dtype:
        d.refuse("as another dtype (the same bits) is not described")
    d.give(d.reshape(d.port(input), d.out.shape))


@describes("flatten")
def flatten(d: Draft, input: Ref, start_dim: int = 0, end_dim: int = -1) -> None:
    """``Flatten`` after the batch axis, ``Reshape`` elsewhere."""
    x = d.port(input)
    usual = (
        input.ndim >= 2 and axis(start_dim, input.ndim) == 1 and axis(end_dim, input.ndim) == input.ndim - 1
    )
    d.give(d.node("Flatten", x, axis=1) if usual else d.reshape(x, d.out.shape))


def _transposed(d: Draft, input: Ref, perm: Sequence[int]) -> None:
    d.give(d.node("Transpose", d.port(input), perm=tuple(perm)))


@describes("permute")
def permute(d: Draft, input: Ref, *dims: Any) -> None:
    """All axes in a new order."""
    _transposed(d, input, [axis(dim, input.ndim) for dim in numbers(dims)])


@describes("transpose", "swapaxes", "swapdims")
def transpose(d: Draft, input: Ref, dim0: int, dim1: int) -> None:
    """Two axes exchanged."""
    order = list(range(input.ndim))
    if order:
        first, second = axis(dim0, input.ndim), axis(dim1, input.ndim)
        order[first], order[second] = order[second], order[first]
    _transposed(d, input, order)


@describes("t", "T")
def matrix_transpose(d: Draft, input: Ref) -> None:
    """All axes in reverse."""
    _transposed(d, input, list(range(input.ndim))[::-1])


@describes("mT", "adjoint", "mH", "H")
def last_axes_transpose(d: Draft, input: Ref) -> None:
    """The last two axes exchanged."""
    if input.dtype.is_complex:
        d.refuse("of complex numbers is not described")
    transpose(d, input, -2, -1)


@describes("movedim", "moveaxis")
def movedim(d: Draft, input: Ref, source: Any, destination: Any) -> None:
    """Some axes moved, the others in order."""
    taken, places = axes(source, input.ndim), axes(destination, input.ndim)
    rest = iter([dim for dim in range(input.ndim) if dim not in taken])
    order = [taken[places.index(place)] if place in places else next(rest) for place in range(input.ndim)]
    _transposed(d, input, order)


@describes("squeeze")
def squeeze(d: Draft, input: Ref, dim: Any = None) -> None:
    """Axes of size one, all or the named ones."""
    dropped = [place for place in axes(dim, input.ndim) if input.ndim and input.shape[place] == 1]
    x = d.port(input)
    d.give(d.node("Squeeze", x, d.integers(dropped)) if dropped else d.node("Identity", x))


@describes("unsqueeze")
def unsqueeze(d: Draft, input: Ref, dim: int) -> None:
    """A new axis of size one."""
    d.give(d.node("Unsqueeze", d.port(input), d.integers([axis(dim, input.ndim + 1)])))


@describes("expand", "expand_as", "broadcast_to", "broadcast_tensors", "expand_copy")
def expand(d: Draft, *inputs: Any, **_options: Any) -> None:
    """Axes of size one repeated to the shape seen."""
    given = inputs[0] if isinstance(inputs[0], (list, tuple)) else inputs
    refs = [ref for ref in given if isinstance(ref, Ref)][: len(d.outputs)]
    for ref, output in zip(refs, d.outputs):
        d.give(d.node("Expand", d.port(ref), d.integers(list(output.shape), "shape")))


@describes("repeat", "tile")
def repeat(d: Draft, input: Ref, *repeats: Any, dims: Any = None) -> None:
    """The whole tensor repeated along each axis."""
    counts = numbers(repeats if dims is None else (dims,))
    rank = max(len(counts), input.ndim)
    counts = [1] * (rank - len(counts)) + counts
    x = d.port(input)
    if rank > input.ndim:
        x = d.reshape(x, (1,) * (rank - input.ndim) + input.shape)
    d.give(d.node("Tile", x, d.integers(counts, "repeats")))


@describes("repeat_interleave")
def repeat_interleave(
    d: Draft, input: Ref, repeats: Any, dim: Optional[int] = None, *, output_size: Optional[int] = None
) -> None:
    """Each element repeated."""
    if isinstance(repeats, Ref) and repeats.fixed is None:
        d.refuse("with computed repeats is not described")
    x, place, size = d.port(input), axis(dim or 0, input.ndim), input.numel
    if dim is None:
        x = d.reshape(x, (size,))
    else:
        size = input.shape[place]
    counts: Any = repeats.fixed if isinstance(repeats, Ref) else repeats
    d.give(d.node("Gather", x, d.integers(np.repeat(np.arange(size), counts), "indices"), axis=place))


def _joined(d: Draft, tensors: Sequence[Ref]) -> List[str]:
    return [d.operand(ref, f"x{place}", d.out.dtype) for place, ref in enumerate(tensors)]


@describes("cat", "concat", "concatenate")
def cat(d: Draft, tensors: Sequence[Ref], dim: int = 0) -> None:
    """Side by side; empty vectors of shape (0,) do not count, as torch has it."""
    present = [ref for ref in tensors if ref.shape != (0,) or d.out.ndim == 1]
    d.give(d.node("Concat", *_joined(d, present), axis=axis(dim, d.out.ndim)))


@describes("stack")
def stack(d: Draft, tensors: Sequence[Ref], dim: int = 0) -> None:
    """Along a new axis."""
    place = axis(dim, d.out.ndim)
    rows = [d.node("Unsqueeze", name, d.integers([place])) for name in _joined(d, tensors)]
    d.give(d.node("Concat", *rows, axis=place))


@describes(
    "split",
    "chunk",
    "split_with_sizes",
    "tensor_split",
    "unsafe_split",
    "unsafe_chunk",
    "unsafe_split_with_sizes",
)
def split(d: Draft, tensor: Ref, *_how: Any, **options: Any) -> None:
    """Into the pieces seen."""
    dims = [value for key, value in options.items() if key == "dim"] or list(_how[1:2]) or [0]
    place = axis(dims[0], tensor.ndim)
    sizes = [ref.shape[place] for ref in d.outputs]
    for name in d.nodes(len(sizes), "Split", d.port(tensor), d.integers(sizes, "split"), axis=place):
        d.give(name)


@describes("unbind")
def unbind(d: Draft, input: Ref, dim: int = 0) -> None:
    """Into slices without the axis."""
    place = axis(dim, input.ndim)
    sizes = d.integers([1] * len(d.outputs), "split")
    for name in d.nodes(len(d.outputs), "Split", d.port(input), sizes, axis=place):
        d.give(d.node("Squeeze", name, d.integers([place])))


@describes("roll")
def roll(d: Draft, input: Ref, shifts: Any, dims: Any = ()) -> None:
    """Round each axis, or round the flattened tensor."""
    amounts = list(shifts) if isinstance(shifts, (list, tuple)) else [shifts]
    x, over, shape = d.port(input), axes(dims, input.ndim), input.shape
    if dims == () or dims == []:
        x, over, shape = d.reshape(x, (input.numel,)), [0], (input.numel,)
    for amount, place in zip(amounts, over):
        size = shape[place]
        start = (-int(amount)) % size if size else 0
        if start:
            parts = [_part(d, x, place, start, size), _part(d, x, place, 0, start)]
            x = d.node("Concat", *parts, axis=place)
    d.give(x if shape == input.shape else d.reshape(x, input.shape))


def _part(d: Draft, x: str, place: int, start: int, end: int) -> str:
    bounds = [d.integers([start], "starts"), d.integers([end], "ends"), d.integers([place])]
    return d.node("Slice", x, *bounds, d.integers([1], "steps"))


@describes("flip", "fliplr", "flipud")
def flip(d: Draft, input: Ref, *dims: Any) -> None:
    """Axes backwards."""
    over = axes(numbers(dims), input.ndim) if dims else []
    if not over:
        d.refuse("without dims is not described")
    count = len(over)
    bounds = [d.integers([-1] * count, "starts"), d.integers([np.iinfo(np.int64).min] * count, "ends")]
    d.give(d.node("Slice", d.port(input), *bounds, d.integers(over), d.integers([-1] * count, "steps")))


@describes("tril")
def tril(d: Draft, input: Ref, diagonal: int = 0) -> None:
    """The lower triangle."""
    d.give(d.node("Trilu", d.port(input), d.integers(diagonal, "k"), upper=0))


@describes("triu")
def triu(d: Draft, input: Ref, diagonal: int = 0) -> None:
    """The upper triangle."""
    d.give(d.node("Trilu", d.port(input), d.integers(diagonal, "k"), upper=1))


def pad_pairs(pad: Sequence[int], ndim: int) -> List[Tuple[int, int]]:
    """``(begin, end)`` for every axis, from torch's list that starts at the last axis.

    Example:
        >>> pad_pairs((1, 2), 3)
        [(0, 0), (0, 0), (1, 2)]
    """
    pairs = [(int(pad[place]), int(pad[place + 1])) for place in range(0, len(pad), 2)]
    return [(0, 0)] * (ndim - len(pairs)) + pairs[::-1]


@describes("F.pad", "aten.pad")
def pad(
    d: Draft, input: Ref, pad: Sequence[int], mode: str = "constant", value: Optional[float] = None
) -> None:
    """Explicit amounts; negative ones crop."""
    pairs = pad_pairs(pad, input.ndim)
    spatial = mode != "constant" or d.owner.startswith(SPATIAL_PADS)
    layout = ACTIVATION.get(input.ndim, "") if spatial and input.ndim > 2 else ""
    if layout and any(pairs[0] + pairs[1]):
        layout = ""
    x = d.port(input, "x", layout)
    cropped = [(min(begin, 0), min(end, 0)) for begin, end in pairs]
    if any(begin or end for begin, end in cropped):
        starts = d.integers([-begin for begin, _ in cropped], "starts")
        ends = d.integers([size + end for size, (_, end) in zip(input.shape, cropped)], "ends")
        x = d.node(
            "Slice", x, starts, ends, d.integers(range(input.ndim)), d.integers([1] * input.ndim, "steps")
        )
    grown = [max(begin, 0) for begin, _ in pairs] + [max(end, 0) for _, end in pairs]
    inputs = [d.integers(grown, "pads")]
    if mode == "constant":
        inputs.append(d.scalar(0 if value is None else value, "value", input.dtype))
    d.give(d.node("Pad", x, *inputs, mode=MODES[mode]) if any(grown) else d.node("Identity", x), layout)


def _named_pad(mode: str, value: Any = None) -> Any:
    def describe(d: Draft, input: Ref, padding: Sequence[int], value: Optional[float] = None) -> None:
        pad(d, input, padding, mode, value)

    return describe


describes("constant_pad_nd")(_named_pad("constant"))
for _spatial in (1, 2, 3):
    describes(f"reflection_pad{_spatial}d")(_named_pad("reflect"))
    describes(f"replication_pad{_spatial}d")(_named_pad("replicate"))


@describes("one_hot")
def one_hot(d: Draft, tensor: Ref, num_classes: int = -1) -> None:
    """A new last axis, one where the class is."""
    depth = d.integers([d.out.shape[-1]], "depth")
    values = d.constant(np.array([0, 1], np.int64), "values")
    d.give(d.node("OneHot", d.operand(tensor, "x", torch.int64), depth, values, axis=-1))

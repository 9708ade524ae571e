"""Gathering, scattering and selecting: no arithmetic, any dtype (the reductions of Scatter apart)."""

from __future__ import annotations

from typing import Any

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    normalized_axis,
    operator,
    required,
)


def _checked(indices: Array, size: int) -> Array:
    """Non-negative indices.

    Raises:
        ValueError: one is outside ``[-size, size)``; frameworks differ in what they do then, so there is no
            truth.
    """
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ValueError(f"an index is {indices.min()} or {indices.max()}, outside [-{size}, {size})")
    return np.where(indices < 0, indices + size, indices).astype(np.intp)


@operator("Gather", moves=True)
def gather(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Slices of ``data`` along ``axis`` (0) by indices of any shape; an embedding is the case axis 0."""
    data, indices = required(inputs, 0, "data"), required(inputs, 1, "indices")
    axis = normalized_axis(int(attributes.get("axis", 0)), data.ndim)
    return (np.take(data, _checked(indices, data.shape[axis]), axis=axis),)


@operator("GatherElements", moves=True)
def gather_elements(attributes: Attributes, inputs: Inputs) -> Outputs:
    """One value per index, at the index's own place in the other axes."""
    data, indices = required(inputs, 0, "data"), required(inputs, 1, "indices")
    axis = normalized_axis(int(attributes.get("axis", 0)), data.ndim)
    indices = _checked(indices, data.shape[axis])
    # The other axes of indices may be shorter than those of data.
    part = data[tuple(slice(None) if at == axis else slice(size) for at, size in enumerate(indices.shape))]
    return (np.take_along_axis(part, indices, axis),)


def _tuples(indices: Array, shape: tuple[int, ...], lead: int) -> tuple[Array, ...]:
    """The index arrays of GatherND and ScatterND: batch positions, then one array per indexed axis."""
    outer = indices.shape[:-1]
    batch = [
        np.arange(size).reshape((1,) * axis + (-1,) + (1,) * (len(outer) - axis - 1))
        for axis, size in enumerate(outer[:lead])
    ]
    parts = [_checked(indices[..., axis], shape[lead + axis]) for axis in range(indices.shape[-1])]
    return (*batch, *parts)


@operator("GatherND", moves=True)
def gather_nd(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Slices by index tuples in the last axis of ``indices``; the first ``batch_dims`` axes go together."""
    data, indices = required(inputs, 0, "data"), required(inputs, 1, "indices")
    return (np.asarray(data[_tuples(indices, data.shape, int(attributes.get("batch_dims", 0)))]),)


_REDUCTIONS: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _put(out: Array, where: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    """Write or combine updates at index arrays; combination sees every duplicate."""
    if reduction == "none":
        out[where] = updates
    elif reduction in _REDUCTIONS:
        _REDUCTIONS[reduction].at(out, where, updates)
    else:
        raise ValueError(f"reduction is {reduction!r}, expected none, {', '.join(_REDUCTIONS)}")
    return out


@operator("ScatterND", moves=True)
def scatter_nd(attributes: Attributes, inputs: Inputs) -> Outputs:
    """A copy of ``data`` with slices replaced or combined (``reduction``) at index tuples."""
    data, indices, updates = (required(inputs, i, n) for i, n in enumerate(("data", "indices", "updates")))
    where = _tuples(indices, data.shape, 0)
    return (_put(data.copy(), where, updates, str(attributes.get("reduction", "none"))),)


@operator("ScatterElements", "Scatter", moves=True)
def scatter_elements(attributes: Attributes, inputs: Inputs) -> Outputs:
    """A copy of ``data`` with one value per index replaced or combined (``reduction``) along ``axis`` (0)."""
    data, indices, updates = (required(inputs, i, n) for i, n in enumerate(("data", "indices", "updates")))
    axis = normalized_axis(int(attributes.get("axis", 0)), data.ndim)
    where = list(np.ix_(*map(np.arange, indices.shape)))
    where[axis] = _checked(indices, data.shape[axis])
    return (_put(data.copy(), tuple(where), updates, str(attributes.get("reduction", "none"))),)


@operator("OneHot", moves=True)
def one_hot(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``values[1]`` at the index along a new ``axis`` (-1) of size depth, ``values[0]`` elsewhere."""
    indices, depth, values = (required(inputs, i, n) for i, n in enumerate(("indices", "depth", "values")))
    size = int(depth.reshape(-1)[0])
    axis = normalized_axis(int(attributes.get("axis", -1)), indices.ndim + 1)
    places = np.where(indices < 0, indices + size, indices)
    classes = np.arange(size).reshape((1,) * axis + (size,) + (1,) * (indices.ndim - axis))
    return (np.where(np.expand_dims(places, axis) == classes, values[1], values[0]),)


@operator("NonZero", moves=True)
def non_zero(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The indices of all non-zero values, one row per axis, in row-major order."""
    return (np.array(np.nonzero(required(inputs, 0, "X")), np.int64),)


@operator("Compress", moves=True)
def compress(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The slices along ``axis`` (of the flattened input without one) at which the condition holds."""
    x, condition = required(inputs, 0, "input"), required(inputs, 1, "condition")
    axis = attributes.get("axis")
    return (np.compress(condition.astype(bool), x, axis=None if axis is None else int(axis)),)


@operator("ReverseSequence", moves=True)
def reverse_sequence(attributes: Attributes, inputs: Inputs) -> Outputs:
    """The first ``sequence_lens[b]`` steps of each sample reversed, the rest as it was."""
    x, lengths = required(inputs, 0, "input"), required(inputs, 1, "sequence_lens")
    time, batch = int(attributes.get("time_axis", 0)), int(attributes.get("batch_axis", 1))
    steps = np.arange(x.shape[time])[:, None]
    order = np.where(steps < lengths, lengths - 1 - steps, steps)
    order = order if time < batch else order.T
    shape = [1] * x.ndim
    shape[time], shape[batch] = x.shape[time], x.shape[batch]
    return (np.take_along_axis(x, order.reshape(shape), time),)

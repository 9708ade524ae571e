"""Gathers, scatters and selections."""

from __future__ import annotations

from typing import Dict, Optional

import torch

from porting_check_torch.run_call import Call, Handler, Result

REDUCES = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def positive(indices: torch.Tensor, size: int) -> torch.Tensor:
    """Indices as int64, counted from the end where negative."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


def gather(call: Call) -> Result:
    """ONNX Gather: the axis is replaced by the shape of the indices."""
    x, axis = call.x, call.get("axis", 0) % call.x.dim()
    indices = positive(call.need(1), x.shape[axis])
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape(tuple(x.shape[:axis]) + tuple(indices.shape) + tuple(x.shape[axis + 1 :]))


def gather_elements(call: Call) -> Result:
    """ONNX GatherElements, as ``torch.gather``."""
    axis = call.get("axis", 0)
    return torch.gather(call.x, axis, positive(call.need(1), call.x.shape[axis]))


def _flat_places(indices: torch.Tensor, shape: torch.Size, first: int) -> torch.Tensor:
    """Row-major places that index tuples name in axes ``first`` … of ``shape``."""
    places = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for position in range(indices.shape[-1]):
        size = shape[first + position]
        places = places * size + positive(indices[..., position], size)
    return places


def gather_nd(call: Call) -> Result:
    """ONNX GatherND, with ``batch_dims`` leading axes shared by data and indices."""
    x, indices, batch = call.x, call.need(1), call.get("batch_dims", 0)
    depth = indices.shape[-1]
    rest = tuple(x.shape[batch + depth :])
    shared = tuple(x.shape[:batch])
    places = _flat_places(indices, x.shape, batch)
    middle = tuple(places.shape[batch:])
    rows = 1
    for size in shared:
        rows *= size
    data = x.reshape((rows, -1) + rest)
    flat = places.reshape(rows, -1)
    picked = data[torch.arange(rows)[:, None], flat]
    return picked.reshape(shared + middle + rest)


def scatter_elements(call: Call) -> Result:
    """ONNX ScatterElements (and the older Scatter), with a reduction where duplicates meet."""
    axis, reduction = call.get("axis", 0), call.get("reduction", "none")
    x, updates = call.x, call.need(2)
    indices = positive(call.need(1), x.shape[axis])
    if reduction == "none":
        return torch.scatter(x, axis, indices, updates)
    return torch.scatter_reduce(x, axis, indices, updates, REDUCES[reduction], include_self=True)


def scatter_nd(call: Call) -> Result:
    """ONNX ScatterND: slices of updates at index tuples."""
    x, indices, updates = call.x, call.need(1), call.need(2)
    depth, reduction = indices.shape[-1], call.get("reduction", "none")
    rest = tuple(x.shape[depth:])
    places = _flat_places(indices, x.shape, 0).reshape(-1)
    data = x.reshape((-1,) + rest)
    values = updates.reshape((-1,) + rest)
    index = places.reshape((-1,) + (1,) * len(rest)).expand(values.shape)
    if reduction == "none":
        result = torch.scatter(data, 0, index, values)
    else:
        result = torch.scatter_reduce(data, 0, index, values, REDUCES[reduction], include_self=True)
    return result.reshape(x.shape)


def tensor_scatter(call: Call) -> Result:
    """ONNX TensorScatter: write a block into each batch entry of a cache, at its own place along the axis."""
    cache, update = call.x, call.need(1)
    axis = call.get("axis", -2) % cache.dim()
    starts: Optional[torch.Tensor] = call.input(2)
    steps = torch.arange(update.shape[axis])
    begin = torch.zeros(cache.shape[0], dtype=torch.int64) if starts is None else starts.to(torch.int64)
    places = begin[:, None] + steps[None, :]
    if call.get("mode", "linear") == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.dim()
    shape[0], shape[axis] = update.shape[0], update.shape[axis]
    return torch.scatter(cache, axis, places.reshape(shape).expand(update.shape), update)


def compress(call: Call) -> Result:
    """ONNX Compress: the entries whose condition holds, along the axis or of the flattened tensor."""
    axis = call.get("axis")
    x = call.x.reshape(-1) if axis is None else call.x
    places = torch.nonzero(call.need(1).reshape(-1))[:, 0]
    return x.index_select(0 if axis is None else axis, places)


def nonzero(call: Call) -> Result:
    """ONNX NonZero: coordinates by axis."""
    return torch.nonzero(call.x).t()


def one_hot(call: Call) -> Result:
    """ONNX OneHot: indices outside [-depth, depth) give only the off value."""
    indices, depth, values = call.x, call.integer(1, 0), call.need(2)
    axis = call.get("axis", -1)
    axis = axis + indices.dim() + 1 if axis < 0 else axis
    wrapped = positive(indices, depth).unsqueeze(axis)
    shape = [1] * (indices.dim() + 1)
    shape[axis] = depth
    return torch.where(wrapped == torch.arange(depth).reshape(shape), values[1], values[0])


OPERATORS: Dict[str, Handler] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "Compress": compress,
    "NonZero": nonzero,
    "OneHot": one_hot,
}

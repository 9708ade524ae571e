"""Gathers, scatters and selections."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.errors import RunError
from porting_check.neutral.geometry import product
from porting_check.neutral.node import Node
from porting_check_jax.run_call import Call, Handler, Ragged, Result

REDUCES = {"none": "set", "add": "add", "mul": "multiply", "max": "max", "min": "min"}
"""What ``x.at[…]`` calls ONNX's reductions."""

ALONG = {"Gather": 0, "GatherElements": 0, "Scatter": 0, "ScatterElements": 0}
TUPLES = ("GatherND", "ScatterND")


def check_places(node: Node, arrays: Sequence[Optional[np.ndarray]]) -> None:
    """Refuse indices outside of the data, which JAX would clamp, drop or fill without a word.

    Raises:
        RunError: an index is out of bounds.
    """
    if node.op_type not in ALONG and node.op_type not in TUPLES or len(arrays) < 2:
        return
    data, indices = arrays[0], arrays[1]
    if data is None or indices is None or not indices.size or not data.ndim:
        return
    if node.op_type in TUPLES:
        first = node.attributes.get("batch_dims", 0)
        sizes = np.array(data.shape[first : first + indices.shape[-1]], np.int64)
    else:
        axis = node.attributes.get("axis", ALONG[node.op_type])
        if not -data.ndim <= axis < data.ndim:
            return  # refused by JAX itself
        sizes = np.array(data.shape[axis], np.int64)
    outside = (indices < -sizes) | (indices >= sizes)
    if outside.any():
        raise RunError(
            f"jax could not run {node}: index {indices[outside][0]} is out of bounds for data of shape {data.shape}"
        )


def positive(indices: jax.Array, size: int) -> jax.Array:
    """Indices as int64, counted from the end where negative."""
    indices = indices.astype(jnp.int64)
    return jnp.where(indices < 0, indices + size, indices)


def gather(call: Call) -> Result:
    """ONNX Gather: the axis is replaced by the shape of the indices."""
    axis = call.get("axis", 0)
    return jnp.take(call.x, positive(call.need(1), call.x.shape[axis]), axis=axis)


def _along(indices: jax.Array, axis: int) -> Tuple[Any, ...]:
    """An index of every axis: these places along one, each element's own place along the others."""
    own = np.ogrid[tuple(slice(size) for size in indices.shape)]
    return tuple(indices if at == axis else place for at, place in enumerate(own))


def gather_elements(call: Call) -> Result:
    """ONNX GatherElements."""
    axis = call.get("axis", 0) % call.x.ndim
    return call.x[_along(positive(call.need(1), call.x.shape[axis]), axis)]


def _columns(indices: jax.Array, shape: Sequence[int], first: int) -> Tuple[jax.Array, ...]:
    """Tuples of indices as one array of places for each of the axes ``first`` … of ``shape``."""
    return tuple(positive(indices[..., at], shape[first + at]) for at in range(indices.shape[-1]))


def gather_nd(call: Call) -> Result:
    """ONNX GatherND, with ``batch_dims`` leading axes shared by data and indices."""
    x, indices, batch = call.x, call.need(1), call.get("batch_dims", 0)
    shared, middle = x.shape[:batch], indices.shape[batch:]
    rows = product(shared)
    data = x.reshape((rows,) + x.shape[batch:])
    places = _columns(indices.reshape((rows,) + middle), x.shape, batch)
    row = np.arange(rows).reshape((rows,) + (1,) * (len(middle) - 1))
    picked = data[(row,) + places]
    return picked.reshape(shared + middle[:-1] + x.shape[batch + indices.shape[-1] :])


def _scatter(x: jax.Array, places: Tuple[Any, ...], updates: jax.Array, reduction: str) -> jax.Array:
    """Updates written, or combined with what is there, by JAX's indexed update."""
    return getattr(x.at[places], REDUCES[reduction])(updates)


def scatter_elements(call: Call) -> Result:
    """ONNX ScatterElements (and the older Scatter), with a reduction where duplicates meet."""
    x, axis = call.x, call.get("axis", 0) % call.x.ndim
    places = _along(positive(call.need(1), x.shape[axis]), axis)
    return _scatter(x, places, call.need(2), call.get("reduction", "none"))


def scatter_nd(call: Call) -> Result:
    """ONNX ScatterND: slices of updates at index tuples."""
    return _scatter(
        call.x, _columns(call.need(1), call.x.shape, 0), call.need(2), call.get("reduction", "none")
    )


def tensor_scatter(call: Call) -> Result:
    """ONNX TensorScatter: write a block into each batch entry of a cache, at its own place along the axis."""
    cache, update = call.x, call.need(1)
    axis = call.get("axis", -2) % cache.ndim
    starts: Optional[jax.Array] = call.input(2)
    begin = jnp.zeros(cache.shape[0], jnp.int64) if starts is None else starts.astype(jnp.int64)
    places = begin[:, None] + np.arange(update.shape[axis])
    if call.get("mode", "linear") == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.ndim
    shape[0], shape[axis] = update.shape[0], update.shape[axis]
    return _scatter(
        cache, _along(jnp.broadcast_to(places.reshape(shape), update.shape), axis), update, "none"
    )


def compress(call: Call) -> Result:
    """ONNX Compress: the entries whose condition holds, along the axis or of the flattened tensor."""
    axis = call.get("axis")
    x = call.x.reshape(-1) if axis is None else call.x
    axis = 0 if axis is None else axis % x.ndim
    condition = call.need(1).reshape(-1)[: x.shape[axis]]
    (places,) = jnp.nonzero(condition, size=condition.size, fill_value=0)
    return Ragged(jnp.take(x, places, axis=axis), jnp.sum(condition), axis)


def nonzero(call: Call) -> Result:
    """ONNX NonZero: coordinates by axis."""
    count = jnp.count_nonzero(call.x)
    if not call.x.ndim:
        return Ragged(jnp.zeros((0, 1), jnp.int64), count, 1)
    places = jnp.nonzero(call.x, size=call.x.size, fill_value=0)
    return Ragged(jnp.stack(places).astype(jnp.int64), count, 1)


def one_hot(call: Call) -> Result:
    """ONNX OneHot: indices outside [-depth, depth) give only the off value."""
    indices, depth, values = call.x, call.integer(1, 0), call.need(2)
    axis = call.get("axis", -1)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    wrapped = jnp.expand_dims(positive(indices, depth), axis)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = depth
    return jnp.where(wrapped == np.arange(depth).reshape(shape), values[1], values[0])


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

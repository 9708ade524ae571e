"""Gathers, scatters and selections."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.geometry import product
from porting_check_tensorflow.run_call import Call, Handler, Result, rank, sizes


def positive(indices: tf.Tensor, size: int) -> tf.Tensor:
    """Indices as int64, counted from the end where negative."""
    indices = tf.cast(indices, tf.int64)
    return tf.where(indices < 0, indices + size, indices)


def gather(call: Call) -> Result:
    """ONNX Gather: the axis is replaced by the shape of the indices."""
    axis = call.get("axis", 0) % rank(call.x)
    return tf.gather(call.x, positive(call.need(1), sizes(call.x)[axis]), axis=axis)


def element_places(indices: tf.Tensor, shape: Sequence[int], axis: int) -> tf.Tensor:
    """Row-major places in a tensor of ``shape`` that each element of ``indices`` names along one axis."""
    places = tf.zeros(sizes(indices), dtype=tf.int64)
    for at, size in enumerate(shape):
        if at == axis:
            coordinate = positive(indices, size)
        else:
            line = [1] * len(shape)
            line[at] = sizes(indices)[at]
            coordinate = tf.reshape(tf.range(line[at], dtype=tf.int64), line)
        places = places * size + coordinate
    return places


def gather_elements(call: Call) -> Result:
    """ONNX GatherElements."""
    places = element_places(call.need(1), sizes(call.x), call.get("axis", 0) % rank(call.x))
    return tf.gather(tf.reshape(call.x, [-1]), places)


def tuples(indices: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Index tuples over the first axes of ``shape``, counted from the end where negative."""
    indices = tf.cast(indices, tf.int64)
    depth = sizes(indices)[-1]
    return tf.where(indices < 0, indices + tf.constant(list(shape)[:depth], dtype=tf.int64), indices)


def gather_nd(call: Call) -> Result:
    """ONNX GatherND, as ``tf.gather_nd``."""
    batch = call.get("batch_dims", 0)
    return tf.gather_nd(call.x, tuples(call.need(1), sizes(call.x)[batch:]), batch_dims=batch)


def scattered(data: tf.Tensor, places: tf.Tensor, updates: tf.Tensor, reduction: str) -> tf.Tensor:
    """Rows of ``data`` updated at ``places`` (one axis each), by ONNX's reduction."""
    index = places[:, None]
    if reduction == "mul":
        factors = tf.math.unsorted_segment_prod(updates, places, sizes(data)[0])
        return data * factors
    functions = {
        "none": tf.tensor_scatter_nd_update,
        "add": tf.tensor_scatter_nd_add,
        "max": tf.tensor_scatter_nd_max,
        "min": tf.tensor_scatter_nd_min,
    }
    return functions[reduction](data, index, updates)


def scatter_elements(call: Call) -> Result:
    """ONNX ScatterElements (and the older Scatter), with a reduction where duplicates meet."""
    x, updates = call.x, call.need(2)
    places = element_places(call.need(1), sizes(x), call.get("axis", 0) % rank(x))
    flat = [tf.reshape(tensor, [-1]) for tensor in (x, places, updates)]
    return tf.reshape(scattered(flat[0], flat[1], flat[2], call.get("reduction", "none")), x.shape)


def scatter_nd(call: Call) -> Result:
    """ONNX ScatterND: slices of updates at index tuples."""
    x, indices, updates = call.x, call.need(1), call.need(2)
    shape, depth = sizes(x), sizes(indices)[-1]
    named = tuples(indices, shape)
    places = tf.zeros(sizes(indices)[:-1], dtype=tf.int64)
    for position in range(depth):
        places = places * shape[position] + named[..., position]
    rest = shape[depth:]
    data = tf.reshape(x, [product(shape[:depth]), *rest])
    values = tf.reshape(updates, [product(sizes(places)), *rest])
    return tf.reshape(scattered(data, tf.reshape(places, [-1]), values, call.get("reduction", "none")), shape)


def tensor_scatter(call: Call) -> Result:
    """ONNX TensorScatter: write a block into each batch entry of a cache, at its own place along the axis."""
    cache, update = call.x, call.need(1)
    axis = call.get("axis", -2) % rank(cache)
    starts: Optional[tf.Tensor] = call.input(2)
    steps = sizes(update)[axis]
    begin = tf.zeros([sizes(cache)[0]], dtype=tf.int64) if starts is None else tf.cast(starts, tf.int64)
    places = begin[:, None] + tf.range(steps, dtype=tf.int64)[None, :]
    if call.get("mode", "linear") == "circular":
        places = tf.math.floormod(places, sizes(cache)[axis])
    line: List[int] = [1] * rank(cache)
    line[0], line[axis] = sizes(update)[0], steps
    index = tf.broadcast_to(tf.reshape(places, line), update.shape)
    flat = tf.reshape(element_places(index, sizes(cache), axis), [-1])
    written = scattered(tf.reshape(cache, [-1]), flat, tf.reshape(update, [-1]), "none")
    return tf.reshape(written, cache.shape)


def compress(call: Call) -> Result:
    """ONNX Compress: the entries whose condition holds, along the axis or of the flattened tensor."""
    axis = call.get("axis")
    x = tf.reshape(call.x, [-1]) if axis is None else call.x
    places = tf.where(tf.reshape(call.need(1), [-1]))[:, 0]
    return tf.gather(x, places, axis=0 if axis is None else axis)


def nonzero(call: Call) -> Result:
    """ONNX NonZero: coordinates by axis."""
    return tf.transpose(tf.where(tf.cast(call.x, tf.bool)))


def one_hot(call: Call) -> Result:
    """ONNX OneHot: indices outside [-depth, depth) give only the off value."""
    depth, values = call.integer(1, 0), call.need(2)
    axis = call.get("axis", -1)
    axis = axis + rank(call.x) + 1 if axis < -1 else axis
    return tf.one_hot(positive(call.x, depth), depth, on_value=values[1], off_value=values[0], axis=axis)


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

"""Operators that make tensors: constants, ranges, shapes, identity matrices."""

from __future__ import annotations

import math
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.geometry import product
from porting_check_tensorflow.run_call import Call, Handler, Result, sizes, tf_dtype, to_tensor


def _cast(tensor: tf.Tensor, call: Call) -> tf.Tensor:
    """Floating constants in float64 when that was asked for."""
    return tf.cast(tensor, tf.float64) if call.float64 and tensor.dtype.is_floating else tensor


def constant(call: Call) -> Result:
    """ONNX Constant, from any of its attributes but strings."""
    attributes: Dict[str, Any] = dict(call.node.attributes)
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in attributes:
            return _cast(to_tensor(np.asarray(attributes[name], dtype)), call)
    if isinstance(attributes.get("value"), np.ndarray):
        return _cast(to_tensor(attributes["value"]), call)
    raise call.unsupported("it has no dense numeric value")


def constant_of_shape(call: Call) -> Result:
    """ONNX ConstantOfShape; the default value is a float32 zero."""
    value = _cast(to_tensor(np.asarray(call.get("value", np.zeros(1, np.float32)))), call)
    return tf.fill(call.integers(0) or [], tf.reshape(value, []))


def eye_like(call: Call) -> Result:
    """ONNX EyeLike: ones on diagonal ``k``."""
    rows, columns = sizes(call.x)
    number = call.get("dtype")
    dtype = call.x.dtype if number is None else tf_dtype(call.dtype(number))
    places = tf.range(columns)[None, :] - tf.range(rows)[:, None]
    return tf.cast(places == call.get("k", 0), dtype)


def arange(call: Call) -> Result:
    """ONNX Range: ``start + i * delta`` for as many steps as fit, in the type of its inputs."""
    wide = tf.float64 if call.x.dtype.is_floating else tf.int64
    start, limit, delta = (tf.cast(tf.reshape(call.need(index), []), wide) for index in range(3))
    count = max(0, math.ceil((limit.numpy() - start.numpy()) / delta.numpy()))
    return tf.cast(start + tf.cast(tf.range(count, dtype=tf.int64), wide) * delta, call.x.dtype)


def shape(call: Call) -> Result:
    """ONNX Shape, of axes ``start`` to ``end``."""
    return tf.constant(sizes(call.x)[call.get("start", 0) : call.get("end")], dtype=tf.int64)


def size(call: Call) -> Result:
    """ONNX Size."""
    return tf.constant(product(sizes(call.x)), dtype=tf.int64)


OPERATORS: Dict[str, Handler] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": arange,
    "Shape": shape,
    "Size": size,
}

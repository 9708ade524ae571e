"""Operators that make tensors: constants, ranges, shapes, identity matrices."""

from __future__ import annotations

import math
from typing import Any, Dict

import jax
import jax.numpy as jnp
import numpy as np

from porting_check_jax.run_call import Call, Handler, Result, is_floating, jax_dtype, to_tensor


def _cast(tensor: jax.Array, call: Call) -> jax.Array:
    """Floating constants in float64 when that was asked for."""
    return tensor.astype(jnp.float64) if call.float64 and is_floating(tensor) else tensor


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
    value = to_tensor(np.asarray(call.get("value", np.zeros(1, np.float32))))
    return jnp.broadcast_to(_cast(value.reshape(()), call), call.integers(0) or [])


def eye_like(call: Call) -> Result:
    """ONNX EyeLike: ones on diagonal ``k``."""
    rows, columns = call.x.shape
    number = call.get("dtype")
    dtype = call.x.dtype if number is None else jax_dtype(call.dtype(number))
    return jnp.eye(rows, columns, k=call.get("k", 0), dtype=dtype)


def arange(call: Call) -> Result:
    """ONNX Range: ``start + i * delta`` for as many steps as fit, in the type of its inputs."""
    whole = not is_floating(call.x)
    read: Any = call.integer if whole else call.number
    start, limit, delta = (read(index, 0) for index in range(3))
    count = max(0, math.ceil((limit - start) / delta))
    steps = jnp.arange(count, dtype=jnp.int64 if whole else jnp.float64)
    return (start + steps * delta).astype(call.x.dtype)


def shape(call: Call) -> Result:
    """ONNX Shape, of axes ``start`` to ``end``."""
    sizes = call.x.shape[call.get("start", 0) : call.get("end")]
    return jnp.array(sizes, dtype=jnp.int64)


def size(call: Call) -> Result:
    """ONNX Size."""
    return jnp.array(call.x.size, dtype=jnp.int64)


OPERATORS: Dict[str, Handler] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": arange,
    "Shape": shape,
    "Size": size,
}

"""Operators that make tensors: constants, ranges, shapes, identity matrices."""

from __future__ import annotations

import math
from typing import Any, Dict

import numpy as np
import torch

from porting_check_torch.run_call import Call, Handler, Result, to_tensor, torch_dtype


def _cast(tensor: torch.Tensor, call: Call) -> torch.Tensor:
    """Floating constants in float64 when that was asked for."""
    return tensor.to(torch.float64) if call.float64 and tensor.is_floating_point() else tensor


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
    return _cast(value.reshape(()), call).repeat(call.integers(0) or [])


def eye_like(call: Call) -> Result:
    """ONNX EyeLike: ones on diagonal ``k``."""
    rows, columns = call.x.shape
    number = call.get("dtype")
    dtype = call.x.dtype if number is None else torch_dtype(call.dtype(number))
    places = torch.arange(columns)[None, :] - torch.arange(rows)[:, None]
    return (places == call.get("k", 0)).to(dtype)


def arange(call: Call) -> Result:
    """ONNX Range: ``start + i * delta`` for as many steps as fit, in the type of its inputs."""
    start, limit, delta = call.x.reshape(()), call.need(1).reshape(()), call.need(2).reshape(())
    count = max(0, math.ceil((limit.item() - start.item()) / delta.item()))
    wide = torch.float64 if start.is_floating_point() else torch.int64
    return (start.to(wide) + torch.arange(count, dtype=wide) * delta.to(wide)).to(start.dtype)


def shape(call: Call) -> Result:
    """ONNX Shape, of axes ``start`` to ``end``."""
    return torch.tensor(list(call.x.shape)[call.get("start", 0) : call.get("end")], dtype=torch.int64)


def size(call: Call) -> Result:
    """ONNX Size."""
    return torch.tensor(call.x.numel(), dtype=torch.int64)


OPERATORS: Dict[str, Handler] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "Range": arange,
    "Shape": shape,
    "Size": size,
}

"""Tensors as numpy arrays and back, without a change of a single bit."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import torch

from porting_check.neutral.errors import InputError

try:
    import ml_dtypes
except ImportError:  # an old environment: bfloat16 and float8 are then widened
    ml_dtypes = None

NARROW = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
"""Dtypes that numpy itself lacks; they travel as their bits, under the dtype of the package ml_dtypes."""


def dtype_name(dtype: Any) -> str:
    """``"float32"`` for ``torch.float32``, and for numpy's.

    Example:
        >>> dtype_name(torch.bfloat16), dtype_name(np.dtype("int64"))
        ('bfloat16', 'int64')
    """
    return str(dtype).split(".")[-1] if isinstance(dtype, torch.dtype) else str(np.dtype(dtype).name)


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """An owned array of the tensor's values; sparse and quantized ones are made dense and real numbers.

    Args:
        tensor: any device, layout and dtype. bfloat16 and float8 become the dtypes of ``ml_dtypes``; without
        that package
            they are widened to float32, which holds every value of them.

    Example:
        >>> to_array(torch.ones(2, 3)).flags.owndata
        True
    """
    plain = _plain(tensor)
    name = dtype_name(plain.dtype)
    if name in NARROW:
        if ml_dtypes is None or not hasattr(ml_dtypes, name):
            return np.array(plain.to(torch.float32).numpy())
        bits = torch.int16 if name == "bfloat16" else torch.uint8
        return np.array(plain.contiguous().view(bits).numpy()).view(getattr(ml_dtypes, name))
    return np.array(plain.numpy())


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A strided tensor on the CPU that numpy can read: no gradient, no subclass, no lazy conjugation."""
    if tensor.__class__ is not torch.Tensor:
        tensor = tensor.as_subclass(torch.Tensor)
    tensor = tensor.detach()
    if getattr(tensor, "is_quantized", False):
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == getattr(torch, "complex32", None):
        tensor = tensor.to(torch.complex64)
    tensor = tensor.cpu()
    for resolve in ("resolve_conj", "resolve_neg"):
        if hasattr(tensor, resolve):
            tensor = getattr(tensor, resolve)()
    return tensor


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of the same dtype and values, in memory of its own, so that a model may write into it.

    Raises:
        InputError: torch has no such dtype (text, objects).
    """
    array = np.asarray(array)
    name = array.dtype.name
    if name in NARROW:
        bits = np.ascontiguousarray(array).view(np.int16 if name == "bfloat16" else np.uint8)
        return torch.from_numpy(bits.reshape(array.shape).copy()).view(getattr(torch, name))
    owned = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    try:
        return torch.from_numpy(owned)
    except TypeError as error:
        raise InputError(
            f"torch has no tensors of dtype {array.dtype}; found an array of shape {array.shape}; "
            "give numbers (float32, int64, bool, …)"
        ) from error


def same_dtype(array: np.ndarray, tensor: torch.Tensor) -> bool:
    """Whether an array holds the dtype of a tensor."""
    return dtype_name(array.dtype) == dtype_name(tensor.dtype)


def shape_of(tensor: torch.Tensor) -> Tuple[int, ...]:
    """The shape as plain integers."""
    return tuple(int(size) for size in tensor.shape)

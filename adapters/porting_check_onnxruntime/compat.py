"""What the package onnx calls otherwise in versions of the time of ONNX Runtime 1.10 (onnx 1.11)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper  # old onnx does not import them by itself


def dtype_of_element(number: int) -> np.dtype:
    """The dtype of arrays of an element type of ONNX.

    Example:
        >>> dtype_of_element(onnx.TensorProto.FLOAT)
        dtype('float32')
    """
    known = getattr(helper, "tensor_dtype_to_np_dtype", None)  # since onnx 1.13
    return np.dtype(known(number) if known is not None else _mapping().TENSOR_TYPE_TO_NP_TYPE[number])


def element_of_dtype(dtype: Any) -> int:
    """The element type of ONNX of arrays of a dtype.

    Example:
        >>> element_of_dtype(np.float32) == onnx.TensorProto.FLOAT
        True
    """
    known = getattr(helper, "np_dtype_to_tensor_dtype", None)
    if known is not None:
        return int(known(np.dtype(dtype)))
    return int(_mapping().NP_TYPE_TO_TENSOR_TYPE[np.dtype(dtype)])


def _mapping() -> Any:
    return importlib.import_module("onnx.mapping")


def metadata_of(node: Any) -> Any:
    """What an exporter noted on a node; nodes before onnx 1.16 have no place for it."""
    return getattr(node, "metadata_props", ())


def embedded(proto: Any, arrays: Any) -> Any:
    """A copy of a model with these arrays in the place of the tensors of their names."""
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    for tensor in whole.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(arrays[tensor.name]), tensor.name))
    return whole

"""Opening ``.onnx`` files. Nothing outside of the model's folder is ever opened."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from onnx import TensorProto

from porting_check.neutral.errors import ModelError
from porting_check_onnxruntime.compat import dtype_of_element
from porting_check_onnxruntime.model import OnnxModel

SUFFIXES = (".onnx",)

ELEMENT_BITS = {
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
}
"""Bits of an element; types of a byte or less that are not named here take 8 or 4."""


def load_model(path: str) -> OnnxModel:
    """Read a model without its external data, and check that these data are there and inside its folder.

    Raises:
        ModelError: no file, a damaged or empty one, or external data that are missing, short or outside.
    """
    if not os.path.isfile(path):
        raise ModelError(f"{path!r} does not exist or is a folder; expected an .onnx file")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path!r} is damaged or no ONNX model: it cannot be read as a protobuf ({_first(error)}); export it again"
        ) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(
            f"{path!r} holds no graph: the file is empty, cut short, or of another kind than an ONNX model"
        )
    folder = os.path.dirname(os.path.abspath(path))
    check_external(proto, folder)
    return OnnxModel(proto, folder)


def tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph and of the graphs inside it: initializers and attributes."""
    for tensor in graph.initializer:
        yield tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
        yield from tensors(graph)


def is_external(tensor: Any) -> bool:
    """Whether a tensor's data lie outside of the model."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def check_external(proto: Any, folder: str) -> None:
    """Every external tensor must lie within the folder, in a file that is there and long enough.

    Raises:
        ModelError: one is not.
    """
    for tensor in tensors(proto.graph):
        if is_external(tensor):
            if not folder:
                raise ModelError(
                    f"tensor {tensor.name!r} is stored outside of the model and nobody says where: "
                    "give OnnxModel(proto, folder=...), or the path of the .onnx file"
                )
            _check_extent(tensor, *place(tensor, folder))


def place(tensor: Any, folder: str) -> Tuple[str, int, int]:
    """File, offset and length (-1: to the end) of an external tensor.

    Raises:
        ModelError: it lies outside of the folder, in no regular file, or its place makes no sense.
    """
    entries: Dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    if not location or os.path.isabs(location) or not path.startswith(os.path.join(root, "")):
        raise ModelError(
            f"tensor {tensor.name!r} is said to be in {location!r}, outside of the model's folder: it is not opened; "
            "external data must lie beside the model or below"
        )
    if not os.path.isfile(path):
        raise ModelError(
            f"tensor {tensor.name!r} is stored in {location!r}, which is not in the model's folder: "
            "copy the data file there together with the .onnx file"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError as error:
        raise ModelError(f"tensor {tensor.name!r}: its place in {location!r} is no number: {error}") from None
    return path, offset, length


def _check_extent(tensor: Any, path: str, offset: int, length: int) -> None:
    size = os.path.getsize(path)
    wanted = byte_size(tensor)
    if offset < 0 or offset + wanted > size or (length >= 0 and length != wanted):
        said = "" if length < 0 else f" and is said to have {length}"
        raise ModelError(
            f"tensor {tensor.name!r} of shape {tuple(tensor.dims)} takes {wanted} bytes from byte {offset} of "
            f"{os.path.basename(path)!r}{said}, but the file has {size}: the data file is cut short or of another model"
        )


def byte_size(tensor: Any) -> int:
    """Bytes of a tensor's data."""
    bits = ELEMENT_BITS.get(tensor.data_type)
    if bits is None:
        name = TensorProto.DataType.Name(tensor.data_type)
        bits = 2 if name.endswith("INT2") else 4 if name.endswith(("INT4", "E2M1")) else 8
    return (int(np.prod(tuple(tensor.dims), dtype=np.int64)) * bits + 7) // 8


def read_tensor(tensor: Any, folder: str) -> np.ndarray:
    """A tensor as an array; one that is stored outside is mapped, not read.

    Raises:
        ModelError: it lies outside of the folder.
    """
    array: np.ndarray
    if not is_external(tensor):
        array = onnx.numpy_helper.to_array(tensor)
        return array
    path, offset, _ = place(tensor, folder)
    if tensor.data_type not in ELEMENT_BITS:  # packed, or of ml_dtypes
        array = onnx.numpy_helper.to_array(tensor, base_dir=folder)
        return array
    dtype = dtype_of_element(tensor.data_type)
    shape = tuple(tensor.dims)
    if not byte_size(tensor):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

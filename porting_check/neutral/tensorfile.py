"""safetensors files, written as a stream of buffers and read by memory map, with the standard library and numpy only.

Format: https://huggingface.co/docs/safetensors (8-byte little-endian header length, JSON header, raw little-endian data).
The safetensors package is not used because it needs all tensors in memory before it writes, and does not exist in the
old environments where recordings are made; any safetensors reader opens what is written here.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from porting_check.neutral.errors import TraceError

HEADER_LIMIT = 100_000_000
"""Longest header accepted, as in the reference implementation."""

CODES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""safetensors type codes and numpy (or ml_dtypes) names. complex128 is stored as F64 with a last axis of two."""

_NAMES = {name: code for code, name in CODES.items()}
_EXTENDED = {"bfloat16", "float8_e4m3fn", "float8_e5m2"}


def write_tensors(path: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Write one file; returns the SHA-256 of its bytes in hexadecimal.

    Args:
        path: the file to create.
        tensors: arrays by name, of any shape (0-d and empty too).

    Raises:
        TraceError: a dtype that the format cannot carry.
        OSError: the disk is full or the folder not writable.
    """
    header: Dict[str, Any] = {}
    buffers: List[np.ndarray] = []
    offset = 0
    for name, array in tensors.items():
        code, stored = _stored(name, array)
        buffers.append(stored)
        header[name] = {
            "dtype": code,
            "shape": list(stored.shape),
            "data_offsets": [offset, offset + stored.nbytes],
        }
        if array.dtype == np.complex128:
            header.setdefault("__metadata__", {})["complex128:" + name] = "1"
        offset += stored.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for chunk in [struct.pack("<Q", len(text)) + text] + [
            _bytes(buffer) for buffer in buffers if buffer.nbytes
        ]:
            file.write(chunk)
            digest.update(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _stored(name: str, array: np.ndarray) -> Tuple[str, np.ndarray]:
    """The type code and the C-contiguous little-endian array that is written."""
    if array.dtype == np.complex128:
        return "F64", np.ascontiguousarray(array).reshape(array.shape + (1,)).view(np.float64)
    code = _NAMES.get(array.dtype.name)
    if code is None:
        raise TraceError(
            f"value {name!r} has dtype {array.dtype}, which a recording cannot carry; known: {sorted(_NAMES)}"
        )
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return code, array if array.flags["C_CONTIGUOUS"] else np.ascontiguousarray(array)


def _bytes(array: np.ndarray) -> Any:
    """The array's memory as a flat bytes-like object, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def read_header(path: str) -> Dict[str, Any]:
    """The checked header of one file: every tensor lies inside the file and has the size that its shape says.

    Raises:
        TraceError: not a safetensors file, cut short, or with offsets, shapes or types that do not hold.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise TraceError(
                f"{path}: not a whole safetensors file: {size} bytes, header of {length} bytes announced"
            )
        try:
            header = json.loads(file.read(length).decode("utf-8"))
        except ValueError as error:
            raise TraceError(f"{path}: the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise TraceError(f"{path}: the header is a {type(header).__name__}, expected an object")
    metadata = header.pop("__metadata__", {})
    for name, entry in header.items():
        _check_entry(path, name, entry, size - 8 - length)
    return {"data": 8 + length, "tensors": header, "metadata": metadata if isinstance(metadata, dict) else {}}


def _check_entry(path: str, name: str, entry: Any, available: int) -> None:
    """Refuse an entry whose type, shape and offsets do not agree with each other and with the file."""
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in list(shape) + [begin, end])
    except (TypeError, KeyError, ValueError):
        raise TraceError(f"{path}: tensor {name!r} has a malformed entry {str(entry)[:80]}") from None
    if code not in CODES:
        raise TraceError(f"{path}: tensor {name!r} has unknown type {code!r}")
    if not whole or len(shape) > 32 or end - begin != _itemsize(code) * _product(shape) or end > available:
        raise TraceError(
            f"{path}: tensor {name!r} of type {code} and shape {shape} claims bytes {begin} to {end} of {available}: "
            "the file is damaged or cut short; record again"
        )


def _product(shape: List[int]) -> int:
    """Number of elements; Python integers, so that a hostile shape cannot overflow."""
    count = 1
    for size in shape:
        count *= size
    return count


def _itemsize(code: str) -> int:
    """Bytes of one element of a type code."""
    return {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}.get(code) or np.dtype(CODES[code]).itemsize


def read_tensor(path: str, name: str, header: Mapping[str, Any]) -> np.ndarray:
    """One tensor as a read-only memory map (an owned array when empty).

    bfloat16 and float8 need the ml_dtypes package.

    Raises:
        TraceError: ml_dtypes is needed and not installed.
    """
    entry = header["tensors"][name]
    begin, end = entry["data_offsets"]
    dtype = _dtype(entry["dtype"], path, name)
    shape = tuple(entry["shape"])
    if end == begin:
        array: np.ndarray = np.zeros(shape, dtype)
    else:
        array = (
            np.memmap(path, np.uint8, "r", header["data"] + begin, (end - begin,)).view(dtype).reshape(shape)
        )
    if "complex128:" + name in header["metadata"]:
        return array.view(np.complex128).reshape(shape[:-1])
    return array


def _dtype(code: str, path: str, name: str) -> np.dtype:
    """The numpy dtype of a type code."""
    wanted = CODES[code]
    if wanted not in _EXTENDED:
        little: np.dtype = np.dtype(wanted).newbyteorder("<")
        return little
    try:
        import ml_dtypes
    except ImportError:
        raise TraceError(f"{path}: value {name!r} is {wanted}: install ml_dtypes to read it") from None
    extended: np.dtype = np.dtype(getattr(ml_dtypes, wanted))
    return extended

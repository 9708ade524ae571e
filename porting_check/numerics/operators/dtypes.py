"""The dtypes of ONNX by number and by name, and casts between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from porting_check.numerics.operators.registry import Array, Attributes, is_floating

NAMES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10:
        "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17:
        "float8_e4m3fn",
    18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4", 23:
        "float4_e2m1fn",
    25: "uint2", 26: "int2",
}  # fmt: skip
"""Numbers of ``onnx.TensorProto.DataType``; strings are left out."""

EXTENDED = frozenset(
    (
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "uint4",
        "int4",
        "float4_e2m1fn",
    )
) | {"uint2", "int2"}
"""Names that numpy does not know and ml_dtypes does."""

FLOAT8 = tuple(name for name in NAMES.values() if name.startswith("float8"))


def numpy_dtype(value: Any) -> np.dtype[Any]:
    """The numpy dtype of an ONNX type number or a dtype name; ml_dtypes is imported on demand.

    Example:
        >>> numpy_dtype(1), numpy_dtype("int64")
        (dtype('float32'), dtype('int64'))

    Raises:
        ValueError: the number stands for no type that is known here.
    """
    name = NAMES.get(value) if isinstance(value, int) else str(value)
    if name is None:
        raise ValueError(f"ONNX type number {value} is not supported")
    if name in EXTENDED:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return extended
    return np.dtype(name)


def saturated(x: Array, dtype: np.dtype[Any], attributes: Attributes) -> Array:
    """``x`` cast as ONNX Cast-24 does: 8-bit floats saturate (attribute ``saturate``), all else as numpy."""
    if dtype.name not in FLOAT8 or not is_floating(x):
        return x.astype(dtype)
    wide = x.astype(np.float32)
    if int(attributes.get("saturate", 1)):
        import ml_dtypes

        limit = np.float32(ml_dtypes.finfo(dtype).max)
        wide = np.clip(wide, -limit, limit)
    return np.asarray(wide.astype(dtype))

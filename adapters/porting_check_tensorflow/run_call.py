"""One node being executed: its inputs as tensors, its attributes, and the way back to numpy."""

from __future__ import annotations

import importlib
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.dtypes import ONNX_DTYPES
from porting_check.neutral.errors import InputError, UnsupportedNode
from porting_check.neutral.node import Node

REDUCED = (tf.float16, tf.bfloat16)
WIDENED = (tf.uint8, tf.int8, tf.uint16, tf.int16, tf.uint32, tf.int32, tf.uint64)
"""Types for which some operators have no kernel; they are then computed in int64 and wrapped back."""

PACKED = {"int4": tf.int8, "uint4": tf.uint8, "int2": tf.int8, "uint2": tf.uint8}
"""Integers narrower than a byte: TensorFlow has no kernels for them, one byte each holds the value."""

BITS = ("float4_e2m1fn", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
"""Floats that TensorFlow cannot convert: one byte each holds the bits."""


class Typed(NamedTuple):
    """A result of a dtype without kernels: integers, or a float's bits; with its numpy name."""

    tensor: tf.Tensor
    dtype: str


Single = Union[tf.Tensor, Typed]
Result = Union[Single, Sequence[Single]]


class Call:
    """What a handler sees: inputs (absent ones are ``None``), attributes, the precision asked for."""

    def __init__(
        self, node: Node, inputs: Sequence[Optional[tf.Tensor]], dtypes: Sequence[str], float64: bool
    ) -> None:
        self.node = node
        self.inputs = list(inputs)
        self.dtypes = list(dtypes)
        self.float64 = float64

    @property
    def x(self) -> tf.Tensor:
        """The first input, which must be there."""
        return self.need(0)

    def input(self, index: int) -> Optional[tf.Tensor]:
        """An optional input."""
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, index: int) -> tf.Tensor:
        """A required input."""
        tensor = self.input(index)
        if tensor is None:
            found = f"found {len(self.inputs)} inputs; give it an array"
            raise InputError(f"{self.node.op_type} needs input {index}, {found}")
        return tensor

    def present(self) -> List[tf.Tensor]:
        """Every input of a variadic operator."""
        return [self.need(index) for index in range(len(self.inputs))]

    def integers(self, index: int) -> Optional[List[int]]:
        """A shape-like input as Python integers, ``None`` when absent."""
        tensor = self.input(index)
        return None if tensor is None else [int(value) for value in tf.reshape(tensor, [-1]).numpy().tolist()]

    def integer(self, index: int, default: int) -> int:
        """A scalar input as a Python integer."""
        values = self.integers(index)
        return values[0] if values else default

    def numbers(self, index: int) -> Optional[List[float]]:
        """An input as Python floats, ``None`` when absent."""
        tensor = self.input(index)
        return (
            None if tensor is None else [float(value) for value in tf.reshape(tensor, [-1]).numpy().tolist()]
        )

    def number(self, index: int, default: float) -> float:
        """A scalar input as a Python float."""
        values = self.numbers(index)
        return values[0] if values else default

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or ONNX's default for it."""
        return self.node.attributes.get(name, default)

    def dtype(self, number: int) -> str:
        """The dtype name of an ONNX type number; floating types are float64 when float64 is asked for."""
        if number not in ONNX_DTYPES:
            raise self.unsupported(f"ONNX type {number} is no tensor of numbers")
        name = ONNX_DTYPES[number]
        return "float64" if self.float64 and name in ("float16", "bfloat16", "float32") else name

    def axes(self, index: int = 1) -> Optional[List[int]]:
        """Axes given as an input (since opset 13) or as an attribute, not negative; ``None`` if not given."""
        values = self.integers(index)
        if values is None:
            values = self.get("axes")
        return None if values is None else [axis % max(rank(self.x), 1) for axis in values]

    def unsupported(self, reason: str) -> UnsupportedNode:
        """The error for what TensorFlow, or this adapter, cannot do."""
        return UnsupportedNode(f"tensorflow cannot run {self.node}: {reason}")


Handler = Callable[[Call], Result]


def rank(x: tf.Tensor) -> int:
    """The number of axes."""
    return len(x.shape)


def sizes(x: tf.Tensor) -> List[int]:
    """The shape as Python integers (every tensor here is eager)."""
    return [int(size) for size in x.shape]


def like(value: float, x: tf.Tensor) -> tf.Tensor:
    """A Python number in the type of ``x``; ``tf.cast`` would take it through float32."""
    return tf.constant(value, dtype=x.dtype)


def numpy_dtype(name: str) -> np.dtype:
    """A numpy dtype by name; those beyond numpy's own come from ml_dtypes, which TensorFlow needs itself."""
    try:
        return np.dtype(name)
    except TypeError:
        return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))


def tf_dtype(name: str) -> tf.DType:
    """The TensorFlow dtype that holds values of this numpy dtype.

    Raises:
        UnsupportedNode: TensorFlow has none with kernels.
    """
    if name in PACKED:
        return PACKED[name]
    try:
        return tf.as_dtype(name)
    except TypeError as error:
        raise UnsupportedNode(f"tensorflow {tf.__version__} has no tensors of dtype {name}") from error


def to_tensor(array: np.ndarray) -> tf.Tensor:
    """The same values as a tensor; types without kernels travel as bytes.

    Raises:
        UnsupportedNode: strings or objects.
    """
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    name = array.dtype.name
    if name in BITS:
        return tf.constant(array.view(np.uint8))
    if name in PACKED:
        size = 1 << int(name[-1])
        low = tf.cast(tf.constant(array.view(np.uint8)), tf.int16) % size
        signed = tf.where(low >= size // 2, low - size, low)
        return tf.cast(low if name.startswith("u") else signed, PACKED[name])
    if array.dtype.kind in "OSU":
        raise UnsupportedNode(f"tensorflow's strings are not numbers: found an array of {array.dtype}")
    if array.dtype.kind != "V":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return tf.constant(array)


def to_array(result: Union[tf.Tensor, Typed]) -> np.ndarray:
    """An owned numpy array of a result."""
    if not isinstance(result, Typed):
        return np.array(result.numpy())
    size = 1 << (int(result.dtype[-1]) if result.dtype in PACKED else 8)
    low = tf.cast(tf.cast(result.tensor, tf.int16) % size, tf.uint8)
    return np.array(low.numpy()).view(numpy_dtype(result.dtype))


def widen(
    tensors: Sequence[Optional[tf.Tensor]],
) -> Tuple[List[Optional[tf.Tensor]], Optional[tf.DType]]:
    """Narrow integers as int64, and the type to wrap results back to (that of the first one widened).

    Raises:
        UnsupportedNode: a uint64 value is above the largest int64.
    """
    origin = None
    widened: List[Optional[tf.Tensor]] = []
    for tensor in tensors:
        if tensor is None or tensor.dtype not in WIDENED:
            widened.append(tensor)
            continue
        origin = origin or tensor.dtype
        wide = tf.cast(tensor, tf.int64)
        if tensor.dtype == tf.uint64 and bool(tf.reduce_any(wide < 0)):
            raise UnsupportedNode("tensorflow has no kernel for uint64 values of 2**63 and above here")
        widened.append(wide)
    return widened, origin

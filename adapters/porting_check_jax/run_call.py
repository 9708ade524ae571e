"""One node being executed: its inputs as JAX arrays, its attributes, and the way back to numpy."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Set, Union

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.dtypes import ONNX_DTYPES
from porting_check.neutral.errors import InputError, UnsupportedNode
from porting_check.neutral.node import Node

NARROW = ("int4", "uint4", "int2", "uint2", "float4_e2m1fn")
"""Types of less than a byte: JAX stores and converts them and computes little else with them."""

HIGHEST = jax.lax.Precision.HIGHEST
"""The precision of every product of this adapter: nothing below the type of the operands."""


class Ragged(NamedTuple):
    """A result whose size along an axis depends on values: its first ``count`` places there, the rest is filling."""

    padded: jnp.ndarray
    count: jnp.ndarray
    axis: int = 0


Single = Union[jnp.ndarray, Ragged]
Result = Union[Single, Sequence[Single]]


class Call:
    """What a handler sees: inputs (absent ones are ``None``), attributes, the precision asked for.

    ``inputs`` may be traced: what must be a Python number is read from ``arrays``, the inputs as they
    were given, and ``read`` remembers which of them the result was specialised for.
    """

    def __init__(
        self,
        node: Node,
        inputs: Sequence[Optional[jax.Array]],
        arrays: Sequence[Optional[np.ndarray]],
        float64: bool = False,
    ) -> None:
        self.node = node
        self.inputs = list(inputs)
        self.arrays = list(arrays)
        self.dtypes = ["" if array is None else array.dtype.name for array in arrays]
        self.float64 = float64
        self.read: Set[int] = set()

    @property
    def x(self) -> jax.Array:
        """The first input, which must be there."""
        return self.need(0)

    def input(self, index: int) -> Optional[jax.Array]:
        """An optional input."""
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, index: int) -> jax.Array:
        """A required input."""
        tensor = self.input(index)
        if tensor is None:
            raise InputError(
                f"{self.node.op_type} needs input {index}, found {len(self.inputs)} inputs; give it an array"
            )
        return tensor

    def present(self) -> List[jax.Array]:
        """Every input of a variadic operator."""
        return [self.need(index) for index in range(len(self.inputs))]

    def value(self, index: int) -> Optional[np.ndarray]:
        """An input as the numpy array it came as, for what decides shapes; ``None`` when absent."""
        array = self.arrays[index] if index < len(self.arrays) else None
        if array is not None:
            self.read.add(index)
        return array

    def integers(self, index: int) -> Optional[List[int]]:
        """A shape-like input as Python integers, ``None`` when absent."""
        array = self.value(index)
        return None if array is None else [int(value) for value in array.reshape(-1).tolist()]

    def integer(self, index: int, default: int) -> int:
        """A scalar input as a Python integer."""
        values = self.integers(index)
        return values[0] if values else default

    def numbers(self, index: int) -> Optional[List[float]]:
        """An input as Python floats, ``None`` when absent."""
        array = self.value(index)
        return None if array is None else [float(value) for value in array.reshape(-1)]

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
            raise UnsupportedNode(f"jax has no arrays of ONNX type {number} (asked for by {self.node})")
        name = ONNX_DTYPES[number]
        return "float64" if self.float64 and name in ("float16", "bfloat16", "float32") else name

    def axes(self, index: int = 1) -> Optional[List[int]]:
        """Axes given as an input (since opset 13) or as an attribute, not negative; ``None`` if not given."""
        values = self.integers(index)
        if values is None:
            values = self.get("axes")
        return None if values is None else [axis % max(self.x.ndim, 1) for axis in values]

    def floating(self, *indices: int) -> None:
        """Refuse inputs that are not floating: JAX would promote them to a float that ONNX does not name.

        Raises:
            UnsupportedNode: one of them is not.
        """
        for index in indices or (0,):
            tensor = self.input(index)
            if tensor is not None and not is_floating(tensor):
                raise self.unsupported(f"input {index} is {tensor.dtype}, a floating type is needed")

    def unsupported(self, reason: str) -> UnsupportedNode:
        """The error for what JAX, or this adapter, cannot do."""
        return UnsupportedNode(f"jax cannot run {self.node}: {reason}")


Handler = Callable[[Call], Result]


def is_floating(x: Any) -> bool:
    """Whether an array is of a floating type, those of ml_dtypes included."""
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def divided(a: jax.Array, b: Any) -> jax.Array:
    """``a / b``, rounded once; integers toward zero.

    XLA makes a multiplication by the reciprocal of a division by one number, which rounds twice.
    """
    a, b = jnp.broadcast_arrays(a, jnp.asarray(b, a.dtype))
    return jax.lax.div(a, jax.lax.optimization_barrier(b))


def jax_dtype(name: str) -> np.dtype:
    """The dtype of this name.

    Raises:
        UnsupportedNode: this JAX has none.
    """
    found = getattr(jnp, "bool_" if name == "bool" else name, None)
    if found is None:
        raise UnsupportedNode(f"jax {jax.__version__} has no arrays of dtype {name}")
    return jnp.dtype(found)


def to_tensor(array: np.ndarray) -> jax.Array:
    """The same values as a JAX array, which may share the memory; never written to.

    Raises:
        UnsupportedNode: strings, objects, dates, or a type that this JAX lacks.
    """
    array = np.asarray(array)
    if array.dtype.kind in "OSUMm":
        raise UnsupportedNode(f"jax has no arrays of {array.dtype} (strings, objects or dates)")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    try:
        return jnp.asarray(array)
    except TypeError as error:
        raise UnsupportedNode(f"jax {jax.__version__} has no arrays of {array.dtype}: {error}") from error


def to_array(result: Single) -> np.ndarray:
    """An owned, writable numpy array of a result."""
    if not isinstance(result, Ragged):
        return np.array(result)
    valid = (slice(None),) * int(result.axis) + (slice(int(result.count)),)
    return np.array(np.asarray(result.padded)[valid])

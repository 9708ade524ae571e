"""One node being executed: its inputs as tensors, its attributes, and the way back to numpy."""

from __future__ import annotations

import importlib
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from porting_check.neutral.dtypes import ONNX_DTYPES
from porting_check.neutral.errors import InputError, UnsupportedNode
from porting_check.neutral.node import Node
from porting_check_torch import arrays

WIDENED = {"uint16": torch.int64, "uint32": torch.int64, "uint64": torch.int64}
"""Types that torch stores but has few kernels for; they are computed in int64 and wrapped back."""

PACKED = {"int4": torch.int8, "uint4": torch.uint8, "int2": torch.int8, "uint2": torch.uint8}
"""Integers narrower than a byte: torch has no usable tensor of them, one byte each holds the value."""

FLOAT4 = "float4_e2m1fn"
"""Floats of four bits: torch has no usable tensor of them, one byte each holds the bits."""


class Typed(NamedTuple):
    """A result of a dtype that torch has no tensor for: integers, or a float's bits; with its numpy name."""

    tensor: torch.Tensor
    dtype: str


Single = Union[torch.Tensor, Typed]
Result = Union[Single, Sequence[Single]]


class Call:
    """What a handler sees: inputs (absent ones are ``None``), attributes, the precision asked for."""

    def __init__(
        self, node: Node, inputs: Sequence[Optional[torch.Tensor]], dtypes: Sequence[str], float64: bool
    ):
        self.node = node
        self.inputs = list(inputs)
        self.dtypes = list(dtypes)
        self.float64 = float64

    @property
    def x(self) -> torch.Tensor:
        """The first input, which must be there."""
        return self.need(0)

    def input(self, index: int) -> Optional[torch.Tensor]:
        """An optional input."""
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, index: int) -> torch.Tensor:
        """A required input."""
        tensor = self.input(index)
        if tensor is None:
            raise InputError(
                f"{self.node.op_type} needs input {index}, found {len(self.inputs)} inputs; give it an array"
            )
        return tensor

    def present(self) -> List[torch.Tensor]:
        """Every input of a variadic operator."""
        return [self.need(index) for index in range(len(self.inputs))]

    def integers(self, index: int) -> Optional[List[int]]:
        """A shape-like input as Python integers, ``None`` when absent."""
        tensor = self.input(index)
        return None if tensor is None else [int(value) for value in tensor.reshape(-1).tolist()]

    def integer(self, index: int, default: int) -> int:
        """A scalar input as a Python integer."""
        values = self.integers(index)
        return values[0] if values else default

    def number(self, index: int, default: float) -> float:
        """A scalar input as a Python float."""
        tensor = self.input(index)
        return default if tensor is None or tensor.numel() == 0 else float(tensor.reshape(-1)[0].item())

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or ONNX's default for it."""
        return self.node.attributes.get(name, default)

    def dtype(self, number: int) -> str:
        """The dtype name of an ONNX type number; floating types are float64 when float64 is asked for."""
        if number not in ONNX_DTYPES:
            raise UnsupportedNode(f"torch has no tensors of ONNX type {number} (asked for by {self.node})")
        name = ONNX_DTYPES[number]
        return "float64" if self.float64 and name in ("float16", "bfloat16", "float32") else name

    def axes(self, index: int = 1) -> Optional[List[int]]:
        """Axes given as an input (since opset 13) or as an attribute, not negative; ``None`` if not given."""
        values = self.integers(index)
        if values is None:
            values = self.get("axes")
        return None if values is None else [axis % max(self.x.dim(), 1) for axis in values]

    def unsupported(self, reason: str) -> UnsupportedNode:
        """The error for what torch, or this adapter, cannot do."""
        return UnsupportedNode(f"torch cannot run {self.node}: {reason}")


Handler = Callable[[Call], Result]


def numpy_dtype(name: str) -> np.dtype:
    """A numpy dtype by name; those beyond numpy's own come from ml_dtypes.

    Raises:
        UnsupportedNode: ml_dtypes is not installed.
    """
    try:
        return np.dtype(name)
    except TypeError:
        pass
    try:
        return np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except (ImportError, AttributeError) as error:
        raise UnsupportedNode(
            f"numpy has no dtype {name} without the package ml_dtypes; install ml_dtypes"
        ) from error


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype that holds values of this numpy dtype.

    Raises:
        UnsupportedNode: torch has none.
    """
    found = PACKED.get(name, getattr(torch, name, None))
    if not isinstance(found, torch.dtype):
        raise UnsupportedNode(f"torch {torch.__version__} has no tensors of dtype {name}")
    return found


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """The same values as a tensor of its own memory; dtypes that numpy lacks travel as their bits."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    name = array.dtype.name
    if name in PACKED:
        size = 1 << int(name[-1])
        low = torch.from_numpy(array.view(np.uint8).copy()).to(torch.int16) & (size - 1)
        signed = torch.where(low >= size // 2, low - size, low)
        return (low if name.startswith("u") else signed).to(PACKED[name])
    if name == FLOAT4:
        return torch.from_numpy(array.view(np.uint8).copy())
    if array.dtype.kind in "OSU":
        raise UnsupportedNode(f"torch has no tensors of {array.dtype} (strings or objects)")
    return arrays.to_tensor(array)


def to_array(result: Union[torch.Tensor, Typed]) -> np.ndarray:
    """An owned numpy array of a result."""
    if isinstance(result, Typed):
        mask = (1 << int(result.dtype[-1])) - 1 if result.dtype in PACKED else 0xFF
        bits = (result.tensor.to(torch.int16) & mask).to(torch.uint8)
        return arrays.to_array(bits.contiguous()).view(numpy_dtype(result.dtype))
    return arrays.to_array(result)


def widen(
    tensors: Sequence[Optional[torch.Tensor]],
) -> Tuple[List[Optional[torch.Tensor]], Optional[torch.dtype]]:
    """uint16, uint32 and uint64 tensors as int64, and the type to wrap results back to.

    Raises:
        UnsupportedNode: a uint64 value is above the largest int64.
    """
    origin = None
    widened: List[Optional[torch.Tensor]] = []
    for tensor in tensors:
        if tensor is not None and str(tensor.dtype).split(".")[-1] in WIDENED:
            origin = origin or tensor.dtype
            wide = tensor.to(torch.int64)
            if tensor.dtype == torch.uint64 and bool((wide < 0).any()):
                raise UnsupportedNode("torch has no arithmetic for uint64 values of 2**63 and above")
            widened.append(wide)
        else:
            widened.append(tensor)
    return widened, origin

"""The table of operators, and the few helpers that every family needs.

An operator is a plain function of its ONNX attributes and its inputs in ONNX order; it returns a tuple of
outputs. Arithmetic is done in the dtype of the inputs, except that 16-bit and narrower floats are computed in
float32 and rounded once at the end, as real kernels do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Attributes = Mapping[str, Any]
Inputs = Sequence[Array | None]
Outputs = tuple[Array, ...]
Operator = Callable[[Attributes, Inputs], Outputs]

_OPERATORS: dict[str, Operator] = {}
_DATA_MOVEMENT: set[str] = set()
_Decorated = TypeVar("_Decorated", bound=Operator)

OUTPUT_COUNT = "output_count"
"""A hint among the attributes: how many outputs the caller wants; costly extra ones are then not made."""

NARROW = frozenset(
    [
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float4_e2m1fn",
    ]
)
"""Names of the floating dtypes that are computed in float32."""


def operator(*names: str, moves: bool = False, exact: bool = False) -> Callable[[_Decorated], _Decorated]:
    """Register a function under one or more ONNX operator names.

    Args:
        names: operator names, for example ``"Conv"``.
        moves: pure data movement: any dtype goes through untouched, and the output holds only input values.
        exact: the function looks after narrow floats itself (casts, comparisons).

    Example:
        >>> @operator("Relu")
        ... def relu(attributes, inputs):
        ...     return (np.maximum(inputs[0], 0),)
    """

    def register(function: _Decorated) -> _Decorated:
        registered: Operator = _silent(function if moves or exact else _widened(function))
        for name in names:
            _OPERATORS[name] = registered
            if moves:
                _DATA_MOVEMENT.add(name)
        return function

    return register


def find(op_type: str) -> Operator | None:
    """The function for an ONNX operator name, or ``None``.

    Example:
        >>> find("Conv") is not None, find("NoSuchOperator") is None
        (True, True)
    """
    return _OPERATORS.get(op_type)


def supported() -> frozenset[str]:
    """Names of all operators that are evaluated here and not by a fallback."""
    return frozenset(_OPERATORS)


def moves_data(op_type: str) -> bool:
    """Whether an operator only moves values, so that its result is bit for bit the same in any framework."""
    return op_type in _DATA_MOVEMENT


def is_narrow(array: Array) -> bool:
    """Whether an array has a floating dtype of 16 bits or fewer."""
    return array.dtype.name in NARROW


def is_floating(array: Array) -> bool:
    """Whether an array has a real floating dtype, numpy's own or one of ml_dtypes."""
    return array.dtype.kind == "f" or array.dtype.name in NARROW


def _widened(function: Operator) -> Operator:
    """Wrap an operator: narrow floats are computed in float32 and rounded to the first narrow dtype."""

    @functools.wraps(function)
    def run(attributes: Attributes, inputs: Inputs) -> Outputs:
        narrow = next((item.dtype for item in inputs if item is not None and is_narrow(item)), None)
        if narrow is None:
            return function(attributes, inputs)
        wide = [item.astype(np.float32) if item is not None and is_narrow(item) else item for item in inputs]
        outputs = function(attributes, wide)
        return tuple(item.astype(narrow) if item.dtype == np.float32 else item for item in outputs)

    return run


def _silent(function: Operator) -> Operator:
    """Wrap an operator so that NaN and infinity are results and not warnings."""

    @functools.wraps(function)
    def run(attributes: Attributes, inputs: Inputs) -> Outputs:
        with np.errstate(all="ignore"):
            return function(attributes, inputs)

    return run


def required(inputs: Inputs, index: int, name: str) -> Array:
    """An input that must be there.

    Raises:
        ValueError: it is absent.
    """
    value = optional(inputs, index)
    if value is None:
        raise ValueError(f"input {index} ({name}) is absent, but this operator needs it")
    return value


def optional(inputs: Inputs, index: int) -> Array | None:
    """An input that may be absent."""
    return inputs[index] if index < len(inputs) else None


def integers(value: Any, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """An attribute or an index tensor as a tuple of Python ints; a lone number counts as one."""
    if value is None:
        if default is None:
            raise ValueError("a list of integers is needed, found none")
        return tuple(int(item) for item in default)
    return tuple(int(item) for item in np.asarray(value).reshape(-1).tolist())


def normalized_axis(axis: int, rank: int) -> int:
    """A non-negative axis.

    Raises:
        ValueError: it is outside ``[-rank, rank)``.
    """
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis} is outside [-{rank}, {rank}) for a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def channelwise(parameter: Array, rank: int) -> Array:
    """One value per channel, shaped ``(C, 1, …)`` to broadcast over ``(N, C, …)`` of the given rank."""
    return parameter.reshape(parameter.shape + (1,) * (rank - 2))

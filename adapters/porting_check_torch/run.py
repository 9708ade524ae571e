"""Execute one node of the neutral language with torch's ordinary public operators."""

from __future__ import annotations

from types import ModuleType
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

import numpy as np
import torch

from porting_check.neutral.errors import RunError, UnsupportedNode
from porting_check.neutral.node import EXTENSION, Node
from porting_check_torch import (
    run_activation,
    run_attention,
    run_cast,
    run_constant,
    run_convolution,
    run_detection,
    run_elementwise,
    run_indexing,
    run_linear,
    run_movement,
    run_normalization,
    run_pooling,
    run_recurrent,
    run_reduction,
    run_resampling,
    run_signal,
)
from porting_check_torch.run_call import (
    FLOAT4,
    PACKED,
    Call,
    Handler,
    Result,
    Single,
    Typed,
    to_array,
    to_tensor,
    widen,
)

FAMILIES: Tuple[ModuleType, ...] = (
    run_activation,
    run_attention,
    run_cast,
    run_constant,
    run_convolution,
    run_detection,
    run_elementwise,
    run_indexing,
    run_linear,
    run_movement,
    run_normalization,
    run_pooling,
    run_recurrent,
    run_reduction,
    run_resampling,
    run_signal,
)
HANDLERS: Dict[str, Handler] = {
    name: handler for family in FAMILIES for name, handler in family.OPERATORS.items()
}
EXTENSIONS: Dict[str, Handler] = dict(run_pooling.EXTENSION)

CONVERSIONS = ("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear")

PLACES = {"ArgMax": (0,), "ArgMin": (0,), "TopK": (1,), "NonZero": (0,), "Unique": (1, 2, 3), "MaxPool": (1,)}
"""Outputs that are int64 places whatever the type of the data."""

NO_KERNEL = (
    "has no attribute",  # an older torch
    "unexpected keyword argument",  # an older torch too: gelu(approximate=) before 1.12
    "not implemented for",
    "not supported on",
    "does not support",
    "not currently supported",
    "Unsupported",
)


REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)

GAPS: Dict[str, str] = {}
"""Operators of which some form is not run, and why; ``impossible: …`` where no work on the adapter can change that."""


def supported() -> FrozenSet[str]:
    """Names of the operators that :func:`run` executes, those of porting_check's own domain included.

    Example:
        >>> "Conv" in supported()
        True
    """
    return frozenset(HANDLERS) | frozenset(EXTENSIONS)


def run(
    node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
) -> Tuple[np.ndarray, ...]:
    """Execute one node in inference, with ONNX opset-24 semantics, by torch's own operators on the CPU.

    Args:
        node: what to compute; activations are channel-first, kernels OIHW, as ONNX has them.
        inputs: one array per name in ``node.inputs``, ``None`` for an optional input that is absent.
        float64: cast floating inputs to float64 and evaluate everything in it; floating results are
            float64. Casts between float16, bfloat16, float32 and float64 then round nothing, those to
            float8 and float4 round to their values.

    Returns:
        One owned array per name in ``node.outputs``.

    Raises:
        UnsupportedNode: torch has no such operator, or none for these types or attributes.
        RunError: torch refused these inputs (shapes that do not fit, for example).

    Example:
        >>> x = np.array([[-1.0, 2.0]], np.float32)
        >>> run(Node("Relu", ("x",)), [x])[0]
        array([[0., 2.]], dtype=float32)
    """
    handler = _handler(node)
    _refuse_narrow(node, inputs)
    with torch.no_grad():
        tensors = [None if array is None else _tensor(array, float64) for array in inputs]
        dtypes = ["" if array is None else array.dtype.name for array in inputs]
        results = _execute(handler, node, tensors, dtypes, float64)
        if len(results) < len(node.outputs):
            raise UnsupportedNode(
                f"torch gives {len(results)} outputs of {node}, asked for {len(node.outputs)}"
            )
        results = results[: len(node.outputs)]
        return tuple(to_array(_widened(result) if float64 else result) for result in results)


def _handler(node: Node) -> Handler:
    """The handler of a node's operator."""
    table = EXTENSIONS if node.domain == EXTENSION else HANDLERS if node.domain in ("", "ai.onnx") else {}
    if node.op_type not in table:
        where = f" of domain {node.domain!r}" if node.domain else ""
        raise UnsupportedNode(
            f"operator {node.op_type!r}{where} is not described for torch; see supported() for those that are"
        )
    return table[node.op_type]


def _refuse_narrow(node: Node, inputs: Sequence[Optional[np.ndarray]]) -> None:
    """Types of less than a byte only exist for conversions: any other operator would lose them silently."""
    for array in inputs:
        if array is not None and array.dtype.name in (*PACKED, FLOAT4) and node.op_type not in CONVERSIONS:
            raise UnsupportedNode(
                f"torch has no tensors of {array.dtype.name}, which {node} reads; cast it first"
            )


def _tensor(array: np.ndarray, float64: bool) -> torch.Tensor:
    """An input as a tensor of its own memory."""
    tensor = to_tensor(np.asarray(array))
    return tensor.to(torch.float64) if float64 and tensor.is_floating_point() else tensor


def _widened(result: Single) -> Single:
    """A floating result in float64: those of float8 and float4 keep their few values."""
    if isinstance(result, Typed):
        return run_cast.from_float4(result.tensor).to(torch.float64) if result.dtype == FLOAT4 else result
    return result.to(torch.float64) if result.is_floating_point() else result


def _execute(
    handler: Handler, node: Node, tensors: List[Optional[torch.Tensor]], dtypes: List[str], float64: bool
) -> List[Single]:
    """Run the handler; unsigned types that torch only stores are computed in int64 and wrapped back."""
    try:
        return _listed(handler(Call(node, tensors, dtypes, float64)))
    except REFUSALS as error:
        wide, origin = widen(tensors) if _no_kernel(error) else ([], None)
        if origin is None:
            raise _explained(node, error) from error
    try:
        results = _listed(handler(Call(node, wide, dtypes, float64)))
    except REFUSALS as error:
        raise _explained(node, error) from error
    return [
        _narrow(result, origin, index in PLACES.get(node.op_type, ())) for index, result in enumerate(results)
    ]


def _listed(result: Result) -> List[Single]:
    """A handler's result as a list."""
    return [result] if isinstance(result, (torch.Tensor, Typed)) else list(result)


def _narrow(result: Single, origin: torch.dtype, place: bool) -> Single:
    """An int64 result back in the type that was widened."""
    if isinstance(result, torch.Tensor) and result.dtype == torch.int64 and not place:
        return result.to(origin)
    return result


def _no_kernel(error: Exception) -> bool:
    """Whether torch says that it has no code for the type."""
    return isinstance(error, NotImplementedError) or any(words in str(error) for words in NO_KERNEL)


def _explained(node: Node, error: Exception) -> Exception:
    """The framework's refusal in the project's words."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    if _no_kernel(error):
        return UnsupportedNode(f"torch {torch.__version__} cannot run {node}: {line}")
    return RunError(
        f"torch could not run {node}: {type(error).__name__}: {line}; check the shapes and attributes"
    )

"""Execute one node of the neutral language with JAX's ordinary public operators."""

from __future__ import annotations

from types import ModuleType
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

import jax
import numpy as np

from porting_check.neutral.errors import RunError, UnsupportedNode
from porting_check.neutral.node import EXTENSION, Node
from porting_check_jax import (
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
from porting_check_jax.precision import evaluation
from porting_check_jax.run_call import NARROW, Handler, Single, is_floating, to_array
from porting_check_jax.run_program import Programs

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
"""What reads types that JAX computes little with."""

NO_KERNEL = (
    "has no attribute",  # an older JAX
    "does not accept dtype",
    "not implemented",
    "UNIMPLEMENTED",
    "not supported",
    "Unsupported",
)
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)

PROGRAMS = Programs()

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
    """Execute one node in inference, with ONNX opset-24 semantics, by JAX's own operators on the CPU.

    64-bit types are on while it runs, in this thread only; JAX's configuration stays as it was. A node is
    compiled as a whole and the program kept, for other values of the same types and shapes.

    Args:
        node: what to compute; activations are channel-first, kernels OIHW, as ONNX has them.
        inputs: one array per name in ``node.inputs``, ``None`` for an optional input that is absent.
        float64: cast floating inputs to float64 and evaluate everything in it; floating results are
            float64. Casts between float16, bfloat16, float32 and float64 then round nothing, those to
            float8 and float4 round to their values.

    Returns:
        One owned array per name in ``node.outputs``.

    Raises:
        UnsupportedNode: JAX has no such operator, or none for these types or attributes.
        RunError: JAX refused these inputs (shapes that do not fit, for example).

    Example:
        >>> x = np.array([[-1.0, 2.0]], np.float32)
        >>> run(Node("Relu", ("x",)), [x])[0]
        array([[0., 2.]], dtype=float32)
    """
    handler = _handler(node)
    arrays = [None if given is None else np.asarray(given) for given in inputs]
    _refuse_narrow(node, arrays)
    run_indexing.check_places(node, arrays)
    with evaluation():
        results = _execute(handler, node, arrays, float64)
        if len(results) < len(node.outputs):
            raise UnsupportedNode(
                f"jax gives {len(results)} outputs of {node}, asked for {len(node.outputs)}"
            )
        return tuple(_finished(result, float64) for result in results[: len(node.outputs)])


def _handler(node: Node) -> Handler:
    """The handler of a node's operator."""
    table = EXTENSIONS if node.domain == EXTENSION else HANDLERS if node.domain in ("", "ai.onnx") else {}
    if node.op_type not in table:
        where = f" of domain {node.domain!r}" if node.domain else ""
        raise UnsupportedNode(
            f"operator {node.op_type!r}{where} is not described for jax; see supported() for those that are"
        )
    return table[node.op_type]


def _refuse_narrow(node: Node, arrays: Sequence[Optional[np.ndarray]]) -> None:
    """Types of less than a byte only exist for conversions: JAX has few kernels that compute with them."""
    for array in arrays:
        if array is not None and array.dtype.name in NARROW and node.op_type not in CONVERSIONS:
            raise UnsupportedNode(
                f"jax does not compute with {array.dtype.name}, which {node} reads; cast it first"
            )


def _execute(
    handler: Handler, node: Node, arrays: Sequence[Optional[np.ndarray]], float64: bool
) -> List[Single]:
    """Run the handler; what JAX refuses is said in the project's words."""
    try:
        return PROGRAMS.execute(handler, node, arrays, float64)
    except REFUSALS as error:
        raise _explained(node, error) from error


def _finished(result: Single, float64: bool) -> np.ndarray:
    """A result as an owned array; in a float64 evaluation the few values of float8 and float4 are kept in it."""
    array = to_array(result)
    return array.astype(np.float64) if float64 and is_floating(array) else array


def _explained(node: Node, error: Exception) -> Exception:
    """The framework's refusal in the project's words."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, NotImplementedError) or any(words in str(error) for words in NO_KERNEL):
        return UnsupportedNode(f"jax {jax.__version__} cannot run {node}: {line}")
    return RunError(
        f"jax could not run {node}: {type(error).__name__}: {line}; check the shapes and attributes"
    )

"""Execute one node of the neutral language with TensorFlow's ordinary public operators."""

from __future__ import annotations

from types import ModuleType
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.errors import RunError, UnsupportedNode
from porting_check.neutral.node import EXTENSION, Node
from porting_check_tensorflow import (
    run_activation,
    run_attention,
    run_cast,
    run_constant,
    run_convolution,
    run_detection,
    run_elementwise,
    run_grid,
    run_indexing,
    run_linear,
    run_minifloat,
    run_movement,
    run_normalization,
    run_pooling,
    run_recurrent,
    run_reduction,
    run_resampling,
    run_signal,
)
from porting_check_tensorflow.graph_state import eagerly
from porting_check_tensorflow.run_call import (
    BITS,
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
    run_grid,
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
"""What reads types that TensorFlow has no kernels for."""

PLACES = {"ArgMax": (0,), "ArgMin": (0,), "TopK": (1,), "NonZero": (0,), "Unique": (1, 2, 3), "MaxPool": (1,)}
"""Outputs that are int64 places whatever the type of the data."""

NO_KERNEL = (
    "has no attribute",  # an older TensorFlow
    "not in the list of allowed values",
    "Could not find device for node",
    "not supported",
    "not implemented",
)
REFUSALS = (tf.errors.OpError, ValueError, TypeError, IndexError, KeyError, AttributeError)

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
    """Execute one node in inference, with ONNX opset-24 semantics, by TensorFlow's own eager operators.

    It runs on the CPU; activations are turned to channels last where TensorFlow's kernels want it.

    Args:
        node: what to compute; activations are channel-first, kernels OIHW, as ONNX has them.
        inputs: one array per name in ``node.inputs``, ``None`` for an optional input that is absent.
        float64: cast floating inputs to float64 and evaluate everything in it; floating results are
            float64. Casts between float16, bfloat16, float32 and float64 then round nothing, those to
            float8 and float4 round to their values. Operators that would go through float32
            silently (``tf.image.resize``, LRN, constants of ``tf.nn.gelu``) are composed of others.

    Returns:
        One owned array per name in ``node.outputs``.

    Raises:
        UnsupportedNode: TensorFlow has no such operator, or none for these types or attributes.
        RunError: TensorFlow refused these inputs (shapes that do not fit, for example).

    Example:
        >>> x = np.array([[-1.0, 2.0]], np.float32)
        >>> run(Node("Relu", ("x",)), [x])[0]
        array([[0., 2.]], dtype=float32)
    """
    handler = _handler(node)
    _refuse_narrow(node, inputs)
    with eagerly(), tf.device("/CPU:0"):
        tensors = [None if array is None else _tensor(array, float64) for array in inputs]
        dtypes = ["" if array is None else array.dtype.name for array in inputs]
        results = _execute(handler, node, tensors, dtypes, float64)
        if len(results) < len(node.outputs):
            counts = f"{len(results)} outputs of {node}, asked for {len(node.outputs)}"
            raise UnsupportedNode(f"tensorflow gives {counts}")
        results = results[: len(node.outputs)]
        return tuple(to_array(_widened(result) if float64 else result) for result in results)


def _handler(node: Node) -> Handler:
    """The handler of a node's operator."""
    table = EXTENSIONS if node.domain == EXTENSION else HANDLERS if node.domain in ("", "ai.onnx") else {}
    if node.op_type not in table:
        name = repr(node.op_type) + (f" of domain {node.domain!r}" if node.domain else "")
        raise UnsupportedNode(
            f"operator {name} is not described for tensorflow; see supported() for those that are"
        )
    return table[node.op_type]


def _refuse_narrow(node: Node, inputs: Sequence[Optional[np.ndarray]]) -> None:
    """Types without kernels only exist for conversions: any other operator would lose them silently."""
    for array in inputs:
        if array is not None and array.dtype.name in (*PACKED, *BITS) and node.op_type not in CONVERSIONS:
            name = array.dtype.name
            raise UnsupportedNode(f"tensorflow has no kernels for {name}, which {node} reads; cast it first")


def _tensor(array: np.ndarray, float64: bool) -> tf.Tensor:
    """An input as a tensor."""
    tensor = to_tensor(np.asarray(array))
    return tf.cast(tensor, tf.float64) if float64 and tensor.dtype.is_floating else tensor


def _widened(result: Single) -> Single:
    """A floating result in float64: those of float8 and float4 keep their few values."""
    if isinstance(result, Typed):
        coded = result.dtype in BITS
        return tf.cast(run_minifloat.decode(result.tensor, result.dtype), tf.float64) if coded else result
    return tf.cast(result, tf.float64) if result.dtype.is_floating else result


def _execute(
    handler: Handler, node: Node, tensors: List[Optional[tf.Tensor]], dtypes: List[str], float64: bool
) -> List[Single]:
    """Run the handler; integers that its kernels do not take are computed in int64 and wrapped back."""
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
    places = PLACES.get(node.op_type, ())
    return [_narrow(result, origin, index in places) for index, result in enumerate(results)]


def _listed(result: Result) -> List[Single]:
    """A handler's result as a list."""
    return list(result) if isinstance(result, (list, tuple)) and not isinstance(result, Typed) else [result]


def _narrow(result: Single, origin: tf.DType, place: bool) -> Single:
    """An int64 result back in the type that was widened."""
    if not isinstance(result, Typed) and result.dtype == tf.int64 and not place:
        return tf.cast(result, origin)
    return result


def _no_kernel(error: Exception) -> bool:
    """Whether TensorFlow says that it has no code for the type."""
    known = (tf.errors.UnimplementedError, tf.errors.NotFoundError)
    return isinstance(error, known) or any(words in str(error) for words in NO_KERNEL)


def _explained(node: Node, error: Exception) -> Exception:
    """The framework's refusal in the project's words."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    line = text.splitlines()[0].split("}} ")[-1]
    if _no_kernel(error):
        return UnsupportedNode(f"tensorflow {tf.__version__} cannot run {node}: {line}")
    kind = type(error).__name__
    return RunError(f"tensorflow could not run {node}: {kind}: {line}; check the shapes and attributes")

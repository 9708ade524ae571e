"""The truth: nodes of the neutral language evaluated in float64.

Operators are evaluated by :mod:`porting_check.numerics.operators`; what is missing there goes to the
reference implementation of ONNX in float64 (imported only then), and what that cannot do either raises
:class:`CannotEvaluate`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from porting_check.neutral.errors import PortingError
from porting_check.numerics.operators import OUTPUT_COUNT, Array, find, moves_data
from porting_check.numerics.operators.dtypes import FLOAT8, NAMES, numpy_dtype
from porting_check.numerics.operators.registry import is_floating

if TYPE_CHECKING:
    from porting_check.neutral.node import Node

OPSET = 24
DOMAINS = ("", "ai.onnx", "porting_check")
"""Domains whose operators are known here; the last one holds what ONNX lacks (adaptive pooling)."""

_CASTS = ("Cast", "CastLike")
_LOG = logging.getLogger(__name__)


class CannotEvaluate(PortingError):
    """A node whose float64 value nothing at hand can compute.

    Attributes:
        op_type: the operator.
        reason: why, in one line.
    """

    def __init__(self, op_type: str, reason: str) -> None:
        super().__init__(f"{op_type} cannot be evaluated in float64: {reason}")
        self.op_type = op_type
        self.reason = reason


def evaluate(
    nodes: Iterable[Node],
    values: Mapping[str, Array],
    *,
    dtype: DTypeLike | None = np.float64,
    keep: Iterable[str] | None = None,
) -> dict[str, Array]:
    """Evaluate nodes in order.

    Args:
        nodes: each with ``op_type``, ``domain``, ``inputs``, ``outputs``, ``attributes``; an empty name means
            absent.
        values: the inputs and parameters by name; not changed.
        dtype: floating inputs are brought to it first, complex ones to its complex twin; integers and
            booleans stay. ``None`` brings nothing anywhere: pure data movement then returns the very bits.
        keep: names of the values to return. Everything else is freed after its last use. Without it all
            values made by the nodes are returned.

    Returns:
        The values made, or those named in ``keep`` (which may also name inputs).

    Raises:
        CannotEvaluate: an operator that nothing can evaluate, or a name in ``keep`` that nothing makes.
        ValueError: inputs of shapes or attributes that the operator does not accept.

    Example:
        >>> from porting_check.neutral.node import Node
        >>> made = evaluate([Node("Relu", ("x",), ("y",))], {"x": np.array([-1, 2], np.float32)})
        >>> made["y"]
        array([0., 2.])
    """
    chain = list(nodes)
    kept = None if keep is None else set(keep)
    left = Counter(name for node in chain for name in node.inputs if name)
    held = {
        name: widened(value, dtype) for name, value in values.items() if left[name] or (kept and name in kept)
    }
    made: set[str] = set()
    for node in chain:
        inputs = [_held(held, name, node) for name in node.inputs]
        outputs = evaluate_node(node, inputs, dtype=dtype)
        del inputs
        for name, output in zip(node.outputs, outputs, strict=False):
            if name:
                held[name] = output
                made.add(name)
        left.subtract(name for name in node.inputs if name)
        if kept is not None:
            for name in {*node.inputs, *node.outputs} - kept:
                if not left[name]:
                    held.pop(name, None)
    wanted = made if kept is None else kept
    missing = sorted(wanted - held.keys())
    if missing:
        raise CannotEvaluate("Graph", f"no node makes the value {missing[0]!r}")
    return {name: held[name] for name in held if name in wanted}


def _held(held: Mapping[str, Array], name: str, node: Node) -> Array | None:
    """The value of a name, ``None`` for the empty one."""
    if not name:
        return None
    if name not in held:
        raise CannotEvaluate(node.op_type, f"its input {name!r} was neither given nor made before it")
    return held[name]


def evaluate_node(
    node: Node, inputs: Sequence[Array | None], *, dtype: DTypeLike | None = np.float64
) -> tuple[Array, ...]:
    """Evaluate one node.

    Args:
        node: the operator and its attributes.
        inputs: arrays in the order of ``node.inputs``, ``None`` where absent.
        dtype: what floating inputs are brought to before the arithmetic, and what results come out in. Data
            movement takes any dtype through untouched. ``None``: compute in the dtype of the inputs.

    Returns:
        As many outputs as the node names (at least one).

    A cast between floating dtypes is part of how a model is executed, not of what it computes, and stays at
    ``dtype``; a cast to an 8-bit float (a quantisation) is carried out.

    Raises:
        CannotEvaluate: nothing can evaluate the operator.
        ValueError: shapes or attributes that the operator does not accept.
    """
    function = find(node.op_type) if node.domain in DOMAINS else None
    count = max(len(node.outputs), 1)
    if function is None:
        return _by_onnx(node, [widened(item, dtype) if item is not None else None for item in inputs], count)
    attributes = {**node.attributes, OUTPUT_COUNT: count}
    if moves_data(node.op_type):
        return function(attributes, inputs)[:count]
    arrays = [widened(item, dtype) if item is not None else None for item in inputs]
    if dtype is not None and node.op_type in _CASTS:
        attributes, arrays = _wide_cast(node.op_type, attributes, arrays, np.dtype(dtype))
    outputs = function(attributes, arrays)[:count]
    return tuple(widened(output, dtype) for output in outputs)


def widened(array: Array, dtype: DTypeLike | None) -> Array:
    """A floating array in ``dtype``, a complex one in its complex twin, anything else as it is.

    Example:
        >>> widened(np.zeros(2, np.float32), np.float64).dtype
        dtype('float64')
        >>> widened(np.zeros(2, np.int8), np.float64).dtype
        dtype('int8')
    """
    array = np.asarray(array)
    if dtype is None:
        return array
    if is_floating(array):
        return array.astype(dtype, copy=False)
    if array.dtype.kind == "c":
        return array.astype(np.result_type(dtype, np.complex64), copy=False)
    return array


def _wide_cast(
    op_type: str, attributes: dict[str, Any], arrays: list[Array | None], dtype: np.dtype[Any]
) -> tuple[dict[str, Any], list[Array | None]]:
    """Turn a cast to a floating dtype (16 bits or more) into one to ``dtype``."""
    if op_type == "CastLike":
        return attributes, arrays  # its second input has been widened already
    target = numpy_dtype(attributes["to"])
    if target.name not in FLOAT8 and is_floating(np.empty(0, target)):
        return {**attributes, "to": dtype.name}, arrays
    return attributes, arrays


def _by_onnx(node: Node, inputs: Sequence[Array | None], count: int) -> tuple[Array, ...]:
    """Evaluate with the reference implementation of ONNX, through a model of this one node."""
    if node.domain not in ("", "ai.onnx"):
        raise CannotEvaluate(
            node.op_type, f"no rule for it, and its domain {node.domain!r} is not that of ONNX"
        )
    try:
        model, feeds = _one_node_model(node, inputs, count)
    except ImportError:
        raise CannotEvaluate(
            node.op_type, "no rule for it here, and the onnx package is not installed"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise CannotEvaluate(
            node.op_type, f"it cannot be written as an ONNX node ({_line(error)})"
        ) from error
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            outputs = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # the reference implementation raises anything at all
        raise CannotEvaluate(node.op_type, f"onnx.reference failed: {_line(error)}") from error
    _LOG.info("%s was evaluated by onnx.reference, which may hold float32 constants inside", node.op_type)
    return tuple(np.asarray(output) for output in outputs)


def _line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _one_node_model(node: Node, inputs: Sequence[Array | None], count: int) -> tuple[Any, dict[str, Array]]:
    """An ONNX model of one node, and what to feed it."""
    from onnx import helper, numpy_helper

    numbers = {name: number for number, name in NAMES.items()}
    names = [f"input_{index}" if item is not None else "" for index, item in enumerate(inputs)]
    feeds = {name: item for name, item in zip(names, inputs, strict=True) if item is not None}
    outputs = [f"output_{index}" for index in range(count)]
    attributes = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    made = helper.make_node(node.op_type, names, outputs, **attributes)
    graph = helper.make_graph(
        [made],
        "one_node",
        [
            helper.make_tensor_value_info(name, numbers[item.dtype.name], item.shape)
            for name, item in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), feeds

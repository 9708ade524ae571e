"""From a node of any opset to nodes of opset 24."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import onnx

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.node import OPSET
from porting_check_onnxruntime import (
    describe_fused,
    describe_movement,
    describe_normalization,
    describe_quantized,
    describe_recurrent,
    describe_reduction,
    describe_resampling,
    describe_window,
)
from porting_check_onnxruntime.draft import Described, Draft, Operand, Undescribed

Describer = Callable[[Draft], None]

FAMILIES: Tuple[ModuleType, ...] = (
    describe_fused,
    describe_movement,
    describe_normalization,
    describe_quantized,
    describe_recurrent,
    describe_reduction,
    describe_resampling,
    describe_window,
)

TABLE: Dict[str, Describer] = {name: rule for family in FAMILIES for name, rule in family.OPERATORS.items()}
"""Operators of ONNX whose form has changed since opset 7, or that have channels; all others are taken as they are."""

MICROSOFT: Dict[str, Describer] = {
    name: rule for family in FAMILIES for name, rule in getattr(family, "MICROSOFT", {}).items()
}
"""Operators of ONNX Runtime's own domain, most of them made by its optimiser."""

RANDOM = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split()
)

OPENED = {
    "Loop": "its body was not opened: how often it runs is known only while it runs",
    "Scan": "its body was not opened: it runs once for every element of a sequence",
    "If": "its branches were not opened",
    "SequenceMap": "its body was not opened",
}


def describe(
    op_type: str,
    domain: str,
    opset: int,
    attributes: Mapping[str, Any],
    inputs: Sequence[Optional[Operand]],
    outputs: Sequence[Optional[Operand]],
) -> Union[Described, str]:
    """A node in the neutral language, or the reason why it stays opaque.

    Args:
        op_type: the operator.
        domain: ``""`` for ONNX' own.
        opset: the version that the model imports of this domain.
        attributes: of the node; graphs inside are not looked at.
        inputs: by place, ``None`` where absent.
        outputs: likewise.

    Example:
        >>> x = Operand("x", (2, 3), "float32", lambda: np.zeros((2, 3), np.float32))
        >>> print(describe("LeakyRelu", "", 16, {}, [x], [x]).nodes[0])
        LeakyRelu(alpha=0.01)
    """
    spoken = f"{domain}.{op_type}" if domain else op_type
    draft = Draft(op_type, domain, opset, attributes, inputs, outputs)
    try:
        rule = _rule(draft)
        rule(draft)
        return draft.finish()
    except Undescribed as reason:
        return f"{spoken} {reason}"
    except PaddingError as error:
        return f"{spoken} cannot be described: {error}"
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        # a damaged or unusual node must not stop a recording
        return f"{spoken} could not be described: {type(error).__name__}: {error}"


def _rule(draft: Draft) -> Describer:
    name = draft.op_type
    if draft.domain == "com.microsoft":
        if name not in MICROSOFT:
            draft.refuse("is ONNX Runtime's own and not described")
        return MICROSOFT[name]
    if draft.domain:
        draft.refuse("is not described")
    if name in OPENED:
        draft.refuse(f"is control flow; {OPENED[name]}")
    if name in RANDOM:
        draft.refuse("draws random numbers")
    return TABLE.get(name, as_it_is)


def as_it_is(draft: Draft) -> None:
    """An operator whose meaning has not changed: its inputs in order, its attributes and their defaults.

    Raises:
        Undescribed: opset 24 has no such operator.
    """
    attributes = explicit(draft, draft.attributes)
    inputs = [draft.port(index) for index in range(len(draft.inputs))]
    for index, name in enumerate(draft.nodes(len(draft.outputs), draft.op_type, *inputs, **attributes)):
        draft.give(name, index=index)


def explicit(draft: Draft, given: Mapping[str, Any]) -> Dict[str, Any]:
    """Attributes of opset 24 with their defaults written out; those that it has no more are left away."""
    known = defaults(draft.op_type)
    if known is None:
        draft.refuse(f"of opset {draft.opset} has no counterpart in opset {OPSET}")
    merged = {name: value for name, value in known.items() if value is not None}
    merged.update((name, value) for name, value in given.items() if name in known)
    return merged


@functools.lru_cache(maxsize=None)
def defaults(op_type: str) -> Optional[Dict[str, Any]]:
    """Attributes of an operator of opset 24 with their defaults (``None``: it has none); ``None`` for no operator."""
    try:
        schema = onnx.defs.get_schema(op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    return {
        name: onnx.helper.get_attribute_value(attribute.default_value)
        if attribute.default_value.type
        else None
        for name, attribute in schema.attributes.items()
    }


def attributes_of(node: Any) -> Dict[str, Any]:
    """Attributes of a node as a :class:`~porting_check.neutral.node.Node` holds them; graphs are left out."""
    found: Dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, (int, float, str, np.ndarray)) or _plain_list(value):
            found[attribute.name] = value
    return found


def _plain_list(value: Any) -> bool:
    return hasattr(value, "__len__") and all(isinstance(item, (int, float, str, bytes)) for item in value)

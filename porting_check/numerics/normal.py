"""Nodes in normal form: two spellings of one operator made equal before they are compared."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from porting_check.neutral.node import OPSET, Node


def normalized(node: Node) -> Node:
    """The node with real attributes at float32, without those that have no effect or say what ONNX takes for granted.

    ONNX stores reals as float32 and float32 kernels use them so; ``0.001`` in double and in float32 are one number then.

    Example:
        >>> print(normalized(Node("MaxPool", ("x",), ("y",), {"kernel_shape": (2, 2), "storage_order": 0})))
        MaxPool(kernel_shape=[2,2])
    """
    defaults = _defaults(node.op_type, node.domain)
    idle = _idle(node)
    kept = {name: value for name, value in at_float32(node).attributes.items() if name not in idle}
    return replace(
        node,
        attributes={
            name: value for name, value in kept.items() if not _is_default(value, defaults.get(name))
        },
    )


def _idle(node: Node) -> set[str]:
    """Attributes that have no effect beside the others."""
    found: set[str] = set()
    if node.op_type == "Resize":
        mode = node.attributes.get("mode", "nearest")
        found |= {"nearest_mode"} if mode != "nearest" else set()
        found |= {"cubic_coeff_a", "exclude_outside"} if mode != "cubic" else set()
    if (
        node.op_type == "AveragePool"
        and not any(node.attributes.get("pads", ()))
        and not node.attributes.get("ceil_mode")
    ):
        found.add("count_include_pad")
    return found


def at_float32(node: Node) -> Node:
    """The node with its real attributes rounded to float32."""
    rounded = {
        name: float(np.float32(value)) for name, value in node.attributes.items() if isinstance(value, float)
    }
    return replace(node, attributes={**node.attributes, **rounded}) if rounded else node


def _is_default(value: object, default: object) -> bool:
    return default is not None and not isinstance(value, np.ndarray) and value == default


@functools.lru_cache(maxsize=512)
def _defaults(op_type: str, domain: str) -> dict[str, object]:
    """Default of each attribute of an operator, from the ONNX schema; empty for operators that ONNX lacks."""
    if domain not in ("", "ai.onnx"):
        return {}
    import onnx

    try:
        schema = onnx.defs.get_schema(op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return {}
    found: dict[str, object] = {}
    for name, attribute in schema.attributes.items():
        value = (
            onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.type else None
        )
        found[name] = (
            value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value
        )
    return found

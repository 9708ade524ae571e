"""Nodes of opset 24 for an ONNX Runtime that ends before opset 18 (1.10 ends at 15)."""

from __future__ import annotations

import functools
import re
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import onnx
import onnxruntime

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.node import OPSET, Node
from porting_check_onnxruntime.session import PROVIDERS, REFUSED

EARLY = frozenset(["LayerNormalization"])
"""Operators that ONNX Runtime had under the standard's domain before the standard had them."""

NEUTRAL: Dict[str, Any] = {
    "antialias": 0,
    "exclude_outside": 0,
    "keep_aspect_ratio_policy": "stretch",
    "noop_with_empty_axes": 0,
    "reduction": "none",
    "saturate": 1,
    "round_mode": "up",
    "block_size": 0,
    "output_dtype": 0,
    "precision": 0,
    "allowzero": 0,
    "stash_type": 1,
}
"""Attributes of newer versions, and the value with which they say what older ones do anyway."""


@functools.lru_cache(maxsize=1)
def newest_opset() -> int:
    """The newest operator set that this ONNX Runtime and this onnx know, at most that of the neutral language."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "probe", ends[:1], ends[1:]
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=min(int(onnx.IR_VERSION), 11))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)
    except REFUSED as error:
        found = re.search(r"till opset (\d+)", str(error))
        return int(found.group(1)) if found else OPSET
    return OPSET


def older_form(node: Node, arrays: List[Optional[np.ndarray]]) -> Tuple[Node, List[Optional[np.ndarray]]]:
    """A node and its inputs as operator sets before 18 say the same.

    Raises:
        UnsupportedNode: they have no way to say it.
    """
    attributes = {key: value for key, value in node.attributes.items() if not _needless(node, key, value)}
    if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and len(node.inputs) > 1:
        return _reduced(node, arrays, attributes)
    if node.op_type == "Split" and "num_outputs" in attributes:
        if arrays[0] is not None and arrays[0].shape[attributes.get("axis", 0)] % len(node.outputs):
            raise UnsupportedNode(f"before opset 18, {node} only splits into equal parts")
        del attributes["num_outputs"]
    return Node(node.op_type, node.inputs, node.outputs, attributes, node.domain), arrays


def _reduced(
    node: Node, arrays: List[Optional[np.ndarray]], attributes: Dict[str, Any]
) -> Tuple[Node, List[Optional[np.ndarray]]]:
    """The axes of a reduction as an attribute."""
    axes = arrays[1] if len(arrays) > 1 else None
    if axes is not None and axes.size:
        attributes["axes"] = tuple(int(axis) for axis in axes)
    elif node.attributes.get("noop_with_empty_axes", 0):
        raise UnsupportedNode(f"before opset 18, {node} without axes reduces over all of them")
    return Node(node.op_type, node.inputs[:1], node.outputs, attributes, node.domain), arrays[:1]


def _needless(node: Node, key: str, value: Any) -> bool:
    """Whether an attribute is unknown to the older version and says what that does anyway."""
    try:
        known = onnx.defs.get_schema(node.op_type, newest_opset(), "").attributes
    except (onnx.defs.SchemaError, RuntimeError):  # an operator that onnx did not have then
        return False
    if key in known:
        return False
    return bool(NEUTRAL.get(key) == value or (key == "dilations" and set(value) == {1}))

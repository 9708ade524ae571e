"""One operator in the neutral language: an ONNX operator name with its ONNX attributes."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

OPSET = 24
"""The ai.onnx operator set whose semantics a node has."""

EXTENSION = "porting_check"
"""Domain of the few operators that ONNX lacks (``AdaptiveAveragePool``, ``AdaptiveMaxPool``)."""


@dataclass(frozen=True)
class Node:
    """One operator: what it computes, and the names of what it reads and makes.

    Names are local to the record that holds the node. ``""`` stands for an optional input that is absent.

    Example:
        >>> node = Node("Conv", ("x", "weight", "bias"), ("y",), {"pads": (0, 0, 1, 1), "strides": (2, 2)})
        >>> print(node)
        Conv(pads=[0,0,1,1], strides=[2,2])
        >>> print(node.edit(pads=(1, 1, 1, 1)))
        Conv(pads=[1,1,1,1], strides=[2,2])
    """

    op_type: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...] = ("y",)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""

    def __post_init__(self) -> None:
        """Bring attributes to plain, hashable-where-possible values: tuples for lists, Python scalars for numpy's."""
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        object.__setattr__(self, "attributes", {key: plain(value) for key, value in self.attributes.items()})

    def edit(self, **attributes: Any) -> Node:
        """The same node with some attributes changed; ``None`` removes one."""
        merged = dict(self.attributes)
        merged.update(attributes)
        return replace(self, attributes={key: value for key, value in merged.items() if value is not None})

    def __str__(self) -> str:
        return "{}({})".format(
            self.op_type, ", ".join(f"{k}={show(v)}" for k, v in sorted(self.attributes.items()))
        )

    def to_json(self) -> Dict[str, Any]:
        """Plain data for a JSON line."""
        return {
            "op_type": self.op_type,
            "domain": self.domain,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "attributes": {key: encode(value) for key, value in self.attributes.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Node:
        """The inverse of :meth:`to_json`."""
        attributes = {key: decode(value) for key, value in data["attributes"].items()}
        return cls(data["op_type"], tuple(data["inputs"]), tuple(data["outputs"]), attributes, data["domain"])


def plain(value: Any) -> Any:
    """Lists to tuples, numpy scalars to Python's, bytes to text; arrays stay arrays."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    return value


def show(value: Any) -> str:
    """An attribute as a person writes it: ``[0,0,1,1]``, ``0.001``, ``same``."""
    if isinstance(value, tuple):
        return "[" + ",".join(show(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {value.shape}>"
    return str(value)


def encode(value: Any) -> Any:
    """One attribute or small array as JSON: floats exactly (also inf and nan), arrays as base64."""
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        name = (
            value.dtype.str if value.dtype.kind != "V" else value.dtype.name
        )  # bfloat16 and float8 have names only
        return {"array": data, "dtype": name, "shape": list(value.shape)}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(value: Any) -> Any:
    """The inverse of :func:`encode`."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if isinstance(value, dict) and "float" in value:
        return float.fromhex(value["float"])
    if isinstance(value, dict) and "array" in value:
        raw = base64.b64decode(value["array"])
        return np.frombuffer(raw, dtype=_dtype(value["dtype"])).reshape(value["shape"]).copy()
    return value


def _dtype(name: str) -> Any:
    """The dtype of a name; those that numpy lacks come from ml_dtypes, which made them."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def chain(nodes: List[Node]) -> Tuple[Node, ...]:
    """Link nodes in a row: each one's first input becomes the output of the one before.

    Inner values are named ``_1``, ``_2``, …; the first input and the last outputs stay as they are.

    Example:
        >>> [n.inputs[0] for n in chain([Node("Conv", ("x", "weight")), Node("Relu", ("x",))])]
        ['x', '_1']
    """
    linked = []
    for index, node in enumerate(nodes):
        first = node.inputs[0] if index == 0 else f"_{index}"
        last = node.outputs if index == len(nodes) - 1 else (f"_{index + 1}",) + node.outputs[1:]
        linked.append(replace(node, inputs=(first,) + node.inputs[1:], outputs=last))
    return tuple(linked)

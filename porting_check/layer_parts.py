"""What each operator needs besides its input, when a layer is written on one line: weights, kernels, second tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from porting_check.neutral.errors import ModelError
from porting_check.neutral.node import OPSET

Array = np.ndarray
Shape = tuple[int, ...]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FLOATING = ("T", "T1", "V", "X", "tensor(float)")
"""Type variables under which operators take floating tensors."""


@dataclass(slots=True)
class Draft:
    """A layer under construction: what the user gave, and what it becomes."""

    op_type: str
    shape: Shape
    given: dict[str, Any]
    rng: np.random.Generator
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Number of spatial axes of a channel-first input."""
        return len(self.shape) - 2

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.shape[1]

    def take(self, name: str, default: int) -> int:
        """A whole number that the layer is made with and that is no attribute."""
        value = self.given.pop(name, default)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"{name}={value!r}: expected a whole number of 1 or more")
        return value

    def noise(self, name: str, *shape: int, scale: float = 1.0) -> None:
        """Seeded normal numbers as one more input."""
        self.arrays[name] = (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def spread(self, name: str) -> None:
        """An attribute with one number per spatial axis, where one number was given."""
        value = self.attributes.get(name)
        if isinstance(value, int):
            self.attributes[name] = (value,) * self.rank


@functools.cache
def schemas() -> Mapping[str, Any]:
    """The newest form of each ONNX operator."""
    import onnx

    found: dict[str, Any] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        newest = found.get(schema.name)
        usable = schema.domain == "" and schema.since_version <= OPSET
        if usable and (newest is None or schema.since_version > newest.since_version):
            found[schema.name] = schema
    return found


Maker = Callable[[Draft], None]


def plain(draft: Draft) -> None:
    """Nothing but attributes; an operator of two tensors gets two."""
    required = [i for i in schemas()[draft.op_type].inputs if i.option.name != "Optional"]
    if required and required[0].type_str not in FLOATING:
        raise ModelError(
            f"{draft.op_type} does not begin with a tensor of numbers; write it as nodes or give an ONNX file"
        )
    for spec in required[1:]:
        if spec.type_str == required[0].type_str and spec.option.name == "Single":
            draft.noise(spec.name, *draft.shape)


def _conv(draft: Draft) -> None:
    group = int(draft.attributes.get("group", 1))
    filters = draft.take("filters", 8 * group)
    kernel = draft.attributes.setdefault("kernel_shape", (3,) * draft.rank)
    if draft.channels % group or filters % group:
        raise ModelError(
            f"{draft.channels} channels and {filters} filters cannot be split into {group} groups"
        )
    first, second = filters, draft.channels // group
    if draft.op_type == "ConvTranspose":
        first, second = draft.channels, filters // group
    draft.noise("W", first, second, *kernel, scale=float(1 / np.sqrt(second * np.prod(kernel))))
    draft.noise("B", filters)


def _pool(draft: Draft) -> None:
    draft.attributes.setdefault("kernel_shape", (2,) * draft.rank)


def _dense(draft: Draft) -> None:
    units, width = draft.take("units", 32), draft.shape[-1]
    if draft.op_type == "MatMul":
        draft.noise("B", width, units, scale=float(1 / np.sqrt(width)))
        return
    draft.attributes.setdefault("transB", 1)
    draft.noise(
        "B",
        *((units, width) if draft.attributes["transB"] else (width, units)),
        scale=float(1 / np.sqrt(width)),
    )
    draft.noise("C", units)


def _norm(draft: Draft) -> None:
    shape: Shape = (draft.channels,)
    names = [spec.name for spec in schemas()[draft.op_type].inputs][1:]
    if draft.op_type in ("LayerNormalization", "RMSNormalization"):
        axis = int(draft.attributes.setdefault("axis", -1))
        shape = draft.shape[axis:]
    for name in names:
        draft.noise(name, *shape)
        if name.endswith("var"):
            draft.arrays[name] = np.abs(draft.arrays[name]) + np.float32(0.1)


def _prelu(draft: Draft) -> None:
    draft.noise("slope", draft.channels, *(1,) * draft.rank, scale=0.25)


def _recurrent(draft: Draft) -> None:
    hidden = draft.attributes.pop("hidden_size", None) or draft.take("units", 5)
    gates, sides = GATES[draft.op_type], 2 if draft.attributes.get("direction") == "bidirectional" else 1
    draft.attributes["hidden_size"] = hidden
    draft.noise("W", sides, gates * hidden, draft.shape[-1], scale=0.5)
    draft.noise("R", sides, gates * hidden, hidden, scale=0.5)
    draft.noise("B", sides, 2 * gates * hidden)


def _resize(draft: Draft) -> None:
    scale = draft.given.pop("scale", 2)
    draft.arrays["scales"] = np.array([1.0, 1.0] + [float(scale)] * draft.rank, np.float32)


def _reduce(draft: Draft) -> None:
    axes = draft.attributes.pop("axes", None) or draft.given.pop("axes", (1,))
    draft.arrays["axes"] = np.array(axes if isinstance(axes, tuple) else (axes,), np.int64)


def _clip(draft: Draft) -> None:
    for name in ("min", "max"):
        if name in draft.given:
            draft.arrays[name] = np.array(draft.given.pop(name), np.float32)


MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("Gemm", "MatMul"), _dense),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "GroupNormalization"), _norm),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _norm),
    **dict.fromkeys(GATES, _recurrent),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd"), _reduce
    ),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), _reduce),
    "PRelu": _prelu,
    "Resize": _resize,
    "Clip": _clip,
}
"""What an operator needs besides its input. To add one: one function, one line."""

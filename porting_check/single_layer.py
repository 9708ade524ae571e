"""One layer written on one line: ``Conv(filters=8, kernel=5, stride=2, padding=same)``, with noise for all it needs.

The operator is ONNX's, and any of its attributes can be given by name; the words of the frameworks (``kernel``, ``stride``,
``padding``, ``filters``, ``units``) stand for the usual ones.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from porting_check.layer_parts import GATES, MAKERS, Draft, Shape, plain, schemas
from porting_check.network import Network
from porting_check.neutral.errors import InputError, ModelError
from porting_check.neutral.node import Node
from porting_check.neutral.padding import same_padding

Array = np.ndarray

IMAGE, VECTORS, SEQUENCE = (1, 3, 32, 32), (4, 64), (7, 2, 8)
"""Shapes of the input when none is given: NCHW, rows of features, (time, batch, features)."""

_CALL = re.compile(r"^\s*([A-Za-z][A-Za-z0-9]*)\s*\(.*\)\s*$", re.DOTALL)


def is_layer(text: str) -> bool:
    """Whether a command-line argument is a layer written out, and no model.

    Example:
        >>> is_layer("Conv(kernel=3)"), is_layer("model.onnx"), is_layer("port.py:build")
        (True, False, False)
    """
    return bool(_CALL.match(text))


def parse(
    text: str, shape: Sequence[int] | None = None, seed: int = 0
) -> tuple[Network, dict[str, Array], str]:
    """A network of one node, its input, and a sentence about what its words mean in numbers.

    Args:
        text: the layer.
        shape: of its input, channel-first; a shape that suits the operator when left out.
        seed: of weights and input.

    Raises:
        ModelError: an unknown operator or attribute, or numbers that do not fit.

    Example:
        >>> network, inputs, note = parse("Conv(filters=8, kernel=5, stride=2, padding=same)")
        >>> print(network.nodes[0]); print(note)
        Conv(auto_pad=SAME_UPPER, kernel_shape=[5,5], strides=[2,2])
        SAME on (32, 32) means pads ((1, 2), (1, 2)) here.
    """
    name, given = _read(text)
    op_type = _operator(name)
    size = tuple(shape) if shape else _default_shape(op_type)
    draft = Draft(op_type, size, given, np.random.default_rng(seed))
    if draft.rank < 1 and op_type in SPATIAL:
        raise InputError(
            f"{op_type} needs an input of 3 axes or more (batch, channels, sizes), found shape {size}"
        )
    draft.noise("x", *size)
    _translate(draft)
    MAKERS.get(op_type, plain)(draft)
    _check(draft)
    inputs = {"x": draft.arrays.pop("x")}
    names = tuple(n if n in inputs or n in draft.arrays else "" for n in _order(draft))
    node = Node(op_type, names, ("y",), draft.attributes)
    return Network([node], draft.arrays), inputs, _note(draft)


def _read(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the keywords; bare words are text (``padding=same``)."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
        values = {
            str(k.arg): k.value.id if isinstance(k.value, ast.Name) else ast.literal_eval(k.value)
            for k in call.keywords
        }
    except (SyntaxError, AssertionError, ValueError):
        raise ModelError(
            f"{text!r} is not a layer. Write it as Conv(filters=8, kernel=5, stride=2, padding=same): an ONNX operator with "
            "keywords whose values are numbers, lists or words"
        ) from None
    return call.func.id, {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _operator(name: str) -> str:
    known = {key.lower(): key for key in schemas()}
    found = known.get(ALIASES.get(name.lower(), name).lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), known, 1)
        hint = f"did you mean {known[near[0]]}?" if near else "see https://onnx.ai/onnx/operators"
        raise ModelError(f"{name!r} is no ONNX operator; {hint}")
    return found


ALIASES = {
    "conv1d": "Conv",
    "conv2d": "Conv",
    "conv3d": "Conv",
    "dense": "Gemm",
    "linear": "Gemm",
    "prelu": "PRelu",
}
WORDS = {
    "kernel": "kernel_shape",
    "stride": "strides",
    "dilation": "dilations",
    "groups": "group",
    "eps": "epsilon",
}
"""What frameworks call ONNX's attributes."""


SPATIAL = {
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
} | {"Resize"}


def _default_shape(op_type: str) -> Shape:
    if op_type in GATES:
        return SEQUENCE
    return VECTORS if op_type in ("Gemm", "MatMul") else IMAGE


def _translate(draft: Draft) -> None:
    """The frameworks' words as attributes."""
    padding = draft.given.pop("padding", None)
    for name in list(draft.given):
        if WORDS.get(name, name) in schemas()[draft.op_type].attributes:
            draft.attributes[WORDS.get(name, name)] = draft.given.pop(name)
    for name in ("kernel_shape", "strides", "dilations"):
        draft.spread(name)
    if padding is None:
        return
    words = {"same": "SAME_UPPER", "same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
    if isinstance(padding, str):
        if padding.lower() not in words:
            raise ModelError(
                f"padding={padding}: expected same, same_lower, valid, a number or a list of begins and ends"
            )
        draft.attributes["auto_pad"] = words[padding.lower()]
    else:
        draft.attributes["pads"] = (
            (padding,) * (2 * draft.rank) if isinstance(padding, int) else tuple(padding)
        )


def _order(draft: Draft) -> list[str]:
    """Names of the inputs as the standard orders them, without absent ones at the end."""
    names = ["x", *[spec.name for spec in schemas()[draft.op_type].inputs][1:]]
    given = [place for place, name in enumerate(names) if name in draft.arrays]
    return names[: max(given, default=0) + 1]


def _check(draft: Draft) -> None:
    """Words that were not understood."""
    schema = schemas()[draft.op_type]
    if draft.given:
        name = next(iter(draft.given))
        known = [*schema.attributes, *(word for word, meant in WORDS.items() if meant in schema.attributes)]
        near = difflib.get_close_matches(name, known, 1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"its attributes are {', '.join(sorted(schema.attributes)) or 'none'}"
        )
        raise ModelError(f"{draft.op_type} has no attribute {name!r}; {hint}")
    lacking = [n for n, a in schema.attributes.items() if a.required and n not in draft.attributes]
    if lacking:
        raise ModelError(f"{draft.op_type} needs the attribute {lacking[0]!r}")
    required = [spec.name for spec in schema.inputs if spec.option.name == "Single"][1:]
    absent = [name for name in required if name not in draft.arrays]
    if absent:
        raise ModelError(
            f"{draft.op_type} also reads {', '.join(absent)}, which one line cannot say: write it as nodes "
            "(porting_check.Network) or give an ONNX file"
        )


def _note(draft: Draft) -> str:
    """What SAME means in numbers for this input."""
    mode = draft.attributes.get("auto_pad", "")
    if not mode.startswith("SAME") or draft.op_type == "ConvTranspose":
        return ""
    kernel, strides, dilations = (
        draft.attributes.get(n, 1) for n in ("kernel_shape", "strides", "dilations")
    )
    extra = "end" if mode == "SAME_UPPER" else "begin"
    pads = same_padding(draft.shape[2:], kernel, strides, dilations, extra)
    return f"SAME on {draft.shape[2:]} means pads {pads} here."

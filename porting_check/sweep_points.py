"""The points of a sweep: one layer written on one line, again for each value of what is varied, with its own noise."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from porting_check.layer_parts import GATES, schemas
from porting_check.network import Network
from porting_check.neutral.errors import InputError, ModelError, PortingError
from porting_check.neutral.node import Node
from porting_check.numerics.truth import evaluate_node
from porting_check.single_layer import WORDS, parse

Array = np.ndarray
Number = int | float

MEMORY = 2 * 2**30
"""Bytes that the arrays of a sweep may take, all points together."""

SHAPES = ("batch", "channels", "size", "features", "time", "dimension")
"""What may be varied of the input's shape; ``dimension`` is features and units at once, as in a square matrix."""

NUMBERS = ("magnitude", "weights", "mean")
"""What may be varied of the numbers: the input's magnitude, that of the weights, and what is added to the input."""

DEPTH = "depth"
"""The length of a chain of such layers."""

DATA = ("normal", "relu", "uniform", "heavy", "tiny")
"""Kinds of data: normal; half-normal inputs; inputs and weights in [0, 1); log-normal scales; weights near 1e-5."""


@dataclass(frozen=True, slots=True)
class Points:
    """The layers of all values as one network.

    Attributes:
        values: what the quantity was, in order.
        network: one node per point, independent of the others; for ``depth`` one chain, with the points among its layers.
        inputs: of the network.
        steps: index of the node that belongs to each value.
        note: what the words of the layer mean in numbers, where that is the same at all points.
    """

    values: tuple[Number, ...]
    network: Network
    inputs: dict[str, Array]
    steps: tuple[int, ...]
    note: str


def drawn(
    text: str,
    quantity: str,
    values: Sequence[Number],
    *,
    shape: Sequence[int] | None = None,
    data: str = "normal",
    seed: int = 0,
    copies: int = 4,
) -> Points:
    """Write the layer once for each value, and draw its numbers.

    Args:
        text: the layer, as for a crosscheck.
        quantity: what is varied: a word of the layer (``kernel``, ``filters``, ``units``), or one of :data:`SHAPES`,
            :data:`NUMBERS`, :data:`DEPTH`. A word that stands in ``text`` comes first.
        values: of it, all different.
        shape: of the input, channel-first, before ``quantity`` changes it.
        data: one of :data:`DATA`.
        seed: of the noise.
        copies: how many frameworks will hold what the points make.

    Raises:
        InputError: an unknown quantity or kind of data, values that are no numbers or do not fit, too much memory.
        ModelError: no layer, or numbers that do not fit it.

    Example:
        >>> points = drawn("Conv(filters=4, kernel=3)", "channels", (1, 2))
        >>> [points.inputs[name].shape for name in points.network.inputs]
        [(1, 1, 32, 32), (1, 2, 32, 32)]
    """
    numbers = checked_values(quantity, values)
    if data not in DATA:
        raise InputError(_unknown("kind of data", data, DATA))
    base = _Base.of(text, quantity, numbers[0], shape)
    _check_memory(base, quantity, numbers, copies)
    if quantity == DEPTH:
        return _chain(base, [_whole(quantity, value) for value in numbers], data, seed)
    nodes: list[Node] = []
    fixed: dict[str, Array] = {}
    inputs: dict[str, Array] = {}
    notes: set[str] = set()
    for number, value in enumerate(numbers):
        line, size = base.at(quantity, value)
        made = _layer(line, size, data, seed, quantity, value)
        node, arrays = _renamed(made.node, made.arrays, number)
        nodes.append(node)
        inputs[node.inputs[0]] = arrays.pop(node.inputs[0])
        fixed.update(arrays)
        notes.add(made.note)
    note = notes.pop() if len(notes) == 1 else ""
    return Points(tuple(numbers), Network(nodes, fixed), inputs, tuple(range(len(nodes))), note)


def checked_values(quantity: str, values: Sequence[Number]) -> list[Number]:
    """The values as numbers.

    Raises:
        InputError: none, one that is no finite number, or one that comes twice.
    """
    given = list(values) if not isinstance(values, str) else [values]
    if not given:
        raise InputError(f"{quantity} has no values to take; give two or more, as in values=(16, 64, 256)")
    found: list[Number] = []
    for value in given:
        number = value.item() if isinstance(value, np.generic) else value
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise InputError(f"{quantity}={value!r} is no number that can be varied; give finite numbers")
        if number in found:
            raise InputError(f"{quantity}={number} is given twice; every value makes one point")
        found.append(number)
    return found


def _unknown(kind: str, given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(given), known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"{given!r} is no {kind}; {hint}"


def _whole(quantity: str, value: Number) -> int:
    if value != int(value) or value < 1:
        raise InputError(f"{quantity}={value}: expected a whole number of 1 or more")
    return int(value)


@dataclass(frozen=True, slots=True)
class _Base:
    """The layer before anything is varied."""

    text: str
    words: dict[str, Any]
    op_type: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, text: str, quantity: str, first: Number, shape: Sequence[int] | None) -> _Base:
        words = _words(text)
        known = (*SHAPES, *NUMBERS, DEPTH)
        own = quantity in words or quantity not in known
        try:
            network, inputs, _ = parse(with_word(text, quantity, first) if own else text, shape)
        except ModelError as error:
            if own and quantity not in words and f"has no attribute {quantity!r}" in str(error):
                op_type = parse(text, shape)[0].nodes[0].op_type
                raise InputError(_unknown(f"quantity of {op_type}", quantity, _terms(op_type))) from None
            raise
        return cls(text, words, network.nodes[0].op_type, inputs["x"].shape)

    def at(self, quantity: str, value: Number) -> tuple[str, tuple[int, ...]]:
        """The layer's line and its input's shape for one value."""
        if quantity in self.words or quantity not in (*SHAPES, *NUMBERS, DEPTH):
            return with_word(self.text, quantity, value), self.shape
        if quantity not in SHAPES:
            return self.text, self.shape
        size, shape = _whole(quantity, value), list(self.shape)
        for axis in self._axes(quantity):
            shape[axis] = size
        line = with_word(self.text, "units", size) if quantity == "dimension" else self.text
        return line, tuple(shape)

    def _axes(self, quantity: str) -> Sequence[int]:
        """The axes of the input that a word of shape stands for."""
        rank, recurrent = len(self.shape), self.op_type in GATES
        places: dict[str, Sequence[int]] = {
            "batch": (1,) if recurrent else (0,),
            "channels": () if recurrent or rank < 2 else (1,),
            "size": () if recurrent else range(2, rank),
            "features": (rank - 1,),
            "time": (0,) if recurrent else (),
            "dimension": (rank - 1,) if self.op_type in ("Gemm", "MatMul") or recurrent else (),
        }
        if not places[quantity]:
            known = [name for name, axes in places.items() if axes]
            raise InputError(
                f"the input of {self.op_type}, shape {self.shape}, has no {quantity}; it has {', '.join(known)}"
            )
        return places[quantity]


def _terms(op_type: str) -> list[str]:
    """All that may be varied of a layer."""
    attributes = schemas()[op_type].attributes
    words = [word for word, meant in WORDS.items() if meant in attributes]
    parts = {"Conv": ["filters"], "ConvTranspose": ["filters"]}.get(op_type, [])
    units = ["units"] if op_type in ("Gemm", "MatMul", *GATES) else []
    return [*SHAPES, *NUMBERS, DEPTH, *parts, *units, *words, *attributes]


def _words(text: str) -> dict[str, Any]:
    """The keywords of a layer, where they can be read as numbers, lists or words."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return {}
    found: dict[str, Any] = {}
    for keyword in call.keywords if isinstance(call, ast.Call) else ():
        value = keyword.value
        found[str(keyword.arg)] = value.value if isinstance(value, ast.Constant) else ast.unparse(value)
    return found


def with_word(text: str, word: str, value: Number) -> str:
    """The layer with one of its words set.

    Example:
        >>> with_word("Conv(filters=8, kernel=3)", "kernel", 5)
        'Conv(filters=8, kernel=5)'
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return text  # parse says what is wrong with it
    if not isinstance(call, ast.Call):
        return text
    call.keywords = [k for k in call.keywords if k.arg != word] + [ast.keyword(word, ast.Constant(value))]
    return ast.unparse(call)


def _check_memory(base: _Base, quantity: str, values: Sequence[Number], copies: int) -> None:
    """Refuse before anything is drawn.

    Raises:
        InputError: the arrays would take more than :data:`MEMORY`.
    """
    total = 0.0
    for value in values:
        line, shape = base.at(quantity, value)
        total += (max(values) / len(values) if quantity == DEPTH else 1) * estimate(
            base.op_type, _words(line), shape, copies
        )
        if total > MEMORY:
            raise InputError(
                f"at {quantity}={value} the arrays of the sweep would take about {total / 2**30:.1f} GiB "
                f"(input {'x'.join(map(str, shape))}); the limit is {MEMORY / 2**30:.0f} GiB: leave large values out, or "
                "give a smaller shape"
            )


def estimate(op_type: str, words: dict[str, Any], shape: Sequence[int], copies: int) -> float:
    """About how many bytes one point takes: numbers of input and weights, truth, limits, and what is made of them."""

    def number(name: str, default: int) -> float:
        value = words.get(name, default)
        return float(value) if isinstance(value, (int, float)) else float(default)

    size = math.prod(map(float, shape))
    if op_type in GATES:
        units = number("units", number("hidden_size", 5))  # type: ignore[arg-type]
        weights, output = 4 * units * (shape[-1] + 2 * units), size / shape[-1] * units
    elif op_type in ("Gemm", "MatMul"):
        units = number("units", 32)
        weights, output = units * shape[-1], size / shape[-1] * units
    elif op_type in ("Conv", "ConvTranspose"):
        filters, rank = number("filters", 8), len(shape) - 2
        weights = filters * shape[1] * number("kernel", 3) ** rank / max(number("groups", 1), 1)
        output = size / shape[1] * filters * (number("stride", 1) ** rank if "Transpose" in op_type else 1)
    else:
        weights, output = size, size * (number("scale", 2) ** (len(shape) - 2) if op_type == "Resize" else 1)
    return 12 * (size + weights) + (40 + 8 * copies) * output


@dataclass(frozen=True, slots=True)
class _Layer:
    node: Node
    arrays: dict[str, Array]
    note: str


def _layer(
    line: str, shape: Sequence[int], data: str, seed: int, quantity: str = "", value: Number = 1
) -> _Layer:
    """One layer with its numbers, its input ``x`` among them."""
    network, inputs, note = parse(line, shape, seed)
    arrays = {**inputs, **network.parameters}
    _as_kind(arrays, data, np.random.default_rng([seed, 1]))
    if quantity == "magnitude":
        arrays["x"] = arrays["x"] * np.float32(value)
    elif quantity == "mean":
        arrays["x"] = arrays["x"] + np.float32(value)
    elif quantity == "weights":
        for name in _weights(arrays):
            arrays[name] = arrays[name] * np.float32(value)
    return _Layer(network.nodes[0], arrays, note)


def _weights(arrays: dict[str, Array]) -> list[str]:
    """Kernels, matrices and second tensors: what is floating and has two axes or more."""
    return [
        name for name, array in arrays.items() if name != "x" and array.dtype.kind == "f" and array.ndim > 1
    ]


def _as_kind(arrays: dict[str, Array], data: str, rng: np.random.Generator) -> None:
    """Replace the normal numbers by those of another kind."""
    x = arrays["x"]
    if data == "relu":
        arrays["x"] = np.abs(x)
    if data in ("uniform", "tiny"):
        arrays["x"] = rng.random(x.shape, np.float32)
    for name in _weights(arrays):
        array = arrays[name]
        if data == "uniform":
            arrays[name] = rng.random(array.shape, np.float32)
        elif data == "tiny":
            arrays[name] = (rng.standard_normal(array.shape) * 1e-5).astype(np.float32)
        elif data == "heavy":
            arrays[name] = (array * np.exp(rng.standard_normal(array.shape))).astype(np.float32)
    if data == "heavy" and x.ndim > 1:
        scales = np.exp(2 * rng.standard_normal((1, x.shape[1], *(1,) * (x.ndim - 2))))
        arrays["x"] = (x * scales).astype(np.float32)


def _renamed(node: Node, arrays: dict[str, Array], number: int) -> tuple[Node, dict[str, Array]]:
    """The node with names that no other point has."""
    names = {name: f"{name}_{number}" for name in (*node.inputs, *node.outputs) if name}
    inputs = tuple(names.get(name, "") for name in node.inputs)
    outputs = tuple(names.get(name, "") for name in node.outputs)
    kept = {names[name]: array for name, array in arrays.items() if name in names}
    return replace(node, inputs=inputs, outputs=outputs), kept


def _chain(base: _Base, depths: Sequence[int], data: str, seed: int) -> Points:
    """Layers one after the other, as many as the largest depth; each has weights of its own."""
    nodes: list[Node] = []
    fixed: dict[str, Array] = {}
    inputs: dict[str, Array] = {}
    shape, following, note = base.shape, {}, ""
    for number in range(max(depths)):
        made = _next_layer(base.text, shape, data, seed + number, number)
        node, arrays = _renamed(made.node, made.arrays, number)
        first = arrays.pop(node.inputs[0])
        if number == 0:
            inputs[node.inputs[0]] = first
            note = made.note
        else:
            node = replace(node, inputs=(nodes[-1].outputs[0], *node.inputs[1:]))
        if shape not in following:
            following[shape] = _made_shape(made, shape, number)
        shape = following[shape]
        nodes.append(node)
        fixed.update(arrays)
    every = tuple(node.outputs[0] for node in nodes)
    return Points(tuple(depths), Network(nodes, fixed, every), inputs, tuple(d - 1 for d in depths), note)


def _next_layer(text: str, shape: Sequence[int], data: str, seed: int, number: int) -> _Layer:
    try:
        return _layer(text, shape, data, seed)
    except (PortingError, ValueError) as error:
        if number == 0:
            raise
        raise _too_deep(number, shape, error) from None


def _made_shape(made: _Layer, shape: Sequence[int], number: int) -> tuple[int, ...]:
    """The shape of what a layer makes."""
    given = [made.arrays.get(name) if name else None for name in made.node.inputs]
    try:
        return evaluate_node(made.node, given, dtype=None)[0].shape
    except (PortingError, ValueError) as error:
        raise _too_deep(number, shape, error) from None


def _too_deep(number: int, shape: Sequence[int], error: Exception) -> InputError:
    return InputError(
        f"layer {number + 1} of the chain cannot read shape {tuple(shape)}: {error}. "
        "Use fewer layers, or one that keeps the shape (padding=same)"
    )

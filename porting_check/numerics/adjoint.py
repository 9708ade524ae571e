"""Vector-Jacobian products of the neutral language in float64: what a node's own function says of its gradients.

An adjoint takes a node's inputs, outputs and the gradient of each output (the *cotangents*) and gives the gradient of each
input: ``g_in = J^T g_out``. With ``absolute`` it gives ``|J|^T g`` or an upper bound of it, which carries errors backwards
and is the magnitude of the sums that round-off grows with. For functions with a formula of their own (activations,
normalisations, softmax) the bound counts what a float32 kernel may lose inside the formula as well.

Families register their functions in the modules ``adjoint_<family>``; there is no entry for recurrent layers, attention and
other composites, which :mod:`porting_check.numerics.adjoint_chain` checks along random directions instead.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.operators.registry import Array
from porting_check.numerics.roundoff import LINEAR, any_order
from porting_check.numerics.roundoff_units import TINY
from porting_check.numerics.truth import DOMAINS

FAMILIES = ("elementwise", "linear", "movement", "normalization", "pooling", "reduction")


class NoAdjoint(Exception):
    """No rule gives the gradient of this node; it is checked along random directions."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A gradient, and how many products each of its elements is the sum of."""

    gradient: Array
    terms: float = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    """One node as it ran, in float64 and canonical layout.

    ``cotangents`` holds the gradient of each output, ``None`` where none flows. ``absolute`` asks for the bound.
    """

    node: Node
    inputs: Sequence[Array | None]
    outputs: Sequence[Array]
    cotangents: Sequence[Array | None]
    absolute: bool = False

    @property
    def g(self) -> Array:
        """The gradient of the first output.

        Raises:
            NoAdjoint: it flows through another output, for which the families have no rules.
        """
        first = self.cotangents[0] if self.cotangents else None
        if any(g is not None for g in self.cotangents[1:]):
            raise NoAdjoint(f"{self.node.op_type}: a gradient comes in through its second output")
        if first is None:
            raise NoAdjoint(f"{self.node.op_type}: no gradient comes in")
        return first

    def operand(self, position: int) -> Array:
        """An input that must be there, its magnitudes where a bound is asked for.

        Raises:
            NoAdjoint: it is absent.
        """
        array = self.given(position)
        return np.abs(array) if self.absolute else array

    def given(self, position: int) -> Array:
        """An input that must be there, as it is.

        Raises:
            NoAdjoint: it is absent.
        """
        array = self.inputs[position] if position < len(self.inputs) else None
        if array is None:
            raise NoAdjoint(f"{self.node.op_type}: input {position} is absent")
        return array

    def has(self, position: int) -> bool:
        """Whether an input is there and real, so that a gradient is asked of it."""
        array = self.inputs[position] if position < len(self.inputs) else None
        return array is not None and array.dtype.kind == "f"


Adjoint = Callable[[Call], "dict[int, Sum]"]


@dataclass(frozen=True, slots=True)
class Rule:
    """An adjoint, and how many units of its bound round-off may leave beside that of the sum."""

    function: Adjoint
    units: float


_RULES: dict[str, Rule] = {}


def adjoint(*names: str, units: float = 0.0) -> Callable[[Adjoint], Adjoint]:
    """Register an adjoint under ONNX operator names.

    Args:
        names: operator names.
        units: what a kernel may lose in the formula itself, in units of round-off of the bound.

    Example:
        >>> @adjoint("Neg")                                             # doctest: +SKIP
        ... def negate(call):
        ...     return {0: Sum(call.g if call.absolute else -call.g)}
    """

    def register(function: Adjoint) -> Adjoint:
        for name in names:
            _RULES[name] = Rule(function, units)
        return function

    return register


@functools.cache
def _load() -> None:
    """Import the families, which register their rules."""
    for family in FAMILIES:
        importlib.import_module(f"porting_check.numerics.adjoint_{family}")


def rule(node: Node) -> Rule | None:
    """The rule of a node's operator, or ``None``."""
    _load()
    return _RULES.get(node.op_type) if node.domain in DOMAINS else None


def supported() -> frozenset[str]:
    """Operators whose gradients are computed here."""
    _load()
    return frozenset(_RULES)


def vjp(
    node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], cotangents: Sequence[Array | None]
) -> dict[int, Array]:
    """Gradients of a node's real inputs, by position, for given gradients of its outputs.

    Args:
        node: the operator.
        inputs: in float64 and canonical layout, ``None`` where absent.
        outputs: likewise.
        cotangents: the gradient of each output, ``None`` where none flows.

    Returns:
        One array per real input that the outputs depend on, of its shape; the others get none.

    Raises:
        NoAdjoint: nothing here gives it.

    Example:
        >>> x = np.array([-1.0, 2.0])
        >>> vjp(Node("Relu", ("x",)), [x], [np.maximum(x, 0)], [np.array([3.0, 4.0])])[0]
        array([0., 4.])
    """
    return {
        position: made.gradient for position, made in _apply(Call(node, inputs, outputs, cotangents)).items()
    }


def carried(
    node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], errors: Sequence[Array | None]
) -> dict[int, Array]:
    """What errors of the cotangents may become in the gradients: ``|J|^T`` applied to them.

    Example:
        >>> carried(Node("Neg", ("x",)), [np.ones(1)], [-np.ones(1)], [np.array([0.25])])[0]
        array([0.25])
    """
    made = _apply(Call(node, inputs, outputs, errors, absolute=True))
    return {position: found.gradient for position, found in made.items()}


def bounded(
    node: Node,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array],
    cotangents: Sequence[Array | None],
    unit: float,
) -> dict[int, tuple[Array, Array]]:
    """Gradients of a node's inputs with what round-off of this unit may do to them.

    The limit is that of a sum of n products in any order, with the n of each gradient: batch times positions for the weight
    of a convolution, output channels times kernel for its input (:func:`porting_check.numerics.roundoff.any_order`).

    Example:
        >>> x, w, g = np.ones((2, 3)), np.ones((3, 4)), np.ones((2, 4))
        >>> gradient, limit = bounded(Node("MatMul", ("x", "w")), [x, w], [x @ w], [g], 2.0**-24)[1]
        >>> gradient.shape, bool((limit < 1e-5).all())
        ((3, 4), True)
    """
    found = rule(node)
    if found is None:
        raise NoAdjoint(f"{node.op_type} has no rule for its gradient")
    call = Call(node, inputs, outputs, cotangents)
    values, magnitudes = _apply(call), _apply(_sizes(call))
    made = {}
    for position, value in values.items():
        magnitude = magnitudes[position].gradient
        limit = any_order(value.terms, magnitude, value.gradient, unit) + found.units * unit * magnitude
        made[position] = (value.gradient, limit + TINY * (unit > 2.0**-53))
    return made


def _sizes(call: Call) -> Call:
    """The call that gives the magnitudes; of sums of products in float32, because two digits are enough there."""
    sizes = [None if g is None else np.abs(g) for g in call.cotangents]
    if call.node.op_type in LINEAR:
        sizes = [None if g is None else g.astype(np.float32) for g in sizes]
        inputs = [x.astype(np.float32) if x is not None and x.dtype.kind == "f" else x for x in call.inputs]
        call = replace(call, inputs=inputs)
    return replace(call, cotangents=sizes, absolute=True)


def _apply(call: Call) -> dict[int, Sum]:
    found = rule(call.node)
    if found is None:
        raise NoAdjoint(f"{call.node.op_type} has no rule for its gradient")
    if any(array is not None and array.dtype.kind == "c" for array in (*call.inputs, *call.outputs)):
        raise NoAdjoint(f"{call.node.op_type} of complex numbers has no rule for its gradient")
    with np.errstate(all="ignore"):
        made = found.function(call)
    return {position: item for position, item in made.items() if call.has(position)}


def unbroadcast(gradient: Array, shape: Sequence[int], terms: float = 1.0) -> Sum:
    """A gradient summed over the axes along which the input was broadcast.

    Example:
        >>> unbroadcast(np.ones((2, 3)), (3,)).gradient
        array([2., 2., 2.])
    """
    size = gradient.size
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(a for a, n in enumerate(shape) if n == 1 and gradient.shape[a] != 1)
    gradient = gradient.sum(axis=axes, keepdims=True) if axes else gradient
    return Sum(np.asarray(gradient).reshape(tuple(shape)), terms * max(1.0, size / max(gradient.size, 1)))

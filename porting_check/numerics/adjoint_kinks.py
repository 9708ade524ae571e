"""Kinks: places where a function has no derivative and every framework picks a number of its own.

``relu'(0)``, ``abs'(0)``, the bounds of a clip, ties of a maximum. An element that sits exactly on a kink (or, where the
value itself was not recorded, closer to it than round-off resolves) is left out of the judgement of its gradient; what
flows on from it is allowed for. Catalogue entry ``grad-kinks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.adjoint import Call
from porting_check.numerics.adjoint_reduction import axes_of, kept
from porting_check.numerics.operators.registry import Array, integers
from porting_check.numerics.operators.windows import padded, resolve, tap


@dataclass(frozen=True, slots=True)
class Kink:
    """Which elements of an input sit on a kink, and by how much their gradient is open."""

    mask: Array
    open: Array


_PLACES: dict[str, Callable[[Node], Sequence[float]]] = {
    "Relu": lambda n: (0.0,),
    "LeakyRelu": lambda n: (0.0,),
    "PRelu": lambda n: (0.0,),
    "Abs": lambda n: (0.0,),
    "Elu": lambda n: (0.0,),
    "Selu": lambda n: (0.0,),
    "Celu": lambda n: (0.0,),
    "ReduceL1": lambda n: (0.0,),
    "ReduceL2": lambda n: (0.0,),
    "Sqrt": lambda n: (0.0,),
    "Sign": lambda n: (0.0,),
    "ThresholdedRelu": lambda n: (float(n.attributes.get("alpha", 1.0)),),
    "Shrink": lambda n: (float(n.attributes.get("lambd", 0.5)), -float(n.attributes.get("lambd", 0.5))),
    "HardSwish": lambda n: (-3.0, 3.0),
    "HardSigmoid": lambda n: _hard_sigmoid(n),
}
"""Where functions of one variable have their kinks."""


def _hard_sigmoid(node: Node) -> Sequence[float]:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return (-beta / alpha, (1 - beta) / alpha) if alpha else ()


def kinks(
    node: Node,
    inputs: Sequence[Array | None],
    outputs: Sequence[Array],
    cotangents: Sequence[Array | None],
    errors: Sequence[Array | None],
) -> dict[int, Kink]:
    """Elements of each input that sit on a kink of a node.

    Args:
        node: the operator.
        inputs: as they ran, in float64.
        outputs: likewise.
        cotangents: gradients of the outputs.
        errors: how far each input may be off (``None``: it was recorded, and is exact).

    Returns:
        By position, only where there are any.

    Example:
        >>> x = np.array([0.0, 1.0])
        >>> kinks(Node("Relu", ("x",)), [x], [x], [np.ones(2)], [None])[0].mask
        array([ True, False])
    """
    g = cotangents[0] if cotangents else None
    if g is None:
        return {}
    call = Call(node, inputs, outputs, [np.abs(g)])
    if node.op_type in _PLACES:
        found = _at(call, _PLACES[node.op_type](node), errors)
    elif node.op_type == "Clip":
        found = _clip(call, errors)
    elif node.op_type in ("Max", "Min"):
        found = _ties_of_operands(call, errors)
    elif node.op_type in ("ReduceMax", "ReduceMin", "GlobalMaxPool"):
        found = _ties_along(call, errors)
    elif node.op_type == "MaxPool":
        found = _ties_in_windows(call, errors)
    else:
        return {}
    return {position: kink for position, kink in found.items() if kink.mask.any()}


def _error(errors: Sequence[Array | None], position: int) -> Array | float:
    error = errors[position] if position < len(errors) else None
    return 0.0 if error is None else error


def _at(call: Call, places: Sequence[float], errors: Sequence[Array | None]) -> dict[int, Kink]:
    x = call.given(0)
    near = np.zeros(x.shape, bool)
    for place in places:
        # 1e-7: the bounds of hard functions are float32 numbers (2.5 of 0.5 / 0.2), reached from either side.
        near |= np.abs(x - place) <= _error(errors, 0) + (2e-7 * abs(place))
    wide = call.g if call.g.shape == x.shape else np.broadcast_to(kept(call, call.g), x.shape)
    jump = 1 + abs(float(call.node.attributes.get("alpha", 1.0)))
    if call.node.op_type == "PRelu":
        jump = 1 + float(np.abs(call.given(1)).max(initial=0.0))
    return {0: Kink(near, np.where(near, 2 * jump * wide, 0.0))}


def _clip(call: Call, errors: Sequence[Array | None]) -> dict[int, Kink]:
    x = call.given(0)
    near = np.zeros(x.shape, bool)
    for position, name in ((1, "min"), (2, "max")):
        bound = call.inputs[position] if position < len(call.inputs) else None
        bound = call.node.attributes.get(name) if bound is None else bound
        if bound is not None:
            near |= np.abs(x - bound) <= _error(errors, 0)
    return {0: Kink(near, np.where(near, 2 * call.g, 0.0))}


def _ties_of_operands(call: Call, errors: Sequence[Array | None]) -> dict[int, Kink]:
    y = call.outputs[0]
    best = [
        np.abs(np.broadcast_to(call.given(i), y.shape) - y) <= _error(errors, i)
        for i in range(len(call.inputs))
    ]
    tied = np.sum(best, axis=0) > 1
    found = {}
    for position, held in enumerate(best):
        shape = call.given(position).shape
        mask, open_ = tied & held, np.where(tied & held, call.g, 0.0)
        found[position] = Kink(_folded(mask, shape, np.any), _folded(open_, shape, np.sum))
    return found


def _folded(array: Array, shape: tuple[int, ...], fold: Callable[..., Array]) -> Array:
    """An array over the result brought to an operand's shape."""
    lead = tuple(range(array.ndim - len(shape)))
    array = fold(array, axis=lead) if lead else array
    axes = tuple(a for a, n in enumerate(shape) if n == 1 and array.shape[a] != 1)
    return np.asarray(fold(array, axis=axes, keepdims=True) if axes else array).reshape(shape)


def _ties_along(call: Call, errors: Sequence[Array | None]) -> dict[int, Kink]:
    x = call.given(0)
    pooled = call.node.op_type == "GlobalMaxPool"
    axes = tuple(range(2, x.ndim)) if pooled else axes_of(call)
    y, g = (call.outputs[0], call.g) if pooled else (kept(call, call.outputs[0]), kept(call, call.g))
    best = np.abs(x - y) <= _error(errors, 0)
    tied = best & (best.sum(axis=axes, keepdims=True) > 1)
    return {0: Kink(tied, np.where(tied, g, 0.0))}


def _ties_in_windows(call: Call, errors: Sequence[Array | None]) -> dict[int, Kink]:
    """Elements that share the maximum of a window with another; each may get that window's gradient or not."""
    x, attributes = call.given(0), call.node.attributes
    windows = resolve(
        attributes, x.shape[2:], integers(attributes["kernel_shape"]), bool(attributes.get("ceil_mode", 0))
    )
    overhang = windows.overhang(x.shape[2:])
    pads = tuple((b, e + o) for (b, e), o in zip(windows.pads, overhang, strict=True))
    wide = padded(x, pads, -np.inf)
    slack = padded(np.broadcast_to(_error(errors, 0), x.shape).copy(), pads)
    count = np.zeros(call.outputs[0].shape, np.int64)
    taps = [(slice(None), slice(None), *tap(o, windows)) for o in product(*map(range, windows.kernel))]
    for where in taps:
        count += wide[where] >= call.outputs[0] - slack[where]
    tied, mask, open_ = count > 1, np.zeros(wide.shape, bool), np.zeros(wide.shape)
    if tied.any():
        for where in taps:
            held = tied & (wide[where] >= call.outputs[0] - slack[where])
            mask[where] |= held
            open_[where] += np.where(held, call.g, 0.0)
    back = (
        slice(None),
        slice(None),
        *(slice(max(b, 0), max(b, 0) + n) for (b, _), n in zip(pads, x.shape[2:], strict=True)),
    )
    return {0: Kink(mask[back], open_[back])}

"""RNN, GRU and LSTM: directions, activations, clip, states, sequence lengths, peepholes, both layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from porting_check.numerics.operators.activation import sigmoid, softplus
from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    operator,
    optional,
    required,
)

Activation = Callable[[Array], Array]
Step = Callable[[Array, "State"], "State"]
State = tuple[Array, ...]

_DEFAULTS = {
    "Affine": (1.0, 0.0), "LeakyRelu": (0.01, 0.0), "ThresholdedRelu": (1.0, 0.0), "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5), "Elu": (1.0, 0.0),
}  # fmt: skip
"""Default alpha and beta of the activations that have any."""

_FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: sigmoid(x),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ThresholdedRelu": lambda x, a, b: np.where(x >= a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: softplus(x),
}


def _activations(attributes: Attributes, default: Sequence[str], directions: int) -> list[list[Activation]]:
    """The activation functions of each direction, alpha and beta taken in order from the attributes."""
    names = [str(name) for name in attributes.get("activations") or tuple(default) * directions]
    alphas, betas = (
        list(attributes.get("activation_alpha") or ()),
        list(attributes.get("activation_beta") or ()),
    )
    known = {name.lower(): name for name in _FUNCTIONS}
    if len(names) != len(default) * directions or any(name.lower() not in known for name in names):
        raise ValueError(
            f"activations {names}: expected {len(default) * directions} of {', '.join(_FUNCTIONS)}"
        )
    made: list[Activation] = []
    for index, name in enumerate(known[name.lower()] for name in names):
        a, b = _DEFAULTS.get(name, (0.0, 0.0))
        a = float(alphas[index]) if index < len(alphas) else a
        b = float(betas[index]) if index < len(betas) else b
        made.append(_bound(_FUNCTIONS[name], a, b))
    each = len(default)
    return [made[start : start + each] for start in range(0, len(made), each)]


def _bound(function: Callable[[Array, float, float], Array], a: float, b: float) -> Activation:
    return lambda x: function(x, a, b)


@dataclass(frozen=True)
class Direction:
    """The parameters of one direction: W ``(G*H, I)``, R ``(G*H, H)``, biases, peepholes, activations."""

    w: Array
    r: Array
    w_bias: Array
    r_bias: Array
    peephole: Array
    functions: list[Activation]
    reverse: bool
    limit: float | None
    linear_before_reset: bool

    def clipped(self, x: Array) -> Array:
        """What goes into an activation, bounded by the attribute ``clip``."""
        return x if self.limit is None else np.clip(x, -self.limit, self.limit)


def _directions(attributes: Attributes, inputs: Inputs, default: Sequence[str]) -> Iterator[Direction]:
    """The parameters of all directions.

    Raises:
        ValueError: the attribute ``direction`` and the first axis of W do not fit.
    """
    w, r, bias, peephole = (
        required(inputs, 1, "W"),
        required(inputs, 2, "R"),
        optional(inputs, 3),
        optional(inputs, 7),
    )
    name, rows = str(attributes.get("direction") or "forward"), w.shape[1]
    reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(name)
    if reverses is None or len(reverses) != w.shape[0]:
        raise ValueError(f"direction is {name!r}, but W of shape {w.shape} has {w.shape[0]} direction(s)")
    functions = _activations(attributes, default, len(reverses))
    bias = np.zeros((w.shape[0], 2 * rows), w.dtype) if bias is None else bias
    peephole = np.zeros((w.shape[0], 3 * r.shape[2]), w.dtype) if peephole is None else peephole
    limit = attributes.get("clip")
    for index, reverse in enumerate(reverses):
        yield Direction(
            w[index], r[index], bias[index, :rows], bias[index, rows:], peephole[index], functions[index],
            reverse, float(limit) if limit else None, bool(attributes.get("linear_before_reset", 0)),
        )  # fmt: skip


def _run(
    attributes: Attributes,
    inputs: Inputs,
    default: Sequence[str],
    states: int,
    step: Callable[[Direction], Step],
) -> Outputs:
    """Run every direction over time; returns Y and the last states, in the layout of the attributes."""
    x, lengths = required(inputs, 0, "X"), optional(inputs, 4)
    batch_first = bool(attributes.get("layout", 0))
    x = x.swapaxes(0, 1) if batch_first else x
    initial = [optional(inputs, 5), optional(inputs, 6)][:states]
    initial = [item.swapaxes(0, 1) if item is not None and batch_first else item for item in initial]
    outputs, finals = [], []
    for index, direction in enumerate(_directions(attributes, inputs, default)):
        empty = np.zeros((x.shape[1], direction.r.shape[1]), x.dtype)
        state = tuple(empty if item is None else item[index] for item in initial)
        y, last = _unrolled(x, direction, step(direction), state, lengths)
        outputs.append(y)
        finals.append(last)
    y = np.stack(outputs, axis=1)
    last_states = [np.stack(items) for items in zip(*finals, strict=True)]
    if batch_first:
        return (y.transpose(2, 0, 1, 3), *(item.swapaxes(0, 1) for item in last_states))
    return (y, *last_states)


def _unrolled(
    x: Array, direction: Direction, step: Step, state: State, lengths: Array | None
) -> tuple[Array, State]:
    """One direction over all steps; beyond a sample's length its state stands still and it puts out zero."""
    steps, batch = x.shape[:2]
    projected = (x.reshape(steps * batch, -1) @ direction.w.T + direction.w_bias).reshape(steps, batch, -1)
    y = np.zeros((steps, batch, direction.r.shape[1]), projected.dtype)
    for time in reversed(range(steps)) if direction.reverse else range(steps):
        new = step(projected[time], state)
        if lengths is None:
            state = new
            y[time] = new[0]
        else:
            active = (time < lengths)[:, None]
            state = tuple(np.where(active, now, before) for now, before in zip(new, state, strict=True))
            y[time] = np.where(active, new[0], 0)
    return y, state


@operator("RNN")
def rnn(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``H = f(X W' + H R' + Wb + Rb)``; returns Y and Y_h (ONNX RNN-22)."""

    def make(d: Direction) -> Step:
        (f,) = d.functions
        return lambda x, state: (f(d.clipped(x + state[0] @ d.r.T + d.r_bias)),)

    return _run(attributes, inputs, ("Tanh",), 1, make)


@operator("GRU")
def gru(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Gates z, r, h; the reset acts before or (``linear_before_reset``) after the product (ONNX GRU-22)."""
    return _run(attributes, inputs, ("Sigmoid", "Tanh"), 1, _gru_step)


def _gru_step(d: Direction) -> Step:
    f, g = d.functions
    size = d.r.shape[1]
    gates, hidden = d.r[: 2 * size].T, d.r[2 * size :].T
    gate_bias, hidden_bias = d.r_bias[: 2 * size], d.r_bias[2 * size :]

    def step(x: Array, state: State) -> State:
        (h,) = state
        both = f(d.clipped(x[:, : 2 * size] + h @ gates + gate_bias))
        z, r = both[:, :size], both[:, size:]
        if d.linear_before_reset:
            inner = r * (h @ hidden + hidden_bias)
        else:
            inner = (r * h) @ hidden + hidden_bias
        candidate = g(d.clipped(x[:, 2 * size :] + inner))
        return ((1 - z) * candidate + z * h,)

    return step


@operator("LSTM")
def lstm(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Gates i, o, f, c with optional peepholes; returns Y, Y_h and Y_c (ONNX LSTM-22)."""
    return _run(attributes, inputs, ("Sigmoid", "Tanh", "Tanh"), 2, _lstm_step)


def _lstm_step(d: Direction) -> Step:
    f, g, h_function = d.functions
    size = d.r.shape[1]
    peep_i, peep_o, peep_f = (d.peephole[start : start + size] for start in range(0, 3 * size, size))

    def step(x: Array, state: State) -> State:
        h, c = state
        gates = x + h @ d.r.T + d.r_bias
        i, o, forget, cell = (gates[:, start : start + size] for start in range(0, 4 * size, size))
        i = f(d.clipped(i + peep_i * c))
        forget = f(d.clipped(forget + peep_f * c))
        new = forget * c + i * g(d.clipped(cell))
        o = f(d.clipped(o + peep_o * new))
        return (o * h_function(d.clipped(new)), new)

    return step

"""RNN, GRU and LSTM: ``lax.scan`` over the steps of each direction."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp
from jax import lax

from porting_check_jax.run_activation import recurrent_activation
from porting_check_jax.run_call import HIGHEST, Call, Handler, Result
from porting_check_jax.run_movement import reverse_steps

Activation = Callable[[jax.Array], jax.Array]
States = Tuple[jax.Array, ...]

DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


class Weights(NamedTuple):
    """The parameters of one direction: input and recurrent kernels, their biases, peepholes."""

    w: jax.Array
    r: jax.Array
    wb: jax.Array
    rb: jax.Array
    p: Optional[jax.Array]


class Layer(NamedTuple):
    """A recurrent node, unpacked: steps first, one entry per direction."""

    x: jax.Array
    weights: List[Weights]
    lengths: List[int]
    states: List[jax.Array]
    backward: Tuple[bool, ...]
    activations: Tuple[str, ...]


def unpack(call: Call) -> Layer:
    """Inputs and attributes of a recurrent node, defaults filled in (absent states are zero)."""
    kind = call.node.op_type
    x = jnp.swapaxes(call.x, 0, 1) if call.get("layout", 0) else call.x
    w, r, b = call.need(1), call.need(2), call.input(3)
    directions, gates, hidden = w.shape[0], w.shape[1], r.shape[2]
    b = jnp.zeros((directions, 2 * gates), x.dtype) if b is None else b
    peepholes = call.input(7) if kind == "LSTM" else None
    weights = [
        Weights(w[d], r[d], b[d, :gates], b[d, gates:], None if peepholes is None else peepholes[d])
        for d in range(directions)
    ]
    states = []
    for index in (5, 6) if kind == "LSTM" else (5,):
        given = call.input(index)
        if given is not None and call.get("layout", 0):
            given = jnp.swapaxes(given, 0, 1)
        states.append(jnp.zeros((directions, x.shape[1], hidden), x.dtype) if given is None else given)
    lengths = call.integers(4) or [x.shape[0]] * x.shape[1]
    direction = call.get("direction", "forward")
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    activations = tuple(call.get("activations") or DEFAULTS[kind] * directions)
    return Layer(x, weights, lengths, states, backward, activations)


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """``x W' + b``."""
    return jnp.matmul(x, weight.T, precision=HIGHEST) + bias


def _rnn_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX RNN."""

    def step(x: jax.Array, h: jax.Array) -> States:
        return (functions[0](clip(linear(x, weights.w, weights.wb) + linear(h, weights.r, weights.rb))),)

    return step


def _gru_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX GRU, with the reset gate before or after the recurrent product."""
    wz, wr, wh = jnp.split(weights.w, 3)
    rz, rr, rh = jnp.split(weights.r, 3)
    wbz, wbr, wbh = jnp.split(weights.wb, 3)
    rbz, rbr, rbh = jnp.split(weights.rb, 3)
    after = bool(call.get("linear_before_reset", 0))

    def step(x: jax.Array, h: jax.Array) -> States:
        z = functions[0](clip(linear(x, wz, wbz) + linear(h, rz, rbz)))
        r = functions[0](clip(linear(x, wr, wbr) + linear(h, rr, rbr)))
        inner = r * linear(h, rh, rbh) if after else linear(r * h, rh, rbh)
        candidate = functions[1](clip(linear(x, wh, wbh) + inner))
        return ((1 - z) * candidate + z * h,)

    return step


def _lstm_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX LSTM (gates in the order input, output, forget, cell), with peepholes."""
    f, g, last = functions
    peepholes = (0.0, 0.0, 0.0) if weights.p is None else jnp.split(weights.p, 3)
    coupled = bool(call.get("input_forget", 0))

    def step(x: jax.Array, h: jax.Array, c: jax.Array) -> States:
        total = linear(x, weights.w, weights.wb) + linear(h, weights.r, weights.rb)
        i, o, forget, cell = jnp.split(total, 4, axis=-1)
        i = f(clip(i + peepholes[0] * c))
        forget = 1 - i if coupled else f(clip(forget + peepholes[2] * c))
        c = forget * c + i * g(clip(cell))
        return f(clip(o + peepholes[1] * c)) * last(c), c

    return step


STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}


def _functions(call: Call, layer: Layer, direction: int) -> List[Activation]:
    """The activations of one direction with their coefficients."""
    count = len(DEFAULTS[call.node.op_type])
    alphas, betas = call.get("activation_alpha") or (), call.get("activation_beta") or ()
    functions = []
    for place in range(direction * count, (direction + 1) * count):
        given = [values[place] if place < len(values) else None for values in (alphas, betas)]
        functions.append(recurrent_activation(layer.activations[place], *given))
    return functions


def _scan(call: Call, layer: Layer, direction: int) -> Tuple[jax.Array, States]:
    """One direction, step by step; beyond its length a sequence keeps its state and gives zeros."""
    limit = call.get("clip")
    clip: Activation = (
        (lambda value: value) if limit is None else (lambda value: jnp.clip(value, -limit, limit))
    )
    step = STEPS[call.node.op_type](layer.weights[direction], _functions(call, layer, direction), clip, call)
    ends = jnp.asarray(layer.lengths)[:, None]

    def advance(states: States, at: Tuple[jax.Array, jax.Array]) -> Tuple[States, jax.Array]:
        time, row = at
        moved = step(row, *states)
        alive = time < ends
        kept = tuple(jnp.where(alive, new, old) for new, old in zip(moved, states))
        return kept, jnp.where(alive, moved[0], 0)

    backward = layer.backward[direction]
    x = reverse_steps(layer.x, layer.lengths, 0, 1) if backward else layer.x
    first = tuple(state[direction] for state in layer.states)
    last, y = lax.scan(advance, first, (jnp.arange(x.shape[0]), x))
    return (reverse_steps(y, layer.lengths, 0, 1) if backward else y), last


def recurrent(call: Call) -> Result:
    """ONNX RNN, GRU and LSTM: all steps, and the last states."""
    layer = unpack(call)
    runs = [_scan(call, layer, direction) for direction in range(len(layer.weights))]
    y = jnp.stack([run[0] for run in runs], axis=1)
    last = [jnp.stack(states) for states in zip(*(run[1] for run in runs))]
    if call.get("layout", 0):
        return [jnp.transpose(y, (2, 0, 1, 3))] + [jnp.swapaxes(state, 0, 1) for state in last]
    return [y] + last


OPERATORS: Dict[str, Handler] = {"RNN": recurrent, "GRU": recurrent, "LSTM": recurrent}

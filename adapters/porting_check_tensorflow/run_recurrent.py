"""RNN, GRU and LSTM: a loop over the steps, with TensorFlow's matrix products and activations."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_activation import recurrent_activation
from porting_check_tensorflow.run_call import Call, Handler, Result, like, sizes
from porting_check_tensorflow.run_movement import reverse_steps

Activation = Callable[[tf.Tensor], tf.Tensor]
States = Tuple[tf.Tensor, ...]

DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


class Weights(NamedTuple):
    """The parameters of one direction: input and recurrent kernels, their biases, peepholes."""

    w: tf.Tensor
    r: tf.Tensor
    wb: tf.Tensor
    rb: tf.Tensor
    p: Optional[tf.Tensor]


class Layer(NamedTuple):
    """A recurrent node, unpacked: steps first, one entry per direction."""

    x: tf.Tensor
    weights: List[Weights]
    lengths: List[int]
    states: List[tf.Tensor]
    backward: Tuple[bool, ...]
    activations: Tuple[str, ...]


def unpack(call: Call) -> Layer:
    """Inputs and attributes of a recurrent node, defaults filled in (absent states are zero)."""
    kind = call.node.op_type
    x = tf.transpose(call.x, [1, 0, 2]) if call.get("layout", 0) else call.x
    w, r, b = call.need(1), call.need(2), call.input(3)
    directions, gates, hidden = sizes(w)[0], sizes(w)[1], sizes(r)[2]
    b = tf.zeros([directions, 2 * gates], dtype=x.dtype) if b is None else b
    peepholes = call.input(7) if kind == "LSTM" else None
    weights = []
    for at in range(directions):
        peephole = None if peepholes is None else peepholes[at]
        weights.append(Weights(w[at], r[at], b[at, :gates], b[at, gates:], peephole))
    states = []
    for index in (5, 6) if kind == "LSTM" else (5,):
        given = call.input(index)
        if given is not None and call.get("layout", 0):
            given = tf.transpose(given, [1, 0, 2])
        states.append(tf.zeros([directions, sizes(x)[1], hidden], dtype=x.dtype) if given is None else given)
    lengths = call.integers(4) or [sizes(x)[0]] * sizes(x)[1]
    direction = call.get("direction", "forward")
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    activations = tuple(call.get("activations") or DEFAULTS[kind] * directions)
    return Layer(x, weights, lengths, states, backward, activations)


def linear(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """``x W' + b``."""
    return tf.matmul(x, weight, transpose_b=True) + bias


def _rnn_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX RNN."""

    def step(x: tf.Tensor, h: tf.Tensor) -> States:
        return (functions[0](clip(linear(x, weights.w, weights.wb) + linear(h, weights.r, weights.rb))),)

    return step


def _gru_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX GRU, with the reset gate before or after the recurrent product."""
    wz, wr, wh = tf.split(weights.w, 3)
    rz, rr, rh = tf.split(weights.r, 3)
    wbz, wbr, wbh = tf.split(weights.wb, 3)
    rbz, rbr, rbh = tf.split(weights.rb, 3)
    after = bool(call.get("linear_before_reset", 0))

    def step(x: tf.Tensor, h: tf.Tensor) -> States:
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
    peepholes = (0.0, 0.0, 0.0) if weights.p is None else tf.split(weights.p, 3)
    coupled = bool(call.get("input_forget", 0))

    def step(x: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> States:
        total = linear(x, weights.w, weights.wb) + linear(h, weights.r, weights.rb)
        i, o, forget, cell = tf.split(total, 4, axis=-1)
        i = f(clip(i + peepholes[0] * c))
        forget = 1 - i if coupled else f(clip(forget + peepholes[2] * c))
        c = forget * c + i * g(clip(cell))
        return f(clip(o + peepholes[1] * c)) * last(c), c

    return step


STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}


def _loop(call: Call, layer: Layer, direction: int) -> Tuple[tf.Tensor, List[tf.Tensor]]:
    """One direction, step by step; beyond its length a sequence keeps its state and gives zeros."""
    kind, count = call.node.op_type, len(DEFAULTS[call.node.op_type])
    alphas, betas = call.get("activation_alpha") or (), call.get("activation_beta") or ()
    functions = []
    for place in range(direction * count, (direction + 1) * count):
        given = [values[place] if place < len(values) else None for values in (alphas, betas)]
        functions.append(recurrent_activation(layer.activations[place], *given))
    limit, x = call.get("clip"), layer.x
    clip: Activation = (
        (lambda value: value)
        if limit is None
        else (lambda value: tf.clip_by_value(value, like(-limit, value), like(limit, value)))
    )
    step = STEPS[kind](layer.weights[direction], functions, clip, call)
    x = reverse_steps(x, layer.lengths, 0, 1) if layer.backward[direction] else x
    states = [state[direction] for state in layer.states]
    ends = tf.constant(layer.lengths)[:, None]
    outputs: List[tf.Tensor] = []
    for time in range(sizes(x)[0]):
        moved = step(x[time], *states)
        states = [tf.where(time < ends, new, old) for new, old in zip(moved, states)]
        outputs.append(tf.where(time < ends, moved[0], tf.zeros_like(moved[0])))
    y = tf.stack(outputs)
    return (reverse_steps(y, layer.lengths, 0, 1) if layer.backward[direction] else y), states


def recurrent(call: Call) -> Result:
    """ONNX RNN, GRU and LSTM: all steps, and the last states."""
    layer = unpack(call)
    runs = [_loop(call, layer, direction) for direction in range(len(layer.weights))]
    y = tf.stack([run[0] for run in runs], axis=1)
    last = [tf.stack(states) for states in zip(*(run[1] for run in runs))]
    if call.get("layout", 0):
        return [tf.transpose(y, [2, 0, 1, 3])] + [tf.transpose(state, [1, 0, 2]) for state in last]
    return [y, *last]


OPERATORS: Dict[str, Handler] = {"RNN": recurrent, "GRU": recurrent, "LSTM": recurrent}

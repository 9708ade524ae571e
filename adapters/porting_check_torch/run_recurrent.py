"""RNN, GRU and LSTM: torch's own layers where they mean the same, else a loop over the steps."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.nn import functional

from porting_check_torch.run_activation import recurrent_activation
from porting_check_torch.run_call import Call, Handler, Result
from porting_check_torch.run_movement import reverse_steps

Activation = Callable[[torch.Tensor], torch.Tensor]
States = Tuple[torch.Tensor, ...]

DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Where torch's gates (GRU: reset, update, new; LSTM: input, forget, cell, output) stand in ONNX's order."""


class Weights(NamedTuple):
    """The parameters of one direction: input and recurrent kernels, their biases, peepholes."""

    w: torch.Tensor
    r: torch.Tensor
    wb: torch.Tensor
    rb: torch.Tensor
    p: Optional[torch.Tensor]


class Layer(NamedTuple):
    """A recurrent node, unpacked: steps first, one entry per direction."""

    x: torch.Tensor
    weights: List[Weights]
    lengths: Optional[List[int]]
    states: List[torch.Tensor]
    backward: Tuple[bool, ...]
    activations: Tuple[str, ...]


def unpack(call: Call) -> Layer:
    """Inputs and attributes of a recurrent node, defaults filled in (absent states are zero)."""
    kind = call.node.op_type
    x = call.x.transpose(0, 1) if call.get("layout", 0) else call.x
    w, r, b = call.need(1), call.need(2), call.input(3)
    directions, gates, hidden = w.shape[0], w.shape[1], r.shape[2]
    b = x.new_zeros(directions, 2 * gates) if b is None else b
    peepholes = call.input(7) if kind == "LSTM" else None
    weights = [
        Weights(w[d], r[d], b[d, :gates], b[d, gates:], None if peepholes is None else peepholes[d])
        for d in range(directions)
    ]
    states = []
    for index in (5, 6) if kind == "LSTM" else (5,):
        given = call.input(index)
        if given is not None and call.get("layout", 0):
            given = given.transpose(0, 1)
        states.append(x.new_zeros(directions, x.shape[1], hidden) if given is None else given)
    lengths = call.integers(4)
    if lengths is not None and all(length == x.shape[0] for length in lengths):
        lengths = None
    direction = call.get("direction", "forward")
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    activations = tuple(call.get("activations") or DEFAULTS[kind] * directions)
    return Layer(x, weights, lengths, states, backward, activations)


def _plain(call: Call, layer: Layer) -> bool:
    """Whether torch's own layer computes this node."""
    kind = call.node.op_type
    usual = tuple(name.lower() for name in layer.activations) == tuple(
        n.lower() for n in DEFAULTS[kind] * len(layer.weights)
    )
    special = call.get("clip") is not None or call.get("input_forget", 0) or layer.lengths is not None
    before = kind == "GRU" and not call.get("linear_before_reset", 0)
    return usual and not special and not before and layer.weights[0].p is None


def _reorder(tensor: torch.Tensor, kind: str) -> torch.Tensor:
    """Rows of stacked gates in torch's order."""
    parts = torch.chunk(tensor, len(GATES[kind]), dim=0)
    return torch.cat([parts[place] for place in GATES[kind]], dim=0).contiguous()


def _native(call: Call, layer: Layer) -> Tuple[torch.Tensor, List[torch.Tensor]]:
    """The whole layer by ``torch.lstm``, ``torch.gru`` or ``torch.rnn_tanh``."""
    kind = call.node.op_type
    flat = [_reorder(part, kind) for weights in layer.weights for part in weights[:4]]
    only_back = layer.backward == (True,)
    x = layer.x.flip(0) if only_back else layer.x
    function: Any = {"RNN": torch.rnn_tanh, "GRU": torch.gru, "LSTM": torch.lstm}[kind]
    first: Any = (
        [state.contiguous() for state in layer.states] if kind == "LSTM" else layer.states[0].contiguous()
    )
    outputs, *last = function(x, first, flat, True, 1, 0.0, False, len(layer.weights) == 2, False)
    y = outputs.reshape(x.shape[0], x.shape[1], len(layer.weights), -1).permute(0, 2, 1, 3)
    return (y.flip(0) if only_back else y), list(last)


def _rnn_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX RNN."""

    def step(x: torch.Tensor, h: torch.Tensor) -> States:
        return (
            functions[0](
                clip(
                    functional.linear(x, weights.w, weights.wb) + functional.linear(h, weights.r, weights.rb)
                )
            ),
        )

    return step


def _gru_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX GRU, with the reset gate before or after the recurrent product."""
    wz, wr, wh = torch.chunk(weights.w, 3)
    rz, rr, rh = torch.chunk(weights.r, 3)
    wbz, wbr, wbh = torch.chunk(weights.wb, 3)
    rbz, rbr, rbh = torch.chunk(weights.rb, 3)
    after = bool(call.get("linear_before_reset", 0))

    def step(x: torch.Tensor, h: torch.Tensor) -> States:
        z = functions[0](clip(functional.linear(x, wz, wbz) + functional.linear(h, rz, rbz)))
        r = functions[0](clip(functional.linear(x, wr, wbr) + functional.linear(h, rr, rbr)))
        inner = r * functional.linear(h, rh, rbh) if after else functional.linear(r * h, rh, rbh)
        candidate = functions[1](clip(functional.linear(x, wh, wbh) + inner))
        return ((1 - z) * candidate + z * h,)

    return step


def _lstm_step(
    weights: Weights, functions: Sequence[Activation], clip: Activation, call: Call
) -> Callable[..., States]:
    """One step of ONNX LSTM (gates in the order input, output, forget, cell), with peepholes."""
    f, g, last = functions
    peepholes = (0.0, 0.0, 0.0) if weights.p is None else torch.chunk(weights.p, 3)
    coupled = bool(call.get("input_forget", 0))

    def step(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> States:
        total = functional.linear(x, weights.w, weights.wb) + functional.linear(h, weights.r, weights.rb)
        i, o, forget, cell = torch.chunk(total, 4, dim=-1)
        i = f(clip(i + peepholes[0] * c))
        forget = 1 - i if coupled else f(clip(forget + peepholes[2] * c))
        c = forget * c + i * g(clip(cell))
        return f(clip(o + peepholes[1] * c)) * last(c), c

    return step


STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}


def _loop(call: Call, layer: Layer, direction: int) -> Tuple[torch.Tensor, List[torch.Tensor]]:
    """One direction, step by step; beyond its length a sequence keeps its state and gives zeros."""
    kind, count = call.node.op_type, len(DEFAULTS[call.node.op_type])
    alphas, betas = call.get("activation_alpha") or (), call.get("activation_beta") or ()
    functions = []
    for place in range(direction * count, (direction + 1) * count):
        given = [values[place] if place < len(values) else None for values in (alphas, betas)]
        functions.append(recurrent_activation(layer.activations[place], *given))
    limit = call.get("clip")
    clip: Activation = (lambda x: x) if limit is None else (lambda x: torch.clamp(x, -limit, limit))
    step = STEPS[kind](layer.weights[direction], functions, clip, call)
    lengths = layer.lengths or [layer.x.shape[0]] * layer.x.shape[1]
    x = reverse_steps(layer.x, lengths, 0, 1) if layer.backward[direction] else layer.x
    states = [state[direction] for state in layer.states]
    ends = torch.tensor(lengths)[:, None]
    outputs: List[torch.Tensor] = []
    for time in range(x.shape[0]):
        moved = step(x[time], *states)
        alive = time < ends
        states = [torch.where(alive, new, old) for new, old in zip(moved, states)]
        outputs.append(torch.where(alive, moved[0], torch.zeros_like(moved[0])))
    y = torch.stack(outputs)
    return (reverse_steps(y, lengths, 0, 1) if layer.backward[direction] else y), states


def recurrent(call: Call) -> Result:
    """ONNX RNN, GRU and LSTM: all steps, and the last states."""
    layer = unpack(call)
    if _plain(call, layer):
        y, last = _native(call, layer)
    else:
        runs = [_loop(call, layer, direction) for direction in range(len(layer.weights))]
        y = torch.stack([run[0] for run in runs], dim=1)
        last = [torch.stack(states) for states in zip(*(run[1] for run in runs))]
    if call.get("layout", 0):
        return [y.permute(2, 0, 1, 3)] + [state.transpose(0, 1) for state in last]
    return [y] + last


OPERATORS: Dict[str, Handler] = {"RNN": recurrent, "GRU": recurrent, "LSTM": recurrent}

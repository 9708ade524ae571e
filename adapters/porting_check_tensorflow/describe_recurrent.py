"""LSTM, GRU and SimpleRNN, one way and both ways, as the ONNX operators.

Gates reordered by movement nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from porting_check_tensorflow.describe_activations import is_known
from porting_check_tensorflow.sketch import LayerCall, NotDescribedError, Sketch, dtype_of
from porting_check_tensorflow.trees import is_tensor

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""ONNX' gates by their place in Keras: LSTM i,f,c,o to i,o,f,c; GRU z,r,h is the same in both."""

OPERATORS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}

NAMES = {
    "tanh": ("Tanh", 0.0, 0.0),
    "sigmoid": ("Sigmoid", 0.0, 0.0),
    "relu": ("Relu", 0.0, 0.0),
    "softsign": ("Softsign", 0.0, 0.0),
    "softplus": ("Softplus", 0.0, 0.0),
    "elu": ("Elu", 1.0, 0.0),
    "leaky_relu": ("LeakyRelu", 0.2, 0.0),
    "linear": ("Affine", 1.0, 0.0),
}
"""ONNX' name, alpha and beta of an activation inside a recurrent operator."""


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent layer: the layer, where it starts, and a prefix for its ports."""

    layer: Any
    states: Sequence[Any]
    prefix: str = ""

    @property
    def operator(self) -> str:
        """``LSTM``, ``GRU`` or ``RNN``.

        Raises:
            NotDescribedError: another class.
        """
        kind = type(self.layer).__name__
        if kind not in OPERATORS:
            raise NotDescribedError(f"a recurrent layer of class {kind} is not described")
        return OPERATORS[kind]


def recurrent(call: LayerCall, sketch: Sketch) -> None:
    """A describer of ``LSTM``, ``GRU`` and ``SimpleRNN``."""
    layer = call.layer
    _refuse(call, layer)
    direction = Direction(layer, _states(call.argument("initial_state"), layer))
    backwards = bool(layer.go_backwards)
    made = _operator(call, sketch, [direction], "reverse" if backwards else "forward")
    outputs = list(call.outputs)
    if layer.return_sequences:
        value = sketch.add("Squeeze", made[0], sketch.integers("directions", [1]))
        if backwards:
            value = _reversed(sketch, value)
        value = sketch.add("Transpose", value, perm=[1, 0, 2])
    else:
        value = sketch.add("Squeeze", made[1], sketch.integers("axis", [0]))
    sketch.output(value, outputs[0])
    if layer.return_state:
        for number, (state, tensor) in enumerate(zip(made[1:], outputs[1:])):
            last = sketch.add("Squeeze", state, sketch.integers("axis", [0]))
            sketch.output(last, tensor, name=f"state{number}")


def bidirectional(call: LayerCall, sketch: Sketch) -> None:
    """A describer of ``Bidirectional`` around two of the same: one ONNX operator with two directions."""
    layer = call.layer
    forward, backward = layer.forward_layer, layer.backward_layer
    for side in (forward, backward):
        _refuse(call, side)
    _require_alike(forward, backward)
    states = _states(call.argument("initial_state"), None)
    half = len(states) // 2
    directions = [
        Direction(forward, states[:half], "forward_"),
        Direction(backward, states[half:], "backward_"),
    ]
    made = _operator(call, sketch, directions, "bidirectional")
    outputs = list(call.outputs)
    if forward.return_sequences:
        sequence = sketch.add("Transpose", made[0], perm=[2, 0, 1, 3])
    else:
        sequence = sketch.add("Transpose", made[1], perm=[1, 0, 2])
    taken = _merge(call, sketch, sequence, 2 if forward.return_sequences else 1, layer.merge_mode, outputs)
    if forward.return_state:
        _bidirectional_states(sketch, made[1:], outputs[taken:])


def _bidirectional_states(sketch: Sketch, states: Sequence[str], tensors: Sequence[Any]) -> None:
    """Final states: those of the forward layer, then those of the backward one."""
    halves = [sketch.add("Split", state, outputs=2, axis=0, num_outputs=2) for state in states]
    ordered = [half[side] for side in (0, 1) for half in halves]
    for number, (state, tensor) in enumerate(zip(ordered, tensors)):
        last = sketch.add("Squeeze", state, sketch.integers("axis", [0]))
        sketch.output(last, tensor, name=f"state{number}")


def _merge(
    call: LayerCall, sketch: Sketch, both: str, axis: int, mode: Optional[str], outputs: Sequence[Any]
) -> int:
    """The two directions, which lie on ``axis``, merged; gives how many outputs that made."""
    if mode == "concat":
        shape = [int(size) for size in outputs[0].shape]
        sketch.output(sketch.add("Reshape", both, sketch.integers("shape", shape), allowzero=0), outputs[0])
        return 1
    first, second = sketch.add("Split", both, outputs=2, axis=axis, num_outputs=2)
    over = sketch.integers("direction", [axis])
    first, second = sketch.add("Squeeze", first, over), sketch.add("Squeeze", second, over)
    if mode is None:
        sketch.output(first, outputs[0])
        sketch.output(second, outputs[1], name="y1")
        return 2
    if mode not in ("sum", "ave", "mul"):
        raise NotDescribedError(f"merge_mode={mode!r} is not described")
    value = sketch.add("Mul" if mode == "mul" else "Add", first, second)
    if mode == "ave":
        value = sketch.add("Div", value, sketch.constant("two", np.asarray(2.0, dtype_of(outputs[0]))))
    sketch.output(value, outputs[0])
    return 1


def _refuse(call: LayerCall, layer: Any) -> None:
    """What no ONNX recurrent operator says."""
    if call.mask("mask", call.x) is not None:
        raise NotDescribedError("a mask hides some time steps")
    if getattr(layer, "stateful", False):
        raise NotDescribedError("stateful=True starts from the states of the call before")
    for name in ("activation", "recurrent_activation"):
        function = getattr(layer, name, None)
        if function is not None and _short(function) not in dict(NAMES, hard_sigmoid=0):
            raise NotDescribedError(f"{name}={_short(function)!r} is not one of ONNX' recurrent activations")


def _short(function: Any) -> str:
    return str(getattr(function, "__name__", function)) if is_known(function) else repr(function)


def _require_alike(forward: Any, backward: Any) -> None:
    """One bidirectional operator has one set of attributes."""
    names = ("units", "return_sequences", "return_state", "use_bias", "reset_after")
    unlike = [n for n in names if getattr(forward, n, None) != getattr(backward, n, None)]
    if type(forward) is not type(backward) or unlike:
        raise NotDescribedError(f"the two directions differ in {unlike or 'their class'}")
    if forward.go_backwards or not backward.go_backwards:
        raise NotDescribedError("go_backwards of the two directions is not False and True")


def _states(given: Any, layer: Any) -> List[Any]:
    if given is None:
        return []
    items = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(is_tensor(item) for item in items):
        raise NotDescribedError("an initial state is no dense tensor")
    return items


def _operator(
    call: LayerCall, sketch: Sketch, directions: Sequence[Direction], direction: str
) -> Tuple[str, ...]:
    """The recurrent node and what it reads.

    Gives Y (time, directions, batch, units), Y_h and, for LSTM, Y_c.
    """
    operator = directions[0].operator
    x = sketch.add("Transpose", sketch.input("x", call.x), perm=[1, 0, 2])
    weights = [_weights(sketch, side, operator, dtype_of(call.x)) for side in directions]
    stacked = [
        parts[0] if len(parts) == 1 else sketch.add("Concat", *parts, axis=0) for parts in zip(*weights)
    ]
    inputs = [x] + stacked
    starts = _initial(sketch, directions)
    if starts:
        inputs += [""] + starts
    names, alphas, betas = _activations(call, directions, operator)
    attributes: Dict[str, Any] = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    if operator == "GRU":
        attributes["linear_before_reset"] = int(bool(getattr(directions[0].layer, "reset_after", True)))
    units = int(directions[0].layer.units)
    count = 3 if operator == "LSTM" else 2
    made: Tuple[str, ...] = sketch.add(
        operator, *inputs, outputs=count, hidden_size=units, direction=direction, layout=0, **attributes
    )
    return made


def _weights(sketch: Sketch, side: Direction, operator: str, dtype: np.dtype) -> List[str]:
    """W, R and B of one direction, each with a leading axis for the direction."""
    cell, prefix = side.layer.cell, side.prefix
    order = GATES[operator]
    made = []
    for role, variable in (("kernel", cell.kernel), ("recurrent_kernel", cell.recurrent_kernel)):
        value = sketch.add("Transpose", sketch.parameter(prefix + role, variable), perm=[1, 0])
        made.append(_leading(sketch, _reordered(sketch, value, order)))
    units = int(side.layer.units)
    bias = getattr(cell, "bias", None)
    zeros = sketch.constant("zeros", np.zeros(len(order) * units, dtype))
    if bias is None:
        value = sketch.add("Concat", zeros, zeros, axis=0)
    elif len(bias.shape) == 2:
        value = sketch.parameter(prefix + "bias", bias)
        value = sketch.add("Reshape", value, sketch.integers("flat", [-1]), allowzero=0)
    else:
        value = _reordered(sketch, sketch.parameter(prefix + "bias", bias), order)
        value = sketch.add("Concat", value, zeros, axis=0)
    made.append(_leading(sketch, value))
    return made


def _leading(sketch: Sketch, value: str) -> str:
    return str(sketch.add("Unsqueeze", value, sketch.integers("axis", [0])))


def _reordered(sketch: Sketch, value: str, order: Sequence[int]) -> str:
    """The gates, which lie on axis 0, in another order."""
    if list(order) == list(range(len(order))):
        return value
    parts = sketch.add("Split", value, outputs=len(order), axis=0, num_outputs=len(order))
    return str(sketch.add("Concat", *[parts[gate] for gate in order], axis=0))


def _initial(sketch: Sketch, directions: Sequence[Direction]) -> List[str]:
    """Initial states, stacked over the directions; empty when they are zeros."""
    count = len(directions[0].states)
    made = []
    for number in range(count):
        parts = []
        for side in directions:
            name = sketch.input(f"{side.prefix}initial_state{number}", side.states[number])
            parts.append(_leading(sketch, name))
        made.append(parts[0] if len(parts) == 1 else sketch.add("Concat", *parts, axis=0))
    return made


def _activations(
    call: LayerCall, directions: Sequence[Direction], operator: str
) -> Tuple[List[str], List[float], List[float]]:
    """ONNX' f, g and h of every direction with their numbers (ONNX operators LSTM, GRU, RNN)."""
    names: List[str] = []
    alphas: List[float] = []
    betas: List[float] = []
    for side in directions:
        layer = side.layer
        functions = [layer.activation]
        if operator != "RNN":
            functions = [layer.recurrent_activation, layer.activation]
        if operator == "LSTM":
            functions.append(layer.activation)
        for function in functions:
            hard = ("HardSigmoid", 1.0 / 6.0 if call.keras >= 3 else 0.2, 0.5)
            name, alpha, beta = dict(NAMES, hard_sigmoid=hard)[
                "linear" if function is None else _short(function)
            ]
            names.append(name)
            alphas.append(alpha)
            betas.append(beta)
    return names, alphas, betas


def _reversed(sketch: Sketch, value: str) -> str:
    """Time, which lies on axis 0, the other way round."""
    start, end = sketch.integers("starts", [-1]), sketch.integers("ends", [np.iinfo(np.int64).min])
    return str(
        sketch.add("Slice", value, start, end, sketch.integers("axis", [0]), sketch.integers("steps", [-1]))
    )


LAYERS: Dict[str, Callable[[LayerCall, Sketch], None]] = {
    "LSTM": recurrent,
    "GRU": recurrent,
    "SimpleRNN": recurrent,
    "Bidirectional": bidirectional,
}

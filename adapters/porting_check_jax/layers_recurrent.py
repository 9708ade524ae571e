"""Recurrent layers of flax and equinox as ONNX' LSTM, GRU and RNN.

The libraries differ in how they hold the gates: linen one small kernel per gate (``ii``, ``hi``, …), nnx either
that or one kernel of all gates, equinox torch's rows of all gates. The order is ``i f g o`` and ``r z n``
everywhere, against ONNX' ``i o f c`` and ``z r h``. Their GRU resets after the recurrent product.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jax
import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.layers import LayerCall
from porting_check_jax.layers_activation import recurrent_activation
from porting_check_jax.layers_shared import argument, fed, number, plain, promoted, reversed_axes, setting


class Half(NamedTuple):
    """How a cell holds one of its two products (input or state): names by gate in ONNX' order.

    ``joined``: one name for all gates, in the library's order, and the places of ONNX' gates in it.
    """

    kernels: Tuple[str, ...] = ()
    biases: Tuple[str, ...] = ()
    joined: bool = False


class Kind(NamedTuple):
    """A recurrence: ONNX' operator, places of its gates in the library's order, and both halves."""

    op_type: str
    order: Tuple[int, ...]
    inward: Half
    recurrent: Half
    layout: str = "IO"


def _apart(prefix: str, gates: str, bias: str = "") -> Half:
    """One dense layer per gate; those in ``bias`` have one.

    Example:
        >>> _apart("h", "io", "o")
        Half(kernels=('hi/kernel', 'ho/kernel'), biases=('', 'ho/bias'), joined=False)
    """
    names = [prefix + ("f_" if gate == "F" else gate) for gate in gates]
    held = [name + "/bias" if gate in bias else "" for name, gate in zip(names, gates)]
    return Half(tuple(name + "/kernel" for name in names), tuple(held))


_LSTM, _GRU = (0, 3, 1, 2), (1, 0, 2)

KINDS: Dict[str, Kind] = {
    "linen.LSTMCell": Kind("LSTM", _LSTM, _apart("i", "iofg"), _apart("h", "iofg", "iofg")),
    "linen.OptimizedLSTMCell": Kind("LSTM", _LSTM, _apart("i", "iofg"), _apart("h", "iofg", "iofg")),
    "linen.GRUCell": Kind("GRU", _GRU, _apart("i", "zrn", "zrn"), _apart("h", "zrn", "n")),
    "linen.SimpleCell": Kind("RNN", (0,), Half(("i/kernel",), ("i/bias",)), Half(("h/kernel",), ("",))),
    "nnx.LSTMCell": Kind("LSTM", _LSTM, _apart("i", "ioFg"), _apart("h", "iofg", "iofg")),
    "nnx.OptimizedLSTMCell": Kind(
        "LSTM",
        _LSTM,
        Half(("dense_i/kernel",), ("",), True),
        Half(("dense_h/kernel",), ("dense_h/bias",), True),
    ),
    "nnx.GRUCell": Kind(
        "GRU",
        _GRU,
        Half(("dense_i/kernel",), ("dense_i/bias",), True),
        Half(("dense_h/kernel",), ("",), True),
    ),
    "nnx.SimpleCell": Kind(
        "RNN",
        (0,),
        Half(("dense_i/kernel",), ("dense_i/bias",)),
        Half(("dense_h/kernel",), ("",)),
    ),
    "equinox.LSTMCell": Kind(
        "LSTM", _LSTM, Half(("weight_ih",), ("bias",), True), Half(("weight_hh",), ("",), True), "OI"
    ),
    "equinox.GRUCell": Kind(
        "GRU", _GRU, Half(("weight_ih",), ("bias",), True), Half(("weight_hh",), ("bias_n",), True), "OI"
    ),
}
"""The cells that ONNX has an operator for. flax: recurrent.py of linen and nnx; equinox: nn/_rnn.py."""


class Direction(NamedTuple):
    """One direction of a layer: its cell, where its parameters are, and what its ports are called."""

    kind: Kind
    cell: Any
    path: str
    prefix: str
    hidden: int


class Builder:
    """The nodes of one recurrent operator, all directions.

    Attributes:
        call: the layer's call, whose parameters the directions name.
        d: the draft.
        dtype: what everything is computed in.
    """

    def __init__(self, call: LayerCall, d: Draft, dtype: np.dtype) -> None:
        self.call, self.d, self.dtype = call, d, dtype

    def held(self, side: Direction, name: str) -> Optional[Ref]:
        """A parameter of a direction's cell."""
        return self.call.parameters.get(side.path + name) if name else None

    def kernel(self, side: Direction, half: Half) -> str:
        """(1, gates * hidden, inputs) in ONNX' order of gates."""
        d, rows = self.d, []
        for name in half.kernels:
            ref = self.held(side, name)
            if ref is None:
                return d.refuse(f"whose parameter {side.path + name!r} is held elsewhere is not described")
            layouts = self._layouts(side, half)
            rows.append(fed(d, ref, side.prefix + name.replace("/", "_"), self.dtype, *layouts))
        joined = self._ordered(side, rows, half)
        return d.node("Unsqueeze", joined, d.integers([0], "direction"))

    def _layouts(self, side: Direction, half: Half) -> Tuple[str, str]:
        gated = half.joined and len(side.kind.order) > 1
        if side.kind.layout == "OI":
            return ("(GO)I", "(GO)I") if gated else ("OI", "OI")
        return ("I(GO)", "(GO)I") if gated else ("IO", "OI")

    def _ordered(self, side: Direction, rows: Sequence[str], half: Half) -> str:
        """Gates one after another in ONNX' order."""
        d, order = self.d, side.kind.order
        if not half.joined:
            return rows[0] if len(rows) == 1 else d.node("Concat", *rows, axis=0)
        sizes = d.integers([side.hidden] * len(order), "gates")
        parts = d.nodes(len(order), "Split", rows[0], sizes, axis=0)
        return d.node("Concat", *[parts[gate] for gate in order], axis=0)

    def bias(self, side: Direction) -> str:
        """(1, 2 * gates * hidden): the input's, then the state's; zeros where a gate has none."""
        halves = [self._half_bias(side, half) for half in (side.kind.inward, side.kind.recurrent)]
        both = self.d.node("Concat", *halves, axis=0)
        return self.d.node("Unsqueeze", both, self.d.integers([0], "direction"))

    def _half_bias(self, side: Direction, half: Half) -> str:
        d, gates = self.d, len(side.kind.order)
        refs = [self.held(side, name) for name in half.biases]
        if not any(refs):
            return self._zeros(gates * side.hidden)
        names = [
            self._zeros(side.hidden)
            if ref is None
            else fed(d, ref, side.prefix + name.replace("/", "_"), self.dtype)
            for name, ref in zip(half.biases, refs)
        ]
        if half.biases == ("bias_n",):  # equinox' GRU: of the last gate alone
            return d.node("Concat", self._zeros((gates - 1) * side.hidden), names[0], axis=0)
        return self._ordered(side, names, half)

    def _zeros(self, size: int) -> str:
        return number(self.d, np.zeros(size), "no_bias", self.dtype)

    def run(
        self, x: str, sides: Sequence[Direction], states: Sequence[str], direction: str
    ) -> Tuple[str, ...]:
        """The operator on ``x`` (T, N, I); gives Y (T, D, N, H), then the last states (D, N, H)."""
        d, kind = self.d, sides[0].kind
        stacked = []
        for parts in (
            [self.kernel(side, side.kind.inward) for side in sides],
            [self.kernel(side, side.kind.recurrent) for side in sides],
            [self.bias(side) for side in sides],
        ):
            stacked.append(parts[0] if len(parts) == 1 else d.node("Concat", *parts, axis=0))
        functions = [item for side in sides for item in _functions(d, side)]
        attributes: Dict[str, Any] = {"activations": [item[0] for item in functions]}
        attributes["activation_alpha"] = [item[1] for item in functions]
        attributes["activation_beta"] = [item[2] for item in functions]
        if kind.op_type == "GRU":
            attributes["linear_before_reset"] = 1
        attributes.update(hidden_size=sides[0].hidden, direction=direction, layout=0)
        tail = ["", *states] if states else []
        outputs = 3 if kind.op_type == "LSTM" else 2
        return d.nodes(outputs, kind.op_type, x, *stacked, *tail, **attributes)


def _functions(d: Draft, side: Direction) -> List[Tuple[str, float, float]]:
    """Activations in ONNX' order; equinox has no choice."""
    gate = recurrent_activation(d, getattr(side.cell, "gate_fn", jax.nn.sigmoid))
    inner = recurrent_activation(d, getattr(side.cell, "activation_fn", jax.numpy.tanh))
    return {"LSTM": [gate, inner, inner], "GRU": [gate, inner], "RNN": [inner]}[side.kind.op_type]


def _direction(call: LayerCall, d: Draft, cell: Any, path: str, prefix: str) -> Direction:
    """The direction of a cell.

    Raises:
        Undescribed: no cell that ONNX has an operator for.
    """
    library = call.kind.partition(".")[0]
    kind = KINDS.get(f"{library}.{type(cell).__name__}")
    if kind is None or not type(cell).__module__.startswith(("flax.", "equinox.")):
        d.refuse(f"around a {type(cell).__name__} is not described")
    if getattr(cell, "residual", False):
        d.refuse("with residual=True is not described")
    hidden = next(
        (
            getattr(cell, name)
            for name in ("features", "hidden_features", "hidden_size")
            if hasattr(cell, name)
        ),
        0,
    )
    return Direction(kind, cell, path, prefix, int(hidden))


def _cell_dtype(call: LayerCall, d: Draft, sides: Sequence[Direction], others: Sequence[Any]) -> np.dtype:
    refs = [ref for ref in others if isinstance(ref, Ref)]
    refs += [ref for name, ref in call.parameters.items() if any(name.startswith(s.path) for s in sides)]
    return promoted(d, refs, getattr(sides[0].cell, "dtype", None))


def cell(call: LayerCall, d: Draft) -> None:
    """One step of a cell: a sequence of length one. flax gives the carry, then the output."""
    plain(call, d)
    side = _direction(call, d, call.module, "", "")
    lstm = side.kind.op_type == "LSTM"
    if call.kind.startswith("equinox."):
        inputs, carry = call.x, argument(call, "hidden", 1)
        hidden = list(carry) if lstm else [carry]
    else:
        carry, inputs = argument(call, "carry", 0), argument(call, "inputs", 1)
        hidden = list(carry)[::-1] if lstm else [carry]  # flax: (c, h)
    if not isinstance(inputs, Ref):
        d.refuse(f"with {type(inputs).__name__} for inputs is not described")
    dtype = _cell_dtype(call, d, [side], [inputs] + hidden)
    build, lead = Builder(call, d, dtype), inputs.shape[:-1]
    rows = int(np.prod(lead))
    x = d.reshape(fed(d, inputs, "x", dtype), (1, rows, inputs.shape[-1]))
    states = [
        _state(d, ref, role, lead, side.hidden, dtype)
        for ref, role in zip(hidden, ("initial_h", "initial_c"))
    ]
    _, *last = build.run(x, [side], states, "forward")
    h, *c = [d.reshape(name, lead + (side.hidden,)) for name in last]
    # flax returns ((c, h), h); a recorder that names each array once has one output less.
    given = [h] + c if call.kind.startswith("equinox.") else c + [h, h]
    for name in given[: len(d.outputs)]:
        d.give_as(name, dtype)


def _state(d: Draft, ref: Any, role: str, lead: Tuple[int, ...], hidden: int, dtype: np.dtype) -> str:
    """A state as (1, N, H); inside ``vmap`` it may be one for the whole batch."""
    if not isinstance(ref, Ref) or ref.shape not in (lead + (hidden,), (hidden,)):
        return d.refuse("with such a state is not described")
    name, rows = fed(d, ref, role, dtype), int(np.prod(lead))
    if ref.shape == lead + (hidden,):
        return d.reshape(name, (1, rows, hidden))
    return d.node("Expand", name, d.integers([1, rows, hidden], "shape"))


class Steps(NamedTuple):
    """The axes of a sequence: batch axes before or after the time."""

    ref: Ref
    time_major: bool

    @property
    def lead(self) -> Tuple[int, ...]:
        """Sizes of the batch axes."""
        return self.ref.shape[1:-1] if self.time_major else self.ref.shape[:-2]

    @property
    def steps(self) -> int:
        """The number of time steps."""
        return self.ref.shape[0 if self.time_major else -2]

    def inward(self, d: Draft, dtype: np.dtype) -> str:
        """The sequence as (T, N, F)."""
        rows, width = int(np.prod(self.lead)), self.ref.shape[-1]
        x = fed(d, self.ref, "x", dtype)
        if len(self.lead) != 1:
            x = d.reshape(x, (self.steps, rows, width) if self.time_major else (rows, self.steps, width))
        return x if self.time_major else d.node("Transpose", x, perm=(1, 0, 2))

    def outward(self, d: Draft, y: str, width: int) -> str:
        """(T, N, F) as a sequence of the input's kind."""
        y = y if self.time_major else d.node("Transpose", y, perm=(1, 0, 2))
        if len(self.lead) == 1:
            return y
        return d.reshape(
            y, ((self.steps,) + self.lead if self.time_major else self.lead + (self.steps,)) + (width,)
        )


def _sequence(call: LayerCall, d: Draft, time_major: Any) -> Steps:
    if argument(call, "seq_lengths") is not None:
        d.refuse("with seq_lengths is not described")
    if not isinstance(call.x, Ref) or call.x.ndim < 2:
        d.refuse("with such an input is not described")
    return Steps(call.x, bool(time_major))


def _initial(d: Draft, side: Direction, carry: Any, rows: int, dtype: np.dtype) -> List[str]:
    """Initial states in ONNX' order (h, then c), each (1, N, H); none where flax starts from zeros.

    Raises:
        Undescribed: an initial state drawn by a function of the user's own.
    """
    if carry is None:
        start = getattr(side.cell, "carry_init", None)
        if start is not None and start is not jax.nn.initializers.zeros:
            d.refuse("with a carry_init other than zeros is not described")
        return []
    states = list(carry)[::-1] if side.kind.op_type == "LSTM" else [carry]
    return [
        d.reshape(fed(d, ref, side.prefix + role, dtype), (1, rows, side.hidden))
        for ref, role in zip(states, ("initial_h", "initial_c"))
    ]


def rnn(call: LayerCall, d: Draft) -> None:
    """``linen.RNN`` and ``nnx.RNN`` around a cell of the library.

    ``reverse`` gives the outputs in the order they were made; ``keep_order`` puts them back (flax).
    """
    reverse, keep = (bool(setting(call, name)) for name in ("reverse", "keep_order"))
    sequence = _sequence(call, d, setting(call, "time_major"))
    side = _direction(call, d, call.module.cell, "cell/", "")
    carry = argument(call, "initial_carry")
    dtype = _cell_dtype(call, d, [side], [call.x] + jax.tree_util.tree_leaves(carry))
    states = _initial(d, side, carry, int(np.prod(sequence.lead)), dtype)
    x = sequence.inward(d, dtype)
    y, *last = Builder(call, d, dtype).run(x, [side], states, "reverse" if reverse else "forward")
    y = d.node("Squeeze", y, d.integers([1], "direction"))
    if reverse and not keep:
        y = reversed_axes(d, y, [0])
    y = sequence.outward(d, y, side.hidden)
    if setting(call, "return_carry"):
        for name in last[::-1]:  # flax: (c, h)
            d.give_as(d.reshape(name, sequence.lead + (side.hidden,)), dtype)
    d.give_as(y, dtype)


def bidirectional(call: LayerCall, d: Draft) -> None:
    """``linen.Bidirectional`` and ``nnx.Bidirectional``: two layers of one kind, outputs side by side."""
    module = call.module
    sequence = _sequence(call, d, setting(call, "time_major"))
    if getattr(module.merge_fn, "__name__", "") != "_concatenate":
        d.refuse("with a merge_fn is not described")
    layers = module.forward_rnn, module.backward_rnn
    if any(type(layer).__name__ != "RNN" for layer in layers) or layers[0] is layers[1]:
        d.refuse(f"around {[type(layer).__name__ for layer in layers]} is not described")
    sides = [
        _direction(call, d, layer.cell, f"{name}_rnn/cell/", f"{name}_")
        for name, layer in zip(("forward", "backward"), layers)
    ]
    if sides[0].kind != sides[1].kind or sides[0].hidden != sides[1].hidden:
        d.refuse("around two unlike cells is not described")
    carries = argument(call, "initial_carry")
    carries = (None, None) if carries is None else carries
    dtype = _cell_dtype(call, d, sides, [call.x] + jax.tree_util.tree_leaves(carries))
    rows = int(np.prod(sequence.lead))
    starts = [_initial(d, side, carry, rows, dtype) for side, carry in zip(sides, carries)]
    if bool(starts[0]) != bool(starts[1]):
        d.refuse("with an initial state for one direction is not described")
    states = [d.node("Concat", *pair, axis=0) for pair in zip(*starts)]
    y, *last = Builder(call, d, dtype).run(sequence.inward(d, dtype), sides, states, "bidirectional")
    width = sides[0].hidden
    both = d.reshape(d.node("Transpose", y, perm=(0, 2, 1, 3)), (sequence.steps, rows, 2 * width))
    result = sequence.outward(d, both, 2 * width)
    if setting(call, "return_carry"):
        halves = [d.nodes(2, "Split", name, d.integers([1, 1], "directions"), axis=0) for name in last[::-1]]
        for half in zip(*halves):
            for name in half:
                d.give_as(d.reshape(name, sequence.lead + (width,)), dtype)
    d.give_as(result, dtype)

"""LSTM, GRU and plain recurrent layers, and their cells.

torch orders the gates ``i f g o`` (LSTM) and ``r z n`` (GRU), ONNX ``i o f c`` and ``z r h``; torch keeps one
matrix per layer and direction, ONNX one per layer with the directions stacked. The kernels are rearranged by
nodes, so that the record still refers to torch's own parameters.
"""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from porting_check_torch.arrays import to_array
from porting_check_torch.describe.draft import Draft, Ref
from porting_check_torch.describe.table import describes


class Cell(NamedTuple):
    """One kind of recurrence: its ONNX operator, torch's gates in the order of ONNX, and attributes."""

    op_type: str
    gates: Tuple[int, ...]
    activations: Tuple[str, ...]
    attributes: Dict[str, Any]


CELLS = {
    "lstm": Cell("LSTM", (0, 3, 1, 2), ("Sigmoid", "Tanh", "Tanh"), {}),
    "gru": Cell("GRU", (1, 0, 2), ("Sigmoid", "Tanh"), {"linear_before_reset": 1}),
    "rnn_tanh": Cell("RNN", (0,), ("Tanh",), {}),
    "rnn_relu": Cell("RNN", (0,), ("Relu",), {}),
}
"""torch applies the reset gate after the recurrent product: linear_before_reset (torch.nn.GRU, ``n_t``)."""


def _gates(d: Draft, ref: Ref, cell: Cell, role: str) -> str:
    """A kernel or bias with its gates in ONNX' order."""
    name = d.port(ref, role)
    if len(cell.gates) == 1:
        return name
    rows = ref.shape[0] // len(cell.gates)
    parts = d.nodes(len(cell.gates), "Split", name, d.integers([rows] * len(cell.gates), "gates"), axis=0)
    return d.node("Concat", *[parts[gate] for gate in cell.gates], axis=0)


def _stack(d: Draft, names: Sequence[str]) -> str:
    """Directions side by side on a new first axis."""
    rows = [d.node("Unsqueeze", name, d.integers([0], "direction")) for name in names]
    return rows[0] if len(rows) == 1 else d.node("Concat", *rows, axis=0)


class Layer(NamedTuple):
    """Parameters of one layer: per direction ``weight_ih weight_hh bias_ih bias_hh``, and their suffix."""

    directions: Tuple[Tuple[Sequence[Ref], str], ...]

    @property
    def hidden(self) -> int:
        """The size of the state."""
        return int(self.directions[0][0][1].shape[1])


def _run(d: Draft, cell: Cell, x: str, layer: Layer, states: Sequence[str]) -> Tuple[str, ...]:
    """One layer over time: ``x`` is (T, N, I); returns Y (T, D, N, H) and the last states (D, N, H)."""
    kernels = []
    for place, role in ((0, "weight_ih"), (1, "weight_hh")):
        kernels.append(
            _stack(d, [_gates(d, refs[place], cell, role + suffix) for refs, suffix in layer.directions])
        )
    bias = ""
    if len(layer.directions[0][0]) > 2:
        both = []
        for refs, suffix in layer.directions:
            pair = [
                _gates(d, refs[place], cell, role + suffix)
                for place, role in ((2, "bias_ih"), (3, "bias_hh"))
            ]
            both.append(d.node("Concat", *pair, axis=0))
        bias = _stack(d, both)
    count = len(layer.directions)
    attributes = dict(
        cell.attributes, hidden_size=layer.hidden, activations=cell.activations * count, layout=0
    )
    attributes["activation_alpha"] = attributes["activation_beta"] = (0.0,) * len(attributes["activations"])
    attributes["direction"] = "bidirectional" if count == 2 else "forward"
    outputs = 3 if cell.op_type == "LSTM" else 2
    return d.nodes(outputs, cell.op_type, x, kernels[0], kernels[1], bias, "", *states, **attributes)


def _merged(d: Draft, y: str, steps: int, batch: int, width: int, count: int) -> str:
    """(T, D, N, H) to (T, N, D*H)."""
    if count == 1:
        return d.node("Squeeze", y, d.integers([1], "direction"))
    return d.reshape(d.node("Transpose", y, perm=(0, 2, 1, 3)), (steps, batch, width * count))


def _zero(ref: Ref) -> bool:
    """Whether an initial state is nothing but zeros made inside the layer, which ONNX leaves out."""
    return ref.key.startswith("constant:") and not to_array(ref.tensor).any()


def _initial(d: Draft, hidden: Sequence[Ref], first: int, count: int, total: int) -> List[str]:
    """The states of one layer, cut out of those of all layers."""
    names = []
    for ref, role in zip(hidden, ("initial_h", "initial_c")):
        if _zero(ref):
            names.append("")
            continue
        name = d.port(ref, role)
        if total > count:
            bounds = [
                d.integers([value], bound)
                for value, bound in ((first, "starts"), (first + count, "ends"), (0, "axes"))
            ]
            name = d.node("Slice", name, *bounds, d.integers([1], "steps"))
        names.append(name)
    while names and not names[-1]:
        names.pop()
    return names


def _layers(flat: Sequence[Ref], has_biases: bool, num_layers: int, count: int) -> List[Layer]:
    each = 4 if has_biases else 2
    suffixes = [
        f"_l{layer}{'_reverse' * direction}" for layer in range(num_layers) for direction in range(count)
    ]
    cells = [(flat[place * each : (place + 1) * each], suffix) for place, suffix in enumerate(suffixes)]
    return [Layer(tuple(cells[layer * count : (layer + 1) * count])) for layer in range(num_layers)]


def _recurrent(kind: str) -> Callable[..., None]:
    cell = CELLS[kind]

    def describe(
        d: Draft,
        input: Ref,
        hx: Any,
        params: Any,
        has_biases: Any,
        num_layers: Any,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool = False,
    ) -> None:
        if isinstance(params, Ref) or not isinstance(params, (list, tuple)):
            d.refuse("of a packed sequence is not described")
        hidden = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        count = 2 if bidirectional else 1
        if len(params) != num_layers * count * (4 if has_biases else 2):
            d.refuse("with a projection (proj_size) is not described")
        if train and dropout > 0 and num_layers > 1:
            d.refuse("drops elements between layers at random (training mode)")
        x = d.port(input)
        x = d.node("Transpose", x, perm=(1, 0, 2)) if batch_first else x
        steps, batch = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
        last: List[List[str]] = [[] for _ in hidden]
        for place, layer in enumerate(_layers(params, has_biases, num_layers, count)):
            states = _initial(d, hidden, place * count, count, num_layers * count)
            y, *finals = _run(d, cell, x, layer, states)
            x = _merged(d, y, steps, batch, layer.hidden, count)
            for kept, final in zip(last, finals):
                kept.append(final)
        d.give(d.node("Transpose", x, perm=(1, 0, 2)) if batch_first else x)
        for kept in last:
            d.give(kept[0] if len(kept) == 1 else d.node("Concat", *kept, axis=0))

    return describe


for _kind in CELLS:
    describes(_kind, main=True)(_recurrent(_kind))


def _single(kind: str) -> Callable[..., None]:
    cell = CELLS[kind]

    def describe(
        d: Draft,
        input: Ref,
        hx: Any,
        w_ih: Ref,
        w_hh: Ref,
        b_ih: Optional[Ref] = None,
        b_hh: Optional[Ref] = None,
    ) -> None:
        """One step: a sequence of length one."""
        if input.ndim != 2:
            d.refuse(f"with an input of rank {input.ndim} is not described")
        refs = [w_ih, w_hh] + ([] if b_ih is None or b_hh is None else [b_ih, b_hh])
        hidden = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        time = d.integers([0], "time")
        names = [
            "" if _zero(ref) else d.node("Unsqueeze", d.port(ref, role), time)
            for ref, role in zip(hidden, ("initial_h", "initial_c"))
        ]
        while names and not names[-1]:
            names.pop()
        x = d.node("Unsqueeze", d.port(input), time)
        _, *finals = _run(d, cell, x, Layer(((refs, ""),)), names)
        for final in finals[: len(d.outputs)]:
            d.give(d.node("Squeeze", final, d.integers([0], "direction")))

    return describe


for _kind in CELLS:
    describes(f"{_kind}_cell", main=True)(_single(_kind))

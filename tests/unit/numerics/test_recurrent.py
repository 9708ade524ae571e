"""RNN, GRU and LSTM in float64 against PyTorch, and what PyTorch lacks against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.numerics.close import assert_close, run

torch = pytest.importorskip("torch")

GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Place of each ONNX gate among torch's: z r h of r z n, i o f c of i f g o."""

shapes = st.tuples(
    st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)
)


def gates(array: np.ndarray, op_type: str) -> np.ndarray:
    """torch's gates in the order of ONNX."""
    parts = np.split(array, len(GATES[op_type]))
    return np.concatenate([parts[place] for place in GATES[op_type]])


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
@settings(max_examples=10, deadline=None)
@given(shape=shapes, batch_first=st.booleans(), initial=st.booleans())
def test_recurrent_layers_are_those_of_torch(
    shape: tuple[int, ...], op_type: str, bidirectional: bool, batch_first: bool, initial: bool
) -> None:
    seed, steps, batch, inputs, hidden = shape
    torch.manual_seed(seed)
    layer = getattr(torch.nn, op_type)(inputs, hidden, bidirectional=bidirectional).double()
    suffixes = ("", "_reverse")[: 1 + bidirectional]

    def parameter(kind: str) -> np.ndarray:
        return np.stack([gates(getattr(layer, f"{kind}_l0{s}").detach().numpy(), op_type) for s in suffixes])

    w, r = parameter("weight_ih"), parameter("weight_hh")
    bias = np.concatenate([parameter("bias_ih"), parameter("bias_hh")], axis=1)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((steps, batch, inputs))
    states = [
        rng.standard_normal((len(suffixes), batch, hidden)) for _ in range(2 if op_type == "LSTM" else 1)
    ]
    h0 = tuple(map(torch.from_numpy, states)) if op_type == "LSTM" else torch.from_numpy(states[0])
    y, last = layer(torch.from_numpy(x), h0 if initial else None)
    given_states = states if initial else [None] * len(states)
    if batch_first:
        x, given_states = x.swapaxes(0, 1), [None if s is None else s.swapaxes(0, 1) for s in given_states]
    found = run(
        op_type, [x, w, r, bias, None, *given_states], 1 + len(states), hidden_size=hidden,
        layout=int(batch_first),
        direction="bidirectional" if bidirectional else "forward", linear_before_reset=1,
    )  # fmt: skip
    expected = y.detach().numpy().reshape(steps, batch, len(suffixes), hidden)
    order = (1, 0, 2, 3) if batch_first else (0, 2, 1, 3)
    assert_close(found[0], expected.transpose(order))
    for state, wanted in zip(found[1:], last if op_type == "LSTM" else [last], strict=True):
        assert_close(state.swapaxes(0, 1) if batch_first else state, wanted.detach().numpy())


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@settings(max_examples=6, deadline=None)
@given(shape=shapes)
def test_sequence_lengths_end_each_sample_on_its_own(
    shape: tuple[int, ...], op_type: str, direction: str
) -> None:
    seed, steps, batch, inputs, hidden = shape
    rng = np.random.default_rng(seed)
    count = len(GATES[op_type])
    w, r = rng.standard_normal((1, count * hidden, inputs)), rng.standard_normal((1, count * hidden, hidden))
    x, lengths = rng.standard_normal((steps, batch, inputs)), rng.integers(1, steps + 1, batch)
    y, last = run(op_type, [x, w, r, None, lengths], 2, hidden_size=hidden, direction=direction)
    for sample, length in enumerate(lengths):
        part = x[:length, sample : sample + 1]
        alone, end = run(op_type, [part, w, r], 2, hidden_size=hidden, direction=direction)
        assert_close(y[:length, :, sample], alone[:, :, 0])
        assert not y[length:, :, sample].any()
        assert_close(last[:, sample], end[:, 0])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_lstm_peepholes_clip_and_activations_follow_the_equations() -> None:
    rng = np.random.default_rng(3)
    x, w, r = (
        rng.standard_normal((5, 2, 3)),
        3 * rng.standard_normal((1, 16, 3)),
        rng.standard_normal((1, 16, 4)),
    )
    b, p = rng.standard_normal((1, 32)), rng.standard_normal((1, 12))
    attributes = {
        "activations": ("Sigmoid", "Softsign", "Affine"),
        "activation_alpha": (0.0, 0.0, 0.5),
        "clip": 1.5,
    }
    y = run("LSTM", [x, w, r, b, None, None, None, p], 1, hidden_size=4, **attributes)[0]
    h = c = np.zeros((2, 4))
    for step in range(5):
        total = np.split(x[step] @ w[0].T + h @ r[0].T + b[0, :16] + b[0, 16:], 4, axis=1)
        pi, po, pf = np.split(p[0], 3)
        clip = lambda v: np.clip(v, -1.5, 1.5)  # noqa: E731
        i, f = sigmoid(clip(total[0] + pi * c)), sigmoid(clip(total[2] + pf * c))
        cell = clip(total[3])
        c = f * c + i * cell / (1 + np.abs(cell))
        h = sigmoid(clip(total[1] + po * c)) * 0.5 * clip(c)
        assert_close(y[step, 0], h)


def test_gru_can_apply_the_reset_gate_before_the_product() -> None:
    rng = np.random.default_rng(4)
    x, w, r = rng.standard_normal((4, 2, 3)), rng.standard_normal((1, 12, 3)), rng.standard_normal((1, 12, 4))
    b = rng.standard_normal((1, 24))
    y = run("GRU", [x, w, r, b], 1, hidden_size=4)[0]
    h = np.zeros((2, 4))
    for step in range(4):
        wz, wr, wh = np.split(x[step] @ w[0].T + b[0, :12], 3, axis=1)
        rz, rr, rh = np.split(r[0], 3)
        z = sigmoid(wz + h @ rz.T + b[0, 12:16])
        reset = sigmoid(wr + h @ rr.T + b[0, 16:20])
        h = (1 - z) * np.tanh(wh + (reset * h) @ rh.T + b[0, 20:]) + z * h
        assert_close(y[step, 0], h)


def test_a_direction_or_activation_that_does_not_fit_is_refused() -> None:
    x, w, r = np.zeros((2, 1, 3)), np.zeros((1, 4, 3)), np.zeros((1, 4, 4))
    with pytest.raises(ValueError, match="direction"):
        run("RNN", [x, w, r], direction="bidirectional")
    with pytest.raises(ValueError, match="activations"):
        run("RNN", [x, w, r], activations=("Gelu",))

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.node import Node
from porting_check.transfer import moved_parameters
from tests.unit.traces import constant, run_network

RNG = np.random.default_rng(5)
STEPS, BATCH, WIDTH, UNITS = 4, 3, 5, 2
X = RNG.standard_normal((STEPS, BATCH, WIDTH)).astype(np.float32)
W = RNG.standard_normal((1, 4 * UNITS, WIDTH)).astype(np.float32)
R = RNG.standard_normal((1, 4 * UNITS, UNITS)).astype(np.float32)
FIRST, SECOND = RNG.standard_normal((2, 1, 4 * UNITS)).astype(np.float32)


def lstm(**biases):
    """An LSTM with the biases that are given; the others are zero and no parameters."""
    names = ("first", "second")
    zeros = [constant(name, np.zeros_like(FIRST)) for name in names if name not in biases]
    nodes = [
        *zeros,
        Node("Concat", names, ("both",), {"axis": 1}),
        Node("LSTM", ("x", "W", "R", "both"), ("y",), {"hidden_size": UNITS, "direction": "forward"}),
    ]
    return run_network([("lstm", nodes, {"W": W, "R": R, **biases})], X)


@pytest.mark.parametrize("home", ["first", "second"])
@pytest.mark.parametrize(
    ("source", "total"),
    [
        ({"first": FIRST}, FIRST),
        ({"second": SECOND}, SECOND),
        ({"first": FIRST, "second": SECOND}, FIRST + SECOND),
    ],
)
def test_the_biases_of_an_lstm_find_the_one_that_the_target_has(home, source, total):
    moved = moved_parameters(lstm(**source), lstm(**{home: np.zeros_like(FIRST)}))[1]
    np.testing.assert_array_equal(moved[f"lstm.{home}"], total)
    np.testing.assert_array_equal(moved["lstm.W"], W)

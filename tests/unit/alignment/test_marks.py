"""Matching by the names that an exporter kept."""

from __future__ import annotations

import numpy as np

from porting_check.alignment.pairing import MARKS, ORDER, pair
from porting_check.neutral.node import Node
from tests.unit.traces import conv, graph

RNG = np.random.default_rng(6)
X = RNG.standard_normal((2, 3, 8, 10)).astype("f4")
SIGMOID = Node("Sigmoid", ("x",), ("y",))


def weights(*shape):
    return RNG.standard_normal(shape).astype("f4")


W1, W2, OTHER, B = weights(3, 3, 3, 3), weights(3, 3, 3, 3), weights(3, 3, 3, 3), weights(3)


def network(names, weight, order):
    """Two convolutions and two activations of the second one, executed in the given order."""
    first, second = names
    layers = [
        (first, [conv((1, 1, 1, 1))], {"weight": W1, "bias": B}),
        (second, [conv((1, 1, 1, 1))], {"weight": weight, "bias": B}),
    ]
    return graph([*layers, *((name, [SIGMOID], {}, (second,)) for name in order)], X, outputs=order)


def partners(reference, candidate):
    found = pair(reference, candidate)
    return {
        reference.record_of(reference.steps[a]).id: (
            candidate.record_of(candidate.steps[b]).id,
            found.evidence[a],
        )
        for a, b in found.pairs.items()
    }


def test_names_tell_apart_what_values_and_neighbours_cannot():
    found = partners(
        network(("a", "b"), W2, ("boxes", "scores")), network(("a", "b"), OTHER, ("scores", "boxes"))
    )
    assert found["boxes"] == ("boxes", [MARKS])
    assert found["scores"] == ("scores", [MARKS])


def test_names_are_not_believed_where_known_matches_contradict_them():
    found = partners(
        network(("a", "b"), W2, ("boxes", "scores")), network(("b", "a"), OTHER, ("scores", "boxes"))
    )
    assert MARKS not in found["boxes"][1] + found["scores"][1]
    assert ORDER in found["boxes"][1]

from __future__ import annotations

import numpy as np

from porting_check.alignment.pairing import MAPPING, ORDER, VALUES, WEIGHTS, pair
from porting_check.neutral.node import Node
from tests.unit.traces import conv, graph

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 3, 8, 10)).astype("f4")
RELU = Node("Relu", ("x",), ("y",))


def weights(*shape):
    return RNG.standard_normal(shape).astype("f4")


W1, W2, B = weights(3, 3, 3, 3), weights(3, 3, 3, 3), weights(3)


def layer(name, weight, *sources, bias=B):
    return (name, [conv((1, 1, 1, 1))], {"weight": weight, "bias": bias}, *([sources] if sources else []))


def pairs_by_name(reference, candidate, **options):
    found = pair(reference, candidate, **options)
    return {
        reference.record_of(reference.steps[a]).name: (
            candidate.record_of(candidate.steps[b]).name,
            found.evidence[a],
        )
        for a, b in found.pairs.items()
    }


def test_layers_with_other_names_are_paired_by_weights_and_values():
    found = pairs_by_name(
        graph([layer("a", W1), layer("b", W2)], X), graph([layer("first", W1), layer("second", W2)], X)
    )
    assert found == {"a": ("first", [WEIGHTS, VALUES]), "b": ("second", [WEIGHTS, VALUES])}


def test_layers_after_a_mistake_are_still_paired_by_weights():
    found = pairs_by_name(
        graph([layer("a", W1), layer("b", W2)], X), graph([layer("a", -W1), layer("b", W2)], X)
    )
    assert found["b"] == ("b", [WEIGHTS])
    assert found["a"][0] == "a"


def test_parameterless_layers_after_a_mistake_are_paired_by_their_neighbours():
    one = graph([layer("a", W1), ("r", [RELU], {}), layer("b", W2), ("s", [RELU], {})], X)
    other = graph([layer("a", -W1), ("t", [RELU], {}), layer("b", W2), ("u", [RELU], {})], X)
    found = pairs_by_name(one, other)
    assert (found["r"][0], found["s"][0]) == ("t", "u")
    assert ORDER not in found["r"][1] + found["s"][1]


def test_an_activation_that_only_one_side_has_does_not_shift_the_rest():
    one = graph([layer("a", W1), layer("b", W2)], X)
    other = graph([layer("a", W1), ("extra", [RELU], {}), layer("b", W2)], X)
    found = pairs_by_name(one, other)
    assert {k: v[0] for k, v in found.items()} == {"a": "a", "b": "b"}


def test_a_shared_layer_is_paired_call_by_call():
    one = graph([layer("a", W1), layer("b", W1), layer("c", W1)], X)
    found = pairs_by_name(one, one)
    assert {k: v[0] for k, v in found.items()} == {"a": "a", "b": "b", "c": "c"}


def test_identical_heads_are_a_guess_and_said_to_be_one():
    zero = np.zeros_like(W1)
    heads = [layer("trunk", W1), layer("left", zero, bias=0 * B), layer("right", zero, "trunk", bias=0 * B)]
    found = pairs_by_name(
        graph(heads, X, outputs=["left", "right"]), graph(heads, X, outputs=["left", "right"])
    )
    assert ORDER in found["left"][1]
    assert ORDER in found["right"][1]


def test_a_mapping_wins():
    one, other = graph([layer("a", W1), layer("b", W2)], X), graph([layer("a", W1), layer("b", W2)], X)
    found = pairs_by_name(one, other, mapping={"a": "b"})
    assert found["a"] == ("b", [MAPPING])

"""Winograd's convolution is a convolution, its error is recognised, and mistakes of that size are not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.node import Node
from porting_check.numerics.truth import evaluate_node
from porting_check.numerics.winograd import TILES, convolve, fast_algorithm, matrices

CONV = Node("Conv", ("x", "w"), attributes={"pads": (1, 1, 1, 1)})


def layer(seed=0, channels=32, filters=24):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((2, channels, 17, 14)), rng.standard_normal((filters, channels, 3, 3))
    wide = [a.astype("f4").astype("f8") for a in (x, w)]
    return wide, evaluate_node(CONV, wide)[0]


def padded(x):
    return np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))


@pytest.mark.parametrize("tile", TILES)
def test_the_transforms_give_the_correlation(tile):
    a, g, b = matrices(tile)
    rng = np.random.default_rng(tile)
    data, kernel = rng.standard_normal(tile + 2), rng.standard_normal(3)
    np.testing.assert_allclose(
        a.T @ ((g @ kernel) * (b.T @ data)), np.correlate(data, kernel, "valid"), atol=1e-12
    )


@pytest.mark.parametrize("tile", TILES)
def test_it_convolves_also_where_tiles_do_not_fit(tile):
    (x, w), truth = layer()
    np.testing.assert_allclose(convolve(padded(x), w, tile), truth, atol=1e-2)


@pytest.mark.parametrize("tile", [4, 6])
def test_its_error_is_recognised(tile):
    (x, w), truth = layer(1)
    # Another implementation scales its matrices otherwise: powers of two leave the size of the error, not its bits.
    native = convolve(padded(x * 3), w / 3, tile)
    assert "Winograd" in str(fast_algorithm(CONV, [x, w], native - truth, truth))


def mistakes():
    (_, _), truth = layer(1)
    noise = 2e-6 * np.random.default_rng(2).standard_normal(truth.shape)
    one = noise.copy()
    one[:, 3] += 1e-3
    yield "one bias", one
    yield "scale", noise + 1e-5 * truth
    spot = noise.copy()
    spot[0, :, 4, 5] += 1e-3
    yield "one place", spot
    border = noise.copy()
    border[:, :, 0] += 1e-4
    yield "border", border
    yield "far too large", noise * 1e4


@pytest.mark.parametrize(("name", "error"), mistakes(), ids=[name for name, _ in mistakes()])
def test_mistakes_of_its_size_are_not_taken_for_it(name, error):
    inputs, truth = layer(1)
    assert fast_algorithm(CONV, inputs, error, truth) is None


@pytest.mark.parametrize(
    "node",
    [CONV.edit(strides=(2, 2)), CONV.edit(dilations=(2, 2), pads=(2, 2, 2, 2)), Node("Gemm", ("x", "w"))],
)
def test_other_nodes_have_no_such_algorithm(node):
    (x, w), truth = layer()
    assert fast_algorithm(node, [x, w], 1e-4 * truth, truth) is None
    wide = np.ones((4, 32, 5, 5))
    assert fast_algorithm(Node("Relu", ("x",)), [x], 1e-4 * x, x) is None
    assert fast_algorithm(CONV, [x, wide], np.ones((2, 4, 15, 12)), np.ones((2, 4, 15, 12))) is None

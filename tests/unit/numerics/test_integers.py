"""The integer probe: bit-equal for every order of summation, different for every wrong index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.numerics.integers import BOUND, EXACT, integers_like, probe_integers

ARRAYS = {"x": np.ones((4, 3000), np.float32), "w": np.ones((3000, 6), np.float32)}


def product(arrays):
    return arrays["x"] @ arrays["w"]


def sequential(arrays):
    total = np.zeros((4, 6), np.float32)
    for k in range(3000):
        total += arrays["x"][:, k, None] * arrays["w"][k]
    return total


def test_another_order_of_summation_is_bit_equal():
    rng = np.random.default_rng(0)
    noise = {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in ARRAYS.items()}
    assert not np.array_equal(product(noise), sequential(noise))
    assert probe_integers(product, sequential, ARRAYS).verdict == "bit-equal"


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2999), st.integers(0, 2999), st.integers(0, 5))
def test_one_wrong_index_is_seen(wrong, right, column):
    def mistaken(arrays):
        w = arrays["w"].copy()
        w[right, column] = w[wrong, column]
        return arrays["x"] @ w

    verdict = probe_integers(product, mistaken, ARRAYS).verdict
    drawn = integers_like(ARRAYS)["w"]
    assert verdict == ("bit-equal" if drawn[right, column] == drawn[wrong, column] else "different")


def test_the_range_shrinks_until_every_sum_is_exact():
    many = {"x": np.ones((1, 2**21), np.float32), "w": np.ones((2**21, 1), np.float32)}
    found = probe_integers(product, product, many)
    assert found.verdict == "bit-equal"
    assert found.bound < BOUND


def test_it_is_void_where_nothing_keeps_the_sums_small():
    def huge(arrays):
        return product(arrays) * np.float32(EXACT)

    found = probe_integers(huge, huge, ARRAYS)
    assert found.verdict == "void"
    assert "2^24" in found.reason


def test_it_is_void_for_what_makes_fractions_of_integers():
    found = probe_integers(lambda a: np.tanh(a["x"]), lambda a: np.tanh(a["x"]), ARRAYS)
    assert found.verdict == "void"
    assert "no integers" in found.reason


def test_the_place_and_share_of_a_difference_are_told():
    def off(arrays):
        made = product(arrays)
        made[2, 1] += 5
        return made

    found = probe_integers(product, off, ARRAYS)
    assert (found.verdict, found.largest, found.index) == ("different", 5.0, (2, 1))
    assert found.share == pytest.approx(1 / 24)


def test_integers_stay_what_they_are_and_shapes_never_broadcast():
    made = integers_like({"i": np.arange(3), "x": np.zeros(3, np.float32)})
    assert made["i"].dtype.kind == "i"
    assert np.array_equal(made["i"], np.arange(3))
    found = probe_integers(product, lambda a: product(a)[:1], ARRAYS)
    assert found.verdict == "void"
    assert "shapes" in found.reason

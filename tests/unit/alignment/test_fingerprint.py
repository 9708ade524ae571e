from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from porting_check.alignment.fingerprint import signature, weight_hash

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
FLOATS = st.floats(-1e3, 1e3, width=32)


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float32, SHAPES, elements=FLOATS), st.randoms(use_true_random=False))
def test_neither_fingerprint_depends_on_the_order_of_elements(array, random):
    order = list(range(array.size))
    random.shuffle(order)
    shuffled = array.reshape(-1)[order]
    assert weight_hash(array) == weight_hash(shuffled)
    assert signature(array).distance(signature(shuffled)) == 0.0


def test_one_changed_value_changes_the_hash():
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype("f4")
    other = weights.copy()
    other[3, 3] = np.nextafter(other[3, 3], np.float32(9))
    assert weight_hash(weights) != weight_hash(other)


def test_float64_weights_that_round_to_the_same_float32_have_one_hash():
    weights = np.random.default_rng(0).standard_normal(20)
    assert weight_hash(weights) == weight_hash(weights.astype("f4"))


@pytest.mark.parametrize(("noise", "near"), [(1e-7, True), (1e-2, False)])
def test_the_distance_is_about_the_relative_difference(noise, near):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000).astype("f4")
    found = signature(values).distance(signature(values * (1 + np.float32(noise))))
    assert (found < 1e-4) is near


def test_other_sizes_and_nonfinite_values_are_infinitely_far():
    ones = np.ones(4)
    assert signature(ones).distance(signature(np.ones(5))) == float("inf")
    assert signature(np.array([1.0, np.nan])).distance(signature(np.array([1.0, np.nan]))) == float("inf")


def test_constant_and_empty_tensors_say_nothing():
    assert signature(np.full(10, 3.0)).flat
    assert signature(np.zeros(0)).flat
    assert not signature(np.arange(10.0)).flat

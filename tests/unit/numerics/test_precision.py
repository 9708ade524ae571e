"""Narrower formats: rounding to them, and the proof that something was rounded to them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.numerics.precision import (
    BFLOAT16,
    FLOAT16,
    FORMATS,
    TF32,
    WHICH,
    on_grid,
    rounded_operands,
    rounded_results,
    truncation,
)
from tests.unit.numerics.arithmetic import KINDS, in_lanes, matrices, truncating

FLOATS = st.floats(-6e4, 6e4, width=32)


@given(FLOATS)
def test_rounding_is_that_of_the_types(value):
    array = np.float32([value])
    assert BFLOAT16.round(array)[0] == array.astype(ml_dtypes.bfloat16)[0] or abs(value) < 2**-126
    assert FLOAT16.round(array)[0] == np.float64(array.astype(np.float16)[0])


@given(FLOATS, st.sampled_from(FORMATS))
def test_rounding_twice_is_rounding_once_and_stays_near(value, form):
    once = form.round(np.float64([value]))
    np.testing.assert_array_equal(form.round(once), once)
    assert abs(once[0] - value) <= form.unit * abs(value) + form.least
    if form.truncated:
        assert abs(once[0]) <= abs(value)


def product(x, w):
    return lambda rounding: rounding(x.astype("f8"), 0) @ rounding(w.astype("f8"), 1).T


@pytest.mark.parametrize("form", FORMATS, ids=str)
@pytest.mark.parametrize("which", WHICH, ids=lambda which: which[0])
def test_the_format_of_operands_is_named(form, which):
    x, w = matrices("normal", 1, 16, 100, 24)
    said, places = which
    arrays = [form.round(a).astype("f4") if i in places else a for i, a in enumerate((x, w))]
    truth = x.astype("f8") @ w.astype("f8").T
    found = rounded_operands(in_lanes(*arrays, 8), truth, product(x, w))
    assert found is not None
    name = "TF32 or float16" if form in (TF32, FLOAT16) else form.name
    assert str(found) == f"{said} rounded to {name}"


def test_weights_below_the_normal_range_tell_float16_from_tf32():
    x, w = matrices("normal", 2, 16, 100, 24)
    w *= np.float32(1e-5)
    truth = x.astype("f8") @ w.astype("f8").T
    for form in (TF32, FLOAT16):
        found = rounded_operands(in_lanes(x, form.round(w).astype("f4"), 8), truth, product(x, w))
        assert str(found) == f"the weights rounded to {form.name}"


@pytest.mark.parametrize("kind", KINDS)
def test_float32_and_mistakes_are_no_format(kind):
    x, w = matrices(kind, 3, 16, 100, 24)
    truth = x.astype("f8") @ w.astype("f8").T
    right = in_lanes(x, w, 8)
    assert rounded_operands(right, truth, product(x, w)) is None
    assert rounded_operands(right * np.float32(1.001), truth, product(x, w)) is None
    assert rounded_results(right, truth) is None
    assert on_grid(right) is None


def test_what_round_off_covers_counts_as_proven_only_where_it_is_round_off():
    """16-bit significands at 600 terms: the error is a few times round-off, and that remains."""
    x, w = matrices("normal", 4, 32, 600, 32)
    form = FORMATS[-1]
    truth = x.astype("f8") @ w.astype("f8").T
    rng = np.random.default_rng(0)
    exact = form.round(x) @ form.round(w).T
    size = np.sqrt(np.square(exact - truth).mean())
    native = exact + 0.3 * size * rng.standard_normal(exact.shape)
    assert rounded_operands(native, truth, product(x, w)) is None
    assert str(rounded_operands(native, truth, product(x, w), rms=2.0)).endswith("(bfloat16 twice)")
    assert rounded_operands(native, truth, product(x, w), rms=20.0) is None


@pytest.mark.parametrize("form", [BFLOAT16, TF32, FLOAT16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_rounded_results_are_named_and_their_mistakes_are_not(form, scale):
    rng = np.random.default_rng(5)
    truth = scale * rng.standard_normal((20, 30))
    native = form.round(truth * (1 + 1e-7 * rng.standard_normal(truth.shape))).astype("f4")
    found = rounded_results(native, truth)
    apart = scale == 1e-5 and form is not BFLOAT16
    name = form.name if apart or form is BFLOAT16 else "TF32 or float16"
    assert str(found) == f"results rounded to {name}"
    assert rounded_results(form.round(truth * 1.05).astype("f4"), truth) is None


@pytest.mark.parametrize("products", [4, 8, 16])
def test_an_accumulator_that_cuts_off_is_recognised_by_its_side(products):
    x, w = matrices("uniform", 6, 24, 1600, 24)
    truth = x.astype("f8") @ w.astype("f8").T
    found = truncation(truncating(x, w, products) - truth, truth, 1600)
    assert found is not None
    assert found.share == 1.0
    assert products / 2 < found.products < products * 2


def test_a_wrong_scale_and_plain_rounding_are_no_accumulator():
    x, w = matrices("uniform", 7, 24, 1600, 24)
    truth = x.astype("f8") @ w.astype("f8").T
    right = in_lanes(x, w, 16)
    assert truncation(right - truth, truth, 1600) is None
    assert truncation(truth * (1 - 2e-5) - truth, truth, 1600) is None
    assert truncation(truth * (1 + 2e-5) - truth, truth, 1600) is None
    assert truncation(np.zeros(9), np.ones(9), 1600) is None

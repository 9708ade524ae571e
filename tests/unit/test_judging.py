"""Printed numbers are judged without their model: round-off, a truncating accumulator, or something else."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check import PortingError, judge

TERMS = 512
RNG = np.random.default_rng(7)
X, W = RNG.random((64, TERMS)).astype("f4"), RNG.random(TERMS).astype("f4")
TRUTH = X.astype(float) @ W.astype(float)


def sequential() -> np.ndarray:
    """float32, one product after the other, rounded to nearest."""
    total = np.zeros(len(X), np.float32)
    for term in range(TERMS):
        total += X[:, term] * W[term]
    return total


def truncating(at_a_time: int) -> np.ndarray:
    """An accumulator of 24 bits that cuts off what does not fit, some products at a time."""
    total = np.zeros(len(X))
    for start in range(0, TERMS, at_a_time):
        part = slice(start, start + at_a_time)
        total = total + (X[:, part].astype(float) * W[part].astype(float)).sum(axis=1)
        significand, exponent = np.frexp(total)
        total = np.ldexp(np.trunc(significand * 2.0**24) / 2.0**24, exponent)
    return total


def test_the_same_numbers_are_identical():
    found = judge(TRUTH, TRUTH, terms=TERMS)
    assert (found.verdict, found.ok) == ("identical", True)


@pytest.mark.parametrize("numbers", [sequential(), TRUTH.astype(np.float32)])
def test_float32_in_some_order_is_round_off(numbers):
    found = judge(numbers, TRUTH, terms=TERMS)
    assert found.verdict == "round-off"
    assert found.rounding.ratio <= 1
    assert "of what float32 round-off usually makes of sums of 512 products" in str(found)


@pytest.mark.parametrize(
    ("at_a_time", "verdict"), [(2, "low-precision"), (4, "low-precision"), (8, "round-off")]
)
def test_numbers_that_are_all_lower_come_from_a_truncating_accumulator(at_a_time, verdict):
    found = judge(truncating(at_a_time), TRUTH, terms=TERMS)
    assert (found.verdict, found.ok) == (verdict, True)
    assert "100% of 64 differing numbers are lower than the truth" in str(found)
    assert "a truncating accumulator" in str(found)


def test_a_missing_product_is_no_round_off():
    numbers = sequential().astype(float)
    numbers[3] -= X[3, 0] * W[0]
    found = judge(numbers, TRUTH, terms=TERMS)
    assert (found.verdict, found.ok) == ("divergent", False)
    assert str(found).startswith("DIVERGENT: ")


def test_magnitudes_that_cancel_may_be_given():
    signs = np.where(np.arange(TERMS) % 2, -1.0, 1.0).astype("f4")
    truth = (X * signs).astype(float) @ W.astype(float)
    total = np.zeros(len(X), np.float32)
    for term in range(TERMS):
        total += X[:, term] * signs[term] * W[term]
    magnitude = X.astype(float) @ W.astype(float)
    assert judge(total, truth, terms=TERMS, magnitude=magnitude).verdict in ("round-off", "undecided")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"output": TRUTH[:3], "truth": TRUTH, "terms": 4}, "shape"),
        ({"output": TRUTH, "truth": TRUTH, "terms": 0}, "1 or more"),
        ({"output": TRUTH * np.nan, "truth": TRUTH, "terms": 4}, "finite"),
        ({"output": TRUTH, "truth": TRUTH, "terms": 4, "precision": "float8"}, "float16"),
    ],
)
def test_bad_numbers_get_a_clear_error(arguments, said):
    with pytest.raises(PortingError, match=said):
        judge(**arguments)

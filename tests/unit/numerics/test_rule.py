"""The rule accepts float32 arithmetic in any order and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.node import Node
from porting_check.numerics.rule import BLOCK, IMPOSSIBLE, RMS_MANY, judge_rounding, largest_deviate
from porting_check.numerics.spread import bounds_of
from tests.unit.numerics.arithmetic import KINDS, in_lanes, in_order, matrices

U = 2.0**-24
GEMM = Node("Gemm", ("x", "w"), attributes={"transB": 1})


def known(x, w):
    """Truth, limit and tau of a product."""
    wide = [x.astype("f8"), w.astype("f8")]
    truth = wide[0] @ wide[1].T
    bounds = bounds_of(GEMM, wide, [None, None], [truth], U)[0]
    return truth, bounds.limit, bounds.spread(True)


def verdict(native, x, w):
    truth, limit, tau = known(x, w)
    return judge_rounding(native - truth, limit, tau, result=truth, channel=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [3, 64, 1000, 5000])
@pytest.mark.parametrize("lanes", [1, 16])
def test_every_order_of_float32_is_round_off(kind, terms, lanes):
    x, w = matrices(kind, terms, 12, terms, 24)
    native = in_order(x, w) if lanes == 1 else in_lanes(x, w, lanes)
    found = verdict(native, x, w)
    assert found.verdict == "round-off", found
    assert found.ratio < 0.95


@pytest.mark.parametrize("kind", ["normal", "relu", "small"])
@pytest.mark.parametrize(
    "mistake",
    [
        lambda x, w: in_order(x, w.astype("f2").astype("f4")),
        lambda x, w: in_order(x, w[::-1]),
        lambda x, w: in_order(x, w) * np.float32(1.0001),
        lambda x, w: in_order(x[:, :-1], w[:, :-1]),
    ],
    ids=["float16 weights", "filters reversed", "scale", "a term missing"],
)
def test_mistakes_are_not_round_off(kind, mistake):
    x, w = matrices(kind, 1, 16, 200, 24)
    assert not verdict(mistake(x, w), x, w).good


def test_a_small_scale_shows_in_the_slope_alone():
    x, w = matrices("normal", 2, 32, 64, 64)
    truth, limit, tau = known(x, w)
    right = judge_rounding(in_lanes(x, w, 16) - truth, limit, tau, result=truth, channel=1)
    assert right.good
    assert abs(right.slope) < 1
    # 1 + 1e-6 is 16.8 units of round-off
    wrong = judge_rounding(in_lanes(x, w, 16) * (1 + 1e-6) - truth, limit, tau, result=truth, channel=1)
    assert wrong.slope == pytest.approx(16.8, abs=1)
    assert (wrong.verdict, wrong.condition) == ("undecided", "systematic scale")
    without = judge_rounding(in_lanes(x, w, 16) * (1 + 1e-6) - truth, limit, tau, channel=1)
    assert without.ratio < wrong.ratio


def noise(shape=(4, 32, 64), size=0.4):
    return size * np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (lambda e: e.__setitem__((1, 3, 5), 9.0), "largest error"),
        (lambda e: e.__imul__(2.5), "rms error"),
        (lambda e: e[:, 7].__imul__(9.0), "rms error of a channel"),
    ],
)
def test_each_condition_convicts_and_is_named(change, condition):
    error = noise()
    limit, tau = np.full(error.shape, 99.0), np.ones(error.shape)
    assert judge_rounding(error, limit, tau, channel=1).good
    change(error)
    found = judge_rounding(error, limit, tau, channel=1)
    assert found.verdict == "undecided"
    assert found.condition.startswith(condition.split(" of")[0]) or found.condition == "largest error"
    assert judge_rounding(error, limit / 99, tau, channel=1).verdict == "exceeds"


def test_channels_count_only_where_they_are_known():
    error = np.zeros((4, 32, 64))
    error[:, 7] = 3.5
    limit, tau = np.full(error.shape, 99.0), np.ones(error.shape)
    assert not judge_rounding(error, limit, tau, channel=1).good
    assert judge_rounding(error, limit, tau, channel=None).good
    assert judge_rounding(
        np.moveaxis(error, 1, 2), limit.reshape(4, 64, 32), tau.reshape(4, 64, 32), channel=-1
    ).ratio == (judge_rounding(error, limit, tau, channel=1).ratio)


@given(st.integers(0, 2**32 - 1), st.integers(-60, 60), st.sampled_from([None, 0, 1, 2]))
@settings(deadline=None, max_examples=30)
def test_a_power_of_two_changes_nothing(seed, exponent, channel):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 3))
    error, tau = rng.standard_normal(shape), rng.uniform(0.5, 2, shape)
    limit, truth = 9 * tau, rng.standard_normal(shape)
    scale = 2.0**exponent
    first = judge_rounding(error, limit, tau, result=truth, channel=channel)
    second = judge_rounding(error * scale, limit * scale, tau * scale, result=truth * scale, channel=channel)
    assert (first.verdict, first.condition) == (second.verdict, second.condition)
    assert first.ratio == pytest.approx(second.ratio, rel=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_blocks_give_what_whole_arrays_give(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(
        int(n) for n in rng.permutation([rng.integers(1, 4), rng.integers(1, 70), rng.integers(1, 2000)])
    )
    error, tau = 0.4 * rng.standard_normal(shape), rng.uniform(0.5, 2, shape)
    found = judge_rounding(error, 99 * tau, tau, channel=1)
    z = error / tau
    each = np.sqrt(np.square(z).mean(axis=(0, 2)))
    per = z.size // shape[1]
    conditions = [
        np.abs(z).max() / largest_deviate(z.size),
        np.sqrt(np.square(z).mean()) / (RMS_MANY if shape[1] >= 16 and z.size >= 256 else 2.1),
        each.max() / (2.1 * (1 + 4 / np.sqrt(2 * per))) if per >= 16 else 0.0,
    ]
    assert found.ratio == pytest.approx(max(conditions), rel=1e-9)
    assert found.rms == pytest.approx(np.sqrt(np.square(z).mean()), rel=1e-9)


def test_large_tensors_are_seen_to_the_last_value():
    for shape, channel in (((1, 2, BLOCK + 3), 1), ((3 * BLOCK + 1,), None), ((BLOCK + 1, 3), -1)):
        error = np.zeros(shape)
        error[(-1,) * len(shape)] = 5.0
        found = judge_rounding(error, np.ones(shape), channel=channel)
        assert (found.verdict, found.largest, found.ratio) == ("exceeds", 5.0, 5.0)


def test_no_error_is_exact_and_what_is_not_finite_impossible():
    assert judge_rounding(np.zeros(3), np.zeros(3)).verdict == "exact"
    assert judge_rounding(np.array([0.0, 1e-30]), np.zeros(2)) == IMPOSSIBLE
    assert judge_rounding(np.array([0.0, np.nan]), np.ones(2), np.ones(2)) == IMPOSSIBLE
    assert judge_rounding(np.array([np.inf, 0.0]), np.ones(2)) == IMPOSSIBLE
    assert judge_rounding(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)), channel=1).verdict == "exact"


def test_an_error_of_one_sign_is_said_to_be_one_sided():
    error = np.abs(noise((2, 32, 64), 0.5))
    limit, tau = np.full(error.shape, 99.0), np.ones(error.shape)
    assert judge_rounding(error, limit, tau, channel=1).one_sided
    assert not judge_rounding(noise((2, 32, 64), 0.5), limit, tau, channel=1).one_sided


def test_between_the_usual_and_the_legal_limit_nothing_is_decided():
    error, usual, legal = np.array([1.0]), np.array([0.5]), np.array([2.0])
    assert judge_rounding(error, legal, usual=usual).verdict == "undecided"
    assert judge_rounding(error / 4, legal, usual=usual).verdict == "round-off"
    assert judge_rounding(error * 4, legal, usual=usual).verdict == "exceeds"

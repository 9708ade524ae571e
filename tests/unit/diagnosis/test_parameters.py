from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from porting_check.diagnosis.parameters import one_bias, rearrangements, relation

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((4, 4, 3, 3)).astype("f4")


def test_parameters_are_compared_bit_for_bit():
    assert relation(WEIGHT, WEIGHT.copy()) == (True, "identical")
    other = WEIGHT.copy()
    other[0, 0, 0, 0] = np.nextafter(other[0, 0, 0, 0], np.float32(9))
    assert not relation(WEIGHT, other)[0]


def test_rounding_is_recognised_and_only_float32_counts_as_equal():
    double = RNG.standard_normal(50)
    assert relation(double, double.astype("f4").astype("f8")) == (True, "equal when rounded to float32")
    half = WEIGHT.astype("f2").astype("f4")
    assert relation(WEIGHT, half) == (False, "equal when rounded to float16")
    brain = WEIGHT.astype(ml_dtypes.bfloat16).astype("f4")
    assert relation(WEIGHT, brain) == (False, "equal when rounded to bfloat16")


def test_nan_equals_nan_of_the_same_place_only():
    one = np.array([1.0, np.nan])
    assert relation(one, one.copy())[0]
    assert not relation(one, one[::-1].copy())[0]


def test_an_absent_neutral_parameter_is_no_difference():
    assert relation(np.zeros(3), None) == (True, "absent in the candidate")
    assert relation(None, np.ones(3)) == (True, "absent in the reference")
    assert not relation(np.arange(3.0), None)[0]


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (WEIGHT.transpose(0, 1, 3, 2), "kernel-hw-swap"),
        (WEIGHT[:, :, ::-1, ::-1], "kernel-flip"),
        (WEIGHT.transpose(1, 0, 2, 3), "kernel-io-swap"),
        (WEIGHT.transpose(1, 0, 3, 2), "kernel-hw-swap"),
    ],
)
def test_a_wrong_order_of_a_kernel_is_put_right(wrong, cause):
    fitting = [c for c, _, array in rearrangements("Conv", wrong) if np.array_equal(array, WEIGHT)]
    assert fitting == [cause]


@pytest.mark.parametrize(("op", "count"), [("LSTM", 4), ("GRU", 3)])
def test_a_wrong_order_of_gates_is_put_right(op, count):
    blocks = RNG.standard_normal((count, 1, 5, 7))
    right = np.concatenate(list(blocks), axis=1)
    wrong = np.concatenate([blocks[i] for i in np.roll(np.arange(count), 1)], axis=1)
    fitting = [c for c, _, array in rearrangements(op, wrong) if np.array_equal(array, right)]
    assert fitting == [f"{op.lower()}-gate-order"]


def test_the_biases_of_an_lstm_are_compared_by_their_sum():
    bias = RNG.standard_normal((2, 12)).astype("f4")
    nothing = np.zeros_like(bias)
    as_input, as_recurrent = np.hstack([bias, nothing]), np.hstack([nothing, bias])
    assert relation(one_bias(as_input), one_bias(as_recurrent)) == (True, "identical")
    assert not relation(one_bias(as_input), one_bias(np.hstack([nothing, bias[::-1]])))[0]

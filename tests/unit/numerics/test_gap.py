"""Tests of the difference that a tensor has with itself, and of units per channel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from porting_check.numerics.difference import difference
from porting_check.numerics.gap import no_difference

VALUES = np.array([0.5, -3.0, 0.0, 2.0, -1.0, 7.0])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "bool", "complex128"])
@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3), (0,), (2, 0, 3)])
def test_it_is_what_comparing_the_tensor_with_itself_says(shape, dtype):
    truth = VALUES[: int(np.prod(shape))].astype(dtype).reshape(shape)
    same(no_difference(truth), difference(truth, truth))


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
def test_a_value_that_is_no_number_is_counted(shape, lost):
    truth = VALUES[: int(np.prod(shape))].reshape(shape).copy()
    truth[(0,) * truth.ndim] = lost
    found = no_difference(truth)
    assert (found.reference_nonfinite, found.compared) == (1, truth.size - 1)
    assert found.identical != np.isnan(lost)


def same(found, expected):
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one == pytest.approx(other, rel=1e-6, nan_ok=True), field.name

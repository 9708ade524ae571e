from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.report.log_axis import LogAxis

BOX = {"top": 10.0, "bottom": 210.0, "lane": 30.0}


def test_without_lanes_the_ends_are_those_of_the_drawing_less_the_margin():
    axis = LogAxis([1e-4, 1.0], (-4, 0), **BOX, margin=5)
    assert axis.zero is None
    assert axis.infinite is None
    assert (axis.place(1e-4), axis.place(1.0)) == (205.0, 15.0)


def test_zero_and_what_is_not_finite_have_lanes_outside_the_axis():
    axis = LogAxis([0.0, 1e-4, 1.0, math.nan], (-4, 0), **BOX, margin=5)
    assert (axis.zero, axis.infinite) == (195.0, 25.0)
    assert axis.place(0.0) == 195.0
    assert axis.place(math.nan) == axis.place(math.inf) == 25.0
    assert (axis.place(1e-4), axis.place(1.0)) == (180.0, 40.0)


def test_an_infinity_below_zero_stands_with_the_others_that_are_not_finite():
    assert LogAxis([-math.inf], (-1, 1), **BOX).place(-math.inf) == 25.0


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(1e-12, 1e3), min_size=2, max_size=2))
def test_larger_values_stand_higher(values):
    axis = LogAxis(values, (-12, 3), **BOX)
    small, large = sorted(values)
    assert BOX["top"] <= axis.place(large) <= axis.place(small) <= BOX["bottom"]


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf])
def test_a_value_that_was_not_announced_stays_inside_the_drawing(value):
    assert BOX["top"] <= LogAxis([1.0], (-1, 1), **BOX).place(value) <= BOX["bottom"]

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.alignment.regions import Axes, axes, match_names

RNG = np.random.default_rng(0)


def test_declared_layouts_decide_even_when_the_sizes_do_not_agree():
    assert axes(((1, 8, 9, 3), (1, 3, 8, 9)), ("NHWC", "NCHW")).permutation == (0, 3, 1, 2)
    assert axes(((1, 8, 9, 3), (1, 3, 7, 9)), ("NHWC", "NCHW")).permutation == (0, 3, 1, 2)


def test_declared_layouts_decide_where_all_axes_are_equal():
    cube = RNG.standard_normal((4, 4, 4, 4))
    assert axes((cube.shape, cube.shape), ("NHWC", "NCHW"), arrays=(cube, cube)).permutation == (0, 3, 1, 2)


def test_equal_shapes_without_layouts_mean_equal_order():
    assert not axes(((3, 4), (3, 4)), ("", "")).moved


def test_a_transposed_output_is_never_put_right():
    assert axes(((3, 4), (4, 3)), ("", ""), declared_only=True) is None


def test_an_inner_value_is_put_right_only_when_one_order_fits():
    assert axes(((2, 3, 4), (2, 4, 3)), ("", "")).permutation == (0, 2, 1)
    assert axes(((2, 3, 3, 4), (2, 4, 3, 3)), ("", "")) is None


def test_values_tell_orders_of_equal_sizes_apart():
    array = RNG.standard_normal((2, 3, 3, 4))
    found = axes((array.shape, (2, 4, 3, 3)), ("", ""), arrays=(array, array.transpose(0, 3, 2, 1)))
    assert found.permutation == (0, 3, 2, 1)
    assert "values" in found.how


def test_other_ranks_have_no_order():
    assert axes(((3, 4), (3, 4, 1)), ("", "")) is None


@given(st.permutations(range(5)))
def test_axes_say_the_candidates_shape(order):
    array = np.zeros((2, 3, 4, 5, 6))
    assert Axes(tuple(order), "").of(array.shape) == array.transpose(order).shape
    assert array.transpose(order).transpose(Axes(tuple(order), "").back).shape == array.shape
    assert Axes(tuple(order), "").moved is (list(order) != [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("ours", "theirs", "mapping", "expected"),
    [
        (["a", "b"], ["b", "a"], {}, [("a", "a"), ("b", "b")]),
        (["0", "1"], ["x", "y"], {}, [("0", "x"), ("1", "y")]),
        (["0", "1"], ["x"], {}, [("0", "x")]),
        (["a", "b"], ["c", "a"], {"b": "c"}, [("a", "a"), ("b", "c")]),
    ],
)
def test_names_are_matched_by_declaration_then_equality_then_position(ours, theirs, mapping, expected):
    assert match_names(ours, theirs, mapping) == expected

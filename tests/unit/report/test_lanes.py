"""Drawings in characters: the axis, and the error against depth of a report."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.report import growth_console
from porting_check.report.growth import relative, rows
from porting_check.report.lanes import SEVERAL, Lanes
from tests.unit.report import examples


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=8), st.integers(20, 120))
def test_larger_stands_further_right_and_inside(values, width):
    lanes = Lanes(values, width=width)
    columns = [lanes.column(value) for value in sorted(values)]
    assert columns == sorted(columns)
    assert columns[0] >= 0
    assert columns[-1] < lanes.width


def test_the_decades_stand_above_their_columns():
    lanes = Lanes([1e-8, 1e-4], width=61)
    header = lanes.header()
    assert all(header[lanes.column(10.0**p) :].startswith(f"1e-0{-p}") for p in range(-8, -3))


def test_zero_and_what_is_not_finite_have_columns_of_their_own():
    lanes = Lanes([0.0, 1e-8, 1e-6, math.nan], width=40)
    row = lanes.row([("a", 0.0), ("b", 1e-8), ("c", math.inf), ("d", 1e-6)])
    assert row[0] == "a"
    assert row.endswith("c")
    assert row.index("a") < row.index("b") < row.index("d") < row.index("c")
    assert lanes.header().startswith("0 ")


def test_marks_that_fall_together_are_several():
    assert SEVERAL in Lanes([1e-8, 1e-6]).row([("a", 1e-7), ("b", 1e-7)])
    assert SEVERAL not in Lanes([1e-8, 1e-6]).row([("a", 1e-7), ("b", 1e-6)])


def test_what_is_missing_leaves_no_mark():
    assert Lanes([1e-8]).row([("a", None)], band=(None, None), limit=None) == ""


# ----------------------------------------------------------------------------------------------------
# The error against depth


@pytest.mark.parametrize("make", [*examples.EXAMPLES.values(), examples.large])
def test_rows_are_the_pairs_in_order(make):
    report = make()
    found = rows(report)
    assert [row["depth"] for row in found] == list(range(1, len(report.pairs) + 1))
    assert [row["isolated"] for row in found] == pytest.approx(
        [relative(p.difference) for p in report.pairs], nan_ok=True
    )
    assert all(set(row) == {"depth", "layer", "op", "verdict", "isolated", "end_to_end"} for row in found)


def test_each_pair_is_a_line_with_both_errors():
    report = examples.divergent()
    drawn = growth_console.lines(report, width=120)
    assert len(drawn) == len(report.pairs) + 2
    wrong = [n for n, pair in enumerate(report.pairs, 1) if pair.verdict == "divergent"]
    assert [n for n, line in enumerate(drawn[1:-1], 1) if growth_console.WRONG in line] == wrong
    inherited = drawn[2]
    assert inherited.index(growth_console.ISOLATED) < inherited.index(growth_console.END)


def test_nothing_to_draw_is_no_drawing():
    report = examples.faithful(pairs=())
    assert growth_console.lines(report) == []
    assert growth_console.markdown(report) == ""
    assert growth_console.sentence(report) == ""


def test_a_long_report_is_thinned_but_keeps_its_ends_and_what_is_wrong():
    report = examples.large()
    drawn = growth_console.lines(report, limit=12)
    numbers = [int(line.split()[0]) for line in drawn[1:-1] if "⋮" not in line]
    assert len(numbers) == 12
    assert (numbers[0], numbers[-1]) == (1, len(report.pairs))
    first = next(n for n, pair in enumerate(report.pairs, 1) if pair.verdict == "divergent")
    assert first in numbers
    assert any("⋮" in line for line in drawn)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 40))
def test_thinning_never_shows_more_than_asked_nor_a_row_twice(wrong, limit):
    found = [{"depth": n, "verdict": "divergent" if bad else "round-off"} for n, bad in enumerate(wrong)]
    kept = [row["depth"] for row in growth_console.thinned(found, limit)]
    assert kept == sorted(set(kept))
    assert len(kept) == min(limit, len(found))


def test_the_sentence_names_the_largest_error_also_when_it_is_no_number():
    report = examples.not_a_number()
    text = growth_console.sentence(report)
    assert "it is NaN, at pair 8" in text
    assert "at pair 1 (" in growth_console.sentence(examples.divergent())


def test_hostile_names_stay_on_their_line():
    for line in growth_console.lines(examples.hostile()):
        assert line.isprintable()
    block = growth_console.markdown(examples.hostile())
    fence = block.splitlines()[0].removesuffix("text")
    assert block.count(fence) == 2

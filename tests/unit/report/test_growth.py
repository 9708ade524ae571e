"""The geometry of the drawing of error against depth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from porting_check.report.growth import Growth, growth, relative
from tests.unit.report import examples


def drawn(report: object) -> Growth:
    found = growth(report)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("make", [*examples.EXAMPLES.values(), examples.large])
def test_everything_lies_inside_the_box(make: object) -> None:
    found = growth(make())  # type: ignore[operator]
    if found is None:
        return
    heights = [h for p in found.points for h in (p.isolated, p.end_to_end) if h is not None]
    assert all(found.top <= height <= found.bottom for height in heights)
    assert all(found.left < point.x < found.right for point in found.points)


def test_a_larger_error_stands_higher() -> None:
    points = drawn(examples.large()).points
    heights = [point.end_to_end for point in points if point.end_to_end is not None]
    assert heights == sorted(heights, reverse=True)


def test_zero_has_a_lane_below_and_nan_one_above_every_number() -> None:
    found = drawn(examples.not_a_number())
    numbers = [p.isolated for p in found.points if p.isolated not in (None, found.zero, found.infinite)]
    assert found.zero is not None
    assert found.infinite is not None
    assert all(found.infinite < height < found.zero for height in numbers if height is not None)
    assert found.points[7].isolated == found.infinite
    assert found.points[2].isolated == found.zero


def test_without_zero_and_nan_there_are_no_lanes() -> None:
    found = drawn(examples.faithful(pairs=examples.good_pairs()[:2]))
    assert found.zero is None
    assert found.infinite is None


def test_the_line_is_broken_where_an_error_is_missing() -> None:
    pairs = [replace(pair, end_to_end=None) if pair.index == 3 else pair for pair in examples.good_pairs()]
    steps = drawn(examples.faithful(pairs=tuple(pairs))).line
    assert [step[0] for step in steps] == list("MLLMLLL")


def test_the_first_divergence_is_marked() -> None:
    first = drawn(examples.large()).first
    assert first is not None
    assert first.number == 201
    assert drawn(examples.faithful()).first is None


def test_without_any_error_there_is_no_drawing() -> None:
    assert growth(examples.empty()) is None


def test_errors_are_relative_to_the_largest_value_unless_that_is_zero() -> None:
    assert relative(examples.difference(0.9, reference_max=4.5)) == pytest.approx(0.2)
    assert relative(examples.difference(0.9, reference_max=0.0)) == 0.9

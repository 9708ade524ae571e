"""The data of a sweep: verdict, fitted growth, JSON, files."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.errors import PortingError
from porting_check.report.sweep_result import FORMS, exponent
from tests.unit.report import sweep_examples as examples


@pytest.mark.parametrize(
    ("make", "verdict", "status"),
    [
        (examples.agree, "agree", 0),
        (examples.chain, "agree", 0),
        (examples.differ, "differ", 1),
        (examples.not_finite, "differ", 1),
        (examples.inconclusive, "inconclusive", 4),
        (examples.unknown_operator, "inconclusive", 4),
    ],
)
def test_the_verdict_follows_from_the_points(make, verdict, status):
    made = make()
    assert (made.verdict, made.exit_status, made.ok) == (verdict, status, status == 0)


def test_one_framework_alone_or_an_absent_one_is_no_agreement():
    alone = examples.agree(names=("torch",))
    assert alone.verdict == "inconclusive"
    assert examples.agree(absent={"jax": "no such module"}).verdict == "inconclusive"
    assert examples.agree(points=()).verdict == "inconclusive"


@settings(deadline=None, max_examples=50)
@given(
    power=st.floats(-2, 3),
    factor=st.floats(1e-12, 1e3),
    values=st.lists(st.integers(1, 10**6), min_size=2, max_size=9, unique=True),
)
def test_a_power_law_is_fitted_exactly(power, factor, values):
    found = exponent([(value, factor * value**power) for value in values])
    assert found == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize(
    "curve",
    [
        [],
        [(1, 1.0)],
        [(2, 1.0), (2, 2.0)],
        [(1, None), (2, 0.0), (4, 1.0)],
        [(-1, 1.0), (0, 2.0), (3, math.inf)],
    ],
)
def test_what_cannot_be_fitted_has_no_exponent(curve):
    assert exponent(curve) is None


def test_growth_is_fitted_to_each_column_and_to_theory():
    made = examples.agree()
    assert {name: round(value, 6) for name, value in made.exponents.items()} == {"torch": 0.5, "jax": 0.5}
    predicted = made.predicted_exponents
    assert [round(predicted[line], 6) for line in ("low", "expected", "limit")] == [0.0, 0.5, 0.5]
    assert {k: round(v, 6) for k, v in made.sum_exponents.items()} == {"torch, jax": 0.5, "predicted": 0.5}


def test_along_a_chain_the_growth_is_that_from_end_to_end():
    made = examples.chain()
    assert made.depth
    assert not examples.agree(quantity="depth").depth
    assert made.exponents["torch"] == pytest.approx(0.5)  # each layer's own error stays the same
    assert made.error(made.points[3], "torch") == pytest.approx(examples.UNIT * 8**0.5)
    assert made.line(made.points[3], "expected") == pytest.approx(1.5 * examples.UNIT * 8**0.5)


def test_an_error_is_relative_to_the_scale_of_the_output():
    one = examples.point(16)
    assert one.relative(3e-7) == 1.5e-7
    assert examples.point(16, scale=0.0).relative(3e-7) == 3e-7
    assert one.relative(None) is None


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_json_is_plain_and_strict(name):
    made = examples.EXAMPLES[name]()
    data = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert data["kind"] == "porting-check sweep"
    assert data["verdict"] == made.verdict
    assert [entry["value"] for entry in data["points"]] == [entry.value for entry in made.points]
    assert set(data["points"][0]["measures"]) == set(made.names)


def test_numbers_that_json_lacks_are_text():
    data = examples.not_finite().to_json()
    assert data["points"][1]["measures"]["jax"]["max_abs"] == "Infinity"


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_every_form_can_be_saved(name, suffix, tmp_path):
    target = examples.EXAMPLES[name]().save(tmp_path / f"sweep{suffix}")
    assert len(target.read_bytes()) > 100


def test_another_suffix_is_refused_with_those_that_can_be_written(tmp_path):
    with pytest.raises(PortingError, match=r"\.html \.svg \.json \.csv \.md \.txt"):
        examples.agree().save(tmp_path / "sweep.pdf")
    with pytest.raises(PortingError, match="cannot be written"):
        examples.agree().save(tmp_path / "no folder" / "sweep.md")

"""The JSON form: complete, strict, and refused when it is not what it should be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from porting_check.neutral.errors import PortingError
from porting_check.report.json import dumps, loads
from porting_check.report.result import Report
from tests.unit.report import examples


def strict(text: str) -> Any:
    """Parse as a strict reader would: NaN and Infinity as bare words are an error."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", ["faithful", "divergent", "inconclusive"])
def test_json_of_each_verdict(name: str, snapshot: SnapshotAssertion) -> None:
    report = examples.EXAMPLES[name]()
    few = replace(report, pairs=report.pairs[:1], findings=report.findings[:1], outputs=())
    assert dumps(few) == snapshot


@pytest.mark.parametrize("name", [name for name in examples.EXAMPLES if name != "not_a_number"])
def test_a_report_comes_back_equal(name: str) -> None:
    report = examples.EXAMPLES[name]()
    assert loads(dumps(report)) == report


@pytest.mark.parametrize("make", [examples.not_a_number, examples.hostile, examples.large])
def test_what_comes_back_is_written_the_same_again(make: Any) -> None:
    text = dumps(make())
    assert dumps(loads(text)) == text


def test_a_hostile_report_comes_back_equal() -> None:
    assert loads(dumps(examples.hostile())) == examples.hostile()


def test_not_a_number_and_infinity_are_text_and_come_back_as_numbers() -> None:
    report = examples.not_a_number()
    data = strict(dumps(report))
    assert data["pairs"][7]["difference"]["max_abs"] == "NaN"
    assert data["pairs"][7]["ratio"] == "Infinity"
    read = loads(dumps(report)).pairs[7]
    assert read.difference is not None
    assert math.isnan(read.difference.max_abs)
    assert read.ratio == math.inf


def test_numbers_of_numpy_are_plain_numbers_in_json() -> None:
    found = examples.difference(float(np.float64(0.5)), count=np.int64(7), identical=np.bool_(False))
    pair = replace(examples.wrong_padding(), difference=found, ratio=np.float32(2.5))
    data = strict(dumps(examples.divergent(pairs=(pair,), findings=())))
    assert (data["pairs"][0]["difference"]["count"], data["pairs"][0]["ratio"]) == (7, 2.5)
    assert data["pairs"][0]["difference"]["identical"] is False


@settings(deadline=None, max_examples=60)
@given(
    name=st.text(st.characters(), min_size=1, max_size=40),
    size=st.floats(allow_nan=False, min_value=0),
    ratio=st.one_of(st.none(), st.floats(allow_nan=False)),
)
def test_any_name_and_number_comes_back(name: str, size: float, ratio: float | None) -> None:
    pair = replace(
        examples.wrong_padding(), reference=(name, name), difference=examples.difference(size), ratio=ratio
    )
    report = examples.divergent(pairs=(pair,), findings=(), reason=name)
    assert strict(dumps(report))["pairs"][0]["reference"] == [name, name]
    assert loads(dumps(report)) == report


def test_the_document_says_first_what_it_is_and_what_the_verdict_is() -> None:
    data = strict(dumps(examples.divergent()))
    assert list(data)[:4] == ["kind", "schema", "verdict", "exit_status"]
    assert (data["verdict"], data["exit_status"]) == ("divergent", 1)


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(dumps(examples.faithful())), **changes})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        (dumps(examples.faithful())[:-40], "damaged or cut short"),
        ("[1, 2]", "not a report"),
        ('{"kind": "porting-check failure"}', "not a report"),
        (changed(schema=99), "schema 99"),
        (changed(verdict="fine"), "report.verdict should be 'faithful' or 'divergent' or 'inconclusive'"),
        (changed(pairs={}), "report.pairs should be a list"),
        (changed(pairs=[{"index": 0}]), r"report.pairs\[0\] lacks reference"),
        (changed(reference=None), "report.reference should be an object"),
        (changed(warnings=[1]), r"report.warnings\[0\] should be a value of type str, found 1"),
        (dumps(examples.faithful()).replace('"index": 0', '"index": NaN', 1), "NaN is not JSON"),
        (
            dumps(examples.faithful()).replace('"index": 0', '"index": true', 1),
            "report.pairs.*index should be",
        ),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_not_a_report_is_refused_and_the_place_is_named(text: str, words: str) -> None:
    with pytest.raises(PortingError, match=words) as caught:
        loads(text)
    assert caught.value.exit_status == 2


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(PortingError, match="not valid JSON"):
        loads(b'{"kind": "\xff\xfe"}')


def test_a_field_that_a_later_version_added_does_not_hinder_reading() -> None:
    assert loads(changed(novelty={"a": 1})) == examples.faithful()


def test_a_field_with_a_default_may_be_absent() -> None:
    data = json.loads(dumps(examples.faithful()))
    del data["warnings"], data["pairs"][0]["inherited"]
    assert loads(json.dumps(data)) == examples.faithful()


def test_report_to_json_is_this_document() -> None:
    report: Report = examples.inconclusive()
    assert report.to_json() == dumps(report)

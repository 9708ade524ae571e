"""JUnit XML: what a continuous-integration service will show, for every verdict and for hostile names."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.report import junit
from tests.unit.report import examples


def parsed(text: str) -> ET.Element:
    root = ET.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    return root


def outcomes(root: ET.Element, group: str) -> list[str]:
    cases = root.findall(f".//testcase[@classname='porting-check.{group}']")
    return [case[0].tag if len(case) else "passed" for case in cases]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("faithful", "passed"),
        ("divergent", "failure"),
        ("inconclusive", "error"),
        ("empty", "error"),
        ("not_a_number", "failure"),
    ],
)
def test_the_case_of_the_verdict_is_green_only_when_the_port_is_faithful(name: str, outcome: str) -> None:
    assert outcomes(parsed(junit.dumps(examples.EXAMPLES[name]())), "report") == [outcome]


def test_each_pair_is_a_case_in_execution_order() -> None:
    root = parsed(junit.dumps(examples.divergent()))
    assert outcomes(root, "pairs") == ["failure", *["passed"] * 4, "failure", "passed", "passed"]
    assert outcomes(root, "outputs") == ["failure"]
    assert outcomes(root, "not-compared") == ["skipped"]


def test_an_output_that_only_inherits_an_error_is_not_green() -> None:
    heir = replace(examples.outputs()[0], inherited=True, end_to_end=examples.difference(0.8))
    root = parsed(junit.dumps(examples.divergent(outputs=(heir,))))
    assert outcomes(root, "outputs") == ["failure"]
    assert "inherited from an earlier layer" in ET.tostring(root, encoding="unicode")


def test_a_failure_tells_cause_evidence_and_fix() -> None:
    root = parsed(junit.dumps(examples.divergent()))
    failure = root.find(".//testcase[@classname='porting-check.pairs']/failure")
    assert failure is not None
    assert failure.get("type") == "conv-same-stride-asym"
    assert "the reference pads 0 before" in (failure.get("message") or "")
    assert failure.text is not None
    assert examples.FIX in failure.text
    assert "with pads [0,0,1,1] the error falls" in failure.text


def test_undecided_and_uncompared_pairs_are_skipped_with_their_reason() -> None:
    root = parsed(junit.dumps(examples.inconclusive()))
    assert outcomes(root, "pairs").count("skipped") == 2
    messages = [
        mark.get("message") or ""
        for mark in root.findall(".//testcase[@classname='porting-check.pairs']/skipped")
    ]
    assert "the shapes differ" in messages[1]


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_the_counts_are_those_of_the_cases(name: str) -> None:
    root = parsed(junit.dumps(examples.EXAMPLES[name]()))
    for element in (root, root[0]):
        assert int(element.get("tests", "")) == len(root.findall(".//testcase"))
        for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(element.get(attribute, "")) == len(root.findall(f".//{kind}"))


def test_names_of_cases_are_unique() -> None:
    cases = parsed(junit.dumps(examples.hostile())).findall(".//testcase")
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(names)) == len(names)


@settings(deadline=None, max_examples=80)
@given(st.one_of(st.sampled_from(examples.HOSTILE), st.text(st.characters(), min_size=1, max_size=60)))
def test_any_name_gives_well_formed_xml_of_the_same_structure(name: str) -> None:
    def structure(text: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(element.tag, tuple(sorted(element.attrib))) for element in parsed(text).iter()]

    assert structure(junit.dumps(examples.named(name))) == structure(junit.dumps(examples.named("layer")))

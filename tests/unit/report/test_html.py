"""The page: complete, self-contained, the same bytes each time, and inert whatever the names."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.report import html
from tests.unit.report import examples


class Reader(HTMLParser):
    """Tags with their attributes, and text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[tuple[str, str]] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.text = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.values += [(name, value or "") for name, value in attrs]
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("/" + tag, ()))
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.text += data


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_the_page_answers_in_plain_text_for_each_verdict(name: str) -> None:
    report = examples.EXAMPLES[name]()
    read = Reader(html.dumps(report))
    banner = " ".join(read.text.split())
    assert report.verdict.capitalize() in banner
    assert f"porting-check, report schema {report.schema}" in banner
    for section in ("Pairs", "Not compared", "Environments", "To reproduce", "Method and words"):
        assert section in banner


def test_the_page_of_a_wrong_port_shows_cause_fix_nodes_and_every_pair() -> None:
    report = examples.divergent()
    page = html.dumps(report)
    read = Reader(page)
    assert "conv-same-stride-asym" in read.text
    assert examples.FIX in read.text
    assert "<mark>pads=[0,0,1,1]</mark>" in page
    assert "<mark>pads=[1,1,1,1]</mark>" in page
    assert [value for name, value in read.values if name == "id" and value.startswith("pair-")] == [
        f"pair-{number}" for number in range(1, 9)
    ]
    assert "equal after swapping the spatial axes" in read.text
    assert "in training mode" in read.text


def test_only_the_differing_environment_rows_are_marked() -> None:
    page = html.dumps(examples.faithful())
    rows = re.findall(r'<tr class="differs"><th scope="row">([^<]*)', page)
    assert rows == ["threads", "mode float32_matmul_precision"]


def test_elements_are_balanced() -> None:
    void = {"meta", "input", "line", "br"}
    for name, make in {**examples.EXAMPLES, "hostile": examples.hostile}.items():
        stack: list[str] = []
        for tag, _ in Reader(html.dumps(make())).tags:
            if tag.startswith("/"):
                if tag[1:] in void or (tag[1:] in ("rect", "circle", "path") and stack[-1] != tag[1:]):
                    continue
                assert stack.pop() == tag[1:], name
            elif tag not in void:
                stack.append(tag)
        assert stack == [], name


def test_ids_are_unique_and_every_link_leads_somewhere() -> None:
    read = Reader(html.dumps(examples.divergent()))
    ids = [value for name, value in read.values if name == "id"]
    assert len(set(ids)) == len(ids)
    targets = {value for name, value in read.values if name == "href"}
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(ids)


def test_nothing_is_loaded_from_anywhere() -> None:
    page = html.dumps(examples.large(20))
    names = {name for name, _ in Reader(page).values}
    assert not names & {"src", "srcset", "data", "action", "poster", "ping", "background"}
    assert not re.search(r"url\(|@import|https?:|//[a-z]", page)


def test_the_policy_names_exactly_this_style_and_this_script() -> None:
    read = Reader(html.dumps(examples.faithful()))
    policy = next(value for name, value in read.values if name == "content" and "-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind, source in (("style", "style-src"), ("script", "script-src")):
        assert len(read.raw[kind]) == 1
        digest = base64.b64encode(hashlib.sha256(read.raw[kind][0].encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy


def test_no_inline_style_and_no_event_handler_stands_in_any_page() -> None:
    for make in (*examples.EXAMPLES.values(), examples.hostile):
        names = {name for name, _ in Reader(html.dumps(make())).values}
        assert "style" not in names
        assert not {name for name in names if name.startswith("on")}


@pytest.mark.parametrize("make", [html.dumps, html.fragment])
def test_hostile_texts_make_no_element(make: object) -> None:
    read = Reader(make(examples.hostile()))  # type: ignore[operator]
    assert not {tag for tag, _ in read.tags} & {"img", "template", "iframe", "object"}
    assert read.tags.count(("script", ())) == (1 if make is html.dumps else 0)
    assert "<script>alert(1)</script>" in read.text
    assert "\u202e" not in read.text
    assert "{{ 7 * 7 }}{% raw %}" in read.text


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.sampled_from(examples.HOSTILE), st.text(st.characters(), min_size=1, max_size=60)))
def test_no_name_changes_the_structure_of_page_or_fragment(name: str) -> None:
    for make in (html.dumps, html.fragment):
        hostile, plain = Reader(make(examples.named(name))), Reader(make(examples.named("layer")))
        assert hostile.tags == plain.tags
        own = [value for attribute, value in hostile.values if attribute in ("href", "id", "class")]
        assert own == [value for attribute, value in plain.values if attribute in ("href", "id", "class")]


def test_the_same_report_gives_the_same_bytes_and_no_clock() -> None:
    page = html.dumps(examples.divergent())
    assert page == html.dumps(examples.divergent())
    assert not re.search(r"20\d\d-\d\d-\d\d", page)


def test_source_date_epoch_dates_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert "2023-11-14 22:13 UTC" in html.dumps(examples.faithful())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "tomorrow")
    assert html.dumps(examples.faithful()).count("UTC") == 0


def test_four_hundred_pairs_stay_below_two_megabytes() -> None:
    page = html.dumps(examples.large(400))
    assert len(page.encode()) < 2_000_000
    assert page.count('<tr class="row">') == 400


def test_a_long_drawing_is_whole() -> None:
    page = html.dumps(examples.large(400))
    path = re.search(r'<path class="end" d="([^"]*)"', page)
    assert path is not None
    assert re.fullmatch(r"(?:[ML]\d+(?:\.\d+)? \d+(?:\.\d+)?)+", path[1])
    assert path[1].count("L") == 399


def test_the_fragment_has_the_answer_and_no_script() -> None:
    text = html.fragment(examples.divergent())
    read = Reader(text)
    assert examples.FIX in read.text
    assert "block1/project" in read.text
    assert "stem_relu" not in read.text
    assert not read.raw["script"]
    assert examples.divergent()._repr_html_() == text


def test_a_faithful_fragment_is_short() -> None:
    assert len(html.fragment(examples.faithful())) < 3000

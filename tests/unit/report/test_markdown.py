"""Markdown for GitHub: complete, within its limit of size, and with nothing in a name read as markup."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from syrupy.assertion import SnapshotAssertion

from porting_check.report import markdown
from tests.unit.report import examples

OWN_HTML = {"<code>", "</code>"}
HARMLESS = {
    "text",
    "text_special",
    "code_inline",
    "softbreak",
    "strong_open",
    "strong_close",
    "em_open",
    "em_close",
}


def parse(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_markdown_of_each_verdict(name: str, snapshot: SnapshotAssertion) -> None:
    assert markdown.dumps(examples.EXAMPLES[name]()) == snapshot


def test_the_answer_comes_first() -> None:
    text = markdown.dumps(examples.divergent())
    assert (
        text.index("DIVERGENT")
        < text.index("first wrong layer")
        < text.index("cause")
        < text.index(examples.FIX)
    )
    assert text.index(examples.FIX) < text.index("### Findings")


def test_a_large_report_lists_only_what_is_not_good() -> None:
    text = markdown.dumps(examples.large())
    rows = [line for line in text.splitlines() if line.startswith("| ") and "↔ `backbone" in line]
    assert len(rows) == 1
    assert "Only pairs that are not good are listed" in text


def test_rows_beyond_the_limit_are_counted() -> None:
    bad = tuple(replace(examples.wrong_kernel(), index=index) for index in range(30))
    text = markdown.dumps(examples.divergent(pairs=bad, findings=()), limit=10)
    assert "and 20 pairs more" in text


def test_the_size_stays_below_what_github_accepts_whatever_the_names() -> None:
    nasty = "|`\\<" * 100
    bad = tuple(
        replace(examples.wrong_kernel(), index=index, reference=(nasty,) * 3, candidate=(nasty,) * 3)
        for index in range(400)
    )
    report = examples.divergent(pairs=bad, findings=(), warnings=(nasty * 10,) * 400)
    text = markdown.dumps(report)
    assert len(text.encode()) <= 1024 * 1024
    assert "DIVERGENT" in text


def test_a_fence_is_longer_than_any_run_of_backticks_in_the_code() -> None:
    lines = markdown.fenced("x = '````'\n```\ny")
    assert lines[0] == "`````python"
    assert lines[4] == "`````"


def inline(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


@settings(deadline=None, max_examples=80)
@given(st.one_of(st.sampled_from(examples.HOSTILE), st.text(st.characters(), min_size=1, max_size=60)))
def test_no_name_changes_the_structure_or_brings_markup_of_its_own(name: str) -> None:
    tokens, plain = (
        parse(markdown.dumps(examples.named(name))),
        parse(markdown.dumps(examples.named("layer"))),
    )
    assert [(t.type, t.tag) for t in tokens] == [(t.type, t.tag) for t in plain]
    html = {t.content for t in tokens if t.type == "html_block"}
    assert html == {t.content for t in plain if t.type == "html_block"}
    for child in inline(tokens):
        assert child.type in HARMLESS or (child.type == "html_inline" and child.content in OWN_HTML), child


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), max_size=40))
def test_escaped_prose_is_read_back_as_the_same_text(text: str) -> None:
    from porting_check.report.wording import clean

    text = " ".join(clean(text).split())
    shown = "".join(child.content for child in inline(parse(markdown.escape(text))))
    assert shown == text


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), min_size=1, max_size=40))
def test_a_name_as_code_is_read_back_as_the_same_text_inside_a_table(text: str) -> None:
    from porting_check.report.wording import clean

    text = " ".join(clean(text).split()) or "x"
    tokens = parse(f"| a |\n|---|\n| {markdown.code(text)} |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 2
    shown = "".join(child.content for child in cells[1].children or [] if child.type != "html_inline")
    assert shown == text

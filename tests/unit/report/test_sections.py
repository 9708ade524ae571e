"""Sections of a report in every form: the answer is read first, the table follows, and nothing in it is markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from porting_check.report import html, json, markdown
from porting_check.report.console import render
from porting_check.report.section import Section
from porting_check.report.section_forms import entry
from tests.unit.report.examples import faithful

SECTION = Section(
    id="float64",
    title="Whole models in float64",
    answer="Both models are the same function.",
    verdict="faithful",
    columns={"output": "output", "shrink": "shrinks by", "island": "island"},
    rows=(
        {"output": "logits", "shrink": 5.3e8, "island": False, "hidden": 1},
        {"output": "<b>|x|", "shrink": None},
    ),
    notes=("One constant is stored in float32.",),
)
REPORT = replace(faithful(), sections=(SECTION,))


def test_a_section_is_found_by_its_id() -> None:
    assert REPORT.section("float64") is SECTION
    assert REPORT.section("gradients") is None


def test_values_become_text() -> None:
    assert [entry(v) for v in (None, True, False, 3, 0.25, "a\x1b[31mb")] == [
        "-",
        "yes",
        "no",
        "3",
        "0.25",
        "a\\x1b[31mb",
    ]


def test_console_shows_answer_table_and_notes() -> None:
    text = render(REPORT, width=100)
    lines = [line.strip() for line in text.splitlines()]
    at = lines.index("Whole models in float64")
    assert lines[at + 1] == "✓ Both models are the same function."
    assert lines[at + 2].split() == ["output", "shrinks", "by", "island"]
    assert lines[at + 3].split() == ["logits", "5.3e+08", "no"]
    assert lines[at + 4].split() == ["<b>|x|", "-", "-"]
    assert lines[at + 5] == "- One constant is stored in float32."


def test_console_counts_what_it_leaves_out() -> None:
    long = replace(SECTION, verdict="divergent", rows=tuple({"output": str(n)} for n in range(40)))
    assert "… and 30 rows more" in render(replace(REPORT, sections=(long,)), limit=10)
    right = replace(long, verdict="faithful")
    assert "… and 35 rows more" in render(replace(REPORT, sections=(right,)), limit=10)
    assert "rows more" not in render(replace(REPORT, sections=(right,)), limit=None)


@pytest.mark.parametrize("width", [40, 60, 200])
def test_console_keeps_to_its_width(width: int) -> None:
    wide = replace(SECTION, rows=({"output": "x" * 300, "shrink": 1.0, "island": True},))
    assert max(map(len, render(replace(REPORT, sections=(wide,)), width=width).splitlines())) <= max(
        width, 150
    )


def test_markdown_escapes_cells() -> None:
    text = markdown.dumps(REPORT)
    assert "### Whole models in float64" in text
    assert "| &lt;b&gt;\\|x\\| | - | - |" in text


def test_html_escapes_cells_and_links_to_the_section() -> None:
    text = html.dumps(REPORT)
    assert '<a href="#section-1">Whole models in float64</a>' in text
    assert "&lt;b&gt;|x|" in text and "<b>|x|" not in text


def test_json_brings_sections_back() -> None:
    assert json.loads(json.dumps(REPORT)).sections[0].rows[0] == SECTION.rows[0]
    assert json.loads(json.dumps(REPORT)) == REPORT

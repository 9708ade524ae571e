"""The report as text: what the first lines carry, how wide it is, and that nothing in a name acts."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from porting_check.report import console
from porting_check.report.page import cells
from tests.unit.report import examples


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_console_text_of_each_verdict(name: str, snapshot: SnapshotAssertion) -> None:
    assert console.render(examples.EXAMPLES[name](), width=80) == snapshot


def test_the_first_six_lines_carry_verdict_layer_cause_and_fix() -> None:
    report = examples.divergent()
    first = "\n".join(console.render(report, width=80).splitlines()[:6])
    assert first.startswith("DIVERGENT:")
    assert all(text in first for text in ("stem_conv", "stem.0", "conv-same-stride-asym", "proven"))
    assert all(line in first for line in examples.FIX.splitlines())


def test_the_first_lines_are_not_wrapped_however_narrow_the_page() -> None:
    report = examples.large()
    lines = console.render(report, width=40).splitlines()
    assert lines[1].count("backbone") == 2
    assert lines[4].endswith(examples.FIX.splitlines()[0])


@pytest.mark.parametrize("name", ["faithful", "divergent", "inconclusive", "overridden", "empty"])
@pytest.mark.parametrize("width", [80, 100, 132])
def test_after_the_answer_no_line_is_wider_than_the_page(name: str, width: int) -> None:
    text = console.render(examples.EXAMPLES[name](), width=width)
    body = text[text.index("\n\n") :].splitlines()
    assert [line for line in body if cells(line) > width] == []


def test_columns_of_the_table_line_up_with_wide_characters() -> None:
    pairs = list(examples.divergent().pairs)
    pairs[0] = replace(pairs[0], reference=("層/畳み込み",))
    text = console.render(examples.divergent(pairs=tuple(pairs)), width=100)
    rows = [line for line in text.splitlines() if re.match(r" +\d+  \S", line) and "divergent" in line]
    assert len(rows) == 2
    assert len({cells(row[: row.index("✗")]) for row in rows}) == 1


def test_runs_of_good_pairs_are_one_row_and_bad_ones_rows_of_their_own() -> None:
    text = console.render(examples.large(), width=120)
    assert "1 to 200: 200 good" in text
    assert "202 to 400: 199 good" in text
    assert len(console.render(examples.large(), width=120, fold=False, limit=None).splitlines()) > 400


def test_a_low_precision_pair_is_not_folded_away() -> None:
    assert "~ low-precision" in console.render(examples.overridden(), width=80)


def test_what_the_limit_leaves_out_is_counted() -> None:
    text = console.render(examples.large(), width=120, limit=5, fold=False)
    assert "… and 395 pairs more, 1 not good" in text


def test_colours_change_nothing_but_colours() -> None:
    report = examples.divergent()
    coloured = console.render(report, width=80, color=True)
    assert "\x1b[1;31mDIVERGENT:\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == console.render(report, width=80)


def test_the_brief_form_is_the_head_of_the_long_one() -> None:
    report = examples.divergent()
    brief = console.brief(report)
    assert console.render(report, width=80).startswith(brief + "\n\n")
    assert "fix:" in brief


def test_not_a_number_is_never_told_as_agreement() -> None:
    text = console.render(examples.not_a_number(), width=80)
    assert "✗ divergent" in text
    assert re.search(r"NaN +∞ +NaN", text)


def test_an_output_that_only_inherits_an_error_is_not_told_as_good() -> None:
    heir = replace(examples.outputs()[0], inherited=True, end_to_end=examples.difference(0.8))
    text = console.render(examples.divergent(outputs=(heir,)), width=80)
    assert "0 ↔ 0  ✗ inherited error  largest difference 0.8" in text
    assert "2 to 5: 4 good (1 identical, 3 round-off; ratio ≤ 0.31; 4 inherit)" in text


def test_nothing_compared_is_said_so() -> None:
    text = console.render(examples.empty(), width=80)
    assert text.startswith("INCONCLUSIVE:")
    assert "nothing was compared" in text


def test_str_of_a_report_is_this_text() -> None:
    assert (
        str(examples.faithful()).splitlines()[0]
        == console.render(examples.faithful(), width=80).splitlines()[0]
    )


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.sampled_from(examples.HOSTILE), st.text(st.characters(), min_size=1, max_size=60)))
def test_no_name_reaches_the_terminal_with_a_control_or_direction_character(name: str) -> None:
    text = console.render(examples.named(name), width=80, color=False)
    bad = {c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert bad == set()

"""Words and numbers that every rendering shares."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.report import wording

UNSAFE = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.characters(), max_size=80))
def test_clean_text_has_no_character_that_acts_on_a_terminal_or_on_the_order_of_reading(text: str) -> None:
    cleaned = wording.clean(text)
    assert not any(unicodedata.category(character) in UNSAFE for character in cleaned)


def test_clean_text_keeps_what_is_printable_in_any_script() -> None:
    assert wording.clean("層/conv1 é ✓ 🙂") == "層/conv1 é ✓ 🙂"


def test_clean_text_shows_what_it_replaces() -> None:
    assert wording.clean("a\x00\u202e\U000e0001") == "a\\x00\\u202e\\U000e0001"


def test_long_names_are_cut_in_the_middle_so_that_both_ends_stay() -> None:
    cut = wording.shorten("backbone.layer1.0.conv1", 11)
    assert (len(cut), cut[:5], cut[-5:]) == (11, "backb", "conv1")


@pytest.mark.parametrize("limit", range(1, 12))
def test_a_cut_text_never_exceeds_its_limit(limit: int) -> None:
    assert len(wording.shorten("abcdefghijklmnop", limit)) == limit


def test_code_keeps_its_lines_and_loses_its_controls() -> None:
    assert wording.block("if x:\n\ty = '\x1b'") == "if x:\n    y = '\\x1b'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (999.6, "1000"),
        (99999.0, "99999"),
        (1e5, "1.0e+05"),
        (0.00099, "9.9e-04"),
        (-2.5e-9, "-2.5e-09"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_numbers_show_the_digits_that_matter(value: float | None, text: str) -> None:
    assert wording.number(value) == text


@settings(deadline=None, max_examples=200)
@given(st.floats(-1e300, 1e300))
def test_a_shown_number_is_right_to_its_last_digit_and_short(value: float) -> None:
    shown = float(wording.number(value))
    assert shown == pytest.approx(value, rel=0.051)
    assert len(wording.number(value)) <= 9


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "not measured against round-off"),
        (1.0, "1 of what round-off allows"),
        (1.2, "1.2 times what round-off allows"),
        (2100.4, "2,100 times what round-off allows"),
        (3e9, "3.0e+09 times what round-off allows"),
        (math.nan, "far beyond anything round-off allows"),
    ],
)
def test_ratios_are_said_in_words(ratio: float | None, text: str) -> None:
    assert wording.times(ratio) == text


def test_every_verdict_has_a_mark_of_its_own_kind() -> None:
    pairs = ("identical", "round-off", "low-precision", "divergent", "undecided", "not-compared")
    assert len({wording.SYMBOLS[verdict] for verdict in pairs}) == len(pairs)

"""A page of plain text: sections, wrapped prose, capped lists, columns; colours where they are wanted."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterable

from porting_check.report import wording

Paint = Callable[[str, str], str]
"""``paint(text, style)``: the text with the colours of a style, or as it is."""

_CODES = {
    "good": "32",
    "bad": "31",
    "doubt": "33",
    "head": "1",
    "dim": "2",
    "bad head": "1;31",
    "good head": "1;32",
    "doubt head": "1;33",
}


class Page:
    """Lines under construction, with what is needed to write them."""

    def __init__(self, width: int, paint: Paint, limit: int | None) -> None:
        self.lines: list[str] = []
        self.width = width
        self.paint = paint
        self.limit = limit

    def section(self, title: str) -> None:
        """An empty line and a title."""
        self.lines += ["", self.paint(title, "head")]

    def text(self, text: str, indent: int = 2, hanging: int | None = None) -> None:
        """Wrapped prose; further lines hang by ``hanging`` columns."""
        further = " " * (indent if hanging is None else hanging)
        wrapper = textwrap.TextWrapper(
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=further,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.lines += wrapper.wrap(text)

    def code(self, text: str, indent: int) -> None:
        """Lines that must stay as they are, to be copied."""
        self.lines += [" " * indent + line for line in text.splitlines()]

    def capped(self, items: Iterable[str], noun: str, indent: int = 2) -> None:
        """A list with a dash before each item, at most ``limit`` long; says what it leaves out."""
        rows = list(items)
        shown = rows if self.limit is None else rows[: self.limit]
        for row in shown:
            self.text("- " + row, indent, indent + 2)
        if len(rows) > len(shown):
            self.text(
                f"… and {wording.count(len(rows) - len(shown), noun)} more (see the saved report)",
                indent,
            )


def painter(color: bool) -> Paint:
    """A function that colours text, or leaves it as it is."""
    if not color:
        return lambda text, style: text
    return lambda text, style: f"\x1b[{_CODES[style]}m{text}\x1b[0m" if text else text


def cells(text: str) -> int:
    """Columns that a text takes on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def fit(text: str, width: int) -> str:
    """The text cut in the middle to at most ``width`` columns."""
    limit = min(width, len(text))
    while limit > 1 and cells(wording.shorten(text, limit)) > width:
        limit -= 1
    return wording.shorten(text, limit)


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text filled with spaces to ``width`` columns."""
    space = " " * (width - cells(text))
    return space + text if right else text + space

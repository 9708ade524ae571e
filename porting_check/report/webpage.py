"""What every HTML page of ours is made with: templates that escape everything, our own assets, and their digests."""

from __future__ import annotations

import base64
import datetime as dt
import difflib
import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting_check.report import wording
from porting_check.report.result import PairResult

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment() -> jinja2.Environment:
    """Templates in which every value is escaped and made printable, and a misspelt name is an error."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    made.filters["figure"] = _figure
    made.filters["nodes"] = _nodes
    return made


def _printable(value: Any) -> Any:
    """Applied to everything that a template prints: no control or direction-changing character survives."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return wording.block(value) if "\n" in value else wording.clean(value, 4000)
    return value


def _figure(value: Any) -> str:
    """A number, an index, or a dash."""
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(str(item) for item in value) + ")"
    if isinstance(value, int):
        return f"{value:,}"
    return wording.number(value)


def _nodes(pair: PairResult) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Both nodes in pieces, each piece with whether it differs from the other side."""
    sides = [wording.clean(text, 4000) for text in (pair.reference_node, pair.candidate_node)]
    if not all(sides):
        return [
            (label, [(text, False)])
            for label, text in zip(("reference", "candidate"), sides, strict=True)
            if text
        ]
    # A piece is one attribute with its value (brackets may hold commas), or whatever stands between.
    left, right = (re.findall(r"\w+=(?:\[[^\]]*\]|[^,()]*)|[^,()\s]+|[,()]\s*|\s+", text) for text in sides)
    matches = difflib.SequenceMatcher(a=left, b=right, autojunk=False).get_matching_blocks()
    same = (
        {i for m in matches for i in range(m.a, m.a + m.size)},
        {i for m in matches for i in range(m.b, m.b + m.size)},
    )
    pieces = [
        [(text, index not in kept) for index, text in enumerate(side)]
        for side, kept in zip((left, right), same, strict=True)
    ]
    return [("reference", pieces[0]), ("candidate", pieces[1])]


@functools.cache
def asset(name: str) -> str:
    """One of our own files: a style sheet, a script."""
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def markup(text: str) -> Any:
    """One of our own files, to be put into the page as it is."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  a constant file of this package, never a value of a report


def digest(text: str) -> str:
    """What a content security policy names a style sheet or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def date(environment: Mapping[str, str] = os.environ) -> str:
    """The day that ``SOURCE_DATE_EPOCH`` names; nothing without it, so that the bytes stay the same."""
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    if not epoch.isdecimal() or len(epoch) > 11:
        return ""
    return dt.datetime.fromtimestamp(int(epoch), tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")

"""The error against depth in characters: one line per pair, isolated beside end to end, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from porting_check.report import wording
from porting_check.report.growth import RESOLUTION, rows
from porting_check.report.lanes import Lanes
from porting_check.report.page import cells, fit, pad
from porting_check.report.result import Report

ISOLATED, WRONG, END, BOTH = "●", "✗", "○", "◉"
"""Marks: the layer's own error, the same of a divergent layer, the error end to end, and both in one place."""


def lines(report: Report, *, width: int = 110, limit: int | None = 40) -> list[str]:
    r"""The drawing as lines of text; empty when no pair has an error to show.

    Args:
        report: what was compared.
        width: of a line, in columns.
        limit: how many pairs to show. A longer report is thinned out evenly; divergent pairs and the first and last stay.

    Example:
        >>> print("\n".join(lines(report)))                    # doctest: +SKIP
             1  conv1 ↔ stem.0      ◉
             2  fc ↔ head           ●     ○
    """
    found = rows(report)
    errors = [row[key] for row in found for key in ("isolated", "end_to_end") if row[key] is not None]
    if not errors:
        return []
    shown = thinned(found, limit)
    name = min(max(cells(str(row["layer"])) for row in shown), max(16, width // 3))
    number = len(str(len(found)))
    room = width - name - number - 16
    lanes = Lanes([*errors, RESOLUTION], width=max(24, room))
    made = [f"  {'':{number}}  {pad('', name)}  {lanes.header()}"]
    last = 0
    for row in shown:
        if row["depth"] > last + 1:
            made.append(f"  {'⋮':>{number}}")
        last = row["depth"]
        label = pad(fit(str(row["layer"]), name), name)
        made.append(f"  {row['depth']:>{number}}  {label}  {_drawn(lanes, row)}".rstrip())
    made.append("  " + "   ".join(_legend(shown)))
    return made


def _drawn(lanes: Lanes, row: Mapping[str, Any]) -> str:
    mark = WRONG if row["verdict"] == "divergent" else ISOLATED
    isolated, end = row["isolated"], row["end_to_end"]
    same = isolated is not None and end is not None and lanes.column(isolated) == lanes.column(end)
    if same:
        return lanes.row([(WRONG if mark == WRONG else BOTH, isolated)], limit=RESOLUTION)
    return lanes.row([(END, end), (mark, isolated)], limit=RESOLUTION)


def _legend(shown: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{ISOLATED} the layer's own error"
    if any(row["verdict"] == "divergent" for row in shown):
        yield f"{WRONG} divergent"
    yield f"{END} end to end"
    yield f"{BOTH} both"
    yield "| resolution of float32"


def thinned(found: Sequence[Mapping[str, Any]], limit: int | None) -> list[Mapping[str, Any]]:
    """At most ``limit`` rows: the first and last, divergent ones from the front, and the others evenly.

    Example:
        >>> [row["depth"] for row in thinned([{"depth": n, "verdict": "round-off"} for n in range(1, 10)], 3)]
        [1, 5, 9]
    """
    if limit is None or len(found) <= limit:
        return list(found)
    last = len(found) - 1
    kept = dict.fromkeys([0, last][:limit])
    for place, row in enumerate(found):
        if row["verdict"] == "divergent" and len(kept) < limit:
            kept[place] = None
    room = limit - len(kept)
    left = [place for place in range(len(found)) if place not in kept]
    kept.update(dict.fromkeys(left[round((step + 0.5) * len(left) / room - 0.5)] for step in range(room)))
    return [found[place] for place in sorted(kept)]


def markdown(report: Report, *, limit: int | None = 40) -> str:
    """The drawing as a block for an issue or a page; empty when there is nothing to draw."""
    drawn = lines(report, width=100, limit=limit)
    fence = "`" * max(3, 1 + max((line.count("`") for line in drawn), default=0))
    return "\n".join([f"{fence}text", *drawn, fence]) + "\n" if drawn else ""


def sentence(report: Report) -> str:
    """How far the error grew on the way: where it is largest end to end, beside the largest of a layer's own."""
    found = [row for row in rows(report) if row["end_to_end"] is not None]
    own = [row for row in rows(report) if row["isolated"] is not None]
    if len(found) < 2 or not own:
        return ""
    end, alone = (
        max(found, key=lambda r: _size(r["end_to_end"])),
        max(own, key=lambda r: _size(r["isolated"])),
    )
    return (
        f"End to end, the largest relative error is {wording.number(end['end_to_end'])}, at pair {end['depth']} "
        f"({end['layer']}); of a layer by itself it is {wording.number(alone['isolated'])}, at pair {alone['depth']}."
    )


def _size(error: float) -> float:
    """Not-a-number is larger than any number."""
    return error if math.isfinite(error) else math.inf

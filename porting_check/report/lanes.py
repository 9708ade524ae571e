"""Marks on a logarithmic axis, in characters: a drawing that a terminal, a log file and a code block can show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MARKS = ("●", "■", "▲", "◆", "▼", "✚")
"""One per curve, in the order of columns; the same shapes as in the drawn form."""

SEVERAL = "✱"
"""Where the marks of several curves fall together."""


class Lanes:
    """A logarithmic axis of characters, with a column for zero and one for what is not finite where they occur.

    Example:
        >>> lanes = Lanes([1e-8, 1e-6], width=21)
        >>> lanes.header()
        '1e-08     1e-07     1e-06'
        >>> lanes.row([("●", 1e-7)], band=(1e-8, 1e-7), limit=1e-6)
        '░░░░░░░░░░●         |'
    """

    def __init__(self, values: Iterable[float | None], width: int = 61) -> None:
        known = [value for value in values if value is not None]
        positive = [value for value in known if value > 0 and math.isfinite(value)]
        self.low = math.floor(math.log10(min(positive, default=1e-8)) + 1e-9)
        self.high = max(math.ceil(math.log10(max(positive, default=1e-6)) - 1e-9), self.low + 1)
        self._zero = 2 if any(value == 0 for value in known) else 0
        self._infinite = 2 if not all(map(math.isfinite, known)) else 0
        step = max(2, (width - 1 - self._zero) // (self.high - self.low))
        self._span = step * (self.high - self.low)
        self.width = self._zero + self._span + 1 + self._infinite

    def header(self) -> str:
        """The decades, each label beginning at its column."""
        every = max(1, math.ceil(7 * (self.high - self.low) / self._span))
        line = "0".ljust(self._zero) if self._zero else ""
        for power in range(self.low, self.high + 1, every):
            column = self.column(10.0**power)
            line = line.ljust(column)[:column] + f"1e{power:+03d}"
        return line

    def column(self, value: float) -> int:
        """Where a value stands."""
        if not math.isfinite(value):
            return self.width - 1
        if value <= 0:
            return 0
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._zero + round(min(max(share, 0.0), 1.0) * self._span)

    def row(
        self,
        marks: Sequence[tuple[str, float | None]],
        *,
        band: tuple[float | None, float | None] = (None, None),
        limit: float | None = None,
    ) -> str:
        """One line of marks over a shaded band."""
        cells = [" "] * self.width
        low, high = band
        if low is not None and high is not None and high > 0:
            for column in range(self.column(low), self.column(high) + 1):
                cells[column] = "░"
        if limit is not None and limit > 0:
            cells[self.column(limit)] = "|"
        taken: set[int] = set()
        for mark, value in marks:
            if value is None:
                continue
            column = self.column(value)
            cells[column] = SEVERAL if column in taken else mark
            taken.add(column)
        return "".join(cells).rstrip()

"""The vertical axis of a drawing of errors: logarithmic, with lanes for zero and for what is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence


class LogAxis:
    """A logarithmic axis from the top of a drawing to its bottom.

    Args:
        values: what will be drawn. Where one is zero or less there is a lane for zero below the axis; where one is not
            finite, a lane for these above it.
        ends: the decimal logarithms of the lowest and the highest value of the axis.
        top, bottom: of the drawing, in its own units, counted from above.
        lane: height of a lane.
        margin: what the axis keeps from an end of the drawing that has no lane.

    Attributes:
        zero, infinite: the heights of the middles of the two lanes; ``None`` where there is none.

    Example:
        >>> axis = LogAxis([0.0, 1e-3], (-4, 0), top=0, bottom=120, lane=20)
        >>> axis.place(1e-2), axis.place(0.0), axis.zero
        (50.0, 110.0, 110.0)
    """

    def __init__(
        self,
        values: Sequence[float],
        ends: tuple[float, float],
        *,
        top: float,
        bottom: float,
        lane: float,
        margin: float = 0,
    ) -> None:
        self.low, self.high = ends
        self.top, self.bottom = top, bottom
        self.zero = bottom - lane / 2 if any(value <= 0 for value in values) else None
        self.infinite = top + lane / 2 if not all(map(math.isfinite, values)) else None
        self._floor = bottom - (lane if self.zero is not None else margin)
        self._roof = top + (lane if self.infinite is not None else margin)

    def place(self, value: float) -> float:
        """The height at which a value stands; in a lane, if it has no logarithm."""
        if not math.isfinite(value):
            return self.top if self.infinite is None else self.infinite
        if value <= 0:
            return self.bottom if self.zero is None else self.zero
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self._floor - share * (self._floor - self._roof), 1)

"""The error against depth, as the geometry of a drawing: where each point, line and label stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from porting_check.report import wording
from porting_check.report.log_axis import LogAxis
from porting_check.report.result import PairResult, Report

if TYPE_CHECKING:
    from porting_check.numerics.difference import Difference

WIDTH, HEIGHT = 1000, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 30, 40
LANE = 36
"""Height of the lane under the axis for zero, and of the one above it for what is not finite."""

RESOLUTION = 2.0**-23
"""The spacing of float32 numbers near 1, drawn as a guide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One pair: its column, the heights of its two errors (``None``: not there), and its tooltip."""

    number: int
    x: float
    isolated: float | None
    end_to_end: float | None
    verdict: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The drawing, in units of its own box."""

    points: tuple[Point, ...]
    line: tuple[str, ...]
    step: float
    decades: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    resolution: float
    zero: float | None = None
    infinite: float | None = None
    first: Point | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: float = WIDTH - RIGHT
    top: int = TOP
    bottom: float = HEIGHT - BOTTOM
    radius: float = field(default=4.0)


def relative(difference: Difference | None) -> float | None:
    """The largest difference as a share of the largest value of the reference; absolute where that is zero.

    Example:
        >>> relative(None) is None
        True
    """
    if difference is None:
        return None
    scale = difference.reference_max
    return difference.max_abs / scale if scale and math.isfinite(scale) else difference.max_abs


def rows(report: Report) -> tuple[Mapping[str, Any], ...]:
    """The error against depth as plain rows, in execution order: what every other form of the drawing is made from.

    Returns:
        One mapping per pair: ``depth`` (from 1), ``layer``, ``op``, ``verdict``, ``isolated`` and ``end_to_end`` (largest
        difference as a share of the layer's largest value; ``None`` where there is none).

    Example:
        >>> rows(report)[0]                                        # doctest: +SKIP
        {'depth': 1, 'layer': 'conv1 ↔ stem.0', 'op': 'Conv', 'verdict': 'round-off', 'isolated': 2e-07, 'end_to_end': 2e-07}
    """
    return tuple(
        {
            "depth": number,
            "layer": wording.pair_name(pair),
            "op": pair.op,
            "verdict": pair.verdict,
            "isolated": relative(pair.difference),
            "end_to_end": relative(pair.end_to_end),
        }
        for number, pair in enumerate(report.pairs, 1)
    )


def growth(report: Report) -> Growth | None:
    """Lay the drawing out; ``None`` when no pair has an error to show."""
    errors = [(relative(pair.difference), relative(pair.end_to_end)) for pair in report.pairs]
    known = [error for both in errors for error in both if error is not None]
    if not known:
        return None
    axis = _axis(known)
    step = (WIDTH - LEFT - RIGHT) / len(errors)
    points = tuple(
        _point(number, LEFT + step * (number - 0.5), pair, error, axis)
        for number, (pair, error) in enumerate(zip(report.pairs, errors, strict=True), 1)
    )
    return Growth(
        points=points,
        line=_line(points, errors),
        step=step,
        decades=_decades(axis),
        columns=tuple((LEFT + step * (number - 0.5), str(number)) for number in _ticks(len(points))),
        resolution=axis.place(RESOLUTION),
        zero=axis.zero,
        infinite=axis.infinite,
        first=next((point for point in points if point.verdict == "divergent"), None),
        radius=4.0 if step > 10 else 2.5,
    )


def _axis(values: list[float]) -> LogAxis:
    """Whole decades that hold all values and float32's resolution."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    low = math.floor(math.log10(min([*positive, RESOLUTION])))
    high = math.ceil(math.log10(max([*positive, RESOLUTION * 10])))
    return LogAxis(values, (low, high), top=TOP, bottom=HEIGHT - BOTTOM, lane=LANE, margin=6)


def _decades(axis: LogAxis) -> tuple[tuple[float, str], ...]:
    """Grid lines: at most about eight."""
    low, high = int(axis.low), int(axis.high)
    stride = max(1, math.ceil((high - low) / 8))
    return tuple(
        (axis.place(10.0**power), f"1e{power}" if power else "1") for power in range(low, high + 1, stride)
    )


def _point(
    number: int, x: float, pair: PairResult, error: tuple[float | None, float | None], axis: LogAxis
) -> Point:
    isolated, end = (None if value is None else axis.place(value) for value in error)
    numbers = f"isolated {wording.number(error[0])}, end to end {wording.number(error[1])}"
    title = f"{number}: {wording.pair_name(pair)}\n{pair.verdict}\n{numbers}"
    return Point(
        number=number, x=round(x, 1), isolated=isolated, end_to_end=end, verdict=pair.verdict, title=title
    )


def _line(points: tuple[Point, ...], errors: list[tuple[float | None, float | None]]) -> tuple[str, ...]:
    """The end-to-end line in steps; it is broken where there is no positive number."""
    path, joined = [], False
    for point, (_, end) in zip(points, errors, strict=True):
        if point.end_to_end is None or end is None or not math.isfinite(end) or end <= 0:
            joined = False
            continue
        path.append(f"{'L' if joined else 'M'}{point.x} {point.end_to_end}")
        joined = True
    return tuple(path)


def _ticks(amount: int) -> list[int]:
    """About ten round pair numbers, the first one included."""
    stride = next(
        s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**9) if amount / s <= 12
    )
    return sorted({1, *range(stride, amount + 1, stride)})

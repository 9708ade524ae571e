"""The drawing of a sweep: error against the varied quantity, the theoretical band shaded, as a self-contained SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from porting_check.report import wording
from porting_check.report.log_axis import LogAxis
from porting_check.report.sweep_result import Sweep, SweepPoint, sum_of
from porting_check.report.webpage import asset, environment, markup

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 78, 236, 44, 56
LANE = 26
"""Height of the lane for zero, below the axis, and of the one for what is not finite, above it."""

SHAPES = ("circle", "square", "triangle", "diamond", "down", "cross")
"""Of the marks, one per curve: colour is never the only carrier."""

Drawing = Literal["error", "sum"]
Height = Callable[[SweepPoint], float | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """One measured value, with its tooltip."""

    x: float
    y: float
    title: str
    bad: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """The values of one column, or of two."""

    name: str
    number: int
    shape: str
    path: str
    marks: tuple[Mark, ...]
    faint: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """The drawing, in units of its own box."""

    heading: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    columns: tuple[tuple[float, str], ...]
    heights: tuple[tuple[float, str], ...]
    band: str
    upper: str
    limit: str
    band_words: tuple[str, ...]
    limit_words: str
    zero: float | None
    infinite: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def plot(result: Sweep, drawing: Drawing | None = None) -> Plot | None:
    """Lay a drawing out.

    Args:
        result: the sweep.
        drawing: ``error``: each column's relative error; ``sum``: the sum of absolute differences of every two columns. None:
            the errors where they are known, of two functions the sum.

    Returns:
        The drawing; ``None`` where there is nothing to draw.
    """
    chosen = drawing or kinds(result)[0]
    curves, low, high, limit = _lines(result, chosen)
    every = [height(p) for height in [*curves.values(), low, high, limit] for p in result.points]
    known = [value for value in every if value is not None]
    if not any(curve(p) is not None for curve in curves.values() for p in result.points):
        return None
    across, up = _Across([point.value for point in result.points]), _up(known)
    faint = {n: _isolated(n) for n in curves} if result.depth and chosen == "error" else {}
    made = tuple(
        _curve(result, name, number, height, across, up, faint.get(name), chosen)
        for number, (name, height) in enumerate(curves.items())
    )
    upper = _path([(across.place(p.value), up.place(v)) for p in _ordered(result) if (v := high(p))])
    return Plot(
        heading=f"{result.subject}: {_WHAT[chosen][1] if result.depth and chosen == 'error' else _WHAT[chosen][0]}",
        x_label=result.quantity + (", logarithmic" if across.log else ""),
        y_label="rms error / rms of the output" if chosen == "error" else "sum of absolute differences",
        curves=made,
        columns=across.ticks(),
        heights=_heights(up),
        band=_area(result, low, high, across, up),
        upper=upper,
        limit=_path([(across.place(p.value), up.place(v)) for p in _ordered(result) if (v := limit(p))]),
        band_words=("theory: sums in blocks", "to sums term after term") if upper else (),
        limit_words="limit in any order" if upper else "limit",
        zero=up.zero,
        infinite=up.infinite,
    )


_WHAT = {
    "error": ("error to the float64 truth", "error to the float64 truth along the chain"),
    "sum": ("sum of absolute differences", "sum of absolute differences"),
}


def kinds(result: Sweep) -> tuple[Drawing, ...]:
    """The drawings of a sweep, the one that answers its question first."""
    sums: tuple[Drawing, ...] = ("sum",) if any(gap.sum_abs for p in result.points for gap in p.gaps) else ()
    errors: tuple[Drawing, ...] = ("error",) if result.judged else ()
    # Two functions were given to ask how far they are apart; frameworks, how far each is from the truth.
    found = errors + sums if result.data != "given" else sums + errors
    return found or ("sum",)


def _lines(result: Sweep, drawing: Drawing) -> tuple[dict[str, Height], Height, Height, Height]:
    """The curves by name, and the lines of theory: low, expected, limit."""
    if drawing == "error":
        curves = {name: _of(result, name) for name in result.names}
        theory = [_theory(result, line) for line in ("low", "expected", "limit")]
        return curves, theory[0], theory[1], theory[2]
    pairs = list(dict.fromkeys(gap.names for point in result.points for gap in point.gaps))
    sums = {f"{left}, {right}": sum_of(left, right) for left, right in pairs}
    return sums, lambda p: _first(p, "blocked"), lambda p: _first(p, "predicted"), lambda p: None


def _of(result: Sweep, name: str) -> Height:
    return lambda point: result.error(point, name)


def _theory(result: Sweep, line: str) -> Height:
    return lambda point: result.line(point, line)


def _isolated(name: str) -> Height:
    return lambda point: point.relative(point.measures[name].rms) if name in point.measures else None


def _first(point: SweepPoint, name: str) -> float | None:
    found: float | None = getattr(point.gaps[0], name) if point.gaps else None
    return found


def _ordered(result: Sweep) -> list[SweepPoint]:
    return sorted(result.points, key=lambda point: point.value)


class _Across:
    """The horizontal axis: logarithmic where the values are positive and span a factor of four or more."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = sorted(values)
        self.log = self.values[0] > 0 and self.values[-1] / self.values[0] >= 4
        ends = [self._scaled(self.values[0]), self._scaled(self.values[-1])]
        self._low, self._high = ends if ends[1] > ends[0] else [ends[0] - 1, ends[0] + 1]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def place(self, value: float) -> float:
        """Where a value stands."""
        share = (self._scaled(value) - self._low) / (self._high - self._low)
        return round(LEFT + 18 + share * (WIDTH - LEFT - RIGHT - 36), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """The values themselves, as far as their labels do not touch."""
        found: list[tuple[float, str]] = []
        for value in self.values:
            label, x = f"{value:g}", self.place(value)
            room = 7.5 * (len(label) + len(found[-1][1])) / 2 + 8 if found else 0
            if not found or x - found[-1][0] >= room:
                found.append((x, label))
        return tuple(found)


def _up(values: Sequence[float]) -> LogAxis:
    """The vertical axis, a little longer than the values reach."""
    positive = [math.log10(value) for value in values if value > 0 and math.isfinite(value)] or [-8.0, -6.0]
    margin = max(0.08 * (max(positive) - min(positive)), 0.12)
    ends = min(positive) - margin, max(positive) + margin
    return LogAxis(values, ends, top=TOP, bottom=HEIGHT - BOTTOM, lane=LANE)


def _heights(up: LogAxis) -> tuple[tuple[float, str], ...]:
    """Decades; with 2 and 5 between them where there are few."""
    decades = range(math.floor(up.low), math.ceil(up.high) + 1)
    few = up.high - up.low < 2.5
    stride = max(1, math.ceil((up.high - up.low) / 9))
    values = [
        (factor, power)
        for power in decades
        if few or power % stride == 0
        for factor in ((1, 2, 5) if few else (1,))
    ]
    return tuple(
        (up.place(factor * 10.0**power), f"{factor}e{power:+03d}" if power else f"{factor}")
        for factor, power in values
        if up.low <= math.log10(factor) + power <= up.high
    )


def _curve(
    result: Sweep,
    name: str,
    number: int,
    height: Height,
    across: _Across,
    up: LogAxis,
    faint: Height | None,
    drawing: Drawing,
) -> Curve:
    found = [(point, value) for point in _ordered(result) if (value := height(point)) is not None]
    marks = tuple(
        Mark(
            across.place(point.value),
            up.place(value),
            f"{name}\n{result.quantity} {point.value:g}: {wording.number(value)}\n{_said(point, name, drawing)}".rstrip(),
            drawing == "error" and point.measures[name].verdict == "divergent",
        )
        for point, value in found
    )
    positive = [(across.place(p.value), up.place(v)) for p, v in found if v > 0 and math.isfinite(v)]
    alone = [] if faint is None else [(p, faint(p)) for p in _ordered(result)]
    below = [
        (across.place(p.value), up.place(v)) for p, v in alone if v is not None and v > 0 and math.isfinite(v)
    ]
    return Curve(
        name, number % len(SHAPES), SHAPES[number % len(SHAPES)], _path(positive), marks, _path(below)
    )


def _said(point: SweepPoint, name: str, drawing: Drawing) -> str:
    if drawing == "sum":
        predicted = _first(point, "predicted")
        return f"predicted at most {wording.number(predicted)}" if predicted is not None else ""
    measure = point.measures[name]
    share = f", {wording.times(measure.ratio)}" if measure.ratio is not None else ""
    return f"{measure.verdict}{share}"


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if number else 'M'}{x} {y}" for number, (x, y) in enumerate(places))


def _area(result: Sweep, low: Height, high: Height, across: _Across, up: LogAxis) -> str:
    """The outline of the band, up along its upper line and back along its lower one."""
    both = [(across.place(p.value), low(p), high(p)) for p in _ordered(result)]
    known = [(x, up.place(one), up.place(two)) for x, one, two in both if one and two]
    if len(known) < 2:
        return ""
    return _path([(x, top) for x, _, top in known] + [(x, foot) for x, foot, _ in reversed(known)]) + "Z"


def svg(result: Sweep, drawing: Drawing | None = None) -> str:
    """A complete SVG file: its own colours for light and dark, no request, no script.

    Example:
        >>> svg(result)[:4]                                    # doctest: +SKIP
        '<svg'
    """
    made = plot(result, drawing)
    style = markup(asset("sweep.css"))
    return (
        environment().get_template("sweep.svg.j2").render(plot=made, style=style, alone=True, w=wording)
        + "\n"
    )

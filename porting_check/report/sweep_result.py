"""The error of an operator against one quantity: the data of a sweep, as plain numbers."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from porting_check.neutral.errors import INCONCLUSIVE
from porting_check.neutral.trace import Environment
from porting_check.report.plain import plain
from porting_check.report.save import form_of, write

SCHEMA = 1
GOOD = ("identical", "round-off")
LINES = ("low", "expected", "limit")
"""The lines of the theoretical band; see :class:`Band`."""

_EXIT = {"agree": 0, "differ": 1, "inconclusive": INCONCLUSIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What theory says of the error at one point: root mean squares, in the units of the output.

    Attributes:
        low: when sums are taken pairwise or in blocks, as most backends do.
        expected: when they are taken term after term, the least favourable order; ``0.42 tau``.
        limit: what no order of summation exceeds.

    For an operator that is no sum of products ``low`` is ``None``, and ``expected`` where nothing is known but the limit.
    """

    low: float | None = None
    expected: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one framework, or one of two functions, made of one point, beside the float64 truth.

    Attributes:
        verdict: ``identical`` (the truth, rounded), ``round-off``, ``low-precision``, ``undecided``, ``divergent``, or
            ``refused``: it was not computed, for ``reason``.
        max_abs: largest error; ``None`` where nothing was computed or nothing is known of the truth.
        rms: root mean square of the error.
        ratio: the largest error in units of what round-off allows it.
        end_to_end: along a chain, the root mean square of the error when every layer reads what this framework made.
    """

    verdict: str
    max_abs: float | None = None
    rms: float | None = None
    ratio: float | None = None
    end_to_end: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The difference of two frameworks at one point: its sum of absolute values and its largest value.

    ``predicted`` is what that sum may be expected to be at most: both sides add term after term
    (``0.8 * 0.42 * sqrt(2) * sum(tau)``); ``blocked`` when both add in blocks.
    """

    left: str
    right: str
    sum_abs: float
    max_abs: float
    predicted: float | None = None
    blocked: float | None = None

    @property
    def names(self) -> tuple[str, str]:
        """Of the two."""
        return self.left, self.right


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One value of the quantity that was varied.

    Attributes:
        value: of the quantity.
        shape: of the output.
        terms: how many terms one output sums up; ``None`` where the operator is no such sum.
        scale: root mean square of the true output.
        largest: its largest absolute value.
        band: what theory says of the error.
        chained: the same of the error along a chain, inherited errors included.
        measures: by framework or function.
        gaps: of every two of them.
    """

    value: float
    shape: tuple[int, ...]
    terms: int | None = None
    scale: float | None = None
    largest: float | None = None
    band: Band = field(default_factory=Band)
    chained: Band | None = None
    measures: Mapping[str, Measure]
    gaps: tuple[Gap, ...] = ()

    def relative(self, error: float | None) -> float | None:
        """An error as a share of the output's scale; as it is where the output is zero throughout.

        Example:
            >>> SweepPoint(value=1, shape=(2,), scale=4.0, measures={}).relative(2e-7)
            5e-08
        """
        return error / self.scale if error is not None and self.scale else error

    def gap(self, left: str, right: str) -> Gap | None:
        """The difference of two columns; ``None`` where one of them is missing."""
        return next((gap for gap in self.gaps if gap.names == (left, right)), None)

    @property
    def good(self) -> bool:
        """Whether everyone computed this point within round-off."""
        return all(measure.verdict in GOOD for measure in self.measures.values())


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The error of one operator, or of two functions, against one quantity.

    Attributes:
        subject: the layer as it was written, or the names of the two functions.
        quantity: what was varied: ``dimension``, ``kernel``, ``depth``.
        points: in the order of the values.
        names: of the frameworks or functions, in the order of columns.
        environments: of each framework that ran.
        absent: frameworks that could not be run at all, and why.
        data: the kind of the data.
        float64: whether everything was computed in float64.
        note: a sentence to show above the table.

    Example:
        >>> result = sweep("Conv(filters=8)", "kernel", (1, 3, 5))        # doctest: +SKIP
        >>> result.verdict, result.exponents["torch"]                     # doctest: +SKIP
        ('agree', 0.21)
    """

    subject: str
    quantity: str
    points: tuple[SweepPoint, ...]
    names: tuple[str, ...]
    environments: Mapping[str, Environment] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    data: str = "normal"
    float64: bool = False
    note: str = ""

    @property
    def depth(self) -> bool:
        """Whether this is the error along a chain of layers, each of which was also judged by itself."""
        return any(m.end_to_end is not None for point in self.points for m in point.measures.values())

    @property
    def judged(self) -> bool:
        """Whether anything is known of the truth, so that each side has an error of its own."""
        return any(m.rms is not None for point in self.points for m in point.measures.values())

    @property
    def divergent(self) -> tuple[SweepPoint, ...]:
        """Points that some framework computes differently."""
        return tuple(p for p in self.points if any(m.verdict == "divergent" for m in p.measures.values()))

    @property
    def verdict(self) -> str:
        """``differ``, ``agree``, or ``inconclusive``: something was not computed by all, or not decided."""
        if self.divergent:
            return "differ"
        whole = bool(self.points) and len(self.names) > 1 and not self.absent
        return "agree" if whole and all(point.good for point in self.points) else "inconclusive"

    @property
    def ok(self) -> bool:
        """Whether every difference is one that floating-point arithmetic can make."""
        return self.verdict == "agree"

    @property
    def exit_status(self) -> int:
        """0 agree, 1 differ, 4 inconclusive."""
        return _EXIT[self.verdict]

    @property
    def exponents(self) -> Mapping[str, float | None]:
        """Fitted growth of each column's relative error: it goes as the quantity to this power; along a chain, end to end."""
        return {name: self._fitted(functools.partial(self.error, name=name)) for name in self.names}

    @property
    def predicted_exponents(self) -> Mapping[str, float | None]:
        """The same fit of the lines of the theoretical band: ``low``, ``expected``, ``limit``."""
        return {line: self._fitted(functools.partial(self.line, name=line)) for line in LINES}

    @property
    def sum_exponents(self) -> Mapping[str, float | None]:
        """Fitted growth of the sum of absolute differences of every two columns, and of what is ``predicted`` for it."""
        pairs = list(dict.fromkeys(gap.names for point in self.points for gap in point.gaps))
        found = {f"{left}, {right}": self._fitted(sum_of(left, right)) for left, right in pairs}
        predicted = self._fitted(lambda p: p.gaps[0].predicted if p.gaps else None)
        return {**found, "predicted": predicted} if found else {}

    def error(self, point: SweepPoint, name: str) -> float | None:
        """The relative error that is shown of one column at one point: of the whole chain, or of the one layer."""
        measure = point.measures.get(name)
        if measure is None:
            return None
        return point.relative(measure.end_to_end if self.depth else measure.rms)

    def line(self, point: SweepPoint, name: str) -> float | None:
        """One line of the theoretical band at one point, relative as :meth:`error` is; ``name`` is one of :data:`LINES`."""
        found: float | None = point.relative(getattr(self.band(point), name))
        return found

    def band(self, point: SweepPoint) -> Band:
        """The band that belongs to :meth:`error`."""
        return point.chained or point.band

    def _fitted(self, height: Callable[[SweepPoint], float | None]) -> float | None:
        return exponent([(point.value, height(point)) for point in self.points])

    def __str__(self) -> str:
        from porting_check.report.sweep_console import render

        return render(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the drawing and nothing that could run."""
        from porting_check.report.sweep_plot import svg

        return svg(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data; numbers that JSON lacks are text."""
        data = asdict(self)
        data["environments"] = {name: env.to_json() for name, env in self.environments.items()}
        head = {"kind": "porting-check sweep", "schema": SCHEMA, "verdict": self.verdict}
        fits = {
            "exponents": self.exponents,
            "predicted_exponents": self.predicted_exponents,
            "sum_exponents": self.sum_exponents,
        }
        made: dict[str, Any] = plain({**head, "exit_status": self.exit_status, **fits, **data})
        return made

    def save(self, path: str | Path) -> Path:
        """Write ``.html``, ``.svg``, ``.json``, ``.csv``, ``.md`` or ``.txt``, whole or not at all.

        Raises:
            PortingError: another suffix, or the file cannot be written.

        Example:
            >>> sweep("Gemm()", "dimension", (16, 64)).save("growth.svg")     # doctest: +SKIP
            PosixPath('growth.svg')
        """
        target = Path(path)
        return write(target, form(target)(self))


def form(path: Path) -> Callable[[Sweep], str]:
    """The rendering that a path's suffix asks for.

    Raises:
        PortingError: another suffix; the message lists the known ones.
    """
    return form_of(path, FORMS, "a sweep")


def _html(result: Sweep) -> str:
    from porting_check.report.sweep_html import dumps

    return dumps(result)


def _svg(result: Sweep) -> str:
    from porting_check.report.sweep_plot import svg

    return svg(result)


def _csv(result: Sweep) -> str:
    from porting_check.report.sweep_console import csv_text

    return csv_text(result)


def _markdown(result: Sweep) -> str:
    from porting_check.report.sweep_console import markdown

    return markdown(result)


def _text(result: Sweep) -> str:
    from porting_check.report.sweep_console import render

    return render(result, width=120, limit=None) + "\n"


FORMS: Mapping[str, Callable[[Sweep], str]] = {
    ".html": _html,
    ".svg": _svg,
    ".json": lambda result: json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n",
    ".csv": _csv,
    ".md": _markdown,
    ".txt": _text,
}
"""What a suffix means."""


def exponent(curve: Sequence[tuple[float, float | None]]) -> float | None:
    """The power that a curve grows with: the least-squares slope of its logarithms; ``None`` with fewer than two points.

    Example:
        >>> round(exponent([(1, 2e-8), (4, 4e-8), (16, 8e-8)]), 3)
        0.5
    """
    logs = list(_logarithms(curve))
    if len({x for x, _ in logs}) < 2:
        return None
    middle_x, middle_y = sum(x for x, _ in logs) / len(logs), sum(y for _, y in logs) / len(logs)
    spread = sum((x - middle_x) ** 2 for x, _ in logs)
    slope: float = sum((x - middle_x) * (y - middle_y) for x, y in logs) / spread
    return slope


def sum_of(left: str, right: str) -> Callable[[SweepPoint], float | None]:
    """The sum of absolute differences of two columns, as a function of the point."""

    def height(point: SweepPoint) -> float | None:
        gap = point.gap(left, right)
        return None if gap is None else gap.sum_abs

    return height


def _logarithms(curve: Sequence[tuple[float, float | None]]) -> Iterator[tuple[float, float]]:
    for x, y in curve:
        if x > 0 and y is not None and y > 0 and math.isfinite(y):
            yield math.log(x), math.log(y)

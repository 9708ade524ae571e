"""Sweeps built by hand: one for each verdict, one along a chain, one of two functions, and hostile names."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from porting_check.neutral.trace import Environment
from porting_check.report.sweep_result import Band, Gap, Measure, Sweep, SweepPoint
from tests.unit.report.examples import HOSTILE

UNIT = 2.0**-24


def point(value: float, names: tuple[str, ...] = ("torch", "jax"), **changes: Any) -> SweepPoint:
    """A point whose errors grow as the square root of the value."""
    size = UNIT * math.sqrt(value)
    measures = {
        name: Measure(verdict="round-off", max_abs=4 * size, rms=size / (place + 1), ratio=0.3)
        for place, name in enumerate(names)
    }
    gap = Gap(
        left=names[0],
        right=names[1],
        sum_abs=100 * size,
        max_abs=5 * size,
        predicted=900 * size,
        blocked=50 * UNIT,
    )
    facts: dict[str, Any] = {
        "value": value,
        "shape": (4, 16),
        "terms": int(value) + 1,
        "scale": 2.0,
        "largest": 6.5,
        "band": Band(low=0.9 * UNIT, expected=1.1 * size, limit=9 * size),
        "measures": measures,
        "gaps": (gap,),
    }
    return SweepPoint(**{**facts, **changes})


def agree(**changes: Any) -> Sweep:
    names = ("torch", "jax")
    environments = {name: Environment(name, {name: "1.0"}, device="cpu") for name in names}
    facts: dict[str, Any] = {
        "subject": "Gemm()",
        "quantity": "dimension",
        "points": tuple(point(value) for value in (16, 64, 256, 1024)),
        "names": names,
        "environments": environments,
    }
    return Sweep(**{**facts, **changes})


def differ() -> Sweep:
    wrong = {
        "torch": Measure(verdict="round-off", max_abs=2e-7, rms=1e-7, ratio=0.2),
        "jax": Measure(verdict="divergent", max_abs=0.5, rms=0.1, ratio=4e5, reason="largest error"),
    }
    return agree(points=(point(16), point(64, measures=wrong, gaps=()), point(256)))


def inconclusive() -> Sweep:
    refused = {
        "torch": Measure(verdict="round-off", max_abs=2e-7, rms=1e-7, ratio=0.2),
        "jax": Measure(verdict="refused", reason="jax has no such operator"),
    }
    return agree(
        points=(point(1), point(2, measures=refused, gaps=())), absent={"tensorflow": "it is not installed"}
    )


def not_finite() -> Sweep:
    odd = {
        "torch": Measure(verdict="identical", max_abs=0.0, rms=0.0, ratio=0.0),
        "jax": Measure(verdict="divergent", max_abs=math.inf, rms=math.inf, ratio=math.inf),
    }
    return agree(points=(point(1), point(4, measures=odd, gaps=()), point(16)))


def chain() -> Sweep:
    def grown(depth: int) -> SweepPoint:
        made = point(depth, gaps=(), chained=Band(low=UNIT * depth**0.5, expected=3 * UNIT * depth**0.5))
        measures = {
            name: replace(m, rms=UNIT, end_to_end=2 * UNIT * depth**0.5) for name, m in made.measures.items()
        }
        return replace(made, measures=measures)

    return agree(quantity="depth", subject="Conv(padding=same)", points=tuple(map(grown, (1, 2, 4, 8))))


def functions() -> Sweep:
    names = ("formula", "F.linear")
    return agree(
        subject="formula against F.linear",
        names=names,
        points=tuple(point(value, names) for value in (16, 64, 256)),
        data="given",
    )


def unknown_operator() -> Sweep:
    """Two functions of which nothing is known: neither truth nor theory."""
    names = ("f", "g")
    cells = {name: Measure(verdict="undecided") for name in names}
    gap = Gap(left="f", right="g", sum_abs=0.25, max_abs=0.1)
    points = tuple(
        SweepPoint(value=value, shape=(3,), scale=1.0, measures=cells, gaps=(gap,)) for value in (-1, 0, 2)
    )
    return agree(subject="f against g", names=names, points=points, data="given", environments={})


def hostile() -> Sweep:
    names = (HOSTILE[0], HOSTILE[5])
    points = tuple(point(value, names) for value in (1, 2, 3))
    wrong = {
        names[0]: Measure(verdict="divergent", max_abs=1.0, rms=1.0, ratio=9.0, reason=HOSTILE[1]),
        names[1]: Measure(verdict="refused", reason=HOSTILE[6]),
    }
    return agree(
        subject=HOSTILE[2],
        quantity=HOSTILE[3],
        names=names,
        points=(*points, point(4, names, measures=wrong)),
        environments={name: Environment(name, {HOSTILE[7]: HOSTILE[8]}) for name in names},
        absent={HOSTILE[4]: HOSTILE[9]},
        note=HOSTILE[6],
    )


EXAMPLES = {
    made.__name__: made
    for made in (agree, differ, inconclusive, not_finite, chain, functions, unknown_operator, hostile)
}

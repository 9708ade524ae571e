"""Which values inside a model help most when only some can be kept: those that cut it evenly, narrow ones first."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from porting_check.neutral.graph import Graph

MIDDLE = 0.25
"""A stretch is cut somewhere in its middle half, where the best place is."""


@dataclass(frozen=True, slots=True)
class Place:
    """A value at which a graph may be cut.

    ``alone``: nothing else that was computed before it is read after it, so that everything behind it follows from this
    value. ``crosses``: it goes from one module to another one. ``size`` is what keeping it takes, in bytes.
    """

    key: str
    step: int
    alone: bool
    crosses: bool
    size: int


def places(graph: Graph, sizes: Mapping[str, int], real: set[str]) -> list[Place]:
    """The recorded values that depend on the input and are read later, in execution order.

    Args:
        graph: the recording's graph.
        sizes: bytes of the values that may be chosen.
        real: keys of values that are kept in any case.
    """
    last = {key: max(steps) for key, steps in graph.consumers.items() if steps}
    alive = [0] * (len(graph.steps) + 1)
    for key in graph.fed - real:
        if key in graph.producer and last.get(key, -1) > graph.producer[key]:
            alive[graph.producer[key]] += 1
            alive[last[key]] -= 1
    for index in range(1, len(alive)):
        alive[index] += alive[index - 1]
    made = []
    for key in sizes:
        step = graph.producer.get(key, -1)
        if key in graph.fed and key not in real and last.get(key, -1) > step >= 0:
            made.append(Place(key, step, alive[step] == 1, _crosses(graph, key), sizes[key]))
    return sorted(made, key=lambda place: (place.step, place.key))


def _crosses(graph: Graph, key: str) -> bool:
    own = _module(graph, graph.producer[key])
    return any(_module(graph, step) != own for step in graph.consumers[key])


def _module(graph: Graph, step: int) -> tuple[str, ...]:
    """The path of the module in which a step's layer lies."""
    return tuple(re.split(r"[./]", graph.record_of(graph.steps[step]).name)[:-1])


def in_order(candidates: list[Place], steps: int, taken: list[int]) -> Iterator[Place]:
    """The places, most useful first: each one cuts the longest stretch that is left near its middle.

    Within the middle half of the stretch a value that is alone goes before others, one that crosses modules before one that
    does not, a small one before a large one. Restoring goes on from every cut, so even stretches keep the longest chain of
    recomputed values, and with it the error that is carried along, as short as so many values can.

    Args:
        candidates: the places.
        steps: how many steps there are.
        taken: steps at which something is kept already.

    Example:
        >>> chain = [Place(str(n), n, True, False, 4) for n in range(1, 8)]
        >>> [place.key for place in in_order(chain, 9, [])][:3]
        ['4', '1', '6']
    """
    left = sorted(candidates, key=lambda place: place.step)
    ends = sorted({-1, *taken, steps})
    while left:
        at = [place.step for place in left]
        stretches = sorted(itertools.pairwise(ends), key=lambda pair: (pair[0] - pair[1], pair[0]))
        chosen = next((best for pair in stretches if (best := _best(left, at, *pair)) is not None), left[0])
        left.remove(chosen)
        bisect.insort(ends, chosen.step)
        yield chosen


def _best(left: list[Place], at: list[int], begin: int, end: int) -> Place | None:
    """The best place inside a stretch; ``None`` when there is none."""
    middle, reach = (begin + end) / 2, (end - begin) * MIDDLE
    inside = left[bisect.bisect_right(at, begin) : bisect.bisect_left(at, end)]
    near = [place for place in inside if abs(place.step - middle) <= reach] or inside
    if not near:
        return None
    return min(near, key=lambda p: (not p.alone, not p.crosses, p.size, abs(p.step - middle), p.step))

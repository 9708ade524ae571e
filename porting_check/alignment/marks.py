"""Matching by names, where both sides carry the same ones: an export that keeps the module paths of what it was made from.

Names lie as often as not between two ports (the heads of MTCNN are numbered the other way round), so they count only where
the matches that were found by weights and values say the same names already, and only for what these left open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

from porting_check.neutral.graph import Graph, Step

TRUSTED = 0.5
"""Share of the matches so far whose names must agree."""


class Item(Protocol):
    """What is needed of a compute step."""

    step: Step
    family: str


def by_marks(
    reference: Graph,
    candidate: Graph,
    left: Mapping[int, Item],
    right: Mapping[int, Item],
    pairs: Mapping[int, int],
) -> list[tuple[int, int]]:
    """Matches of steps that carry the same name on both sides; none when names are not to be trusted.

    Args:
        reference: its graph.
        candidate: its graph.
        left: compute steps of the reference.
        right: compute steps of the candidate.
        pairs: what is matched so far.

    Example:
        >>> by_marks(torch_graph, onnx_graph, left, right, {0: 0, 3: 3})       # doctest: +SKIP
        [(1, 1), (2, 2)]
    """
    agree = sum(_name(reference, r) == _name(candidate, c) for r, c in pairs.items())
    if not pairs or agree < TRUSTED * len(pairs):
        return []
    ours = _named(reference, left, pairs)
    theirs = _named(candidate, right, pairs.values())
    found: list[tuple[int, int]] = []
    for key in ours.keys() & theirs.keys():
        if len(ours[key]) == len(theirs[key]):
            found += zip(ours[key], theirs[key], strict=True)
    return sorted(found)


def _name(graph: Graph, index: int) -> str:
    return graph.record_of(graph.steps[index]).id


def _named(graph: Graph, items: Mapping[int, Item], taken: Iterable[int]) -> dict[tuple[str, str], list[int]]:
    """The steps that are not matched yet, by name and family, in execution order."""
    closed = set(taken)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in items.items():
        if index not in closed:
            groups[_name(graph, index), item.family].append(index)
    return groups

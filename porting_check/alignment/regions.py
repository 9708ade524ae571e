"""Regions: what each side computes between matched values, and how the axes of a matched value correspond."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from porting_check.alignment.pairing import Pairing
from porting_check.neutral.errors import LayoutError
from porting_check.neutral.graph import Graph
from porting_check.neutral.layout import Layout


@dataclass(frozen=True, slots=True)
class Cut:
    """A matched value: the same tensor in both graphs, up to the order of its axes."""

    reference: str
    candidate: str
    evidence: tuple[str, ...] = ()
    output: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """What both sides compute from matched values (``boundary``) to a matched value (``target``).

    ``stray`` names inputs of one side that have no counterpart: then the region cannot be judged. ``given_up`` are doubtful
    cuts that kept the two sides from beginning at the same values.
    """

    target: Cut
    boundary: tuple[Cut, ...]
    reference: tuple[int, ...]
    candidate: tuple[int, ...]
    stray: tuple[str, ...] = ()
    given_up: tuple[Cut, ...] = ()


def cuts(reference: Graph, candidate: Graph, pairing: Pairing) -> list[Cut]:
    """The matched values that a pairing of steps implies, in the reference's execution order."""
    made: list[Cut] = []
    for ours, theirs in sorted(pairing.pairs.items()):
        one, other = reference.steps[ours], candidate.steps[theirs]
        same = one.node is not None and other.node is not None and one.node.op_type == other.node.op_type
        count = min(len(one.outputs), len(other.outputs)) if same or one.node is None else 1
        for left, right in list(zip(one.outputs, other.outputs, strict=False))[:count]:
            used = reference.consumers.get(left.key) or any(
                p.value == left.key for p in reference.trace.outputs
            )
            if left.key and right.key and used:
                made.append(Cut(left.key, right.key, tuple(dict.fromkeys(pairing.evidence[ours]))))
    return made


def region(
    reference: Graph, candidate: Graph, known: Iterable[Cut], target: Cut, doubtful: Container[str] = ()
) -> Region:
    """The region that ends in ``target`` and begins at known cuts, widened until both sides begin at the same cuts.

    Args:
        reference: the reference's graph.
        candidate: the candidate's graph.
        known: cuts at which it may begin.
        target: where it ends.
        doubtful: keys of cuts that are given up first when the two sides do not begin at the same ones.
    """
    forward = {
        cut.reference: cut
        for cut in known
        if cut.reference != target.reference and cut.candidate != target.candidate
    }
    dropped: list[Cut] = []
    while True:
        left, used = reference.between(target.reference, set(forward))
        right, theirs = candidate.between(target.candidate, {cut.candidate for cut in forward.values()})
        loose = [c for c in forward.values() if (c.reference in used) != (c.candidate in theirs)]
        loose = [c for c in loose if c.reference in reference.producer or c.candidate in candidate.producer]
        if not loose:
            break
        touched = [c for c in forward.values() if c.reference in used or c.candidate in theirs]
        given_up = [c for c in touched if c.reference in doubtful]
        dropped += given_up
        for cut in given_up or loose:
            del forward[cut.reference]
    boundary = tuple(
        c
        for c in forward.values()
        if (c.reference in used and c.candidate in theirs)
        or (_fed(reference, candidate, c) and (c.reference in used or c.candidate in theirs))
    )
    covered = {c.reference for c in boundary}, {c.candidate for c in boundary}
    stray = tuple(sorted(used - covered[0])) + tuple(sorted(theirs - covered[1]))
    return Region(target, boundary, tuple(left), tuple(right), stray, tuple(dropped))


def _fed(reference: Graph, candidate: Graph, cut: Cut) -> bool:
    """Whether a cut is an input of both models: known on both sides, also where only one of them reads it."""
    return cut.reference not in reference.producer and cut.candidate not in candidate.producer


@dataclass(frozen=True, slots=True)
class Axes:
    """How the candidate's axes follow from the reference's: ``candidate = reference.transpose(permutation)``."""

    permutation: tuple[int, ...]
    how: str

    def of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The candidate's shape of a tensor that has this shape in the reference."""
        return tuple(shape[axis] for axis in self.permutation)

    @property
    def back(self) -> tuple[int, ...]:
        """The order that turns the candidate's tensor into the reference's."""
        return tuple(self.permutation.index(axis) for axis in range(len(self.permutation)))

    @property
    def moved(self) -> bool:
        """Whether any axis changes its place."""
        return self.permutation != tuple(range(len(self.permutation)))


def axes(
    shapes: tuple[Sequence[int], Sequence[int]],
    layouts: tuple[str, str],
    *,
    arrays: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    declared_only: bool = False,
) -> Axes | None:
    """The order of axes that turns the reference's tensor into the candidate's; ``None`` when there is none to be had.

    Declared or derived layouts decide, whether or not the sizes agree then. Without them equal shapes mean equal order;
    other shapes are put right only when exactly one order fits (or the values single one out), never for a model's
    output (``declared_only``).

    Example:
        >>> axes(((1, 8, 9, 3), (1, 3, 8, 9)), ("NHWC", "NCHW")).permutation
        (0, 3, 1, 2)
    """
    ours, theirs = tuple(shapes[0]), tuple(shapes[1])
    if len(ours) != len(theirs):
        return None
    if all(layouts) and len(layouts[0]) == len(layouts[1]) == len(ours):
        try:
            order = Layout(layouts[0]).permutation(Layout(layouts[1]))
        except LayoutError:
            order = None
        if order is not None:
            return Axes(tuple(order), f"{layouts[0]} → {layouts[1]}")
    identity = tuple(range(len(ours)))
    if declared_only:
        return Axes(identity, "as they are") if ours == theirs else None
    orders = (
        [p for p in itertools.permutations(identity) if tuple(ours[a] for a in p) == theirs]
        if len(ours) <= 6
        else []
    )
    fitting = [p for p in orders if _agree(arrays[0], arrays[1], p)]
    if ours == theirs:
        chosen = identity if not fitting or identity in fitting else fitting[0]
        return Axes(chosen, "as they are" if chosen == identity else "order of axes inferred from the values")
    if len(orders) == 1:
        return Axes(orders[0], "order of axes inferred from the shapes")
    return Axes(fitting[0], "order of axes inferred from the values") if len(fitting) == 1 else None


def _agree(
    one: np.ndarray | None, other: np.ndarray | None, order: Sequence[int], samples: int = 512
) -> bool:
    """Whether random elements agree to 1e-3 under an order of axes."""
    if one is None or other is None or one.size == 0:
        return False
    rng = np.random.default_rng(0)
    index = [rng.integers(0, size, samples) for size in one.shape]
    left = np.asarray(one[tuple(index)], np.float64)
    right = np.asarray(other[tuple(index[axis] for axis in order)], np.float64)
    scale = np.abs(left).max()
    return bool(scale > 0 and np.abs(right - left).max() <= 1e-3 * scale)


def matched_inputs(reference: Graph, candidate: Graph) -> list[Cut]:
    """The models' inputs, by name where the names agree and by position otherwise."""
    ours = {port.name: port.value for port in reference.trace.inputs}
    theirs = {port.name: port.value for port in candidate.trace.inputs}
    return [Cut(ours[a], theirs[b], ("model input",)) for a, b in match_names(list(ours), list(theirs))]


def match_names(
    ours: Sequence[str], theirs: Sequence[str], mapping: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Pairs of names: declared ones, then equal ones when all the others agree, else by position as far as both go."""
    declared = [(a, b) for a, b in (mapping or {}).items() if a in ours and b in theirs]
    left = [name for name in ours if name not in dict(declared)]
    right = [name for name in theirs if name not in {b for _, b in declared}]
    rest = (
        [(name, name) for name in left] if set(left) == set(right) else list(zip(left, right, strict=False))
    )
    place = {name: index for index, name in enumerate(ours)}
    return sorted(declared + rest, key=lambda pair: place[pair[0]])

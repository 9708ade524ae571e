"""The order in which a computation adds: the tree of a sum, and how to reveal it (FPRev).

A floating-point sum of ``n`` terms is a tree: which terms are added first, and what is added to that. FPRev (Xie et al.,
USENIX ATC'25, arXiv:2411.00442; this is an independent implementation) reveals the tree of a black box: with ``+M`` at
term i, ``-M`` at term j and ones elsewhere, where ``M`` is so large that adding a one to it changes nothing, all ones in
the smallest subtree that holds both are lost; so ``n - output`` is the size of that subtree.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from porting_check.neutral.errors import PortingError

Pairs = Sequence[tuple[int, int]]
Sizes = Callable[[Pairs], Sequence[int]]
"""For each pair of terms the size (in terms) of the smallest subtree that holds both."""


class NotASummation(PortingError):
    """What was probed does not add plain products: Winograd, FFT, low precision, or something that is not linear."""


@dataclass(frozen=True)
class SumTree:
    """The order of one sum.

    Attributes:
        terms: how many terms are added; they are numbered from 0.
        nodes: the additions; the ids of what each adds. Ids below ``terms`` are terms, ``terms + k`` is the result of
            ``nodes[k]``. What a node adds stands before it, in the order of each part's lowest term; the last node is the
            root. A node of more than two parts is a fused addition (tensor cores, block FMA).

    Example:
        >>> tree = SumTree.of([[0, 1], [2, 3]])
        >>> tree.nodes, tree.height, round(tree.kappa, 3)
        (((0, 1), (2, 3), (4, 5)), 2, 1.125)
    """

    terms: int
    nodes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(nested: Sequence[object] | int) -> SumTree:
        """The tree of nested lists of term numbers (not for very deep ones: the lists are walked recursively)."""
        made: list[tuple[int, ...]] = []
        count = _count(nested)

        def visit(item: object) -> int:
            if isinstance(item, int):
                return item
            assert isinstance(item, Sequence)
            made.append(tuple([visit(part) for part in item]))
            return count + len(made) - 1

        return canonical(count, made, visit(nested))

    @property
    def root(self) -> int:
        """The id of the whole sum."""
        return self.terms + len(self.nodes) - 1 if self.nodes else 0

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many terms lie below each node."""
        found: list[int] = []
        for parts in self.nodes:
            found.append(sum(1 if part < self.terms else found[part - self.terms] for part in parts))
        return tuple(found)

    @functools.cached_property
    def height(self) -> int:
        """The largest number of additions that a term passes through."""
        found: list[int] = []
        for parts in self.nodes:
            found.append(1 + max(0 if part < self.terms else found[part - self.terms] for part in parts))
        return found[-1] if found else 0

    @property
    def kappa(self) -> float:
        """The expected squared error relative to that of adding one after the other, in (0, 1] but for the smallest sums.

        ``3 * sum(size^2) / n^3`` over the additions (NUMERICS, section 1: "tree known").
        """
        return 3.0 * sum(size * size for size in self.sizes) / self.terms**3

    @functools.cached_property
    def key(self) -> str:
        """Eight hexadecimal digits; equal keys mean equal trees, down to the numbers of the terms."""
        return hashlib.sha256(repr((self.terms, self.nodes)).encode()).hexdigest()[:8]

    @functools.cached_property
    def shapes(self) -> tuple[int, ...]:
        """A number for each node; equal numbers mean equal subtrees when the terms' numbers are left out."""
        known: dict[tuple[int, ...], int] = {}
        found: list[int] = []
        for parts in self.nodes:
            inner = tuple(sorted(0 if part < self.terms else found[part - self.terms] for part in parts))
            found.append(known.setdefault(inner, len(known) + 1))
        return tuple(found)

    @functools.cached_property
    def lowest(self) -> tuple[int, ...]:
        """The lowest term below each node."""
        found: list[int] = []
        for parts in self.nodes:
            found.append(min(part if part < self.terms else found[part - self.terms] for part in parts))
        return tuple(found)

    @functools.cached_property
    def parents(self) -> tuple[int, ...]:
        """The node (as an index into ``nodes``) that adds each id; -1 for the root."""
        found = [-1] * (self.terms + len(self.nodes))
        for index, parts in enumerate(self.nodes):
            for part in parts:
                found[part] = index
        return tuple(found)

    @property
    def sequential(self) -> bool:
        """Whether the terms are added one after the other."""
        return self.height == self.terms - 1

    def renumbered(self, numbers: Sequence[int]) -> SumTree:
        """The same tree with term ``k`` called ``numbers[k]``.

        Example:
            >>> SumTree.of([[0, 1], 2]).renumbered([2, 1, 0]).nodes
            ((1, 2), (0, 3))
        """
        nodes = [
            tuple(numbers[part] if part < self.terms else part for part in parts) for parts in self.nodes
        ]
        return canonical(self.terms, nodes, self.root)

    def span(self, first: int, second: int) -> int:
        """The size of the smallest subtree that holds both terms."""
        above = set()
        node = self.parents[first]
        while node >= 0:
            above.add(node)
            node = self.parents[self.terms + node]
        node = self.parents[second]
        while node not in above:
            node = self.parents[self.terms + node]
        return self.sizes[node]


def _count(nested: object) -> int:
    if isinstance(nested, int):
        return 1
    assert isinstance(nested, Sequence)
    return sum(_count(part) for part in nested)


def canonical(terms: int, nodes: Sequence[tuple[int, ...]], root: int) -> SumTree:
    """The tree with parts in the order of their lowest term and nodes numbered as they are reached.

    ``nodes`` may hold additions that the root does not use. Iterative, because a chain is as deep as it is long.
    """
    low: list[int] = []
    for parts in nodes:
        low.append(min(part if part < terms else low[part - terms] for part in parts))

    def in_order(node: int) -> list[int]:
        return sorted(nodes[node - terms], key=lambda part: part if part < terms else low[part - terms])

    reached: list[int] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node >= terms:
            reached.append(node)
            waiting += in_order(node)
    number = {node: terms + place for place, node in enumerate(reversed(reached))}
    made = [tuple(number.get(part, part) for part in in_order(node)) for node in reversed(reached)]
    return SumTree(terms, tuple(made))


@dataclass
class _Group:
    """Terms whose common subtree is sought: one of them, and the others by the size of what they share with it."""

    members: list[int]
    pivot: int
    shared: list[tuple[int, list[int], _Group | None]] = field(default_factory=list)

    @property
    def others(self) -> list[int]:
        return [member for member in self.members if member != self.pivot]

    def split(self, answers: Sequence[int], rng: random.Random) -> list[_Group]:
        """Sort the others by the answers; returns the groups that must be looked into further."""
        found: dict[int, list[int]] = {}
        for size, member in zip(answers, self.others, strict=True):
            found.setdefault(size, []).append(member)
        for size in sorted(found):
            members = found[size]
            # A group nearly as large as its parent comes from a chain met at its wrong end: any other term halves it.
            unlucky = len(members) > len(self.members) // 2
            pivot = rng.choice(members) if unlucky else members[0]
            inner = _Group(members, pivot) if len(members) > 1 else None
            self.shared.append((size, members, inner))
        return [inner for _, _, inner in self.shared if inner is not None]


def reveal(terms: int, sizes: Sizes, *, seed: int = 0) -> SumTree:
    """The tree of a sum from the sizes of common subtrees.

    All groups of one depth are asked about together, so that a batched prober needs few calls; at most ``n^2 / 2`` and
    for chains and balanced trees about ``n`` to ``n log n`` pairs are asked about.

    Args:
        terms: how many there are.
        sizes: answers for pairs, see :data:`Sizes`.
        seed: of the choice of pivots.

    Raises:
        NotASummation: the answers contradict each other.

    Example:
        >>> truth = SumTree.of([[[0, 1], 2], 3])
        >>> reveal(4, lambda pairs: [truth.span(i, j) for i, j in pairs]) == truth
        True
    """
    if terms < 2:
        return SumTree(terms, ())
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    top = _Group(list(range(terms)), 0)
    waiting = [top]
    while waiting:
        pairs = [(group.pivot, other) for group in waiting for other in group.others]
        answers = list(sizes(pairs))
        following: list[_Group] = []
        start = 0
        for group in waiting:
            stop = start + len(group.members) - 1
            following += group.split(answers[start:stop], rng)
            start = stop
        waiting = following
    return _Assembly(terms).tree(top)


class _Assembly:
    """Puts the tree together from the groups."""

    def __init__(self, terms: int) -> None:
        self.terms = terms
        self.nodes: list[tuple[int, ...]] = []

    def tree(self, top: _Group) -> SumTree:
        root, span = self.build(top, True)
        if span != self.terms:
            raise _contradiction(f"{self.terms} terms, and the whole sum seems to have {span}")
        return canonical(self.terms, self.nodes, root)

    def build(self, group: _Group, whole: bool) -> tuple[int, int]:
        """The id of a group's subtree, and the size of the smallest true subtree that holds the group.

        Where that size exceeds the group, the group's last parts are parts of a fused addition further up.
        """
        root, count, span = group.pivot, 1, 1
        for place, (size, members, inner) in enumerate(group.shared):
            last = place == len(group.shared) - 1
            count += len(members)
            part, inner_span = (members[0], 1) if inner is None else self.build(inner, False)
            if inner_span not in (len(members), size):
                raise _contradiction(f"a subtree of {inner_span} terms within one of {size}")
            if count != size and (whole or not last or count > size):
                raise _contradiction(f"{count} terms below an addition that seems to have {size}")
            parts = (part,) if inner_span == len(members) else self.nodes[part - self.terms]
            self.nodes.append((root, *parts))
            root, span = self.terms + len(self.nodes) - 1, size
        return root, span


def _contradiction(what: str) -> NotASummation:
    return NotASummation(
        f"not a plain summation: the answers contradict each other ({what}); Winograd, FFT and low-precision "
        "accumulators do so, and sums whose order changes from call to call"
    )

"""A tree of summation as text, with chains and equal parts folded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from porting_check.numerics.summation import SumTree

LINES = 40


def summary(tree: SumTree) -> str:
    """The order in one phrase.

    Example:
        >>> summary(SumTree.of([[[0, 1], 2], [[3, 4], 5]]))
        'pairwise sum of 2 equal parts, each a chain of 3'
    """
    if not tree.nodes:
        return "one term"
    outline = _Outline(tree)
    title, parts = outline.fold(tree.root)
    return _phrase(outline, tree.root, 2) if parts else title


def _phrase(outline: _Outline, node: int, depth: int) -> str:
    """A part in one phrase, its own parts included while ``depth`` lasts."""
    title, parts = outline.fold(node)
    short = title.split(", beginning", 1)[0].split(" (", 1)[0]
    if not parts or not depth:
        return short
    inner = [outline.repeated(label) + _phrase(outline, part, depth - 1) for label, part in parts]
    if title.startswith("pairwise"):
        return f"{short}, each a {inner[0]}"
    return f"{short}: {', then '.join(inner)}" if len(parts) <= 3 else short


def draw(tree: SumTree, *, lines: int = LINES) -> str:
    """The tree, one line per part; chains and parts that are equal but for their terms' numbers are folded.

    Example:
        >>> print(draw(SumTree.of([[[0, 1], 2], [[3, 4], 5]])))
        sum of 6 terms, height 3, kappa 0.861
        └─ pairwise sum of 2 equal parts, beginning at terms 0, 3
           └─ each: chain of 3 (terms 0, 1, 2)
    """
    head = f"sum of {tree.terms} terms, height {tree.height}, kappa {tree.kappa:.3g}"
    if not tree.nodes:
        return head
    drawn = list(_Outline(tree).lines("", tree.root, ""))
    if len(drawn) > lines:
        drawn = [*drawn[: lines - 1], f"… {len(drawn) - lines + 1} more lines"]
    return "\n".join([head, *drawn])


def progression(numbers: Sequence[int], most: int = 4) -> str:
    """Numbers in a row, shortened where they have one step.

    Example:
        >>> progression([0, 16, 32, 48, 64]), progression([3, 1, 7, 2, 9])
        ('0, 16 … 64', '3, 1, 7 … 9')
    """
    if len(numbers) <= most:
        return ", ".join(map(str, numbers))
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    shown = numbers[: 2 if len(steps) == 1 else 3]
    return f"{', '.join(map(str, shown))} … {numbers[-1]}"


class _Outline:
    """Folds one tree."""

    def __init__(self, tree: SumTree) -> None:
        self.tree = tree

    def lines(self, label: str, node: int, indent: str, last: bool = True) -> Iterator[str]:
        """A part and what it is made of."""
        title, parts = self.fold(node)
        yield f"{indent}{'└─' if last else '├─'} {label}{title}"
        below = indent + ("   " if last else "│  ")
        for place, (name, part) in enumerate(parts):
            yield from self.lines(name, part, below, place == len(parts) - 1)

    def fold(self, node: int) -> tuple[str, list[tuple[str, int]]]:
        """A part's title, and the parts that must be drawn below it."""
        if node < self.tree.terms:
            return f"term {node}", []
        parts = self.parts(node)
        if len(parts) > 2:
            return self.fused(parts)
        equal = self.equal_parts(node)
        if len(equal) > 1:
            starts = progression([self.low(part) for part in equal])
            if equal[0] < self.tree.terms:
                return f"pairwise sum of {len(equal)} terms ({starts})", []
            title = f"pairwise sum of {len(equal)} equal parts, beginning at terms {starts}"
            return title, [("each: ", equal[0])]
        return self.chain(node)

    def fused(self, parts: Sequence[int]) -> tuple[str, list[tuple[str, int]]]:
        """An addition of more than two parts at once."""
        inner = [part for part in parts if part >= self.tree.terms]
        terms = [part for part in parts if part < self.tree.terms]
        listed = f" (terms {progression(terms)})" if terms else ""
        return f"fused addition of {len(parts)} parts{listed}", [("", part) for part in inner]

    def equal_parts(self, node: int) -> list[int]:
        """The parts of a balanced tree; the node alone where it is none. A pair of terms counts as a chain."""
        level = [node]
        while all(self.balanced(part) for part in level):
            level = [child for part in level for child in self.parts(part)]
        pair = len(level) == 2 and level[0] < self.tree.terms
        return [node] if pair else sorted(level, key=self.low)

    def balanced(self, node: int) -> bool:
        if node < self.tree.terms:
            return False
        parts = self.parts(node)
        return len(parts) == 2 and self.shape(parts[0]) == self.shape(parts[1])

    def chain(self, node: int) -> tuple[str, list[tuple[str, int]]]:
        """One accumulator and all that is added to it, in order."""
        added: list[int] = []
        while node >= self.tree.terms and len(self.parts(node)) == 2 and len(self.equal_parts(node)) < 2:
            first, second = self.parts(node)
            if self.size(second) > self.size(first):
                first, second = second, first
            added.append(second)
            node = first
        steps = [node, *reversed(added)]
        if all(step < self.tree.terms for step in steps):
            return f"chain of {len(steps)} (terms {progression(steps)})", []
        return f"chain of {len(steps)} steps", self.runs(steps)

    def runs(self, steps: Sequence[int]) -> list[tuple[str, int]]:
        """What a chain adds, equal steps in a row folded into one."""
        found: list[tuple[str, int]] = []
        start = 0
        while start < len(steps):
            stop = start + 1
            while stop < len(steps) and self.shape(steps[stop]) == self.shape(steps[start]):
                stop += 1
            found.append((self.label(steps[start:stop], start == 0), steps[start]))
            start = stop
        return found

    def label(self, run: Sequence[int], first: bool) -> str:
        sign = "" if first else "then "
        if len(run) == 1:
            return sign
        starts = progression([self.low(step) for step in run])
        if run[0] < self.tree.terms:
            return f"{sign}{len(run)} terms ({starts}), the first of them "
        return f"{sign}{len(run)} times (from terms {starts}): "

    @staticmethod
    def repeated(label: str) -> str:
        """How often, of the label of a part: ``8 times a ``."""
        words = label.removeprefix("then ").split(" (", 1)[0]
        return (
            f"{words} a "
            if words.endswith(" times")
            else f"{words}, the first "
            if words.endswith(" terms")
            else ""
        )

    def parts(self, node: int) -> tuple[int, ...]:
        return self.tree.nodes[node - self.tree.terms]

    def shape(self, node: int) -> int:
        return 0 if node < self.tree.terms else self.tree.shapes[node - self.tree.terms]

    def size(self, node: int) -> int:
        return 1 if node < self.tree.terms else self.tree.sizes[node - self.tree.terms]

    def low(self, node: int) -> int:
        return node if node < self.tree.terms else self.tree.lowest[node - self.tree.terms]

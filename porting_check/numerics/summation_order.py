"""The order in which a computation adds its products, revealed and checked: FPRev on a black box, end to end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from porting_check.numerics.summation import NotASummation, SumTree, reveal
from porting_check.numerics.summation_arithmetic import SPREAD, UNIT, Variant, evaluate, sigma, variants
from porting_check.numerics.summation_probe import (
    LIMIT,
    Array,
    Box,
    Call,
    Masks,
    Operands,
    Prober,
    Products,
    find_box,
    prober,
    products,
)
from porting_check.numerics.summation_text import draw, summary

SAMPLES = 512
CHECKS = 12
FEW = 48
ENOUGH = 32
ALONE = 512


@dataclass(frozen=True)
class Summation:
    """How one computation adds the products of an output.

    Attributes:
        operand: the array whose elements number the terms, in C order.
        tree: the order.
        terms: how many products.
        calls: of the computation, for all of it.
        alike: share of the outputs, among those with all terms, that were seen to add in this order.
        variant: how the tree was executed when it reproduced the outputs best; ``None`` if that was not tried.
        words: the same in words.
        reproduced: share of the sampled outputs that the tree gives bit for bit.
        samples: how many were sampled.
        biased: whether a bias was added.
        positions: flat positions of the terms in the operand, of one output.
        deviation: root mean square of the outputs' errors in units of what this order leads to expect (1: as expected).
    """

    operand: str
    tree: SumTree
    calls: int
    alike: float
    variant: Variant | None = None
    words: str = ""
    reproduced: float = 0.0
    samples: int = 0
    biased: bool = False
    deviation: float = 0.0
    positions: tuple[int, ...] = ()

    @property
    def terms(self) -> int:
        """How many products an output adds."""
        return self.tree.terms

    @property
    def exact(self) -> bool:
        """Whether every sampled output was reproduced bit for bit."""
        return self.samples > 0 and self.reproduced == 1.0

    @property
    def phrase(self) -> str:
        """The order in one phrase."""
        return summary(self.tree)

    def drawing(self, lines: int = 40) -> str:
        """The tree as text."""
        return draw(self.tree, lines=lines)


@dataclass(frozen=True)
class Located:
    """A sum of products found in a computation, before its order is asked for."""

    asked: Prober
    box: Box


def locate(call: Call, operands: Operands, *, prefer: Sequence[str] = ()) -> Located:
    """Find the sum of products in a computation.

    Args:
        call: the computation in float32.
        operands: its actual arrays by name.
        prefer: operands to number the terms by, best first.

    Raises:
        NotASummation: there is none, or it cannot be told apart.
    """
    asked = prober(call, operands)
    return Located(asked, _best_box(asked, prefer))


def summation(found: Located, output: Array, *, limit: int = LIMIT, samples: int = SAMPLES) -> Summation:
    """Reveal the order in which a computation adds, and reproduce its output from it.

    Args:
        found: the sum of products.
        output: what the computation gave for its actual arrays, float32.
        limit: the most terms of a sum.
        samples: how many outputs to reproduce.

    Raises:
        NotASummation: why the order cannot be revealed.

    Example:
        >>> def dot(arrays):
        ...     total = np.float32(0)
        ...     for x, w in zip(arrays["x"], arrays["w"]):
        ...         total = total + x * w
        ...     return total
        >>> arrays = {"x": np.float32([.1, .2, .3]), "w": np.float32([.4, .5, .6])}
        >>> found = summation(locate(dot, arrays), dot(arrays))
        >>> found.phrase, found.words, found.exact
        ('chain of 3 (terms 0, 1, 2)', 'multiply, round, then add', True)
    """
    asked, box = found.asked, found.box
    if box.terms > limit:
        raise NotASummation(
            f"each output adds {box.terms} products, more than the limit of {limit}: give a higher limit "
            "(limit=), or smaller arrays"
        )
    masks = Masks(asked, box)
    like_first = _like_first(masks)
    masks, tree = _revealed(masks, like_first)
    rows = _verified(masks, tree)
    alike = float(rows.sum() / box.rows * masks.alike.mean())
    return _reproduced(asked, masks.box, tree, np.asarray(output), rows, masks.alike, alike, samples)


def _best_box(asked: Prober, prefer: Sequence[str]) -> Box:
    """The terms by the operand that lets most be asked per call, unless one is preferred."""
    multiplied = [
        n for n, a in asked.plain.items() if a.dtype.kind == "f" and n not in asked.added and a.size
    ]
    reasons: list[str] = []
    found: list[Box] = []
    for name in sorted(multiplied, key=lambda n: prefer.index(n) if n in prefer else len(prefer)):
        try:
            found.append(find_box(asked, name))
        except NotASummation as error:
            reasons.append(str(error))
            continue
        if name in prefer:
            break
    if not found:
        raise NotASummation("; ".join(reasons[:2]) or "there is no floating-point array to replace")
    if found[-1].operand in prefer:
        return found[-1]
    # Parameters and later arguments are usually the weights, whose numbering reads best.
    return max(reversed(found), key=lambda box: min(box.rows, ENOUGH))


def _revealed(masks: Masks, rows: Array) -> tuple[Masks, SumTree]:
    """The tree, asked of the given rows together; of one alone where they contradict each other and that is cheap."""
    chosen = masks.restricted(rows)
    try:
        return chosen, reveal(masks.box.terms, chosen.sizes)
    except NotASummation:
        if chosen.box.rows == 1 or masks.box.terms > ALONE:
            raise
    alone = masks.restricted(np.arange(masks.box.rows) == 0)
    return alone, reveal(masks.box.terms, alone.sizes)


def _pairs(terms: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of terms to ask about: near ones, which tell unrolling and lanes, and far ones, which tell blocks."""
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    far = [(first, second) for first, second in (rng.sample(range(terms), 2) for _ in range(CHECKS))]
    near = []
    for distance in (1, 2, 3, 4, 8, 16):
        if distance < terms:
            start = rng.randrange(terms - distance)
            near.append((start, start + distance))
    return [*near, *far]


def _like_first(masks: Masks) -> Array:
    """Which rows answer a few questions as the first one does: libraries give the last rows of a matrix to other kernels."""
    alike = np.ones(masks.box.rows, bool)
    if masks.box.rows == 1:
        return alike
    for pair in _pairs(masks.box.terms, 0):
        answers = masks.answers([pair] * masks.box.rows)[:, masks.box.target]
        alike &= answers == answers[0]
    return alike


def _verified(masks: Masks, tree: SumTree) -> Array:
    """Ask about random pairs again, all rows the same; returns the rows that add in this order.

    Raises:
        NotASummation: not even the row that was asked first does.
    """
    chosen = _pairs(tree.terms, 1)
    rows = masks.rows_alike(chosen, [tree.span(first, second) for first, second in chosen])
    if not rows[0]:
        raise NotASummation(
            "not a plain summation: asked again, the computation answered differently; its order may depend on the "
            "output element or change from call to call"
        )
    return rows


def _reproduced(
    asked: Prober,
    box: Box,
    tree: SumTree,
    output: Array,
    rows: Array,
    columns: Array,
    alike: float,
    samples: int,
) -> Summation:
    """Evaluate the tree on the actual products in every plausible way; keep the best."""
    rng = np.random.default_rng(4)
    places = np.argwhere(rows[:, None] & columns[None, :])
    chosen = places[rng.permutation(len(places))[:samples]]
    real = products(asked, box, chosen[:, 0], chosen[:, 1])
    wanted = output.ravel()[real.outputs]
    biased = bool(np.any(real.bias))
    best, share = _best_variant(tree, real, wanted)
    words = best.words(tree) if best is not None else ""
    if np.all(real.values == 1):
        words = words.replace("fused multiply-add", "plain additions")
    return Summation(
        box.operand,
        tree,
        asked.calls,
        alike,
        best,
        words,
        share,
        int(wanted.size),
        biased,
        _deviation(tree, real, wanted),
        tuple(int(place) for place in box.relative),
    )


def _best_variant(tree: SumTree, real: Products, wanted: Array) -> tuple[Variant | None, float]:
    """The way of executing the tree that gives most outputs bit for bit, and their share.

    A few outputs are tried in every way first; a way that gives all of those is tried on the rest.
    """
    few = slice(0, FEW)
    best, most, share = None, -1.0, 0.0
    for variant in variants(tree, bool(np.any(real.bias))):
        tried = evaluate(tree, real.weights[:, few], real.values[:, few], variant, real.bias[few])
        equal = float(np.mean(tried == wanted[few]))
        if equal <= most:
            continue
        made = evaluate(tree, real.weights, real.values, variant, real.bias)
        best, most, share = variant, equal, float(np.mean(made == wanted))
        if share == 1.0:
            break
    return best, share


def _deviation(tree: SumTree, real: Products, wanted: Array) -> float:
    """The errors of the outputs over the errors that their order of summation leads to expect."""
    weights, values = real.weights.astype(np.float64), real.values.astype(np.float64)
    error = wanted.astype(np.float64) - ((weights * values).sum(axis=0) + real.bias)
    expected = np.hypot(sigma(tree, weights, values, rounded_products=True), SPREAD * UNIT * np.abs(wanted))
    z = np.divide(error, expected, out=np.where(error == 0, 0.0, np.inf), where=expected > 0)
    return float(np.sqrt(np.mean(np.square(z)))) if z.size else 0.0

"""Evaluating a sum of products in float32 in a given order, rounding as the hardware does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from porting_check.numerics.summation import SumTree

Array = np.ndarray

Mode = Literal["fma", "multiply-then-add", "float64 accumulator"]
MODES: tuple[Mode, ...] = ("fma", "multiply-then-add", "float64 accumulator")

UNIT = 2.0**-24
SPREAD = 0.42
"""Root mean square of one rounding in units of ``u * |partial sum|``, for log-uniform significands (NUMERICS, section 1)."""

PLACES = 16
"""How many places of a bias along the tree's main path are tried at most."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How a tree is executed, beyond the order.

    ``mode``: ``fma`` rounds product and addition once together, ``multiply-then-add`` rounds each, ``float64 accumulator``
    rounds at the end only. ``bias_at``: the id of the term or node to whose value the bias is added, ``None`` without one.
    ``higher_first``: of two terms added to each other, the higher one's product is rounded first (matters with FMA).
    """

    mode: Mode
    bias_at: int | None = None
    higher_first: bool = False

    def words(self, tree: SumTree) -> str:
        """In words.

        Example:
            >>> Variant("fma", 6).words(SumTree.of([[0, 1], [2, 3]]))
            'fused multiply-add, bias added last'
        """
        mode = {
            "fma": "fused multiply-add",
            "multiply-then-add": "multiply, round, then add",
            "float64 accumulator": "accumulated in float64",
        }[self.mode]
        if self.bias_at is None:
            return mode
        if self.bias_at == tree.root:
            return f"{mode}, bias added last"
        if self.bias_at < tree.terms:
            return f"{mode}, bias first"
        return f"{mode}, bias added after the first {tree.sizes[self.bias_at - tree.terms]} terms"


def fma32(first: Array, second: Array, addend: Array) -> Array:
    """``first * second + addend`` of float32 values, rounded once to float32.

    The product of two float32 numbers is exact in float64. The sum is rounded to odd in float64 (the exact error comes
    from Knuth's two-sum), after which rounding to float32 is correct, because float64 has more than two bits to spare
    (Boldo and Melquiond, 2008).

    Example:
        >>> one = np.float32(1 + 2**-12)
        >>> float(fma32(one, one, np.float32(-1))) == 2**-11 + 2**-24
        True
    """
    product = np.asarray(first, np.float64) * np.asarray(second, np.float64)
    return sum_to_float32(product, np.asarray(addend, np.float64))


def sum_to_float32(first: Array, second: Array) -> Array:
    """The sum of two float64 arrays rounded once to float32."""
    total = np.asarray(first + second)
    part = total - first
    lost = np.asarray((first - (total - part)) + (second - part))
    bits = np.array(total, ndmin=1).view(np.int64)
    lost = np.array(lost, ndmin=1)
    inexact = (lost != 0) & ((bits & 1) == 0) & np.isfinite(lost)
    away = (lost > 0) == (bits >= 0)
    bits = np.where(inexact, np.where(away, bits + 1, bits - 1), bits)
    with np.errstate(over="ignore"):
        return bits.view(np.float64).astype(np.float32).reshape(total.shape)


def fused_addition(addends: Array) -> Array:
    """Several addends at once, as tensor cores add them: aligned to the largest, cut off, added exactly, cut off to float32.

    A model of what Fasi et al. measured (PeerJ CS 7:e330, 2021: no normalisation in between, truncation); it has not been
    checked against a GPU here.

    Args:
        addends: float64, ``(parts, samples)``.

    Example:
        >>> fused_addition(np.array([[2.0**80], [1.0], [-(2.0**80)]]))
        array([0.], dtype=float32)
    """
    exponent = np.frexp(np.abs(addends).max(axis=0))[1]
    quantum = np.ldexp(1.0, exponent - 25)
    total = (np.trunc(addends / quantum) * quantum).sum(axis=0)
    made = total.astype(np.float32)
    over = np.abs(made.astype(np.float64)) > np.abs(total)
    return np.asarray(np.where(over, np.nextafter(made, np.float32(0)), made))


def evaluate(
    tree: SumTree, weights: Array, values: Array, variant: Variant, bias: Array | None = None
) -> Array:
    """Sum products in the tree's order.

    Args:
        tree: the order.
        weights: float32, ``(terms, samples)``.
        values: the other factors, of the same shape.
        variant: rounding, and where the bias goes.
        bias: ``(samples,)``, added where ``variant.bias_at`` says.

    Returns:
        float32, ``(samples,)``.

    Example:
        >>> tree = SumTree.of([[0, 1], 2])
        >>> ones = np.ones((3, 1), np.float32)
        >>> evaluate(tree, np.float32([[1], [2**-25], [2**-25]]), ones, Variant("fma"))
        array([1.], dtype=float32)
    """
    weights, values = np.asarray(weights, np.float32), np.asarray(values, np.float32)
    added = None if bias is None or variant.bias_at is None else np.asarray(bias, np.float32)
    return _Execution(tree, weights, values, variant, added).result()


class _Execution:
    """One evaluation: the value of every node, and of terms only where they are added."""

    def __init__(
        self, tree: SumTree, weights: Array, values: Array, variant: Variant, bias: Array | None
    ) -> None:
        self.tree, self.weights, self.values, self.variant, self.bias = tree, weights, values, variant, bias
        self.made: dict[int, Array] = {}
        self.wide = variant.mode == "float64 accumulator"

    def result(self) -> Array:
        if not self.tree.nodes:
            return self.term(0).astype(np.float32)
        for place, parts in enumerate(self.tree.nodes):
            node = self.tree.terms + place
            total = self.joined(parts)
            self.made[node] = self.with_bias(node, total)
        return self.made[self.tree.root].astype(np.float32)

    def joined(self, parts: tuple[int, ...]) -> Array:
        if len(parts) > 2 or self.wide or self.variant.mode == "multiply-then-add":
            return self.plainly(parts)
        first, second = self.ordered(parts)
        start = self.value(first)
        if second < self.tree.terms:
            return fma32(self.weights[second], self.values[second], start)
        return np.asarray(start + self.value(second))

    def plainly(self, parts: tuple[int, ...]) -> Array:
        """Without FMA; a fused addition of several parts takes their products unrounded."""
        if len(parts) == 2:
            return np.asarray(self.value(parts[0]) + self.value(parts[1]))
        addends = []
        for part in parts:
            unrounded = part < self.tree.terms and part != self.variant.bias_at
            product = (
                self.weights[part].astype(np.float64) * self.values[part] if unrounded else self.value(part)
            )
            addends.append(product.astype(np.float64))
        total = fused_addition(np.stack(addends))
        return total.astype(np.float64) if self.wide else total

    def ordered(self, parts: tuple[int, ...]) -> tuple[int, int]:
        """What an FMA accumulates onto, and what it multiplies: of a node and a term the node comes first."""
        first, second = parts
        terms = self.tree.terms
        if second >= terms:
            return second, first
        swap = first < terms and (
            second == self.variant.bias_at or (self.variant.higher_first and first != self.variant.bias_at)
        )
        return (second, first) if swap else (first, second)

    def value(self, node: int) -> Array:
        return self.made.pop(node) if node >= self.tree.terms else self.term(node)

    def term(self, term: int) -> Array:
        """A product by itself, with the bias where it starts there."""
        if self.wide:
            return self.with_bias(term, self.weights[term].astype(np.float64) * self.values[term])
        if self.bias is not None and term == self.variant.bias_at and self.variant.mode == "fma":
            return fma32(self.weights[term], self.values[term], self.bias)
        return self.with_bias(term, self.weights[term] * self.values[term])

    def with_bias(self, node: int, total: Array) -> Array:
        return total + self.bias if self.bias is not None and node == self.variant.bias_at else total


def variants(tree: SumTree, biased: bool) -> Iterator[Variant]:
    """The ways to execute a tree that are worth trying, likely ones first."""
    places: list[int | None] = list(_bias_places(tree)) if biased else [None]
    lower = [Variant(mode, place) for place in places for mode in MODES]
    yield from lower
    if any(all(part < tree.terms for part in parts) for parts in tree.nodes):
        for variant in lower:
            if variant.mode == "fma":
                yield Variant("fma", variant.bias_at, higher_first=True)


def _bias_places(tree: SumTree) -> list[int]:
    """Last, at the start, and at the joints of blocks on the way from the first term up."""
    joints, starts, node = [], [], tree.root
    while node >= tree.terms:
        parts = tree.nodes[node - tree.terms]
        node = parts[0]
        if node >= tree.terms and any(part >= tree.terms for part in parts[1:]):
            joints.append(node)
        if all(part < tree.terms for part in parts):
            starts = list(parts)
    return list(dict.fromkeys([tree.root, *starts, *reversed(joints[-PLACES:])]))


def sigma(tree: SumTree, weights: Array, values: Array, *, rounded_products: bool = False) -> Array:
    """The expected rounding error of a sum in this order: ``0.42 u sqrt(sum of squared partial sums)``.

    Source: NUMERICS, section 1 ("the scale this project adopts"). For any data, structured ones too.

    Args:
        tree: the order.
        weights: ``(terms, samples)``.
        values: the other factors, of the same shape.
        rounded_products: also count the rounding of each product (multiply-then-add).

    Returns:
        float64, ``(samples,)``, one standard deviation.
    """
    products = np.asarray(weights, np.float64) * np.asarray(values, np.float64)
    squares = np.square(products).sum(axis=0) if rounded_products else np.zeros(products.shape[1])
    made: dict[int, Array] = {}
    for place, parts in enumerate(tree.nodes):
        total = sum(products[part] if part < tree.terms else made.pop(part) for part in parts)
        made[tree.terms + place] = np.asarray(total)
        squares = squares + np.square(total)
    scaled: Array = SPREAD * UNIT * np.sqrt(squares)
    return scaled

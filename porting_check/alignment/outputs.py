"""Which output of the candidate is which output of the reference.

Names are the contract where both sides use the same ones, and so is the position where both number them. Exporters lose
names and order, so elsewhere the recorded values decide, where they single a pairing out; where only the position speaks,
the pairing is a guess and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

FAR = 0.5
"""Outputs that differ by more than this share of their spread are not taken for one another."""

CLEAR = 3.0
"""By how much the next best partner must differ more, for values to single out a pairing."""

SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class OutputPair:
    """An output of each side, by name.

    Attributes:
        how: what speaks for the pairing.
        doubt: why it may be another one; then a difference proves nothing.
        contradicted: whether the names say otherwise than the values.
        alike: the candidate's output whose values are the reference's, where that is another one.
    """

    reference: str
    candidate: str
    how: str
    doubt: str = ""
    contradicted: bool = False
    alike: str = ""


def pair_outputs(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], mapping: Mapping[str, str] | None = None
) -> list[OutputPair]:
    """Pair outputs: as declared, by equal names, by position where both sides number them, else by values.

    Args:
        ours: recorded arrays of the reference by name, in order.
        theirs: those of the candidate.
        mapping: names of the reference to names of the candidate.

    Returns:
        Pairs in the reference's order; outputs that are left over on one side are in none.

    Example:
        >>> one, two = np.arange(4.0), np.arange(4.0)[::-1]
        >>> [(p.reference, p.candidate) for p in pair_outputs({"a": one, "b": two}, {"x": two, "y": one})]
        [('a', 'y'), ('b', 'x')]
    """
    declared = {a: b for a, b in (mapping or {}).items() if a in ours and b in theirs}
    left = {name: array for name, array in ours.items() if name not in declared}
    right = {name: array for name, array in theirs.items() if name not in declared.values()}
    pairs = [OutputPair(a, b, "declared") for a, b in declared.items()]
    numbered = all(name.isdigit() for name in [*left, *right])
    if set(left) == set(right):
        how = "same position" if numbered else "same name"
        pairs += _told(left, right, [(name, name) for name in left], how)
    elif numbered:
        pairs += _told(left, right, list(zip(left, right, strict=False)), "same position")
    else:
        pairs += _by_values(left, right)
    place = {name: index for index, name in enumerate(ours)}
    return sorted(pairs, key=lambda pair: place[pair.reference])


def _told(
    left: Mapping[str, Array], right: Mapping[str, Array], pairs: Sequence[tuple[str, str]], how: str
) -> list[OutputPair]:
    """Pairs that follow from names or numbers; where values single out other ones, that is noted."""
    costs = _costs(left, right)
    if all(costs[pair] <= FAR for pair in pairs):
        return [OutputPair(a, b, how) for a, b in pairs]
    found, _ = _singled_out(costs, list(left), list(right))
    others = {a: b for (a, b) in found if costs[a, b] <= FAR}
    return [OutputPair(a, b, how, alike=others.get(a, b) if others.get(a, b) != b else "") for a, b in pairs]


def _by_values(left: Mapping[str, Array], right: Mapping[str, Array]) -> list[OutputPair]:
    """Pairs that values or sizes single out; what remains by position, which is a guess."""
    costs = _costs(left, right)
    found, rest = _singled_out(costs, list(left), list(right))
    pairs = [
        OutputPair(a, b, how, contradicted=_contradicted(a, b, left, right)) for (a, b), how in found.items()
    ]
    pairs = [_doubted(pair) if pair.contradicted else pair for pair in pairs]
    for a, b in _in_order(costs, *rest):
        fitting = [name for name in rest[1] if np.isfinite(costs[a, name])]
        doubt = ""
        if len(fitting) > 1:
            doubt = f"the outputs {', '.join(map(repr, fitting))} of the candidate have its size, and no values single one out"
        pairs.append(OutputPair(a, b, "position (a guess)" if doubt else "what is left", doubt))
    return pairs


def _contradicted(a: str, b: str, left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    """Whether one of two paired names is the name of another output on the other side."""
    return a != b and (a in right or b in left)


def _doubted(pair: OutputPair) -> OutputPair:
    doubt = f"the values pair {pair.reference!r} with {pair.candidate!r}, the names do not"
    return OutputPair(pair.reference, pair.candidate, pair.how, doubt, contradicted=True)


def _in_order(
    costs: Mapping[tuple[str, str], float], left: Sequence[str], right: Sequence[str]
) -> list[tuple[str, str]]:
    """Outputs that nothing singled out, in order: each with the first one of its size, if there is one."""
    free, pairs = list(right), []
    for a in left:
        fitting = [b for b in free if np.isfinite(costs[a, b])]
        if fitting:
            pairs.append((a, fitting[0]))
            free.remove(fitting[0])
    unpaired = [a for a in left if a not in dict(pairs)]
    return pairs + list(zip(unpaired, free, strict=False))


def _singled_out(
    costs: Mapping[tuple[str, str], float], left: list[str], right: list[str]
) -> tuple[dict[tuple[str, str], str], tuple[list[str], list[str]]]:
    """Pairs of which each is clearly the other's best, found one after another; and the names that remain."""
    found: dict[tuple[str, str], str] = {}
    left, right = list(left), list(right)
    while True:
        chosen = next(
            (((a, b), how) for a in left for b in right if (how := _clear(costs, a, b, left, right))), None
        )
        if chosen is None:
            return found, (left, right)
        found[chosen[0]] = chosen[1]
        left.remove(chosen[0][0])
        right.remove(chosen[0][1])


def _clear(
    costs: Mapping[tuple[str, str], float], a: str, b: str, left: Sequence[str], right: Sequence[str]
) -> str:
    """What singles out a pair among those that remain; "" when nothing does."""
    cost = costs[a, b]
    others = [costs[a, name] for name in right if name != b] + [costs[name, b] for name in left if name != a]
    nearest = min(others, default=float("inf"))
    if not np.isfinite(cost):
        return ""
    if cost <= FAR and nearest > CLEAR * cost:
        return "same values" if np.isfinite(nearest) else "same values, the only one of its size"
    return "" if np.isfinite(nearest) else "the only one of its size"


def _costs(left: Mapping[str, Array], right: Mapping[str, Array]) -> dict[tuple[str, str], float]:
    return {(a, b): apart(left[a], right[b]) for a in left for b in right}


def apart(one: Array, other: Array) -> float:
    """How far two tensors are apart, in units of their spread, in the order of axes that fits best.

    Root mean square over random elements; infinite when no order of axes makes the shapes equal.

    Example:
        >>> apart(np.eye(3), np.eye(3)), apart(np.eye(3), np.ones(4))
        (0.0, inf)
    """
    if sorted(one.shape) != sorted(other.shape):
        return float("inf")
    rng = np.random.default_rng(0)
    index = [rng.integers(0, size, SAMPLES) if size else np.zeros(0, int) for size in one.shape]
    if not one.size:
        return 0.0
    orders: list[tuple[int, ...]] = [tuple(range(one.ndim))]
    if one.ndim <= 5:
        orders = [p for p in itertools.permutations(range(one.ndim)) if _fits(one, other, p)]
    left = _real(one[tuple(index)])
    distances = [_distance(left, _real(other[tuple(index[axis] for axis in order)])) for order in orders]
    return min(distances, default=float("inf"))


def _fits(one: Array, other: Array, order: Sequence[int]) -> bool:
    return tuple(one.shape[axis] for axis in order) == other.shape


def _real(values: Array) -> Array:
    return np.abs(values) if values.dtype.kind == "c" else np.asarray(values, np.float64)


def _distance(one: Array, other: Array) -> float:
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 1e9
    gap = float(np.sqrt(np.mean(np.square(one - other))))
    spread = max(float(np.std(one)), float(np.std(other)))
    if gap == 0.0:
        return 0.0
    return gap / spread if spread > 0 else 1e9

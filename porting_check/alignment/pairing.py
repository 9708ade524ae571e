"""Pairing: which value of the reference is which value of the candidate.

Values are matched, not layers: a matched value cuts both graphs at the same place, and what lies between two cuts
(:mod:`regions`) is compared, however many operators each side needs for it. Evidence, strongest first: the same numbers
came out; the same weights went in; the names agree (where names prove right); the neighbours are matched; the order of
execution (a guess, and shown as one).
No match can make a wrong port pass: what lies between the cuts is judged afterwards as a function.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from porting_check.alignment.families import family
from porting_check.alignment.fingerprint import Signature, signature, weight_hash
from porting_check.alignment.idioms import idioms, whole
from porting_check.alignment.marks import by_marks
from porting_check.neutral.graph import Graph, Step

NEAR = 1e-4
"""Signature distance below which two outputs count as the same numbers."""

WEIGHTS, VALUES, MARKS, GRAPH, ORDER, MAPPING = (
    "same weights",
    "same values",
    "same name",
    "neighbours",
    "position (a guess)",
    "given mapping",
)


@dataclass(slots=True)
class Features:
    """What is known of one compute step for pairing."""

    step: Step
    operator: str
    family: str
    weights: str
    size: int
    output: Signature | None
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


@dataclass(slots=True)
class Pairing:
    """Matched compute steps, and by what evidence; from reference step index to candidate step index."""

    pairs: dict[int, int] = field(default_factory=dict)
    evidence: dict[int, list[str]] = field(default_factory=dict)

    def add(self, reference: int, candidate: int, *why: str) -> None:
        """Match two steps, once."""
        self.pairs[reference] = candidate
        self.evidence.setdefault(reference, []).extend(why)

    @property
    def matched(self) -> set[int]:
        """Candidate steps that are taken."""
        return set(self.pairs.values())


def features(graph: Graph) -> dict[int, Features]:
    """The features of every compute step (movement is skipped: it is judged with what consumes it)."""
    hashes: dict[str, str] = {}
    found: dict[int, Features] = {}
    stands, parts = idioms(graph)
    for step in graph.steps:
        fed = any(operand.key in graph.fed for operand in step.outputs)
        if step.movement or step.index in parts or not fed:
            continue
        hashed, size = _weights(graph, whole(graph, step), hashes)
        name = stands.get(step.index) or (step.node.op_type if step.node else "opaque")
        kind = "activation" if step.index in stands else family(step)
        found[step.index] = Features(step, name, kind, hashed, size, _sketch(graph, step))
    _neighbours(graph, found)
    return found


def _sketch(graph: Graph, step: Step) -> Signature | None:
    array = graph.array(step.outputs[0].key) if step.outputs else None
    return None if array is None or array.size == 0 else signature(array)


def _weights(graph: Graph, step: Step, hashes: dict[str, str]) -> tuple[str, int]:
    """Hash and size of the largest parameter that reaches a step, through movement; "" and 0 without one of two elements."""
    best = ""
    size = 1
    for operand in step.inputs:
        for key in _parameters_behind(graph, operand.key):
            array = graph.array(key)
            if array is not None and array.size > size:
                hashes.setdefault(key, weight_hash(array))
                best, size = hashes[key], array.size
    return best, size if best else 0


def _parameters_behind(graph: Graph, key: str) -> list[str]:
    if key.startswith("parameter:"):
        return [key]
    if not key or key in graph.fed or key not in graph.producer:
        return []
    steps = graph.between(key, ())[0]
    return [o.key for i in steps for o in graph.steps[i].inputs if o.key.startswith("parameter:")]


def _neighbours(graph: Graph, found: Mapping[int, Features]) -> None:
    """The nearest compute steps before and after each one, through movement; -1 stands for a model input."""
    sources: dict[str, tuple[int, ...]] = {port.value: (-1 - n,) for n, port in enumerate(graph.trace.inputs)}
    after: dict[int, list[int]] = defaultdict(list)
    for step in graph.steps:
        before = tuple(dict.fromkeys(s for o in step.inputs for s in sources.get(o.key, ())))
        if step.index in found:
            found[step.index].before = before
            for index in before:
                after[index].append(step.index)
            before = (step.index,)
        for operand in step.outputs:
            sources[operand.key] = before
    for index, item in found.items():
        item.after = tuple(after[index])


def pair(reference: Graph, candidate: Graph, mapping: Mapping[str, str] | None = None) -> Pairing:
    """Match the compute steps of two graphs.

    Args:
        reference: the reference's graph.
        candidate: the candidate's graph.
        mapping: record ids of the reference to record ids of the candidate that the user declares to be the same.

    Example:
        >>> pair(Graph(keras_trace), Graph(torch_trace)).pairs     # doctest: +SKIP
        {0: 0, 1: 1, 3: 2}
    """
    left, right = features(reference), features(candidate)
    pairing = Pairing()
    _by_mapping(reference, candidate, left, right, mapping or {}, pairing)
    _by_buckets(left, right, pairing, lambda f: (f.weights, f.family) if f.weights else None, close=True)
    _by_values(left, right, pairing)
    _by_buckets(left, right, pairing, lambda f: (f.weights, f.family) if f.weights else None, close=False)
    for one, other in by_marks(reference, candidate, left, right, pairing.pairs):
        pairing.add(one, other, MARKS)
    while _by_neighbours(left, right, pairing) or _by_order(left, right, pairing):
        pass
    return pairing


def _by_mapping(
    reference: Graph,
    candidate: Graph,
    left: Mapping[int, Features],
    right: Mapping[int, Features],
    mapping: Mapping[str, str],
    pairing: Pairing,
) -> None:
    for name, partner in mapping.items():
        ours = [i for i in left if reference.record_of(left[i].step).id == name]
        theirs = [i for i in right if candidate.record_of(right[i].step).id == partner]
        if len(ours) == len(theirs):
            for one, other in zip(ours, theirs, strict=True):
                pairing.add(one, other, MAPPING)
        elif ours and theirs:
            pairing.add(ours[-1], theirs[-1], MAPPING)


def _free(items: Mapping[int, Features], taken: Iterable[int]) -> list[Features]:
    closed = set(taken)
    return [item for index, item in items.items() if index not in closed]


def _by_buckets(
    left: Mapping[int, Features],
    right: Mapping[int, Features],
    pairing: Pairing,
    key: Callable[[Features], object | None],
    *,
    close: bool,
) -> None:
    """Match steps whose key occurs equally often on both sides; in execution order when it occurs more than once."""
    buckets: dict[object, tuple[list[Features], list[Features]]] = defaultdict(lambda: ([], []))
    for side, items in ((0, _free(left, pairing.pairs)), (1, _free(right, pairing.matched))):
        for item in items:
            name = key(item)
            if name is not None:
                buckets[name][side].append(item)
    for ours, theirs in buckets.values():
        if len(ours) != len(theirs):
            continue
        for one, other in zip(ours, theirs, strict=True):
            near = _distance(one, other) < NEAR
            if near or not close:
                guess = [ORDER] if len(ours) > 1 and not near else []
                pairing.add(one.step.index, other.step.index, WEIGHTS, *([VALUES] if near else []), *guess)


def _distance(one: Features, other: Features) -> float:
    if one.output is None or other.output is None or one.output.flat or other.output.flat:
        return float("inf")
    return one.output.distance(other.output)


def _by_values(left: Mapping[int, Features], right: Mapping[int, Features], pairing: Pairing) -> None:
    """Match steps whose outputs hold the same numbers, the same operator before another one, in execution order."""
    by_size: dict[int, list[Features]] = defaultdict(list)
    for item in _free(right, pairing.matched):
        if item.output is not None and not item.output.flat:
            by_size[item.output.size].append(item)
    for one in _free(left, pairing.pairs):
        if one.output is None or one.output.flat:
            continue
        near = [other for other in by_size[one.output.size] if _distance(one, other) < NEAR]
        near = [other for other in near if other.step.index not in pairing.matched]
        best = (
            [o for o in near if o.operator == one.operator]
            or [o for o in near if o.family == one.family]
            or near[-1:]
        )
        if best:
            pairing.add(one.step.index, best[0].step.index, VALUES)


def _by_neighbours(left: Mapping[int, Features], right: Mapping[int, Features], pairing: Pairing) -> bool:
    """Match steps of a family whose compute neighbours before (or after) are matched; whether anything was found.

    Several steps with the same neighbours (the heads of a network) are told apart by their operator, by the sizes of
    their weights and outputs, and last by order.
    """
    found = False
    for direction in ("before", "after"):
        groups: dict[object, tuple[list[Features], list[Features]]] = defaultdict(lambda: ([], []))
        for one in _free(left, pairing.pairs):
            around = tuple(_partner(i, pairing) for i in getattr(one, direction))
            if around and None not in around:
                groups[around, one.family][0].append(one)
        for other in _free(right, pairing.matched):
            if (getattr(other, direction), other.family) in groups:
                groups[getattr(other, direction), other.family][1].append(other)
        for ours, theirs in groups.values():
            found = _tell_apart(ours, theirs, pairing) or found
    return found


_DISTINCTIONS: tuple[Callable[[Features], object], ...] = (
    lambda item: (item.operator, item.size, item.output.size if item.output else 0),
    lambda item: (item.operator, item.size),
    lambda item: item.operator,
    lambda item: item.size,
    lambda item: 0,
)


def _tell_apart(ours: list[Features], theirs: list[Features], pairing: Pairing) -> bool:
    """Match within a group of steps that have the same neighbours, by ever coarser distinctions."""
    found = False
    for distinction in _DISTINCTIONS:
        left, right = (
            _grouped(ours, distinction, pairing.pairs),
            _grouped(theirs, distinction, pairing.matched),
        )
        for key in left.keys() & right.keys():
            if len(left[key]) != len(right[key]):
                continue
            for one, other in zip(left[key], right[key], strict=True):
                pairing.add(one.step.index, other.step.index, GRAPH, *([ORDER] if len(left[key]) > 1 else []))
                found = True
    return found


def _grouped(
    items: list[Features], distinction: Callable[[Features], object], taken: Iterable[int]
) -> dict[object, list[Features]]:
    groups: dict[object, list[Features]] = defaultdict(list)
    closed = set(taken)
    for item in items:
        if item.step.index not in closed:
            groups[distinction(item)].append(item)
    return groups


def _partner(index: int, pairing: Pairing) -> int | None:
    return index if index < 0 else pairing.pairs.get(index)


def _by_order(left: Mapping[int, Features], right: Mapping[int, Features], pairing: Pairing) -> bool:
    """Between two matched steps, match the longest common run of operators in execution order (one gap at a time)."""
    anchors = sorted(pairing.pairs.items())
    inverse = {c: r for r, c in anchors}
    ends = [*anchors, (1 << 62, 1 << 62)]
    start = (-1, -1)
    for end in ends:
        ours = [i for i in left if start[0] < i < end[0] and i not in pairing.pairs]
        theirs = [i for i in right if start[1] < i < end[1] and i not in inverse]
        if end[1] > start[1]:
            if ours and theirs and _align(ours, theirs, left, right, pairing):
                return True
            start = end
    return False


_NAMES: tuple[Callable[[Features], str], ...] = (lambda item: item.operator, lambda item: item.family)


def _align(
    ours: list[int],
    theirs: list[int],
    left: Mapping[int, Features],
    right: Mapping[int, Features],
    pairing: Pairing,
) -> bool:
    for naming in _NAMES:
        names = [naming(left[i]) for i in ours], [naming(right[i]) for i in theirs]
        matcher = difflib.SequenceMatcher(None, *names, autojunk=False)
        blocks = [block for block in matcher.get_matching_blocks() if block.size]
        for block in blocks:
            for offset in range(block.size):
                pairing.add(ours[block.a + offset], theirs[block.b + offset], ORDER)
        if blocks:
            return True
    return False

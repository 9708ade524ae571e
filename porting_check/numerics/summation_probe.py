"""Finding the sum of products inside a black box, and asking it about the order of its additions.

A computation is a function of named arrays (arguments and parameters). Nothing is known of it but its outputs: which
elements of an array a given output adds up is found with 0/1 masks, and proven by counting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from porting_check.numerics.summation import NotASummation, Pairs

Array = np.ndarray
Operands = Mapping[str, Array]
Call = Callable[[Operands], Array]
"""The computation in float32: arrays by name in, its output out. Must be deterministic."""

MASK = 2.0**80
"""So large that adding any count of ones changes nothing, and finite in float32, bfloat16 and TF32."""

LIMIT = 4096
"""Terms of a sum that is still revealed, unless asked otherwise; more takes minutes."""


@dataclass(frozen=True)
class Box:
    """The terms of the outputs, as elements of one operand.

    Attributes:
        operand: its name.
        shape: its shape.
        relative: flat positions (C order) of the terms of row 0; term k of row r is ``relative[k] + offsets[r]``.
        offsets: one per row.
        outputs: ``(rows, columns)`` flat positions in the output; the outputs of one row add up the same elements of the
            operand, with other factors.
        target: the column that is asked.
    """

    operand: str
    shape: tuple[int, ...]
    relative: Array
    offsets: Array
    outputs: Array
    target: int = 0

    @property
    def terms(self) -> int:
        """How many products an output adds."""
        return int(self.relative.size)

    @property
    def rows(self) -> int:
        """How many groups of outputs add disjoint elements, hence can be asked in one call."""
        return int(self.offsets.size)


@dataclass
class Prober:
    """A computation made ready for probing: everything that is multiplied is one, everything that is added zero.

    Attributes:
        call: the computation.
        operands: the actual arrays.
        added: names of what is added as it is (a bias).
        calls: how often the computation was called.
    """

    call: Call
    operands: Operands
    added: tuple[str, ...] = ()
    calls: int = 0
    plain: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plain = {
            name: array
            if array.dtype.kind != "f"
            else np.full(array.shape, 0 if name in self.added else 1, np.float32)
            for name, array in self.operands.items()
        }

    def ask(self, **changed: Array) -> Array:
        """The output, flat in float64, with some arrays in place of ones."""
        return self.ask_with(changed)

    def ask_with(self, changed: Mapping[str, Array]) -> Array:
        """Like :meth:`ask`, for any names."""
        self.calls += 1
        with np.errstate(all="ignore"):
            return np.asarray(self.call({**self.plain, **changed}), np.float64).ravel()

    def zeros(self) -> dict[str, Array]:
        """Zero for every floating array."""
        return {name: np.zeros_like(array) for name, array in self.plain.items() if array.dtype.kind == "f"}


def prober(call: Call, operands: Operands) -> Prober:
    """Find what is added and what is multiplied.

    An array that gives an output while all others are zero is added. Where that holds for all of them (a plain sum of its
    arguments), nothing is taken as a bias.
    """
    made = Prober(call, operands)
    rng = np.random.default_rng(0)
    floating = [name for name, array in operands.items() if array.dtype.kind == "f" and array.size]
    nothing = made.zeros()
    added = []
    for name in floating:
        values = rng.integers(1, 9, operands[name].shape).astype(np.float32)
        if np.any(made.ask_with({**nothing, name: values})):
            added.append(name)
    if len(added) == len(floating):
        return made
    return Prober(call, operands, tuple(added), made.calls)


def find_box(asked: Prober, operand: str) -> Box:
    """Which elements of an operand each output adds up.

    With a mask of zeros and ones in place of the operand, and ones elsewhere, an output counts its terms under the mask.
    Binary search along each axis gives the smallest box around the terms of one output; a box with as many elements as
    there are terms is the set of terms. Outputs whose boxes are that box moved along an axis are checked all at once, with
    random labels.

    Raises:
        NotASummation: outputs that are not counts, nothing to add, terms that are no box.
    """
    shape = asked.plain[operand].shape
    counts = asked.ask_with({})
    _check_linear(asked, operand, counts)
    terms = int(counts.max(initial=0))
    if terms < 2:
        raise NotASummation(f"each output depends on one element of {operand!r} at most: nothing is added up")
    full = np.flatnonzero(counts == terms)
    target = int(full[len(full) // 2])
    bounds = [_bounds(asked, operand, axis, target, terms) for axis in range(len(shape))]
    volume = math.prod(stop - start for start, stop in bounds)
    if volume != terms:
        raise NotASummation(
            f"the {terms} terms of an output are no box of {operand!r} (the smallest box has {volume} elements)"
        )
    return _rows(asked, operand, bounds, full, target)


def _check_linear(asked: Prober, operand: str, counts: Array) -> None:
    """Counts must be whole numbers, and the computation linear in the operand on small integers."""
    if not np.isfinite(counts).all() or (counts < 0).any() or (counts != np.round(counts)).any():
        raise NotASummation(
            f"with ones in place of all arrays the output is no count of terms of {operand!r} (found "
            f"{float(counts[0]):.4g}): its other factors are held inside the computation (pass them as arguments), or it "
            "scales its result"
        )
    rng = np.random.default_rng(1)
    shape = asked.plain[operand].shape
    first, second = (rng.integers(-4, 5, shape).astype(np.float32) for _ in range(2))
    whole = asked.ask_with({operand: first + second})
    if not np.array_equal(
        whole, asked.ask_with({operand: first}) + asked.ask_with({operand: second})
    ) or np.any(asked.ask_with({operand: np.zeros(shape, np.float32)})):
        raise NotASummation(f"it is not linear in {operand!r}, or not exact on small integers")


def _bounds(asked: Prober, operand: str, axis: int, target: int, terms: int) -> tuple[int, int]:
    """The smallest range of indices along an axis that holds all terms of the target."""
    shape = asked.plain[operand].shape

    def below(stop: int) -> int:
        mask = np.zeros(shape, np.float32)
        mask[(slice(None),) * axis + (slice(0, stop),)] = 1
        return int(asked.ask_with({operand: mask})[target])

    size = shape[axis]
    start = _first(lambda index: below(index + 1) > 0, size) if size > 1 else 0
    stop = _first(lambda index: below(index) == terms, size + 1) if size > 1 else 1
    return start, stop


def _first(holds: Callable[[int], bool], size: int) -> int:
    """The lowest index for which a monotone condition holds; it does for the last one."""
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _rows(asked: Prober, operand: str, bounds: Sequence[tuple[int, int]], full: Array, target: int) -> Box:
    """Outputs whose terms are the target's box moved along the axes on which it has one index."""
    shape = asked.plain[operand].shape
    single = [axis for axis, (start, stop) in enumerate(bounds) if stop - start == 1 and shape[axis] > 1]
    moved = np.zeros((len(single), full.size), np.int64)
    pure = np.ones(full.size, bool)
    terms = math.prod(stop - start for start, stop in bounds)
    for place, axis in enumerate(single):
        for bit in range(int(shape[axis] - 1).bit_length()):
            code = (np.arange(shape[axis]) >> bit & 1).astype(np.float32)
            mask = np.broadcast_to(code.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)
            found = asked.ask_with({operand: np.ascontiguousarray(mask)})[full]
            pure &= (found == 0) | (found == terms)
            moved[place] += (found == terms).astype(np.int64) << bit
    return _grouped(asked, operand, bounds, single, full, np.where(pure, moved, -1), target)


def _grouped(
    asked: Prober,
    operand: str,
    bounds: Sequence[tuple[int, int]],
    single: Sequence[int],
    full: Array,
    moved: Array,
    target: int,
) -> Box:
    """Rows of outputs by their place along the single axes, the target's row first."""
    shape = asked.plain[operand].shape
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    ranges = [np.arange(start, stop) * stride for (start, stop), stride in zip(bounds, strides, strict=True)]
    relative = np.zeros(1, np.int64)
    for steps in ranges:
        relative = (relative[:, None] + steps[None, :]).ravel()
    offset = np.zeros(full.size, np.int64)
    for place, axis in enumerate(single):
        offset += (moved[place] - bounds[axis][0]) * strides[axis]
    labels = np.ones(int(np.prod(shape)), np.float32)
    valid = (moved >= 0).all(axis=0)
    starts = np.unique(offset[valid])
    ceiling = max(2, min(4093, 2**24 // relative.size))
    marks = np.random.default_rng(2).integers(1, ceiling, starts.size)
    for start, mark in zip(starts, marks, strict=True):
        labels[relative + start] = mark
    found = asked.ask_with({operand: labels.reshape(shape)})[full]
    expected = marks[np.searchsorted(starts, np.where(valid, offset, starts[0]))] * relative.size
    valid &= found == expected
    if not valid[full == target].all():
        raise NotASummation(f"the terms of one output could not be told apart in {operand!r}")
    return _box(asked, operand, relative, full[valid], offset[valid], target)


def _box(asked: Prober, operand: str, relative: Array, outputs: Array, offset: Array, target: int) -> Box:
    """Rows of equal length; shorter or longer ones than the target's are left out."""
    ordered = np.argsort(offset, kind="stable")
    starts, first = np.unique(offset[ordered], return_index=True)
    parts = np.split(outputs[ordered], first[1:])
    rows = {int(start): members for start, members in zip(starts, parts, strict=True)}
    width = rows[0].size
    kept = [0, *[start for start, members in rows.items() if start != 0 and members.size == width]]
    table = np.stack([rows[start] for start in kept])
    column = int(np.flatnonzero(table[0] == target)[0])
    return Box(operand, asked.plain[operand].shape, relative, np.array(kept), table, column)


class Masks:
    """Answers the questions of FPRev for one box, as many per call as it has rows."""

    def __init__(self, asked: Prober, box: Box) -> None:
        self.asked, self.box = asked, box
        self.alike = np.ones(box.outputs.shape[1], bool)

    def sizes(self, pairs: Pairs) -> list[int]:
        """For each pair of terms the size of the smallest subtree that holds both.

        Raises:
            NotASummation: an answer that no sum can give.
        """
        found: list[int] = []
        for start in range(0, len(pairs), self.box.rows):
            chunk = pairs[start : start + self.box.rows]
            answers = self.answers(chunk)
            target = answers[:, self.box.target]
            self.alike &= (answers == target[:, None]).all(axis=0)
            found += [self.box.terms - int(value) for value in target]
        return found

    def answers(self, chunk: Pairs) -> Array:
        """Outputs ``(len(chunk), columns)``, one pair per row of outputs."""
        box = self.box
        operand = np.ones(math.prod(box.shape), np.float32)
        for row, (first, second) in enumerate(chunk):
            operand[box.relative[first] + box.offsets[row]] = MASK
            operand[box.relative[second] + box.offsets[row]] = -MASK
        flat = self.asked.ask_with({box.operand: operand.reshape(box.shape)})
        answers = flat[box.outputs[: len(chunk)]]
        target = answers[:, box.target]
        if not np.isfinite(target).all() or (target < 0).any() or (target != np.round(target)).any():
            raise NotASummation(
                "not a plain summation: a large number and its negative leave a rest that is no count "
                "(Winograd and FFT convolutions and low-precision accumulators do so)"
            )
        return np.asarray(answers)

    def restricted(self, rows: Array) -> Masks:
        """The same questions, asked of some rows only."""
        box = replace(self.box, offsets=self.box.offsets[rows], outputs=self.box.outputs[rows])
        return Masks(self.asked, box)

    def rows_alike(self, pairs: Pairs, spans: Sequence[int]) -> Array:
        """For each row, whether its outputs answer these pairs with these sizes."""
        alike = np.ones(self.box.rows, bool)
        for pair, span in zip(pairs, spans, strict=True):
            answers = self.answers([pair] * self.box.rows)[:, self.box.target]
            alike &= answers == self.box.terms - span
        return alike


@dataclass(frozen=True)
class Products:
    """The actual products of a sample of outputs.

    ``weights`` and ``values`` are float32 of shape ``(terms, samples)``; ``bias`` is ``(samples,)``; ``outputs`` are flat
    positions in the output.
    """

    weights: Array
    values: Array
    bias: Array
    outputs: Array


def products(asked: Prober, box: Box, rows: Array, columns: Array) -> Products:
    """Read the actual factors of some outputs out of the computation, exactly.

    A single one in place of the operand lets one factor through: ``1 * v + 0 + …``. Where all rows have the same factors
    (tested on random integers) each row lets another one through, so that ``terms / rows`` calls are enough.

    Args:
        asked: the computation.
        box: its terms.
        rows: of the outputs to read.
        columns: of the outputs to read, as many.
    """
    actual = {name: np.asarray(array) for name, array in asked.operands.items()}
    off = {name: np.zeros_like(actual[name]) for name in asked.added if name != box.operand}
    values = _shared(asked, box, {**actual, **off}) if box.rows > 1 and _common(asked, box) else None
    if values is None:
        values = _each(asked, box, {**actual, **off}, rows, columns)
    else:
        values = values[:, columns]
    weights = actual[box.operand].ravel()[box.relative[:, None] + box.offsets[rows][None, :]]
    outputs = box.outputs[rows, columns]
    nothing = np.zeros(box.shape, np.float32)
    bias = asked.ask_with({**actual, box.operand: nothing})[outputs]
    return Products(weights.astype(np.float32), values.astype(np.float32), bias.astype(np.float32), outputs)


def _common(asked: Prober, box: Box) -> bool:
    """Whether all rows multiply their terms with the same factors."""
    rng = np.random.default_rng(3)
    others = {
        name: rng.integers(-8, 9, array.shape).astype(np.float32)
        for name, array in asked.plain.items()
        if array.dtype.kind == "f" and name != box.operand and name not in asked.added
    }
    operand = np.zeros(math.prod(box.shape), np.float32)
    operand[box.relative[:, None] + box.offsets[None, :]] = rng.integers(-8, 9, (box.terms, 1))
    found = asked.ask_with({**others, box.operand: operand.reshape(box.shape)})[box.outputs]
    return bool((found == found[:1]).all())


def _shared(asked: Prober, box: Box, arrays: Operands) -> Array:
    """Factors ``(terms, columns)``, as many terms per call as there are rows."""
    found = np.empty((box.terms, box.outputs.shape[1]))
    for start in range(0, box.terms, box.rows):
        count = min(box.rows, box.terms - start)
        operand = np.zeros(math.prod(box.shape), np.float32)
        operand[box.relative[start : start + count] + box.offsets[:count]] = 1
        flat = asked.ask_with({**arrays, box.operand: operand.reshape(box.shape)})
        found[start : start + count] = flat[box.outputs[:count]]
    return found


def _each(asked: Prober, box: Box, arrays: Operands, rows: Array, columns: Array) -> Array:
    """Factors ``(terms, samples)``, one term per call."""
    found = np.empty((box.terms, rows.size))
    wanted = box.outputs[rows, columns]
    for term in range(box.terms):
        operand = np.zeros(math.prod(box.shape), np.float32)
        operand[box.relative[term] + box.offsets] = 1
        found[term] = asked.ask_with({**arrays, box.operand: operand.reshape(box.shape)})[wanted]
    return found

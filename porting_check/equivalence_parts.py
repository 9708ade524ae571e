"""The parts of an equivalence: runs in both precisions, the four experiments, the orders of summation, the gradients."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from porting_check.calling import Arrays, Computation
from porting_check.equivalence_verdict import U32, Side, on_float32_grid
from porting_check.neutral.errors import InputError, PortingError, RunError, Unsupported
from porting_check.numerics.summation import NotASummation
from porting_check.numerics.summation_order import Summation, locate, summation
from porting_check.numerics.summation_units import Sums, sums
from porting_check.report.equivalence_result import Experiment, Histogram, Order

Array = np.ndarray

BINS = 21

FEWEST = 8
"""Elements below which a histogram shows nothing."""
MOST_AXES = 5
PERTURBED = 8
"""Float64 runs with rounded inputs that measure how a computation answers to rounding (NUMERICS, section 1.1: 8 to 12)."""

LIKELY = 1.7
"""Largest deviation of a revealed order's errors from what it predicts (measured: 0.39 to 0.49 over 0.42, so up to 1.2)."""


@dataclass
class Runs:
    """One side's runs.

    ``missing`` says why there is no float64, ``seconds`` is the faster of two float32 runs, ``notes`` what was odd.
    """

    computation: Computation
    single: Array
    double: Array | None = None
    missing: str = ""
    seconds: float = 0.0
    outputs: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Its name and framework."""
        return f"{self.computation.name} ({self.computation.framework})"


def operands(computation: Computation, inputs: Arrays) -> dict[str, Array]:
    """All arrays that can be replaced: arguments, and parameters of a model."""
    return {**inputs, **computation.parameters()}


def run(side: Computation, inputs: Arrays) -> Runs:
    """Run a side twice in float32 and once in float64.

    Raises:
        RunError: it raised, or gave nothing.
    """
    started = time.perf_counter()
    first = side.outputs(inputs)
    middle = time.perf_counter()
    again = side.outputs(inputs)
    seconds = min(middle - started, time.perf_counter() - middle)
    if not first:
        raise RunError(f"{side.name} returned no array")
    made = Runs(side, joined(first), seconds=seconds, outputs=len(first))
    if not np.array_equal(made.single, joined(again), equal_nan=made.single.dtype.kind in "fc"):
        made.notes.append(f"{made.label} gives other bits each time it is called")
    try:
        made.double = joined(side.outputs(inputs, float64=True)).astype(np.float64)
    except (Unsupported, RunError) as error:
        made.missing = str(error)
    return made


def joined(outputs: Mapping[str, Array]) -> Array:
    """The output; several ones end to end."""
    arrays = list(outputs.values())
    return arrays[0] if len(arrays) == 1 else np.concatenate([array.ravel() for array in arrays])


def without_islands(reference: Runs, candidate: Runs, inputs: Arrays) -> None:
    """Drop a float64 result that was computed in float32 inside.

    A side is suspected where the two float64 results differ and all its values are float32 numbers. It is convicted where
    they still are for inputs that are none themselves.
    """
    pair = (reference.double, candidate.double)
    if pair[0] is None or pair[1] is None or np.array_equal(pair[0], pair[1], equal_nan=True):
        return
    for side in (reference, candidate):
        if side.double is None or not _fractions_on_grid(side.double):
            continue
        moved = perturbed(inputs, np.random.default_rng(8))
        try:
            again = joined(side.computation.outputs(moved, float64=True)).astype(np.float64)
        except PortingError:
            continue
        if _fractions_on_grid(again):
            side.missing = (
                "asked for float64, it computed in float32 inside (every value is a float32 number)"
            )
            side.notes.append(f"{side.label}: {side.missing}")
            side.double = None


def _fractions_on_grid(array: Array) -> bool:
    """Whether all values are float32 numbers, and not only whole ones, which any precision gives."""
    finite = array[np.isfinite(array)]
    return on_float32_grid(array) and not np.array_equal(finite, np.round(finite))


def experiments(reference: Runs, candidate: Runs) -> dict[str, Experiment]:
    """Both precisions on each side, in all four combinations."""
    found = {}
    for first, second in (
        ("float32", "float32"), ("float64", "float64"), ("float32", "float64"), ("float64", "float32"),
    ):  # fmt: skip
        name = f"{first}|{second}"
        one, two = (
            side.double if kind == "float64" else side.single
            for side, kind in ((reference, first), (candidate, second))
        )
        if one is None or two is None:
            missing = "; ".join(
                f"{side.label}: {side.missing}"
                for side, kind in ((reference, first), (candidate, second))
                if kind == "float64" and side.double is None
            )
            found[name] = Experiment(name=name, reference=first, candidate=second, missing=missing)
        else:
            found[name] = _experiment(name, first, second, one, two)
    return found


def _experiment(name: str, first: str, second: str, one: Array, two: Array) -> Experiment:
    if one.shape != two.shape:
        missing = f"the outputs have shapes {one.shape} and {two.shape}"
        return Experiment(name=name, reference=first, candidate=second, missing=missing)
    with np.errstate(invalid="ignore"):
        size = np.abs(two.astype(np.float64) - one.astype(np.float64))
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    size = np.where(same, 0.0, size)
    place = int(np.where(np.isnan(size), np.inf, size).argmax()) if size.size else 0
    index = tuple(int(i) for i in np.unravel_index(place, size.shape)) if size.size else ()
    return Experiment(
        name=name, reference=first, candidate=second,
        largest=float(size.ravel()[place]) if size.size else 0.0,
        mean=float(size.mean()) if size.size else 0.0,
        total=float(size.sum()),
        equal=float(same.mean()) if size.size else 1.0,
        index=index,
    )  # fmt: skip


def histogram(reference: Array, candidate: Array) -> Histogram:
    """The float32 differences in bins around zero, empty where all are equal or there are few.

    An odd number of bins, so that one is around zero; fewer where few elements would leave most of them empty.
    """
    if reference.shape != candidate.shape:
        return Histogram()
    with np.errstate(invalid="ignore"):
        gap = (candidate.astype(np.float64) - reference.astype(np.float64)).ravel()
    gap = gap[np.isfinite(gap)]
    most = float(np.abs(gap).max(initial=0.0))
    if most == 0 or not np.isfinite(most) or gap.size < FEWEST:
        return Histogram()
    counts, edges = np.histogram(gap, bins=min(BINS, 2 * int(gap.size ** (1 / 3)) + 1), range=(-most, most))
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


@dataclass(frozen=True)
class Added:
    """What is known of a side as a sum of products: its sums, its order, or the reason why not."""

    sums: Sums | None = None
    found: Summation | None = None
    reason: str = ""

    @property
    def settled(self) -> bool:
        """Whether the revealed order accounts for the side's errors."""
        return self.found is not None and (self.found.exact or self.found.deviation <= LIKELY)


def added(side: Runs, inputs: Arrays, prefer: Sequence[str], limit: int, *, orders: bool = True) -> Added:
    """Look for a sum of products in a side, measure it, and reveal its order."""
    if side.outputs > 1 or side.single.dtype != np.float32:
        what = f"{side.outputs} outputs" if side.outputs > 1 else f"an output of {side.single.dtype}"
        return Added(reason=f"it has {what}; orders are revealed of one float32 output")
    measured = None
    with side.computation.replaceable() as call:
        try:
            located = locate(call, operands(side.computation, inputs), prefer=prefer)
            measured = sums(located, side.single.shape)
            if not orders:
                return Added(measured, reason="it was not asked for")
            return Added(measured, summation(located, side.single, limit=limit))
        except (NotASummation, RunError, InputError) as error:
            return Added(measured, reason=str(error))


def order(name: str, side: Runs, known: Added) -> Order:
    """A side's order as data."""
    assert name in ("reference", "candidate")
    found = known.found
    if found is None:
        return Order(side=name, name=side.label, reason=known.reason)  # type: ignore[arg-type]
    return Order(
        side=name, name=side.label, operand=found.operand, terms=found.terms, phrase=found.phrase,  # type: ignore[arg-type]
        arithmetic=found.words, height=found.tree.height, kappa=found.tree.kappa, key=found.tree.key, alike=found.alike,
        reproduced=found.reproduced, samples=found.samples, deviation=found.deviation, calls=found.calls,
        drawing=found.drawing(),
    )  # fmt: skip


def response(side: Runs, inputs: Arrays) -> Array | None:
    """How a side's float64 output answers to inputs rounded to float32: root mean square over several runs.

    Source: NUMERICS, section 1.1, "fp64 perturbation response rho".
    """
    if side.double is None:
        return None
    rng = np.random.default_rng(5)
    total = np.zeros(side.double.shape)
    for _ in range(PERTURBED):
        moved = perturbed(inputs, rng)
        try:
            made = joined(side.computation.outputs(moved, float64=True)).astype(np.float64)
        except PortingError:
            return None
        total += np.square(np.where(np.isfinite(made), made - side.double, 0.0))
    return np.sqrt(total / PERTURBED)


def perturbed(inputs: Arrays, rng: np.random.Generator) -> dict[str, Array]:
    """Every floating input multiplied by ``1 + u U[-1, 1]``, in float64."""
    return {
        name: a.astype(np.float64) * (1 + U32 * rng.uniform(-1, 1, a.shape)) if a.dtype.kind == "f" else a
        for name, a in inputs.items()
    }


def side_of(side: Runs, known: Added, answer: Array | None) -> Side:
    """What the verdict needs of a side."""
    return Side(side.single, side.double, known.sums, answer, known.settled)


def comparable(reference: Runs, candidate: Runs, first: Order, second: Order, inputs: Arrays) -> bool:
    """Whether both number their terms by the same array: the same argument, or parameters of equal values."""
    if first.operand == second.operand and first.operand in inputs:
        return True
    one = operands(reference.computation, inputs).get(first.operand)
    two = operands(candidate.computation, inputs).get(second.operand)
    return one is not None and two is not None and axes_between(one, two) is not None


def axes_between(first: Array, second: Array) -> tuple[int, ...] | None:
    """The order of axes that makes one array the other once axes of length one are dropped; ``None`` if they differ.

    Parameters of two models are the same parameter when their bits say so: a kernel ``HWIO`` and one ``OIHW``.

    Example:
        >>> axes_between(np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3).T[..., None])
        (1, 0)
    """
    one, two = np.squeeze(first), np.squeeze(second)
    if one.ndim != two.ndim or one.ndim > MOST_AXES:
        return None
    for axes in itertools.permutations(range(one.ndim)):
        if one.transpose(axes).shape == two.shape and np.array_equal(one.transpose(axes), two):
            return axes
    return None


def renumbered(reference: Runs, candidate: Runs, first: Added, second: Added, inputs: Arrays) -> Added:
    """The candidate's order with its terms numbered as the reference's are, where its parameter has other axes."""
    if first.found is None or second.found is None or second.found.operand in inputs:
        return second
    one = operands(reference.computation, inputs)[first.found.operand]
    two = operands(candidate.computation, inputs)[second.found.operand]
    axes = axes_between(one, two)
    if axes is None or axes == tuple(sorted(axes)):
        return second
    shape, own = np.squeeze(one).shape, np.unravel_index(second.found.positions, np.squeeze(two).shape)
    there = np.ravel_multi_index(tuple(own[axes.index(axis)] for axis in range(len(shape))), shape)
    numbers = [int(place) for place in np.argsort(np.argsort(there))]
    tree = second.found.tree.renumbered(numbers)
    return replace(second, found=replace(second.found, tree=tree, variant=None))


def explained(
    reference: Order, candidate: Order, same_numbering: bool, *, same_function: bool = True
) -> tuple[str, ...]:
    """What the two orders say about the difference."""
    if not (reference.revealed and candidate.revealed):
        return ()
    if not same_function:
        return ("No order of summation explains this difference: the two compute different things.",)
    if reference.terms != candidate.terms:
        return (
            f"The reference adds {reference.terms} products per output, the candidate {candidate.terms}.",
        )
    proof = _proof(reference, candidate)
    n = reference.terms
    alike = same_numbering and reference.key == candidate.key
    if alike and reference.arithmetic == candidate.arithmetic:
        return (
            f"Both add the same {n} products in the same order and round alike ({reference.arithmetic}). {proof}",
        )
    if alike:
        return (
            (
                f"Both add the same {n} products in the same order, but they round differently: the reference by "
                f"{reference.arithmetic}, the candidate by {candidate.arithmetic}. {proof}"
            ),
        )
    if not same_numbering:
        return (
            (
                f"Both add {n} products, numbered by arrays that could not be matched, so only the forms of the orders can be "
                f"compared: {reference.phrase} against {candidate.phrase}. {proof}"
            ),
        )
    return (
        (
            f"Both add the same {n} products, in different orders: the reference as {reference.phrase} "
            f"({reference.arithmetic}), the candidate as {candidate.phrase} ({candidate.arithmetic}). {proof}"
        ),
    )


def _proof(reference: Order, candidate: Order) -> str:
    """Whether the orders account for the outputs."""
    exact = [order.side for order in (reference, candidate) if order.exact]
    some = min(reference.alike, candidate.alike)
    of = "" if some == 1 else f" (of the {100 * some:.3g}% of the outputs that were seen to add so)"
    if len(exact) == 2:
        return f"Evaluated so, both sides' sampled outputs are reproduced bit for bit{of}: this is the whole of the difference."
    if exact:
        other = candidate if exact[0] == "reference" else reference
        return (
            f"Evaluated so, the {exact[0]}'s sampled outputs are reproduced bit for bit{of}, the {other.side}'s to "
            f"{100 * other.reproduced:.3g}%."
        )
    return "Neither side's outputs are all reproduced bit for bit: this is not the whole of the difference."


def by_luck(reference: Order, candidate: Order, same_numbering: bool) -> bool:
    """Whether equal bits are luck: the two are known to be computed in different orders, or rounded differently."""
    if not (reference.revealed and candidate.revealed and same_numbering):
        return False
    return reference.key != candidate.key or reference.arithmetic != candidate.arithmetic


def single(inputs: Arrays) -> dict[str, Array]:
    """Floating inputs in float32; both experiments start from these very numbers."""
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in inputs.items()}

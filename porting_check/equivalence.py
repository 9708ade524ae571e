"""``equivalent``: are two computations the same function, how far apart are they in which precision, and why?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from porting_check.calling import Arrays, computation
from porting_check.equivalence_gradients import compare_gradients, cotangent_for
from porting_check.equivalence_parts import (
    Added,
    Runs,
    added,
    axes_between,
    by_luck,
    comparable,
    experiments,
    explained,
    histogram,
    operands,
    order,
    renumbered,
    response,
    run,
    side_of,
    single,
    without_islands,
)
from porting_check.equivalence_precision import narrower
from porting_check.equivalence_sentence import sentence, summary_of_integers
from porting_check.equivalence_verdict import Judgement, judge, likeness
from porting_check.neutral.errors import InputError
from porting_check.numerics.integers import probe_integers
from porting_check.numerics.summation_probe import LIMIT
from porting_check.recorder.inputs import named
from porting_check.report.equivalence_result import Equivalence, Experiment, Gradient, Order

Array = np.ndarray
LUCKY = 64


def equivalent(
    f: Any,
    g: Any,
    *arrays: Any,
    orders: bool = True,
    gradients: bool = False,
    cotangent: Any = None,
    frameworks: tuple[str, str] = ("", ""),
    device: str | tuple[str, str] = "",
    limit: int = LIMIT,
) -> Equivalence:
    """Compare two computations on the same arrays: verdict, float64 experiment, and the reason why they differ.

    Args:
        f: the reference: a model of any framework, a path, or a function. A function is called with tensors of the framework
            that it names or holds; one that names none with numpy arrays, or with the framework of the arrays given.
        g: the candidate, of the same or another framework.
        arrays: the arguments of both. Floating ones are rounded to float32 once; float64 starts from those very numbers.
        orders: reveal the order of summation of both, where each output is a sum of products.
        gradients: compare gradients with respect to arguments and parameters, too.
        cotangent: of the output, for the gradients; seeded noise when left out, 1 for a loss.
        frameworks: says of the two what they are, where it cannot be seen: ``("torch", "numpy")``.
        device: where they run: ``"cuda"``, or one for each: ``("cpu", "cuda")``. Torch only.
        limit: the most terms of a sum whose order is revealed.

    Returns:
        The result; ``print`` it, or read its fields.

    Raises:
        InputError: arrays that are none, or a cotangent of another shape.
        RunError: a side raised; the message names it.
        FrameworkMissing: nothing can call a side.
        Unsupported: a device that is not there.

    Example:
        >>> x, w = np.ones((4, 9), np.float32), np.ones((9, 5), np.float32)
        >>> equivalent(np.matmul, lambda x, w: np.einsum("ij,jk->ik", x, w), x, w, orders=False).verdict
        'equivalent'
    """
    if not arrays:
        raise InputError("equivalent(f, g, *arrays) needs at least one array to call both with")
    inputs = single(named(arrays, ()))
    devices = (device, device) if isinstance(device, str) else tuple(device)
    reference, candidate = (
        run(computation(model, arrays, framework=framework, device=where), inputs)
        for model, framework, where in zip((f, g), frameworks, devices, strict=True)
    )
    without_islands(reference, candidate, inputs)
    known = _added(reference, candidate, inputs, limit, orders)
    judged = _judged(reference, candidate, known, inputs)
    grads: tuple[Gradient, ...] = ()
    if gradients:
        linear = all(side.sums is not None for side in known)
        grads = compare_gradients(
            reference, candidate, inputs, cotangent_for(reference.single, cotangent), linear
        )
    return _result(reference, candidate, known, judged, inputs, grads, orders)


def _added(reference: Runs, candidate: Runs, inputs: Arrays, limit: int, orders: bool) -> tuple[Added, Added]:
    """Both sides as sums of products, their terms numbered by the same array where that can be."""
    first = added(reference, inputs, (), limit, orders=orders)
    prefer = _counterparts(reference, candidate, inputs, first)
    second = added(candidate, inputs, prefer, limit, orders=orders)
    return first, renumbered(reference, candidate, first, second, inputs)


def _counterparts(reference: Runs, candidate: Runs, inputs: Arrays, first: Added) -> tuple[str, ...]:
    """What the candidate calls the array that numbers the reference's terms."""
    if first.found is None:
        return ()
    name = first.found.operand
    if name in inputs:
        return (name,)
    values = operands(reference.computation, inputs)[name]
    return tuple(
        other
        for other, array in operands(candidate.computation, inputs).items()
        if axes_between(values, array) is not None
    )


def _judged(reference: Runs, candidate: Runs, known: Sequence[Added], inputs: Arrays) -> Judgement:
    answer = None
    if all(side.sums is None for side in known):
        with_float64 = reference if reference.double is not None else candidate
        answer = response(with_float64, inputs)
    sides = [side_of(side, what, answer) for side, what in zip((reference, candidate), known, strict=True)]
    judged = judge(*sides)
    format_found = narrower(reference, candidate, inputs) if judged.kind == "low-precision" else ""
    return replace(judged, reason=format_found) if format_found else judged


def _result(
    reference: Runs,
    candidate: Runs,
    known: tuple[Added, Added],
    judged: Judgement,
    inputs: Arrays,
    grads: tuple[Gradient, ...],
    wanted: bool,
) -> Equivalence:
    """Everything as data."""
    rows = experiments(reference, candidate)
    first, second = order("reference", reference, known[0]), order("candidate", candidate, known[1])
    numbered = first.revealed and second.revealed and comparable(reference, candidate, first, second, inputs)
    terms = max((side.sums.terms for side in known if side.sums is not None), default=0)
    shrink = _shrink(rows)
    share, indices = _luck(reference, candidate, first, second, numbered, judged)
    verdict = _with_gradients(judged, grads)
    return Equivalence(
        verdict=verdict.verdict,
        kind=verdict.kind,
        sentence=sentence(verdict, rows, terms, shrink),
        reference=reference.label,
        candidate=candidate.label,
        experiments=rows,
        ratio=judged.ratio,
        terms=terms,
        shrink=shrink,
        histogram=histogram(reference.single, candidate.single),
        orders=(first, second) if wanted else (),
        why=explained(first, second, numbered, same_function=judged.verdict != "different"),
        luck=share,
        lucky=indices,
        integers=_integers(reference, candidate, known, inputs),
        gradients=grads,
        where=_where(reference, candidate) if judged.verdict == "different" else "",
        notes=tuple(reference.notes + candidate.notes),
        seconds={"reference": reference.seconds, "candidate": candidate.seconds},
    )  # fmt: skip


def _shrink(rows: Mapping[str, Experiment]) -> float | None:
    """How many times smaller the difference is with float64 on both sides."""
    narrow, wide = rows["float32|float32"].largest, rows["float64|float64"].largest
    if narrow is None or wide is None or narrow == 0:
        return None
    return narrow / wide if wide else float("inf")


def _luck(
    reference: Runs, candidate: Runs, first: Order, second: Order, numbered: bool, judged: Judgement
) -> tuple[float | None, tuple[int, ...]]:
    """The share of equal bits that different orders gave, and which elements they are."""
    if judged.verdict == "different" or not by_luck(first, second, numbered):
        return None, ()
    equal = (reference.single == candidate.single).ravel()
    return float(equal.mean()), tuple(int(i) for i in np.flatnonzero(equal)[:LUCKY])


def _integers(reference: Runs, candidate: Runs, known: tuple[Added, Added], inputs: Arrays) -> str:
    """The integer probe, for sums of products whose arrays are all arguments."""
    hidden = reference.computation.parameters() or candidate.computation.parameters()
    if hidden or any(side.sums is None for side in known):
        return ""

    def first(arrays: Mapping[str, Array]) -> Array:
        return next(iter(reference.computation.outputs(arrays).values()))

    def second(arrays: Mapping[str, Array]) -> Array:
        return next(iter(candidate.computation.outputs(arrays).values()))

    return summary_of_integers(probe_integers(first, second, inputs))


def _where(reference: Runs, candidate: Runs) -> str:
    """The place and look of a real difference, in float64 where both have it (there no noise hides it)."""
    if reference.double is not None and candidate.double is not None:
        return likeness(reference.double, candidate.double)
    return likeness(reference.single, candidate.single)


def _with_gradients(judged: Judgement, grads: Sequence[Gradient]) -> Judgement:
    """A wrong gradient makes two computations different; an undecided one leaves an equivalence undecided."""
    if judged.verdict != "equivalent":
        return judged
    for verdict in ("different", "undecided"):
        named = [gradient for gradient in grads if gradient.verdict == verdict]
        if named:
            names = ", ".join(gradient.name for gradient in named[:3])
            reason = f"the outputs agree, but not the gradients with respect to {names}"
            if verdict == "undecided":
                reason = f"the outputs agree, but gradients could not be decided ({names}: {named[0].reason})"
            return Judgement(verdict, "", judged.ratio, reason)
    return judged

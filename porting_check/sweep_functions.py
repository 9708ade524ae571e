"""Two functions on the same arrays, for each value of a quantity: how far they are apart, and how far they should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from porting_check.calling import Computation, computation
from porting_check.neutral.errors import InputError, PortingError, RunError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment
from porting_check.report.sweep_result import Measure, Sweep, SweepPoint
from porting_check.single_layer import is_layer
from porting_check.sweep_measures import Theory, gaps, measures, rms, rms_error, theory
from porting_check.sweep_points import MEMORY, checked_values

Array = np.ndarray
Function = Callable[..., Any]

SHRINKS = 1e-6
"""Two functions are the same if they differ in float64 by less than this share of float32's resolution at their scale."""


def of_functions(
    subject: Sequence[Function],
    quantity: str,
    values: Sequence[int | float],
    make: Callable[[Any], Sequence[Any]] | None,
    computes: Node | str | None,
    *,
    names: Sequence[str] | None = None,
    frameworks: str | Sequence[str] | None = None,
    device: str | Sequence[str] | None = None,
    float64: bool = False,
) -> Sweep:
    """Run both on what ``make`` gives for each value; see :func:`porting_check.sweep`.

    Raises:
        InputError: not two functions, no maker, or arrays that cannot be used.
        PortingError: a function cannot be called.
    """
    functions = _two(subject)
    if make is None or not callable(make):
        raise InputError(
            "two functions need make=, a function from a value to the arrays that both get: make=lambda n: (x, w, b)"
        )
    if not isinstance(quantity, str) or not quantity:
        raise InputError(f"vary={quantity!r}: expected the name of what the values stand for")
    which = list(zip(functions, _each("frameworks", frameworks), _each("device", device), strict=True))
    callers: dict[str, Computation] = {}
    points = []
    for value in checked_values(quantity, values):
        given = _given(make, value)
        if not callers:
            made = [computation(f, given, framework=name, device=place) for f, name, place in which]
            callers = dict(zip(_titles(made, names), made, strict=True))
        arrays = _arrays(given, quantity, value, float64)
        node = None if computes is None else _node(computes, len(arrays))
        points.append(_point(value, arrays, callers, node, float64))
    return Sweep(
        subject=" against ".join(callers),
        quantity=quantity,
        points=tuple(points),
        names=tuple(callers),
        environments={title: _environment(one) for title, one in callers.items()},
        data="given",
        float64=float64,
        note=f"Both are said to compute {computes}." if computes is not None else "",
    )


def _two(subject: Sequence[Function]) -> tuple[Function, Function]:
    found = tuple(subject) if isinstance(subject, (tuple, list)) else (subject,)
    if len(found) != 2 or not all(callable(one) for one in found):
        kinds = ", ".join(type(one).__name__ for one in found)
        raise InputError(
            f"a sweep takes a layer on one line, such as 'Conv(filters=8)', or two functions; found {kinds}"
        )
    return found[0], found[1]


def _each(option: str, given: str | Sequence[str] | None) -> tuple[str, str]:
    """An option of each function: one word for both, or one for each."""
    if given is None:
        return "", ""
    found = (given, given) if isinstance(given, str) else tuple(given)
    found = found * 2 if len(found) == 1 else found
    if len(found) != 2 or not all(isinstance(word, str) for word in found):
        raise InputError(f"{option}={given!r}: for two functions give one name, or one for each")
    return found[0], found[1]


def _titles(callers: Sequence[Computation], names: Sequence[str] | None) -> tuple[str, str]:
    found = [one.name for one in callers] if names is None else list(names)
    if len(found) != 2 or not all(isinstance(name, str) and name for name in found):
        raise InputError(f"names={names!r}: expected two names")
    if names is None:
        found = [label if "<lambda>" in name else name for name, label in zip(found, "fg", strict=True)]
    if found[0] == found[1]:
        found = [f"{found[0]} (first)", f"{found[1]} (second)"]
    return found[0], found[1]


def _called(one: Computation, arrays: Sequence[Array], float64: bool) -> Array:
    """The first thing that a function returns.

    Raises:
        PortingError: it raised, or returned no array.
    """
    try:
        made = one.outputs({str(place): array for place, array in enumerate(arrays)}, float64=float64)
    except RunError as error:
        if one.adapter is not None:
            raise
        hint = "it was called with numpy arrays; if it is a framework's, say so with frameworks="
        raise RunError(f"{error}; {hint}") from error
    if not made:
        raise InputError(f"{one.name} returned no tensor")
    return np.asarray(next(iter(made.values())))


def _environment(one: Computation) -> Environment:
    """Where it runs."""
    return (
        Environment("numpy", {"numpy": np.__version__}) if one.adapter is None else one.adapter.environment()
    )


def _given(make: Callable[[Any], Sequence[Any]], value: Any) -> tuple[Any, ...]:
    given = make(value)
    if not isinstance(given, (tuple, list)):
        raise InputError(
            f"make({value}) gave {type(given).__name__}; expected a tuple of arrays, in the order of the arguments"
        )
    return tuple(given)


def _arrays(given: Sequence[Any], quantity: str, value: Any, float64: bool) -> list[Array]:
    """What both get, with floating arrays in the precision of the sweep."""
    wide = np.float64 if float64 else np.float32
    found = []
    for place, item in enumerate(given):
        array = np.asarray(item)
        if array.dtype.kind not in "fiub":
            raise InputError(f"make({value}) gave {array.dtype} at place {place}; expected numbers")
        found.append(array.astype(wide) if array.dtype.kind == "f" else array)
    total = 4 * sum(array.nbytes for array in found)
    if total > MEMORY:
        raise InputError(
            f"at {quantity}={value} the arrays take about {total / 2**30:.1f} GiB with their float64 copies; "
            f"the limit is {MEMORY / 2**30:.0f} GiB"
        )
    return found


def _node(computes: Node | str, count: int) -> Node:
    """The operator that both compute, reading the arrays in their order."""
    if isinstance(computes, Node):
        return computes
    from porting_check.single_layer import parse

    if not is_layer(computes):
        raise InputError(f"computes={computes!r}: expected a node, or an operator such as 'Gemm(transB=1)'")
    node = parse(computes)[0].nodes[0]
    return Node(node.op_type, tuple(f"x{place}" for place in range(count)), ("y",), node.attributes)


def _point(
    value: float, arrays: list[Array], callers: Mapping[str, Computation], node: Node | None, float64: bool
) -> SweepPoint:
    made = {name: _called(one, arrays, float64) for name, one in callers.items()}
    first, second = made.values()
    if first.shape != second.shape:
        raise InputError(
            f"the two functions give shapes {first.shape} and {second.shape}; shapes are never brought together"
        )
    if node is None:
        return _unknown_operator(value, arrays, made, callers, float64)
    found = _theory(node, arrays, float64)
    truth = found.truth
    if truth.shape != first.shape:
        raise InputError(f"computes={node} gives shape {truth.shape}, and the functions {first.shape}")
    cells, apart = measures(found, {name: [array] for name, array in made.items()})
    return SweepPoint(
        value=value,
        shape=truth.shape,
        terms=found.terms,
        scale=rms(truth),
        largest=float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0)),
        band=found.band,
        measures=cells,
        gaps=apart,
    )


def _theory(node: Node, arrays: Sequence[Array], float64: bool) -> Theory:
    try:
        return theory(node, arrays, float64=float64)
    except (PortingError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"computes={node} cannot be evaluated on these arrays: {error}") from error


def _unknown_operator(
    value: float,
    arrays: list[Array],
    made: Mapping[str, Array],
    callers: Mapping[str, Computation],
    float64: bool,
) -> SweepPoint:
    """Without an operator there is no unit of round-off: the float64 run of both is the truth, where they have one."""
    first, second = made.values()
    apart = gaps(made)
    wide = None if float64 else _in_float64(arrays, callers)
    if wide is None:
        verdict = (
            "identical" if np.array_equal(first, second, equal_nan=first.dtype.kind == "f") else "undecided"
        )
        cells = {name: Measure(verdict=verdict) for name in made}
        return SweepPoint(value=value, shape=first.shape, scale=rms(first), measures=cells, gaps=apart)
    truth = next(iter(wide.values()))
    verdict = _by_shrinking(*wide.values(), same=np.array_equal(first, second))
    cells = {
        name: Measure(
            verdict=verdict,
            max_abs=float(np.abs(made[name] - wide[name]).max(initial=0.0)),
            rms=rms_error(made[name], wide[name]),
        )
        for name in made
    }
    return SweepPoint(value=value, shape=first.shape, scale=rms(truth), measures=cells, gaps=apart)


def _in_float64(arrays: Sequence[Array], callers: Mapping[str, Computation]) -> dict[str, Array] | None:
    """Both in float64; ``None`` when one does not compute in it."""
    try:
        found = {name: _called(one, arrays, True) for name, one in callers.items()}
    except PortingError:
        return None
    return found if all(array.dtype == np.float64 for array in found.values()) else None


def _by_shrinking(first: Array, second: Array, *, same: bool) -> str:
    """The float64 experiment: what is one function differs in float64 by float64's round-off, about 5e8 times less."""
    if same:
        return "identical"
    scale = max(rms(first), rms(second))
    gap = float(np.abs(first - second).max(initial=0.0))
    if not math.isfinite(gap):
        return "divergent"
    if gap <= SHRINKS * 2.0**-24 * scale * math.sqrt(max(first.size, 1)) or gap == 0:
        return "round-off"
    return "divergent" if gap > 2.0**-24 * scale else "undecided"

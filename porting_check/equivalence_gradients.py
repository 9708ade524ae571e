"""Gradients of two computations for one fixed cotangent, judged by the same rule as outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from porting_check.calling import PARAMETER, Arrays, Computation
from porting_check.equivalence_parts import PERTURBED, Runs, axes_between, operands, perturbed
from porting_check.equivalence_verdict import Side, judge
from porting_check.neutral.errors import InputError, PortingError
from porting_check.numerics.summation_units import Sums
from porting_check.report.equivalence_result import Gradient

Array = np.ndarray
Gradients = Mapping[str, Array]
COTANGENT = "cotangent"


def cotangent_for(output: Array, given: Array | None) -> Array:
    """The cotangent: the one given, or seeded noise; 1 for a scalar (a loss).

    Raises:
        InputError: one of another shape.
    """
    if given is None:
        if output.ndim == 0 or output.size == 1:
            return np.ones(output.shape, np.float32)
        return np.random.default_rng(7).standard_normal(output.shape).astype(np.float32)
    array = np.asarray(given, np.float32)
    if array.shape != output.shape:
        raise InputError(
            f"the cotangent has shape {array.shape}; expected that of the output, {output.shape}"
        )
    return array


def compare_gradients(
    reference: Runs, candidate: Runs, inputs: Arrays, cotangent: Array, linear: bool
) -> tuple[Gradient, ...]:
    """Judge the gradient of every floating argument and parameter.

    Args:
        reference: the reference's runs.
        candidate: the candidate's.
        inputs: float32 arguments.
        cotangent: of the output.
        linear: whether both sides are sums of products, whose gradients are such sums too.
    """
    try:
        sides = [_Differentiated(side.computation, inputs, cotangent) for side in (reference, candidate)]
    except PortingError as error:
        return (Gradient(name="(all)", verdict="undecided", reason=str(error)),)
    first, second = sides
    matched = _matched(first, second)
    found = [_judged(first, second, one, two, linear) for one, two in matched]
    seen = {one for one, _ in matched} | {two for _, two in matched}
    for side, runs in ((first, reference), (second, candidate)):
        for name in side.narrow:
            if name not in seen:
                reason = f"only {runs.label} has it, or its counterpart holds other values"
                found.append(Gradient(name=_words(name), verdict="undecided", reason=reason))
    return tuple(found)


class _Differentiated:
    """One side's gradients in both precisions, and what is needed to judge them."""

    def __init__(self, computation: Computation, inputs: Arrays, cotangent: Array) -> None:
        self.computation, self.inputs, self.cotangent = computation, inputs, cotangent
        self.path = next(iter(computation.outputs(inputs)))
        self.operands = operands(computation, inputs)
        self.narrow: Gradients = computation.gradients(inputs, {self.path: cotangent})
        self.wide: Gradients = {}
        self.missing = ""
        try:
            self.wide = computation.gradients(inputs, {self.path: cotangent}, float64=True)
        except PortingError as error:
            self.missing = str(error)

    def sums(self, name: str) -> Sums | None:
        """The sums that a gradient is made of: counted on ones, measured on magnitudes and squares."""

        def gradient(arrays: Arrays) -> Array:
            given = {key: array for key, array in arrays.items() if key != COTANGENT}
            found = self.computation.gradients(given, {self.path: arrays[COTANGENT]})
            return found[name].astype(np.float64)

        arrays = {**self.operands, COTANGENT: self.cotangent}
        floating = {key: a for key, a in arrays.items() if a.dtype.kind == "f"}
        with self.computation.replaceable(gradient) as call:
            counts = call({**arrays, **{key: np.ones_like(a) for key, a in floating.items()}})
            if not np.isfinite(counts).all() or (counts != np.round(counts)).any() or (counts < 0).any():
                return None
            sizes = call({**arrays, **{key: np.abs(a) for key, a in floating.items()}})
            squares = call({**arrays, **{key: np.square(a) for key, a in floating.items()}})
        return Sums(int(counts.max(initial=1)), np.abs(sizes), np.sqrt(np.abs(squares)))

    def response(self, name: str) -> Array | None:
        """How the float64 gradient answers to rounded inputs."""
        if name not in self.wide:
            return None
        rng = np.random.default_rng(6)
        total = np.zeros(self.wide[name].shape)
        for _ in range(PERTURBED):
            moved = perturbed({**self.inputs, COTANGENT: self.cotangent}, rng)
            cotangent = moved.pop(COTANGENT)
            made = self.computation.gradients(moved, {self.path: cotangent}, float64=True)
            total += np.square(made[name].astype(np.float64) - self.wide[name])
        return np.sqrt(total / PERTURBED)


def _matched(first: _Differentiated, second: _Differentiated) -> list[tuple[str, str]]:
    """Gradients of the same argument, and of parameters that hold the same values."""
    found = [
        (name, name) for name in first.narrow if not name.startswith(PARAMETER) and name in second.narrow
    ]
    left = [name for name in second.narrow if name.startswith(PARAMETER)]
    for name in first.narrow:
        if not name.startswith(PARAMETER):
            continue
        alike = [o for o in left if axes_between(first.operands[name], second.operands[o]) is not None]
        if alike:
            found.append((name, alike[0]))
            left.remove(alike[0])
    return found


def _judged(first: _Differentiated, second: _Differentiated, one: str, two: str, linear: bool) -> Gradient:
    """The verdict on one gradient."""
    shape = first.narrow[one].shape
    axes = axes_between(first.operands[one], second.operands[two]) if one.startswith(PARAMETER) else None
    narrow = first.narrow[one], _like(second.narrow[two], shape, axes)
    wide = [
        _like(np.asarray(side.wide[name], np.float64), shape, turned) if name in side.wide else None
        for side, name, turned in ((first, one, None), (second, two, axes))
    ]
    known = first.sums(one) if linear else None
    answer = None if known is not None else first.response(one)
    sides = [Side(single, double, known, answer) for single, double in zip(narrow, wide, strict=True)]
    judged = judge(*sides)
    same_shape = narrow[0].shape == narrow[1].shape
    largest64 = (
        _largest(wide[0], wide[1]) if same_shape and wide[0] is not None and wide[1] is not None else None
    )
    return Gradient(
        name=_words(one) if one == two else f"{_words(one)} / {_words(two)}",
        verdict=judged.verdict,
        kind=judged.kind,
        largest=_largest(*narrow) if same_shape else None,
        largest64=largest64,
        ratio=judged.ratio,
        terms=known.terms if known is not None else 0,
        reason=judged.reason or first.missing or second.missing,
    )


def _like(array: Array, shape: tuple[int, ...], axes: tuple[int, ...] | None) -> Array:
    """The array with the other side's order of axes, and axes of length one as the other side has them."""
    plain = np.squeeze(array)
    if axes is not None:
        plain = plain.transpose(np.argsort(axes))
    return plain.reshape(shape) if plain.shape == tuple(size for size in shape if size > 1) else array


def _largest(first: Array, second: Array) -> float:
    return float(np.abs(second.astype(np.float64) - first.astype(np.float64)).max(initial=0.0))


def _words(name: str) -> str:
    return name if name.startswith(PARAMETER) else f"argument {name}"

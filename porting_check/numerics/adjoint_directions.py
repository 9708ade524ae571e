"""A gradient checked along random directions, where no rule gives it element by element (LSTM, attention, composites).

For a value ``x`` with the recorded gradient ``d`` and the recorded gradients ``g`` of what is made of it,
``<d, v>`` must be the derivative of ``<g, f(x + h v)>`` at ``h = 0``: a central difference in float64 with the side's own
nodes. A wrong gradient passes one random direction only by a coincidence of measure zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from porting_check.neutral.graph import Graph
from porting_check.numerics.gap import FLOAT32
from porting_check.numerics.own import SideTruth
from porting_check.numerics.program import to_double
from porting_check.numerics.roundoff_units import COMPOSITE, TINY, UNIT

Array = np.ndarray

DIRECTIONS = 8
STEP = 1e-5
"""Of the value's own scale: the truncation of a central difference is then about 1e-10, its round-off 1e-11."""


@dataclass(frozen=True, slots=True)
class Along:
    """The largest error over its bound, over the derivative's own size, and how many directions were tried."""

    ratio: float
    gross: float
    directions: int


def along_directions(
    side: SideTruth,
    key: str,
    native: Array | None,
    recorded: Mapping[str, Array],
    cotangents: Mapping[str, Array],
) -> Along:
    """Compare ``<d, v>`` with the derivative along ``v`` for :data:`DIRECTIONS` seeded directions.

    The bound of one direction is :data:`COMPOSITE` times the root of the sum of two squares: the derivative's response to
    parameters and inputs perturbed by one unit of round-off, and one unit of ``d * v`` in the root of the sum of squares.

    Args:
        side: one side's own truth.
        key: the value.
        native: its recorded gradient (``None`` stands for zero).
        recorded: the side's gradients by key; the region ends at values that have one.
        cotangents: gradients that outputs get from outside, by key.

    Raises:
        OpaqueStep: the region holds a step without nodes.
        CannotEvaluate: an operator that nothing can evaluate.
    """
    region = _Region(side, key, recorded, cotangents)
    value = side.graph.array(key)
    assert value is not None
    x = to_double(value)
    d = np.zeros(x.shape) if native is None else to_double(native)
    unit = max(UNIT.get(a.dtype.name, FLOAT32) for a in (value, *([] if native is None else [native])))
    rng = np.random.default_rng([zlib.crc32(key.encode()), x.size])
    scale = float(np.sqrt(np.square(x).mean())) if x.size and x.any() else 1.0
    worst = gross = 0.0
    for number in range(DIRECTIONS):
        v = rng.standard_normal(x.shape) * scale
        expected, found = region.derivative(x, v), float((d * v).sum())
        response = abs(region.derivative(x, v, shaken=(unit, number)) - expected)
        spread = unit * float(np.sqrt(np.square(d * v).sum())) + 1e-9 * abs(expected)
        bound = COMPOSITE * float(np.hypot(response, spread)) + TINY
        worst = max(worst, abs(found - expected) / bound)
        size = max(abs(expected), float(np.sqrt(np.square(d * v).sum())), TINY)
        gross = max(gross, abs(found - expected) / size)
    return Along(worst, gross, DIRECTIONS)


class _Region:
    """What is made of one value, up to the next values that have a recorded gradient."""

    def __init__(
        self, side: SideTruth, key: str, recorded: Mapping[str, Array], cotangents: Mapping[str, Array]
    ) -> None:
        self.side, self.key = side, key
        graph: Graph = side.graph
        reach, self.steps, self.ends = {key}, [], {}
        if key in cotangents:
            self.ends[key] = to_double(cotangents[key])
        for step in graph.steps:
            if not any(operand.key in reach for operand in step.inputs):
                continue
            self.steps.append(step.index)
            for operand in step.outputs:
                if operand.key in recorded:
                    self.ends[operand.key] = to_double(recorded[operand.key])
                elif operand.key:
                    reach.add(operand.key)
                    if operand.key in cotangents:
                        self.ends[operand.key] = to_double(cotangents[operand.key])
        read = {o.key for i in self.steps for o in graph.steps[i].inputs if o.key} - reach
        self.given = {k: side.value(k) for k in sorted(read)}

    def derivative(self, x: Array, v: Array, shaken: tuple[float, int] | None = None) -> float:
        """The derivative of ``<g, f>`` along ``v``, perhaps with everything that is read perturbed by one unit."""
        given = self.given
        if shaken is not None:
            rng = np.random.default_rng(shaken[1])

            def shake(array: Array) -> Array:
                array = to_double(array)
                return (
                    array * (1 + shaken[0] * rng.uniform(-1, 1, array.shape))
                    if array.dtype.kind == "f"
                    else array
                )

            given, x = {k: shake(a) for k, a in given.items()}, shake(x)
        high, low = (self._run({**given, self.key: x + sign * STEP * v}) for sign in (1.0, -1.0))
        total = 0.0
        for end, g in self.ends.items():
            total += float((g * (high[end] - low[end])).sum())
        return total / (2 * STEP)

    def _run(self, given: Mapping[str, Array]) -> dict[str, Array]:
        made = self.side.program.evaluate(self.steps, given, set(self.ends) - {self.key})
        return {**made, self.key: given[self.key]}

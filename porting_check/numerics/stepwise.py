"""The truth of a whole network, step by step: every step on the same inputs, rounded as a framework would hold them.

What a framework makes of one step is then judged on its own, whatever happened before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from porting_check.neutral.graph import Graph, Operand, Step
from porting_check.neutral.node import Node
from porting_check.numerics.normal import at_float32
from porting_check.numerics.operators.dtypes import numpy_dtype
from porting_check.numerics.operators.registry import is_floating
from porting_check.numerics.program import to_canonical
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.spread import Bounds, bounds_of
from porting_check.numerics.truth import evaluate_node

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class StepTruth:
    """One step: its outputs in float64 and what round-off may do to each, in the node's own layout.

    ``inputs`` are what it was given, in the dtype in which a framework gets them; ``node`` is the step's node as it was
    evaluated; ``unit`` the unit round-off of the arithmetic.
    """

    step: Step
    outputs: tuple[Array, ...]
    bounds: tuple[Bounds, ...]
    node: Node
    inputs: tuple[Array | None, ...]
    unit: float


class Stepwise:
    """Evaluates the steps of a network in order.

    Attributes:
        rounded: what each value is fed as: the model's inputs and parameters as they are, what a step makes rounded to the
            dtype in which a framework would hold it; native layout, by key. Filled as the steps are evaluated.

    Example:
        >>> stepwise = Stepwise(Graph(trace))                     # doctest: +SKIP
        >>> truths = list(stepwise)                               # doctest: +SKIP
    """

    def __init__(self, graph: Graph, *, float64: bool = False) -> None:
        self.graph = graph
        self.float64 = float64
        self.rounded: dict[str, Array] = {}

    def __iter__(self) -> Iterator[StepTruth]:
        for step in self.graph.steps:
            if step.node is None:
                for operand in step.outputs:
                    self._keep(operand, self._given(operand.key))
            elif any(operand.key in self.graph.fed for operand in step.outputs):
                yield self._evaluated(step)
            else:
                self._prepared(step)

    def _given(self, key: str) -> Array:
        array = self.rounded.get(key)
        array = self.graph.array(key) if array is None else array
        assert array is not None, f"nothing made {key!r}"
        return array

    def _read(self, operand: Operand) -> Array | None:
        if not operand.key:
            return None
        return np.asarray(to_canonical(self._given(operand.key), operand.layout, operand.canonical))

    def _keep(self, operand: Operand, array: Array) -> None:
        if operand.key:
            native = to_canonical(array, operand.canonical, operand.layout) if operand.layout else array
            self.rounded[operand.key] = native

    def _prepared(self, step: Step) -> None:
        """Parameters that are only moved about keep their bits."""
        assert step.node is not None
        inputs = [self._read(operand) for operand in step.inputs]
        for operand, array in zip(step.outputs, evaluate_node(step.node, inputs, dtype=None), strict=False):
            self._keep(operand, array)

    def _evaluated(self, step: Step) -> StepTruth:
        assert step.node is not None
        inputs = [self._read(operand) for operand in step.inputs]
        wide = [None if x is None else x.astype(np.float64) if is_floating(x) else x for x in inputs]
        node = step.node if self.float64 else at_float32(step.node)
        outputs = evaluate_node(node, wide)
        dtype = self._held_as(step, inputs)
        unit = UNIT.get(dtype.name, UNIT["float32"])
        bounds = bounds_of(node, wide, [None] * len(wide), outputs, unit, held=inputs)
        for operand, array in zip(step.outputs, outputs, strict=False):
            self._keep(operand, array.astype(dtype) if is_floating(array) else array)
        return StepTruth(step, tuple(outputs), tuple(bounds), node, tuple(inputs), unit)

    def _held_as(self, step: Step, inputs: list[Array | None]) -> np.dtype:
        """The dtype in which a framework holds the floating outputs of a step."""
        assert step.node is not None
        if self.float64:
            return np.dtype(np.float64)
        target = step.node.attributes.get("to") if step.node.op_type == "Cast" else None
        if target is not None:
            return numpy_dtype(target)
        found = [x.dtype for x in inputs if x is not None and is_floating(x)]
        return found[0] if found else np.dtype(np.float32)

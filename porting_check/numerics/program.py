"""Evaluating a part of a trace's graph in float64, with given inputs and, if wanted, with edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from porting_check.neutral.errors import PortingError
from porting_check.neutral.graph import Graph, Operand, Step
from porting_check.neutral.layout import Layout, convert
from porting_check.neutral.node import Node
from porting_check.numerics.normal import at_float32
from porting_check.numerics.roundoff import LINEAR
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.spread import Bounds, bounds_of
from porting_check.numerics.truth import evaluate_node

Array = np.ndarray


class OpaqueStep(PortingError):
    """A part of the graph that has no nodes and cannot be evaluated."""


@dataclass(frozen=True, slots=True)
class Edits:
    """Changes under which a part of a graph is evaluated: the form in which a hypothesis is tested.

    ``nodes`` replaces the node of a step by a chain of nodes (written in the step's own local names; an empty chain drops
    the step and passes its first input on). ``operands`` replaces what a step reads at an input position, in the node's
    canonical layout. ``rounding`` is applied to both factors of every sum of products.

    Example:
        >>> Edits(nodes={4: (graph.steps[4].node.edit(pads=(0, 0, 1, 1)),)})     # doctest: +SKIP
    """

    nodes: Mapping[int, tuple[Node, ...]] = field(default_factory=dict)
    operands: Mapping[tuple[int, int], Array] = field(default_factory=dict)
    rounding: Callable[[Array, int], Array] | None = None

    def __bool__(self) -> bool:
        return bool(self.nodes or self.operands or self.rounding)


NO_EDITS = Edits()

EXACT = Bounds(np.zeros(()))
"""Bounds of a value that is handed on as it is."""


def _native(bounds: Bounds, operand: Operand) -> Bounds:
    if not operand.layout:
        return bounds
    return bounds.moved(lambda array: to_canonical(array, operand.canonical, operand.layout))


def to_canonical(array: Array, layout: str, canonical: str) -> Array:
    """An array in the layout that a node works in (a view where numpy can)."""
    return convert(array, Layout(layout), Layout(canonical)) if layout and layout != canonical else array


def to_double(array: Array) -> Array:
    """Floating and complex arrays in double precision; everything else as it is."""
    array = np.asarray(array)
    if array.dtype.kind == "c":
        return array.astype(np.complex128, copy=False)
    if array.dtype.kind == "f" or array.dtype.kind == "V":
        return array.astype(np.float64, copy=False)
    return array


class Program:
    """Evaluates steps of one graph; parameters are converted to float64 once and kept while in use.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def evaluate(
        self,
        steps: Sequence[int],
        given: Mapping[str, Array],
        wanted: Iterable[str],
        *,
        edits: Edits = NO_EDITS,
    ) -> dict[str, Array]:
        """Evaluate ``steps`` from the ``given`` native arrays; returns the ``wanted`` values in native layout, float64.

        Args:
            steps: indices in execution order, as :meth:`Graph.between` gives them.
            given: native arrays of the boundary values.
            wanted: keys of values to return.
            edits: changes to make on the way.

        Raises:
            OpaqueStep: a step without nodes lies inside.
            CannotEvaluate: an operator that nothing can evaluate.
        """
        return self._run(steps, given, set(wanted), edits, None)[0]

    def bounded(
        self,
        steps: Sequence[int],
        given: Mapping[str, Array],
        target: str,
        unit: float,
        errors: Mapping[str, Bounds] | None = None,
    ) -> tuple[Array, Bounds]:
        """Like :meth:`evaluate` for one value, with what round-off of this unit may leave in it.

        ``errors`` is what the given values themselves may be off by. Attributes are used at float32 (see
        :func:`normal.at_float32`) unless the unit is float64's.
        """
        values, bounds = self._run(steps, given, {target}, NO_EDITS, unit, errors)
        return values[target], bounds.get(target, EXACT)

    def _run(
        self,
        steps: Sequence[int],
        given: Mapping[str, Array],
        keep: set[str],
        edits: Edits,
        unit: float | None,
        known: Mapping[str, Bounds] | None = None,
    ) -> tuple[dict[str, Array], dict[str, Bounds]]:
        held: dict[str, Array] = {key: to_double(value) for key, value in given.items()}
        errors: dict[str, Bounds] = dict(known or {})
        uses = self._uses(steps)
        for index in steps:
            self._step(self.graph.steps[index], held, errors, edits, unit, given)
            for key in uses.pop(index, ()):
                if key not in keep:
                    held.pop(key, None)
                    errors.pop(key, None)
        return {key: held[key] for key in keep}, {key: errors[key] for key in keep if key in errors}

    def _uses(self, steps: Sequence[int]) -> dict[int, list[str]]:
        """Which values are read for the last time by which step."""
        last = {operand.key: index for index in steps for operand in self.graph.steps[index].inputs}
        freed: dict[int, list[str]] = {}
        for key, index in last.items():
            freed.setdefault(index, []).append(key)
        return freed

    def _step(
        self,
        step: Step,
        held: dict[str, Array],
        errors: dict[str, Bounds],
        edits: Edits,
        unit: float | None,
        given: Mapping[str, Array],
    ) -> None:
        if step.node is None:
            record = self.graph.record_of(step)
            raise OpaqueStep(f"{record.id} ({record.operator}) is opaque: {record.reason or 'not described'}")
        chain = edits.nodes.get(step.index, (step.node,))
        if not chain:
            first, out = step.inputs[0], step.outputs[0]
            value = to_canonical(self._read(first.key, held), first.layout, first.canonical)
            held[out.key] = to_canonical(value, out.canonical, out.layout) if out.layout else value
            return
        local: dict[str, Array] = {}
        for number, node in enumerate(chain):
            replaced = edits if number == len(chain) - 1 else NO_EDITS
            inputs = [self._input(step, n, i, held, local, replaced) for i, n in enumerate(node.inputs)]
            if edits.rounding is not None and node.op_type in LINEAR:
                inputs[:2] = [x if x is None else edits.rounding(x, i) for i, x in enumerate(inputs[:2])]
            node = node if unit == UNIT["float64"] else at_float32(node)
            outputs = evaluate_node(node, inputs)
            local.update(zip(node.outputs, outputs, strict=False))
            if unit is not None:
                incoming = [self._error(operand, errors) for operand in step.inputs]
                kept = [self._narrow(step, n, x, given) for n, x in zip(node.inputs, inputs, strict=True)]
                bounds = bounds_of(node, inputs, incoming, outputs, unit, held=kept)
                self._bound(step, node, dict(zip(node.outputs, bounds, strict=False)), errors)
        self._write(step, chain[-1], local, held)

    def _narrow(
        self, step: Step, name: str, evaluated: Array | None, given: Mapping[str, Array]
    ) -> Array | None:
        """An operand as it was recorded, which takes half the memory of what it is evaluated in (or none, on disk)."""
        operand = self.graph.operand(step.record, name)
        array = given.get(operand.key, self.graph.array(operand.key)) if name else None
        if array is None or evaluated is None or array.dtype not in (np.float32, np.float16):
            return evaluated
        moved = to_canonical(array, operand.layout, operand.canonical)
        return moved if moved.shape == evaluated.shape else evaluated

    @staticmethod
    def _error(operand: Operand, errors: Mapping[str, Bounds]) -> Bounds | None:
        """The error that an operand carries, in the node's layout."""
        error = errors.get(operand.key)
        if error is None or not operand.layout:
            return error
        return error.moved(lambda array: to_canonical(array, operand.layout, operand.canonical))

    @staticmethod
    def _bound(step: Step, last: Node, local: Mapping[str, Bounds], errors: dict[str, Bounds]) -> None:
        """Keep the bounds of a step's outputs, in native layout."""
        for name, operand in zip(last.outputs, step.outputs, strict=False):
            if name and name in local:
                errors[operand.key] = _native(local[name], operand)

    def _input(
        self,
        step: Step,
        name: str,
        position: int,
        held: Mapping[str, Array],
        local: Mapping[str, Array],
        edits: Edits,
    ) -> Array | None:
        if not name:
            return None
        if (step.index, position) in edits.operands:
            return to_double(edits.operands[step.index, position])
        if name in local:
            return local[name]
        operand = self.graph.operand(step.record, name)
        return to_canonical(self._read(operand.key, held), operand.layout, operand.canonical)

    def _read(self, key: str, held: Mapping[str, Array]) -> Array:
        if key in held:
            return held[key]
        array = self.graph.array(key)
        if array is None:
            raise OpaqueStep(f"value {key!r} was neither recorded nor evaluated")
        return to_double(array)

    def _write(self, step: Step, last: Node, local: Mapping[str, Array], held: dict[str, Array]) -> None:
        for name, operand in zip(last.outputs, step.outputs, strict=False):
            if name and name in local:
                array = local[name]
                held[operand.key] = (
                    to_canonical(array, operand.canonical, operand.layout) if operand.layout else array
                )

    def parameter(self, step: Step, position: int, given: Mapping[str, Array] | None = None) -> Array | None:
        """What a step reads at an input position when that is fixed (a parameter or constant, perhaps moved about).

        The array is in the node's canonical layout and in its own dtype; ``None`` when it depends on the model's input.
        ``given`` stands in for parameters by key (to send other things than their values through the same moves).
        """
        operand = step.inputs[position]
        if not operand.key:
            return None
        if operand.key in self.graph.fed:
            return None
        steps = self.graph.between(operand.key, ())[0]
        if any(not self.graph.steps[i].movement for i in steps):
            return None
        held: dict[str, Array] = dict(given or {})
        for index in steps:
            self._move(self.graph.steps[index], held)
        array = held.get(operand.key)
        array = self.graph.array(operand.key) if array is None else array
        return None if array is None else to_canonical(array, operand.layout, operand.canonical)

    def _move(self, step: Step, held: dict[str, Array]) -> None:
        """Evaluate one movement step in the dtype of its inputs."""
        assert step.node is not None
        inputs: list[Array | None] = []
        for operand in step.inputs:
            array = held.get(operand.key, self.graph.array(operand.key)) if operand.key else None
            inputs.append(None if array is None else to_canonical(array, operand.layout, operand.canonical))
        outputs = evaluate_node(step.node, inputs, dtype=None)
        self._write(step, step.node, dict(zip(step.node.outputs, outputs, strict=False)), held)

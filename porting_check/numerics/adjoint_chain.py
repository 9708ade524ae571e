"""One side's gradients against what its own nodes say: the recorded graph walked backwards, value by value.

For every recorded value the contributions of all steps that read it are summed: the vector-Jacobian product of each step in
float64, on the side's own recorded values and the side's own gradients of the step's outputs. So no inherited error takes
part. Values inside a layer, which were not recorded, carry the gradient on with the error that round-off may leave in it.

A recorded value whose gradient is missing was either cut off (``detach``, ``stop_gradient``, a function without gradient) or
its gradient flowed without being seen (a view that was written through). Both are carried on, and what lies upstream decides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from porting_check.neutral.graph import Graph, Operand, Step
from porting_check.neutral.layout import Layout, convert
from porting_check.neutral.node import Node
from porting_check.numerics.adjoint import NoAdjoint, bounded, carried, rule, vjp
from porting_check.numerics.adjoint_directions import along_directions
from porting_check.numerics.adjoint_kinks import Kink, kinks
from porting_check.numerics.gap import FLOAT32
from porting_check.numerics.normal import at_float32
from porting_check.numerics.own import SideTruth, ratio
from porting_check.numerics.program import OpaqueStep, to_canonical, to_double
from porting_check.numerics.roundoff import any_order
from porting_check.numerics.roundoff_units import UNIT
from porting_check.numerics.truth import CannotEvaluate, evaluate_node

Array = np.ndarray
Progress = Callable[[int, int], None]

CONSULTED = frozenset({
    "Max", "Min", "MaxPool", "GlobalMaxPool", "AdaptiveMaxPool", "LpPool", "GlobalLpPool", "TopK", "ReduceMax", "ReduceMin",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
})  # fmt: skip
"""Operators whose rules look at the values of their outputs, which must then be those of the very inputs."""

FAILS = (NoAdjoint, CannotEvaluate, OpaqueStep, ValueError, IndexError, TypeError, KeyError)


@dataclass(frozen=True, slots=True)
class KinkFound:
    """Elements of a value that sit on a kink of what reads it; ``share`` is the part of the gradient that was passed on."""

    op_type: str
    mask: Array
    share: float | None

    @property
    def count(self) -> int:
        """How many elements."""
        return int(self.mask.sum())


@dataclass(frozen=True, slots=True)
class GradientFound:
    """What was found of the gradient of one recorded value.

    ``ratio`` is its largest error in units of what round-off allows (``None``: it could not be judged, and ``reason`` says
    why); ``gross`` is that error over the largest magnitude of the gradient. ``absent``: no gradient was recorded.
    ``stopped``: none flows although the nodes say that it should; ``unseen``: one flowed, as what lies before it shows, and was
    not recorded. ``how`` says when it was checked otherwise than element
    by element.
    """

    key: str
    ratio: float | None
    gross: float = 0.0
    absent: bool = False
    stopped: bool = False
    unseen: bool = False
    how: str = ""
    reason: str = ""
    kinks: tuple[KinkFound, ...] = ()


@dataclass(slots=True)
class _Flow:
    """A gradient in native layout, what it may be off by, and of how many parts it is the sum."""

    value: Array
    limit: Array
    size: Array
    parts: int = 1

    def plus(self, other: _Flow) -> _Flow:
        size, parts = self.size + other.size, self.parts + other.parts
        return _Flow(self.value + other.value, self.limit + other.limit, size, parts)


@dataclass(slots=True)
class _Arrived:
    """All that has arrived at one value: surely, and perhaps (through values without a recorded gradient, ``via``)."""

    surely: _Flow | None = None
    perhaps: _Flow | None = None
    via: set[str] = field(default_factory=set)
    unknown: str = ""
    kinks: list[tuple[Step, Kink, Array]] = field(default_factory=list)

    def add(self, flow: _Flow, perhaps: bool) -> None:
        if perhaps:
            self.perhaps = flow if self.perhaps is None else self.perhaps.plus(flow)
        else:
            self.surely = flow if self.surely is None else self.surely.plus(flow)

    @property
    def everything(self) -> _Flow | None:
        if self.surely is None or self.perhaps is None:
            return self.surely or self.perhaps
        return self.surely.plus(self.perhaps)


class SideGradients:
    """Judges one side's gradients.

    Args:
        side: the side's own truth, which has its graph.
        recorded: its gradients, by the keys of its values, in their layouts.
        cotangents: the gradient of each output that was asked for, by the key of the output's value.

    Example:
        >>> found = SideGradients(judge.sides[1], gradients, cotangents).judge()        # doctest: +SKIP
        >>> [f.key for f in found.values() if f.stopped]                                # doctest: +SKIP
        ['backbone.layer4:0']
    """

    KEPT = 16

    def __init__(
        self, side: SideTruth, recorded: Mapping[str, Array], cotangents: Mapping[str, Array]
    ) -> None:
        self.side = side
        self.graph: Graph = side.graph
        self.recorded = recorded
        self.found: dict[str, GradientFound] = {}
        self._arrived: dict[str, _Arrived] = {}
        self._inner: OrderedDict[str, tuple[Array, Array | None]] = OrderedDict()
        self._cleared: set[str] = set()
        self._confirmed: set[str] = set()
        self.followed = _followed(self.graph, recorded)
        for key, cotangent in cotangents.items():
            value = to_double(cotangent)
            flow = _Flow(value, np.zeros(value.shape), np.abs(value))
            self._arrived.setdefault(key, _Arrived()).add(flow, perhaps=False)
        self.cotangents = cotangents

    def judge(self, progress: Progress = lambda done, total: None) -> dict[str, GradientFound]:
        """Walk the graph backwards; what was found by the key of each recorded value that has or should have a gradient."""
        count = len(self.graph.steps)
        for step in reversed(self.graph.steps):
            progress(count - 1 - step.index, count)
            self._step(step)
        for key in [k for k in self._arrived if k not in self.found]:
            self._settle(key)
        self._weigh()
        return self.found

    def _weigh(self) -> None:
        """Drop gradients that flowed unseen; a cut that changes nothing upstream is none."""
        for key in self._cleared - self._confirmed:
            self.found[key] = GradientFound(
                key, 0.0, absent=True, unseen=True, how="seen only by what lies before it"
            )
        for key, one in self.found.items():
            if one.stopped and key not in self._confirmed:
                self.found[key] = replace(one, ratio=0.0, gross=0.0, stopped=False)

    # Values.

    def _step(self, step: Step) -> None:
        """Settle a step's outputs, whose readers have all been seen, and carry their gradients to its inputs."""
        flows = [self._settle(operand.key) if operand.key else _Arrived() for operand in step.outputs]
        wanted = [i for i, operand in enumerate(step.inputs) if operand.key in self.followed]
        if not wanted:
            return
        unknown = next((flow.unknown for flow in flows if flow.unknown), "")
        flowing = any(flow.surely or flow.perhaps for flow in flows)
        if unknown or (step.node is None and flowing):
            self._refuse(step, wanted, unknown or f"{self.graph.record_of(step).id} is opaque")
            return
        if not flowing or step.node is None:
            return
        via = set().union(*(flow.via for flow in flows))
        for perhaps in (False, True):
            chosen = [flow.perhaps if perhaps else flow.surely for flow in flows]
            if any(chosen):
                self._carry(step, wanted, chosen, perhaps, via if perhaps else set())

    def _refuse(self, step: Step, wanted: Iterable[int], reason: str) -> None:
        for position in wanted:
            self._arrived.setdefault(step.inputs[position].key, _Arrived()).unknown = reason

    def _settle(self, key: str) -> _Arrived:
        """Judge a value, and say what flows on to the step that made it."""
        arrived = self._arrived.pop(key, None) or _Arrived()
        if key not in self.graph.trace.values:
            return arrived
        native = self.recorded.get(key)
        if key not in self.followed:
            return _Arrived()
        self.found[key] = self._judged(key, arrived, native)
        if native is not None:
            value = to_double(native)
            return _Arrived(surely=_Flow(value, np.zeros(value.shape), np.abs(value)))
        return _Arrived(perhaps=arrived.everything, via=arrived.via | {key}, unknown=arrived.unknown)

    def _judged(self, key: str, arrived: _Arrived, native: Array | None) -> GradientFound:
        """One value's gradient against what arrived."""
        value = self.graph.array(key)
        assert value is not None
        if arrived.unknown:
            return self._projected(key, native, arrived.unknown)
        given = np.zeros(value.shape, np.float32) if native is None else native
        unit = max(UNIT.get(a.dtype.name, FLOAT32) for a in (value, given))
        mask, seen = self._on_kinks(value.shape, arrived, native)
        worst, gross = _apart(given, arrived.surely, mask, unit)
        if arrived.perhaps is not None:
            whole, gross_whole = _apart(given, arrived.everything, mask, unit)
            if native is not None and whole <= 1 < worst:
                self._cleared |= arrived.via  # the gradient came through values that nobody watched
            elif whole > 1 and worst < 0.9 * whole and (native is not None or key not in self.graph.producer):
                self._confirmed |= arrived.via
            if native is None:  # what was cut off further on is not cut off again here
                whole, gross_whole = worst, gross
            if whole < worst:
                worst, gross = whole, gross_whole
        stopped = native is None and worst > 1
        return GradientFound(key, worst, gross, native is None, stopped, kinks=tuple(seen))

    def _on_kinks(
        self, shape: tuple[int, ...], arrived: _Arrived, native: Array | None
    ) -> tuple[Array, list[KinkFound]]:
        """Which elements sit on a kink of any step that reads the value, and what the side made of them."""
        mask, seen = np.zeros(shape, bool), []
        for step, kink, flow in arrived.kinks:
            mask |= kink.mask
            assert step.node is not None
            share = None
            if native is not None and len(arrived.kinks) == 1 and flow.shape == shape:
                share = _share(to_double(native)[kink.mask], flow[kink.mask])
            seen.append(KinkFound(step.node.op_type, kink.mask, share))
        return mask, seen

    def _projected(self, key: str, native: Array | None, why: str) -> GradientFound:
        """Check a gradient along random directions, where no rule gives it element by element."""
        try:
            made = along_directions(self.side, key, native, self.recorded, self.cotangents)
        except FAILS as error:
            reason = (
                why
                if isinstance(error, OpaqueStep)
                else f"{why}; {str(error).splitlines()[0] if str(error) else error!r}"
            )
            return GradientFound(key, None, absent=native is None, reason=reason)
        stopped = native is None and made.ratio > 1
        how = f"checked along {made.directions} random directions"
        return GradientFound(key, made.ratio, made.gross, native is None, stopped, how=how)

    # Steps.

    def _carry(
        self, step: Step, wanted: list[int], flows: list[_Flow | None], perhaps: bool, via: set[str]
    ) -> None:
        """The gradients of a step's inputs from those of its outputs."""
        assert step.node is not None
        try:
            self._carried(step, wanted, flows, perhaps, via)
        except FAILS as error:
            self._refuse(step, wanted, str(error).splitlines()[0] if str(error) else type(error).__name__)

    def _carried(
        self, step: Step, wanted: list[int], flows: list[_Flow | None], perhaps: bool, via: set[str]
    ) -> None:
        assert step.node is not None
        unit = self._unit(step)
        node = step.node if unit == UNIT["float64"] else at_float32(step.node)
        if rule(node) is None:
            raise NoAdjoint(f"{node.op_type} has no rule for its gradient")
        inputs, errors = self._inputs(step)
        outputs = self._outputs(step, node, inputs)
        pairs = list(zip(flows, step.outputs, strict=True))
        g = [None if f is None else _canonical(f.value, o) for f, o in pairs]
        off = [None if f is None else _canonical(f.limit, o) for f, o in pairs]
        made = bounded(node, inputs, outputs, g, unit)
        passed = carried(node, inputs, outputs, off) if any(e is not None and e.any() for e in off) else {}
        shaken = _shaken(node, inputs, outputs, g, errors)
        corners = kinks(node, inputs, outputs, g, errors)
        for position in wanted:
            if position not in made:
                continue
            operand, corner = step.inputs[position], corners.get(position)
            arrived = self._arrived.setdefault(operand.key, _Arrived())
            gradient, limit = made[position]
            limit = limit + passed.get(position, 0.0) + shaken.get(position, 0.0)
            if corner is not None:
                limit = limit + corner.open
                if operand.key in self.graph.trace.values and not perhaps:
                    arrived.kinks.append((step, *self._corner(corner, g[0], operand)))
            flow = to_native(self.graph, gradient, operand)
            arrived.add(_Flow(flow, to_native(self.graph, limit, operand), np.abs(flow)), perhaps)
            arrived.via |= via

    def _inputs(self, step: Step) -> tuple[list[Array | None], list[Array | None]]:
        """What a step read, in the node's layout, and how far what was not recorded may be off."""
        inputs: list[Array | None] = []
        errors: list[Array | None] = []
        for operand in step.inputs:
            value, error = self._value(operand.key) if operand.key else (None, None)
            inputs.append(None if value is None else _canonical(value, operand))
            errors.append(None if error is None else _canonical(error, operand))
        return inputs, errors

    def _corner(self, corner: Kink, g: Array | None, operand: Operand) -> tuple[Kink, Array]:
        """A kink and the gradient that comes to it, in the value's own layout."""
        kink = Kink(to_native(self.graph, corner.mask, operand), to_native(self.graph, corner.open, operand))
        fits = g is not None and g.shape == corner.mask.shape
        return kink, to_native(self.graph, g, operand) if fits and g is not None else np.zeros(())

    def _unit(self, step: Step) -> float:
        """The coarsest arithmetic among what the step read and made, as recorded."""
        arrays = [self.graph.array(o.key) for o in (*step.inputs, *step.outputs) if o.key]
        known = [UNIT[a.dtype.name] for a in arrays if a is not None and a.dtype.name in UNIT]
        return max(known, default=FLOAT32)

    def _outputs(self, step: Step, node: Node, inputs: list[Array | None]) -> list[Array]:
        if node.op_type in CONSULTED:
            return list(evaluate_node(node, inputs))
        made = []
        for operand in step.outputs:
            found = self._value(operand.key) if operand.key else None
            made.append(np.zeros(()) if found is None else _canonical(found[0], operand))
        return made

    def _value(self, key: str) -> tuple[Array, Array | None]:
        """A value as recorded, or its truth with its error where it lies inside a layer."""
        array = self.graph.array(key)
        if array is not None:
            return to_double(array), None
        if key not in self._inner:
            steps, used = self.graph.between(key, self.graph.trace.values)
            value, bounds = self.side.bounded(tuple(steps), key, sorted(used))
            self._inner[key] = value, bounds.limit
            while len(self._inner) > self.KEPT:
                self._inner.popitem(last=False)
        return self._inner[key]


def _followed(graph: Graph, recorded: Mapping[str, Array]) -> set[str]:
    """Values through which a gradient should flow: real numbers made from real inputs or from parameters that have one."""
    found = {port.value for port in graph.trace.inputs if _real(graph.array(port.value))}
    found |= {key for key in recorded if key.startswith("parameter:")}
    for step in graph.steps:
        if step.node is not None and not _differentiable(step.node):
            continue
        if any(operand.key in found for operand in step.inputs):
            for operand in step.outputs:
                array = graph.array(operand.key) if operand.key else None
                if operand.key and (array is None or _real(array)):
                    found.add(operand.key)
    return found


_WITHOUT = frozenset({
    "Shape", "Size", "Constant", "ConstantOfShape", "Range", "OneHot", "EyeLike", "NonZero", "ArgMax", "ArgMin", "Hardmax",
    "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not", "Xor", "IsNaN", "IsInf",
})  # fmt: skip


def _differentiable(node: Node) -> bool:
    from porting_check.numerics.operators.dtypes import numpy_dtype

    if node.op_type == "Cast":
        return numpy_dtype(node.attributes["to"]).kind in "fV"
    return node.op_type not in _WITHOUT


def _real(array: Array | None) -> bool:
    return array is not None and array.dtype.kind in "fV"


def _canonical(array: Array, operand: Operand) -> Array:
    return to_canonical(array, operand.layout, operand.canonical)


def to_native(graph: Graph, array: Array, operand: Operand) -> Array:
    """From the node's layout to the value's own; sizes of axes that share one come from the value itself."""
    if not operand.layout or operand.layout == operand.canonical:
        return array
    value = graph.array(operand.key)
    sizes = None
    if value is not None and len(operand.layout) == value.ndim:
        sizes = {
            letter: size for letter, size in zip(operand.layout, value.shape, strict=True) if letter.isalpha()
        }
    return convert(array, Layout(operand.canonical), Layout(operand.layout), sizes)


def _apart(native: Array, flow: _Flow | None, mask: Array, unit: float) -> tuple[float, float]:
    """The largest error over its limit, and over the largest magnitude; elements on kinks left out."""
    given = to_double(native)[~mask]
    if flow is None:
        flow = _Flow(np.zeros(native.shape), np.zeros(native.shape), np.zeros(native.shape))
    if flow.value.shape != native.shape:
        return float("inf"), 1.0
    truth, limit = flow.value[~mask], flow.limit[~mask]
    if flow.parts > 1:
        limit = limit + any_order(flow.parts, flow.size[~mask], truth, unit)
    worst = ratio(given, truth, limit)
    with np.errstate(all="ignore"):
        scale = max(float(np.abs(truth).max(initial=0.0)), float(np.abs(given).max(initial=0.0)))
        error = float(np.nanmax(np.abs(given - truth), initial=0.0))
    if not np.isfinite(worst) or not np.isfinite(scale):
        return worst, 1.0 if worst > 1 else 0.0
    return worst, error / scale if scale > 0 else 0.0


def _share(native: Array, flow: Array) -> float | None:
    """The part of the gradient that passes at a kink, where it is the same for all elements."""
    held = np.abs(flow) > 0
    if not held.any():
        return None
    shares = native[held] / flow[held]
    middle = float(np.median(shares))
    return middle if np.isfinite(shares).all() and np.abs(shares - middle).max() < 1e-3 else None


def _shaken(
    node: Node, inputs: list[Array | None], outputs: list[Array], g: list[Array | None], errors: list[Array | None],
    runs: int = 4,
) -> dict[int, Array]:  # fmt: skip
    """What the errors of inputs that were not recorded do to the gradients: the largest change in some runs, tripled."""
    if all(error is None or not error.any() for error in errors):
        return {}
    base, rng = vjp(node, inputs, outputs, g), np.random.default_rng(0)
    worst = {position: np.zeros(array.shape) for position, array in base.items()}
    for _ in range(runs):
        moved = [
            x if x is None or e is None else x + e * rng.choice((-1.0, 1.0), x.shape)
            for x, e in zip(inputs, errors, strict=True)
        ]
        results = list(evaluate_node(node, moved)) if node.op_type in CONSULTED else outputs
        for position, array in vjp(node, moved, results, g).items():
            worst[position] = np.maximum(worst[position], np.abs(array - base[position]))
    return {position: 3 * array + 0.5 * float(array.mean()) for position, array in worst.items()}

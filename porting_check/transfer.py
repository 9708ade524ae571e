"""``pc.transfer_weights``: move one model's weights into its port, layouts translated, misfits named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from porting_check.alignment.idioms import whole
from porting_check.alignment.pairing import pair
from porting_check.diagnosis.parameters import ROLES
from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import WeightsError
from porting_check.neutral.graph import Graph, Step, input_layouts
from porting_check.neutral.trace import Trace, parameter_name
from porting_check.numerics.program import Program
from porting_check.recorder.inputs import named, probe, translate
from porting_check.recorder.registry import adapter_for
from porting_check.recording import Layouts, declared, record_live

Array = np.ndarray

FIRST_ID = 10**12
"""Element numbers start here, so that constants among them (zeros, ones) are recognised as constants."""

DEFAULTS = {"bias": 0.0, "mean": 0.0, "scale": 1.0, "var": 1.0, "B": 0.0}
"""What a parameter that the source lacks must be for the function to stay the same."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was moved: native names of the target and of the source it came from, and how the layers were paired.

    Example:
        >>> transfer_weights(keras_model, torch_module).moved["conv1.weight"]     # doctest: +SKIP
        'conv1/kernel'
    """

    moved: Mapping[str, str]
    defaulted: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()


@dataclass(slots=True)
class _Filling:
    """The target's parameters as they are filled, element by element, from canonical source arrays."""

    values: dict[str, Array]
    filled: dict[str, Array]
    moved: dict[str, str] = field(default_factory=dict)
    defaulted: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


def transfer_weights(
    source: Any,
    target: Any,
    *,
    inputs: Any = None,
    layouts: Mapping[str, Layouts | str] | None = None,
    mapping: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Transfer:
    """Move the weights of ``source`` into the live model ``target``, whatever their layouts.

    Both models run once; their layers are paired by structure, shapes and order; every element is then followed through
    the layout translations of both sides, so that transposed kernels, depthwise reshapes and reordered gates come out
    right. All or nothing: when anything does not fit, the target is left as it was.

    Args:
        source: where the weights come from: a live model or a :class:`Trace` of it.
        target: where they go; its parameters are overwritten.
        inputs: what to run both on, in the source's layout; None: seeded noise.
        layouts: as in :func:`porting_check.compare` (``reference`` = source).
        mapping: record ids of the source to record ids of the target, where pairing needs help.
        seed: of the noise.

    Raises:
        WeightsError: parameters that have no counterpart, other shapes, or no home in the target; all are named.

    Example:
        >>> transfer_weights(keras_model, torch_module)                      # doctest: +SKIP
    """
    adapter = adapter_for(target)
    left = source if isinstance(source, Trace) else _recorded(source, inputs, target, layouts or {}, seed)
    transfer, values = moved_parameters(left, _on_same_inputs(adapter, target, left, layouts or {}), mapping)
    adapter.assign(target, values)
    return transfer


def moved_parameters(
    source: Trace, target: Trace, mapping: Mapping[str, str] | None = None
) -> tuple[Transfer, dict[str, Array]]:
    """What :func:`transfer_weights` writes, computed from two recordings: the target's parameters by native name.

    Raises:
        WeightsError: see :func:`transfer_weights`.
    """
    left, right = Graph(source), Graph(target)
    native = target.parameters()
    if not native:
        raise WeightsError("the target uses no parameters: there is nothing to move the weights into")
    filling = _Filling(
        {name: np.array(array) for name, array in native.items()},
        {name: np.zeros(array.size, bool) for name, array in native.items()},
    )
    pairing = pair(left, right, mapping)
    programs = Program(left), Program(right)
    for one, other in sorted(pairing.pairs.items()):
        _fill_step(filling, programs, whole(left, left.steps[one]), whole(right, right.steps[other]))
    unused = _check(filling, left, right)
    guessed = [pairing.pairs[r] for r, why in pairing.evidence.items() if any("guess" in w for w in why)]
    guesses = tuple(dict.fromkeys(right.record_of(right.steps[i]).id for i in guessed))
    return Transfer(filling.moved, tuple(filling.defaulted), tuple(unused), guesses), filling.values


def _recorded(source: Any, inputs: Any, target: Any, sides: Mapping[str, Layouts | str], seed: int) -> Trace:
    """The source's run on given inputs, or on noise in the shape that either model asks for."""
    adapter = adapter_for(source)
    specs = adapter.inputs(source)
    known = {s.name: declared(sides.get("reference"), s.name) or s.layout for s in specs}
    if inputs is None and (not specs or any(s.shape is None for s in specs)):
        wanted = adapter_for(target).inputs(target)
        there = {s.name: declared(sides.get("candidate"), s.name) or s.layout for s in wanted}
        made = translate(probe(wanted, seed), there, specs, known)[0]
    else:
        made = probe(specs, seed) if inputs is None else named(inputs, specs)
    used = {name: known.get(name) or known.get("") or declared(sides.get("reference"), name) for name in made}
    return record_live(adapter, source, made, used, check=False)


def _on_same_inputs(adapter: Adapter, target: Any, left: Trace, sides: Mapping[str, Layouts | str]) -> Trace:
    """The target's run on the source's inputs, in its own layout."""
    specs = adapter.inputs(target)
    given = {port.name: np.asarray(left.values[port.value]) for port in left.inputs}
    wanted = {name: declared(sides.get("candidate"), name) for name in [*given, *(s.name for s in specs)]}
    inputs, used = translate(given, input_layouts(left), specs, wanted)
    return record_live(adapter, target, inputs, used, check=False)


def _fill_step(filling: _Filling, programs: tuple[Program, Program], one: Step, other: Step) -> None:
    """Move every parameter of one pair of steps."""
    if one.node is None or other.node is None:
        return
    where = f"{programs[0].graph.record_of(one).id} → {programs[1].graph.record_of(other).id}"
    op = other.node.op_type
    _homeless(filling, programs, one, other, where)
    for position in range(len(other.inputs)):
        ids = _element_ids(programs[1], other, position)
        if ids is None or not (ids >= FIRST_ID).any():
            continue
        names = ROLES.get(op, ())
        role = names[position] if position < len(names) else ""
        source, origin = _source(filling, programs[0], one, other, position)
        if source is None and role in DEFAULTS:
            source, origin = np.full(ids.shape, DEFAULTS[role]), "default"
        if source is None:
            filling.misfits.append(
                f"{where}: {one.node.op_type} has no {role or f'input {position}'} for {op}"
            )
            continue
        homes = [parameter_name(key) for key in _behind(programs[1].graph, other.inputs[position].key)]
        _fill(filling, homes, ids, source, origin, f"{where}: {role or f'input {position}'} of {op}")


def _homeless(
    filling: _Filling, programs: tuple[Program, Program], one: Step, other: Step, where: str
) -> None:
    """Name source parameters for which the target's operator has no input at all, unless they change nothing."""
    if one.node is None or other.node is None or one.node.op_type != other.node.op_type:
        return
    for position in range(len(one.inputs)):
        if position < len(other.inputs) and other.inputs[position].key:
            continue
        array = programs[0].parameter(one, position)
        if array is not None and array.dtype.kind == "f" and np.any(array):
            keys = _behind(programs[0].graph, one.inputs[position].key)
            origin = ", ".join(parameter_name(key) for key in keys) or "a constant"
            filling.misfits.append(f"{where}: the target has no parameter for {origin}")


def _source(
    filling: _Filling, program: Program, one: Step, other: Step, position: int
) -> tuple[Array | None, str]:
    """The source's canonical array for a position, with the native names that it is made of."""
    assert one.node is not None and other.node is not None
    if one.node.op_type != other.node.op_type:
        return None, ""
    if one.node.op_type in ("Add", "Mul"):
        position = next(
            (p for p in range(len(one.inputs)) if program.parameter(one, p) is not None), position
        )
    if position >= len(one.inputs):
        return None, ""
    array = program.parameter(one, position)
    keys = _behind(program.graph, one.inputs[position].key)
    filling.used |= {parameter_name(key) for key in keys}
    return array, ", ".join(parameter_name(key) for key in keys)


def _behind(graph: Graph, key: str) -> list[str]:
    """The parameters that a fixed value is made of."""
    steps, _ = graph.between(key, ())
    keys = [o.key for i in steps for o in graph.steps[i].inputs] + [key]
    return list(dict.fromkeys(k for k in keys if k.startswith("parameter:")))


def _element_ids(program: Program, step: Step, position: int) -> Array | None:
    """Which element of which native parameter each element of a canonical operand is, by sending numbers through.

    Element ``k`` of the n-th parameter behind the operand is numbered ``FIRST_ID * (n + 1) + k``; constants stay as they
    are. ``None`` when the operand depends on the model's input.
    """
    key = step.inputs[position].key
    if not key or key in program.graph.fed:
        return None
    keys = _behind(program.graph, key)
    given = {}
    for number, k in enumerate(keys, 1):
        native, first = _native(program.graph, k), FIRST_ID * number
        given[k] = np.arange(first, first + native.size, dtype=np.float64).reshape(native.shape)
    return program.parameter(step, position, given)


def _native(graph: Graph, key: str) -> Array:
    """A parameter as the framework holds it."""
    array = graph.array(key)
    assert array is not None
    return array


def _fill(filling: _Filling, names: list[str], ids: Array, source: Array, origin: str, where: str) -> None:
    """Write a canonical source array into the native elements of the parameters ``names`` that ``ids`` says."""
    if source.shape != ids.shape:
        if source.size != ids.size or np.squeeze(source).shape != np.squeeze(ids).shape:
            filling.misfits.append(f"{where}: shape {source.shape} does not fit {ids.shape}")
            return
        source = source.reshape(ids.shape)
    fixed = ids < FIRST_ID
    if fixed.any():
        source, homeless = _folded(ids, source, fixed)
        if homeless:
            filling.misfits.append(
                f"{where}: the source has values ({origin}) for which the target has no parameter"
            )
            return
        ids, source = ids[~fixed], source[~fixed]
    flat, source = ids.astype(np.int64).reshape(-1), source.reshape(-1)
    for number, name in enumerate(names, 1):
        mine = flat // FIRST_ID == number if len(names) > 1 else slice(None)
        elements = flat[mine] - FIRST_ID * number
        filling.values[name].reshape(-1)[elements] = source[mine].astype(filling.values[name].dtype)
        filling.filled[name][elements] = True
        filling.moved[name] = origin
        if origin == "default":
            filling.defaulted.append(name)


def _folded(ids: Array, source: Array, fixed: Array) -> tuple[Array, bool]:
    """Both biases of a recurrent layer added up where the target has one of them; whether anything is left over."""
    rest = source[fixed] != ids[fixed]
    if not rest.any():
        return source, False
    half = ids.shape[-1] // 2
    first, second = fixed[..., :half], fixed[..., half:]
    if ids.ndim == 2 and half * 2 == ids.shape[-1]:
        for kept, lacking in ((first, second), (second, first)):
            if lacking.all() and not kept.any():
                total = np.zeros_like(source)
                total[~fixed] = (source[..., :half] + source[..., half:]).reshape(-1)
                return total, False
    return source, True


def _check(filling: _Filling, left: Graph, right: Graph) -> list[str]:
    """Source parameters that went nowhere.

    Raises:
        WeightsError: target parameters that were not filled whole, or values that found no home.
    """
    lacking = [name for name, done in filling.filled.items() if done.size and not done.all()]
    if lacking or filling.misfits:
        said = [f"not filled: {', '.join(lacking[:8])}{' …' if len(lacking) > 8 else ''}"] if lacking else []
        said += filling.misfits[:8]
        training = right.trace.checks.training
        hint = "Give mapping={source layer: target layer} where layers were paired wrongly"
        if training:
            hint = f"The target was in training mode ({', '.join(training[:4])}): call eval() on it first"
        raise WeightsError(f"the weights do not fit, the target is left as it was. {'; '.join(said)}. {hint}")
    return sorted(set(left.trace.parameters()) - filling.used)

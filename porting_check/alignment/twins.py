"""Regions that are one program on both sides: equal nodes, equal bits, equal wiring. Evaluating both would be idle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from porting_check.alignment.regions import Axes, Region
from porting_check.neutral.errors import LayoutError
from porting_check.neutral.graph import Operand, Step
from porting_check.neutral.layout import Layout
from porting_check.numerics.normal import normalized
from porting_check.numerics.program import Program

Order = tuple[int, ...] | None
"""How the candidate's native axes follow from the reference's; ``None``: the same order, whatever the rank."""


def twins(programs: tuple[Program, Program], axes: Mapping[str, Axes], region: Region) -> Axes | None:
    """The axes of the region's output when both sides are the same program; ``None`` when they are not.

    Every node must see the same arrays: its operands come from matched values through layouts that give one canonical
    array, from steps that are twins themselves, or are fixed and equal bit for bit. ``None`` also when that cannot be told
    without evaluating.

    Args:
        programs: both sides' evaluators.
        axes: how the axes of the matched values at the boundary correspond, by the reference's key.
        region: the region.
    """
    ours, theirs = programs[0].graph, programs[1].graph
    if len(region.reference) != len(region.candidate) or not region.reference:
        return None
    wires = {cut.reference: cut.candidate for cut in region.boundary}
    orders: dict[str, Order] = {key: axes[key].permutation if axes[key].moved else None for key in wires}
    for index, partner in zip(region.reference, region.candidate, strict=True):
        one, other = ours.steps[index], theirs.steps[partner]
        if not _same_node(one, other) or not _same_operands(programs, one, other, wires, orders):
            return None
        for left, right in zip(one.outputs, other.outputs, strict=False):
            try:
                orders[left.key] = _order_written(left, right)
            except LayoutError:
                return None
            wires[left.key] = right.key
    if wires.get(region.target.reference) != region.target.candidate:
        return None
    return _as_axes(orders[region.target.reference], programs[0], region)


def _same_node(one: Step, other: Step) -> bool:
    if one.node is None or other.node is None or one.node.domain != other.node.domain:
        return False
    left, right = normalized(one.node), normalized(other.node)
    arrays = any(isinstance(value, np.ndarray) for value in left.attributes.values())
    return (
        left.op_type == right.op_type and dict(left.attributes) == dict(right.attributes)
        if not arrays
        else False
    )


def _same_operands(
    programs: tuple[Program, Program],
    one: Step,
    other: Step,
    wires: Mapping[str, str],
    orders: Mapping[str, Order],
) -> bool:
    """Whether two nodes read the same arrays at every position."""
    if len(one.inputs) != len(other.inputs):
        return False
    for position, (left, right) in enumerate(zip(one.inputs, other.inputs, strict=True)):
        if left.key in wires:
            if wires[left.key] != right.key or not _same_view(left, right, orders[left.key]):
                return False
        elif left.key in programs[0].graph.fed or not _same_bits(programs, one, other, position):
            return False
    return True


def _same_view(left: Operand, right: Operand, order: Order) -> bool:
    """Whether both nodes see one array: the value's order of axes is the one that the layouts undo."""
    if left.canonical != right.canonical:
        return False
    try:
        return _order_written(left, right) == order
    except LayoutError:
        return False


def _order_written(left: Operand, right: Operand) -> Order:
    """The order between native arrays whose node-side arrays are equal, as the two operands' layouts say.

    Raises:
        LayoutError: only one side declares a layout, or the two cannot be reached from one another.
    """
    if bool(left.layout) != bool(right.layout) or left.canonical != right.canonical:
        raise LayoutError(f"layouts {left.layout!r} and {right.layout!r} do not correspond")
    if not left.layout:
        return None
    order = tuple(Layout(left.layout).permutation(Layout(right.layout)))
    return None if order == tuple(range(len(order))) else order


def _same_bits(programs: tuple[Program, Program], one: Step, other: Step, position: int) -> bool:
    if not one.inputs[position].key and not other.inputs[position].key:
        return True
    left, right = (
        program.parameter(step, position) for program, step in zip(programs, (one, other), strict=True)
    )
    return (
        left is not None and right is not None and left.dtype == right.dtype and np.array_equal(left, right)
    )


def _as_axes(order: Order, program: Program, region: Region) -> Axes | None:
    """The order of the output's axes as a permutation of known rank."""
    recorded = program.graph.array(region.target.reference)
    layout = program.graph.layouts.get(region.target.reference, "")
    if order is not None:
        return Axes(
            order,
            f"{layout} → {''.join(layout[axis] for axis in order)}" if layout else "by declared layouts",
        )
    rank = recorded.ndim if recorded is not None else len(layout)
    return Axes(tuple(range(rank)), "as they are") if rank or recorded is not None else None

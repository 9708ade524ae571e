"""Running one raw TensorFlow operator and checking its description."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from porting_check_tensorflow import callbacks
from porting_check_tensorflow.described import Described, Operand
from porting_check_tensorflow.operators import describe_operator, plain_attributes

from porting_check.neutral.trace import Port, Record
from porting_check.testing.replay import check_record

EXACT = {"rtol": 1e-11, "atol": 1e-12}
"""For operators that TensorFlow ran in float64."""

ROUNDED = {"rtol": 1e-5, "atol": 2e-6}
"""For operators that TensorFlow has in float32 only."""


def executed(op_type: str, run: Callable[[], Any]) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Attributes, inputs and outputs of the operator ``op_type`` as TensorFlow really ran it."""
    seen: list[tuple[dict[str, Any], list[Any], list[Any]]] = []

    def note(name: str, inputs: Sequence[Any], attributes: Any, outputs: Sequence[Any]) -> None:
        if name == op_type:
            seen.append((plain_attributes(attributes), list(inputs), list(outputs)))

    with callbacks.operators(note):
        run()
    assert len(seen) == 1, f"{op_type} ran {len(seen)} times"
    return seen[0]


def operand(tensor: Any, parameter: bool) -> Operand:
    """A tensor as the recorders present it: small integers that are not parameters count as fixed."""
    array = np.asarray(tensor.numpy())
    fixed = array.dtype.kind in "iub" and not parameter
    return Operand(tuple(array.shape), array.dtype.name, lambda: array, fixed=fixed, parameter=parameter)


def describe(
    op_type: str, parameters: Collection[int] = (), **arguments: Any
) -> tuple[Described | str, list[Any], list[Any]]:
    """Run ``tf.raw_ops.<op_type>(**arguments)`` and describe it; also its inputs and outputs as arrays."""
    raw = getattr(tf.raw_ops, op_type)
    attributes, inputs, outputs = executed(op_type, lambda: raw(**arguments))
    given = [operand(tensor, index in parameters) for index, tensor in enumerate(inputs)]
    made = [operand(tensor, False) for tensor in outputs]
    return (
        describe_operator(op_type, attributes, given, made),
        [t.numpy() for t in inputs],
        [t.numpy() for t in outputs],
    )


def as_record(
    op_type: str, found: Described, inputs: Sequence[Any], outputs: Sequence[Any]
) -> tuple[Record, dict[str, Any]]:
    """What a recorder would make of a description, and the values it would store."""
    ports = [Port(spec.name, f"in{spec.index}", spec.layout, spec.canonical) for spec in found.inputs]
    results = [Port(spec.name, f"out{spec.index}", spec.layout, spec.canonical) for spec in found.outputs]
    values = {f"in{index}": array for index, array in enumerate(inputs)}
    values.update({f"out{index}": array for index, array in enumerate(outputs)})
    nodes, constants = found.nodes, found.constants
    return Record(
        op_type, 0, f"tf.raw_ops.{op_type}", tuple(ports), tuple(results), (), nodes, constants
    ), values


def check(
    op_type: str,
    parameters: Collection[int] = (),
    tolerance: dict[str, float] | None = None,
    **arguments: Any,
) -> Described:
    """Run, describe and replay one raw operator; the nodes in float64 must give what TensorFlow gave."""
    found, inputs, outputs = describe(op_type, parameters, **arguments)
    assert isinstance(found, Described), found
    record, values = as_record(op_type, found, inputs, outputs)
    check_record(record, values, **(tolerance or EXACT))
    return found

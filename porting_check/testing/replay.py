"""Replaying what an adapter recorded: the nodes in float64 must give what the framework gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from porting_check.neutral.layout import convert
from porting_check.neutral.trace import Port, Record, Trace
from porting_check.numerics.normal import at_float32
from porting_check.numerics.truth import evaluate

Values = Mapping[str, Any]
Run = Callable[..., tuple[np.ndarray, ...]]


def evaluated(record: Record, values: Values) -> dict[str, np.ndarray]:
    """Outputs of a record's nodes in float64 by port name, in native layout.

    Args:
        record: a described record.
        values: arrays by value key, native layout.
    """
    assert record.nodes, f"{record.id} is opaque: {record.reason}"
    given = {port.name: _canonical(port, values[port.value]) for port in record.inputs + record.parameters}
    given.update({name: _double(np.asarray(array)) for name, array in record.constants.items()})
    results = evaluate(record.nodes, given)
    return {port.name: _native(port, results[port.name], values) for port in record.outputs}


def executed(record: Record, values: Values, run: Run, *, float64: bool = False) -> dict[str, np.ndarray]:
    """Outputs of a record's nodes by port name, in native layout, as a framework's ``run`` computes them.

    Args:
        record: a described record.
        values: arrays by value key, native layout.
        run: an adapter's ``run``.
        float64: evaluate in float64; real attributes are then used at float32, as ONNX stores them.
    """
    ports = record.inputs + record.parameters
    held: dict[str, np.ndarray] = {p.name: _turned(p, np.asarray(values[p.value])) for p in ports}
    kind = next((a.dtype for a in held.values() if a.dtype.kind in "fV"), np.dtype(np.float32))
    for name, constant in record.constants.items():
        # a real constant stands for a number in the layer's own type
        array = np.asarray(constant)
        held[name] = array.astype(kind) if array.dtype.kind == "f" else array
    for node in record.nodes:
        node = at_float32(node) if float64 else node
        inputs = [held[name] if name else None for name in node.inputs]
        held.update(zip(node.outputs, run(node, inputs, float64=float64), strict=False))
    return {port.name: _native(port, held[port.name], values) for port in record.outputs}


def check_record(record: Record, values: Values, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Raise AssertionError unless the record's nodes reproduce each recorded output.

    Integers and booleans must be equal; floats may differ by ``rtol`` of the value and ``atol`` of the
    largest one.
    """
    for port in record.outputs:
        check_port(record, port, evaluated(record, values)[port.name], values[port.value], rtol, atol)


def check_port(record: Record, port: Port, found: Any, expected: Any, rtol: float, atol: float) -> None:
    """Compare one output of a record with the recorded one."""
    expected, name = (
        np.asarray(expected),
        f"{record.id} ({record.operator}) {port.name}: {list(map(str, record.nodes))}",
    )
    assert found.shape == expected.shape, f"{name} has shape {found.shape}, recorded {expected.shape}"
    if expected.dtype.kind in "iub":
        assert found.dtype.kind == expected.dtype.kind, (
            f"{name} has dtype {found.dtype}, recorded {expected.dtype}"
        )
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    wide = expected.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    largest = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(found, wide, rtol=rtol, atol=atol * largest, err_msg=name)


def check_trace(trace: Trace, rtol: float = 1e-5, atol: float = 1e-6) -> list[str]:
    """Check every described record of a trace; returns the ids of the opaque ones."""
    for record in described(trace.records):
        check_record(record, trace.values, rtol, atol)
    return [record.id for record in trace.records if record.opaque]


def described(records: Iterable[Record]) -> list[Record]:
    """The records that have nodes."""
    return [record for record in records if not record.opaque]


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def _canonical(port: Port, array: Any) -> np.ndarray:
    return _turned(port, _double(np.asarray(array)))


def _turned(port: Port, array: np.ndarray) -> np.ndarray:
    return convert(array, port.layout, port.canonical) if port.layout else array


def _native(port: Port, array: np.ndarray, values: Values) -> np.ndarray:
    return convert(np.asarray(array), port.canonical, port.layout) if port.layout else np.asarray(array)

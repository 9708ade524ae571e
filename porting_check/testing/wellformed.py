"""Whether a trace holds together: order, names, and nodes that the standard knows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper

from porting_check.neutral.layout import Layout
from porting_check.neutral.node import EXTENSION, OPSET, Node
from porting_check.neutral.trace import Record, Trace

EXPLICIT = {
    "Conv": ("kernel_shape", "strides", "dilations", "group", "pads"),
    "ConvTranspose": ("kernel_shape", "strides", "dilations", "group", "pads"),
    "MaxPool": ("kernel_shape", "strides", "pads", "ceil_mode"),
    "AveragePool": ("kernel_shape", "strides", "pads", "ceil_mode", "count_include_pad"),
    "BatchNormalization": ("epsilon",),
    "LayerNormalization": ("axis", "epsilon"),
    "GroupNormalization": ("num_groups", "epsilon"),
    "InstanceNormalization": ("epsilon",),
    "RMSNormalization": ("epsilon",),
    "Softmax": ("axis",),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "Gelu": ("approximate",),
    "Resize": ("mode", "coordinate_transformation_mode"),
    "LSTM": ("hidden_size",),
    "GRU": ("hidden_size", "linear_before_reset"),
}
"""Attributes that are written out even where they are the standard's default, so that differences can be read off."""


def check_order(trace: Trace) -> None:
    """Raise AssertionError unless records are in execution order with calls counted from 0, values made once."""
    calls: Counter[str] = Counter()
    made = {port.value for port in trace.inputs}
    late = {port.value for record in trace.records for port in record.outputs} - made
    for record in trace.records:
        assert record.call == calls[record.name], (
            f"{record.id}: call {record.call} after {calls[record.name]}"
        )
        calls[record.name] += 1
        for port in record.inputs:
            early = port.value in late and port.value not in made
            assert not early, f"{record.id} reads {port.value} before it is made"
        for port in record.outputs:
            assert port.value not in made, f"{record.id} makes {port.value} a second time"
            made.add(port.value)
    assert len({record.id for record in trace.records}) == len(trace.records)


def check_names(trace: Trace) -> None:
    """Raise AssertionError unless every port names a value, every value is named, and nodes read names that exist."""
    sides = [p for r in trace.records for p in r.inputs + r.outputs + r.parameters]
    used = {port.value for port in [*sides, *trace.inputs, *trace.outputs]}
    assert used <= set(trace.values), f"named and never stored: {sorted(used - set(trace.values))[:5]}"
    # a tensor made inside a layer may be stored before it turns out that the nodes do without it
    idle = {key for key in set(trace.values) - used if not key.startswith("constant:")}
    assert not idle, f"stored and never named: {sorted(idle)[:5]}"
    for port in trace.inputs:
        assert port.value == f"input:{port.name}"
    for record in trace.records:
        _check_ports(record, trace)
        _check_wiring(record)


def _check_ports(record: Record, trace: Trace) -> None:
    """Layouts are of the arrays' ranks; parameters have the parameters' keys; names are unique."""
    names = [port.name for port in record.inputs + record.parameters + record.outputs]
    assert len(set(names)) == len(names), f"{record.id} has two ports of one name: {names}"
    assert not set(names) & set(record.constants), f"{record.id}: a constant bears a port's name"
    assert all(port.value.startswith("parameter:") for port in record.parameters), record.id
    for port in record.inputs + record.parameters + record.outputs:
        assert isinstance(trace.values[port.value], np.ndarray), port
        assert bool(port.layout) == bool(port.canonical), f"{record.id} {port}: one layout without the other"
        if port.layout:
            rank = np.ndim(trace.values[port.value])
            assert Layout.of(port.layout).ndim == rank, f"{record.id} {port} has rank {rank}"


def _check_wiring(record: Record) -> None:
    """Each name that a node reads is there; each output of the record is made."""
    if record.opaque:
        assert record.reason, f"{record.id} is opaque without a reason"
        return
    assert not record.reason, f"{record.id} is described and has the reason {record.reason!r}"
    known = {port.name for port in record.inputs + record.parameters} | set(record.constants)
    for node in record.nodes:
        missing = {name for name in node.inputs if name} - known
        assert not missing, f"{record.id}: {node} reads {sorted(missing)}, which nothing gives"
        known |= set(node.outputs)
    assert {port.name for port in record.outputs} <= known, f"{record.id} makes no {record.outputs}"


def check_nodes(trace: Trace) -> None:
    """Raise AssertionError unless every node is the standard's (or an extension), with known attributes."""
    for record in trace.records:
        for node in record.nodes:
            where = f"{record.id}: {node}"
            assert node.domain in ("", "ai.onnx", EXTENSION), where
            assert "auto_pad" not in node.attributes, f"{where}: padding is to be explicit"
            missing = set(EXPLICIT.get(node.op_type, ())) - set(node.attributes)
            assert not missing, f"{where} leaves {sorted(missing)} to the standard's default"
            if node.domain != EXTENSION:
                _check_schema(node, where)


def _check_schema(node: Node, where: str) -> None:
    """Name, numbers of inputs and outputs, names of attributes, by the standard's schema."""
    assert defs.has(node.op_type, OPSET, ""), f"{where} is not of opset {OPSET}"
    schema = defs.get_schema(node.op_type, OPSET)
    unknown = set(node.attributes) - set(schema.attributes)
    assert not unknown, f"{where} has attributes that the standard does not know: {sorted(unknown)}"
    absent = {name for name, a in schema.attributes.items() if a.required} - set(node.attributes)
    assert not absent, f"{where} lacks {sorted(absent)}"
    for found, least, most in (
        (node.inputs, schema.min_input, schema.max_input),
        (node.outputs, schema.min_output, schema.max_output),
    ):
        assert least <= len(found) <= most, f"{where} has {len(found)} of {least} to {most}"
    helper.make_node(node.op_type, list(node.inputs), list(node.outputs), **_protos(node))


def _protos(node: Node) -> dict[str, Any]:
    """Attributes as the standard's own constructor takes them; it refuses values of a wrong kind."""
    return {
        key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }

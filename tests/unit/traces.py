"""Small traces made by evaluating neutral nodes in float32: both sides of a comparison without any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from porting_check.neutral.graph import Graph
from porting_check.neutral.layout import Layout, convert
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, MemorySink, Port, Record, Trace, parameter_key
from porting_check.numerics.truth import evaluate_node

Layer = tuple[str, Sequence[Node], Mapping[str, np.ndarray]]
"""Name, nodes (first input ``x``, last output ``y``; other inputs by wire or parameter), parameters in canonical layout."""


def run_network(
    layers: Sequence[Layer | tuple],
    inputs: np.ndarray,
    *,
    layout: str = "NCHW",
    framework: str = "torch",
    outputs: Sequence[str] = (),
    opaque: Sequence[str] = (),
) -> Trace:
    """Run layers in a row (a fourth element names other layers whose outputs are read) and record them.

    ``layout`` is the native layout of 4-D activations: the trace of a channels-last framework is made with ``NHWC``.
    """
    sink = MemorySink()
    native = convert(inputs, Layout("NCHW"), Layout(layout)) if inputs.ndim == 4 else inputs
    sink.value("input:0", np.ascontiguousarray(native))
    sink.input(Port("0", "input:0", layout if inputs.ndim == 4 else ""))
    made: dict[str, np.ndarray] = {"input": inputs}
    keys = {"input": "input:0"}
    last = "input"
    for layer in layers:
        name, nodes, parameters = layer[:3]
        sources = layer[3] if len(layer) > 3 else (last,)
        _layer(sink, name, nodes, parameters, sources, made, keys, layout, name in opaque)
        last = name
    for index, name in enumerate(outputs or (last,)):
        sink.output(Port(str(index), keys[name]))
    return sink.trace("network", Environment(framework, {framework: "0"}))


def _layer(sink, name, nodes, parameters, sources, made, keys, layout, hidden) -> None:
    wires = ["x", "x2", "x3"]
    local = {wire: made[source] for wire, source in zip(wires, sources)}
    ports = [_port(wire, keys[source], made[source], layout) for wire, source in zip(wires, sources)]
    weights = []
    for role, array in parameters.items():
        key = parameter_key(f"{name}.{role}")
        sink.value(key, np.asarray(array))
        weights.append(Port(role, key))
        local[role] = np.asarray(array)
    for node in nodes:
        results = evaluate_node(node, [local[n] if n else None for n in node.inputs], dtype=None)
        local.update(zip(node.outputs, results))
    result = local["y"]
    key = f"{name}:0"
    keys[name], made[name] = key, result
    output = _port("y", key, result, layout)
    native = convert(result, Layout("NCHW"), Layout(layout)) if result.ndim == 4 else result
    sink.value(key, np.ascontiguousarray(native))
    shown = () if hidden else tuple(nodes)
    sink.record(
        Record(
            name, 0, "test", tuple(ports), (output,), tuple(weights), shown, reason="hidden" if hidden else ""
        )
    )


def _port(name: str, key: str, array: np.ndarray, layout: str) -> Port:
    return Port(name, key, layout, "NCHW") if array.ndim == 4 else Port(name, key)


def constant(name: str, value: object) -> Node:
    """A Constant node."""
    return Node("Constant", (), (name,), {"value": np.asarray(value)})


def conv(pads=(0, 0, 0, 0), kernel=(3, 3), strides=(1, 1), group=1, **more) -> Node:
    """A Conv with bias."""
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": (1, 1),
        "group": group,
        "pads": pads,
        **more,
    }
    return Node("Conv", ("x", "weight", "bias"), ("y",), attributes)


def graph(*arguments, **options) -> Graph:
    """The graph of a network's trace."""
    return Graph(run_network(*arguments, **options))

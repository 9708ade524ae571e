"""``python -m porting_check.recorder.network``: run the nodes of a network with one framework's own operators.

The network comes as a recording whose values are what every node is to be fed with, so that each one is judged on its own;
then the nodes run once more in a row, each on what the framework itself made. Standard library and numpy only, Python 3.7.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import PortingError, RunError
from porting_check.neutral.graph import Graph, Operand, Step
from porting_check.neutral.layout import convert
from porting_check.neutral.tensorfile import write_tensors
from porting_check.neutral.tracefile import load_trace
from porting_check.recorder.machine import surroundings
from porting_check.recorder.registry import load_adapter

READY, VALUES, RESULT = "ready", "values.safetensors", "result.json"
"""What the process says when its framework is imported, and the files of its folder."""

Read = Callable[[str], Optional[np.ndarray]]


def main(arguments: Optional[List[str]] = None) -> int:
    """Import the framework, say so, wait for a line on standard input, run the network of the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m porting_check.recorder.network", description=__doc__.splitlines()[0]
    )
    parser.add_argument("framework")
    parser.add_argument("network", help="a recording that holds the nodes and what they are fed with")
    parser.add_argument("--out", required=True, help="the folder for what the framework made")
    parser.add_argument("--float64", action="store_true")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        adapter = load_adapter(options.framework)
        environment = surroundings(adapter).to_json()
        imported = time.perf_counter() - started
        print(READY, flush=True)
        if not sys.stdin.readline():
            return 0  # whoever asked has gone
        result = run_network(adapter, options.network, options.out, float64=options.float64)
    except PortingError as error:
        _write(options.out, {"error": {"type": type(error).__name__, "message": str(error)}})
        return error.exit_status
    _write(options.out, {"environment": environment, "import_seconds": imported, **result})
    return 0


def run_network(adapter: Adapter, network: str, out: str, *, float64: bool = False) -> Dict[str, Any]:
    """Run every node that depends on the input, alone and in a row, and write what it made.

    Args:
        adapter: of the framework.
        network: a recording with the value of everything that a node reads.
        out: an existing folder; receives :data:`VALUES`: ``<step>:<output>`` in the nodes' layout, ``end:<path>`` in the
            model's.
        float64: evaluate in float64.

    Returns:
        ``refused`` (why a step was not run, by index), ``broken`` (why the row stopped, ""), ``seconds`` of both passes.
    """
    graph = Graph(load_trace(network))
    steps = [step for step in graph.steps if step.node is not None and is_fed(graph, step)]
    made: Dict[str, np.ndarray] = {}
    refused: Dict[str, str] = {}
    clock = [time.perf_counter()]
    for step in steps:
        results, reason = execute(adapter, step, graph.array, float64)
        made.update({f"{step.index}:{place}": array for place, array in enumerate(results)})
        if reason:
            refused[str(step.index)] = reason
    clock.append(time.perf_counter())
    ends, broken = chained(adapter, graph, steps, float64)
    clock.append(time.perf_counter())
    made.update({"end:" + path: array for path, array in ends.items()})
    write_tensors(os.path.join(out, VALUES), made)
    return {
        "refused": refused,
        "broken": broken,
        "seconds": {"alone": clock[1] - clock[0], "in a row": clock[2] - clock[1]},
    }


def is_fed(graph: Graph, step: Step) -> bool:
    """Whether a step depends on the model's input; the others only prepare parameters."""
    return any(operand.key in graph.fed for operand in step.outputs)


def execute(adapter: Adapter, step: Step, read: Read, float64: bool) -> Tuple[Sequence[np.ndarray], str]:
    """One node on the values that ``read`` gives: its outputs in the node's layouts, or why there are none."""
    assert step.node is not None
    try:
        inputs = [canonical(operand, read) for operand in step.inputs]
        return adapter.run(step.node, inputs, float64=float64), ""
    except PortingError as error:
        return (), str(error)
    except (MemoryError, RecursionError) as error:
        return (), f"{adapter.framework} could not run {step.node}: {type(error).__name__}"


def canonical(operand: Operand, read: Read) -> Optional[np.ndarray]:
    """What a node reads, in the node's layout; ``None`` for an absent input.

    Raises:
        RunError: nothing made the value.
    """
    if not operand.key:
        return None
    array = read(operand.key)
    if array is None:
        raise RunError(f"the value {operand.key!r} that this node reads was not made")
    return convert(array, operand.layout, operand.canonical) if operand.layout else np.asarray(array)


def native(operand: Operand, array: np.ndarray) -> np.ndarray:
    """What a node made, in the layout in which the model holds it."""
    return convert(array, operand.canonical, operand.layout) if operand.layout else array


def chained(
    adapter: Adapter, graph: Graph, steps: Sequence[Step], float64: bool
) -> Tuple[Dict[str, np.ndarray], str]:
    """The model's outputs when each node reads what the framework made; and why the row stopped, ""."""
    given = {port.value for port in graph.trace.inputs}
    given |= {operand.key for step in graph.steps if step.node is None for operand in step.outputs}
    held: Dict[str, np.ndarray] = {}

    def read(key: str) -> Optional[np.ndarray]:
        fixed = key in given or key not in graph.fed
        return graph.array(key) if fixed else held.get(key)

    last = _last_uses(graph, steps)
    for step in steps:
        results, reason = execute(adapter, step, read, float64)
        if reason:
            return {}, f"{graph.record_of(step).id}: {reason}"
        for operand, array in zip(step.outputs, results):
            held[operand.key] = native(operand, array)
        for key in last.get(step.index, ()):
            held.pop(key, None)
    ends = {port.name: read(port.value) for port in graph.trace.outputs}
    return {path: np.asarray(array) for path, array in ends.items() if array is not None}, ""


def _last_uses(graph: Graph, steps: Sequence[Step]) -> Mapping[int, List[str]]:
    """Which values nothing reads after a step, so that a row of nodes holds no more than it must."""
    kept = {port.value for port in graph.trace.outputs}
    last = {o.key: step.index for step in steps for o in step.inputs if o.key not in kept}
    freed: Dict[int, List[str]] = {}
    for key, index in last.items():
        freed.setdefault(index, []).append(key)
    return freed


def _write(out: str, data: Mapping[str, Any]) -> None:
    with open(os.path.join(out, RESULT), "w", encoding="utf-8") as file:
        json.dump(data, file)


if __name__ == "__main__":
    # What a framework prints must not be taken for our word.
    _ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = _ours
    sys.exit(main())

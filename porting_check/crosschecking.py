"""``pc.crosscheck``: one network, identical weights and inputs, through several frameworks, layer by layer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from porting_check.crossverdict import end_of, judged
from porting_check.environments.workers import Ran
from porting_check.keeping import require_weights
from porting_check.network import lifted
from porting_check.neutral.errors import ModelError, PortingError
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Trace
from porting_check.recorder.sources import framework_of, is_trace
from porting_check.recording import Layouts, Progress, quiet
from porting_check.report.crosstable import Crosstable
from porting_check.room import Room, chosen, ends_in_float64, write_network


def crosscheck(
    network: Any,
    inputs: Any = None,
    frameworks: Sequence[str] | None = None,
    *,
    seed: int = 0,
    layouts: Layouts | str | None = None,
    float64: bool = False,
    note: str = "",
    progress: Progress = quiet,
) -> Crosstable:
    """Run one network in several frameworks, each in a process of its own, and compare every layer with its truth.

    Each layer gets the same input everywhere (the float64 truth of the layer before it, rounded), so that no error is
    inherited; then each framework runs the whole network on its own values.

    Args:
        network: an ``.onnx`` file or ``onnx.ModelProto``, a :class:`Network` or a list of nodes, a live model, a recording,
            ``file.py:function``: what is no network of nodes is recorded first.
        inputs: as :func:`porting_check.compare` takes them. None: seeded noise.
        frameworks: names; None: every one that is installed.
        seed: of the noise.
        layouts: of the inputs, where they cannot be known.
        float64: let the frameworks compute in float64.
        note: a sentence to show above the table.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The table; ``table.verdict`` is ``"agree"``, ``"differ"`` or ``"inconclusive"``.

    Raises:
        PortingError: no network, bad inputs, an unknown framework, or a layer that cannot be evaluated.

    Example:
        >>> print(crosscheck("model.onnx", image))                        # doctest: +SKIP
    """
    names = chosen(frameworks)
    if isinstance(network, (str, Path)) and not is_trace(str(network)):
        framework_of(str(network))  # what is not there is told before any framework starts
    with tempfile.TemporaryDirectory(prefix="porting-check-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        absent: dict[str, str] = {}
        room = Room(stack, folder, names, float64)
        futures = room.start()
        trace = lifted(network, inputs, seed=seed, layouts=layouts, progress=progress)
        require_weights(trace)
        graph = _whole(trace)
        progress("evaluating in float64", 0, 1)
        truths = write_network(graph, folder / "network.trace", float64)
        room.written.set()
        ends = ends_in_float64(graph)
        ran: dict[str, Ran] = {}
        for number, name in enumerate(names):
            progress("running the frameworks", number, len(names))
            try:
                ran[name] = futures[name].result()
            except PortingError as error:
                absent[name] = str(error)
        layers = tuple(judged(graph, truth, ran) for truth in truths)
        opaque = tuple(record.id for record in trace.records if record.opaque)
        return Crosstable(
            trace.model,
            {name: one.environment for name, one in ran.items()},
            layers,
            tuple(
                end_of(path, truth, name, one) for path, truth in ends.items() for name, one in ran.items()
            ),
            absent,
            opaque,
            {name: {"import": one.import_seconds, **one.seconds} for name, one in ran.items()},
            note,
        )


def _whole(trace: Trace) -> Graph:
    """The graph of a network, of which everything that is read is known.

    Raises:
        ModelError: no layer has nodes.
    """
    graph = Graph(trace)
    if not any(step.node is not None for step in graph.steps):
        raise ModelError(f"nothing of {trace.model!r} is described as nodes, so no framework can run it")
    return graph

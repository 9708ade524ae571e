"""``pc.crosscheck``: one network, identical weights and inputs, through several frameworks, layer by layer."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.crossverdict import end_of, judged
from porting_check.environments.workers import Ran, Worker
from porting_check.network import NEUTRAL, lifted
from porting_check.neutral.errors import FrameworkMissing, InputError, ModelError, PortingError
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Checks, Trace
from porting_check.neutral.tracefile import TraceWriter
from porting_check.numerics.program import Program
from porting_check.numerics.stepwise import StepTruth, Stepwise
from porting_check.numerics.truth import CannotEvaluate
from porting_check.recorder.registry import installed
from porting_check.recorder.sources import framework_of, is_trace
from porting_check.recording import Layouts, Progress, quiet
from porting_check.report.crosstable import Crosstable

Array = np.ndarray

LONGEST_FIRST = ("jax", "tensorflow", "torch", "onnxruntime")
"""Frameworks by how long they take, import and compilation included: the longest begins first."""

SHOWN = ("torch", "tensorflow", "jax", "onnxruntime")
"""Order in which frameworks are shown when none are named."""


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
    chosen = _chosen(frameworks)
    if isinstance(network, (str, Path)) and not is_trace(str(network)):
        framework_of(str(network))  # what is not there is told before any framework starts
    with tempfile.TemporaryDirectory(prefix="porting-check-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        absent: dict[str, str] = {}
        room = _Room(stack, folder, chosen, float64)
        futures = room.start()
        trace = lifted(network, inputs, seed=seed, layouts=layouts, progress=progress)
        graph = _whole(trace)
        progress("evaluating in float64", 0, 1)
        truths = _write(graph, folder / "network.trace", float64)
        room.written.set()
        ends = _ends_in_float64(graph)
        ran: dict[str, Ran] = {}
        for number, name in enumerate(chosen):
            progress("running the frameworks", number, len(chosen))
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


def _chosen(frameworks: Sequence[str] | None) -> tuple[str, ...]:
    """The frameworks to run, in the order asked for."""
    import importlib.util

    known = installed()
    if frameworks is None:
        present = [name for name in SHOWN if name in known] + sorted(set(known) - set(SHOWN))
        frameworks = [name for name in present if importlib.util.find_spec(name) is not None]
    if isinstance(frameworks, str):
        raise InputError(f"frameworks is the text {frameworks!r}; give a list of names")
    unknown = [name for name in frameworks if name not in known]
    if unknown:
        raise FrameworkMissing(
            f"no adapter for {unknown[0]!r} is installed; installed: {', '.join(sorted(known))}"
        )
    if len(set(frameworks)) < 2:
        raise InputError(
            f"a crosscheck needs two frameworks or more, found {', '.join(frameworks) or 'none'}; "
            f"adapters: {', '.join(sorted(known))}"
        )
    return tuple(dict.fromkeys(frameworks))


class _Room:
    """Starts the frameworks' processes, as many at a time as there are cores; they wait until the network is written."""

    def __init__(
        self, stack: contextlib.ExitStack, folder: Path, chosen: Sequence[str], float64: bool
    ) -> None:
        self.folder, self.chosen, self.float64 = folder, chosen, float64
        self.cores = max(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 1
        )
        self.written = threading.Event()
        self._left = False
        self._pool = stack.enter_context(ThreadPoolExecutor(max_workers=min(self.cores, len(chosen))))
        stack.callback(self._leave)

    def start(self) -> dict[str, Any]:
        """One future per framework, the longest first."""
        order = sorted(self.chosen, key=lambda n: LONGEST_FIRST.index(n) if n in LONGEST_FIRST else 99)
        return {name: self._pool.submit(self._run, name) for name in order}

    def _run(self, name: str) -> Ran:
        if self._left:
            raise ModelError("the crosscheck was given up")
        threads = max(1, self.cores // min(self.cores, len(self.chosen)))
        where = self.folder / name
        with Worker(
            name, self.folder / "network.trace", where, float64=self.float64, threads=threads
        ) as worker:
            worker.ready()
            self.written.wait()
            if self._left:
                raise ModelError("the crosscheck was given up")
            return worker.run()

    def _leave(self) -> None:
        """Nothing more is coming: whoever still waits is let go."""
        self._left = not self.written.is_set()
        self.written.set()


def _whole(trace: Trace) -> Graph:
    """The graph of a network, of which everything that is read is known.

    Raises:
        ModelError: no layer has nodes.
    """
    graph = Graph(trace)
    if not any(step.node is not None for step in graph.steps):
        raise ModelError(f"nothing of {trace.model!r} is described as nodes, so no framework can run it")
    return graph


def _write(graph: Graph, path: Path, float64: bool) -> list[StepTruth]:
    """Evaluate every layer, and write down what each is to be fed with.

    Raises:
        ModelError: a layer that cannot be evaluated in float64.
    """
    stepwise = Stepwise(graph, float64=float64)
    truths: list[StepTruth] = []
    try:
        truths.extend(stepwise)
    except (CannotEvaluate, ValueError, IndexError, TypeError) as error:
        at = len(truths) and truths[-1].step.index + 1
        where = graph.record_of(graph.steps[min(at, len(graph.steps) - 1)]).id
        raise ModelError(f"the network cannot be evaluated at or after {where}: {error}") from error
    trace = graph.trace
    with TraceWriter(str(path), trace.model, NEUTRAL) as writer:
        for key, array in {**_kept(trace), **stepwise.rounded}.items():
            writer.value(key, np.asarray(array))
        for record in trace.records:
            writer.record(record)
        for port in trace.inputs:
            writer.input(port)
        for port in trace.outputs:
            writer.output(port)
        writer.finish(Checks())
    return truths


def _kept(trace: Trace) -> dict[str, Array]:
    """What a network needs besides what its own nodes make: inputs, parameters, constants from outside."""
    made = {port.value for record in trace.records if not record.opaque for port in record.outputs}
    return {key: trace.values[key] for key in trace.values if key not in made}


def _ends_in_float64(graph: Graph) -> dict[str, Array]:
    """The network's outputs, in float64 from end to end."""
    wanted = {port.name: port.value for port in graph.trace.outputs if port.value in graph.producer}
    opaque = {operand.key for step in graph.steps if step.node is None for operand in step.outputs}
    given = {port.value: graph.trace.values[port.value] for port in graph.trace.inputs}
    given.update({key: graph.trace.values[key] for key in opaque if key in graph.trace.values})
    steps = [step.index for step in graph.steps if step.node is not None]
    found = Program(graph).evaluate(steps, given, set(wanted.values()) - set(given))
    return {path: found[key] for path, key in wanted.items() if key in found}

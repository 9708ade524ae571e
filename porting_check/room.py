"""Running one network in several frameworks: which ones, their processes, and what the network is fed with."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.environments.workers import Ran, Worker
from porting_check.network import NEUTRAL
from porting_check.neutral.errors import FrameworkMissing, InputError, ModelError
from porting_check.neutral.graph import Graph
from porting_check.neutral.trace import Checks, Trace
from porting_check.neutral.tracefile import TraceWriter
from porting_check.numerics.program import Program
from porting_check.numerics.stepwise import StepTruth, Stepwise
from porting_check.numerics.truth import CannotEvaluate
from porting_check.recorder.registry import installed

Array = np.ndarray

LONGEST_FIRST = ("jax", "tensorflow", "torch", "onnxruntime")
"""Frameworks by how long they take, import and compilation included: the longest begins first."""

SHOWN = ("torch", "tensorflow", "jax", "onnxruntime")
"""Order in which frameworks are shown when none are named."""


def chosen(frameworks: Sequence[str] | None) -> tuple[str, ...]:
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


class Room:
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


def write_network(graph: Graph, path: Path, float64: bool) -> list[StepTruth]:
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


def ends_in_float64(graph: Graph) -> dict[str, Array]:
    """The network's outputs, in float64 from end to end."""
    wanted = {port.name: port.value for port in graph.trace.outputs if port.value in graph.producer}
    opaque = {operand.key for step in graph.steps if step.node is None for operand in step.outputs}
    given = {port.value: graph.trace.values[port.value] for port in graph.trace.inputs}
    given.update({key: graph.trace.values[key] for key in opaque if key in graph.trace.values})
    steps = [step.index for step in graph.steps if step.node is not None]
    found = Program(graph).evaluate(steps, given, set(wanted.values()) - set(given))
    return {path: found[key] for path, key in wanted.items() if key in found}

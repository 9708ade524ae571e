"""Both sides of a comparison on the same inputs: live here, by name wherever each must run, or recorded long ago."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.configuration import environment
from porting_check.environments.runners import Announced, Side, cancelling, runner_for
from porting_check.environments.specification import EnvironmentSpec
from porting_check.keeping import require_weights
from porting_check.neutral.errors import InputError
from porting_check.neutral.graph import input_layouts
from porting_check.neutral.trace import Trace
from porting_check.recorder.inputs import named, probe, translate
from porting_check.recorder.registry import adapter_for
from porting_check.recorder.sources import framework_of, is_trace
from porting_check.recording import (
    Layouts,
    declared,
    from_files,
    load_trace,
    record,
    record_live,
    request_for,
)
from porting_check.transfer import moved_parameters

Array = np.ndarray
Progress = Callable[[str, int, int], None]
Ask = Callable[[Mapping[str, Array]], Mapping[str, Array]]

SIDES = ("reference", "candidate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """Two recordings on the same inputs, and how each side is differentiated there (``None`` for a recording)."""

    ours: Trace
    theirs: Trace
    asks: tuple[Ask | None, Ask | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The two models, and how they are to be run.

    Attributes:
        reference, candidate: live models, traces, or strings.
        layouts: of inputs, by side.
        folder: an existing folder for what is recorded by name.
        environments: where a side that is given by name runs, by side.
        seed: of the noise.
        shadow: also run both in float64.
        progress: called as ``progress(stage, done, total)``, from several threads.
    """

    reference: Any
    candidate: Any
    layouts: Mapping[str, Layouts | str]
    folder: Path
    environments: Mapping[str, EnvironmentSpec | str]
    seed: int
    shadow: bool
    progress: Progress
    cancelled: threading.Event

    def record(
        self, inputs: Any, *, transfer: bool = False, mapping: Mapping[str, str] | None = None
    ) -> Both:
        """Record both, at the same time where both run elsewhere and there are cores for it.

        Args:
            inputs: as for :func:`porting_check.compare`.
            transfer: move the reference's weights into the candidate first.
            mapping: record ids of the reference to record ids of the candidate, for that.

        Raises:
            PortingError: bad inputs, or a side that cannot be loaded or run.
        """
        self._check()
        one, other = self._side("reference"), self._side("candidate")
        weights = None
        if one is not None and other is not None and not transfer and _cores() > 1:
            ours, theirs = cancelling(self.cancelled, lambda: self._together(one, other, inputs))
        else:
            ours = self._reference(one, inputs)
            weights = self._moved(other, ours, mapping) if transfer else None
            theirs = self._candidate(other, ours, weights)
        asks = self._ask(self.reference, one, ours, None), self._ask(self.candidate, other, theirs, weights)
        return Both(ours=ours, theirs=theirs, asks=asks)

    def _check(self) -> None:
        unknown = set(self.environments) - set(SIDES)
        if unknown:
            raise InputError(
                f"environments has the keys {sorted(unknown)}; expected 'reference' and 'candidate'"
            )
        for side in SIDES:
            model = getattr(self, side)
            if self.environments.get(side) and not _by_name(model):
                what = "a recording" if recorded(model) else f"a live {type(model).__name__}"
                raise InputError(
                    f"an environment was given for the {side}, which is {what} and cannot be taken there: give a model "
                    "file or file.py:function"
                )

    def _side(self, name: str) -> Side | None:
        """How a side runs by name; ``None`` for live models and recordings. A name that leads nowhere is found out here."""
        model = getattr(self, name)
        if not _by_name(model):
            return None
        framework_of(str(model))
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        runner = runner_for(environment(self.environments.get(name)))
        stage = _stage(name, self.progress)
        return Side(runner=runner, model=str(model), folder=folder, progress=stage, cancelled=self.cancelled)

    def _together(self, one: Side, other: Side, inputs: Any) -> tuple[Trace, Trace]:
        """Both at the same time: the candidate is asked as soon as the reference has chosen its inputs."""
        announced: Future[Announced] = Future()
        asked: Future[Mapping[str, Any]] = Future()
        request = self._request(one, inputs)
        with ThreadPoolExecutor(max_workers=2) as pool:
            first = pool.submit(one.record, request, "reference.trace", announced)
            second = pool.submit(other.record, asked, "candidate.trace")

            def early(done: Future[Announced]) -> None:
                if done.result().complete:
                    asked.set_result(self._like(other, done.result().inputs, done.result().layouts))

            def late(done: Future[Trace]) -> None:
                if asked.done():
                    return
                if done.cancelled() or done.exception() is not None:
                    asked.cancel()
                else:
                    asked.set_result(self._as_recorded(other, done.result()))

            announced.add_done_callback(early)
            first.add_done_callback(late)
            _, waiting = wait((first, second), return_when=FIRST_EXCEPTION)
            if waiting:
                self.cancelled.set()
            wait((first, second))
        if waiting == {first}:
            second.result()
        return first.result(), second.result()

    def _request(self, side: Side, inputs: Any) -> dict[str, Any]:
        side.given.mkdir(parents=True, exist_ok=True)
        layouts = self.layouts.get("reference")
        return request_for(inputs, self.seed, layouts, str(side.given), float64=self.shadow)

    def _reference(self, side: Side | None, inputs: Any) -> Trace:
        """The reference's recording, on the given inputs or on noise in the shape that either side asks for."""
        made = from_files(inputs)
        if isinstance(self.reference, Trace):
            return self.reference
        if recorded(self.reference):
            return load_trace(str(self.reference), verify=True)
        if made is None and side is None and _shapeless(self.reference):
            made = self._probe_of_candidate()
        if side is not None:
            request = self._request(side, made)
            return cancelling(self.cancelled, lambda: side.record(request, "reference.trace"))
        stage = _stage("reference", self.progress)
        layouts = self.layouts.get("reference")
        return record(
            self.reference, made, seed=self.seed, layouts=layouts, float64=self.shadow, progress=stage
        )

    def _probe_of_candidate(self) -> Any:
        """Noise in the shape that the candidate asks for, turned into the reference's layout."""
        if isinstance(self.candidate, (Trace, str, Path)):
            return None
        specs = adapter_for(self.candidate).inputs(self.candidate)
        if not specs or any(spec.shape is None for spec in specs):
            return None
        own = self.layouts.get("candidate")
        layouts = {spec.name: declared(own, spec.name) or spec.layout for spec in specs}
        wanted = adapter_for(self.reference).inputs(self.reference)
        return translate(probe(specs, self.seed), layouts, wanted)[0]

    def _moved(self, side: Side | None, ours: Trace, mapping: Mapping[str, str] | None) -> dict[str, Array]:
        """The reference's weights as the candidate's parameters, from a first run of the candidate."""
        if recorded(self.candidate):
            raise InputError("weights cannot be moved into a recording: give a live model or what builds one")
        require_weights(ours)
        return moved_parameters(ours, self._candidate(side, ours, None, check=False), mapping)[1]

    def _candidate(
        self, side: Side | None, ours: Trace, weights: Mapping[str, Array] | None, *, check: bool = True
    ) -> Trace:
        """The candidate's recording; a given one is checked to be of the same inputs."""
        if recorded(self.candidate):
            given = self.candidate
            theirs = given if isinstance(given, Trace) else load_trace(str(given), verify=True)
            _same_inputs(ours, theirs)
            return theirs
        if side is not None:
            request = self._as_recorded(side, ours, weights, check=check)
            out = "candidate.trace" if check else "first.trace"
            return cancelling(self.cancelled, lambda: side.record(request, out))
        return self._live(ours, weights, check)

    def _live(self, ours: Trace, weights: Mapping[str, Array] | None, check: bool) -> Trace:
        adapter = adapter_for(self.candidate)
        specs = adapter.inputs(self.candidate)
        if weights:
            adapter.assign(self.candidate, weights)
        given = {port.name: np.asarray(ours.values[port.value]) for port in ours.inputs}
        own = self.layouts.get("candidate")
        wanted = {name: declared(own, name) for name in [*given, *(spec.name for spec in specs)]}
        inputs, used = translate(given, input_layouts(ours), specs, wanted)
        stage = _stage("candidate", self.progress)
        ready = named(inputs, specs)
        return record_live(
            adapter, self.candidate, ready, used, None, stage, check, float64=self.shadow and check
        )

    def _as_recorded(
        self, side: Side, ours: Trace, weights: Mapping[str, Array] | None = None, *, check: bool = True
    ) -> dict[str, Any]:
        """What the candidate is asked once the reference was recorded."""
        given = {port.name: np.asarray(ours.values[port.value]) for port in ours.inputs}
        return self._like(side, given, input_layouts(ours), weights, check=check)

    def _like(
        self,
        side: Side,
        given: Mapping[str, Array],
        known: Layouts,
        weights: Mapping[str, Array] | None = None,
        *,
        check: bool = True,
    ) -> dict[str, Any]:
        """The request for the reference's inputs; inputs and weights go in as files."""
        side.given.mkdir(parents=True, exist_ok=True)
        request: dict[str, Any] = {"like": dict(known), "check": check, "float64": self.shadow and check}
        request["inputs"] = {"": _file(side.given / "inputs.npz", given)}
        if weights:
            request["weights"] = _file(side.given / "weights.npz", weights)
        if layouts := self.layouts.get("candidate"):
            request["layouts"] = {"": layouts} if isinstance(layouts, str) else dict(layouts)
        return request

    def _ask(
        self, model: Any, side: Side | None, trace: Trace, weights: Mapping[str, Array] | None
    ) -> Ask | None:
        """How a side is differentiated on the inputs that were recorded."""
        if recorded(model):
            return None
        inputs = {port.name: np.asarray(trace.values[port.value]) for port in trace.inputs}
        if side is not None:
            return lambda made: cancelling(self.cancelled, lambda: side.gradients(inputs, made, weights))
        return lambda made: adapter_for(model).gradients(model, inputs, made)


def recorded(model: Any) -> bool:
    """Whether a side is a recording."""
    return isinstance(model, Trace) or (isinstance(model, (str, Path)) and is_trace(str(model)))


def _by_name(model: Any) -> bool:
    return isinstance(model, (str, Path)) and not recorded(model)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stage(side: str, progress: Progress) -> Progress:
    return lambda stage, done, total: progress(f"{side}: {stage}", done, total)


def _file(path: Path, arrays: Mapping[str, Array]) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def _shapeless(model: Any) -> bool:
    """Whether a live reference does not say what it takes."""
    specs = adapter_for(model).inputs(model)
    return not specs or any(spec.shape is None for spec in specs)


def _same_inputs(ours: Trace, theirs: Trace) -> None:
    """Two recordings can be compared only when they were made on the same input.

    Raises:
        InputError: another number of inputs, or other values.
    """
    from porting_check.alignment.fingerprint import weight_hash

    if len(ours.inputs) != len(theirs.inputs):
        raise InputError(
            f"the recordings have {len(ours.inputs)} and {len(theirs.inputs)} inputs; record both on the same input"
        )
    for one, other in zip(ours.inputs, theirs.inputs, strict=True):
        if weight_hash(ours.values[one.value]) != weight_hash(theirs.values[other.value]):
            raise InputError(
                f"the recordings were made on different inputs ({one.name!r} and {other.name!r} hold other values): record the "
                "candidate on the reference's input, or let compare run it"
            )

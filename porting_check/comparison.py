"""``pc.compare``: is the port faithful; if not, which layer is wrong, why, and what to change?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.environments.local import gradients_in_subprocess, record_in_subprocess
from porting_check.examination import examine
from porting_check.gradients import Ask, compare_gradients
from porting_check.neutral.errors import InputError, PortingError
from porting_check.neutral.graph import input_layouts
from porting_check.neutral.trace import Trace
from porting_check.optimizing import compare_optimizers
from porting_check.recorder.inputs import named, probe, translate
from porting_check.recorder.registry import adapter_for
from porting_check.recorder.sources import is_trace
from porting_check.recording import (
    Layouts,
    declared,
    from_files,
    load_trace,
    quiet,
    record,
    record_live,
    request_for,
)
from porting_check.report.assemble import assemble
from porting_check.report.result import Report
from porting_check.shadow import shadow as second_opinion
from porting_check.training import training_step
from porting_check.transfer import moved_parameters

Progress = Callable[[str, int, int], None]


class NotFaithful(AssertionError):
    """Raised by :func:`assert_faithful`; the message begins with the layer, the cause and the fix."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def compare(
    reference: Any,
    candidate: Any,
    inputs: Any = None,
    *,
    layouts: Mapping[str, Layouts | str] | None = None,
    mapping: Mapping[str, str] | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    transfer: bool = False,
    gradients: bool = False,
    training: bool | None = None,
    optimizers: tuple[Any, Any] | None = None,
    shadow: bool = True,
    progress: Progress = quiet,
) -> Report:
    """Compare a candidate with its reference, layer by layer, without a tolerance.

    Args:
        reference: the model that is right by definition: live, a :class:`Trace`, or a string (a model file, a recording,
            ``file.py:function``, ``package.module:function``).
        candidate: its port, in any of the same forms.
        inputs: an array, a tuple, or a dict by name, in the reference's layout; paths too. None: seeded white noise.
        layouts: ``{"reference": "NHWC", "candidate": {"0": "NCHW"}}`` where they cannot be known.
        mapping: record ids of the reference to record ids of the candidate, where pairing needs help.
        seed: of the noise.
        rtol: relative part of a tolerance on the end-to-end outputs, which then decides alone; shown in the report.
        atol: its absolute part; both or neither.
        transfer: move the reference's weights into the candidate first (a live candidate keeps them).
        gradients: also differentiate both models for a seeded random cotangent and judge every gradient; see
            ``report.section("gradients")``.
        training: also take one training step of every batch norm, which inference says nothing of: ``False`` reports what it
            finds, ``True`` lets a wrong momentum decide the verdict; see ``report.section("training")``.
        optimizers: the reference's and the candidate's, to be compared on the same parameters and gradients, see
            :func:`porting_check.compare_optimizers`; a difference decides the verdict.
        shadow: run both whole models in float64 too, as a second opinion; see ``report.section("float64")``.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The report; ``report.verdict`` is ``"faithful"``, ``"divergent"`` or ``"inconclusive"``.

    Raises:
        PortingError: bad inputs, a side that cannot be loaded or run.

    Example:
        >>> report = compare(keras_model, torch_module, image)        # doctest: +SKIP
        >>> print(report)                                             # doctest: +SKIP
    """
    if (rtol is None) != (atol is None):
        raise InputError("rtol and atol: give both or neither; a lone one hides what the other allows")
    sides = dict(layouts or {})
    unknown = set(sides) - {"reference", "candidate"}
    if unknown:
        raise InputError(f"layouts has the keys {sorted(unknown)}; expected 'reference' and 'candidate'")
    with tempfile.TemporaryDirectory(prefix="porting-check-") as folder:
        ours = _reference(reference, candidate, inputs, sides, seed, folder, progress, shadow)
        run = _CandidateRun(
            candidate, ours, sides.get("candidate"), Path(folder), _stage("candidate", progress), shadow
        )
        weights = run.moved_weights(mapping) if transfer else None
        theirs = run.record(weights)
        found = examine(ours, theirs, mapping, progress)
        settings: dict[str, Any] = {"seed": seed, "rtol": rtol, "atol": atol, "transfer": transfer}
        second = second_opinion(found) if shadow else None
        sections = [second] if second is not None else []
        if gradients:
            settings["gradients"] = True
            asked = _asking(reference, ours, Path(folder)), _asking(candidate, theirs, Path(folder), weights)
            sections.append(compare_gradients(found, asked, seed, progress))
        if training is not None:
            settings["training"] = training
            sections.append(training_step(found, reference, candidate, decide=training, seed=seed))
        if optimizers is not None:
            sections.append(compare_optimizers(*optimizers, seed=seed).section())
        return assemble(
            found,
            settings=settings,
            progress=progress,
            sections=sections,
        )


def assert_faithful(reference: Any, candidate: Any, inputs: Any = None, **options: Any) -> Report:
    """Like :func:`compare`, for tests: raises unless the port is faithful.

    Raises:
        NotFaithful: the verdict is divergent or inconclusive; the message is the report, layer and cause and fix first.

    Example:
        >>> assert_faithful(keras_model, torch_module, image)         # doctest: +SKIP
    """
    __tracebackhide__ = True
    report = compare(reference, candidate, inputs, **options)
    if not report.ok:
        raise NotFaithful(report)
    return report


def _reference(
    reference: Any,
    candidate: Any,
    inputs: Any,
    sides: Mapping[str, Layouts | str],
    seed: int,
    folder: str,
    progress: Progress,
    shadow: bool,
) -> Trace:
    """The reference's recording, on the given inputs or on noise in the shape that either side asks for."""
    made = from_files(inputs)
    if made is None and not _recorded(reference) and _shapeless(reference):
        made = _probe_of_candidate(reference, candidate, sides, seed)
    stage = _stage("reference", progress)
    if isinstance(reference, Trace):
        return reference
    if isinstance(reference, (str, Path)):
        if is_trace(str(reference)):
            return load_trace(str(reference))
        request = request_for(made, seed, sides.get("reference"), folder, float64=shadow)
        return record_in_subprocess(str(reference), Path(folder) / "reference.trace", request, stage)
    layouts = sides.get("reference")
    return record(reference, made, seed=seed, layouts=layouts, float64=shadow, progress=stage)


def _asking(
    model: Any, trace: Trace, folder: Path, weights: Mapping[str, np.ndarray] | None = None
) -> Ask | None:
    """How a side is differentiated on the inputs that were recorded; ``None`` for a recording."""
    if _recorded(model):
        return None
    inputs = {port.name: np.asarray(trace.values[port.value]) for port in trace.inputs}
    if isinstance(model, (str, Path)):
        out = folder / f"gradients-{id(trace)}.safetensors"
        return lambda made: gradients_in_subprocess(str(model), out, inputs, made, weights)
    return lambda made: adapter_for(model).gradients(model, inputs, made)


def _stage(side: str, progress: Progress) -> Progress:
    return lambda stage, done, total: progress(f"{side}: {stage}", done, total)


def _recorded(model: Any) -> bool:
    return isinstance(model, Trace) or (isinstance(model, (str, Path)) and is_trace(str(model)))


def _shapeless(model: Any) -> bool:
    """Whether a live reference does not say what it takes."""
    if isinstance(model, (str, Path)):
        return False
    specs = adapter_for(model).inputs(model)
    return not specs or any(spec.shape is None for spec in specs)


def _probe_of_candidate(reference: Any, candidate: Any, sides: Mapping[str, Layouts | str], seed: int) -> Any:
    """Noise in the shape that the candidate asks for, turned into the reference's layout."""
    if isinstance(candidate, (Trace, str, Path)):
        return None
    specs = adapter_for(candidate).inputs(candidate)
    if not specs or any(spec.shape is None for spec in specs):
        return None
    layouts = {spec.name: declared(sides.get("candidate"), spec.name) or spec.layout for spec in specs}
    return translate(probe(specs, seed), layouts, adapter_for(reference).inputs(reference))[0]


@dataclass(frozen=True, slots=True)
class _CandidateRun:
    """How the candidate is run on the reference's inputs: live here, by name in a process of its own, or not at all."""

    candidate: Any
    ours: Trace
    layouts: Layouts | str | None
    folder: Path
    progress: Progress
    shadow: bool

    def moved_weights(self, mapping: Mapping[str, str] | None) -> dict[str, np.ndarray]:
        """The reference's weights as the candidate's parameters, from a first run of the candidate."""
        if _recorded(self.candidate):
            raise InputError("weights cannot be moved into a recording: give a live model or what builds one")
        return moved_parameters(self.ours, self.record(None, check=False), mapping)[1]

    def record(self, weights: Mapping[str, np.ndarray] | None, *, check: bool = True) -> Trace:
        """The candidate's recording; a given one is checked to be of the same inputs."""
        if _recorded(self.candidate):
            theirs = self.candidate if isinstance(self.candidate, Trace) else load_trace(str(self.candidate))
            _same_inputs(self.ours, theirs)
            return theirs
        given = {port.name: np.asarray(self.ours.values[port.value]) for port in self.ours.inputs}
        known = input_layouts(self.ours)
        if isinstance(self.candidate, (str, Path)):
            return self._named(given, known, weights, check)
        adapter = adapter_for(self.candidate)
        specs = adapter.inputs(self.candidate)
        if weights:
            adapter.assign(self.candidate, weights)
        wanted = {name: declared(self.layouts, name) for name in [*given, *(spec.name for spec in specs)]}
        inputs, used = translate(given, known, specs, wanted)
        return record_live(
            adapter,
            self.candidate,
            named(inputs, specs),
            used,
            None,
            self.progress,
            check,
            float64=self.shadow and check,
        )

    def _named(
        self,
        given: Mapping[str, np.ndarray],
        known: Layouts,
        weights: Mapping[str, np.ndarray] | None,
        check: bool,
    ) -> Trace:
        """Record by name, in a process of its own; inputs and weights go in as files."""
        request: dict[str, Any] = {"inputs": {"": self._file("inputs", given)}, "like": known, "check": check}
        request["float64"] = self.shadow and check
        if weights:
            request["weights"] = self._file("weights", weights)
        if self.layouts:
            request["layouts"] = {"": self.layouts} if isinstance(self.layouts, str) else dict(self.layouts)
        out = self.folder / ("candidate.trace" if check else "first.trace")
        return record_in_subprocess(str(self.candidate), out, request, self.progress)

    def _file(self, name: str, arrays: Mapping[str, np.ndarray]) -> str:
        path = str(self.folder / f"{name}.npz")
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path


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


__all__ = ["NotFaithful", "PortingError", "assert_faithful", "compare"]

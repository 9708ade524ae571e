"""``pc.record`` and ``pc.load_trace``: one side's run, kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.configuration import environment as known_environment
from porting_check.environments.runners import record_side, runner_for
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import InputError
from porting_check.neutral.trace import MemorySink, Trace
from porting_check.neutral.tracefile import TraceWriter
from porting_check.neutral.tracefile import load_trace as _load
from porting_check.recorder.inputs import fitting, load_inputs, named, probe, suited
from porting_check.recorder.machine import surroundings
from porting_check.recorder.registry import adapter_for
from porting_check.recorder.session import record_model
from porting_check.recorder.sources import framework_of, is_trace

Progress = Callable[[str, int, int], None]
Layouts = Mapping[str, str]


def quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


def load_trace(path: str | Path, *, verify: bool = False) -> Trace:
    """Open a recording; tensors are read when they are asked for.

    Args:
        path: the folder that :func:`record` wrote.
        verify: also check that no tensor was changed since.

    Raises:
        TraceError: no recording there, cut short, damaged, hostile, or of another version.

    Example:
        >>> trace = load_trace("tf.trace")          # doctest: +SKIP
        >>> trace.records[0].name                   # doctest: +SKIP
        'conv1'
    """
    return _load(str(path), verify)


def record(
    model: Any,
    inputs: Any = None,
    *,
    path: str | Path | None = None,
    seed: int = 0,
    layouts: Layouts | str | None = None,
    float64: bool = False,
    environment: EnvironmentSpec | str = "",
    keep: str = "all",
    budget: int | str | None = None,
    progress: Progress = quiet,
) -> Trace:
    """Run a model once and keep what every layer and operator read and made.

    Args:
        model: a live model of an installed framework, or a string: a model file, ``file.py:function`` or
            ``package.module:function``, which is then recorded in a process of its own.
        inputs: an array, a tuple, or a dict by name, in the model's layout; for a string model also a path or a dict of
            paths. None: seeded white noise, where the model says what it takes.
        path: folder to write the recording to; None keeps it in memory.
        seed: of the noise.
        layouts: layout of each input by name, or one for all (``"NHWC"``), where it is not known.
        float64: also run the whole model once in float64 and keep its outputs (``float64:<output path>``), where the
            framework can; ``trace.checks.float64`` says what the reader must know of that run.
        environment: where a string model runs: ``"docker:IMAGE"``, ``"venv:torch==1.10.0,python==3.9"``; see
            :mod:`porting_check.environments.specification`.
        keep: with ``path``: how much of the recording is kept, see :func:`porting_check.keep`.
        budget: with ``path``: its largest size.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        PortingError: bad inputs, no adapter, the model raised, or the recording cannot be written.

    Example:
        >>> trace = record(keras_model, image, path="tf.trace")      # doctest: +SKIP
    """
    if keep != "all" or budget is not None:
        options: dict[str, Any] = {
            "seed": seed,
            "layouts": layouts,
            "float64": float64,
            "environment": environment,
        }
        return _golden(
            path,
            keep,
            budget,
            seed,
            lambda full: record(model, inputs, path=full, progress=progress, **options),
        )
    if isinstance(model, (str, Path)):
        request = {"seed": seed, "layouts": layouts, "float64": float64}
        return _record_named(str(model), inputs, path, environment, request, progress)
    if environment:
        raise InputError(
            f"an environment was given for a live {type(model).__name__}, which cannot be taken there: give a model file or "
            "file.py:function"
        )
    adapter = adapter_for(model)
    specs = adapter.inputs(model)
    made = probe(specs, seed) if inputs is None else named(from_files(inputs), specs)
    known = {spec.name: spec.layout for spec in specs}
    used = {
        name: declared(layouts, name) or suited(known.get(name) or known.get("", ""), array)
        for name, array in made.items()
    }
    return record_live(adapter, model, made, fitting(used, made), path, progress, float64=float64)


def _golden(
    path: str | Path | None,
    policy: str,
    budget: int | str | None,
    seed: int,
    recorded: Callable[[str], Trace],
) -> Trace:
    """Record in full beside the path, prune, and leave the pruned recording only."""
    from porting_check.keeping import keep as prune

    if path is None:
        raise InputError(
            f"keep={policy!r}, budget={budget!r} are about a recording on disk: give its path too"
        )
    with tempfile.TemporaryDirectory(prefix=".porting-check-", dir=Path(path).absolute().parent) as folder:
        full = str(Path(folder) / "full.trace")
        recorded(full)
        return prune(full, path, policy, budget, seed)


def record_live(
    adapter: Adapter,
    model: Any,
    inputs: Mapping[str, np.ndarray],
    layouts: Layouts,
    path: str | Path | None = None,
    progress: Progress = quiet,
    check: bool = True,
    *,
    float64: bool = False,
) -> Trace:
    """Record a live model on inputs that are ready; in memory or to a folder."""
    name = type(model).__name__ if not hasattr(model, "__name__") else str(model.__name__)
    if path is None:
        sink = MemorySink()
        checks = record_model(
            adapter, model, inputs, sink, layouts=layouts, check=check, float64=float64, progress=progress
        )
        return sink.trace(name, surroundings(adapter), checks)
    with TraceWriter(str(path), name, surroundings(adapter)) as writer:
        checks = record_model(
            adapter, model, inputs, writer, layouts=layouts, check=check, float64=float64, progress=progress
        )
        writer.finish(checks)
    return _load(str(path))


def declared(layouts: Layouts | str | None, name: str) -> str:
    """The layout that the user declared for an input, or ""."""
    if layouts is None or isinstance(layouts, str):
        return layouts or ""
    return layouts.get(name, "")


def from_files(inputs: Any) -> Any:
    """Inputs given as paths are read."""
    if isinstance(inputs, (str, Path)):
        return load_inputs({"": str(inputs)})
    if isinstance(inputs, Mapping) and inputs and all(isinstance(v, (str, Path)) for v in inputs.values()):
        return load_inputs({str(name): str(file) for name, file in inputs.items()})
    return inputs


def request_for(
    inputs: Any, seed: int, layouts: Layouts | str | None, folder: str, *, float64: bool = False
) -> dict[str, Any]:
    """What a subprocess is asked to do: inputs as files, declared layouts, seed, a run in float64."""
    asked: dict[str, Any] = {"seed": seed, "float64": float64}
    if layouts:
        asked["layouts"] = {"": layouts} if isinstance(layouts, str) else dict(layouts)
    if inputs is not None:
        read = from_files(inputs)
        made = named(read, ())
        file = str(Path(folder) / "inputs.npz")
        np.savez(file, **{name: np.asarray(array) for name, array in made.items()})  # type: ignore[arg-type]
        asked["inputs"] = {"": file}
    return asked


def _record_named(
    spec: str,
    inputs: Any,
    path: str | Path | None,
    environment: EnvironmentSpec | str,
    options: Mapping[str, Any],
    progress: Progress,
) -> Trace:
    if is_trace(spec):
        return _load(spec)
    framework_of(spec)
    where = runner_for(known_environment(environment))
    with tempfile.TemporaryDirectory(prefix="porting-check-") as folder:
        request = request_for(inputs, options["seed"], options["layouts"], folder, float64=options["float64"])
        if path is not None:
            return record_side(where, spec, Path(path), request, progress)
        return in_memory(record_side(where, spec, Path(folder) / "side.trace", request, progress))


def in_memory(trace: Trace) -> Trace:
    """A trace whose values are held in memory, so that its folder may go."""
    from dataclasses import replace

    return replace(trace, values={key: np.array(trace.values[key]) for key in trace.values})

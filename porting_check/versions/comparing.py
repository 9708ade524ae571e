"""``pc.matrix``: one model in several environments; which version changed the numbers, by how much, and at which layer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.configuration import environment as environment_of
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import InputError
from porting_check.recorder.inputs import named
from porting_check.recorder.sources import framework_of
from porting_check.recording import Layouts, from_files, quiet
from porting_check.report.version_table import VersionTable
from porting_check.versions.identity import store
from porting_check.versions.jobs import WATCHES, Watch
from porting_check.versions.rows import compared, notes_of
from porting_check.versions.runs import Place, Run, home, pool

Progress = Callable[[str, int, int], None]
Environments = Sequence[str | EnvironmentSpec] | Mapping[str, str | EnvironmentSpec]


def matrix(
    model: str | os.PathLike[str],
    environments: Environments,
    inputs: Any = None,
    *,
    models: Mapping[str, str] | None = None,
    baseline: str = "",
    weights: Any = None,
    transfer: bool | None = None,
    folder: str | Path | None = None,
    executor: Executor | None = None,
    jobs: int = 0,
    seed: int = 0,
    layouts: Mapping[str, Layouts | str] | Layouts | str | None = None,
    again: bool = False,
    progress: Progress = quiet,
) -> VersionTable:
    """Record one model in several environments, on identical weights and inputs, and say what changed between them.

    Every environment is compared with the baseline and with the one before it. The baseline runs first: it chooses the
    inputs (unless given), and its weights go into the others where those were built with other ones.

    Args:
        model: a model file, a folder, ``file.py:function`` or ``package.module:function``.
        environments: in the order to compare: texts as for ``--reference-env`` or specifications, or either by name.
        inputs: an array, a tuple, a dict by name, or paths, in the baseline's layout. None: seeded noise.
        models: another model for some environments, by their name or text, where it must be built otherwise there.
        baseline: name or text of the environment to compare with; the first one.
        weights: a file (``.npz``, ``.safetensors``) or arrays by native name, put into the baseline's model.
        transfer: whether the baseline's weights go into a model that was built with other ones; ``None``: where the
            framework is the same.
        folder: keeps the recordings; a second call records only what is missing or changed. ``None``: nothing is kept.
        executor: any ``concurrent.futures`` executor; each environment is one job. Its workers must see ``folder`` and the
            model under the same paths. ``None``: threads, each of which waits for a recording in a process of its own.
        jobs: how many at a time, without an executor; 0 chooses.
        seed: of the noise.
        layouts: the layout of the inputs where it cannot be known: one for all, by input, or by environment.
        again: record everything, also what is kept.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The table; ``print(table)`` shows it, ``table.exit_status`` is 0, 1, 3 or 4.

    Raises:
        EnvironmentSpecError: an environment that cannot be understood.
        InputError: fewer than two environments, names used twice, or one that is not among them.
        ModelError: there is no such model, or it is a recording.
        PortingError: the baseline could not be recorded (its own error), or the folder is used by another process.

    Example:
        >>> table = matrix("net.py:build", ["venv:torch==1.10.0,numpy<2,python==3.9", "local"], folder="m")  # doctest: +SKIP
        >>> print(table)                                                                                     # doctest: +SKIP
    """
    places = _places(str(model), environments, models or {}, layouts)
    first = _chosen(places, baseline)
    with ExitStack() as stack:
        made = stack.enter_context(home(folder))
        watch = Watch(progress=progress)
        WATCHES[made.token] = watch
        stack.callback(WATCHES.pop, made.token, None)
        workers = stack.enter_context(pool(executor, jobs, len(places), watch))
        run = Run(made, workers, again, progress, len(places))
        request: dict[str, Any] = {"seed": seed}
        for key, arrays in (("inputs", _inputs(inputs)), ("weights", _weights(weights))):
            if arrays is not None:
                name = store(made.path, arrays)
                request[key] = {"": name} if key == "inputs" else name
        outcomes = run.all(first, [p for p in places if p is not first], request, transfer)
        rows = compared(places, first, outcomes, progress)
    return VersionTable(
        model=str(model), rows=tuple(rows), baseline=rows[places.index(first)].label, notes=notes_of(rows)
    )


def _places(model: str, environments: Environments, models: Mapping[str, str], layouts: Any) -> list[Place]:
    """The environments in their order, checked.

    Raises:
        InputError: fewer than two, the same one twice, or a name that is not among them.
    """
    if isinstance(environments, (str, EnvironmentSpec)):
        environments = [environments]
    pairs = environments.items() if isinstance(environments, Mapping) else [("", e) for e in environments]
    made = []
    for name, wanted in pairs:
        spec = environment_of(wanted)
        own = "" if ":" in spec.text or spec.text == "local" else spec.text
        made.append(Place(environment=spec, model=model, name=str(name) or own))
    keys = [place.key for place in made]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if len(made) < 2 or twice:
        found = f"{twice[0]!r} twice" if twice else f"{len(made)}"
        raise InputError(f"a matrix compares two environments or more, each named once; found {found}")
    unknown = sorted(set(models) - set(keys))
    if unknown:
        raise InputError(f"models names {unknown[0]!r}; the environments are {', '.join(keys)}")
    declared = (
        layouts if isinstance(layouts, Mapping) and set(layouts) & set(keys) else dict.fromkeys(keys, layouts)
    )
    return [
        replace(place, model=_runnable(models.get(place.key, model)), layouts=declared.get(place.key))
        for place in made
    ]


def _runnable(model: str | os.PathLike[str]) -> str:
    """The text of a model; one that is not there, or is a recording, is told before anything is prepared.

    Raises:
        ModelError: nothing there, or nothing that could be run.
    """
    framework_of(str(model))
    return str(model)


def _chosen(places: Sequence[Place], baseline: str) -> Place:
    """The environment to compare with.

    Raises:
        InputError: not one of them.
    """
    found = [place for place in places if not baseline or baseline in (place.key, place.environment.text)]
    if not found:
        raise InputError(
            f"the baseline {baseline!r} is not among the environments: {', '.join(p.key for p in places)}"
        )
    return found[0]


def _inputs(inputs: Any) -> dict[str, np.ndarray] | None:
    if inputs is None:
        return None
    return {name: np.asarray(array) for name, array in named(from_files(inputs), ()).items()}


def _weights(weights: Any) -> dict[str, np.ndarray] | None:
    """Weights by native name, from a file or as they are.

    Raises:
        InputError: no such file, or not one of arrays by name.
    """
    if weights is None:
        return None
    if isinstance(weights, (str, Path)):
        if Path(weights).suffix not in (".npz", ".safetensors"):
            raise InputError(
                f"{str(weights)!r}: weights are a file .npz or .safetensors, one array per native name"
            )
        weights = from_files(weights)
    return {str(name): np.asarray(array) for name, array in weights.items()}

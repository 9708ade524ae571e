"""Recording a side, or differentiating it, wherever it must run; the one place that knows all kinds of environments."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from porting_check.environments.runner import Progress, Runner, Task
from porting_check.environments.specification import EnvironmentSpec, parse
from porting_check.neutral.errors import PortingError, RecordingError, RunError
from porting_check.neutral.tensorfile import read_header, read_tensor, write_tensors
from porting_check.neutral.trace import Trace
from porting_check.neutral.tracefile import load_trace
from porting_check.recorder.__main__ import ANNOUNCED

T = TypeVar("T")

ANNOUNCEMENT = "announced.safetensors"


def runner_for(environment: EnvironmentSpec | str) -> Runner:
    """The runner of an environment.

    Raises:
        EnvironmentSpecError: a text that cannot be understood.

    Example:
        >>> runner_for("").title
        'this interpreter'
    """
    spec = parse(environment) if isinstance(environment, str) else environment
    if spec.kind == "docker":
        from porting_check.environments.docker import DockerRunner

        return DockerRunner(spec)
    if spec.kind == "venv":
        from porting_check.environments.virtualenv import VirtualenvRunner

        return VirtualenvRunner(spec)
    from porting_check.environments.local import LocalRunner

    return LocalRunner(spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The inputs that a side chose, known before its model ran: arrays by name, in its own layouts."""

    inputs: Mapping[str, np.ndarray]
    layouts: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every layout that could matter is known."""
        return all(self.layouts.get(name) or array.ndim < 3 for name, array in self.inputs.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side that is recorded by name, somewhere.

    Attributes:
        runner: where; prepared by :meth:`record`.
        model: as the user wrote it.
        folder: of the host, existing, for this side alone.
        progress: of this side.
        cancelled: set to end whatever runs.
    """

    runner: Runner
    model: str
    folder: Path
    progress: Progress
    cancelled: threading.Event = field(default_factory=threading.Event)

    def task(
        self,
        request: Mapping[str, Any] | Future[Mapping[str, Any]],
        out: str,
        module: str = "porting_check.recorder",
    ) -> Task:
        """A task in a folder of its own below this side's; folders and files of earlier tasks stay readable."""
        made = Task(
            model=self.model,
            folder=self.folder,
            out=out,
            request=request,
            module=module,
            cancelled=self.cancelled,
        )
        made.prepare()
        return made

    @property
    def given(self) -> Path:
        """Where files that a request names have to lie."""
        return self.folder / "given"

    def record(
        self,
        request: Mapping[str, Any] | Future[Mapping[str, Any]],
        out: str,
        announced: Future[Announced] | None = None,
    ) -> Trace:
        """Record, and open the recording. What the inside wrote is verified against its digests.

        Args:
            request: see :func:`porting_check.recorder.__main__.record_to`; ``name`` and ``origin`` are added.
            out: name of the recording below ``made``.
            announced: resolves as soon as the inside has chosen its inputs, before the model runs.

        Raises:
            PortingError: whatever the inside raised, as it was; ``RunError`` when it could not be run to its end.
        """
        self.runner.prepare(self.progress, self.cancelled)
        asked = _mapped(request, lambda given: self._whole(given, announced is not None))
        task = self.task(asked, out)

        def progress(stage: str, done: int, total: int) -> None:
            if stage == ANNOUNCED and announced is not None and not announced.done():
                announced.set_result(_announced(task.made / ANNOUNCEMENT))
            else:
                self.progress(stage, done, total)

        self.runner.run(task, progress)
        return load_trace(str(task.result), verify=True)

    def _whole(self, request: Mapping[str, Any], announce: bool) -> dict[str, Any]:
        origin = dict(self.runner.origin())
        if origin:
            origin = {"environment": self.runner.title, **origin}
        made = {"name": self.model, "origin": origin, **request}
        if announce:
            made["announce"] = str(self.folder / "made" / ANNOUNCEMENT)
        return made

    def gradients(
        self,
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Differentiate the model.

        Args:
            inputs: by name, in the model's own layouts, as recorded.
            cotangents: by output path.
            weights: parameters by native name, put into the model first.

        Returns:
            Gradients by the keys of the recording, see :meth:`porting_check.neutral.adapter.Adapter.gradients`.

        Raises:
            Unsupported: this kind of model cannot be differentiated.
            RunError: the model raised, or its process died.
        """
        request: dict[str, Any] = {}
        self.given.mkdir(parents=True, exist_ok=True)
        for name, arrays in (("inputs", inputs), ("cotangents", cotangents), ("weights", weights)):
            if arrays is not None:
                request[name] = str(self.given / f"gradients-{name}.safetensors")
                write_tensors(request[name], {key: np.asarray(array) for key, array in arrays.items()})
        self.runner.prepare(self.progress, self.cancelled)
        task = self.task(request, "gradients.safetensors", "porting_check.recorder.gradients")
        self.runner.run(task, self.progress)
        return _tensors(task.result)


def record_side(
    environment: EnvironmentSpec | str | Runner,
    model: str,
    out: Path,
    request: Mapping[str, Any],
    progress: Progress = lambda stage, done, total: None,
) -> Trace:
    """Record one model somewhere and move the recording to where it is wanted.

    Args:
        environment: a specification, its text, or a runner.
        model: a model file, a folder, ``file.py:function`` or ``package.module:function``.
        out: the folder to write; its parent must exist.
        request: see :func:`porting_check.recorder.__main__.record_to`; files in it may lie anywhere: they are copied.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        PortingError: whatever the inside raised; the recording cannot be written.

    Example:
        >>> record_side("venv:torch==1.10.0,numpy<2,python==3.9", "net.py:build", Path("old.trace"), {})   # doctest: +SKIP
    """
    runner = runner_for(environment) if isinstance(environment, (str, EnvironmentSpec)) else environment
    out = Path(os.path.abspath(out))
    folder = _own_folder(out)
    try:
        side = Side(runner=runner, model=model, folder=folder, progress=progress)
        cancelling(side.cancelled, lambda: side.record(_copied(request, side.given), "side.trace"))
        _replace(folder / "made" / "side.trace", out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return load_trace(str(out))


def cancelling(cancelled: threading.Event, action: Callable[[], T]) -> T:
    """Run an action in a thread and wait for it; an interruption of the waiting ends what it started, and then goes on.

    Signals reach the main thread only, and a thread that waits for a process cannot be interrupted; so the main thread waits.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(action)
        try:
            return waiting.result()
        except BaseException:
            cancelled.set()
            raise


def _own_folder(out: Path) -> Path:
    """A new folder beside the recording that is to be written, so that it can be moved there by a rename."""
    import tempfile

    try:
        return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise RecordingError(
            f"the recording {str(out)!r} cannot be written: {error.strerror or error}; choose a folder that can be written"
        ) from None


def _replace(made: Path, out: Path) -> None:
    from porting_check.neutral.tracefile import refuse_foreign

    refuse_foreign(str(out))
    if out.is_dir():
        shutil.rmtree(out)
    made.rename(out)


def _copied(request: Mapping[str, Any], given: Path) -> dict[str, Any]:
    """The request with its files copied to where the side may read them."""
    from porting_check.environments.runner import relocated

    given.mkdir(parents=True, exist_ok=True)
    count = iter(range(10**6))

    def copy(path: str) -> str:
        target = given / f"{next(count)}-{Path(path).name}"
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise RunError(f"{path!r} cannot be read: {error.strerror or error}") from None
        return str(target)

    return relocated(request, copy)


def _mapped(request: Any, change: Any) -> Any:
    """A request, or a future one, with something added."""
    if not isinstance(request, Future):
        return change(request)
    later: Future[Mapping[str, Any]] = Future()

    def passed_on(done: Future[Mapping[str, Any]]) -> None:
        error = done.exception() if not done.cancelled() else PortingError("the request was withdrawn")
        if error is not None:
            later.set_exception(error)
        else:
            later.set_result(change(done.result()))

    request.add_done_callback(passed_on)
    return later


def _announced(path: Path) -> Announced:
    import json

    layouts = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
    return Announced(inputs=_tensors(path), layouts={str(k): str(v) for k, v in layouts.items()})


def _tensors(path: Path) -> dict[str, np.ndarray]:
    header = read_header(str(path))
    return {name: np.array(read_tensor(str(path), name, header)) for name in header["tensors"]}

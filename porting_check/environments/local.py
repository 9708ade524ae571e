"""A side in a subprocess: of this interpreter, or of another one that has the framework. Two frameworks never share a process."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from porting_check.environments.interpreters import Interpreter, clean_environment
from porting_check.environments.interpreters import named as interpreter_named
from porting_check.environments.process import follow, how, reason
from porting_check.environments.runner import Progress, Task, again, raise_again
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import RunError
from porting_check.packing import recorder_bytes
from porting_check.recorder.sources import framework_of

__all__ = [
    "ArchiveRunner",
    "LocalRunner",
    "again",
    "ended",
]

LAUNCH = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""``-m`` would put the working folder before the archive: a folder ``porting_check`` in it must not be taken for ours."""


class ArchiveRunner:
    """Runs tasks with an interpreter that need not have porting-check: the recorder comes in one file, in a clean environment.

    Args:
        spec: limits and variables.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self.spec, self.title = spec, spec.title

    def interpreter(self) -> Interpreter:
        """The one to run; after :meth:`prepare`."""
        raise NotImplementedError

    def run(self, task: Task, progress: Progress) -> None:
        """Run one task to its end.

        Raises:
            PortingError: what the inside raised, as its own type.
            RunError: it was ended by a limit or a signal, or left no result.
        """
        framework_of(task.model)
        python, archive = self.interpreter().path, task.archive
        try:
            task.prepare()
            archive.write_bytes(recorder_bytes())
            variables = clean_environment(python, task.folder, self.spec.variables, str(archive.absolute()))
        except OSError as error:
            raise RunError(f"{str(task.folder)!r} cannot be written: {error.strerror or error}") from None
        command = [python, "-c", LAUNCH, str(archive.absolute()), task.module, *inside_arguments(task)]
        run_command(command, task, progress, self.spec, variables, lambda request: _named(task, request))

    def commands(self, task: Task) -> list[str]:
        """The lines of shell that do by hand what :meth:`run` does; the environment is clean but for these variables."""
        return self.lines(task, self.interpreter().path)

    def lines(self, task: Task, python: str) -> list[str]:
        """Run the recorder, which lies in place, with an interpreter."""
        variables = {"PATH": f"{os.path.dirname(python)}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        variables |= {"HOME": '"$(mktemp -d)"', "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        words = [f"{key}={value}" for key, value in variables.items()]
        words += [f"PYTHONPATH={shlex.quote(str(task.archive))}", "TF_CPP_MIN_LOG_LEVEL=3"]
        words += [f"{key}={shlex.quote(value)}" for key, value in self.spec.variables.items()]
        command = shlex.join([python, "-m", task.module, *by_hand(task)])
        return [" ".join(["env -i", *words, command])]


class LocalRunner(ArchiveRunner):
    """Runs tasks in a subprocess of this interpreter, or of another one (``python:PATH``).

    For this interpreter the host's environment variables hold and the installed package is used; another one gets the recorder
    in one file and a clean environment.

    Example:
        >>> LocalRunner().title
        'this interpreter'
    """

    def __init__(self, spec: EnvironmentSpec | None = None) -> None:
        super().__init__(spec or EnvironmentSpec())
        self._found: Interpreter | None = None

    def prepare(self, progress: Progress, cancelled: threading.Event | None = None) -> None:
        """Look at the interpreter.

        Raises:
            EnvironmentSpecError: not a Python interpreter, or one that is too old.
            RunError: it lacks numpy.
        """
        if self.spec.kind == "python":
            found = self.interpreter()
            if not found.numpy:
                raise RunError(
                    f"{self.title}: {found.path} (Python {found.version}) lacks numpy, or cannot import it; the framework of "
                    f"the model and numpy must be installed there: {found.path} -m pip install numpy"
                )

    def interpreter(self) -> Interpreter:
        """The other interpreter."""
        if self._found is None:
            self._found = interpreter_named(self.spec.python or sys.executable, self.title)
        return self._found

    def origin(self) -> Mapping[str, str]:
        """Which Python it is; nothing for this one."""
        return {} if self.spec.kind == "local" else {"python": self.interpreter().version}

    def run(self, task: Task, progress: Progress) -> None:
        """Run one task to its end."""
        if self.spec.kind != "local":
            super().run(task, progress)
            return
        framework_of(task.model)
        task.prepare()
        command = [sys.executable, "-m", task.module, task.model, *inside_arguments(task)[1:]]
        ours = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
        run_command(command, task, progress, self.spec, {**ours, **os.environ, **self.spec.variables})

    def commands(self, task: Task) -> list[str]:
        """The lines of shell that do by hand what :meth:`run` does."""
        if self.spec.kind != "local":
            return super().commands(task)
        variables = [f"{key}={shlex.quote(value)}" for key, value in self.spec.variables.items()]
        return [" ".join([*variables, shlex.join([sys.executable, "-m", task.module, *by_hand(task)])])]


def run_command(
    command: list[str],
    task: Task,
    progress: Progress,
    spec: EnvironmentSpec,
    variables: Mapping[str, str],
    asked: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Run what a task is, within the limits; its error is raised again, or the reason of its end.

    Raises:
        PortingError: what the inside raised, as its own type.
        RunError: it was ended by a limit or a signal, or left no result.
    """
    request = task.request
    command = [*command, "--request", "-" if isinstance(request, Future) else json.dumps(asked(request))]
    ended = follow(
        command,
        environment=variables,
        cwd=None,
        task=task,
        progress=progress,
        memory=spec.memory,
        timeout=spec.timeout,
        asked=asked,
    )
    doing = f"{_doing(task)} {task.model!r}"
    if ended.why or ended.status != 0:
        if not ended.why:
            raise_again(task)
        raise RunError(reason(ended, spec.title, doing, timeout=spec.timeout, memory=spec.memory))
    if not task.result.exists():
        raise RunError(
            f"{doing} in {spec.title} ended with status 0 and left no result; does the model end the process?"
        )


def _doing(task: Task) -> str:
    return "differentiating" if task.module.endswith(".gradients") else "recording"


def _named(task: Task, request: Mapping[str, Any]) -> dict[str, Any]:
    """The recording bears the name that the user gave, not the absolute path."""
    return {"name": task.model, **request}


def inside_arguments(task: Task) -> list[str]:
    """Arguments of the recorder's module, all but the request; paths are absolute."""
    out, failure = task.result.absolute(), task.failure.absolute()
    return [absolute_model(task.model), "--out", str(out), "--error", str(failure)]


def absolute_model(model: str) -> str:
    """A model's name that holds in every working folder.

    Example:
        >>> absolute_model("package.module:build")
        'package.module:build'
    """
    if os.path.exists(model):
        return os.path.abspath(model)
    head, colon, name = model.rpartition(":")
    return f"{os.path.abspath(head)}:{name}" if colon and os.path.isfile(head) else model


def by_hand(task: Task) -> list[str]:
    """Arguments that one would type: the model's name as the user wrote it."""
    request = task.request
    if isinstance(request, Future):
        done = request.done() and not request.cancelled() and request.exception() is None
        text = json.dumps(dict(request.result())) if done else "-"
    else:
        text = json.dumps(dict(request))
    return [task.model, "--out", str(task.result), "--request", text]


def ended(status: int) -> str:
    """How a process ended, in words."""
    return f"it {how(status)}"

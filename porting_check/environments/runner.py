"""One run of the recorder somewhere: what goes in, what comes out, and what anything that runs it must do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import porting_check.neutral.errors as errors
from porting_check.neutral.errors import PortingError, RunError

Progress = Callable[[str, int, int], None]

FILES = ("inputs", "weights", "cotangents", "like")
"""Keys of a request that name files: a path, or paths by name (``like`` only as a path; by name it holds layouts).

``announce`` names a file that is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of one of the recorder's modules on one model.

    Attributes:
        module: ``porting_check.recorder`` (record) or ``porting_check.recorder.gradients``.
        model: a model file, a folder, ``file.py:function`` or ``package.module:function``, as the user wrote it.
        folder: an existing folder of the host that belongs to this task alone. ``given`` below it holds every file that the
            request names and only this side writes to it; ``made`` receives what the inside writes.
        out: name, below ``made``, of the recording or file that the inside writes.
        request: what is asked, see :func:`porting_check.recorder.__main__.record_to`. A future: the inside imports its
            framework and opens its model while the request is still being made. Paths in it are absolute paths of the
            host, below ``given`` (``announce``: below ``made``).
        cancelled: set by the caller to end the run early.
    """

    model: str
    folder: Path
    out: str
    request: Mapping[str, Any] | Future[Mapping[str, Any]]
    module: str = "porting_check.recorder"
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def given(self) -> Path:
        """What goes in."""
        return self.folder / "given"

    @property
    def made(self) -> Path:
        """What comes out."""
        return self.folder / "made"

    @property
    def result(self) -> Path:
        """The recording, or the file of tensors."""
        return self.made / self.out

    @property
    def archive(self) -> Path:
        """The recorder in one file, where the inside needs it; runners write it when it is not there."""
        return self.folder / "recorder.pyz"

    @property
    def failure(self) -> Path:
        """Where the inside leaves the error that it ends with."""
        return self.made / "error.json"

    def prepare(self) -> None:
        """Make the two folders."""
        self.given.mkdir(parents=True, exist_ok=True)
        self.made.mkdir(parents=True, exist_ok=True)


class Runner(Protocol):
    """Something that runs tasks: a subprocess, a virtual environment, a container.

    ``title`` is what the user called it. Runners raise ``RunError`` with the reason in a sentence when the inside was killed,
    ran out of memory, time or disk, or could not be started; an error of the inside is raised again as its own type. After
    ``run`` nothing is left running, whatever happened.
    """

    title: str

    def prepare(self, progress: Progress, cancelled: threading.Event | None = None) -> None:
        """Make what is needed before the first task (a virtual environment), or check that it is there (an image).

        Setting ``cancelled`` ends it early.
        """

    def origin(self) -> Mapping[str, str]:
        """What pins this environment, for the recording: ``{"image": …, "digest": …}``, ``{"lock": …}``; after ``prepare``."""

    def run(self, task: Task, progress: Progress) -> None:
        """Run one task to its end; ``task.result`` exists then."""

    def commands(self, task: Task) -> list[str]:
        """The lines of shell that do by hand what :meth:`run` does, with ``task.archive`` and the request's files in place.

        Nothing is run, prepared or written; a virtual environment is made by the first of the lines.
        """


def relocated(request: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """A request whose paths are those of the inside.

    Example:
        >>> relocated({"inputs": {"": "/job/given/x.npz"}, "seed": 0}, lambda path: path.replace("/job", "/inside"))
        {'inputs': {'': '/inside/given/x.npz'}, 'seed': 0}
    """
    made = dict(request)
    for key in (*FILES, "announce"):
        value = made.get(key)
        if isinstance(value, str) and value:
            made[key] = move(value)
        elif isinstance(value, Mapping) and key != "like":
            made[key] = {name: move(str(path)) for name, path in value.items()}
    return made


def raise_again(task: Task) -> None:
    """Raise the error that the inside left, if it left one. What the inside wrote is not trusted: plain text only."""
    try:
        if os.path.islink(task.failure) or task.failure.stat().st_size > 2**20:
            return
        failure = json.loads(task.failure.read_text(encoding="utf-8", errors="replace"))
        kind, message = str(failure["type"]), str(failure["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    raise again({"type": kind, "message": message})


def again(failure: Mapping[str, str]) -> PortingError:
    """The inner side's error, as its own type."""
    kind = getattr(errors, failure["type"], RunError)
    if not (isinstance(kind, type) and issubclass(kind, PortingError)):
        kind = RunError
    made: PortingError = kind(failure["message"])
    return made

"""One environment of a matrix as a job: a function of plain data that records a model there, or finds that it was recorded.

A job reads and writes below one folder, which must be visible under the same path wherever jobs run. A recording appears
there whole, under a name that is a digest of everything that went into it; so a job that finds the name has nothing to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from porting_check.environments.runner import Runner, relocated
from porting_check.environments.runners import Side, runner_for
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import PortingError, RecordingError, RunError, TraceError
from porting_check.neutral.tracefile import load_trace
from porting_check.versions.identity import identity

Progress = Callable[[str, int, int], None]

MARKER = "matrix.json"
RECORDINGS, WORK, FAILED = "recordings", "work", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one job needs; plain data, so that any executor can carry it.

    Attributes:
        environment: where to record.
        model: as the user wrote it.
        folder: of the matrix; the same path everywhere.
        token: what the marker of that folder holds.
        request: see :func:`porting_check.recorder.__main__.record_to`; its paths are relative to ``folder``.
        again: record even where a recording is kept.
    """

    environment: EnvironmentSpec
    model: str
    folder: str
    token: str
    request: Mapping[str, Any]
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended: ``recording`` is a folder, or ``error`` says why there is none; ``kept``: an earlier run made it."""

    recording: str = ""
    kept: bool = False
    seconds: float = 0.0
    error: str = ""
    kind: str = ""


@dataclass(slots=True)
class Watch:
    """What a job in this very process can be watched and ended by; jobs in other processes have none."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: Progress = lambda stage, done, total: None


WATCHES: dict[str, Watch] = {}
"""By the token of the folder."""


def record_environment(job: Job) -> Outcome:
    """Record a model in one environment, unless the same recording is already there.

    Never raises for what a user, a model or an environment did: the outcome says it.

    Example:
        >>> record_environment(Job(environment=parse("docker:old"), model="net.onnx", folder="/shared/matrix",
        ...     token="6f1e", request={"seed": 0}))                          # doctest: +SKIP
        Outcome(recording='/shared/matrix/recordings/0d3f…', kept=False, seconds=12.3, error='', kind='')
    """
    started = time.monotonic()
    watch = WATCHES.get(job.token, Watch())
    try:
        visible(job)
        return _recorded(job, watch, started)
    except PortingError as error:
        spent = time.monotonic() - started
        outcome = Outcome(error=str(error), kind=type(error).__name__, seconds=spent)
    except OSError as error:
        outcome = Outcome(error=f"{error.filename or job.folder}: {error.strerror or error}", kind="OSError")
    note_failure(job, outcome)
    return outcome


def visible(job: Job) -> None:
    """Check that the folder of the matrix is the one that the job was made for.

    Raises:
        RunError: it is not visible here.
    """
    try:
        found = json.loads((Path(job.folder) / MARKER).read_text(encoding="utf-8"))["token"]
    except (OSError, ValueError, KeyError, TypeError):
        found = ""
    if found != job.token:
        raise RunError(
            f"the folder {job.folder!r} of the matrix is not visible on {socket.gethostname()}: choose a folder= on a file "
            "system that all workers share under one path"
        )


def _recorded(job: Job, watch: Watch, started: float) -> Outcome:
    runner = runner_for(job.environment)
    runner.prepare(watch.progress)
    facts = identity(job.environment, runner.origin(), job.model, job.request)
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    target = Path(job.folder) / RECORDINGS / name
    if not job.again and whole(target):
        forget_failure(job)
        return Outcome(recording=str(target), kept=True, seconds=_seconds_of(target))
    _record(job, runner, target, watch)
    seconds = time.monotonic() - started
    document = {"seconds": seconds, "host": socket.gethostname(), **facts}
    _write(target.with_suffix(".json"), json.dumps(document, indent=1, sort_keys=True))
    forget_failure(job)
    return Outcome(recording=str(target), seconds=seconds)


def _record(job: Job, runner: Runner, target: Path, watch: Watch) -> None:
    """Record in a folder of its own and move the result to its place by a rename."""
    folder = Path(job.folder) / WORK / f"{target.name[:12]}-{secrets.token_hex(4)}"
    (folder / "given").mkdir(parents=True)
    try:
        request = relocated(job.request, lambda path: _given(Path(job.folder) / path, folder / "given"))
        side = Side(
            runner=runner, model=job.model, folder=folder, progress=watch.progress, cancelled=watch.cancelled
        )
        side.record(request, "side.trace")
        _placed(folder / "made" / "side.trace", target, replaced=job.again)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _placed(made: Path, target: Path, *, replaced: bool) -> None:
    """Move a finished recording to its place; another job may have put the same one there meanwhile.

    Raises:
        RecordingError: it cannot be moved.
    """
    target.parent.mkdir(exist_ok=True)
    if replaced or not whole(target):
        shutil.rmtree(target, ignore_errors=True)
        try:
            made.rename(target)
        except OSError as error:
            if not whole(target):
                said = error.strerror or error
                raise RecordingError(f"the recording {str(target)!r} cannot be written: {said}") from None


def _given(source: Path, folder: Path) -> str:
    """A file for one task alone: a second name of it where the file system can, else a copy."""
    target = folder / source.name
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return str(target)


def whole(target: Path) -> bool:
    """Whether a recording is there, complete and as it was written; a damaged one is removed."""
    if not target.is_dir():
        return False
    try:
        load_trace(str(target), True)
    except TraceError:
        shutil.rmtree(target, ignore_errors=True)
        return False
    return True


def _seconds_of(target: Path) -> float:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))["seconds"])
    return 0.0


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _failure(job: Job) -> Path:
    known = json.dumps([asdict(job.environment), job.model], sort_keys=True, default=dict)
    return Path(job.folder) / FAILED / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.json"


def note_failure(job: Job, outcome: Outcome) -> None:
    """Keep why an environment failed; the next run tries it again."""
    document = {"environment": job.environment.title, "model": job.model, **asdict(outcome)}
    with suppress(OSError):
        _failure(job).parent.mkdir(exist_ok=True)
        _write(_failure(job), json.dumps(document, indent=1))


def forget_failure(job: Job) -> None:
    """It works now."""
    with suppress(OSError):
        _failure(job).unlink(missing_ok=True)

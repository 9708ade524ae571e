"""Running the jobs of a matrix: its folder, an executor, the baseline first and then the others."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.environments.runner import again
from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import PortingError, RecordingError, RunError
from porting_check.neutral.graph import input_layouts
from porting_check.neutral.trace import Trace
from porting_check.neutral.tracefile import load_trace
from porting_check.versions.identity import store
from porting_check.versions.jobs import MARKER, WORK, Job, Outcome, Watch, record_environment
from porting_check.versions.weights import Moved, moved_weights

Layouts = Mapping[str, str]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One environment with what runs there; ``name`` as in a mapping, else ""."""

    environment: EnvironmentSpec
    model: str
    name: str = ""
    layouts: Layouts | str | None = None

    @property
    def key(self) -> str:
        """What it is called in arguments."""
        return self.name or self.environment.title


@dataclass(slots=True)
class Ran:
    """What came of one environment."""

    outcome: Outcome
    trace: Trace | None = None
    weights: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of a matrix, and what its marker holds."""

    path: Path
    token: str


@contextmanager
def home(folder: str | Path | None) -> Iterator[Home]:
    """The folder of the matrix, locked for this process, with its marker; a temporary one where none was given.

    Raises:
        RunError: another process works in it.
        RecordingError: it cannot be written, or holds something else.
    """
    if folder is None:
        with (
            tempfile.TemporaryDirectory(prefix="porting-check-matrix-") as made,
            home(made) as inner,
        ):
            yield inner
        return
    path = Path(os.path.abspath(folder))
    try:
        path.mkdir(parents=True, exist_ok=True)
        marker = path / MARKER
        if not marker.is_file() and any(path.iterdir()):
            raise RecordingError(
                f"the folder {str(path)!r} holds something else than a matrix; give a new folder"
            )
        if not marker.is_file():
            marker.write_text(
                json.dumps({"kind": "porting-check matrix folder", "token": secrets.token_hex(8)})
            )
        token = str(json.loads(marker.read_text(encoding="utf-8"))["token"])
        lock = marker.open("rb")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"the folder {str(path)!r} of the matrix cannot be used: {error}") from None
    with lock:
        _locked(lock, path)
        shutil.rmtree(path / WORK, ignore_errors=True)
        try:
            yield Home(path, token)
        finally:
            shutil.rmtree(path / WORK, ignore_errors=True)


def _locked(lock: Any, path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return  # not a Unix
    except BlockingIOError:
        raise RunError(
            f"another process works in the folder {str(path)!r} of the matrix: wait for it, or give another folder"
        ) from None
    except OSError:
        return  # a file system without locks


@contextmanager
def pool(executor: Executor | None, jobs: int, count: int, watch: Watch) -> Iterator[Executor]:
    """The executor that was handed in, or threads of our own; recordings in this process end with this block."""
    own = jobs or max(1, min(count, (os.cpu_count() or 1) // 2, 8))
    chosen = ThreadPoolExecutor(max_workers=own) if executor is None else executor
    try:
        yield chosen
    except BaseException:
        watch.cancelled.set()
        raise
    finally:
        if executor is None:
            chosen.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class Run:
    """The jobs of one matrix: the baseline, the others, and once more those that need the baseline's weights."""

    home: Home
    pool: Executor
    again: bool
    progress: Progress
    total: int
    done: int = 0

    def all(
        self, first: Place, others: Sequence[Place], request: Mapping[str, Any], transfer: bool | None
    ) -> dict[str, Ran]:
        """Record everywhere; by the place's key.

        Raises:
            PortingError: the baseline could not be recorded; the error of the inside, as its own type.
        """
        base = self.several([first], [self.asked(first, request)])[0]
        if base.trace is None:
            said = f"the baseline {first.key!r} could not be recorded: {base.outcome.error}"
            raise again({"type": base.outcome.kind, "message": said})
        base.weights = "given" if "weights" in request else "its own"
        follow = self.follow(base.trace, request)
        ran = self.several(others, [self.asked(place, follow) for place in others])
        moved = [
            _moved(base.trace, one, transfer, place, first) for one, place in zip(ran, others, strict=True)
        ]
        wanted = [index for index, one in enumerate(moved) if one.values is not None]
        with_weights = [
            self.asked(others[index], {**follow, "weights": store(self.home.path, moved[index].values or {})})
            for index in wanted
        ]
        second = self.several([others[index] for index in wanted], with_weights)
        for index, one in zip(wanted, second, strict=True):
            ran[index] = one
        for one, how in zip(ran, moved, strict=True):
            one.weights = how.words if one.trace is not None else ""
        made = {place.key: one for place, one in zip(others, ran, strict=True)}
        return {first.key: base, **made}

    def asked(self, place: Place, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request with the layouts that the user declared for a place."""
        made = dict(request)
        if place.layouts:
            made["layouts"] = {"": place.layouts} if isinstance(place.layouts, str) else dict(place.layouts)
        return made

    def follow(self, base: Trace, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the others are asked: the same inputs."""
        inputs = {port.name: np.asarray(base.values[port.value]) for port in base.inputs}
        name = store(self.home.path, inputs)
        return {"seed": request["seed"], "inputs": {"": name}, "like": dict(input_layouts(base))}

    def several(self, places: Sequence[Place], requests: Sequence[Mapping[str, Any]]) -> list[Ran]:
        """Run jobs and wait for all of them; what an executor raises is that environment's error."""
        futures = []
        for place, request in zip(places, requests, strict=True):
            job = Job(
                environment=place.environment,
                model=place.model,
                folder=str(self.home.path),
                token=self.home.token,
                request=request,
                again=self.again,
            )
            futures.append(self.submitted(job))
        try:
            return [self.finished(place, one) for place, one in zip(places, futures, strict=True)]
        except BaseException:
            for one in futures:
                if not isinstance(one, Outcome):
                    one.cancel()
            raise

    def submitted(self, job: Job) -> Any:
        """The future of a job, or its outcome where the executor takes none."""
        try:
            return self.pool.submit(record_environment, job)
        except RuntimeError as error:  # a pool whose workers died takes no more jobs
            return Outcome(error=f"the executor takes no jobs: {error}", kind=type(error).__name__)

    def finished(self, place: Place, future: Any) -> Ran:
        """Wait for a job and open what it recorded."""
        outcome: Outcome
        try:
            outcome = future if isinstance(future, Outcome) else future.result()
        except (
            Exception,
            CancelledError,
        ) as error:  # whatever an executor raises: its worker died, was lost, was killed
            said = str(error).strip() or "no message"
            outcome = Outcome(
                error=f"the executor ended the job: {type(error).__name__}: {said}", kind="Executor"
            )
        self.done += 1
        how = "failed" if outcome.error else "kept" if outcome.kept else "recorded"
        self.progress(f"{place.key}: {how}", min(self.done, self.total), self.total)
        trace = None
        if not outcome.error:
            try:
                trace = load_trace(outcome.recording)
            except PortingError as error:
                outcome = replace(outcome, recording="", error=str(error))
        return Ran(outcome, trace)


def _moved(base: Trace, one: Ran, transfer: bool | None, place: Place, first: Place) -> Moved:
    """Whether and how the baseline's weights go into another environment's model."""
    if one.trace is None:
        return Moved("")
    return moved_weights(base, one.trace, transfer, same_model=place.model == first.model)

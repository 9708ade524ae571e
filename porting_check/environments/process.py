"""Following a child process: its progress, its last words, its limits, and that nothing of it stays behind.

Nothing that the child does can block this side: it may print binary or a line without end, fork something that outlives it,
hang, ignore being terminated, or take all memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from porting_check.environments.runner import Progress, Task
from porting_check.neutral.errors import RunError

TAIL = 12
"""Lines of the child's output that are kept for an error message."""

WIDTH = 2000
"""Characters of each of them; a longer line is cut."""

POLL = 0.1
"""Seconds between two looks at the limits, where nothing else happens."""

GRACE = 3.0
"""Seconds from the request to end (SIGTERM) to the end (SIGKILL)."""

DRAIN = 1.0
"""Seconds that the rest of the output may take to arrive after the process ended: something it forked may hold the pipe."""

WAITING = 1000
"""Stages of progress that may wait for this side at once; of each stage only the latest report waits."""

MARK = "PORTING_CHECK_TASK"
"""Environment variable by which a process that left its parent and its group is still found."""

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Why = Literal["", "timeout", "memory", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended.

    Attributes:
        status: exit status; negative: the signal that ended it.
        tail: last lines of what it wrote to standard error, without control characters.
        why: the limit that this side ended it for; "" if it ended by itself.
    """

    status: int
    tail: tuple[str, ...] = ()
    why: Why = ""


def follow(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None,
    cwd: Path | None,
    task: Task,
    progress: Progress,
    memory: int = 0,
    timeout: float = 0,
    stop: Callable[[], None] | None = None,
    asked: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Ended:
    """Start a process, follow it to its end, and leave nothing of it behind.

    Standard output is thrown away. Lines ``{"stage": …, "done": …, "total": …}`` of standard error are progress; ``progress``
    is called in the calling thread. Where ``task.request`` is a future, one line of JSON goes to standard input as soon as it
    resolves; if it fails or is cancelled, the process is ended.

    Args:
        command: program and arguments.
        environment: all of the process's variables; None: those of this process.
        cwd: its working folder; None: that of this process.
        task: for ``request`` and ``cancelled``.
        progress: called with stage, done, total.
        memory: most bytes of resident memory of the process and everything it started; 0 is no limit. Looked at ten times
            a second, so that it may be exceeded for a moment.
        timeout: most seconds; 0 is no limit. They count from when the request is given: until then the process may be waiting
            for the other side.
        stop: ends what the process is only a client of (a container). Called before the process is ended by this side: at a
            limit, when cancelled, and when this side raises (``KeyboardInterrupt``).
        asked: what the request becomes for the inside (paths of a container).

    Raises:
        RunError: it could not be started.

    Example:
        >>> task = Task(model="", folder=Path("."), out="", request={})
        >>> follow(["true"], environment=None, cwd=None, task=task, progress=print).status
        0
    """
    child = _Child(command, environment, cwd, task)
    ended_by_itself = False
    try:
        why = child.watch(progress, memory, timeout, asked)
        ended_by_itself = not why
    finally:
        child.end(None if ended_by_itself else stop, gently=not ended_by_itself)
    child.report(progress)
    return Ended(status=child.process.wait(), tail=tuple(child.tail), why=why)


class _Child:
    """The process, the thread that reads it, and what was read."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None, cwd: Path | None, task: Task
    ) -> None:
        self.task, self.tail = task, deque[str](maxlen=TAIL)
        self.mark, self.started = secrets.token_hex(8), time.time()
        self.future = task.request if isinstance(task.request, Future) else None
        self._reports: dict[str, tuple[int, int]] = {}
        self._lock, self._news = threading.Lock(), threading.Event()
        self._since = time.monotonic()
        variables = {**(os.environ if environment is None else environment), MARK: self.mark}
        self.process = _popen(command, variables, cwd, self.future is not None)
        self._reader = threading.Thread(target=self._read, name="porting-check reader", daemon=True)
        self._reader.start()
        if self.future is not None:
            self.future.add_done_callback(lambda future: self._news.set())

    def watch(
        self,
        progress: Progress,
        memory: int,
        timeout: float,
        asked: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> Why:
        """Wait for the end, or for a reason to end it."""
        while self.process.poll() is None:
            self.report(progress, POLL)
            if self.task.cancelled.is_set() or not self._request(asked):
                return "cancelled"
            if timeout and self.future is None and time.monotonic() - self._since > timeout:
                return "timeout"
            if memory and _resident(self.process.pid) > memory:
                return "memory"
            if not self._reader.is_alive():  # it closed its output: nothing wakes us but its end
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(POLL)
        return ""

    def report(self, progress: Progress, wait: float = 0) -> None:
        """Pass on the progress that was read; wait a little for some news."""
        self._news.wait(wait)
        self._news.clear()
        with self._lock:
            reports, self._reports = self._reports, {}
        for stage, (done, total) in reports.items():
            progress(stage, done, total)

    def _request(self, asked: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> bool:
        """Give the request once it is there; False if it never will be."""
        future = self.future
        if future is None or not future.done():
            return True
        if future.cancelled() or future.exception() is not None:
            return False
        line = json.dumps(asked(future.result())).encode() + b"\n"
        self.future, self._since = None, time.monotonic()
        # From a thread: the child may not read it.
        threading.Thread(target=_write, args=(self.process.stdin, line), daemon=True).start()
        return True

    def _put(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            if stage in self._reports or len(self._reports) < WAITING:
                self._reports[stage] = done, total
        self._news.set()

    def _read(self) -> None:
        """Read everything, whatever it is: lines may be progress, are kept as last words, and are cut."""
        assert self.process.stderr is not None
        rest = b""
        with self.process.stderr as stream, contextlib.suppress(OSError, ValueError):
            while chunk := stream.read(2**16):
                *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
                rest = rest[: 4 * WIDTH]
                for line in lines:
                    self._line(line)
        self._line(rest)
        self._news.set()

    def _line(self, line: bytes) -> None:
        event = _progress_report(line)
        if event is not None:
            self._put(*event)
            return
        text = plain(line[: 4 * WIDTH].decode(errors="replace"))
        if text:
            self.tail.append(text if len(text) <= WIDTH else text[:WIDTH] + " …")

    def end(self, stop: Callable[[], None] | None, *, gently: bool) -> None:
        """End the process and everything it started; read what it still wrote."""
        try:
            if stop is not None:
                stop()
            if gently and self.process.poll() is None:
                _signal(self.process, gently=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(GRACE)
            if self.process.poll() is not None:
                self._reader.join(DRAIN)
        finally:
            _signal(self.process, gently=False)
            _end_marked(self.mark, self.started)
            self.process.wait()
            self._reader.join(DRAIN)
            if self.future is not None and self.process.stdin is not None:
                self.process.stdin.close()


def _popen(
    command: Sequence[str], variables: Mapping[str, str], cwd: Path | None, fed: bool
) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C reaches this side only, which then ends the whole group."""
    try:
        return subprocess.Popen(  # noqa: S603 a list of arguments, no shell
            list(command),
            env=dict(variables),
            cwd=cwd,
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise RunError(f"{command[0]!r} could not be started: {error.strerror or error}") from None


def _write(stream: IO[bytes] | None, line: bytes) -> None:
    """The whole line; a process that ended does not want it any more."""
    assert stream is not None
    with contextlib.suppress(OSError, ValueError), stream:
        while line:
            line = line[stream.write(line) :]


def plain(text: str) -> str:
    r"""A line without what would drive a terminal.

    Example:
        >>> plain("\x1b[31mred\x1b[0m\x07 ")
        'red'
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).rstrip()


def _progress_report(line: bytes) -> tuple[str, int, int] | None:
    if not line.startswith(b'{"stage"') or len(line) > WIDTH:
        return None
    try:
        data = json.loads(line)
        return plain(str(data["stage"])), int(data["done"]), int(data["total"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _resident(pid: int) -> int:
    """Bytes of resident memory of a process and everything below it."""
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def _signal(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """Ask the whole group to end, or end it."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGTERM if gently else signal.SIGKILL)
        elif gently:
            process.terminate()
        else:
            process.kill()


def _end_marked(mark: str, started: float) -> None:
    """End processes that carry our mark: they were started by the child and left its group (daemons)."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.create_time() >= started - 60 and process.environ().get(MARK) == mark:
                process.kill()


_SIGNALS = {
    4: "used an instruction that this CPU lacks (signal 4; this build of the framework needs another CPU, often one with AVX)",
    6: "aborted (signal 6)",
    7: "crashed (signal 7; often: no memory or disk left)",
    8: "crashed (signal 8)",
    9: "was killed (signal 9; often: out of memory)",
    11: "crashed (signal 11)",
    15: "was terminated (signal 15)",
}


def reason(ended: Ended, title: str, doing: str, *, timeout: float = 0, memory: int = 0) -> str:
    """The sentence of a ``RunError``, with the last words.

    Args:
        ended: what :func:`follow` returned.
        title: what the user called the environment.
        doing: what was being done: ``recording 'model.onnx'``.
        timeout: the limit that was given, in seconds.
        memory: the limit that was given, in bytes.

    Example:
        >>> reason(Ended(status=-9), "docker:tf1", "recording 'net.pb'")
        "recording 'net.pb' in docker:tf1 failed: it was killed (signal 9; often: out of memory)."
    """
    sentence = f"{doing} in {title} failed: it {_words(ended, timeout, memory)}."
    return sentence + (" Its last words:\n" + "\n".join(ended.tail) if ended.tail else "")


def _words(ended: Ended, timeout: float, memory: int) -> str:
    if ended.why == "timeout":
        return f"timed out after {duration(timeout)} (the limit is the option timeout= of the environment)"
    if ended.why == "memory":
        return (
            f"used more than {amount(memory)} of memory (the limit is the option memory= of the environment)"
        )
    if ended.why == "cancelled":
        return "was cancelled"
    return how(ended.status)


def how(status: int) -> str:
    """How a process ended, in words; statuses above 128 are signals of what a shell or a container ran.

    Example:
        >>> how(137), how(1)
        ('was killed (signal 9; often: out of memory)', 'ended with status 1')
    """
    number = -status if status < 0 else status - 128
    if number in _SIGNALS:
        return _SIGNALS[number]
    return f"was ended by signal {number}" if status < 0 else f"ended with status {status}"


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(600), duration(1.5), duration(3600)
        ('10 minutes', '1.5 seconds', '1 hour')
    """
    units = ((3600, "hour"), (60, "minute"), (1, "second"))
    size, unit = next((size, unit) for size, unit in units if size == 1 or (seconds and seconds % size == 0))
    return f"{seconds / size:g} {unit}{'' if seconds == size else 's'}"


def amount(size: int) -> str:
    """Bytes in words.

    Example:
        >>> amount(8 * 2**30), amount(1536 * 2**20)
        ('8 GB', '1.5 GB')
    """
    for unit, name in ((2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"

"""What every command needs: streams, progress, errors and exit statuses. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from porting_check.neutral.errors import NOT_RUN, USAGE, PortingError

if TYPE_CHECKING:
    from porting_check.neutral.trace import Trace
    from porting_check.report.crosstable import Crosstable
    from porting_check.report.result import Report

PROGRAM = "porting-check"
INTERRUPTED = 130
SCHEMA = 1
"""Version of the JSON documents that are not reports: failures, recordings, the doctor's findings."""

Progress = Callable[[str, int, int], None]


def _compare(*arguments: Any, **options: Any) -> Report:
    import porting_check

    return porting_check.compare(*arguments, **options)


def _record(*arguments: Any, **options: Any) -> Trace:
    import porting_check

    return porting_check.record(*arguments, **options)


def _crosscheck(*arguments: Any, **options: Any) -> Crosstable:
    import porting_check

    return porting_check.crosscheck(*arguments, **options)


def _demo(*arguments: Any, **options: Any) -> int:
    from porting_check.demo import run

    return int(run(*arguments, **options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbs:
    """What the commands call. The real verbs are imported when they are first called."""

    compare: Callable[..., Report] = _compare
    record: Callable[..., Trace] = _record
    crosscheck: Callable[..., Crosstable] = _crosscheck
    demo: Callable[..., int] = _demo


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How to speak, read from the arguments before they are parsed, so that a usage error follows it too."""

    json: bool = False
    traceback: bool = False

    @classmethod
    def of(cls, arguments: Sequence[str], debug: str = "") -> Mode:
        """The mode that a command line and ``PORTING_CHECK_DEBUG`` ask for."""
        asked = arguments[: arguments.index("--")] if "--" in arguments else arguments
        verbose = "-v" in asked or "--verbose" in asked
        return cls(json="--json" in asked, traceback=verbose or debug not in ("", "0"))


def emit(text: str) -> None:
    """Write to stdout. A reader that went away (``| head``) is no error and changes no exit status."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it closes the stream at exit.
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Write to stderr: progress, where files went, errors."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def emit_json(kind: str, **data: Any) -> None:
    """One JSON document on stdout."""
    emit(json.dumps({"kind": f"{PROGRAM} {kind}", "schema": SCHEMA, **data}, indent=2, allow_nan=False))


def coloured() -> bool:
    """Whether stdout takes colours: a terminal, unless ``NO_COLOR``; always with ``FORCE_COLOR``."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def safe_streams() -> None:
    """A terminal or pipe that cannot encode a character gets an escape instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ended_like_interrupted() -> None:
    """Ending the program (SIGTERM, or its terminal closed) ends what it started too, as Ctrl-C does."""
    import signal
    import threading

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
                signal.signal(getattr(signal, name), interrupt)


@contextlib.contextmanager
def results_only() -> Iterator[None]:
    """While models run, what they print goes to stderr: stdout carries the result and nothing else.

    Diverts Python's stream and, for libraries that write to file descriptor 1 themselves, the descriptor.
    """
    sys.stdout.flush()
    kept = -1
    with contextlib.suppress(OSError):
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


@contextlib.contextmanager
def progress_bar(wanted: bool) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; otherwise a function that does nothing."""
    if not wanted or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
    )
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total or None)

        yield show


def guarded(action: Callable[[], Any], mode: Mode) -> int:
    """Run a command and turn whatever happens into an exit status and at most one message on stderr."""
    try:
        status = action()
    except KeyboardInterrupt:
        return _failed("Interrupted", "interrupted", INTERRUPTED, mode)
    except SystemExit as error:
        if not isinstance(error.__context__, OSError):
            raise
        # Typer ends with 1 when any pipe broke; here 1 means divergent, and nothing was decided.
        return _failed("OSError", f"a side could not be run: {error.__context__}", NOT_RUN, mode, error)
    except PortingError as error:
        return _failed(type(error).__name__, str(error), error.exit_status, mode, error)
    except MemoryError as error:
        return _failed(
            "MemoryError", "out of memory; use a smaller batch or smaller inputs", NOT_RUN, mode, error
        )
    except Exception as error:
        return _unusual(error, mode)
    if status == INTERRUPTED:  # Typer turns Ctrl-C into this status by itself.
        return _failed("Interrupted", "interrupted", INTERRUPTED, mode)
    return status if isinstance(status, int) else 0


def _unusual(error: Exception, mode: Mode) -> int:
    """Typer's own errors, told by what they offer (its copy of click has no public name); others are ours."""
    if type(error).__name__ == "Abort":
        return _failed("Interrupted", "interrupted", INTERRUPTED, mode)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        context = getattr(error, "ctx", None)
        hint = f"\nTry '{context.command_path} --help'." if context is not None else ""
        return _failed("UsageError", error.format_message() + hint, USAGE, mode)
    message = (
        f"unexpected {type(error).__name__}: {_first_line(error)}\n"
        f"This is a fault of {PROGRAM}. Please report it with what the same command prints under "
        f"PORTING_CHECK_DEBUG=1 and with the output of '{PROGRAM} doctor'."
    )
    return _failed(type(error).__name__, message, NOT_RUN, mode, error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _failed(kind: str, message: str, status: int, mode: Mode, error: BaseException | None = None) -> int:
    if mode.traceback and error is not None:
        tell("".join(traceback.format_exception(error)).rstrip())
    tell(message if kind == "Interrupted" else f"{PROGRAM}: {message}")
    if mode.json:
        emit_json("failure", exit_status=status, error={"type": kind, "message": message})
    return status

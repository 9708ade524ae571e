"""Where virtual environments are kept between runs, and how two processes do not make the same one twice."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from porting_check.neutral.errors import RunError

VARIABLE = "PORTING_CHECK_CACHE"
"""Environment variable that names another folder."""

PATIENCE = 0.2
"""Seconds between two tries to get a lock."""


def cache_folder() -> Path:
    """The folder for what can be made again: ``PORTING_CHECK_CACHE``, or where the platform keeps such things.

    Example:
        >>> cache_folder().name                               # doctest: +SKIP
        'porting-check'
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    if os.name == "nt":
        return (
            Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
            / "porting-check"
            / "Cache"
        )
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "porting-check"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "porting-check"


def made_folder(path: Path) -> Path:
    """A folder of the cache, made if it is not there.

    Raises:
        RunError: it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the cache folder {str(path)!r} cannot be made: {error.strerror or error}; name another one with {VARIABLE}"
        ) from None
    return path


def label(text: str) -> str:
    """The part of a folder's name that people can read.

    Example:
        >>> label("tensorflow==2.5.0, numpy~=1.19.2")
        'tensorflow-2.5.0-numpy-1.19.2'
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60]


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody sees half of it.

    Raises:
        RunError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None], cancelled: threading.Event) -> Iterator[bool]:
    """Hold a lock file while the block runs; it is free again when this process ends, however it does.

    Args:
        path: the lock file; it stays.
        waiting: called once when another one holds it.
        cancelled: ends the waiting.

    Yields:
        Whether the lock is held; False where the file system knows no locks: then the block must stand a race.

    Raises:
        RunError: cancelled, or the file cannot be made.
    """
    made_folder(path.parent)
    try:
        file = path.open("a+b")
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be written: {error.strerror or error}") from None
    told = False
    with file:
        while (held := _try(file)) is None:
            if not told:
                waiting()
                told = True
            if cancelled.wait(PATIENCE):
                raise RunError(f"waiting for {str(path)!r} was cancelled")
        yield held


def _try(file: IO[bytes]) -> bool | None:
    """True: it is ours; None: another one's; False: there are no locks here. Closing the file frees it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):
        return None
    except OSError:
        return False

"""Writing a report to a file: whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from porting_check.neutral.errors import PortingError
from porting_check.report.result import Report

Result = TypeVar("Result")


def _html(report: Report) -> str:
    from porting_check.report.html import dumps

    return dumps(report)


def _json(report: Report) -> str:
    from porting_check.report.json import dumps

    return dumps(report) + "\n"


def _markdown(report: Report) -> str:
    from porting_check.report.markdown import dumps

    return dumps(report)


def _junit(report: Report) -> str:
    from porting_check.report.junit import dumps

    return dumps(report)


def _csv(report: Report) -> str:
    from porting_check.report.csv import dumps

    return dumps(report)


FORMS: Mapping[str, Callable[[Report], str]] = {
    ".html": _html,
    ".json": _json,
    ".md": _markdown,
    ".xml": _junit,
    ".csv": _csv,
}
"""What a suffix means. To add a form: one module here with ``dumps``, and one line."""


def form(path: Path) -> Callable[[Report], str]:
    """The rendering that a path's suffix asks for.

    Raises:
        PortingError: another suffix; the message lists the known ones.
    """
    return form_of(path, FORMS, "a report")


def form_of(path: Path, forms: Mapping[str, Callable[[Result], str]], what: str) -> Callable[[Result], str]:
    """The rendering that a path's suffix asks for, of a result of any kind.

    Args:
        path: where it will be written.
        forms: renderings by suffix.
        what: the kind of result in words, with its article.

    Raises:
        PortingError: another suffix; the message lists the known ones.
    """
    chosen = forms.get(path.suffix.lower())
    if chosen is None:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise PortingError(f"{str(path)!r} has {found}; {what} is saved as one of {' '.join(forms)}")
    return chosen


def save(report: Report, path: Path) -> Path:
    """Render by suffix and write; a file that was there stays as it was when anything fails.

    Example:
        >>> save(report, Path("report.html"))                  # doctest: +SKIP
        PosixPath('report.html')

    Raises:
        PortingError: another suffix, or the file cannot be written.
    """
    render = form(path)
    return write(path, render(report))


def write(path: Path, text: str) -> Path:
    """Write a text file atomically: a temporary file beside it, then renamed over it.

    Raises:
        PortingError: the folder is missing or read-only, the disk is full, or the path is a folder.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        # "x" makes a new file with the permissions that the user's umask asks for, which mkstemp does not.
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        reason = error.strerror or str(error)
        raise PortingError(
            f"the report cannot be written to {str(path)!r}: {reason}; "
            "choose a folder that exists and is writable"
        ) from None
    return path

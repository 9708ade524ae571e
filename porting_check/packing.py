"""``porting-check-recorder.pyz``: what runs inside a framework's environment, in one file that any Python from 3.7 can run.

A zip archive in the form of the standard library's :mod:`zipapp`. The same sources give the same bytes on every machine:
names are sorted, times are fixed, and nothing is compressed, because the output of zlib differs between its versions.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from porting_check import __version__
from porting_check.neutral.errors import FrameworkMissing, ModelError, RecordingError
from porting_check.recorder.registry import GROUP, TABLE

NAME = "porting-check-recorder.pyz"
DISTRIBUTION = "porting-check"
SHEBANG = b"#!/usr/bin/env python3\n"
PARTS = ("neutral", "recorder")
"""Subpackages of ``porting_check`` that are packed; they run on Python 3.7."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold."""

COMPILED = (".so", ".pyd", ".dylib", ".dll")
SKIPPED = ("__pycache__", ".pyc", ".pyo")

_ONE_AT_A_TIME = threading.Lock()
"""CPython 3.11 keeps the depth of the parser for all threads together: two that parse at once end in a SystemError."""

MAIN = """\
# SPDX-License-Identifier: Apache-2.0
# Written so that every Python can parse it, to say which one is needed.
import os
import sys

if sys.version_info < (3, 7):
    sys.stderr.write(
        "porting-check-recorder: Python 3.7 or newer is needed; this is Python %d.%d (%s)\\n"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
    sys.exit(3)

# A model may change the working folder, and frames of adapters are told from the model's by absolute paths.
sys.path[0] = os.path.abspath(sys.path[0])

if __name__ == "__main__":
    from porting_check.recorder.packed import program

    program()
"""

INIT = '''\
"""The part of porting-check that runs inside a framework's environment."""

__version__ = {version!r}
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A recorder that was built.

    ``adapters``: ``module:class`` by framework. ``digest``: SHA-256 of the file, in hexadecimal.
    """

    path: Path
    digest: str
    size: int
    adapters: Mapping[str, str]


def build_recorder(out: str | os.PathLike[str] = NAME, adapters: Sequence[str] = ()) -> Packed:
    """Write the recorder into one file. No framework is imported.

    Args:
        out: the file; an earlier one is replaced whole.
        adapters: installed adapters of other distributions to pack besides the built-in ones, by framework.

    Raises:
        FrameworkMissing: no such adapter is installed, or two are.
        ModelError: an adapter that cannot run from an archive, or on Python 3.7.
        RecordingError: the file cannot be written.

    Example:
        >>> build_recorder("recorder.pyz").adapters["torch"]     # doctest: +SKIP
        'porting_check_torch:TorchAdapter'
    """
    table = adapter_table(adapters)
    for framework in adapters:  # the built-in ones are checked by the tests
        _check(framework, _adapter(framework, table[framework]))
    content = archive_bytes(members(table))
    path = Path(out)
    _write(path, content)
    return Packed(path=path, digest=hashlib.sha256(content).hexdigest(), size=len(content), adapters=table)


@cache
def recorder_bytes() -> bytes:
    """The recorder with the built-in adapters, as :func:`build_recorder` writes it; made once in a process."""
    return archive_bytes(members(adapter_table()))


def adapter_table(extra: Sequence[str] = ()) -> dict[str, str]:
    """``module:class`` by framework: of the built-in adapters, and of those installed ones that are asked for.

    Raises:
        FrameworkMissing: one that is not installed, or that two distributions provide.
    """
    entries = list(metadata.entry_points(group=GROUP))
    built_in = {entry.name for entry in entries if entry.dist is not None and entry.dist.name == DISTRIBUTION}
    if not built_in:
        raise FrameworkMissing(
            "porting-check is not installed in this Python, so its adapters cannot be found; run: pip install porting-check"
        )
    table = {}
    for name in sorted(built_in | set(extra)):
        values = sorted({entry.value for entry in entries if entry.name == name})
        if not values:
            known = ", ".join(sorted({entry.name for entry in entries}))
            raise FrameworkMissing(f"no adapter for {name!r} is installed; installed: {known}")
        if len(values) > 1:
            raise FrameworkMissing(
                f"two adapters are registered for {name!r}: {values[0]} and {values[1]}; uninstall one"
            )
        table[name] = values[0].split("[")[0].strip()
    return table


def members(table: Mapping[str, str]) -> dict[str, bytes]:
    """Every file of the archive by its name there."""
    here = Path(__file__).resolve().parent
    found = {
        "__main__.py": MAIN.encode(),
        "porting_check/__init__.py": INIT.format(version=__version__).encode(),
    }
    for part in PARTS:
        found.update(_tree(here / part, f"porting_check/{part}"))
    document = {"version": __version__, "adapters": dict(table)}
    found[f"porting_check/recorder/{TABLE}"] = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
    for framework, value in table.items():
        found.update(_adapter(framework, value))
    return found


def _adapter(framework: str, value: str) -> dict[str, bytes]:
    """The top-level package, or the single module, that holds an adapter; found without importing it."""
    top = value.partition(":")[0].split(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ModelError(
            f"the adapter of {framework!r} ({value}) is not a folder or file of Python source: {top}"
        )
    origin = Path(spec.origin)
    if spec.submodule_search_locations:
        return _tree(origin.parent, top)
    return {f"{top}.py": origin.read_bytes()}


def _check(framework: str, files: Mapping[str, bytes]) -> None:
    """Refuse what cannot run from an archive on the oldest Python."""
    for name, content in files.items():
        if name.endswith(COMPILED):
            raise ModelError(
                f"the adapter of {framework!r} holds {name}, which Python cannot load from an archive"
            )
        if name.endswith(".py"):
            _parse(framework, name, content)


def _parse(framework: str, name: str, content: bytes) -> None:
    try:
        with _ONE_AT_A_TIME:
            ast.parse(content, name, feature_version=(3, 7))
    except SyntaxError as error:
        raise ModelError(
            f"the adapter of {framework!r} cannot run on Python 3.7: {name}, line {error.lineno}: {error.msg}"
        ) from None


def _tree(folder: Path, prefix: str) -> dict[str, bytes]:
    """Files below a folder by their names in the archive, without what Python leaves behind."""
    found = {}
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.endswith(SKIPPED) for part in relative.parts):
            found[f"{prefix}/{relative.as_posix()}"] = path.read_bytes()
    return found


def archive_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip archive that begins with a line for the shell; equal files give equal bytes.

    Example:
        >>> archive_bytes({"b.py": b"", "a.py": b""}) == archive_bytes({"a.py": b"", "b.py": b""})
        True
    """
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Put a file in its place whole, executable."""
    if path.is_dir():
        raise RecordingError(f"{str(path)!r} is a folder; expected a file to write, such as {path / NAME}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).chmod(0o755)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordingError(f"{str(path)!r} cannot be written: {error.strerror or error}") from None

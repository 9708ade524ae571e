"""What a recording of a matrix is made of, as digests: equal ones need no second recording."""

from __future__ import annotations

import functools
import hashlib
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.environments.specification import EnvironmentSpec
from porting_check.neutral.errors import RunError
from porting_check.packing import recorder_bytes

FILES = "files"
"""Where inputs and weights lie, below the folder of a matrix."""

MOST_SIBLINGS = 500
BLOCK = 1 << 20


def identity(
    environment: EnvironmentSpec, origin: Mapping[str, str], model: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that a recording is made of, as plain data; equal data need no second recording.

    The specification and what pins it (an image's digest, a lock; for an interpreter the packages that it sees), the
    contents of the model's files as far as they can be known, the request with digests of inputs and weights, and the
    recorder's own sources. Not in it: modules and data that a function reads from elsewhere, and the machine.
    """
    spec = asdict(environment)
    for key in ("text", "memory", "timeout"):  # what it is called, and when it is given up, changes no number
        spec.pop(key)
    named = [*environment.files, *environment.requirements, environment.lock]
    facts: dict[str, Any] = {
        "environment": spec,
        "origin": dict(origin),
        "files": {name: content(Path(name)) for name in named if name and Path(name).exists()},
        "model": [model, model_content(model)],
        "request": dict(request),
        "recorder": recorder_digest(),
    }
    if environment.kind in ("local", "python"):
        python = environment.python if environment.kind == "python" else sys.executable
        facts["packages"] = packages(python)
    return facts


_PACKAGES = """
import os, sys
names = {n for p in sys.path if os.path.isdir(p or '.') for n in os.listdir(p or '.') if n.endswith(('.dist-info', '.egg-info'))}
print(sys.version.replace(chr(10), ' '))
print(chr(10).join(sorted(names)))
"""


@functools.lru_cache(maxsize=64)
def packages(python: str) -> str:
    """A digest of an interpreter's version and of the distributions that it sees; without importing any."""
    try:
        done = subprocess.run(  # noqa: S603 the interpreter that the user named
            [python, "-c", _PACKAGES], capture_output=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"the interpreter {python!r} cannot be run: {error}") from None
    return hashlib.sha256(done.stdout).hexdigest()


@functools.cache
def recorder_digest() -> str:
    """A digest of what runs inside an environment."""
    return hashlib.sha256(recorder_bytes()).hexdigest()


def model_content(spec: str) -> str:
    """A digest of the files that a model is known to consist of.

    A file with those beside it whose names begin like its own (external data); a folder with all below it; for
    ``file.py:function`` the file and the Python files beside it; for ``package.module:function`` the module's file, where
    it can be found below the present folder. ``""`` when nothing is known.

    Example:
        >>> model_content("json:loads")
        ''
    """
    path = Path(spec)
    if path.is_dir():
        return content(path)
    if path.is_file():
        begins = path.name
        return _digest(p for p in _beside(path) if p.name.startswith(begins))
    head = spec.rpartition(":")[0]
    if head.endswith(".py"):
        return _digest(p for p in _beside(Path(head)) if p.suffix == ".py")
    if not head:
        return ""
    module = Path(*head.split("."))
    found = [p for p in (module.with_suffix(".py"), module / "__init__.py") if p.is_file()]
    return _digest(found) if found else ""


def _beside(path: Path) -> list[Path]:
    """A file and, where its folder is not too full, the files beside it."""
    found = sorted(p for p in path.absolute().parent.iterdir() if p.is_file())
    return found if len(found) <= MOST_SIBLINGS else [path]


def content(path: Path) -> str:
    """A digest of one file, or of all files below a folder."""
    files = (
        [path]
        if path.is_file()
        else [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    )
    return _digest(files)


def _digest(files: Iterable[Path]) -> str:
    made = hashlib.sha256()
    for path in sorted(files):
        inner = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                inner.update(block)
        made.update(f"{path.name}\0{inner.hexdigest()}\0".encode())
    return made.hexdigest()


def store(folder: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays into the folder of a matrix under the digest of their names and bits; its path relative to the folder."""
    made = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        made.update(
            f"{name}\0{array.dtype.str}\0{array.shape}\0".encode() + np.ascontiguousarray(array).tobytes()
        )
    name = f"{FILES}/{made.hexdigest()[:32]}.npz"
    if not (folder / name).is_file():
        (folder / FILES).mkdir(exist_ok=True)
        temporary = folder / FILES / f"{secrets.token_hex(8)}.npz"
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(folder / name)
    return name

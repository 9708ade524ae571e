"""Python interpreters of this machine: what one is, and which one has a version. None is ever downloaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from porting_check.environments.specification import EnvironmentSpecError
from porting_check.neutral.errors import RunError

OLDEST = (3, 7)
"""Of the recorder."""

PATIENCE = 60
"""Seconds that an interpreter may take to say what it is."""

PROBE = """
import json, platform, sys
try:
    import numpy
    found = numpy.__version__
except Exception as error:
    found = ""
print("\\n" + json.dumps({
    "path": sys.executable or "",
    "version": platform.python_version(), "implementation": platform.python_implementation(),
    "platform": platform.system().lower() + "-" + platform.machine().lower(), "numpy": found,
}))
"""
"""Any Python since 2.7 can run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python interpreter, as it describes itself.

    Attributes:
        path: what it calls itself, which sees through the wrappers of pyenv; links stay, since the interpreter of a virtual
            environment is one.
        version: ``3.9.18``.
        implementation: ``CPython``.
        platform: ``linux-x86_64``.
        numpy: version; "" if it cannot be imported.
    """

    path: str
    version: str
    implementation: str
    platform: str
    numpy: str = ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version to compare with: ``(3, 9, 18)``."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:3])

    @property
    def minor(self) -> str:
        """``3.9``."""
        return ".".join(self.version.split(".")[:2])


def clean_environment(
    python: str, private: Path, variables: Mapping[str, str], path: str = ""
) -> dict[str, str]:
    """All environment variables of an inside: nothing of the host's.

    Args:
        python: the interpreter; its folder comes first in ``PATH``.
        private: an existing folder; home and temporary files go below it.
        variables: further ones, of the user.
        path: ``PYTHONPATH``.

    Example:
        >>> sorted(clean_environment("/opt/py/bin/python", Path("/job"), {"A": "1"}))[:3]     # doctest: +SKIP
        ['A', 'HOME', 'LANG']
    """
    home, temporary = private / "home", private / "tmp"
    for folder in (home, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    system = "/usr/local/bin:/usr/bin:/bin"
    made = {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if os.name == "nt":
        root = os.environ.get("SYSTEMROOT", r"C:\Windows")
        system = f"{root}\\System32;{root}"
        made |= {"SYSTEMROOT": root, "USERPROFILE": str(home), "TEMP": str(temporary), "TMP": str(temporary)}
    made["PATH"] = os.path.dirname(os.path.abspath(python)) + os.pathsep + system
    if path:
        made["PYTHONPATH"] = path
    return {**made, **variables}


def ask(path: str) -> Interpreter | None:
    """What an interpreter is; ``None`` if the file does not run, or is no Python.

    Example:
        >>> ask(sys.executable).numbers == sys.version_info[:3]
        True
    """
    hidden = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    variables = {key: value for key, value in os.environ.items() if key not in hidden}
    try:
        done = subprocess.run(  # noqa: S603 a list of arguments, no shell
            [path, "-c", PROBE],
            env={**variables, "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        data = json.loads(done.stdout.decode(errors="replace").strip().splitlines()[-1])
        described = {key: str(value) for key, value in data.items()}
        return Interpreter(**{**described, "path": described["path"] or path})
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, IndexError):
        return None


def named(python: str, text: str) -> Interpreter:
    """The interpreter that the user named, by path or as a program.

    Args:
        python: a path, or a name on ``PATH``.
        text: the environment as the user wrote it, for messages.

    Raises:
        EnvironmentSpecError: nothing there, not a Python, or too old.
    """
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        what = "is not a program that can be run" if os.path.exists(python) else "does not exist"
        raise EnvironmentSpecError(
            f"{text!r}: {python!r} {what}; expected the path of a Python interpreter, such as /usr/bin/python3"
        )
    interpreter = ask(os.path.abspath(found))
    if interpreter is None:
        raise EnvironmentSpecError(
            f"{text!r}: {python!r} is not a Python interpreter (asked for its version, it gave none); expected a path such "
            "as /usr/bin/python3"
        )
    return _recent(interpreter, text)


def _recent(interpreter: Interpreter, text: str) -> Interpreter:
    if interpreter.numbers < OLDEST:
        raise EnvironmentSpecError(
            f"{text!r}: {interpreter.path} is Python {interpreter.version}; the recorder needs Python 3.7 or newer"
        )
    return interpreter


def of_version(wanted: str, text: str) -> Interpreter:
    """An installed interpreter of a version: this one, one on ``PATH``, pyenv's, uv's, or that of the ``py`` launcher.

    Args:
        wanted: ``3.9``, ``3.9.18``, or "" for this one.
        text: the environment as the user wrote it, for messages.

    Raises:
        EnvironmentSpecError: older than the recorder runs on.
        RunError: there is none; with those that were found.

    Example:
        >>> of_version("", "venv:numpy").numbers == sys.version_info[:3]
        True
    """
    numbers = tuple(int(number) for number in wanted.split(".") if number)
    if numbers and numbers[:2] < OLDEST[: len(numbers[:2])]:
        raise EnvironmentSpecError(
            f"{text!r}: Python {wanted} is too old; the recorder needs Python 3.7 or newer"
        )
    this = getattr(sys, "_base_executable", "") or sys.executable
    seen = {".".join(map(str, sys.version_info[:3])): this}
    for path in _candidates(numbers, this):
        found = ask(path)
        if found is not None and found.numbers[: len(numbers)] == numbers:
            return _recent(found, text)
        if found is not None:
            seen.setdefault(found.version, path)
    listed = ", ".join(f"{version} ({path})" for version, path in sorted(seen.items(), key=_order))
    raise RunError(
        f"{text!r}: no Python {wanted} was found; found {listed or 'none'}. Looked at this interpreter, python{wanted} on "
        f"PATH, pyenv, uv and the py launcher. Install it (pyenv install {wanted}, uv python install {wanted}, or the "
        "system's packages), or name an interpreter: python=/path/to/python"
    )


def _order(item: tuple[str, str]) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", item[0])[:3])


def _candidates(numbers: tuple[int, ...], this: str) -> Iterator[str]:
    """Interpreters to ask, those that probably match first; then all that are known, so that they can be listed."""
    if sys.version_info[: len(numbers)] == numbers:
        yield this
    if not numbers:
        return
    short = ".".join(map(str, numbers[:2]))
    names = [f"python{short}", "python3", "python"]
    for name in names[:1] if len(numbers) > 1 else names:
        if found := shutil.which(name):
            yield found
    installed = sorted(_installed(), key=lambda item: item[0][: len(numbers)] != numbers)
    yield from (path for _, path in installed)
    launcher = shutil.which("py") if os.name == "nt" else None
    if launcher:
        yield from _launched(launcher, short)
    for minor in range(15, 6, -1):
        if found := shutil.which(f"python3.{minor}"):
            yield found


def _installed() -> list[tuple[tuple[int, ...], str]]:
    """Interpreters that pyenv and uv installed, newest first, by version."""
    home = Path.home()
    data = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    if os.name == "nt":
        data = os.environ.get("APPDATA", data)
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path(data) / "uv" / "python")
    found = []
    for folder, pattern in ((pyenv, r"^(\d+\.\d+\.\d+)$"), (uv, r"^cpython-(\d+\.\d+\.\d+)-")):
        for one in folder.iterdir() if folder.is_dir() else ():
            version = re.match(pattern, one.name)
            programs = (one / "bin" / "python", one / "python.exe")
            path = next((program for program in programs if program.is_file()), None)
            if version and path:
                found.append((tuple(int(number) for number in version.group(1).split(".")), str(path)))
    return sorted(found, reverse=True)


def _launched(launcher: str, version: str) -> Iterator[str]:
    """What Windows' launcher starts for a version."""
    done = subprocess.run(  # noqa: S603 a list of arguments, no shell
        [launcher, f"-{version}", "-c", "import sys; print(sys.executable)"], capture_output=True, text=True
    )
    if done.returncode == 0 and done.stdout.strip():
        yield done.stdout.strip()

"""Resolving requirements and installing them into a virtual environment: with uv where there is one, else with pip.

Both install from a lock: one line per package with its version and, where known, the hashes of its files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from porting_check.environments.interpreters import Interpreter
from porting_check.environments.package_sources import REDIRECTING, host_variables, pip_settings, uv_variables
from porting_check.environments.process import follow, how
from porting_check.environments.runner import Task
from porting_check.neutral.errors import RunError

NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One piece of work of an installer.

    ``title``: what the user called the environment. ``folder``: of its own, for its files. ``cancelled``: ends it.
    """

    title: str
    folder: Path
    cancelled: threading.Event = field(default_factory=threading.Event)

    def call(self, command: Sequence[str], variables: Mapping[str, str], doing: str) -> None:
        """Run a program of the installer to its end.

        Raises:
            RunError: it failed; with its last words.
        """
        task = Task(model="", folder=self.folder, out="", request={}, cancelled=self.cancelled)
        ended = follow(
            command,
            environment=variables,
            cwd=self.folder,
            task=task,
            progress=lambda stage, done, total: None,
        )
        if ended.why:
            raise RunError(f"{self.title}: {doing} was cancelled")
        if ended.status != 0:
            words = "\n".join(ended.tail)
            raise RunError(f"{self.title}: {doing} failed: {command[0]} {how(ended.status)}:\n{words}")


class Installer(Protocol):
    """What makes virtual environments."""

    name: str

    def resolve(self, requirements: Sequence[str], python: Interpreter, target: Path, work: Work) -> str:
        """The lock of requirements; ``target`` may be made on the way, whole."""

    def install(self, lock: str, python: Interpreter, target: Path, work: Work) -> None:
        """Make a virtual environment from a lock."""


def find_installer() -> Installer:
    """The uv on ``PATH``, that of the package of that name, or pip."""
    program = shutil.which("uv")
    if program is None and importlib.util.find_spec("uv") is not None:
        from importlib import import_module

        try:
            program = os.fspath(import_module("uv").find_uv_bin())
        except (ImportError, AttributeError, OSError):
            program = None
    return Uv(program) if program else Pip()


def python_of(target: Path) -> Path:
    """The interpreter of a virtual environment."""
    return target / "Scripts" / "python.exe" if os.name == "nt" else target / "bin" / "python"


def requirement_lines(requirements: Sequence[str]) -> list[str]:
    """Requirements as lines of a requirements file; files of the user are named by absolute paths.

    Example:
        >>> requirement_lines(["numpy<2"])
        ['numpy<2']
    """
    lines = []
    for one in requirements:
        if one.endswith((".txt", ".in")) and os.path.isfile(one):
            lines.append(f"-r {os.path.abspath(one)}")
        elif os.path.exists(one) and not NAME.fullmatch(one):  # a wheel or a folder; a name is a package
            lines.append(os.path.abspath(one))
        else:
            lines.append(one)
    return lines


def locked_names(lock: str) -> dict[str, str]:
    r"""Versions by normalized name (PEP 503) in a lock.

    Example:
        >>> locked_names("ml_dtypes==0.4.1 --hash=sha256:00\n# a comment\nnumpy==1.19.5")
        {'ml-dtypes': '0.4.1', 'numpy': '1.19.5'}
    """
    found = {}
    for line in lock.splitlines():
        pinned = re.match(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(?:==\s*([^\s;\\]+)|@\s*(\S+))", line)
        if pinned:
            found[normalized(pinned.group(1))] = pinned.group(2) or pinned.group(3)
    return found


def normalized(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def has_hashes(lock: str) -> bool:
    """Whether every package of a lock has a hash."""
    entries = re.split(r"(?m)^(?=[A-Za-z0-9./])", re.sub(r"(?m)^\s*#.*$", "", lock))
    packages = [entry for entry in entries if entry.strip()]
    return bool(packages) and all("--hash=" in entry for entry in packages)


class Uv:
    """Resolves and installs with uv.

    Args:
        program: its path.
    """

    name = "uv"

    def __init__(self, program: str) -> None:
        self.program = program
        self._settings: dict[str, str] | None = None

    def resolve(self, requirements: Sequence[str], python: Interpreter, target: Path, work: Work) -> str:
        """The lock, with the hashes of all files of each version; numpy is added if nothing brings it."""
        lock = self._compile(requirement_lines(requirements), python, work)
        if "numpy" not in locked_names(lock):
            lock = self._compile([*requirement_lines(requirements), "numpy"], python, work)
        return lock

    def _compile(self, lines: Sequence[str], python: Interpreter, work: Work) -> str:
        asked, made = work.folder / "requirements.in", work.folder / "lock.txt"
        asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
        made.unlink(missing_ok=True)
        self._call(
            [
                *("pip", "compile", str(asked), "--output-file", str(made), "--python", python.path),
                *("--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
            ],
            work,
            "resolving the requirements",
        )
        return made.read_text(encoding="utf-8")

    def install(self, lock: str, python: Interpreter, target: Path, work: Work) -> None:
        """Make a virtual environment from a lock."""
        file = work.folder / "lock.txt"
        file.write_text(lock, encoding="utf-8")
        self._call(
            ["venv", "--quiet", "--relocatable", "--python", python.path, str(target)],
            work,
            "making the virtual environment",
        )
        checked = ["--require-hashes"] if has_hashes(lock) else []
        self._call(
            [
                *("pip", "install", "--quiet", "--python", str(python_of(target))),
                *("--no-deps", "--compile-bytecode", *checked, "-r", str(file)),
            ],
            work,
            "installing the packages",
        )

    def _call(self, arguments: Sequence[str], work: Work, doing: str) -> None:
        if self._settings is None:
            self._settings = pip_settings()
        # An interpreter is always named; none is ever downloaded.
        command = [self.program, *arguments, "--no-python-downloads", "--no-progress", "--color", "never"]
        if arguments[0] == "pip" and self._settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            command.append("--no-index")
        work.call(command, uv_variables(host_variables(), self._settings), doing)


class Pip:
    """Resolves and installs with the pip of each virtual environment."""

    name = "pip"

    def resolve(self, requirements: Sequence[str], python: Interpreter, target: Path, work: Work) -> str:
        """Install, and say what was installed; with hashes where this pip can tell them (22.2 and newer)."""
        self._venv(python, target, work)
        asked = work.folder / "requirements.in"
        asked.write_text("\n".join(requirement_lines(requirements)) + "\n", encoding="utf-8")
        lock = self._install(["-r", str(asked)], target, work)
        if "numpy" not in locked_names(lock):
            lock += self._install(["numpy"], target, work)
        return lock

    def install(self, lock: str, python: Interpreter, target: Path, work: Work) -> None:
        """Make a virtual environment from a lock."""
        self._venv(python, target, work)
        file = work.folder / "lock.txt"
        file.write_text(lock, encoding="utf-8")
        checked = ["--require-hashes"] if has_hashes(lock) else []
        self._pip(
            ["install", "--no-deps", *checked, "-r", str(file)], target, work, "installing the packages"
        )

    def _venv(self, python: Interpreter, target: Path, work: Work) -> None:
        doing = "making the virtual environment (python -m venv; Debian and Ubuntu: install python3-venv)"
        work.call([python.path, "-m", "venv", str(target)], host_variables(), doing)
        # What the interpreter happens to bring would be missing from the lock.
        self._pip(["uninstall", "--yes", "--quiet", "setuptools", "wheel"], target, work, "emptying it")

    def _install(self, what: Sequence[str], target: Path, work: Work) -> str:
        report = work.folder / "report.json"
        report.unlink(missing_ok=True)
        told = ["--report", str(report)] if self._version(target) >= (22, 2) else []
        self._pip(["install", "--quiet", *told, *what], target, work, "installing the packages")
        if report.is_file():
            return lock_of(json.loads(report.read_text(encoding="utf-8")))
        done = subprocess.run(  # noqa: S603 a list of arguments, no shell
            [str(python_of(target)), "-m", "pip", "freeze"],
            capture_output=True,
            text=True,
            env=host_variables(),
        )
        return done.stdout

    def _version(self, target: Path) -> tuple[int, ...]:
        done = subprocess.run(  # noqa: S603 a list of arguments, no shell
            [str(python_of(target)), "-m", "pip", "--version"],
            capture_output=True,
            text=True,
            env=host_variables(),
        )
        found = re.match(r"pip (\d+)\.(\d+)", done.stdout)
        return tuple(int(number) for number in found.groups()) if found else (0,)

    def _pip(self, arguments: Sequence[str], target: Path, work: Work, doing: str) -> None:
        always = ["--disable-pip-version-check", "--no-input"]
        command = [str(python_of(target)), "-m", "pip", *arguments, *always]
        variables = {key: value for key, value in host_variables().items() if key not in REDIRECTING}
        work.call(command, {**variables, "PIP_REQUIRE_VIRTUALENV": "0"}, doing)


def lock_of(report: Mapping[str, object]) -> str:
    """The lock that a report of pip's installation amounts to (https://pip.pypa.io/en/stable/reference/installation-report/)."""
    lines = []
    entries = report.get("install")
    for entry in entries if isinstance(entries, list) else []:
        info, meta = entry["download_info"], entry["metadata"]
        archive = info.get("archive_info") or {}
        digest = (archive.get("hashes") or {}).get("sha256") or str(archive.get("hash", "")).removeprefix(
            "sha256="
        )
        what = (
            f"{meta['name']} @ {info['url']}"
            if entry.get("is_direct")
            else f"{meta['name']}=={meta['version']}"
        )
        lines.append(f"{what} --hash=sha256:{digest}" if digest else what)
    return "".join(f"{line}\n" for line in sorted(lines, key=str.lower))

"""A side in a virtual environment that is made for it: requirements and a Python version, locked, cached, recorded."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from porting_check.environments.cache import VARIABLE, cache_folder, label, locked, made_folder, write_whole
from porting_check.environments.installing import (
    NAME,
    Installer,
    Work,
    find_installer,
    locked_names,
    normalized,
    python_of,
    requirement_lines,
)
from porting_check.environments.interpreters import Interpreter, ask, clean_environment, named, of_version
from porting_check.environments.local import ArchiveRunner
from porting_check.environments.process import follow, how
from porting_check.environments.runner import Progress, Task
from porting_check.environments.specification import EnvironmentSpec, EnvironmentSpecError
from porting_check.neutral.errors import RunError

LOCK = "porting-check-lock.txt"
"""Name of the lock in a virtual environment; the last file that is written before it gets its name."""

FOR = "# Made by porting-check for "
STEPS = 3

Step = Callable[[int, str], None]

IMPORTS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "tensorflow-cpu": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-macos": "tensorflow",
    "intel-tensorflow": "tensorflow",
    "tf-nightly": "tensorflow",
    "jax": "jax",
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
}
"""Import name of each distribution that is a framework."""

CHECK = """
import sys
try:
    module = __import__(sys.argv[1])
    if sys.argv[1] == "torch":
        module.zeros(1).numpy()  # a torch that was built for another numpy imports, and fails here
except BaseException as error:
    text = str(error).strip().splitlines()
    sys.stderr.write("\\n%s: %s" % (type(error).__name__, text[0] if text else ""))
    sys.exit(1)
"""


class VirtualenvRunner(ArchiveRunner):
    """Runs tasks in a virtual environment that is made once and kept in the cache.

    Args:
        spec: of kind ``venv``.
        installer: uv or pip; the one that is found when left out.

    Example:
        >>> from porting_check.environments.specification import parse
        >>> VirtualenvRunner(parse("venv:numpy<2,python==3.9")).title
        'venv:numpy<2,python==3.9'
    """

    def __init__(self, spec: EnvironmentSpec, installer: Installer | None = None) -> None:
        super().__init__(spec)
        self._installer = installer or find_installer()
        self._made: Interpreter | None = None
        self._lock, self._one = "", threading.Lock()

    def prepare(self, progress: Progress, cancelled: threading.Event | None = None) -> None:
        """Find the virtual environment in the cache, or make it.

        Args:
            progress: called with what is being done.
            cancelled: ends it early.

        Raises:
            EnvironmentSpecError: a Python that is too old, or a lock that was made for something else.
            RunError: no such Python, requirements that cannot be resolved or installed, or a framework that cannot be imported.
        """
        with self._one:
            if self._made is None:
                self._prepare(progress, cancelled or threading.Event())

    def interpreter(self) -> Interpreter:
        """That of the virtual environment."""
        if self._made is None:
            self.prepare(lambda stage, done, total: None)
        assert self._made is not None
        return self._made

    def origin(self) -> Mapping[str, str]:
        """What pins it: the digest of the lock, and the Python's version."""
        version = self.interpreter().version
        return {"lock": f"sha256:{hashlib.sha256(body(self._lock).encode()).hexdigest()}", "python": version}

    @property
    def lock(self) -> str:
        """The lock's text; after :meth:`prepare`."""
        return self._lock

    def commands(self, task: Task) -> list[str]:
        """The lines of shell that do by hand what :meth:`prepare` and :meth:`run` do. Nothing is made for it."""
        folder = str(task.folder / "environment")
        python = self.spec.python or ".".join(map(str, sys.version_info[:2]))
        if self.spec.lock and os.path.isfile(self.spec.lock):
            files = ["--no-deps", "-r", self.spec.lock]
        else:
            files = requirement_words(self.spec.requirements)
        if self._installer.name == "uv":
            lines = [
                ["uv", "venv", "--python", python, folder],
                ["uv", "pip", "install", "--python", folder, *files],
            ]
        else:
            program = python if os.path.exists(python) else f"python{python}"
            lines = [
                [program, "-m", "venv", folder],
                [f"{folder}/bin/python", "-m", "pip", "install", *files],
            ]
        return [*(shlex.join(line) for line in lines), *self.lines(task, f"{folder}/bin/python")]

    def _prepare(self, progress: Progress, cancelled: threading.Event) -> None:
        def step(done: int, what: str) -> None:
            progress(f"making the environment {self.title}: {what}", done, STEPS)

        base = self._base()
        given = self._given(base)
        root = made_folder(cache_folder() / "environments")
        asked = f"{label(' '.join(self.spec.requirements))}-{key(self._asked(base), body(given))}"
        waiting = partial(step, 0, "waiting for another process that makes it")
        with locked(root / f"{asked}.lock", waiting, cancelled) as alone:
            remembered = root / f"{asked}.txt"
            lock = given or (remembered.read_text(encoding="utf-8") if remembered.is_file() else "")
            if not (lock and self._use(self._target(root, lock, base), lock)):
                if alone:
                    _remove_leftovers(root, asked)
                lock = self._make(root, asked, lock, base, step, cancelled)
                write_whole(remembered, lock)
        if self.spec.lock and not given:
            write_whole(Path(self.spec.lock), lock)

    def _base(self) -> Interpreter:
        """The interpreter that the virtual environment is made of."""
        wanted = self.spec.python
        return of_version(wanted, self.title) if re.match(r"^[\d.]*$", wanted) else named(wanted, self.title)

    def _asked(self, base: Interpreter) -> str:
        """Everything that the resolution depends on, but for what the index offers that day."""
        lines = list(self.spec.requirements)
        for one in self.spec.requirements:
            if os.path.isfile(one):
                lines.append(hashlib.sha256(Path(one).read_bytes()).hexdigest())
        return "\n".join([*lines, base.version, base.implementation, base.platform])

    def _given(self, base: Interpreter) -> str:
        """The user's lock, "" if there is none yet.

        Raises:
            EnvironmentSpecError: it was made for other requirements or another Python.
        """
        if not self.spec.lock or not os.path.exists(self.spec.lock):
            return ""
        try:
            text = Path(self.spec.lock).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EnvironmentSpecError(
                f"{self.title}: the lock {self.spec.lock!r} cannot be read: {error}"
            ) from None
        if not locked_names(text):
            raise EnvironmentSpecError(
                f"{self.title}: the lock {self.spec.lock!r} pins no package; expected lines like numpy==1.19.5; delete it to "
                "have it written anew"
            )
        header = text.splitlines()[0]
        if (
            header.startswith(FOR)
            and header.rpartition(" on ")[0] != self._header(base).rpartition(" on ")[0]
        ):
            raise EnvironmentSpecError(
                f"{self.title}: the lock {self.spec.lock!r} was made for {header[len(FOR) :]}; asked for now is "
                f"{self._header(base)[len(FOR) :]}. Delete it to resolve again, or name another file"
            )
        return text

    def _header(self, base: Interpreter) -> str:
        return f"{FOR}{', '.join(self.spec.requirements)} with Python {base.minor} on {base.platform}"

    def _target(self, root: Path, lock: str, base: Interpreter) -> Path:
        pinned = key(body(lock), base.version, base.implementation, base.platform)
        return root / f"{label(' '.join(self.spec.requirements))}-{pinned}"

    def _use(self, target: Path, lock: str) -> bool:
        """Take a virtual environment of the cache, if it is there and still works (its Python may have been removed)."""
        found = ask(str(python_of(target))) if (target / LOCK).is_file() else None
        if found is None or not found.numpy:
            return False
        self._made, self._lock = found, lock
        return True

    def _make(
        self, root: Path, asked: str, lock: str, base: Interpreter, step: Step, cancelled: threading.Event
    ) -> str:
        """Make it under a temporary name, and give it its name when it is whole; its lock."""
        temporary = _temporary(root, asked)
        work, venv = Work(title=self.title, folder=temporary, cancelled=cancelled), temporary / "venv"
        try:
            if not lock:
                step(0, f"resolving with {self._installer.name}")
                resolved = self._installer.resolve(self.spec.requirements, base, venv, work)
                lock = f"{self._header(base)}\n{resolved}"
            self._install(self._target(root, lock, base), lock, base, venv, work, step)
            return lock
        except OSError as error:
            raise RunError(
                f"{self.title}: the environment cannot be made in {str(root)!r}: {error.strerror or error}"
            ) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _install(
        self, target: Path, lock: str, base: Interpreter, venv: Path, work: Work, step: Step
    ) -> None:
        """Install what is locked, unless resolving did so already, or another lock file had the same content."""
        if self._use(target, lock):
            return
        if not python_of(venv).exists():
            count = len(locked_names(lock))
            step(1, f"installing {count} package{'s' * (count != 1)} with {self._installer.name}")
            self._installer.install(body(lock), base, venv, work)
        self._check(venv, lock, work, step)
        (venv / LOCK).write_text(lock, encoding="utf-8")
        _into_place(venv, target)
        if not self._use(target, lock):
            raise RunError(
                f"{self.title}: the environment was made, and its Python cannot be started: {target}"
            )

    def _check(self, venv: Path, lock: str, work: Work, step: Step) -> None:
        """Whether numpy and the frameworks can be imported, each in a process of its own."""
        python = str(python_of(venv))
        variables = clean_environment(python, work.folder, self.spec.variables)
        frameworks = sorted({IMPORTS[name] for name in locked_names(lock) if name in IMPORTS})
        for module in ("numpy", *frameworks):
            step(2, f"importing {module}")
            task = Task(model="", folder=work.folder, out="", request={}, cancelled=work.cancelled)
            command = [python, "-c", CHECK, module]
            ended = follow(
                command,
                environment=variables,
                cwd=work.folder,
                task=task,
                progress=lambda stage, done, total: None,
            )
            if ended.why:
                raise RunError(f"{self.title}: making the environment was cancelled")
            if ended.status != 0:
                said = ended.tail[-1] if ended.tail else how(ended.status)
                raise RunError(
                    f"{self.title}: everything was installed, but {module} cannot be used: {said}. Installed: "
                    f"{_versions(lock)}. Add a requirement that fits them together, such as numpy<2 or protobuf<3.21"
                )


def requirement_words(requirements: Sequence[str]) -> list[str]:
    """Requirements as arguments of an installer; numpy is added where probably nothing brings it.

    Example:
        >>> requirement_words(["torch==1.10.0"])
        ['torch==1.10.0', 'numpy']
    """
    words: list[str] = []
    for line in requirement_lines(requirements):
        words += line.split(" ", 1) if line.startswith("-r ") else [line]
    names = {normalized(found.group(1)) for one in requirements if (found := NAME.match(one))}
    brought = any(name == "numpy" or IMPORTS.get(name, "torch") != "torch" for name in names)
    return words if brought or any(word == "-r" for word in words) else [*words, "numpy"]


def key(*parts: str) -> str:
    """Sixteen characters that stand for texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def body(lock: str) -> str:
    r"""A lock without its comments.

    Example:
        >>> body("# a comment\nnumpy==1.19.5\n")
        'numpy==1.19.5\n'
    """
    return "".join(
        f"{line}\n" for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )


def _versions(lock: str) -> str:
    """The versions that matter for whether a framework can be imported."""
    shown = ("numpy", "protobuf", *IMPORTS)
    return ", ".join(f"{name} {version}" for name, version in locked_names(lock).items() if name in shown)


def _temporary(root: Path, asked: str) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=f".{asked}.", dir=root))
    except OSError as error:
        raise RunError(
            f"the cache folder {str(root)!r} cannot be written: {error.strerror or error}; name another one with {VARIABLE}"
        ) from None


def _remove_leftovers(root: Path, asked: str) -> None:
    """What an interrupted creation of the same environment left; nobody else makes it now."""
    for leftover in root.glob(f".{asked}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _into_place(venv: Path, target: Path) -> None:
    """Give it its name. One that is there cannot be used, or was made by another process in this moment."""
    if target.exists() and not (target / LOCK).is_file():
        shutil.rmtree(target, ignore_errors=True)
    try:
        venv.rename(target)
    except OSError as error:
        if (target / LOCK).is_file() and ask(str(python_of(target))):
            return
        shutil.rmtree(target, ignore_errors=True)
        try:
            venv.rename(target)
        except OSError:
            raise RunError(f"{str(target)!r} cannot be written: {error.strerror or error}") from None

"""``porting-check doctor``: what is installed, which frameworks can be used, and what may get in the way.

Versions come from package metadata; no framework is imported here. Whether an adapter loads is tried in a
process of its own, because importing a framework is slow and two of them can disturb each other.
"""

from __future__ import annotations

import concurrent.futures
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from porting_check.cli_traps import FRAMEWORKS, Trap, Versions, present, traps
from porting_check.neutral.errors import NOT_RUN

TIMEOUT = 180
_LOAD = (
    "import sys; from porting_check.recorder.registry import load_adapter; "
    "adapter = load_adapter(sys.argv[1]); print('adapter loaded:', adapter.framework)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """One framework here.

    ``adapter`` is ``loads``, ``fails``, ``not tried``, ``no adapter`` or ``not installed``.
    """

    name: str
    versions: Versions
    adapter: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the doctor found."""

    version: str
    python: str
    platform: str
    frameworks: tuple[Framework, ...]
    traps: tuple[Trap, ...]

    @property
    def exit_status(self) -> int:
        """0 when a framework can be used and none that is installed fails."""
        states = {framework.adapter for framework in self.frameworks}
        return NOT_RUN if "fails" in states or not states & {"loads", "not tried"} else 0


def examine(*, load: bool, progress: Callable[[str, int, int], None]) -> Examination:
    """Look at this interpreter.

    Args:
        load: whether to try the adapters, which imports the frameworks (in other processes).
        progress: called as ``progress(stage, done, total)``.
    """
    import porting_check

    versions = installed_versions([name for names in FRAMEWORKS.values() for name in (*names, "numpy")])
    adapters = {entry.name for entry in metadata.entry_points(group="porting_check.adapters")}
    usable = [name for name in FRAMEWORKS if name in adapters and present(name, versions)]
    states = _loaded(usable, progress) if load else dict.fromkeys(usable, ("not tried", ""))
    found = [_framework(name, versions, adapters, states) for name in sorted({*FRAMEWORKS, *adapters})]
    return Examination(
        version=porting_check.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        frameworks=tuple(found),
        traps=tuple(traps(versions, adapters, os.environ, Path.cwd())),
    )


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those distributions that are installed, from their metadata."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _framework(
    name: str, versions: Versions, adapters: set[str], states: Mapping[str, tuple[str, str]]
) -> Framework:
    known = {key: versions[key] for key in FRAMEWORKS.get(name, ()) if key in versions}
    if name in states:
        adapter, reason = states[name]
    elif not present(name, versions):
        adapter, reason = "not installed", f"pip install 'porting-check[{name}]'"
    else:
        adapter, reason = "no adapter", "this version of porting-check has none for it"
    return Framework(name=name, versions=known, adapter=adapter, reason=reason)


def _loaded(names: Sequence[str], progress: Callable[[str, int, int], None]) -> dict[str, tuple[str, str]]:
    """Try each adapter in a process of its own, at most two at a time."""
    progress("loading adapters", 0, len(names))
    states = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = {pool.submit(try_adapter, name): name for name in names}
        for done, future in enumerate(concurrent.futures.as_completed(waiting), 1):
            states[waiting[future]] = future.result()
            progress("loading adapters", done, len(names))
    return states


def try_adapter(name: str) -> tuple[str, str]:
    """Whether an adapter loads, and otherwise the last line that it printed.

    Example:
        >>> try_adapter("torch")                               # doctest: +SKIP
        ('loads', '')
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _LOAD, name]
    try:
        run = subprocess.run(  # noqa: S603  our own code in our own interpreter; the name is that of an entry point
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "fails", f"did not load within {TIMEOUT} s"
    if run.returncode == 0:
        return "loads", ""
    lines = run.stderr.strip().splitlines()
    last = lines[-1].removeprefix("porting_check.neutral.errors.") if lines else ""
    return "fails", last or f"the process ended with status {run.returncode} and no message"


# ----------------------------------------------------------------------------------------------------
# Rendering


def document(found: Examination) -> dict[str, Any]:
    """The findings as plain data."""
    return {
        "version": found.version,
        "python": found.python,
        "platform": found.platform,
        "frameworks": [
            {
                "name": item.name,
                "versions": dict(item.versions),
                "adapter": item.adapter,
                "reason": item.reason,
            }
            for item in found.frameworks
        ],
        "traps": [{"found": trap.found, "mend": trap.mend} for trap in found.traps],
    }


def text(found: Examination, *, verbose: bool = False) -> str:
    """The findings as text; ``verbose`` adds the interpreter's path."""
    lines = [f"porting-check {found.version}, Python {found.python}, {found.platform}"]
    lines += [f"interpreter {sys.executable}"] if verbose else []
    lines += ["", "Frameworks"]
    marks = {"loads": "✓", "fails": "✗", "not tried": "?"}
    for item in found.frameworks:
        versions = ", ".join(f"{name} {version}" for name, version in item.versions.items())
        state = {"loads": "adapter loads", "fails": "adapter FAILS", "not tried": "adapter not tried"}.get(
            item.adapter, item.adapter
        )
        reason = f": {item.reason}" if item.reason else ""
        lines.append(
            f"  {marks.get(item.adapter, '-')} {item.name:<12} {state}{reason}"
            + (f"  ({versions})" if versions else "")
        )
    lines += ["", "Known traps" if found.traps else "No known trap found."]
    for trap in found.traps:
        lines += [f"  ! {trap.found}", f"    {trap.mend}"]
    return "\n".join(lines)

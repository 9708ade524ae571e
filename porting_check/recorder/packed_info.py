"""What ``porting-check-recorder.pyz`` says of itself and of the Python that runs it. Standard library only, Python 3.7."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import subprocess
import sys
from typing import Any, Dict, List, TextIO

from porting_check.neutral.errors import NOT_RUN, FrameworkMissing, RunError

PROGRAM = "porting-check-recorder"
TIMEOUT = 300
"""Seconds that importing one framework may take."""


def archive() -> str:
    """The file that this module was loaded from, where that is an archive; else ""."""
    return str(getattr(globals().get("__loader__"), "archive", "") or "")


def version_line() -> str:
    """Name, version and, of a packed recorder, the digest of its file."""
    from porting_check import __version__

    path = archive()
    return f"{PROGRAM} {__version__}" + (f" sha256:{digest(path)}" if path else "")


def digest(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            found.update(block)
    return found.hexdigest()


def need_numpy() -> str:
    """The version of numpy.

    Raises:
        RunError: it cannot be imported.
    """
    try:
        import numpy as np
    except ImportError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise RunError(
            f"numpy cannot be imported by {sys.executable} (Python {platform.python_version()}): {reason}. The recorder "
            "needs numpy and the model's framework, nothing else: run it with the Python that has them"
        ) from None
    return str(np.__version__)


def info(options: Any, out: TextIO) -> int:
    """``info``: each framework in a process of its own, because they disturb each other.

    Returns:
        0 when a framework can be used and none that is installed fails, else 3.
    """
    if options.here:
        return _here(str(options.framework), out)
    try:
        found: Dict[str, Any] = {"numpy": need_numpy(), "frameworks": _frameworks(options)}
    except RunError as error:
        found = {"numpy": "", "reason": str(error), "frameworks": {}}
    found.update(recorder=version_line(), python=platform.python_version(), executable=sys.executable)
    found["platform"] = platform.platform()
    out.write(json.dumps(found, indent=2) + "\n" if options.json else _text(found))
    states = {item["state"] for item in found["frameworks"].values()}
    return 0 if states & {"loads", "installed"} and "fails" not in states else NOT_RUN


def _frameworks(options: Any) -> Dict[str, Dict[str, Any]]:
    from porting_check.recorder.registry import installed

    known = sorted(installed())
    if options.framework and options.framework not in known:
        raise FrameworkMissing(
            f"no adapter for {options.framework!r} is packed here; packed: {', '.join(known) or 'none'}"
        )
    wanted = [options.framework] if options.framework else known
    return {name: _framework(name, quick=options.quick) for name in wanted}


def _framework(name: str, quick: bool) -> Dict[str, Any]:
    if importlib.util.find_spec(name) is None:
        return {"state": "not installed"}
    if quick:
        return {"state": "installed"}
    flags = ["-I"] if sys.flags.isolated else (["-S"] if sys.flags.no_site else [])
    path = archive()
    start = [path] if path else ["-m", "porting_check.recorder.packed"]
    command = [sys.executable] + flags + start + ["info", "--here", "--framework", name]
    try:
        done = subprocess.run(  # noqa: S603  this file in this interpreter
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return {"state": "fails", "reason": f"it did not load within {TIMEOUT} s"}
    if done.returncode == 0:
        return {"state": "loads", "environment": json.loads(done.stdout.decode("utf-8"))}
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    ended = f"the process ended with status {done.returncode} and no message"
    return {"state": "fails", "reason": lines[-1] if lines else ended}


def _here(framework: str, out: TextIO) -> int:
    """Load one adapter in this process and print its environment."""
    from porting_check.recorder.registry import load_adapter

    out.write(json.dumps(load_adapter(framework).environment().to_json()) + "\n")
    return 0


def _text(found: Dict[str, Any]) -> str:
    lines: List[str] = [
        str(found["recorder"]),
        f"Python {found['python']} ({found['executable']}), {found['platform']}",
        f"numpy {found['numpy']}" if found["numpy"] else str(found["reason"]),
    ]
    for name, item in sorted(found["frameworks"].items()):
        environment = item.get("environment", {})
        versions = ", ".join(f"{key} {value}" for key, value in environment.get("versions", {}).items())
        facts = [item["state"], item.get("reason", ""), versions, str(environment.get("device", ""))]
        lines.append(f"  {name:<12} " + "; ".join(fact for fact in facts if fact))
    return "\n".join(lines) + "\n"

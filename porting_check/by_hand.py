"""What ``--print-commands`` prints: lines of shell that do by hand what a command would do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from porting_check.configuration import environment
from porting_check.environments.runner import Task
from porting_check.environments.runners import ANNOUNCEMENT, runner_for
from porting_check.neutral.errors import InputError
from porting_check.recorder.sources import is_trace

JOB = "porting-check-job"
"""Folder of the lines that are printed, below the working folder."""


def comparison(
    reference: str, candidate: str, files: Mapping[str, str] | None, options: Mapping[str, Any]
) -> str:
    """The lines that record both sides and compare the recordings.

    Args:
        reference: the model, or its recording.
        candidate: its port, or its recording.
        files: inputs by name.
        options: as :func:`porting_check.compare` takes them.

    Raises:
        InputError: ``transfer`` or ``gradients``, which go back and forth between the sides.

    Example:
        >>> print(comparison("net.py:build", "port.py:build", None, {"environments": {"candidate": "docker:old"}}))
        ... # doctest: +SKIP
        mkdir -p porting-check-job/reference/given …
    """
    for key in ("transfer", "gradients"):
        if options.get(key):
            raise InputError(
                f"--print-commands cannot show --{key}: it goes back and forth between the two sides"
            )
    where, layouts = options.get("environments", {}), options.get("layouts") or {}
    recordings = {"reference": reference, "candidate": candidate}
    lines: list[str] = []
    given = dict(files or {})
    if not is_trace(reference):
        request = _request(given, layouts.get("reference"), options)
        lines += ["# the reference", *_side("reference", reference, where.get("reference"), given, request)]
        recordings["reference"] = f"{JOB}/reference/made/side.trace"
    if not is_trace(candidate):
        chosen = Path(JOB, "reference", "made", ANNOUNCEMENT)
        if is_trace(reference):
            raise InputError(
                "--print-commands: the inputs lie in the recording; record the candidate with --inputs instead"
            )
        names = {"": str(chosen), "layouts": f"{chosen}.json"}
        request = {**_request({"": ""}, layouts.get("candidate"), options)}
        request["like"] = _given("candidate", 1, f"{chosen}.json")
        lines += ["", "# the candidate, on the same inputs"]
        lines += _side("candidate", candidate, where.get("candidate"), names, request)
        recordings["candidate"] = f"{JOB}/candidate/made/side.trace"
    words = ["porting-check", "compare", recordings["reference"], recordings["candidate"]]
    return "\n".join([*lines, "", "# the answer", shlex.join(words)])


def recording(model: str, files: Mapping[str, str] | None, out: Path, options: Mapping[str, Any]) -> str:
    """The lines that record one model and put the recording where it is wanted.

    Raises:
        PortingError: an environment that cannot be understood.
    """
    given = dict(files or {})
    request = _request(given, options.get("layouts"), {"shadow": False, **options})
    lines = _side("side", model, options.get("environment"), given, request)
    return "\n".join([*lines, shlex.join(["mv", f"{JOB}/side/made/side.trace", str(out)])])


def _request(files: Mapping[str, str], layouts: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"seed": options.get("seed", 0), "float64": bool(options.get("shadow", True))}
    if layouts:
        made["layouts"] = {"": layouts} if isinstance(layouts, str) else dict(layouts)
    return made


def _side(
    side: str, model: str, where: Any, files: Mapping[str, str], request: Mapping[str, Any]
) -> list[str]:
    """The lines for one side: its folders, what goes in, and the run."""
    runner = runner_for(environment(where))
    asked: dict[str, Any] = {"name": model, **request}
    inputs = {name: path for name, path in files.items() if name != "layouts"}
    if inputs:
        asked["inputs"] = {name: _given(side, n, path) for n, (name, path) in enumerate(inputs.items())}
    if side == "reference":
        asked["announce"] = str(Path(JOB, side, "made", ANNOUNCEMENT).absolute())
    task = Task(model=model, folder=Path(JOB, side).absolute(), out="side.trace", request=asked)
    copies = [["cp", path, _given(side, number, path)] for number, path in enumerate(files.values())]
    folders = [f"{JOB}/{side}/given", f"{JOB}/{side}/made"]
    build = ["porting-check", "recorder", "build", "--out", f"{JOB}/{side}/recorder.pyz"]
    prepared: Sequence[Sequence[str]] = [["mkdir", "-p", *folders], build, *copies]
    return [shlex.join(words) for words in prepared] + runner.commands(task)


def _given(side: str, number: int, path: str) -> str:
    return str(Path(JOB, side, "given", f"{number}-{Path(path).name}").absolute())

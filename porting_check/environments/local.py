"""Recording a side in a subprocess of this interpreter: two frameworks never share a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import porting_check.neutral.errors as errors
from porting_check.neutral.errors import PortingError, RunError
from porting_check.neutral.tensorfile import read_header, read_tensor, write_tensors
from porting_check.neutral.trace import Trace
from porting_check.neutral.tracefile import load_trace
from porting_check.recorder.sources import framework_of

Progress = Callable[[str, int, int], None]
TAIL = 12
"""Lines of the inner process's output that are kept for an error message."""


def record_in_subprocess(
    spec: str, out: Path, request: Mapping[str, Any], progress: Progress = lambda stage, done, total: None
) -> Trace:
    """Record the model that ``spec`` names, in a process of its own, and open the recording.

    Args:
        spec: a model file, a folder, ``file.py:function`` or ``package.module:function``.
        out: the folder to write.
        request: see :func:`porting_check.recorder.__main__.record_to`.
        progress: called with what the inner process reports.

    Raises:
        PortingError: whatever the inner side raised, as it was.
        RunError: the process died; with its last words.
    """
    _call("porting_check.recorder", spec, out, request, progress, "recording")
    return load_trace(str(out))


def gradients_in_subprocess(
    spec: str,
    out: Path,
    inputs: Mapping[str, np.ndarray],
    cotangents: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Differentiate the model that ``spec`` names, in a process of its own.

    Args:
        spec: as for :func:`record_in_subprocess`.
        out: the file of tensors to write; its folder also receives what is sent.
        inputs: by name, in the model's own layouts, as recorded.
        cotangents: by output path.
        weights: parameters by native name, put into the model first.

    Returns:
        Gradients by the keys of the recording, see :meth:`porting_check.neutral.adapter.Adapter.gradients`.

    Raises:
        Unsupported: this kind of model cannot be differentiated.
        RunError: the model raised, or the process died.
    """
    request = {}
    for name, arrays in (("inputs", inputs), ("cotangents", cotangents), ("weights", weights)):
        if arrays is not None:
            request[name] = str(out.with_name(f"{out.stem}-{name}.safetensors"))
            write_tensors(request[name], {key: np.asarray(array) for key, array in arrays.items()})
    _call(
        "porting_check.recorder.gradients",
        spec,
        out,
        request,
        lambda stage, done, total: None,
        "differentiating",
    )
    header = read_header(str(out))
    return {name: np.array(read_tensor(str(out), name, header)) for name in header["tensors"]}


def _call(
    module: str, spec: str, out: Path, request: Mapping[str, Any], progress: Progress, doing: str
) -> None:
    """Run one of the recorder's modules on a model; its errors are raised again as they were."""
    framework_of(spec)
    with tempfile.TemporaryDirectory(prefix="porting-check-") as folder:
        failure = os.path.join(folder, "error.json")
        command = [sys.executable, "-m", module, spec, "--out", str(out), "--error", failure]
        command += ["--request", json.dumps(request)]
        status, tail = _run(command, progress)
        if status == 0:
            return
        if os.path.isfile(failure):
            with open(failure, encoding="utf-8") as file:
                raise again(json.load(file))
    raise RunError(f"{doing} {spec!r} failed: {ended(status)}. Its last words:\n" + "\n".join(tail))


def _run(command: list[str], progress: Progress) -> tuple[int, deque[str]]:
    """Run and follow the process; its lines are progress reports or the user's own output."""
    tail: deque[str] = deque(maxlen=TAIL)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    process = subprocess.Popen(  # noqa: S603 our own interpreter
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=environment,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            report = _progress_report(line)
            if report:
                progress(*report)
            else:
                tail.append(line.rstrip())
        return process.wait(), tail
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        process.stderr.close()


def _progress_report(line: str) -> tuple[str, int, int] | None:
    if not line.startswith('{"stage"'):
        return None
    try:
        data = json.loads(line)
        return str(data["stage"]), int(data["done"]), int(data["total"])
    except (ValueError, KeyError, TypeError):
        return None


def again(failure: Mapping[str, str]) -> PortingError:
    """The inner side's error, as its own type."""
    kind = getattr(errors, failure["type"], RunError)
    made: PortingError = kind(failure["message"])
    return made


def ended(status: int) -> str:
    """How a process ended, in words."""
    if status == -9:
        return "it was killed (often: out of memory)"
    return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"

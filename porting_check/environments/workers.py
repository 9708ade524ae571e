"""Processes that run a network's nodes, one per framework: started early, because importing a framework takes long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from porting_check.environments.local import again, ended
from porting_check.neutral.errors import RunError
from porting_check.neutral.tensorfile import read_header, read_tensor
from porting_check.neutral.trace import Environment
from porting_check.recorder.network import READY, RESULT, VALUES

TAIL = 2000
"""Characters of a process's output that are kept for an error message."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What one framework made of a network; arrays are read when asked for."""

    environment: Environment
    refused: Mapping[int, str]
    broken: str
    seconds: Mapping[str, float]
    import_seconds: float
    file: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> np.ndarray | None:
        """``<step>:<output>`` or ``end:<path>``."""
        return read_tensor(self.file, key, self.header) if key in self.header["tensors"] else None


class Worker:
    """One framework's process. Use as a context manager: the process ends with the block.

    Args:
        framework: import name.
        network: where the recording of the network will lie when :meth:`run` is called.
        folder: a new folder of its own.
        float64: evaluate in float64.
        threads: how many threads the framework may use.
    """

    def __init__(self, framework: str, network: Path, folder: Path, *, float64: bool, threads: int) -> None:
        self.framework, self.folder = framework, folder
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "porting_check.recorder.network", framework, str(network)]
        command += ["--out", str(folder)] + (["--float64"] if float64 else [])
        count = str(threads)
        limits = {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "TF_NUM_INTRAOP_THREADS": count}
        self._log = (folder / "log.txt").open("w+b")
        self._process = subprocess.Popen(  # noqa: S603 our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **limits, **os.environ},
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def ready(self) -> None:
        """Wait until the framework is imported.

        Raises:
            PortingError: it cannot be; as the inner side said it.
        """
        assert self._process.stdout is not None
        if self._process.stdout.readline().decode(errors="replace").strip() != READY:
            self._failed()

    def run(self) -> Ran:
        """Let it run the network, whose recording is complete now, and read what it made.

        Raises:
            PortingError: the inner side's error, or the process died; with its last words.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"run\n")
            self._process.stdin.flush()
        except OSError:
            self._failed()
        if self._process.wait() != 0:
            self._failed()
        data = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
        file = str(self.folder / VALUES)
        return Ran(
            Environment.from_json(data["environment"]),
            {int(step): reason for step, reason in data["refused"].items()},
            data["broken"],
            data["seconds"],
            data["import_seconds"],
            file,
            read_header(file),
        )

    def _failed(self) -> None:
        status = self._process.wait()
        result = self.folder / RESULT
        if result.is_file():
            data = json.loads(result.read_text(encoding="utf-8"))
            if "error" in data:
                raise again(data["error"])
        self._log.seek(0)
        words = self._log.read()[-TAIL:].decode(errors="replace").strip()
        raise RunError(
            f"{self.framework} could not run the network: {ended(status)}. Its last words:\n{words}"
        )

"""How long a crosscheck of MobileNetV2 at 224x224 through four frameworks takes.

Beside it, in the same run: what a person would do by hand, the slowest framework's import plus the forward passes of all
frameworks one after another, each layer by layer in a process of its own. The target is 1.3 times that.
Usage: python tests/benchmarks/crosscheck.py
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import porting_check as pc

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
IMPORT = "from porting_check.recorder.registry import load_adapter; load_adapter({!r}).environment()"


def fixture(case: str, spec: str) -> object:
    """A model of the fixtures."""
    found = importlib.util.spec_from_file_location("fixture_loading", FIXTURES / "loading.py")
    loading = importlib.util.module_from_spec(found)
    sys.modules[found.name] = loading
    found.loader.exec_module(loading)
    return loading.build(FIXTURES / case, spec)


def clocked(command: list[str]) -> float:
    """Wall time of a process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.trace"
        pc.record(fixture("mobilenetv2", "build_torch.py:mobilenetv2"), image, path=path)
        start = time.perf_counter()
        table = pc.crosscheck(pc.load_trace(path))
        wall = time.perf_counter() - start
    imports = {name: clocked([sys.executable, "-c", IMPORT.format(name)]) for name in table.frameworks}
    forward = {name: table.seconds[name]["alone"] for name in table.frameworks}
    print(str(table).splitlines()[0])
    print(f"{'':14}{'import':>9}{'forward':>9}   seconds")
    for name in table.frameworks:
        print(f"{name:14}{imports[name]:9.2f}{forward[name]:9.2f}")
    by_hand = max(imports.values()) + sum(forward.values())
    print(f"slowest import + forward passes one after another: {by_hand:.2f}")
    print(f"crosscheck: {wall:.2f}, {wall / by_hand:.2f} times that (target 1.3)")


if __name__ == "__main__":
    main()

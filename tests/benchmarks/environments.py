"""What an environment costs: one small ONNX model recorded in a subprocess of this interpreter and in a container, in turns.

Usage: python tests/benchmarks/environments.py [RUNS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from porting_check.environments.runner import Runner, Task
from porting_check.environments.runners import runner_for
from porting_check.neutral.tracefile import load_trace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.docker import image
from tests.docker.conftest import NET


def measure(runner: Runner, model: str) -> float:
    """Seconds of one recording, until it can be read."""
    with tempfile.TemporaryDirectory() as folder:
        task = Task(model=model, folder=Path(folder), out="side.trace", request={"check": False})
        start = time.perf_counter()
        runner.run(task, lambda stage, done, total: None)
        assert len(load_trace(str(task.result)).records) == 2
        return time.perf_counter() - start


def main(runs: int = 5) -> None:
    """Measure in turns, print the medians and what the container costs more."""
    if not image.daemon():
        sys.exit("no Docker daemon answers")
    runners = {"this interpreter": runner_for(""), "docker": runner_for(f"docker:{image.build()}")}
    taken: dict[str, list[float]] = {name: [] for name in runners}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "net.py").write_text(NET, encoding="utf-8")
        for runner in runners.values():
            runner.prepare(lambda stage, done, total: None)
            measure(runner, f"{folder}/net.py:build")  # caches of the disk
        for _ in range(runs):
            for name, runner in runners.items():
                taken[name].append(measure(runner, f"{folder}/net.py:build"))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, times in taken.items():
        print(f"{name:18s} {medians[name]:6.2f} s   (from {min(times):.2f} to {max(times):.2f}, {runs} runs)")
    print(f"a container adds   {medians['docker'] - medians['this interpreter']:6.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))

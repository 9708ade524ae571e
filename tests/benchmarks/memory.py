"""Peak memory and time of comparing two recordings that are larger than memory, beside numpy on whole arrays.

Usage: python tests/benchmarks/memory.py [GIGABYTES_PER_SIDE [MEGABYTES_PER_TENSOR]]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.large_pair import Size, write

PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
"""
"""Of this process alone: what ``getrusage`` gives begins with the parent's peak. Pages of mapped files count."""

COMPARE = """
import json, sys
import porting_check as pc
report = pc.compare(sys.argv[1], sys.argv[2])
found = [finding.pair.candidate[-1] for finding in report.findings]
pairs = [pair.verdict for pair in report.pairs]
print(json.dumps({"verdict": report.verdict, "found": found, "pairs": pairs, "peak": peak()}))
"""

ALLCLOSE = """
import json, sys
import numpy as np
from porting_check.neutral.tracefile import load_trace
sides = [{key: np.array(array) for key, array in load_trace(path).values.items()} for path in sys.argv[1:]]
close = []
for key, one in sides[0].items():
    other = sides[1][key]
    moved = one.transpose(0, 3, 1, 2) if one.ndim == 4 and one.shape != other.shape else one
    close.append(moved.shape == other.shape and np.allclose(moved, other, rtol=1e-3, atol=1e-5))
print(json.dumps({"close": sum(close), "values": len(close), "peak": peak()}))
"""


def write_pair(folder: Path, size: Size, wrong: str = "") -> tuple[str, str]:
    """Record both sides at the same time; the paths of the recordings."""
    paths = [str(folder / f"{side}.trace") for side in ("reference", "candidate")]
    with ProcessPoolExecutor(2) as pool:
        made = [
            pool.submit(write, path, side, size, wrong=wrong if side == "candidate" else "")
            for path, side in zip(paths, ("reference", "candidate"), strict=True)
        ]
        for future in made:
            future.result()
    return paths[0], paths[1]


def measured(code: str, *arguments: str) -> Mapping[str, Any]:
    """What a fresh process says: the last line of its output as JSON, with its peak of resident memory in bytes."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PEAK + code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.perf_counter() - start}


def main(side: float = 3.0, tensor: float = 32.0) -> None:
    """Write a pair, compare it both ways, print what it took."""
    size = Size.of(int(side * 2**30), int(tensor * 2**20))
    with tempfile.TemporaryDirectory(prefix="porting-check-memory-") as folder:
        start = time.perf_counter()
        paths = write_pair(Path(folder), size)
        total = sum(file.stat().st_size for path in paths for file in Path(path).iterdir())
        print(f"two recordings, {total / 2**30:.2f} GiB, tensors of {tensor:g} MiB")
        print(f"recording both                  {time.perf_counter() - start:7.1f} s")
        ours = measured(COMPARE, *paths)
        said = f"{ours['verdict']}, {len(ours['pairs'])} pairs"
        print(
            f"pc.compare                      {ours['seconds']:7.1f} s   {ours['peak'] / 2**20:7.0f} MiB   {said}"
        )
        theirs = measured(ALLCLOSE, *paths)
        said = f"{theirs['close']} of {theirs['values']} values close"
        print(
            f"whole arrays and np.allclose    {theirs['seconds']:7.1f} s   {theirs['peak'] / 2**20:7.0f} MiB   {said}"
        )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))

"""The difference kernel beside ``np.allclose``: time, ratio and memory beyond the inputs, in one table.

Run it as a script: ``python tests/benchmarks/difference.py [--elements 1e8] [--repeat 3]``. Times are the
best process CPU time of the repetitions, taken in turns so that a busy machine slows all of them alike. The
target of the project is a ratio of at most 1 for the contiguous pair and less than 64 MB beyond the inputs.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from porting_check.numerics.difference import difference

TARGET_RATIO, TARGET_MEGABYTES = 1.0, 64.0
CLEAR = Path("/proc/self/clear_refs")
"""Where Linux lets a process set back the peak of its resident set."""

Array = np.ndarray
Pair = tuple[str, Array, Array, tuple[int, ...] | None]


def pairs(elements: int) -> Iterator[Pair]:
    """Name, reference, candidate and permutation of what is compared."""
    rng = np.random.default_rng(0)
    side = max(round((elements / 256) ** 0.5), 4)
    shape = (1, side, side, 256)
    reference = rng.standard_normal(shape, np.float32)
    candidate = reference + np.float32(1e-6) * rng.standard_normal(shape, np.float32)
    yield "contiguous, round-off apart", reference, candidate, None
    yield "contiguous, equal", reference, reference, None
    nchw = np.ascontiguousarray(candidate.transpose(0, 3, 1, 2))
    yield "NHWC against NCHW", reference, nchw, (0, 3, 1, 2)
    yield "NHWC against a view of NCHW", reference, nchw.transpose(0, 2, 3, 1), None
    del nchw
    np.maximum(reference, 0, out=reference)
    np.maximum(candidate, 0, out=candidate)
    yield "contiguous, after ReLU", reference, candidate, None
    candidate = rng.standard_normal(shape, np.float32)
    yield "contiguous, unrelated", reference, candidate, None
    del candidate
    half = reference[:, : side // 4].astype(np.float16)
    yield "float16, a quarter as many", half, half.copy(), None


def best(functions: list[Callable[[], object]], repeat: int) -> list[float]:
    """Least CPU time of each function, run in turns."""
    times = [float("inf")] * len(functions)
    for _ in range(repeat):
        for place, function in enumerate(functions):
            start = time.process_time()
            function()
            times[place] = min(times[place], time.process_time() - start)
    return times


def memory(function: Callable[[], object]) -> tuple[float, float]:
    """Growth of the resident set's peak (nan if it cannot be asked) and tracemalloc's peak, in megabytes."""
    gc.collect()
    resident = float("nan")
    if CLEAR.exists():
        CLEAR.write_text("5")
        before = _status("VmRSS")
        function()
        resident = _status("VmHWM") - before
    tracemalloc.start()
    function()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return resident, traced / 2**20


def _status(key: str) -> float:
    """One line of this process's memory status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**10


def measure(pair: Pair, repeat: int) -> tuple[float, float, float, float]:
    """Seconds of both functions, and the memory of ours."""
    _, reference, candidate, permutation = pair
    view = candidate if permutation is None else candidate.transpose(np.argsort(permutation))

    def ours() -> object:
        return difference(reference, candidate, permutation=permutation)

    def theirs() -> object:
        return np.allclose(reference, view, rtol=1e-5, atol=1e-5)

    resident, traced = memory(ours)
    own, other = best([ours, theirs], repeat)
    return own, other, resident, traced


def main() -> int:
    """Print the table; exit status 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--elements", type=float, default=1e8)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    columns = ("pair", "elements", "difference", "np.allclose", "ratio", "RSS +MB", "traced MB")
    print("{:28} {:>11} {:>10} {:>11} {:>6} {:>8} {:>9}".format(*columns))
    missed = False
    for number, pair in enumerate(pairs(int(arguments.elements))):
        own, other, resident, traced = measure(pair, arguments.repeat)
        row = (pair[0], pair[1].size, own, other, own / other, resident, traced)
        print("{:28} {:11d} {:9.3f}s {:10.3f}s {:6.2f} {:8.1f} {:9.2f}".format(*row), flush=True)
        missed |= resident >= TARGET_MEGABYTES or traced >= TARGET_MEGABYTES
        missed |= number == 0 and own > TARGET_RATIO * other
    print("target missed" if missed else f"ratio <= {TARGET_RATIO} and under {TARGET_MEGABYTES:.0f} MB: held")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

"""The difference kernel beside ``np.allclose``: time, ratio and memory beyond the inputs, in one table.

Run it as a script: ``python tests/benchmarks/difference.py [--elements 1e8] [--repeat 3]``. Times are the best process
CPU time of the repetitions, taken in turns so that a busy machine slows all of them alike. The target of the project is
a ratio of at most 1 for the contiguous pair and less than 64 MB beyond the inputs.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np

from porting_check.numerics.difference import difference

TARGET_RATIO, TARGET_MEGABYTES = 1.0, 64.0
Array = np.ndarray
Pair = tuple[str, Array, Array, tuple[int, ...] | None]


def pairs(elements: int) -> Iterator[Pair]:
    """Name, reference, candidate and permutation of what is compared."""
    rng = np.random.default_rng(0)
    side = max(int(round((elements / 256) ** 0.5)), 1)
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
    """Growth of the resident set's peak and the peak that tracemalloc sees, both in megabytes."""
    gc.collect()
    before = _peak_resident()
    function()
    resident = _peak_resident() - before
    tracemalloc.start()
    function()
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return resident, traced / 2**20


def _peak_resident() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(pair: Pair, repeat: int) -> tuple[float, float, float, float]:
    """Seconds of both functions, and the memory of ours."""
    _, reference, candidate, permutation = pair
    view = candidate if permutation is None else candidate.transpose(np.argsort(permutation))

    def ours() -> object:
        return difference(reference, candidate, permutation=permutation)

    def theirs() -> object:
        return np.allclose(reference, view, rtol=1e-5, atol=1e-5)

    # Memory first: the peak of the resident set never falls again after np.allclose has run.
    resident, traced = memory(ours)
    own, other = best([ours, theirs], repeat)
    return own, other, resident, traced


def main() -> int:
    """Print the table; exit status 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--elements", type=float, default=1e8)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{'pair':30} {'elements':>11} {'difference':>11} {'np.allclose':>12} {'ratio':>6} {'RSS +MB':>8} {'traced MB':>9}"
    )
    missed = False
    for number, pair in enumerate(pairs(int(arguments.elements))):
        own, other, resident, traced = measure(pair, arguments.repeat)
        print(
            f"{pair[0]:30} {pair[1].size:11d} {own:10.3f}s {other:11.3f}s {own / other:6.2f} {resident:8.1f} {traced:9.2f}",
            flush=True,
        )
        missed |= max(resident, traced) >= TARGET_MEGABYTES or (number == 0 and own > TARGET_RATIO * other)
    print("target missed" if missed else f"ratio <= {TARGET_RATIO} and under {TARGET_MEGABYTES:.0f} MB: held")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

"""How long a comparison of a ResNet-50-sized pair takes, in plain float32 forward passes of the two sides together.

Prints one table: the comparison and its parts beside the forward passes and beside what is done without it (both forward
passes and np.allclose on the outputs); and the peak of resident memory beside weights plus recorded activations.
Usage: python tests/benchmarks/compare.py
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import porting_check as pc
from porting_check.recorder.registry import load_adapter

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def loading() -> object:
    """The fixtures' own loader."""
    spec = importlib.util.spec_from_file_location("fixture_loading", FIXTURES / "loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def seconds(action: Callable[[], object], runs: int = 1) -> float:
    """Median time of an action; process time over all threads is not used, because forward passes use both cores."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


class Peak:
    """Largest resident memory while the block runs, above what it was before, in MB; sampled every 5 ms."""

    def __enter__(self) -> Peak:
        self.start = self.now()
        self.most = self.start
        self.running = True
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.running = False
        self.thread.join()

    @staticmethod
    def now() -> float:
        """Resident memory of this process now."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def watch(self) -> None:
        """Sample until told to stop."""
        while self.running:
            self.most = max(self.most, self.now())
            time.sleep(0.005)

    @property
    def above(self) -> float:
        """The peak above the start."""
        return self.most - self.start


def main() -> None:
    """Measure and print."""
    fixtures = loading()
    folder = FIXTURES / "resnet50"
    case = fixtures.load_case(folder)
    variant = case.variant("faithful_224")
    reference, candidate = (
        fixtures.build(folder, variant.reference),
        fixtures.build(folder, variant.candidate),
    )
    pc.transfer_weights(reference, candidate)
    image = np.random.default_rng(0).standard_normal((1, *reference.inputs[0].shape[1:])).astype("f4")
    channels_first = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    tensorflow, torch = load_adapter("tensorflow"), load_adapter("torch")
    plain = [
        lambda: tensorflow.predict(reference, {"0": image}),
        lambda: torch.predict(candidate, {"0": channels_first}),
    ]
    for run in plain:
        run()
    forward = [seconds(run, 5) for run in plain]
    both = sum(forward)
    naive = seconds(lambda: np.allclose(*(next(iter(run().values())) for run in plain)), 3)
    traces = []
    recording = seconds(lambda: traces.append(pc.record(reference, image)))
    recorded = sum(np.asarray(v).nbytes for v in traces[0].values.values())
    traces.clear()
    reports = []
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what earlier runs left in the heap must not hide what this one needs
    with Peak() as peak:
        whole = seconds(lambda: reports.append(pc.compare(reference, candidate, image)))
    print(f"{reports[0].verdict}; {len(reports[0].pairs)} pairs, input {image.shape}")
    print(f"{'what':44s} {'seconds':>8s} {'in forward passes of both':>26s}")
    for name, taken in (
        ("forward, TensorFlow", forward[0]),
        ("forward, PyTorch", forward[1]),
        ("both and np.allclose on the output", naive),
        ("pc.record of the TensorFlow side", recording),
        ("pc.compare", whole),
    ):
        print(f"{name:44s} {taken:8.3f} {taken / both:26.2f}")
    kept = 2 * recorded / 2**20
    print(f"weights and recorded activations of both sides {kept:.0f} MB")
    print(f"peak of pc.compare above the loaded models {peak.above:.0f} MB")
    print(f"memory ratio {peak.above / kept:.2f}")


if __name__ == "__main__":
    main()

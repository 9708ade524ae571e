"""Recording to disk beside a plain forward pass plus writing the same bytes with numpy.

Usage: python tests/benchmarks/record.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from porting_check.neutral.trace import Checks
from porting_check.neutral.tracefile import TraceWriter, load_trace
from porting_check.recorder.registry import adapter_for


def main(runs: int = 5) -> None:
    """Measure in turns, print medians and the ratio."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    image = {"0": np.random.default_rng(0).standard_normal((1, 224, 224, 3)).astype("f4")}
    adapter = adapter_for(model)
    adapter.predict(model, image)
    plain, written, recorded = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            start = time.perf_counter()
            adapter.predict(model, image)
            plain.append(time.perf_counter() - start)
            start = time.perf_counter()
            with TraceWriter(f"{folder}/a.trace", "resnet50", adapter.environment()) as sink:
                adapter.record(model, image, sink)
                sink.finish(Checks())
            recorded.append(time.perf_counter() - start)
            trace = load_trace(f"{folder}/a.trace")
            arrays = [np.array(trace.values[key]) for key in trace.values]
            start = time.perf_counter()
            with Path(f"{folder}/plain.bin").open("wb") as file:
                for array in arrays:
                    file.write(memoryview(np.ascontiguousarray(array)).cast("B") if array.size else b"")
                file.flush()
                os.fsync(file.fileno())
            written.append(time.perf_counter() - start)
            size = sum(array.nbytes for array in arrays)
    base = statistics.median(plain) + statistics.median(written)
    print(f"ResNet50 at 224x224, {size / 2**20:.0f} MB, median of {runs}")
    print(f"plain forward pass              {statistics.median(plain):7.3f} s")
    print(f"writing the same bytes, numpy   {statistics.median(written):7.3f} s")
    print(
        f"recording to disk               {statistics.median(recorded):7.3f} s   ratio {statistics.median(recorded) / base:.2f}"
    )


if __name__ == "__main__":
    main()

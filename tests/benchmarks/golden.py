"""What golden files of real ports take, and what they still find: one table, beside np.allclose on the outputs.

The references are the Keras networks of MTCNN with trained weights (``--resnet``: ResNet-50 too), the candidates their PyTorch
ports, faithful and with planted mistakes. The alternative is what people keep in a repository instead: inputs and outputs,
and np.allclose with its default tolerance.
Usage: python tests/benchmarks/golden.py [--resnet]
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import porting_check as pc
from porting_check.keeping.budget import size_of
from porting_check.recorder.registry import adapter_for

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MTCNN = ("pnet", "rnet", "onet", "pnet_wrong_padding", "onet_wrong_flatten", "onet_overlooked_permute")
RESNET = ("faithful", "stride_in_3x3")
BUDGETS = (("all", None), ("boundaries", None), ("sampled", None), ("sampled", "150KB"))


def loading() -> object:
    """The fixtures' own loader."""
    spec = importlib.util.spec_from_file_location("fixture_loading", FIXTURES / "loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def outputs_only(full: pc.Trace, candidate: object) -> tuple[int, str]:
    """Bytes of inputs and outputs, and what np.allclose says of them."""
    ports = full.inputs + full.outputs
    size = sum(np.asarray(full.values[port.value]).nbytes for port in ports)
    feeds = {}
    for port in full.inputs:
        array = np.asarray(full.values[port.value])
        feeds[port.name] = (
            np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if port.layout == "NHWC" else array
        )
    made = list(adapter_for(candidate).predict(candidate, feeds).values())
    close = True
    for port, array in zip(full.outputs, made, strict=True):
        wanted, found = np.asarray(full.values[port.value]), np.asarray(array)
        if found.ndim == 4:
            found = found.transpose(0, 2, 3, 1)
        close = close and found.shape == wanted.shape and np.allclose(found, wanted)
    return size, "allclose" if close else "not allclose"


def rows(fixtures: object, case: object, name: str, folder: Path) -> None:
    """Print what each form of the recording takes and finds for one variant."""
    variant = case.variant(name)
    reference = fixtures.build(case.folder, variant.reference)
    candidate = fixtures.build(case.folder, variant.candidate)
    inputs = fixtures.make_inputs(variant.inputs)
    pc.transfer_weights(reference, candidate, inputs=inputs)
    layouts = {key: spec.layout for key, spec in variant.inputs.items() if spec.layout}
    full = pc.record(reference, inputs, path=folder / f"{name}.full.trace", layouts=layouts)
    size, said = outputs_only(full, candidate)
    show(name, "inputs and outputs", size, said, "-", 0.0)
    for policy, budget in (("full recording", None), *BUDGETS):
        golden, path = full, folder / f"{name}.full.trace"
        if policy != "full recording":
            path = folder / f"{name}.{policy}-{budget}.trace"
            try:
                golden = pc.keep(full, path, policy, budget)
            except pc.PortingError as error:
                show(
                    name,
                    f"{policy} {budget}",
                    0,
                    "refused: " + str(error).split(":")[-1].split(";")[0].strip(),
                    "-",
                    0.0,
                )
                continue
        start = time.perf_counter()
        report = pc.compare(str(path), candidate, shadow=False)
        causes = ", ".join(dict.fromkeys(f.cause for f in report.findings)) or "-"
        label = policy if budget is None else f"{policy} {budget}"
        show(name, label, size_of(golden), report.verdict, causes, time.perf_counter() - start)


def show(name: str, kept: str, size: int, verdict: str, causes: str, seconds: float) -> None:
    """One line of the table."""
    print(f"{name:24s} {kept:20s} {size / 1e3:10.1f} {verdict:14s} {causes:22s} {seconds:6.1f}", flush=True)


def main() -> None:
    """Build, record, prune, compare and print."""
    fixtures = loading()
    print(f"{'port':24s} {'kept':20s} {'kB':>10s} {'answer':14s} {'cause':22s} {'s':>6s}")
    with tempfile.TemporaryDirectory() as folder:
        for case, names in (("mtcnn", MTCNN), ("resnet50", RESNET)):
            if case == "resnet50" and "--resnet" not in sys.argv:
                continue
            for name in names:
                rows(fixtures, fixtures.load_case(FIXTURES / case), name, Path(folder))


if __name__ == "__main__":
    main()

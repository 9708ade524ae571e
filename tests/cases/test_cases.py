"""Every fixture: real and constructed ports whose verdict, first wrong layer and cause are known.

Both sides are live, but for the wrong ports of the large cases: these share references, which are recorded once.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import porting_check as pc
from porting_check.demo import as_expected

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def _loading():
    spec = importlib.util.spec_from_file_location("fixture_loading", FIXTURES / "loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loading = _loading()
CASES = loading.cases(FIXTURES)
BIG = {"founding_conv", "resnet50", "efficientnet", "mobilenetv2"}
"""Cases that take some seconds each."""


def _parameters():
    for case in CASES:
        for variant in case.variants:
            marks = [pytest.mark.slow] if case.name in BIG else []
            yield pytest.param(case, variant, id=f"{case.name}-{variant.name}", marks=marks)


@pytest.fixture(scope="module")
def recordings():
    """Recorded references, by everything that they depend on."""
    return {}


def run(case, variant, fetched, recordings):
    lacking = loading.unmet(case)
    if lacking and fetched(case.name):
        lacking = loading.unmet(case)
    if lacking:
        pytest.skip(f"{case.name} needs {', '.join(lacking)}")
    candidate = loading.build(case.folder, variant.candidate)
    layouts = {
        "reference": {name: spec.layout for name, spec in variant.inputs.items() if spec.layout},
        "candidate": {
            name: spec.candidate_layout for name, spec in variant.inputs.items() if spec.candidate_layout
        },
    }
    inputs = loading.make_inputs(variant.inputs)
    transfer = variant.weights == "transfer"
    if case.name not in BIG or "faithful" in variant.expect.verdict:
        reference = loading.build(case.folder, variant.reference)
        return pc.compare(reference, candidate, inputs, layouts=layouts, transfer=transfer)
    key = (case.name, variant.reference, repr(sorted(variant.inputs.items())))
    if key not in recordings:
        reference = loading.build(case.folder, variant.reference)
        recordings[key] = pc.record(reference, inputs, layouts=layouts["reference"], float64=True)
    return pc.compare(
        recordings[key], candidate, layouts={"candidate": layouts["candidate"]}, transfer=transfer
    )


@pytest.mark.parametrize(("case", "variant"), _parameters())
def test_the_answer_is_the_known_one(case, variant, fetched, recordings):
    report = run(case, variant, fetched, recordings)
    wrong = [
        (p.candidate, p.explanation) for p in report.pairs if p.verdict not in ("identical", "round-off")
    ]
    said = [(f.cause, f.proven, f.explanation) for f in report.findings]
    assert as_expected(report, variant.expect), (
        variant.expect,
        report.verdict,
        report.reason,
        wrong,
        said,
        report.not_compared[:5],
    )

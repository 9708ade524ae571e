"""Golden files of real ports: the known answer with every policy, the mistakes with their cause, without the old framework."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import porting_check as pc
from porting_check.demo import as_expected
from porting_check.keeping.budget import size_of

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
POLICIES = ("boundaries", "sampled")
VARIANTS = ("pnet", "onet", "pnet_wrong_padding", "onet_wrong_flatten", "onet_overlooked_permute")


def _loading():
    spec = importlib.util.spec_from_file_location("fixture_loading_golden", FIXTURES / "loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loading = _loading()
CASE = loading.load_case(FIXTURES / "mtcnn")


def sides(name, folder, fetched):
    """The full recording of the reference, and the live candidate with its weights."""
    lacking = loading.unmet(CASE)
    if lacking and fetched(CASE.name):
        lacking = loading.unmet(CASE)
    if lacking:
        pytest.skip(f"{CASE.name} needs {', '.join(lacking)}")
    variant = CASE.variant(name)
    reference = loading.build(CASE.folder, variant.reference)
    candidate = loading.build(CASE.folder, variant.candidate)
    inputs = loading.make_inputs(variant.inputs)
    pc.transfer_weights(reference, candidate, inputs=inputs)
    known = {key: spec.layout for key, spec in variant.inputs.items() if spec.layout}
    return variant, pc.record(reference, inputs, path=folder / "full.trace", layouts=known), candidate


@pytest.mark.parametrize("name", VARIANTS)
def test_the_answer_is_the_known_one_with_every_policy(name, tmp_path, fetched):
    variant, full, candidate = sides(name, tmp_path, fetched)
    for policy in POLICIES:
        path = tmp_path / f"{policy}.trace"
        golden = pc.keep(full, path, policy)
        report = pc.compare(str(path), candidate)
        assert as_expected(report, variant.expect), (policy, report.verdict, report.reason)
        section = report.section("kept")
        assert section is not None and section.verdict == "", section
        assert size_of(golden) < 0.6 * size_of(full)


def test_a_port_with_other_weights_never_passes(tmp_path, fetched):
    import torch

    _, full, candidate = sides("onet", tmp_path, fetched)
    with torch.no_grad():
        next(p for name, p in candidate.named_parameters() if p.ndim == 4)[0, 0, 0, 0] += 0.01
    verdicts = {}
    for policy in POLICIES:
        pc.keep(full, tmp_path / f"{policy}.trace", policy)
        verdicts[policy] = pc.compare(str(tmp_path / f"{policy}.trace"), candidate).verdict
    assert verdicts["boundaries"] == "divergent" and verdicts["sampled"] in ("divergent", "inconclusive")

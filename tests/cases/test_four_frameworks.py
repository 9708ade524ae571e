"""The case networks in Keras, PyTorch, flax and ONNX: every ordered pair is faithful, every planted mistake is located.

Each network is recorded once in each framework, on the same inputs in that framework's layout; the recordings are compared.
A network is a class here, so that its tests run in a row, in whatever order, and its recordings are let go after them.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import porting_check as pc
from porting_check.demo import as_expected
from porting_check.neutral.layout import Layout, convert
from porting_check.recorder.registry import adapter_for

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
FRAMEWORKS = {
    "tensorflow": ("tensorflow",),
    "torch": ("torch",),
    "jax": ("jax", "flax"),
    "onnxruntime": ("onnx", "onnxruntime"),
}


def _loading():
    spec = importlib.util.spec_from_file_location("fixture_loading", FIXTURES / "loading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loading = _loading()
NETWORKS = {network.name: (case, network) for case in loading.cases(FIXTURES) for network in case.networks}


class Recorded:
    """A network in every framework with the weights of the Keras model, each recorded once, when it is asked for."""

    def __init__(self, case, network):
        self.case, self.network = case, network
        self.parameters = {}
        self._traces = {}

    def trace(self, framework):
        """The right network in this framework."""
        if framework not in self._traces:
            model = loading.build(self.case.folder, self.network.builds[framework])
            if framework != "tensorflow":
                pc.transfer_weights(self.trace("tensorflow"), model)
            self.parameters[framework] = adapter_for(model).parameters(model)
            self._traces[framework] = self._record(model, framework)
        return self._traces[framework]

    def mistaken(self, mistake):
        """The network with this mistake, with the right weights unless these are the mistake."""
        if mistake.candidate not in self._traces:
            self.trace(mistake.framework)
            model = loading.build(self.case.folder, mistake.candidate)
            if mistake.weights == "transfer":
                adapter_for(model).assign(model, self.parameters[mistake.framework])
            self._traces[mistake.candidate] = self._record(model, mistake.framework)
        return self._traces[mistake.candidate]

    def _record(self, model, framework):
        drawn = loading.make_inputs(self.network.inputs)
        inputs = [_in_layout(array, self.network.inputs[name], framework) for name, array in drawn.items()]
        return pc.record(model, tuple(inputs))


def _in_layout(array, spec, framework):
    """An input as this framework takes it: drawn channel-last, where it has channels."""
    if not spec.layout or framework not in loading.CHANNELS_FIRST:
        return array
    return np.ascontiguousarray(convert(array, Layout(spec.layout), Layout(spec.candidate_layout)))


def _wrong(report):
    return [
        (p.reference, p.candidate, p.verdict, p.explanation)
        for p in report.pairs
        if p.verdict not in ("identical", "round-off")
    ]


def pytest_generate_tests(metafunc):
    """Ordered pairs of frameworks; for a mistake, the mistaken port with each other framework as its reference."""
    if "candidate" in metafunc.fixturenames:
        metafunc.parametrize(("reference", "candidate"), list(itertools.permutations(FRAMEWORKS, 2)))
    if "mistake" in metafunc.fixturenames:
        planted = NETWORKS[metafunc.cls.network][1].mistakes
        rows = [(f, m) for m in planted for f in FRAMEWORKS if f != m.framework]
        names = [f"{m.framework}-{m.kind}-{m.candidate.split(':')[1]}-{f}" for f, m in rows]
        metafunc.parametrize(("reference", "mistake"), rows, ids=names)


class Faithful:
    network = ""

    @pytest.fixture(scope="class")
    def recorded(self, request, fetched):
        case, network = NETWORKS[request.cls.network]
        lacking = loading.unmet(case)
        if lacking and fetched(case.name):
            lacking = loading.unmet(case)
        modules = [name for names in FRAMEWORKS.values() for name in names]
        lacking = [*lacking, *(name for name in modules if importlib.util.find_spec(name) is None)]
        if lacking:
            pytest.skip(f"{network.name} needs {', '.join(lacking)}")
        return Recorded(case, network)

    def test_every_ordered_pair_is_faithful(self, recorded, reference, candidate):
        report = pc.compare(recorded.trace(reference), recorded.trace(candidate))
        assert report.verdict == "faithful", (report.reason, _wrong(report), report.not_compared[:5])
        assert report.pairs
        assert not _wrong(report)


class Mistaken(Faithful):
    def test_every_planted_mistake_is_located_against_every_other_framework(
        self, recorded, reference, mistake
    ):
        report = pc.compare(recorded.trace(reference), recorded.mistaken(mistake))
        said = [(f.cause, f.proven, f.explanation) for f in report.findings]
        assert as_expected(report, mistake.expect), (report.verdict, report.reason, _wrong(report), said)


class TestPNet(Faithful):
    network = "pnet"


class TestRNet(Faithful):
    network = "rnet"


class TestONet(Mistaken):
    network = "onet"


class TestMobileNetV2(Mistaken):
    network = "mobilenetv2"


class TestResNet50(Mistaken):
    network = "resnet50"


class TestUNet(Mistaken):
    network = "unet"


class TestTagger(Mistaken):
    network = "tagger"


class TestTransformer(Mistaken):
    network = "transformer"


def test_no_network_and_no_mistake_is_forgotten():
    tested = {
        kind.network: kind for kind in Faithful.__subclasses__() + Mistaken.__subclasses__() if kind.network
    }
    assert set(tested) == set(NETWORKS)
    assert all(
        issubclass(tested[name], Mistaken) for name, (_, network) in NETWORKS.items() if network.mistakes
    )


def test_each_framework_is_the_wrong_one_once_for_each_kind_of_mistake():
    planted = [(m.framework, m.kind) for _, network in NETWORKS.values() for m in network.mistakes]
    assert sorted(planted) == sorted(itertools.product(FRAMEWORKS, loading.KINDS))

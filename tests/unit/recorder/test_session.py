"""What the recorder checks about a run, with a small adapter that works on numpy."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, MemorySink, Port, Record
from porting_check.recorder.session import largest_difference, record_model


class Doubling(Adapter):
    """Its model is a function; recording may change what comes out, and runs may differ."""

    framework = "numpy"

    def __init__(self, observer=0.0, noise=0.0, empty=False):
        self.observer, self.noise, self.empty, self.runs = observer, noise, empty, 0
        self.notes = ("noted",)

    def owns(self, model):
        return callable(model)

    def environment(self):
        return Environment("numpy", {})

    def load(self, path):
        raise NotImplementedError

    def inputs(self, model):
        return ()

    def training(self, model):
        return ("dropout",)

    def run(self, node, inputs, *, float64=False):
        raise NotImplementedError

    def parameters(self, model):
        return {}

    def assign(self, model, parameters):
        raise NotImplementedError

    def predict(self, model, inputs):
        self.runs += 1
        return {"0": model(inputs["0"]) + np.float32(self.noise * self.runs)}

    def record(self, model, inputs, sink):
        sink.value("input:0", inputs["0"])
        sink.input(Port("0", "input:0"))
        made = model(inputs["0"]) + np.float32(self.observer)
        sink.value("double:0", made)
        if not self.empty:
            ports = (Port("x", "input:0"),), (Port("y", "double:0"),)
            sink.record(Record("double", 0, "numpy.add", *ports, nodes=(Node("Add", ("x", "x")),)))
        sink.output(Port("0", "double:0"))


INPUT = {"0": np.arange(6, dtype=np.float32).reshape(2, 3)}


def double(x):
    return x + x


def checks_of(adapter, **options):
    sink = MemorySink()
    checks = record_model(adapter, double, INPUT, sink, layouts={"0": "NC"}, **options)
    return checks, sink


def test_a_quiet_deterministic_run_has_no_differences():
    checks, sink = checks_of(Doubling())
    assert (checks.observer_difference, checks.repeat_difference) == (0.0, 0.0)
    assert checks.training == ("dropout",)
    assert checks.notes == ("noted",)
    assert sink.inputs[0].layout == "NC"


def test_a_recording_that_changes_the_output_is_measured():
    assert checks_of(Doubling(observer=0.5))[0].observer_difference == 0.5


def test_a_model_that_differs_from_run_to_run_is_measured():
    assert checks_of(Doubling(noise=0.25))[0].repeat_difference == 0.25


def test_without_checks_the_model_runs_once():
    adapter = Doubling()
    checks, _ = checks_of(adapter, check=False)
    assert adapter.runs == 0
    assert checks.observer_difference is None


def test_an_empty_model_is_noted():
    assert any("no operator" in note for note in checks_of(Doubling(empty=True))[0].notes)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([1 + 2j], [1 + 2.5j], 0.5),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference_never_takes_nan_for_small(one, other, expected):
    assert largest_difference(np.array(one), np.array(other)) == expected

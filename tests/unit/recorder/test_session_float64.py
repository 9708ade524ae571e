"""A recording's run in float64: its outputs are kept by path, or the reason why there are none; old recordings load."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.errors import RunError, Unsupported
from porting_check.neutral.trace import Checks, Environment, MemorySink, float64_outputs
from porting_check.neutral.tracefile import TraceWriter, load_trace
from porting_check.recorder import session
from porting_check.recorder.session import record_model
from tests.unit.recorder.test_session import INPUT, Doubling, double


class Wide(Doubling):
    """Gives what it is told to in float64."""

    def __init__(self, outputs=None, error=None, notes=()):
        super().__init__()
        self.outputs, self.error, self.inside = outputs, error, notes

    def float64_outputs(self, model, inputs):
        if self.error is not None:
            raise self.error
        self.notes = self.notes + self.inside
        return {"0": model(inputs["0"].astype(np.float64)) / 3} if self.outputs is None else self.outputs


def recorded(adapter, **options):
    sink = MemorySink()
    checks = record_model(adapter, double, INPUT, sink, **options)
    return sink.trace("m", Environment("numpy", {}), checks)


def test_outputs_in_float64_are_kept_when_asked_for():
    trace = recorded(Wide(), float64=True)
    np.testing.assert_array_equal(float64_outputs(trace)["0"], 2 * INPUT["0"].astype(np.float64) / 3)
    assert trace.checks.float64 == ()
    assert float64_outputs(recorded(Wide())) == {}


def test_what_stayed_float32_is_kept_apart_from_the_notes_of_the_recording():
    checks = recorded(Wide(notes=("op gives float32",)), float64=True).checks
    assert checks.notes == ("noted",)
    assert checks.float64 == ("op gives float32",)


@pytest.mark.parametrize("error", [Unsupported("no kernels"), RunError("no kernels")])
def test_the_reason_is_kept_where_there_are_none(error):
    trace = recorded(Wide(error=error), float64=True)
    assert trace.checks.float64 == ("no kernels",)
    assert float64_outputs(trace) == {}


def test_an_adapter_without_it_says_so():
    assert "cannot be run in float64" in recorded(Doubling(), float64=True).checks.float64[0]


def test_outputs_of_other_names_are_refused():
    trace = recorded(Wide(outputs={"other": np.zeros(2)}), float64=True)
    assert "gave no output '0'" in trace.checks.float64[0]
    assert float64_outputs(trace) == {}


def test_a_very_large_model_is_not_copied(monkeypatch):
    monkeypatch.setattr(session, "LARGEST", -1)
    assert "are not copied into float64" in recorded(Wide(), float64=True).checks.float64[0]


def test_a_recording_on_disk_keeps_them(tmp_path):
    with TraceWriter(str(tmp_path / "t"), "m", Environment("numpy", {})) as writer:
        writer.finish(record_model(Wide(notes=("inside",)), double, INPUT, writer, float64=True))
    trace = load_trace(str(tmp_path / "t"), verify=True)
    assert list(float64_outputs(trace)) == ["0"]
    assert float64_outputs(trace)["0"].dtype == np.float64
    assert trace.checks.float64 == ("inside",)


def test_checks_written_before_there_was_float64_are_read():
    old = {"observer_difference": 0.0, "repeat_difference": None, "training": ["d"], "notes": []}
    assert Checks.from_json(old) == Checks(0.0, None, ("d",), ())
    new = Checks(float64=("why",))
    assert Checks.from_json(new.to_json()) == new

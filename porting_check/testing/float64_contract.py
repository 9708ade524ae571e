"""The contract of running whole models in float64: the caller's stays float32, and what comes out is float64 indeed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import Unsupported
from porting_check.neutral.trace import FLOAT64, MemorySink, float64_outputs
from porting_check.recorder.registry import load_adapter
from porting_check.recorder.session import record_model

ROUND_OFF = 1e-5
"""Largest difference between a float32 run of a small network and its float64 run, in units of the largest value."""


@dataclass(frozen=True)
class Wide:
    """One model with inputs, and what is known of its run in float64.

    Attributes:
        name: what the test is called.
        build: makes the model; called anew for every test.
        inputs: by name, in the model's own layouts.
        inside: regular expression for a note that the run must leave; "" where no float32 may be inside.
        unsupported: regular expression for the reason where the model cannot be run in float64.

    Example:
        >>> Wide("sum", lambda: sum, {"0": np.ones(3, np.float32)}).inside
        ''
    """

    name: str
    build: Callable[[], Any]
    inputs: Mapping[str, np.ndarray]
    inside: str = ""
    unsupported: str = ""


class Float64Contract:
    """What ``Adapter.float64_outputs`` must do; subclass it, name the framework, give models, let pytest collect it.

    Example:
        >>> class TestTorch(Float64Contract):                              # doctest: +SKIP
        ...     framework = "torch"
        ...     def models(self):
        ...         return [Wide("mlp", build_mlp, {"0": noise(2, 4)})]
    """

    framework: ClassVar[str] = ""

    def models(self) -> Sequence[Wide]:
        """Models to run: at least one plain, one that reads integers, one with float32 inside, one unsupported."""
        raise NotImplementedError

    def adapter(self) -> Adapter:
        """The adapter under test."""
        return load_adapter(self.framework)

    def state(self) -> Any:
        """What of the framework must be as before, comparable with ``==``."""
        return None

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each model that fits the argument's name."""
        chosen: dict[str, Callable[[Wide], bool]] = {
            "model": lambda m: True,
            "wide": lambda m: not m.unsupported,
            "clean": lambda m: not m.unsupported and not m.inside,
            "island": lambda m: bool(m.inside),
            "refused": lambda m: bool(m.unsupported),
        }
        for argument in chosen.keys() & set(metafunc.fixturenames):
            found = [pytest.param(m, id=m.name) for m in self.models() if chosen[argument](m)]
            metafunc.parametrize(argument, found)

    def _feeds(self, model: Wide) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in model.inputs.items()}

    def _caller(self, built: Any) -> dict[str, Any]:
        held = self.adapter().parameters(built)
        return {
            "random numbers": (
                random.getstate(),
                [np.array(part).tolist() for part in np.random.get_state()],
            ),
            "framework": self.state(),
            "parameters": {name: (a.dtype.name, a.tobytes()) for name, a in held.items()},
        }

    def test_the_model_and_its_surroundings_stay_as_they_were(self, model: Wide) -> None:
        """Weights, dtypes, random state; a float32 run gives the same bits before and after."""
        built, feeds, adapter = model.build(), self._feeds(model), self.adapter()
        first = adapter.predict(built, feeds)
        before = self._caller(built)
        try:
            adapter.float64_outputs(built, feeds)
        except Unsupported:
            assert model.unsupported
        after = self._caller(built)
        for what, was in before.items():
            assert after[what] == was, f"{what} is not as it was"
        again = adapter.predict(built, feeds)
        for path, array in first.items():
            assert again[path].dtype == array.dtype
            np.testing.assert_array_equal(again[path], array)
        for name, array in model.inputs.items():
            assert feeds[name].dtype == array.dtype
            np.testing.assert_array_equal(feeds[name], array)

    def test_outputs_have_the_names_of_predict_and_its_values_within_float32(self, wide: Wide) -> None:
        """The same function, computed better; integers exactly."""
        built, adapter = wide.build(), self.adapter()
        narrow = adapter.predict(built, self._feeds(wide))
        found = adapter.float64_outputs(built, self._feeds(wide))
        assert found.keys() == narrow.keys()
        for path, array in found.items():
            assert isinstance(array, np.ndarray)
            assert array.shape == narrow[path].shape
            if narrow[path].dtype.kind != "f":
                np.testing.assert_array_equal(array, narrow[path])
                continue
            assert array.dtype == np.float64
            assert np.abs(array - narrow[path]).max() <= ROUND_OFF * np.abs(array).max()

    def test_values_are_float64_and_not_widened_float32(self, clean: Wide) -> None:
        """Hardly any value of a real float64 run happens to be a float32 number; nothing is noted as float32 inside."""
        adapter = self.adapter()
        for path, array in adapter.float64_outputs(clean.build(), self._feeds(clean)).items():
            if array.dtype.kind == "f":
                assert np.mean(array == array.astype(np.float32)) < 0.02, path
        assert not [note for note in adapter.notes if "gives float32" in note]

    def test_what_stays_float32_is_named(self, island: Wide) -> None:
        """In the adapter's notes, which a recording keeps."""
        adapter = self.adapter()
        adapter.float64_outputs(island.build(), self._feeds(island))
        assert any(re.search(island.inside, note) for note in adapter.notes), adapter.notes

    def test_what_cannot_be_cast_is_refused_with_the_reason(self, refused: Wide) -> None:
        """By ``Unsupported``; a recording keeps the reason and no float64 values."""
        adapter, sink = self.adapter(), MemorySink()
        with pytest.raises(Unsupported, match=refused.unsupported):
            adapter.float64_outputs(refused.build(), self._feeds(refused))
        checks = record_model(adapter, refused.build(), self._feeds(refused), sink, float64=True)
        assert re.search(refused.unsupported, " ".join(checks.float64))
        assert not [key for key in sink.values if key.startswith(FLOAT64)]

    def test_a_recording_keeps_the_outputs_by_path(self, wide: Wide) -> None:
        """Every output of the trace has its float64 twin; nothing reads or makes those values."""
        adapter, sink = self.adapter(), MemorySink()
        checks = record_model(adapter, wide.build(), self._feeds(wide), sink, float64=True)
        trace = sink.trace(wide.name, adapter.environment(), checks)
        found = float64_outputs(trace)
        assert list(found) == [port.name for port in trace.outputs]
        used = [p.value for r in trace.records for p in (*r.inputs, *r.outputs, *r.parameters)]
        assert not [key for key in used if key.startswith(FLOAT64)]
        assert bool(checks.float64) >= bool(wide.inside)

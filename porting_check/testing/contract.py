"""The contract of recording: what a run leaves behind in the trace, and that it leaves nothing behind elsewhere."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import (
    FrameworkMissing,
    PortingError,
    RecordingError,
    RunError,
    WeightsError,
)
from porting_check.neutral.trace import Environment, MemorySink, Trace, parameter_key
from porting_check.neutral.tracefile import TraceWriter, load_trace
from porting_check.recorder.registry import adapter_for, load_adapter
from porting_check.recorder.session import record_model
from porting_check.testing import replay, wellformed
from porting_check.testing.doubles import Both, Disturbed, FullSink
from porting_check.testing.examples import KINDS, Example


class AdapterContract:
    """What recording must do; subclass it, name the framework, give examples, and let pytest collect the subclass.

    Class attributes that a subclass may set:
        lacks: kinds of examples (``KINDS``) that the framework cannot have, and why.

    Example:
        >>> class TestTorch(AdapterContract):                              # doctest: +SKIP
        ...     framework = "torch"
        ...     def examples(self):
        ...         return [Example("mlp", "plain", build_mlp, {"0": noise(2, 4)}, ("fc1", "relu", "fc2"))]
    """

    framework: ClassVar[str] = ""
    lacks: ClassVar[Mapping[str, str]] = {}

    # Hooks -------------------------------------------------------------------------------------------------------

    def examples(self) -> Sequence[Example]:
        """Models to record."""
        raise NotImplementedError

    def adapter(self) -> Adapter:
        """The adapter under test."""
        return load_adapter(self.framework)

    def state(self, model: Any) -> Any:
        """What of the framework must be as before: random generators, modes, hooks; comparable with ``==``.

        The random state of Python and numpy, the model's parameters, what it says of training, and the environment are
        compared anyway.
        """
        return None

    def modes(self) -> Any:
        """What of the process must be as before; the environment, unless that tells of the model last run."""
        return self.adapter().environment()

    # Collection --------------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each example that a test can be made with, by the name of its argument."""
        chosen = {
            "example": lambda e: e.kind != "raises",
            "any_example": lambda e: True,
            "steady": lambda e: e.kind not in ("raises", "random") and e.deterministic,
            "weighted": lambda e: e.kind == "plain",
            **{kind.replace("-", "_"): _of_kind(kind) for kind in KINDS},
        }
        for argument in chosen.keys() & set(metafunc.fixturenames):
            found = [pytest.param(e, id=e.name) for e in self.examples() if chosen[argument](e)]
            why = self.lacks.get(argument.replace("_", "-"), "")
            metafunc.parametrize(
                argument, found or [pytest.param(None, marks=pytest.mark.skip(why), id="none")]
            )

    def trace(self, example: Example, model: Any = None) -> Trace:
        """One recorded run, as the core makes it."""
        sink, adapter = MemorySink(), self.adapter()
        model = example.build() if model is None else model
        checks = record_model(adapter, model, example.feeds(), sink)
        return sink.trace(example.name, adapter.environment(), checks)

    @contextmanager
    def unchanged(self, model: Any, feeds: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Compare everything that belongs to the caller before and after, whatever happens inside."""
        before = self._caller(model, feeds)
        try:
            yield
        finally:
            after = self._caller(model, feeds)
            assert after.keys() == before.keys()
            for what, was in before.items():
                assert after[what] == was, f"{what} is not as it was"

    def _caller(self, model: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Everything that belongs to the caller, comparable."""
        adapter = self.adapter()
        found: dict[str, Any] = {
            "Python's random state": random.getstate(),
            "numpy's random state": _plain(np.random.get_state()),
            "the environment": self.modes(),
            "the training mode": tuple(adapter.training(model)),
            "the framework's state": self.state(model),
        }
        found.update({f"input {name}": _bits(array) for name, array in feeds.items()})
        found.update({f"parameter {k}": _bits(v) for k, v in adapter.parameters(model).items()})
        return found

    # The caller's things -----------------------------------------------------------------------------------------

    def test_there_is_an_example_of_every_kind(self) -> None:
        """Or a reason why the framework has none."""
        kinds = {example.kind for example in self.examples()}
        assert kinds | self.lacks.keys() == KINDS.keys()
        assert not kinds & self.lacks.keys()
        assert all(len(reason) > 10 for reason in self.lacks.values())

    def test_models_are_owned_and_nothing_else_is(self, any_example: Example) -> None:
        """The adapter owns its models, not data, not text; the core finds it.

        A function that names no framework may be any one's that is loaded: then the core says so, and names this one.
        """
        adapter, model = self.adapter(), any_example.build()
        assert adapter.owns(model)
        assert adapter.framework == self.framework
        try:
            assert adapter_for(model).framework == self.framework
        except FrameworkMissing as error:
            assert callable(model) and re.search(rf"could belong to .*{self.framework}", str(error))
        assert not any(adapter.owns(thing) for thing in (None, 3, "model", np.ones(3), object(), [model]))

    def test_the_callers_things_are_as_before(self, any_example: Example) -> None:
        """Model, inputs, random state and modes, after recording and after plain runs, also when the forward raises."""
        model, feeds, adapter = any_example.build(), any_example.feeds(), self.adapter()
        runs = (
            lambda: adapter.predict(model, feeds),
            lambda: adapter.repeat(model, feeds),
            lambda: adapter.record(model, feeds, MemorySink()),
            lambda: adapter.record(model, feeds, MemorySink()),
        )
        for run in runs:
            with self.unchanged(model, feeds):
                if any_example.kind == "raises":
                    with pytest.raises(RunError):
                        run()
                else:
                    run()

    def test_a_model_that_raises_is_reported_with_its_layer(self, raises: Example) -> None:
        """The message has the model's own words, the recording names the layer, the cause is kept, and work goes on."""
        adapter, model = self.adapter(), raises.build()
        with pytest.raises(RunError) as caught:
            adapter.predict(model, raises.feeds())
        cause = caught.value.__cause__
        assert cause is not None
        assert type(cause).__name__ in str(caught.value)
        with pytest.raises(RunError, match=re.escape(raises.fails_in)) as caught:
            adapter.record(model, raises.feeds(), MemorySink())
        assert caught.value.__cause__ is not None
        good = next(example for example in self.examples() if example.kind == "plain")
        assert self.trace(good).records

    def test_a_sink_that_fails_is_not_blamed_on_the_model(self, weighted: Example) -> None:
        """A full disk stays a full disk."""
        model, feeds = weighted.build(), weighted.feeds()
        with self.unchanged(model, feeds), pytest.raises(RecordingError, match="the disk is full"):
            self.adapter().record(model, feeds, FullSink())

    def test_inputs_that_do_not_fit_are_refused(self, weighted: Example) -> None:
        """With the shape that was found, by an error that users may catch."""
        model, feeds = weighted.build(), weighted.feeds()
        wrong = {name: np.resize(x, (len(x), *(2 * n + 1 for n in x.shape[1:]))) for name, x in feeds.items()}
        shape = ", ?".join(map(str, next(iter(wrong.values())).shape))
        for run in (
            lambda: self.adapter().predict(model, wrong),
            lambda: self.adapter().record(model, wrong, MemorySink()),
        ):
            with pytest.raises(PortingError, match=shape):
                run()

    # What is recorded --------------------------------------------------------------------------------------------

    def test_arrays_are_owned(self, example: Example) -> None:
        """They are numpy's, share no memory with the caller's or with the model, and keep their values."""
        adapter, model, feeds = self.adapter(), example.build(), example.feeds()
        sink = MemorySink()
        outputs = adapter.predict(model, feeds)
        adapter.record(model, feeds, sink)
        held = {**adapter.parameters(model), **sink.values, **{f"out {k}": v for k, v in outputs.items()}}
        copies = {key: _bits(array) for key, array in held.items()}
        assert all(type(array) is np.ndarray for array in held.values())
        assert not any(np.shares_memory(array, feed) for array in held.values() for feed in feeds.values())
        for feed in feeds.values():
            feed[...] = np.zeros((), feed.dtype)
        weights = adapter.parameters(model)
        adapter.assign(model, {name: np.zeros_like(array) for name, array in weights.items()})
        adapter.predict(model, feeds)
        assert {key: _bits(array) for key, array in held.items()} == copies

    def test_order_and_repeated_calls_are_kept(self, example: Example) -> None:
        """Records stand in execution order; calls of one name count from 0; a value is made once, before it is read."""
        trace = self.trace(example)
        wellformed.check_order(trace)
        if example.records is not None:
            assert tuple(record.id for record in trace.records) == example.records
        if example.kind == "repeated":
            assert any(record.call == 1 for record in trace.records)

    def test_values_and_names_are_all_there(self, example: Example) -> None:
        """Every port names a stored value, every stored value is named, every node reads names that exist."""
        wellformed.check_names(self.trace(example))

    def test_nodes_are_operators_of_the_standard(self, example: Example) -> None:
        """With attributes that the standard knows, and those that decide the result written out."""
        wellformed.check_nodes(self.trace(example))

    def test_described_records_give_what_was_recorded(self, example: Example) -> None:
        """Their nodes in float64 on the recorded inputs, also where a later operator wrote into a recorded tensor."""
        trace = self.trace(example)
        replay.check_trace(trace, example.rtol, example.atol)
        for name, feed in example.inputs.items():
            port = next(port for port in trace.inputs if port.name == name)
            assert _bits(trace.values[port.value]) == _bits(feed), f"input {name} was recorded changed"

    def test_what_could_not_be_recorded_is_named_with_its_reason(self, example: Example) -> None:
        """No opaque record without a reason, none but those expected, and its inputs and outputs are there."""
        opaque = {record.id: record for record in self.trace(example).records if record.opaque}
        assert opaque.keys() == example.reasons.keys(), {r.id: r.reason for r in opaque.values()}
        for name, record in opaque.items():
            assert re.search(example.reasons[name], record.reason), record.reason
            assert record.outputs
        assert bool(opaque) or example.kind != "opaque"

    def test_narrow_types_survive(self, narrow: Example) -> None:
        """Inputs and outputs keep type and bits: the model only moves them."""
        trace, outputs = self.trace(narrow), self.adapter().predict(narrow.build(), narrow.feeds())
        (feed,) = narrow.inputs.values()
        assert feed.dtype.name.startswith(("bfloat16", "float8"))
        found = [trace.values[port.value] for port in trace.inputs + trace.outputs] + list(outputs.values())
        for array in found:
            assert array.dtype == feed.dtype
            assert sorted(array.tobytes()) == sorted(feed.tobytes())

    def test_nested_outputs_are_named_by_their_paths(self, nested: Example) -> None:
        """The nested example has a path of two parts, and recorded and unrecorded runs name the outputs alike."""
        assert any("/" in path for path in nested.outputs)
        assert tuple(self.adapter().predict(nested.build(), nested.feeds())) == nested.outputs

    def test_recorded_outputs_are_those_of_an_unrecorded_run(self, steady: Example) -> None:
        """Bit for bit, under the same paths in the same order; the checks say so, and say when it is not so."""
        model = steady.build()
        trace, outputs = self.trace(steady, model), self.adapter().predict(model, steady.feeds())
        assert tuple(port.name for port in trace.outputs) == tuple(outputs) == steady.outputs
        for port in trace.outputs:
            assert _bits(trace.values[port.value]) == _bits(outputs[port.name])
        assert trace.checks.observer_difference == 0.0
        assert steady.kind == "stateful" or trace.checks.repeat_difference == 0.0

    def test_a_recording_that_changes_the_result_is_reported(self, weighted: Example) -> None:
        """Were the observer to disturb the run, the checks would say how much."""
        model = weighted.build()
        checks = record_model(Disturbed(self.adapter()), model, weighted.feeds(), MemorySink())
        assert checks.observer_difference is not None
        assert checks.observer_difference != 0.0

    # Random numbers, states, training ----------------------------------------------------------------------------

    def _check_repeat(self, example: Example) -> None:
        """Two runs in a row differ, and a third one starts where the first did."""
        model, adapter = example.build(), self.adapter()
        first, second = adapter.repeat(model, example.feeds())
        assert any(_bits(first[path]) != _bits(second[path]) for path in first)
        again = adapter.predict(model, example.feeds())
        assert {k: _bits(v) for k, v in again.items()} == {k: _bits(v) for k, v in first.items()}

    def test_random_numbers_are_noticed(self, random: Example) -> None:
        """Two runs in a row differ, the checks say so, and the caller's generators are as before."""
        self._check_repeat(random)
        difference = self.trace(random).checks.repeat_difference
        assert difference is not None and difference > 0

    def test_a_state_is_noticed(self, stateful: Example) -> None:
        """Two runs in a row differ, the checks say so, and the state is as before."""
        self._check_repeat(stateful)
        difference = self.trace(stateful).checks.repeat_difference
        assert difference is not None and difference > 0

    def test_training_mode_is_named(self, training: Example) -> None:
        """The layers in training mode are in the checks; the others' are empty."""
        assert self.trace(training).checks.training
        for example in self.examples():
            if example.kind == "plain":
                assert self.trace(example).checks.training == ()

    # Parameters --------------------------------------------------------------------------------------------------

    def test_parameters_make_the_round_trip(self, weighted: Example) -> None:
        """Assigning what was read changes nothing; assigning others changes the output, and back."""
        adapter, model = self.adapter(), weighted.build()
        own, outputs = adapter.parameters(model), adapter.predict(model, weighted.feeds())
        assert own
        trace = self.trace(weighted, model)
        assert {key for key in trace.values if key.startswith("parameter:")} <= set(map(parameter_key, own))
        for name, array in trace.parameters().items():
            assert _bits(array) == _bits(own[name])
        others = {name: (array * 1.5 + 0.25).astype(array.dtype) for name, array in own.items()}
        adapter.assign(model, others)
        assert {k: _bits(v) for k, v in adapter.parameters(model).items()} == {
            k: _bits(v) for k, v in others.items()
        }
        changed = adapter.predict(model, weighted.feeds())
        assert any(_bits(changed[path]) != _bits(outputs[path]) for path in outputs)
        adapter.assign(model, own)
        again = adapter.predict(model, weighted.feeds())
        assert {k: _bits(v) for k, v in again.items()} == {k: _bits(v) for k, v in outputs.items()}

    def test_all_parameters_are_assigned_or_none(self, weighted: Example) -> None:
        """An unknown name or a wrong shape leaves the model as it was, and is named."""
        adapter, model = self.adapter(), weighted.build()
        own = adapter.parameters(model)
        first, last = next(iter(own)), list(own)[-1]
        assert first != last, "the plain example needs two parameters"
        for name, array in (
            ("no such parameter", own[first]),
            (last, np.zeros((7, 3, 5, 1), own[last].dtype)),
        ):
            feeds = weighted.feeds()
            with self.unchanged(model, feeds), pytest.raises(WeightsError, match=re.escape(name)):
                adapter.assign(model, {first: own[first] + 1, name: array})

    # The recording -----------------------------------------------------------------------------------------------

    def test_the_environment_is_said(self) -> None:
        """Versions of the framework and numpy, threads, Python, platform, modes; it survives JSON."""
        found = self.adapter().environment()
        assert found.framework == self.framework
        assert {self.framework, "numpy"} <= found.versions.keys()
        assert all(re.match(r"\d+\.\d+", version) for version in found.versions.values()), found.versions
        assert found.threads >= 0
        assert found.device
        assert re.match(r"3\.\d+", found.python)
        assert found.platform
        assert found.modes
        assert all(isinstance(value, str) for value in found.modes.values())
        assert Environment.from_json(found.to_json()) == found

    def test_a_trace_survives_the_disk(self, example: Example, tmp_path: Path) -> None:
        """Records, ports and the bits of every value, read back, are those that were written."""
        adapter, kept = self.adapter(), MemorySink()
        folder = str(tmp_path / "side.trace")
        with TraceWriter(folder, example.name, adapter.environment()) as writer:
            writer.finish(record_model(adapter, example.build(), example.feeds(), Both(writer, kept)))
        read = load_trace(folder, verify=True)
        assert [record.to_json() for record in read.records] == [record.to_json() for record in kept.records]
        assert (read.inputs, read.outputs) == (tuple(kept.inputs), tuple(kept.outputs))
        assert {key: _bits(read.values[key]) for key in read.values} == {
            key: _bits(array) for key, array in kept.values.items()
        }

    def test_what_is_known_of_the_inputs_is_true(self, example: Example) -> None:
        """Names, shapes, types and layouts that the adapter tells before a run fit the inputs that the model takes."""
        for spec in self.adapter().inputs(example.build()):
            if not spec.name:
                continue
            assert spec.name in example.inputs
            feed = example.inputs[spec.name]
            assert not spec.layout or len(spec.layout) == feed.ndim
            if spec.shape is not None:
                assert len(spec.shape) == feed.ndim
                assert all(size in (None, found) for size, found in zip(spec.shape, feed.shape, strict=True))
            assert example.kind == "narrow" or np.dtype(feed.dtype).kind == np.dtype(spec.dtype).kind


def _of_kind(kind: str) -> Any:
    return lambda example: example.kind == kind


def _bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes of an array."""
    return array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes()


def _plain(state: Any) -> Any:
    """A random state without arrays, so that ``==`` gives one answer."""
    return tuple(item.tobytes() if isinstance(item, np.ndarray) else item for item in state)

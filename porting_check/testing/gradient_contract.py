"""The contract of gradients: every adapter that can differentiate gives those of the recorded values, exactly and alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import PortingError, RunError, Unsupported
from porting_check.neutral.trace import MemorySink, parameter_key
from porting_check.recorder.registry import load_adapter
from porting_check.testing.contract import AdapterContract

Arrays = dict[str, np.ndarray]

KINDS = {
    "linear": "linear in each of its parts, of small integers: float32 holds the gradients exactly",
    "smooth": "layers with parameters and no kinks, for central differences",
    "repeated": "one layer called twice",
    "two-outputs": "two floating outputs that share a part",
    "integers": "an integer input beside a floating one",
    "unused": "a parameter that the outputs do not depend on",
    "frozen": "a parameter that the framework was told not to train",
    "detached": "a branch that no gradient goes back through",
    "in-place": "operators that write into tensors that were recorded",
    "branching": "Python code that looks at a value",
    "dropout": "dropout, which inference leaves out",
    "rule": "a function with a derivative of its own, which is not that of its formula",
    "raises": "an exception in the middle of the forward pass",
    "unsupported": "a model that the framework cannot differentiate",
}
"""Kinds of models; an adapter has at least one of each, or says why there is none."""

UNRUN = ("raises", "unsupported")
STEP = 2.0**-12


@dataclass(frozen=True)
class Differentiable:
    """One model with inputs, and what is known of its gradients.

    Attributes:
        name: what the test is called.
        kind: one of :data:`KINDS`.
        build: makes the model, with the same weights at every call.
        inputs: by name, in the model's own layouts.
        absent: recorded floating values without a gradient, constants aside.
        present: keys that must be among the gradients, for what the example is about.
        expected: gradients by key, from inputs, parameters and cotangents; for a ``linear`` model and one with a ``rule``.
        says: of a model that raises or cannot be differentiated, what the message must hold.
        float64: whether the adapter can differentiate it in float64.

    Example:
        >>> Differentiable("double", "linear", lambda: (lambda x: 2 * x), {"0": np.ones(3, np.float32)}).absent
        ()
    """

    name: str
    kind: str
    build: Callable[[], Any]
    inputs: Mapping[str, np.ndarray]
    absent: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    expected: Callable[[Arrays, Arrays, Arrays], Arrays] | None = None
    says: str = ""
    float64: bool = field(default=True)

    def __post_init__(self) -> None:
        """Refuse a kind that no test asks for."""
        if self.kind not in KINDS:
            raise ValueError(f"example {self.name!r} is of kind {self.kind!r}; kinds: {', '.join(KINDS)}")

    def feeds(self) -> Arrays:
        """Copies of the inputs."""
        return {name: array.copy() for name, array in self.inputs.items()}


class _Caller(AdapterContract):
    """Compares what belongs to the caller before and after, as the contract of recording does."""

    def __init__(self, framework: str, state: Callable[[Any], Any]) -> None:
        self.framework = framework  # type: ignore[misc]
        self._state = state

    def state(self, model: Any) -> Any:
        """What the contract of gradients says."""
        return self._state(model)


class GradientContract:
    """What gradients must be; subclass it, name the framework, give examples, and let pytest collect the subclass.

    Class attributes that a subclass may set:
        lacks: kinds of examples (``KINDS``) that the framework cannot have, and why.

    Example:
        >>> class TestGradients(GradientContract):                         # doctest: +SKIP
        ...     framework = "torch"
        ...     def examples(self):
        ...         return [Differentiable("mlp", "smooth", build_mlp, {"0": noise(2, 4)})]
    """

    framework: ClassVar[str] = ""
    lacks: ClassVar[Mapping[str, str]] = {}

    # Hooks -------------------------------------------------------------------------------------------------------

    def examples(self) -> Sequence[Differentiable]:
        """Models to differentiate."""
        raise NotImplementedError

    def adapter(self) -> Adapter:
        """The adapter under test."""
        return load_adapter(self.framework)

    def state(self, model: Any) -> Any:
        """What of the framework must be as before: flags, stored gradients, generators; comparable with ``==``."""
        return None

    # Collection --------------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test for each example that a test can be made with, by the name of its argument."""
        chosen: dict[str, Callable[[Differentiable], bool]] = {
            "example": lambda e: e.kind not in UNRUN,
            "any_example": lambda e: True,
            "wide": lambda e: e.kind not in UNRUN and e.float64,
            "known": lambda e: e.expected is not None,
            "smooth": lambda e: e.kind == "smooth",
            "two_outputs": lambda e: e.kind == "two-outputs",
            "refused": lambda e: e.kind in UNRUN,
        }
        for argument in chosen.keys() & set(metafunc.fixturenames):
            found = [pytest.param(e, id=e.name) for e in self.examples() if chosen[argument](e)]
            assert found, f"no example for {argument!r}"
            metafunc.parametrize(argument, found)

    def unchanged(self, model: Any, feeds: Mapping[str, np.ndarray]) -> AbstractContextManager[None]:
        """Compare everything that belongs to the caller before and after, whatever happens inside."""
        return _Caller(self.framework, self.state).unchanged(model, feeds)

    def recorded(self, model: Any, feeds: Arrays) -> MemorySink:
        """One recording."""
        sink = MemorySink()
        self.adapter().record(model, feeds, sink)
        return sink

    def cotangents(self, model: Any, feeds: Arrays, seed: int = 0) -> Arrays:
        """Small integers for every floating output: they survive any sum."""
        rng = np.random.default_rng(seed)
        outputs = self.adapter().predict(model, feeds)
        floating = {path: array for path, array in outputs.items() if _floating(array)}
        return {
            path: rng.choice([-3, -2, -1, 1, 2, 3], array.shape).astype(array.dtype)
            for path, array in floating.items()
        }

    def found(self, example: Differentiable, **options: Any) -> tuple[Any, Arrays, Arrays, Arrays]:
        """Model, inputs, cotangents, gradients."""
        model, feeds = example.build(), example.feeds()
        cotangents = self.cotangents(model, feeds)
        return model, feeds, cotangents, self.adapter().gradients(model, feeds, cotangents, **options)

    # What the keys are -------------------------------------------------------------------------------------------

    def test_there_is_a_model_of_every_kind(self) -> None:
        """Or a reason why the framework has none."""
        kinds = {example.kind for example in self.examples()}
        assert kinds | self.lacks.keys() == KINDS.keys()
        assert not kinds & self.lacks.keys()
        assert all(len(reason) > 10 for reason in self.lacks.values())

    def test_keys_are_those_of_the_recording(self, example: Differentiable) -> None:
        """Each gradient has its value's shape and type; the floating values without one are those expected."""
        model, feeds, _, gradients = self.found(example)
        values = self.recorded(model, feeds).values
        assert gradients.keys() <= values.keys()
        for key, gradient in gradients.items():
            assert type(gradient) is np.ndarray
            assert (gradient.shape, gradient.dtype) == (values[key].shape, values[key].dtype), key
            assert np.isfinite(gradient).all(), key
        floating = {
            key for key, value in values.items() if _floating(value) and not key.startswith("constant:")
        }
        missing = floating - gradients.keys()
        assert missing == set(example.absent), f"without a gradient: {sorted(missing)}"
        assert set(example.present) <= gradients.keys()
        assert all(gradients[key].any() for key in example.present)

    # What they are -----------------------------------------------------------------------------------------------

    def test_known_gradients_are_exact(self, known: Differentiable) -> None:
        """Of a model that is linear in each of its parts, and of a rule that is not that of the formula: bit for bit."""
        model, feeds, cotangents, gradients = self.found(known)
        assert known.expected is not None
        expected = known.expected(feeds, self.adapter().parameters(model), cotangents)
        assert expected and expected.keys() <= gradients.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(gradients[key], array, err_msg=key)

    def test_gradients_are_owned_and_scale_with_the_cotangent(self, example: Differentiable) -> None:
        """They share no memory with the caller's arrays or the model; -2 times the cotangent gives them times -2, exactly."""
        model, feeds, cotangents, gradients = self.found(example)
        others = [*feeds.values(), *cotangents.values()]
        copies = {key: gradient.copy() for key, gradient in gradients.items()}
        for gradient in gradients.values():
            assert not any(np.shares_memory(gradient, other) for other in others)
            gradient[...] = 7
        scaled = {path: (-2 * array).astype(array.dtype) for path, array in cotangents.items()}
        again = self.adapter().gradients(model, feeds, scaled)
        assert again.keys() == copies.keys()
        for key, gradient in copies.items():
            np.testing.assert_array_equal(again[key], -2 * gradient, err_msg=key)

    def test_outputs_add_up(self, two_outputs: Differentiable) -> None:
        """The gradient of both cotangents is the sum of those of each; an output without a cotangent counts as zero."""
        model, feeds, cotangents, gradients = self.found(two_outputs)
        assert len(cotangents) == 2
        parts = [self.adapter().gradients(model, feeds, {path: array}) for path, array in cotangents.items()]
        assert parts[0].keys() | parts[1].keys() == gradients.keys()
        assert any(key in parts[0] and key in parts[1] for key in gradients)
        for key, gradient in gradients.items():
            total = sum((part[key] for part in parts if key in part), np.zeros_like(gradient))
            np.testing.assert_allclose(total, gradient, rtol=1e-5, atol=1e-6 * _scale(gradient), err_msg=key)

    @pytest.mark.parametrize("part", ["input:", "parameter:"])
    def test_gradients_are_central_differences(self, smooth: Differentiable, part: str) -> None:
        """Of the outputs in float64, along random directions of all inputs, and of all parameters.

        The step is what float32 makes of it, so only the third derivative is left of the error.
        """
        model, feeds, cotangents, gradients = self.found(smooth, float64=True)
        values, rng = self._values(model, feeds), np.random.default_rng(3)
        moving = {key: array for key, array in values.items() if key.startswith(part) and key in gradients}
        assert moving
        steps = {key: (STEP * rng.choice([-1.0, 1.0], array.shape)) for key, array in moving.items()}
        ends = [{k: (a + sign * steps[k]).astype(a.dtype) for k, a in moving.items()} for sign in (1, -1)]
        up, down = (self._sum(model, feeds, cotangents, end) for end in ends)
        terms = [
            gradients[key] * (ends[0][key].astype(np.float64) - ends[1][key].astype(np.float64))
            for key in moving
        ]
        predicted = float(sum(term.sum() for term in terms))
        room = 1e-5 * float(sum(np.abs(term).sum() for term in terms))
        assert abs((up - down) - predicted) <= room, f"{up - down} instead of {predicted}, +- {room}"

    def _names(self, model: Any, feeds: Arrays) -> dict[str, str]:
        """Names of the inputs by key."""
        ports = self.recorded(model, feeds).inputs
        return {port.value: name for name, port in zip(feeds, ports, strict=True)}

    def _values(self, model: Any, feeds: Arrays) -> Arrays:
        """Inputs and parameters by key."""
        inputs = {key: feeds[name] for key, name in self._names(model, feeds).items()}
        return {**inputs, **{parameter_key(n): a for n, a in self.adapter().parameters(model).items()}}

    def _sum(self, model: Any, feeds: Arrays, cotangents: Arrays, changed: Arrays) -> float:
        """The sum over outputs of ``output * cotangent`` in float64, with some values exchanged."""
        adapter, names = self.adapter(), self._names(model, feeds)
        before = adapter.parameters(model)
        feeds = {**feeds, **{names[key]: array for key, array in changed.items() if key in names}}
        adapter.assign(model, {n: changed.get(parameter_key(n), array) for n, array in before.items()})
        try:
            outputs = adapter.float64_outputs(model, feeds)
        finally:
            adapter.assign(model, before)
        return float(
            sum((outputs[path] * weight.astype(np.float64)).sum() for path, weight in cotangents.items())
        )

    def test_float64_is_the_same_and_finer(self, wide: Differentiable) -> None:
        """The same keys and shapes, in float64, near those of float32, and not merely those widened."""
        model, feeds, cotangents, gradients = self.found(wide)
        finer = self.adapter().gradients(model, feeds, cotangents, float64=True)
        assert finer.keys() == gradients.keys()
        for key, gradient in gradients.items():
            assert finer[key].shape == gradient.shape
            assert finer[key].dtype == np.float64
            np.testing.assert_allclose(
                finer[key], gradient, rtol=1e-3, atol=2e-5 * _scale(gradient), err_msg=key
            )
        if wide.kind == "smooth":
            assert any((finer[key].astype(np.float32) != finer[key]).any() for key in finer)

    # The caller's things -----------------------------------------------------------------------------------------

    def test_nothing_of_the_callers_changes(self, example: Differentiable) -> None:
        """Neither model, flags, mode, inputs nor random state; and a second call gives the same bits."""
        model, feeds = example.build(), example.feeds()
        cotangents = self.cotangents(model, feeds)
        given = {path: array.copy() for path, array in cotangents.items()}
        with self.unchanged(model, feeds):
            first = self.adapter().gradients(model, feeds, cotangents)
            again = self.adapter().gradients(model, feeds, cotangents)
            if example.float64:
                self.adapter().gradients(model, feeds, cotangents, float64=True)
        assert all(np.array_equal(given[path], cotangents[path]) for path in given)
        assert first.keys() == again.keys()
        assert all(np.array_equal(first[key], again[key]) for key in first)

    def test_what_cannot_be_differentiated_says_so(self, refused: Differentiable) -> None:
        """A model that raises gives its own error with its place; one that cannot be differentiated a reason."""
        model, feeds = refused.build(), refused.feeds()
        kind = RunError if refused.kind == "raises" else Unsupported
        shape = (2, 3)
        if refused.kind == "unsupported":
            shape = next(iter(self.adapter().predict(model, feeds).values())).shape
        with self.unchanged(model, feeds), pytest.raises(kind, match=re.escape(refused.says)) as caught:
            self.adapter().gradients(model, feeds, {"0": np.ones(shape, np.float32)})
        assert refused.kind != "raises" or caught.value.__cause__ is not None
        assert len(str(caught.value)) > 30
        good = next(example for example in self.examples() if example.kind == "smooth")
        assert self.found(good)[3]

    def test_cotangents_that_do_not_fit_are_refused(self, smooth: Differentiable) -> None:
        """With an error that users may catch."""
        model, feeds = smooth.build(), smooth.feeds()
        wrong = {path: array[..., :-1] for path, array in self.cotangents(model, feeds).items()}
        with self.unchanged(model, feeds), pytest.raises(PortingError, match=r"shape|size"):
            self.adapter().gradients(model, feeds, wrong)


def _floating(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name in ("bfloat16",)


def _scale(array: np.ndarray) -> float:
    return float(np.abs(array.astype(np.float64)).max()) if array.size else 0.0

"""Optimisers of the real frameworks: what they do, which rule is told from it, and planted differences found."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import optax
import pytest
import tensorflow as tf
import tf_keras
import torch

from porting_check.neutral.errors import InputError, Unsupported
from porting_check.numerics.optimizer_fit import fit, probe
from porting_check.numerics.optimizers import simulate
from porting_check.optimizing import compare_optimizers
from porting_check.recorder.registry import load_adapter

WEIGHT = [torch.nn.Parameter(torch.zeros(2))]
T, K, K2 = torch.optim, keras.optimizers, tf_keras.optimizers
PROBE = probe()

MAKERS = {
    "torch": lambda: T.Adam([torch.nn.Parameter(torch.ones(3))], 0.1),
    "tensorflow": lambda: K.Adam(0.1),
    "jax": lambda: optax.adam(0.1),
}


@pytest.mark.parametrize("framework", MAKERS)
def test_steps_follow_the_textbook_in_both_precisions(framework: str) -> None:
    adapter, optimizer = load_adapter(framework), MAKERS[framework]()
    assert adapter.owns_optimizer(optimizer)
    assert [n for n in MAKERS if load_adapter(n).owns_optimizer(optimizer)] == [framework]
    wide = adapter.optimizer_steps(optimizer, PROBE.parameters, PROBE.gradients, float64=True)
    single = adapter.optimizer_steps(optimizer, PROBE.parameters, PROBE.gradients)
    assert {a.dtype.name for step in wide for a in step.values()} == {"float64"}
    assert {a.dtype.name for step in single for a in step.values()} == {"float32"}
    assert all(a.flags.owndata for step in wide for a in step.values())
    found = fit(PROBE, wide)
    assert found is not None and found.rule.family == "adam"
    for name, array in simulate(found.rule, PROBE.parameters, PROBE.gradients)[-1].items():
        np.testing.assert_allclose(wide[-1][name], array, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(single[-1][name], array, rtol=1e-4, atol=1e-6)


def test_the_callers_torch_optimiser_is_left_as_it_is() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = T.SGD([weight], 0.1, momentum=0.9)
    weight.grad = torch.ones(3)
    optimizer.step()
    before = (
        weight.detach().clone(),
        optimizer.state[weight]["momentum_buffer"].clone(),
        torch.get_rng_state(),
    )
    load_adapter("torch").optimizer_steps(optimizer, PROBE.parameters, PROBE.gradients)
    assert torch.equal(weight, before[0])
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert len(optimizer.param_groups) == 1 and optimizer.param_groups[0]["params"] == [weight]


def test_the_callers_keras_optimiser_is_left_as_it_is() -> None:
    weight, optimizer = keras.Variable(np.ones(3)), K.SGD(0.1, momentum=0.9)
    optimizer.apply_gradients([(tf.ones(3), weight)])
    before = [np.array(v) for v in optimizer.variables]
    load_adapter("tensorflow").optimizer_steps(optimizer, PROBE.parameters, PROBE.gradients)
    assert len(before) == len(optimizer.variables)
    assert all((np.array(v) == b).all() for v, b in zip(optimizer.variables, before, strict=True))


def test_the_options_of_torch_groups_count_where_they_agree() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    alike = T.SGD([{"params": [w], "lr": 0.5} for w in weights], lr=0.1)
    other = T.SGD([{"params": [w], "lr": lr} for w, lr in zip(weights, (0.5, 0.2), strict=True)], lr=0.1)
    rates = [
        float(load_adapter("torch").optimizer_steps(o, {"w": np.zeros(1)}, [{"w": np.ones(1)}])[0]["w"][0])
        for o in (alike, other)
    ]
    assert rates == pytest.approx([-0.5, -0.1])


class Halved(T.Optimizer):
    """Somebody's own, whose constructor takes no options by name."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.parameters(), {"lr": 0.1})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data -= group["lr"] / 2 * p.grad


def test_somebodys_own_torch_optimiser_steps_too_and_a_closure_is_refused() -> None:
    made = load_adapter("torch").optimizer_steps(
        Halved(torch.nn.Linear(1, 1)), {"w": np.zeros(1)}, [{"w": np.ones(1)}], float64=True
    )
    assert made[0]["w"][0] == pytest.approx(-0.05)
    with pytest.raises(Unsupported, match="LBFGS"):
        compare_optimizers(T.LBFGS(WEIGHT), T.SGD(WEIGHT, 0.1))


class Coarse(T.SGD):
    """Right in float64; in float32 it rounds gradients to bfloat16."""

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            p.grad = p.grad.bfloat16().float() if p.dtype == torch.float32 else p.grad
        super().step()


def test_an_optimiser_that_is_right_in_float64_only_is_no_pass() -> None:
    result = compare_optimizers(T.SGD(WEIGHT, 0.1), Coarse(WEIGHT, 0.1))
    assert (result.verdict, result.step, result.exit_status) == ("inconclusive", None, 4)
    assert result.candidate.float32_units > 1000 > 16 > result.reference.float32_units
    assert "less than float32" in result.explanation
    assert result.section().verdict == "inconclusive"


SAME = {
    "adam: optax and torch": lambda: (optax.adam(1e-3), T.Adam(WEIGHT, 1e-3)),
    "adamw: optax and torch": lambda: (optax.adamw(1e-3, weight_decay=0.01), T.AdamW(WEIGHT, 1e-3)),
    "adam: Keras 3 and Keras 2": lambda: (K.Adam(1e-3), K2.Adam(1e-3)),
    "adam: Keras 3 and legacy": lambda: (K.Adam(1e-3), K2.legacy.Adam(1e-3)),
    "sgd with momentum: Keras and torch": lambda: (
        K.SGD(0.01, momentum=0.9),
        T.SGD(WEIGHT, 0.01, momentum=0.9),
    ),
    "Nesterov: Keras and torch": lambda: (
        K.SGD(0.01, momentum=0.9, nesterov=True),
        T.SGD(WEIGHT, 0.01, momentum=0.9, nesterov=True),
    ),
    "rmsprop: Keras and optax": lambda: (
        K.RMSprop(1e-3, rho=0.9, epsilon=1e-7),
        optax.rmsprop(1e-3, decay=0.9, eps=1e-7),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_rule_in_two_frameworks_is_equivalent(name: str) -> None:
    result = compare_optimizers(*SAME[name]())
    assert result.verdict == "equivalent", str(result)
    assert (result.ok, result.step, result.cause, result.causes, result.exit_status) == (
        True,
        None,
        "",
        (),
        0,
    )
    assert result.reference.rule and result.candidate.rule
    assert max(result.reference.float32_units, result.candidate.float32_units) < 16


PLANTED = {
    "adam-eps-hat": lambda: (K.Adam(1e-3), T.Adam(WEIGHT, 1e-3, eps=1e-7)),
    "weight-decay-kind": lambda: (
        optax.adamw(1e-3, weight_decay=0.01),
        T.Adam(WEIGHT, 1e-3, weight_decay=0.01),
    ),
    "rmsprop-eps": lambda: (K.RMSprop(1e-3, epsilon=1e-3), T.RMSprop(WEIGHT, 1e-3, alpha=0.9, eps=1e-3)),
    "nesterov": lambda: (K.SGD(0.01, momentum=0.9, nesterov=True), T.SGD(WEIGHT, 0.01, momentum=0.9)),
    "learning-rate": lambda: (optax.adam(1e-3), T.Adam(WEIGHT, 2e-3)),
    "amsgrad": lambda: (
        T.Adam(WEIGHT, 1e-3, betas=(0.9, 0.95), amsgrad=True),
        T.Adam(WEIGHT, 1e-3, betas=(0.9, 0.95)),
    ),
    "grad-clip-kind": lambda: (K.SGD(0.01, momentum=0.9, clipnorm=1.0), T.SGD(WEIGHT, 0.01, momentum=0.9)),
    "optimizer-kind": lambda: (K.Adam(1e-3), T.SGD(WEIGHT, 0.01)),
}


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_difference_is_found_by_its_id(cause: str) -> None:
    result = compare_optimizers(*PLANTED[cause]())
    assert (result.verdict, result.step, result.cause) == (
        "divergent",
        1 if cause != "amsgrad" else result.step,
        cause,
    )
    assert [c.id for c in result.causes] == [cause]
    assert result.proven is (cause != "optimizer-kind")


def test_keras_and_torch_adam_with_their_defaults_differ_in_two_ways_that_matter_for_small_gradients() -> (
    None
):
    result = compare_optimizers(K.Adam(1e-3), T.Adam(WEIGHT, 1e-3))
    assert {c.id for c in result.causes} == {"adam-eps-hat", "epsilon"}
    assert result.proven
    ratios = {row["gradient"]: row["ratio"] for row in result.rows}
    assert ratios[min(ratios)] > 100
    assert ratios[max(ratios)] == pytest.approx(
        1, abs=2e-5
    )  # Keras rounds beta_2 to float32 in its correction: 7e-6
    said = str(result)
    assert (
        said.startswith("DIVERGENT")
        and "[adam-eps-hat]" in said
        and 'before the bias correction ("epsilon hat")' in said
    )
    assert json.loads(result.to_json())["cause"] == "adam-eps-hat"
    section = result.section()
    assert (section.id, section.verdict, len(section.rows)) == ("optimizers", "divergent", len(result.rows))


def test_where_momentum_takes_the_rate_shows_when_a_schedule_changes_it() -> None:
    """Equal steps at a constant rate, with a note; other ones when the rate falls: Keras against optax."""
    constant = compare_optimizers(K.SGD(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9))
    assert constant.ok and any("momentum-lr-coupling" in note for note in constant.notes)
    falling = compare_optimizers(
        K.SGD(K.schedules.PiecewiseConstantDecay([1], [0.1, 0.01]), momentum=0.9),
        optax.sgd(optax.piecewise_constant_schedule(0.1, {2: 0.1}), momentum=0.9),
    )
    assert (falling.verdict, falling.step, falling.cause, falling.proven) == (
        "divergent",
        3,
        "momentum-lr-coupling",
        True,
    )


def test_weights_that_do_not_decay_are_noted() -> None:
    def matrices(params: Any) -> Any:
        return {name: array.ndim > 1 for name, array in params.items()}

    result = compare_optimizers(
        optax.adamw(1e-3, weight_decay=0.01), optax.adamw(1e-3, weight_decay=0.01, mask=matrices)
    )
    assert (result.verdict, result.cause, result.proven) == ("divergent", "weight-decay-kind", False)
    assert "candidate does not decay parameters of one axis" in result.explanation


def test_an_unknown_rule_is_compared_all_the_same() -> None:
    result = compare_optimizers(optax.lion(1e-3), optax.lion(1e-3))
    assert result.ok and result.reference.rule == ""
    other = compare_optimizers(T.Adamax(WEIGHT, 1e-3), T.Adamax(WEIGHT, 1.1e-3))
    assert (other.verdict, other.cause, other.proven) == ("divergent", "unknown", False)
    assert "no rule that is known here" in other.explanation


def test_what_is_no_optimiser_is_refused_with_what_would_be_one() -> None:
    with pytest.raises(Unsupported, match=r"candidate is a builtins\.int.*torch\.optim\.Optimizer"):
        compare_optimizers(optax.adam(1e-3), 3)
    with pytest.raises(InputError, match="steps=0"):
        compare_optimizers(optax.adam(1e-3), optax.adam(1e-3), steps=0)
    with pytest.raises(TypeError, match=r"result\.ok"):
        bool(compare_optimizers(T.SGD(WEIGHT, 0.1), T.SGD(WEIGHT, 0.1), steps=1))

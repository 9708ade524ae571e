"""Rules of optimisers as data: their steps against the papers' formulas, and the rule told from steps alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.diagnosis.optimizer_fixes import fix
from porting_check.diagnosis.optimizers import causes, proven
from porting_check.numerics.optimizer_fit import fit, probe, short
from porting_check.numerics.optimizers import Rule, clipped, flat, simulate, unflat

PROBE = probe()
ADAM = Rule(family="adam", rates=(1e-3,), beta_1=0.9, beta_2=0.999, epsilon=1e-8, corrected=True)
MOMENTUM = Rule(family="sgd", rates=(0.01,), momentum=0.9)
RMSPROP = Rule(family="rmsprop", rates=(0.01,), beta_2=0.9, epsilon=1e-7, placement="inside")


def steps(rule, given=PROBE):
    return simulate(rule, given.parameters, given.gradients)


def told(rule, given=PROBE):
    found = fit(given, steps(rule, given))
    assert found is not None, rule
    return found.rule


def test_two_steps_of_adam_are_those_of_the_paper():
    gradients, m, v, p = (0.3, -0.2), 0.0, 0.0, 1.0
    made = simulate(ADAM, {"w": np.ones(1)}, [{"w": np.full(1, g)} for g in gradients])
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p -= 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert made[t - 1]["w"][0] == pytest.approx(p, rel=1e-15)


def test_epsilon_hat_is_epsilon_over_the_root_of_the_correction():
    """Section 2 of Kingma and Ba: the efficient form has the same steps with epsilon / sqrt(1 - beta_2^t)."""
    hat = replace(ADAM, placement="hat", epsilon=1e-6)
    first = simulate(replace(ADAM, epsilon=1e-6 / np.sqrt(1e-3)), PROBE.parameters, PROBE.gradients[:1])
    for name, array in simulate(hat, PROBE.parameters, PROBE.gradients[:1])[0].items():
        np.testing.assert_allclose(array, first[0][name], rtol=1e-12)


def test_coupled_and_decoupled_decay_are_one_function_without_momentum_only():
    coupled = Rule(family="sgd", rates=(0.1,), decay="coupled", weight_decay=0.01)
    decoupled = replace(coupled, decay="decoupled")
    np.testing.assert_allclose(steps(coupled)[-1]["still"], steps(decoupled)[-1]["still"], rtol=1e-14)
    one, other = (steps(replace(rule, momentum=0.9))[-1]["still"] for rule in (coupled, decoupled))
    assert np.abs(one - other).max() > 1e-3


def test_where_momentum_takes_the_rate_shows_only_when_the_rate_changes():
    inside = replace(MOMENTUM, rate_inside=True)
    np.testing.assert_allclose(steps(MOMENTUM)[-1]["noise"], steps(inside)[-1]["noise"], rtol=1e-13)
    rates = (0.1, 0.1, 0.01, 0.01, 0.01)
    one, other = (steps(replace(rule, rates=rates)) for rule in (MOMENTUM, inside))
    np.testing.assert_allclose(one[1]["noise"], other[1]["noise"], rtol=1e-13)
    assert np.abs(one[2]["noise"] - other[2]["noise"]).max() > 1e-2
    assert told(replace(inside, rates=rates)).rate_inside
    assert not told(replace(MOMENTUM, rates=rates)).rate_inside


def test_clipping_by_value_by_norm_and_by_the_norm_of_all():
    given = {"a": np.array([3.0, 4.0]), "b": np.array([0.3])}
    by = {
        kind: clipped(replace(ADAM, clip=kind, clip_at=1.0), given)
        for kind in ("value", "norm", "global norm")
    }
    assert by["value"]["a"].tolist() == [1.0, 1.0]
    assert by["norm"]["a"] == pytest.approx([0.6, 0.8])
    assert by["norm"]["b"].tolist() == [0.3]
    assert np.linalg.norm([*by["global norm"]["a"], *by["global norm"]["b"]]) == pytest.approx(1.0)


RULES = {
    "sgd": Rule(family="sgd", rates=(0.1,)),
    "sgd coupled": replace(MOMENTUM, decay="coupled", weight_decay=1e-4),
    "sgd nesterov decoupled": replace(MOMENTUM, nesterov=True, decay="decoupled", weight_decay=0.05),
    "adam": ADAM,
    "adam hat": replace(ADAM, placement="hat", epsilon=1e-7),
    "adam inside": replace(ADAM, placement="inside", epsilon=1e-10),
    "adamw": replace(ADAM, decay="decoupled", weight_decay=0.01),
    "adam l2": replace(ADAM, decay="coupled", weight_decay=0.01),
    "amsgrad before": replace(ADAM, beta_2=0.95, amsgrad="before"),
    "amsgrad after": replace(ADAM, beta_2=0.95, amsgrad="after"),
    "adam uncorrected": replace(ADAM, corrected=False),
    "rmsprop inside": RMSPROP,
    "rmsprop outside": replace(RMSPROP, placement="outside"),
    "rmsprop centred": replace(RMSPROP, centered=True, momentum=0.9),
    "adagrad": Rule(family="adagrad", rates=(0.01,), epsilon=1e-10),
    "sgd clipped": replace(MOMENTUM, clip="norm", clip_at=1.0),
    "adam clipped": replace(ADAM, clip="global norm", clip_at=1.0),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_told_from_its_steps(name):
    assert told(RULES[name]) == RULES[name]


@given(
    rate=st.floats(1e-4, 0.1),
    momentum=st.floats(0.3, 0.97),
    nesterov=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=8, deadline=None)
def test_any_momentum_is_told(rate, momentum, nesterov, seed):
    rule = Rule(family="sgd", rates=(rate,), momentum=momentum, nesterov=nesterov)
    found = told(rule, probe(6, seed))
    assert (found.family, found.nesterov) == ("sgd", nesterov)
    assert found.momentum == pytest.approx(momentum, abs=1e-3)
    assert found.rates[0] == pytest.approx(rate, rel=1e-3)


@given(
    rate=st.floats(1e-5, 1e-2),
    beta_1=st.floats(0.7, 0.97),
    beta_2=st.floats(0.9, 0.9995),
    epsilon=st.sampled_from([1e-8, 1e-7, 1e-6, 1e-4]),
    placement=st.sampled_from(["outside", "hat"]),
)
@settings(max_examples=8, deadline=None)
def test_any_adam_is_told(rate, beta_1, beta_2, epsilon, placement):
    rule = replace(ADAM, rates=(rate,), beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, placement=placement)
    found = told(rule)
    assert (found.family, found.placement, found.amsgrad) == ("adam", placement, "")
    assert found.beta_2 == pytest.approx(beta_2, abs=1e-3)
    assert found.epsilon == pytest.approx(epsilon, rel=1e-2)


def test_what_follows_no_known_rule_is_not_given_one():
    """Lion: the sign of a mixture of gradient and momentum."""
    now, m, made = PROBE.parameters, {k: np.zeros_like(v) for k, v in PROBE.parameters.items()}, []
    for g in PROBE.gradients:
        now = {k: now[k] - 1e-3 * np.sign(0.9 * m[k] + 0.1 * g[k]) for k in now}
        m = {k: 0.99 * m[k] + 0.01 * g[k] for k in now}
        made.append(now)
    assert fit(PROBE, made) is None
    assert fit(PROBE, made[:2]) is None
    broken = [{**step, "noise": np.full_like(step["noise"], np.nan)} for step in steps(ADAM)]
    assert fit(PROBE, broken) is None


PLANTED = {
    "weight-decay-kind": (replace(ADAM, decay="decoupled", weight_decay=0.01), RULES["adam l2"]),
    "adam-eps-hat": (RULES["adam hat"], replace(ADAM, epsilon=1e-7)),
    "rmsprop-eps": (RMSPROP, replace(RMSPROP, placement="outside")),
    "nesterov": (replace(MOMENTUM, nesterov=True), MOMENTUM),
    "amsgrad": (RULES["amsgrad after"], replace(ADAM, beta_2=0.95)),
    "bias-correction": (ADAM, replace(ADAM, corrected=False)),
    "learning-rate": (ADAM, replace(ADAM, rates=(2e-3,))),
    "momentum": (MOMENTUM, replace(MOMENTUM, momentum=0.99)),
    "betas": (ADAM, replace(ADAM, beta_2=0.99)),
    "epsilon": (ADAM, replace(ADAM, epsilon=1e-6)),
    "grad-clip-kind": (RULES["adam clipped"], replace(ADAM, clip="norm", clip_at=1.0)),
    "accumulator": (RULES["adagrad"], replace(RULES["adagrad"], initial=0.1)),
}


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_difference_is_the_only_cause_and_proven(cause):
    reference, candidate = PLANTED[cause]
    found = causes(PROBE, reference, candidate)
    assert [c.id for c in found] == [cause]
    assert found[0].explains == pytest.approx(1.0)
    assert proven(PROBE, reference, candidate, found)
    assert not proven(PROBE, reference, candidate, ())


def test_of_two_differences_the_larger_comes_first_and_one_alone_proves_nothing():
    candidate = replace(ADAM, rates=(2e-3,), epsilon=1e-9)
    found = causes(PROBE, ADAM, candidate)
    assert [c.id for c in found] == ["learning-rate", "epsilon"]
    assert not proven(PROBE, ADAM, candidate, found[:1])
    assert proven(PROBE, ADAM, candidate, found)


def test_other_families_are_one_cause_and_equal_rules_none():
    assert [c.id for c in causes(PROBE, ADAM, MOMENTUM)] == ["optimizer-kind"]
    assert causes(PROBE, ADAM, ADAM) == ()


def test_fixes_are_written_for_the_candidates_framework():
    decay = PLANTED["weight-decay-kind"][0]
    assert (
        fix("weight-decay-kind", "torch", decay)
        == "torch.optim.AdamW(parameters, lr=0.001, weight_decay=0.01)"
    )
    assert "L2(0.005)" in fix("weight-decay-kind", "tensorflow", RULES["adam l2"])
    assert "add_decayed_weights(0.01)" in fix("weight-decay-kind", "jax", RULES["adam l2"])
    assert fix("learning-rate", "onnxruntime", ADAM) == ""


def test_rows_and_arrays_are_inverse_and_short_decimals_are_found():
    names = list(PROBE.parameters)
    back = unflat(flat(PROBE.parameters, names), PROBE.parameters)
    assert all((back[name] == PROBE.parameters[name]).all() for name in names)
    assert short(0.00099999993, 1e-6) == 0.001
    assert short(0.12345678, 1e-12) == 0.12345678

"""One training step of batch normalisation: what is fed, what is solved for, and what is said of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.trace import Record
from porting_check.numerics.batch_norm import (
    BATCH,
    POSITIONS,
    Statistics,
    Update,
    arranged,
    batch_statistics,
    fed,
    normalized_by,
    positions_of,
    solve,
)
from porting_check.training_words import answer, lesson, notes

C = 5
RUNNING = Statistics(np.linspace(-1, 1, C), np.linspace(0.5, 2, C))
BN = Record("bn1", 0, "torch.nn.functional.batch_norm", (), ())


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def stepped(before, positions, keep, correction):
    """What a framework's float32 layer leaves behind."""
    batch = batch_statistics(positions)
    mean = keep * before.mean + (1 - keep) * batch.mean
    var = keep * before.var + (1 - keep) * correction * batch.var
    return Statistics(*(np.asarray(a, np.float32).astype(np.float64) for a in (mean, var)))


@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_positions_keep_their_statistics_in_every_rank(ndim):
    rows = noise(POSITIONS, C)
    made = arranged(rows, ndim)
    assert made.ndim == ndim
    assert made.shape[1] == C
    assert ndim == 2 or made.shape[0] == BATCH
    np.testing.assert_array_equal(positions_of(made), rows)


def test_a_large_input_is_sampled_and_a_small_one_filled_up():
    large, said = fed(noise(2, C, 20, 30), RUNNING)
    assert large.shape == (POSITIONS, C)
    assert said == ()
    small, said = fed(noise(1, C), RUNNING)
    assert small.shape == (POSITIONS, C)
    assert "1 positions" in said[0] and "noise" in said[0]
    again, _ = fed(noise(1, C), RUNNING)
    np.testing.assert_array_equal(small, again)
    assert batch_statistics(small).var.min() > 0


def test_an_input_whose_mean_is_the_running_mean_is_shifted():
    x = noise(4, C, 8, 8)
    chosen, _ = fed(x, Statistics(np.full(C, 9.0), np.ones(C)))
    _, said = fed(x, batch_statistics(chosen))
    assert any("shifted" in text for text in said)


def test_a_layer_without_any_spread_is_still_fed_something_that_tells():
    positions, _ = fed(np.zeros((1, C, 3, 3)), Statistics(np.zeros(C), np.zeros(C)))
    assert (
        solve(RUNNING, stepped(RUNNING, positions, 0.9, 1.0), batch_statistics(positions), POSITIONS).keep
        == 0.9
    )


@given(
    keep=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 0.997, 0.999]),
    unbiased=st.booleans(),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.05, 1.0, 30.0]),
)
@settings(max_examples=60, deadline=None)
def test_momentum_and_variance_are_found_from_float32_statistics(keep, unbiased, seed, scale):
    positions, _ = fed(scale * noise(4, C, 8, 8, seed=seed), RUNNING, seed)
    after = stepped(RUNNING, positions, keep, POSITIONS / (POSITIONS - 1) if unbiased else 1.0)
    found = solve(RUNNING, after, batch_statistics(positions), POSITIONS)
    assert found.keep == pytest.approx(keep, abs=1e-4)
    kind = "unbiased" if unbiased else "biased"
    # A batch of a deviation of 0.05 beside running variances of 1 is lost in float32's rounding, and that is said.
    assert found.variance in ((kind, "unknown") if scale < 1 else (kind,))


def test_frozen_statistics_and_another_rule_are_told():
    batch = batch_statistics(noise(POSITIONS, C))
    assert solve(RUNNING, RUNNING, batch, POSITIONS) == Update(1.0, "")
    mixed = Statistics(RUNNING.mean + np.linspace(0.1, 0.9, C) * (batch.mean - RUNNING.mean), RUNNING.var)
    assert solve(RUNNING, mixed, batch, POSITIONS).keep is None
    third = stepped(RUNNING, noise(POSITIONS, C), 0.9, 1.3)
    assert solve(RUNNING, third, batch, POSITIONS).variance == "unknown"


def test_the_truth_of_an_output_and_its_limit():
    x = noise(POSITIONS, C)
    y, limit = normalized_by(x, batch_statistics(x), np.ones(C), np.zeros(C), 0.0)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-12)
    single = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    assert (np.abs(single - y) <= limit).all()
    assert limit.max() < 1e-3


def side(keep, variance="biased", mode="batch"):
    return SimpleNamespace(mode=mode, ratio=0.1, update=Update(keep, variance))


def test_a_swapped_momentum_is_named_and_mended():
    told = lesson(side(0.9), side(0.1, "unbiased"), BN, "torch", 1568)
    assert (told.cause, told.decides) == ("bn-momentum", True)
    assert told.fix == 'model.get_submodule("bn1").momentum = 0.1'
    assert "1 minus the other" in told.explanation
    assert told.larger_by == pytest.approx(1 / 1567)
    assert "1 minus" not in lesson(side(0.9), side(0.97), BN, "torch", 9).explanation


def test_the_variance_alone_never_decides_and_has_its_size():
    told = lesson(side(0.9), side(0.9, "unbiased"), BN, "torch", 32)
    assert (told.cause, told.decides, told.fix) == ("bn-unbiased-var", False, "")
    assert told.larger_by == pytest.approx(1 / 31)
    back = lesson(side(0.9, "unbiased"), side(0.9), BN, "jax", 32)
    assert back.larger_by == pytest.approx(-1 / 32)
    assert lesson(side(0.9), side(0.9, "unknown"), BN, "torch", 32).cause == ""


def test_a_frozen_layer_is_another_training_mode():
    told = lesson(side(1.0, "", "running"), side(0.9), BN, "torch", 32)
    assert told.cause == "bn-train-mode"
    assert told.fix.startswith('model.get_submodule("bn1").eval()')
    assert "trainable = True" in lesson(side(0.9), side(1.0, "", "running"), BN, "tensorflow", 32).fix


def row(**given):
    base = {
        "reference": "bn",
        "candidate": "bn1",
        "verdict": "the same",
        "cause": "",
        "explanation": "",
        "fix": "",
    }
    return {**base, "decides": False, "larger_by": 0.0, **given}


def test_the_answer_says_the_gravest_first():
    assert "nothing was trained" in answer([])
    assert "could be trained alone" in answer([row(verdict="not trained")])
    assert "are the same" in answer([row()])
    stored = row(verdict="divergent in training", cause="bn-unbiased-var", larger_by=0.03)
    assert "3.00%" in answer([row(), stored])
    wrong = row(verdict="divergent in training", cause="bn-momentum", explanation="keeps 0.1", decides=True)
    assert answer([stored, wrong]).startswith("1 of 2")
    assert any("no option changes it" in text for text in notes([stored], False))
    assert any("training=True" in text for text in notes([wrong], False))
    assert not any("training=True" in text for text in notes([wrong], True))

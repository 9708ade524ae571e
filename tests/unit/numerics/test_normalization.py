"""Normalisations in float64 against PyTorch and against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.numerics.operators import normalization
from tests.unit.numerics.close import FEW, assert_close, run

torch = pytest.importorskip("torch")
functional = torch.nn.functional
seeds, ranks = st.integers(0, 2**31), st.integers(0, 3)


def features(seed: int, rank: int, channels: int = 6) -> tuple[np.ndarray, ...]:
    """A tensor (N, C, …) with a mean far from zero, and four vectors per channel (the last positive)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, channels, *rng.integers(1, 6, rank))) * 2 + 30
    scale, shift, mean = rng.standard_normal((3, channels))
    return x, scale, shift, mean, rng.random(channels) + 1e-3


def tensors(*arrays: np.ndarray) -> list[object]:
    return [torch.from_numpy(item) for item in arrays]


@FEW
@given(seeds, ranks, st.sampled_from([1e-5, 1e-3]), st.sampled_from([1, 1 << 15]))
def test_batch_normalization_is_that_of_torch(seed: int, rank: int, epsilon: float, cached: int) -> None:
    x, scale, shift, mean, var = features(seed, rank)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalization, "CACHED", cached)
        (found,) = run("BatchNormalization", [x, scale, shift, mean, var], epsilon=epsilon)
    tx, tscale, tshift, tmean, tvar = tensors(x, scale, shift, mean, var)
    assert_close(found, functional.batch_norm(tx, tmean, tvar, tscale, tshift, eps=epsilon))


def test_training_mode_uses_and_returns_the_statistics_of_the_batch() -> None:
    x, scale, shift, mean, var = features(0, 2)
    found = run("BatchNormalization", [x, scale, shift, mean, var], 3, training_mode=1, momentum=0.8)
    axes = (0, 2, 3)
    assert_close(found[0], functional.batch_norm(*tensors(x), None, None, *tensors(scale, shift), True))
    assert_close(found[1], 0.8 * mean + 0.2 * x.mean(axes))
    assert_close(found[2], 0.8 * var + 0.2 * x.var(axes))


@FEW
@given(seeds, st.integers(1, 3), st.sampled_from([1e-12, 1e-6, 1e-3]))
def test_layer_and_rms_normalization_are_those_of_torch(seed: int, axes: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, *(int(v) for v in rng.integers(2, 6, 3)))
    x, last = rng.standard_normal(shape) + 5, shape[-axes:]
    scale, shift = rng.standard_normal((2, *last))
    found, mean, inverse = run("LayerNormalization", [x, scale, shift], 3, axis=-axes, epsilon=epsilon)
    assert_close(found, functional.layer_norm(*tensors(x), last, *tensors(scale, shift), epsilon), 1e-10)
    over = tuple(range(-axes, 0))
    assert_close(mean, x.mean(over, keepdims=True))
    assert_close(inverse, 1 / np.sqrt(x.var(over, keepdims=True) + epsilon))
    (found,) = run("RMSNormalization", [x, scale], axis=-axes, epsilon=epsilon)
    assert_close(found, functional.rms_norm(*tensors(x), last, *tensors(scale), epsilon))


@FEW
@given(seeds, st.integers(1, 3), st.sampled_from([1, 2, 3, 6]))
def test_group_and_instance_normalization_are_those_of_torch(seed: int, rank: int, groups: int) -> None:
    x, scale, shift, *_ = features(seed, rank)
    if rank and np.prod(x.shape[2:]) == 1:
        return  # torch refuses an instance of a single value
    (found,) = run("GroupNormalization", [x, scale, shift], num_groups=groups)
    assert_close(found, functional.group_norm(torch.from_numpy(x), groups, *tensors(scale, shift)), 1e-10)
    (found,) = run("InstanceNormalization", [x, scale, shift])
    expected = functional.instance_norm(torch.from_numpy(x), weight=tensors(scale)[0], bias=tensors(shift)[0])
    assert_close(found, expected, 1e-10)


def test_scale_per_group_of_older_operator_sets_is_spread_over_channels() -> None:
    x, *_ = features(0, 2)
    scale, shift = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -0.5])
    (old,) = run("GroupNormalization", [x, scale, shift], num_groups=3)
    (new,) = run("GroupNormalization", [x, scale.repeat(2), shift.repeat(2)], num_groups=3)
    np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="num_groups"):
        run("GroupNormalization", [x, scale, shift], num_groups=4)


@FEW
@given(seeds, st.integers(1, 7), st.integers(1, 9))
def test_local_response_normalization_is_that_of_torch(seed: int, size: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, channels, 3, 4))
    if size % 2:
        (found,) = run("LRN", [x], size=size, alpha=0.1, beta=0.6, bias=1.5)
        assert_close(found, functional.local_response_norm(torch.from_numpy(x), size, 0.1, 0.6, 1.5))
    (found,) = run("LRN", [x], size=size, alpha=0.1, beta=0.6, bias=1.5)
    for c in range(channels):
        part = x[:, max(0, c - (size - 1) // 2) : min(channels - 1, c + size // 2) + 1]
        assert_close(found[:, c], x[:, c] / (1.5 + 0.1 / size * (part**2).sum(1)) ** 0.6)


@FEW
@given(seeds, st.sampled_from([1, 2]), st.integers(-3, 2))
def test_lp_normalization_divides_by_the_norm_and_keeps_zeros(seed: int, p: int, axis: int) -> None:
    x = np.random.default_rng(seed).standard_normal((2, 3, 4))
    expected = functional.normalize(torch.from_numpy(x), p=p, dim=axis, eps=0.0)
    assert_close(run("LpNormalization", [x], p=p, axis=axis)[0], expected)
    assert not run("LpNormalization", [np.zeros_like(x)], p=p, axis=axis)[0].any()


def test_mean_variance_normalization_standardizes_over_its_axes() -> None:
    x = features(0, 2)[0]
    (found,) = run("MeanVarianceNormalization", [x], axes=(0, 2, 3))
    assert_close(found.mean((0, 2, 3)), np.zeros(6), 1e-9)
    assert_close(found.std((0, 2, 3)), np.ones(6), 1e-8)

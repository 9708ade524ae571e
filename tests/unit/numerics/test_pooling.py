"""Pooling in float64 against PyTorch, on random configurations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.numerics.close import FEW, MORE, assert_close, run

torch = pytest.importorskip("torch")
functional = torch.nn.functional
seeds, ranks = st.integers(0, 2**31), st.integers(1, 3)


def geometry(rng: np.random.Generator, rank: int) -> tuple[tuple[int, ...], ...]:
    """Kernel, strides, pads (at most half the kernel, as torch asks) and sizes."""
    kernel = tuple(int(v) for v in rng.integers(1, 5, rank))
    strides = tuple(int(v) for v in rng.integers(1, 5, rank))
    pads = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    sizes = tuple(int(2 * k + v) for k, v in zip(kernel, rng.integers(0, 6, rank)))
    return kernel, strides, pads, sizes


@FEW
@given(seeds, ranks, st.booleans())
def test_max_pool_and_its_indices_are_those_of_torch(seed: int, rank: int, ceil_mode: bool) -> None:
    rng = np.random.default_rng(seed)
    kernel, strides, pads, sizes = geometry(rng, rank)
    dilations = tuple(int(v) for v in rng.integers(1, 3, rank))
    x = rng.standard_normal((2, 3, *sizes))
    found, indices = run(
        "MaxPool",
        [x],
        2,
        kernel_shape=kernel,
        strides=strides,
        pads=pads * 2,
        dilations=dilations,
        ceil_mode=int(ceil_mode),
    )
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    expected, places = pool(torch.from_numpy(x), kernel, strides, pads, dilations, ceil_mode, True)
    np.testing.assert_array_equal(found, expected.numpy())
    # torch counts within a channel, ONNX over the whole tensor.
    offsets = np.arange(6).reshape(2, 3, *[1] * rank) * np.prod(sizes)
    np.testing.assert_array_equal(indices, places.numpy() + offsets)


@MORE
@given(seeds, ranks, st.booleans(), st.booleans())
def test_average_pool_is_that_of_torch(seed: int, rank: int, ceil_mode: bool, include_pad: bool) -> None:
    rng = np.random.default_rng(seed)
    kernel, strides, pads, sizes = geometry(rng, rank)
    x = rng.standard_normal((2, 3, *sizes))
    (found,) = run(
        "AveragePool", [x], kernel_shape=kernel, strides=strides, pads=pads * 2, ceil_mode=int(ceil_mode),
        count_include_pad=int(include_pad),
    )  # fmt: skip
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank - 1]
    assert_close(found, pool(torch.from_numpy(x), kernel, strides, pads, ceil_mode, include_pad))


@FEW
@given(seeds, ranks)
def test_adaptive_pools_have_the_bins_of_torch(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, bins = rng.integers(1, 12, rank), tuple(int(v) for v in rng.integers(1, 9, rank))
    x = rng.standard_normal((2, 3, *sizes))
    names = [
        (f"adaptive_{kind}_pool{rank}d", op)
        for kind, op in (("avg", "AdaptiveAveragePool"), ("max", "AdaptiveMaxPool"))
    ]
    for name, op_type in names:
        assert_close(
            run(op_type, [x], output_size=bins)[0], getattr(functional, name)(torch.from_numpy(x), bins)
        )


def test_adaptive_pool_keeps_an_axis_of_size_zero_or_minus_one_and_takes_one_size_for_all() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 5))
    assert run("AdaptiveAveragePool", [x], output_size=(-1, 2))[0].shape == (1, 2, 6, 2)
    assert run("AdaptiveAveragePool", [x], output_size=3)[0].shape == (1, 2, 3, 3)


@FEW
@given(seeds, st.integers(1, 2), st.integers(1, 3))
def test_lp_pool_is_that_of_torch_for_positive_values(seed: int, rank: int, p: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, strides, _, sizes = geometry(rng, rank)
    x = rng.random((2, 3, *sizes)) + 0.1
    (found,) = run("LpPool", [x], kernel_shape=kernel, strides=strides, p=p)
    pool = (functional.lp_pool1d, functional.lp_pool2d)[rank - 1]
    size = (kernel[0], strides[0]) if rank == 1 else (kernel, strides)
    assert_close(found, pool(torch.from_numpy(x), p, *size))


@FEW
@given(seeds, ranks, st.sampled_from([1, 2, 3]))
def test_global_pools_reduce_all_spatial_axes(seed: int, rank: int, p: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, *rng.integers(1, 5, rank)))
    axes = tuple(range(2, rank + 2))
    assert_close(run("GlobalAveragePool", [x])[0], torch.from_numpy(x).mean(axes, keepdim=True))
    assert_close(run("GlobalMaxPool", [x])[0], torch.from_numpy(x).amax(axes, keepdim=True))
    norm = torch.linalg.vector_norm(torch.from_numpy(x), p, axes, keepdim=True)
    assert_close(run("GlobalLpPool", [x], p=p)[0], norm)


def test_padding_of_a_maximum_never_wins_and_nan_always_does() -> None:
    x = np.full((1, 1, 3), -5.0)
    np.testing.assert_array_equal(run("MaxPool", [x], kernel_shape=(3,), pads=(1, 1))[0], x)
    x[0, 0, 1] = np.nan
    assert np.isnan(run("MaxPool", [x], kernel_shape=(3,), pads=(1, 1))[0]).all()


def test_maximum_of_integers_stays_an_integer_and_pads_with_the_lowest() -> None:
    x = np.array([[[-100, -128, 3]]], np.int8)
    (found,) = run("MaxPool", [x], kernel_shape=(2,), pads=(1, 0))
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, [[[-100, -100, 3]]])


def test_a_window_over_same_padding_averages_real_values_only() -> None:
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    (found,) = run("AveragePool", [x], kernel_shape=(3,), strides=(2,), auto_pad="SAME_UPPER")
    np.testing.assert_allclose(found, [[[1.5, 3.0, 4.5]]])


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
def test_a_kernel_of_the_wrong_rank_is_refused(op_type: str) -> None:
    with pytest.raises(ValueError, match="kernel_shape"):
        run(op_type, [np.zeros((1, 1, 4, 4))], kernel_shape=(2,))
    with pytest.raises(ValueError, match="kernel_shape"):
        run(op_type, [np.zeros((1, 1, 4, 4))])

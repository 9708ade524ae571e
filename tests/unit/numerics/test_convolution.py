"""Conv and ConvTranspose in float64 against PyTorch, on random configurations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting_check.numerics.operators import convolution
from tests.unit.numerics.close import FEW, MORE, assert_close, run

torch = pytest.importorskip("torch")
functional = torch.nn.functional

configurations = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "rank": st.integers(1, 3),
        "batch": st.integers(1, 3),
        "groups": st.sampled_from([1, 1, 2, 3]),
        "inputs": st.integers(1, 4),
        "outputs": st.integers(1, 4),
        "bias": st.booleans(),
        "block": st.sampled_from([1, 64, 1 << 20]),
    }
)


def drawn(rng: np.random.Generator, rank: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(low, high + 1, rank))


@MORE
@given(configurations)
def test_conv_is_that_of_torch(configuration: dict[str, int]) -> None:
    c = configuration
    rng, rank, groups = np.random.default_rng(c["seed"]), c["rank"], c["groups"]
    kernel, strides = drawn(rng, rank, 1, 4), drawn(rng, rank, 1, 3)
    dilations, begins, ends = drawn(rng, rank, 1, 2), drawn(rng, rank, 0, 3), drawn(rng, rank, 0, 3)
    spatial = tuple(
        (k - 1) * d + 1 + int(extra) for k, d, extra in zip(kernel, dilations, rng.integers(0, 6, rank))
    )
    x = rng.standard_normal((c["batch"], c["inputs"] * groups, *spatial))
    w = rng.standard_normal((c["outputs"] * groups, c["inputs"], *kernel))
    b = rng.standard_normal(len(w)) if c["bias"] else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "BLOCK", c["block"])
        patch.setattr(convolution, "CACHED", c["block"])
        (found,) = run(
            "Conv", [x, w, b], strides=strides, dilations=dilations, pads=begins + ends, group=groups
        )
    widths = [amount for pair in zip(reversed(begins), reversed(ends)) for amount in pair]
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    padded = functional.pad(torch.from_numpy(x), widths)
    bias = None if b is None else torch.from_numpy(b)
    assert_close(found, convolve(padded, torch.from_numpy(w), bias, strides, 0, dilations, groups))


@FEW
@given(configurations)
def test_conv_transpose_is_that_of_torch(configuration: dict[str, int]) -> None:
    c = configuration
    rng, rank, groups = np.random.default_rng(c["seed"]), c["rank"], c["groups"]
    kernel, strides, dilations = drawn(rng, rank, 1, 4), drawn(rng, rank, 1, 3), drawn(rng, rank, 1, 2)
    crops = tuple(int(rng.integers(0, (k - 1) * d // 2 + 1)) for k, d in zip(kernel, dilations))
    extra = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(strides, dilations))
    x = rng.standard_normal((c["batch"], c["inputs"] * groups, *drawn(rng, rank, 2, 5)))
    w = rng.standard_normal((c["inputs"] * groups, c["outputs"], *kernel))
    b = rng.standard_normal(c["outputs"] * groups) if c["bias"] else None
    (found,) = run(
        "ConvTranspose",
        [x, w, b],
        strides=strides,
        dilations=dilations,
        pads=crops * 2,
        group=groups,
        output_padding=extra,
    )
    convolve = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[
        rank - 1
    ]
    bias = None if b is None else torch.from_numpy(b)
    expected = convolve(
        torch.from_numpy(x), torch.from_numpy(w), bias, strides, crops, extra, groups, dilations
    )
    assert_close(found, expected)


@FEW
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.sampled_from([-1, 1]))
def test_same_padding_of_conv_has_the_odd_pixel_on_the_named_side(
    n: int, k: int, s: int, d: int, side: int
) -> None:
    x, w = np.arange(1.0, n + 1).reshape(1, 1, n), np.arange(1.0, k + 1).reshape(1, 1, k)
    (found,) = run(
        "Conv", [x, w], auto_pad="SAME_UPPER" if side > 0 else "SAME_LOWER", strides=(s,), dilations=(d,)
    )
    total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
    begin, end = (total // 2, total - total // 2)[::side]
    (explicit,) = run("Conv", [x, w], pads=(begin, end), strides=(s,), dilations=(d,))
    assert found.shape == (1, 1, -(-n // s))
    np.testing.assert_array_equal(found, explicit)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_conv_transpose_is_the_gradient_of_the_same_conv(kernel: int, stride: int) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>: the definition of TensorFlow's transposed convolution."""
    rng = np.random.default_rng(kernel * 10 + stride)
    y = rng.standard_normal((2, 4, 6))
    x, w = rng.standard_normal((2, 3, 6 * stride)), rng.standard_normal((4, 3, kernel))
    (forward,) = run("Conv", [x, w], auto_pad="SAME_UPPER", strides=(stride,))
    (back,) = run("ConvTranspose", [y, w], auto_pad="SAME_UPPER", strides=(stride,))
    assert back.shape == x.shape
    assert (forward * y).sum() == pytest.approx((x * back).sum(), rel=1e-12)


def test_output_shape_of_conv_transpose_divides_the_surplus() -> None:
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
    (full,) = run("ConvTranspose", [x, w], strides=(2, 2))
    (lower,) = run("ConvTranspose", [x, w], strides=(2, 2), output_shape=(6, 6))
    (upper,) = run("ConvTranspose", [x, w], strides=(2, 2), output_shape=(6, 6), auto_pad="SAME_UPPER")
    np.testing.assert_array_equal(lower, full[:, :, 1:, 1:])
    np.testing.assert_array_equal(upper, full[:, :, :-1, :-1])


def test_negative_pads_crop_a_conv_and_extend_a_conv_transpose() -> None:
    x, w = np.arange(1.0, 8).reshape(1, 1, 7), np.array([[[1.0, 10.0, 100.0]]])
    np.testing.assert_array_equal(run("Conv", [x, w], pads=(-1, -2))[0], run("Conv", [x[:, :, 1:-2], w])[0])
    np.testing.assert_array_equal(
        run("Conv", [x, w], pads=(2, -2))[0], run("Conv", [x[:, :, :-2], w], pads=(2, 0))[0]
    )
    full = run("ConvTranspose", [x, w])[0]
    np.testing.assert_array_equal(
        run("ConvTranspose", [x, w], pads=(-1, -2))[0], np.pad(full, ((0, 0), (0, 0), (1, 2)))
    )


def test_small_integers_convolve_exactly_and_batches_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(-8, 9, (3, 6, 9, 7)).astype(float), rng.integers(-8, 9, (4, 6, 3, 2)).astype(float)
    (together,) = run("Conv", [x, w], pads=(1, 0, 1, 1))
    alone = np.concatenate([run("Conv", [x[i : i + 1], w], pads=(1, 0, 1, 1))[0] for i in range(3)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, np.rint(together))


@pytest.mark.parametrize(
    ("x", "w", "attributes", "message"),
    [
        ((1, 3, 5, 5), (2, 4, 3, 3), {}, "does not fit"),
        ((1, 4, 5, 5), (3, 2, 3, 3), {"group": 2}, "does not fit"),
        ((1, 3, 5), (2, 3, 3, 3), {}, "expected"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"pads": (1, 1)}, "pads"),
        ((1, 3, 2, 2), (2, 3, 3, 3), {}, "does not fit into 2"),
        ((1, 3, 5, 5), (2, 3, 3, 3), {"kernel_shape": (5, 5)}, "kernel_shape"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shapes(
    x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run("Conv", [np.zeros(x), np.zeros(w)], **attributes)

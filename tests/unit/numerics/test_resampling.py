"""Resize and GridSample in float64 against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.numerics.close import FEW, assert_close, run

torch = pytest.importorskip("torch")
functional = torch.nn.functional
seeds = st.integers(0, 2**31)


def image(seed: int, rank: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """A random input and a random target size."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, 3, *rng.integers(2, 9, rank))), tuple(
        int(v) for v in rng.integers(2, 14, rank)
    )


def resized(x: np.ndarray, sizes: tuple[int, ...], **attributes: object) -> np.ndarray:
    return run("Resize", [x, None, None, np.array(x.shape[:2] + sizes)], **attributes)[0]


@FEW
@given(seeds, st.integers(1, 3), st.booleans())
def test_linear_resize_is_that_of_torch(seed: int, rank: int, align: bool) -> None:
    x, sizes = image(seed, rank)
    mode = "align_corners" if align else "half_pixel"
    found = resized(x, sizes, mode="linear", coordinate_transformation_mode=mode)
    name = ("linear", "bilinear", "trilinear")[rank - 1]
    assert_close(found, functional.interpolate(torch.from_numpy(x), sizes, mode=name, align_corners=align))


@FEW
@given(seeds, st.booleans())
def test_cubic_resize_is_that_of_torch(seed: int, align: bool) -> None:
    x, sizes = image(seed, 2)
    mode = "align_corners" if align else "half_pixel"
    found = resized(x, sizes, mode="cubic", coordinate_transformation_mode=mode)
    assert_close(
        found, functional.interpolate(torch.from_numpy(x), sizes, mode="bicubic", align_corners=align), 1e-11
    )


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiasing_that_leaves_nothing_out_keeps_a_constant_image(mode: str) -> None:
    constant = np.full((1, 1, 9, 11), 3.0)
    for found in (resized(constant, (4, 3), mode=mode, antialias=1), resized(constant, (14, 20), mode=mode)):
        np.testing.assert_allclose(found, 3.0, rtol=1e-14)


@FEW
@given(seeds, st.sampled_from(["linear", "cubic"]))
def test_antialiased_resize_is_that_of_torch(seed: int, mode: str) -> None:
    x, sizes = image(seed, 2)
    # torch leaves out what lies outside, and uses a = -0.5 for antialiased cubic interpolation.
    found = resized(x, sizes, mode=mode, antialias=1, exclude_outside=1, cubic_coeff_a=-0.5)
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    assert_close(found, functional.interpolate(torch.from_numpy(x), sizes, mode=name, antialias=True), 1e-11)


@FEW
@given(seeds, st.integers(1, 3), st.booleans())
def test_both_nearest_rules_of_torch_exist(seed: int, rank: int, exact: bool) -> None:
    x, sizes = image(seed, rank)
    attributes = ("half_pixel", "round_prefer_ceil") if exact else ("asymmetric", "floor")
    found = resized(
        x, sizes, mode="nearest", coordinate_transformation_mode=attributes[0], nearest_mode=attributes[1]
    )
    expected = functional.interpolate(
        torch.from_numpy(x), sizes, mode="nearest-exact" if exact else "nearest"
    ).numpy()
    # torch computes places in float32, so a tie may fall either way; a different place must be a neighbouring
    # one.
    agree = (found == expected).all(axis=(0, 1))
    assert agree.mean() > 0.7 if exact else agree.all()


@FEW
@given(seeds, st.floats(0.3, 3.0), st.floats(0.3, 3.0))
def test_resize_by_scales_uses_the_scale_and_not_the_ratio_of_sizes(
    seed: int, first: float, second: float
) -> None:
    x = np.random.default_rng(seed).standard_normal((1, 2, 7, 9))
    # torch leaves an axis alone whose size does not change, whatever its scale.
    assume(int(first * 7) != 7 or first == 1)
    assume(int(second * 9) != 9 or second == 1)
    (found,) = run("Resize", [x, None, np.array([1, 1, first, second])], mode="linear")
    torch_scaled = functional.interpolate(
        torch.from_numpy(x),
        scale_factor=(first, second),
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )
    assert_close(found, torch_scaled)


def test_symmetric_half_pixel_keeps_the_centre() -> None:
    x = np.arange(10.0)[None, None]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}
    (found,) = run("Resize", [x, None, np.array([1, 1, 0.55])], **attributes)
    assert found.shape == (1, 1, 5)
    assert found.mean() == pytest.approx(4.5)


def test_axes_and_negative_axes_resize_only_what_they_name() -> None:
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 3))
    (by_axes,) = run("Resize", [x, None, None, np.array([8, 12])], mode="linear", axes=(1, -2))
    (whole,) = run("Resize", [x, None, None, np.array([1, 8, 12, 3])], mode="linear")
    np.testing.assert_array_equal(by_axes, whole)


def test_integers_are_interpolated_and_rounded() -> None:
    x = np.array([[[0, 255]]], np.uint8)
    found = run("Resize", [x, None, None, np.array([1, 1, 4])], mode="linear")[0]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[[0, 64, 191, 255]]])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"mode": "area"}, "mode"),
        ({"coordinate_transformation_mode": "tf_half_pixel_for_nn"}, "coordinate_transformation_mode"),
        ({"nearest_mode": "simple"}, "nearest_mode"),
        ({"axes": (2,)}, "scales or sizes"),
    ],
)
def test_an_unknown_way_of_resizing_is_refused(attributes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resized(np.zeros((1, 1, 3, 3)), (5, 5), **attributes)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(
    ("mode", "rank"), [("nearest", 2), ("nearest", 3), ("linear", 2), ("linear", 3), ("cubic", 2)]
)
def test_grid_sample_is_that_of_torch(mode: str, rank: int, padding: str, align: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.standard_normal((2, 3, *rng.integers(2, 7, rank)))
        grid = rng.uniform(-2, 2, (2, *rng.integers(3, 6, rank), rank))
        (found,) = run("GridSample", [x, grid], mode=mode, padding_mode=padding, align_corners=int(align))
        name = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode]
        expected = functional.grid_sample(torch.from_numpy(x), torch.from_numpy(grid), name, padding, align)
        assert_close(found, expected, 1e-11)

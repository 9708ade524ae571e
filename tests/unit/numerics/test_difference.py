"""The difference of two tensors, against a plain float64 implementation and every published false pass."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from porting_check.neutral.errors import PortingError
from porting_check.numerics import tally
from porting_check.numerics.difference import Difference, NotComparable, ShapeMismatch, difference

MANY = settings(max_examples=60, deadline=None)
shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=6)
small = st.floats(-1e6, 1e6, width=32)


@pytest.fixture(params=["small", "usual"], autouse=True)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with many small blocks as well as with the usual ones."""
    if request.param == "small":
        monkeypatch.setattr(tally, "CHUNK", 7)
        monkeypatch.setattr("porting_check.numerics.difference.CHUNK", 7)
        monkeypatch.setattr(tally, "DOT", 3)


def plain(reference: np.ndarray, candidate: np.ndarray) -> dict[str, Any]:
    """The same numbers for finite tensors, written as in a text book."""
    r, c = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
    d, largest = np.abs(c - r), np.abs(r).max()
    spacing = np.finfo(reference.dtype).eps if reference.dtype.kind == "f" else 0
    floor = max(spacing * largest, np.finfo(np.float64).tiny) if reference.dtype.kind == "f" else 1.0
    with np.errstate(over="ignore"):
        relative = d / np.maximum(np.abs(r), floor)
    norms = np.linalg.norm(r), np.linalg.norm(c)
    return {
        "count": r.size, "max_abs": d.max(), "max_rel": relative.max(),
        "rms": np.sqrt((d**2).mean()), "mean_signed": (c - r).mean(), "reference_max": largest,
        "reference_rms": np.sqrt((r**2).mean()), "identical": bool((r == c).all()), "compared": r.size,
        "cosine": float(r @ c / norms[0] / norms[1]) if min(norms) else float(norms[0] == norms[1]),
        "fraction_below": float((d <= 1e-5 * largest).mean()),
        "reference_nonfinite": 0, "candidate_nonfinite": 0, "nonfinite_mismatch": 0,
    }  # fmt: skip


def assert_numbers(found: Difference, expected: dict[str, Any]) -> None:
    """Every number of the plain implementation, to float64 round-off."""
    scale = expected["reference_max"] + expected["max_abs"]
    for name, value in expected.items():
        got = getattr(found, name)
        absolute = {"cosine": 1e-9, "mean_signed": 1e-13 * scale, "rms": 1e-300, "fraction_below": 0}.get(
            name, 0
        )
        assert got == pytest.approx(value, rel=1e-12, abs=absolute), name


@MANY
@given(st.data(), shapes, st.sampled_from([np.float32, np.float64, np.int16, np.uint8]))
def test_every_number_is_that_of_the_plain_implementation(
    data: st.DataObject, shape: tuple[int, ...], dtype: type
) -> None:
    elements = small if np.dtype(dtype).kind == "f" else st.integers(0, 200)
    reference, candidate = (data.draw(npst.arrays(dtype, shape, elements=elements)) for _ in range(2))
    found = difference(reference, candidate)
    assert_numbers(found, plain(reference, candidate))
    assert len(found.max_abs_index) == len(found.max_rel_index) == reference.ndim
    at = found.max_abs_index
    assert abs(float(candidate[at]) - float(reference[at])) == found.max_abs


@MANY
@given(st.data(), st.integers(1, 5), st.integers(0, 2**31))
def test_layouts_and_views_change_nothing(data: st.DataObject, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal(rng.integers(1, 7, rank)).astype(np.float32)
    candidate = reference + rng.standard_normal(reference.shape).astype(np.float32)
    expected = difference(reference, candidate)
    permutation = data.draw(st.permutations(range(rank)))
    stored = np.ascontiguousarray(candidate.transpose(permutation))
    other = np.asfortranarray(reference)[tuple(slice(None) for _ in range(rank))]
    wide = np.repeat(stored, 2, axis=-1)[..., ::2]
    for ours, theirs in (
        (reference, stored),
        (other, stored),
        (reference, candidate.transpose(permutation)),
        (reference, wide),
    ):
        found = difference(ours, theirs, permutation=permutation)
        for field in dataclasses.fields(Difference):
            value = getattr(expected, field.name)
            assert getattr(found, field.name) == (
                value if isinstance(value, tuple) else pytest.approx(value, rel=1e-12, abs=1e-15)
            )


signed = st.integers(-(2**63), 2**63 - 1)
kinds = st.sampled_from([0.0, 1.5, -2.0, math.inf, -math.inf, math.nan])


@MANY
@given(
    st.data(),
    npst.array_shapes(min_dims=0, max_dims=3, max_side=5),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_the_census_counts_every_nan_and_infinity(
    data: st.DataObject, shape: tuple[int, ...], dtype: type
) -> None:
    reference, candidate = (data.draw(npst.arrays(dtype, shape, elements=kinds)) for _ in range(2))
    pairs = list(zip(reference.ravel().tolist(), candidate.ravel().tolist(), strict=True))
    finite = [(r, c) for r, c in pairs if math.isfinite(r) and math.isfinite(c)]
    same = [r == c or (math.isnan(r) and math.isnan(c)) for r, c in pairs]
    bad = [not (math.isfinite(r) and math.isfinite(c)) for r, c in pairs]
    found = difference(reference, candidate)
    assert found.reference_nonfinite == sum(not math.isfinite(r) for r, _ in pairs)
    assert found.candidate_nonfinite == sum(not math.isfinite(c) for _, c in pairs)
    assert found.nonfinite_mismatch == sum(b and not s for b, s in zip(bad, same, strict=True))
    assert found.compared == len(finite)
    assert found.identical == all(r == c for r, c in pairs)
    largest = max((abs(r) for r, _ in pairs if math.isfinite(r)), default=0.0)
    assert found.reference_max == largest
    below = sum(r == c or abs(c - r) <= 1e-5 * largest for r, c in pairs)
    assert found.fraction_below == below / len(pairs)
    if found.nonfinite_mismatch:
        assert found.max_abs == found.max_rel == found.rms == math.inf
        r, c = float(reference[found.max_abs_index]), float(candidate[found.max_abs_index])
        assert not (math.isfinite(r) and math.isfinite(c))
        assert r != c
    elif finite:
        assert found.max_abs == max(abs(c - r) for r, c in finite)
        assert found.mean_signed == pytest.approx(sum(c - r for r, c in finite) / len(finite))
    else:
        assert found.max_abs == 0 if found.identical else math.isnan(found.max_abs)
        assert math.isnan(found.cosine)


def test_an_all_nan_candidate_is_infinitely_far_and_no_limit_passes_it() -> None:
    found = difference(np.ones(20), np.full(20, np.nan))
    assert found.max_abs == math.inf
    assert found.max_abs_index == found.max_rel_index == (0,)
    assert found.nonfinite_mismatch == 20
    both = difference(np.full(5, np.nan), np.full(5, np.nan))
    assert not both.identical
    assert not both.max_abs <= 1e30
    assert not both.rms <= 1e30
    assert both.nonfinite_mismatch == 0


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ((4,), (4, 1)),
        ((4,), (1,)),
        ((4,), ()),
        ((2, 3), (3, 2)),
        ((2, 3), (6,)),
        ((1, 4), (4,)),
        ((0, 3), (0, 2)),
    ],
)
def test_shapes_never_broadcast(reference: tuple[int, ...], candidate: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        difference(np.zeros(reference), np.zeros(candidate))
    assert str(reference) in str(caught.value)
    assert str(candidate) in str(caught.value)
    assert isinstance(caught.value, PortingError)


def test_a_transposed_square_is_different_and_its_mean_does_not_hide_it() -> None:
    x = np.arange(16.0).reshape(4, 4)
    assert difference(x, x.T).max_abs == 9
    assert difference(x, x.T).mean_signed == 0
    assert difference(x, x.T, permutation=(1, 0)).identical


@pytest.mark.parametrize("permutation", [(0,), (0, 0), (0, 2), (1, 0, 2), (-1, 0)])
def test_a_permutation_must_name_every_axis_once(permutation: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch, match="permutation"):
        difference(np.zeros((3, 3)), np.zeros((3, 3)), permutation=permutation)
    with pytest.raises(ShapeMismatch, match="permuted"):
        difference(np.zeros((2, 3)), np.zeros((2, 3)), permutation=(1, 0))


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_empty_tensors_are_identical_and_nothing_was_compared(shape: tuple[int, ...]) -> None:
    found = difference(np.zeros(shape), np.zeros(shape))
    assert (found.count, found.compared, found.identical, found.max_abs, found.max_abs_index) == (
        0,
        0,
        True,
        0.0,
        (),
    )
    assert math.isnan(found.cosine)


def test_a_scalar_has_an_empty_index() -> None:
    found = difference(np.array(2.0), np.array(3.0))
    assert (found.count, found.max_abs, found.max_rel, found.max_abs_index) == (1, 1.0, 0.5, ())
    assert difference(np.float32(2), np.float32(2)).identical


def test_signed_zeros_are_equal_and_vanishing_tensors_have_a_cosine() -> None:
    zeros = np.zeros(3)
    assert difference(zeros, -zeros).identical
    assert difference(zeros, -zeros).cosine == 1
    assert difference(zeros, np.ones(3)).cosine == 0
    assert difference(np.ones(3), -np.ones(3)).cosine == -1
    assert difference(zeros, np.ones(3)).relative_max == math.inf
    assert difference(zeros, zeros).relative_rms == 0


@MANY
@given(
    st.lists(
        st.tuples(signed, signed, st.integers(-2, 2), st.booleans()),
        min_size=1, max_size=20,
    ),
    st.booleans(),
)  # fmt: skip
def test_64_bit_integers_are_subtracted_exactly(
    items: list[tuple[int, int, int, bool]], unsigned: bool
) -> None:
    low, high = (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)
    ours = [abs(r) * 2 if unsigned else r for r, *_ in items]
    ours = [min(value, high) for value in ours]
    near = [
        min(max(r + step if close else c, low), high)
        for r, (_, c, step, close) in zip(ours, items, strict=True)
    ]
    dtype = np.uint64 if unsigned else np.int64
    found = difference(np.array(ours, dtype), np.array(near, dtype))
    assert found.identical == (ours == near)
    assert found.max_abs == float(max(abs(c - r) for r, c in zip(ours, near, strict=True)))


def test_signed_against_unsigned_integers_do_not_wrap() -> None:
    found = difference(np.array([-1, 2**62], np.int64), np.array([2**64 - 1, 2**62 + 1], np.uint64))
    assert found.max_abs == float(Fraction(2**64))
    for dtype in (np.int8, np.uint16, bool, np.int32):
        mixed = difference(np.array([1, 0], dtype), np.array([2**60 + 1, 0]))
        assert (mixed.max_abs, mixed.max_abs_index, mixed.identical) == (2.0**60, (0,), False)
    assert difference(np.array([3], np.uint8), np.array([250], np.uint8)).mean_signed == 247
    assert difference(np.array([250], np.uint8), np.array([3], np.uint8)).mean_signed == -247


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"])
def test_narrow_dtypes_are_compared_by_value(name: str) -> None:
    dtype = getattr(ml_dtypes, name)
    reference = np.array([1, 2, -3, 4], dtype)
    assert difference(reference, reference.astype(np.float32)).identical
    found = difference(reference, np.array([1, 2, -3, 6], np.float32))
    assert (found.max_abs, found.max_abs_index, found.identical) == (2.0, (3,), False)


def test_booleans_and_mixed_dtypes_are_compared_by_value() -> None:
    assert difference(np.array([True, False]), np.array([1, 0])).identical
    found = difference(np.array([True, False, True]), np.array([True, True, True]))
    assert (found.max_abs, found.mean_signed) == (1.0, pytest.approx(1 / 3))
    assert not difference(np.array([0.1]), np.array([0.1], np.float32)).identical


@MANY
@given(shapes, st.integers(0, 2**31), st.sampled_from([np.complex64, np.complex128]))
def test_complex_values_are_compared_by_modulus(shape: tuple[int, ...], seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    r, c = ((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    found = difference(r, c)
    wide, other = r.astype(np.complex128), c.astype(np.complex128)
    assert found.max_abs == pytest.approx(np.abs(other - wide).max())
    assert found.rms == pytest.approx(np.sqrt(np.square(np.abs(other - wide)).mean()))
    assert found.mean_signed == pytest.approx(abs((other - wide).mean()))
    assert found.cosine == pytest.approx(
        np.vdot(wide, other).real / np.linalg.norm(wide) / np.linalg.norm(other)
    )
    assert difference(r, r.copy()).identical


def test_a_complex_infinity_with_another_imaginary_part_is_a_mismatch() -> None:
    r = np.array([complex(math.inf, 1), complex(math.nan, 2), complex(1, 1)])
    assert (
        difference(
            r, np.array([complex(math.inf, 2), complex(math.nan, 2), complex(1, 1)])
        ).nonfinite_mismatch
        == 1
    )
    assert difference(r, r.copy()).nonfinite_mismatch == 0


def test_the_relative_difference_does_not_blow_up_at_zero() -> None:
    reference = np.array([0.0, 1.0, 1000.0], np.float32)
    found = difference(reference, reference + np.array([1e-4, 1e-4, 0], np.float32))
    floor = 1000 * float(np.finfo(np.float32).eps)
    assert found.max_rel == pytest.approx(float(np.float32(1e-4)) / floor)
    assert found.max_rel_index == (0,)
    assert difference(np.array([0, 2]), np.array([3, 2])).max_rel == 3


@MANY
@given(st.integers(0, 2**31), st.integers(-14, 14))
def test_the_cosine_holds_for_tensors_of_very_different_size(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    r = rng.standard_normal(50)
    c = (r + rng.standard_normal(50)) * 10.0**exponent
    expected = float(r @ c / np.linalg.norm(r) / np.linalg.norm(c))
    assert difference(r, c).cosine == pytest.approx(expected, abs=1e-11)


def test_a_tiny_bias_is_seen_in_float64() -> None:
    reference = np.full(30_000, 1.0, np.float32)
    candidate = np.nextafter(reference, np.float32(2))
    assert difference(reference, candidate).mean_signed == pytest.approx(2.0**-23, rel=1e-12)


def test_values_whose_squares_overflow_keep_their_largest_difference() -> None:
    found = difference(np.array([1e200, 1.0]), np.array([-1e200, 1.0]))
    assert (found.max_abs, found.nonfinite_mismatch, found.compared) == (2e200, 0, 2)
    assert found.rms == math.inf


def test_what_is_no_number_is_refused() -> None:
    for dtype in ("U3", "O", "M8[s]", [("a", "f4")]):
        with pytest.raises(NotComparable, match="dtype"):
            difference(np.zeros(2, dtype), np.zeros(2))


def test_the_arguments_are_left_alone_and_may_be_read_only() -> None:
    reference, candidate = np.arange(6.0), np.arange(6.0)[::-1]
    reference.setflags(write=False)
    before = candidate.copy()
    difference(reference, candidate)
    np.testing.assert_array_equal(candidate, before)

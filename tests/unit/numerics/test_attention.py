"""Attention and rotary embedding in float64 against PyTorch and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.numerics.close import FEW, assert_close, run

torch = pytest.importorskip("torch")
functional = torch.nn.functional
seeds = st.integers(0, 2**31)


def tensors(seed: int, heads: int, groups: int) -> tuple[np.ndarray, ...]:
    """Query, key and value with lengths, sizes and heads that all differ."""
    rng = np.random.default_rng(seed)
    queries, keys = int(rng.integers(1, 6)), int(rng.integers(1, 8))
    return tuple(
        rng.standard_normal((2, *s)) for s in ((heads, queries, 4), (groups, keys, 4), (groups, keys, 3))
    )


@pytest.mark.parametrize("heads", [(1, 1), (3, 3), (4, 2), (6, 1)])
@pytest.mark.parametrize("mask", ["none", "bool", "float", "causal"])
@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_attention_is_that_of_torch(seed: int, heads: tuple[int, int], mask: str) -> None:
    q, k, v = tensors(seed, *heads)
    rng = np.random.default_rng(seed + 1)
    shape, given_mask = (2, heads[0], q.shape[2], k.shape[2]), None
    if mask == "bool":
        given_mask = rng.random(shape) < 0.6
        given_mask[..., 0] = True  # torch gives NaN for a row without any key
    if mask == "float":
        given_mask = rng.standard_normal(shape)
    scale = None if seed % 2 else 0.3
    attributes = {} if scale is None else {"scale": scale}
    (found,) = run("Attention", [q, k, v, given_mask], is_causal=int(mask == "causal"), **attributes)
    expected = functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (q, k, v)), None if given_mask is None else torch.from_numpy(given_mask),
        is_causal=mask == "causal", scale=scale, enable_gqa=True,
    )  # fmt: skip
    assert_close(found, expected)


@FEW
@given(seeds)
def test_three_axes_are_heads_side_by_side(seed: int) -> None:
    q, k, v = tensors(seed, 4, 2)
    (apart,) = run("Attention", [q, k, v])
    flat = [x.transpose(0, 2, 1, 3).reshape(2, x.shape[2], -1) for x in (q, k, v)]
    (together,) = run("Attention", flat, q_num_heads=4, kv_num_heads=2)
    assert_close(together, apart.transpose(0, 2, 1, 3).reshape(together.shape))


@FEW
@given(seeds, st.integers(1, 4))
def test_a_cache_continues_the_causal_attention(seed: int, past: int) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((1, 2, past + 3, 4)) for _ in range(3))
    (whole,) = run("Attention", [q, k, v], is_causal=1)
    new, old = slice(past, None), slice(0, past)
    parts = [q[:, :, new], k[:, :, new], v[:, :, new], None, k[:, :, old], v[:, :, old]]
    y, key, value = run("Attention", parts, 3, is_causal=1)
    assert_close(y, whole[:, :, new])
    np.testing.assert_array_equal(key, k)
    np.testing.assert_array_equal(value, v)


def test_softcap_bounds_the_scores_and_every_stage_can_be_seen() -> None:
    q, k, v = tensors(7, 2, 2)
    q *= 50
    bias = np.random.default_rng(0).standard_normal((q.shape[2], k.shape[2]))
    stages = [
        run("Attention", [q, k, v, bias], 4, softcap=2.0, qk_matmul_output_mode=mode)[3] for mode in range(4)
    ]
    assert_close(stages[0], q @ k.swapaxes(2, 3) / 2)
    assert_close(stages[1], 2 * np.tanh(stages[0] / 2))
    assert_close(stages[2], stages[1] + bias)
    assert_close(stages[3], torch.softmax(torch.from_numpy(stages[2]), -1))


def test_a_query_that_sees_no_key_gives_zeros_and_no_nan() -> None:
    q, k, v = tensors(1, 1, 1)
    mask = np.ones((q.shape[2], k.shape[2]), bool)
    mask[0] = False
    (found,) = run("Attention", [q, k, v, mask])
    assert not found[:, :, 0].any()
    assert np.isfinite(found).all()


def test_rotary_embedding_turns_pairs_as_complex_numbers_turn() -> None:
    rng = np.random.default_rng(0)
    x, angles, places = rng.standard_normal((2, 3, 5, 8)), rng.random((11, 4)), rng.integers(0, 11, (2, 5))
    turn = np.exp(1j * angles)[places][:, None]
    cosine, sine = np.cos(angles), np.sin(angles)
    (pairs,) = run("RotaryEmbedding", [x, cosine, sine, places], interleaved=1)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
    assert_close(pairs[..., 0::2], turned.real)
    assert_close(pairs[..., 1::2], turned.imag)
    (halves,) = run("RotaryEmbedding", [x, cosine, sine, places])
    turned = (x[..., :4] + 1j * x[..., 4:]) * turn
    assert_close(halves, np.concatenate([turned.real, turned.imag], -1))
    (part,) = run("RotaryEmbedding", [x, cosine[:, :2], sine[:, :2], places], rotary_embedding_dim=4)
    np.testing.assert_array_equal(part[..., 4:], x[..., 4:])
    flat = x.transpose(0, 2, 1, 3).reshape(2, 5, 24)
    (together,) = run("RotaryEmbedding", [flat, cosine, sine, places], num_heads=3)
    assert_close(together, halves.transpose(0, 2, 1, 3).reshape(2, 5, 24))

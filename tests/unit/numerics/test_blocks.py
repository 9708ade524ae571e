"""Walking over two arrays block by block."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.numerics.blocks import Blocks
from porting_check.numerics.difference import difference

shapes = st.lists(st.integers(1, 7), max_size=5).map(tuple)


def laid_out(array: np.ndarray, order: list[int], reverse: bool) -> np.ndarray:
    """The same values with another order of axes in memory, perhaps with a negative stride."""
    inverse = [order.index(axis) for axis in range(array.ndim)]
    stored = np.array(array.transpose(order), order="C").transpose(inverse)
    if reverse and array.ndim:
        stored = np.flip(np.ascontiguousarray(np.flip(stored, 0)), 0)
    return stored


@settings(max_examples=60, deadline=None)
@given(st.data(), shapes, st.integers(1, 64), st.booleans())
def test_blocks_cover_every_pair_once_and_indices_lead_back(
    data: st.DataObject, shape: tuple[int, ...], size: int, flip: bool
) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    orders = [data.draw(st.permutations(range(len(shape)))) for _ in range(2)]
    first, second = laid_out(values, orders[0], flip), laid_out(values, orders[1], False)
    walk, seen = Blocks(first, second, size), []
    for origin, ours, theirs in walk:
        assert ours.size <= size
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)
        seen.extend(ours.ravel().tolist())
        for flat, value in enumerate(ours.ravel()):
            assert values[walk.index(origin, ours.shape, flat)] == value
    assert sorted(seen) == list(range(values.size))


def test_arrays_of_one_layout_are_walked_in_one_dimension() -> None:
    x = np.zeros((3, 4, 5, 6)).transpose(2, 0, 3, 1)
    assert [block.shape for _, block, _ in Blocks(x, x.copy(order="K"), 1000)] == [(360,)]


def test_a_block_of_two_layouts_is_long_in_the_fastest_axis_of_either() -> None:
    nhwc = np.zeros((4, 64, 64, 256), np.float32)
    nchw = np.zeros((4, 256, 64, 64), np.float32).transpose(0, 2, 3, 1)
    _, ours, theirs = next(iter(Blocks(nhwc, nchw, 16384)))
    assert ours.size == 16384
    lengths = [max(n for n, step in zip(block.shape, block.strides) if step == 4) for block in (ours, theirs)]
    assert min(lengths) >= 64


def test_broadcast_views_and_scalars_are_walked_too() -> None:
    x = np.broadcast_to(np.arange(3.0), (4, 3))
    assert sum(float(ours.sum()) for _, ours, _ in Blocks(x, x.copy(), 5)) == 12
    assert [(ours.shape, theirs.item()) for _, ours, theirs in Blocks(np.array(2.0), np.array(3.0), 5)] == [
        ((1,), 3.0)
    ]


def test_the_memory_of_a_difference_does_not_grow_with_the_tensors() -> None:
    reference = np.zeros((8, 64, 64, 64), np.float32)
    candidate = np.ascontiguousarray(reference.transpose(0, 3, 1, 2))
    tracemalloc.start()
    try:
        difference(reference, candidate, permutation=(0, 3, 1, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6 < reference.nbytes


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match="differ"):
        Blocks(np.zeros(3), np.zeros((3, 1)), 4)

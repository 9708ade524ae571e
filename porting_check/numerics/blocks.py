"""Walking over two arrays of one shape in blocks that suit the memory order of both.

Two tensors that hold the same values in different layouts (NHWC beside NCHW) cannot both be read
contiguously. A block that is long in the fastest axis of each reads whole cache lines of both, and fits the
cache while it is rearranged.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RUN = 128
"""Values that a block takes of the fastest axis of each array before it grows in other directions."""


class Blocks:
    """Blocks of at most ``size`` values that together cover two arrays of the same shape.

    Args:
        first: an array.
        second: an array of the same shape, in any memory order.
        size: most values of one block.

    Example:
        >>> x = np.arange(6.0).reshape(2, 3)
        >>> walk = Blocks(x, x.copy(), 4)
        >>> [(origin, part.tolist()) for origin, part, _ in walk]
        [((0,), [0.0, 1.0, 2.0]), ((3,), [3.0, 4.0, 5.0])]
        >>> walk.index((3,), (3,), 1)
        (1, 1)
    """

    def __init__(self, first: Array, second: Array, size: int) -> None:
        if first.shape != second.shape:
            raise ValueError(f"the shapes {first.shape} and {second.shape} differ")
        self._dimensions = first.ndim
        self._axes = self._order(first)
        self._sizes = tuple(first.shape[axis] for axis in self._axes)
        self._shape, strides = _merged(first, second, self._axes)
        # Only axes that lie one behind the other were joined, so that reshaping copies nothing.
        order = self._axes + [axis for axis, n in enumerate(first.shape) if n == 1]
        self._first, self._second = (part.transpose(order).reshape(self._shape) for part in (first, second))
        self._block = _block_shape(self._shape, strides, size)

    @staticmethod
    def _order(first: Array) -> list[int]:
        """The axes longer than one, from the slowest to the fastest of the first array."""
        axes = [axis for axis, size in enumerate(first.shape) if size != 1]
        return sorted(axes, key=lambda axis: -abs(first.strides[axis]))

    @property
    def rank(self) -> int:
        """Number of axes of a block, after joining those that both arrays hold as one."""
        return len(self._shape)

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], Array, Array]]:
        """Yield the place of each block and the block of either array, as views."""
        for origin in product(*(range(0, n, step) for n, step in zip(self._shape, self._block, strict=True))):
            where = tuple(slice(start, start + step) for start, step in zip(origin, self._block, strict=True))
            yield origin, self._first[where], self._second[where]

    def index(self, origin: tuple[int, ...], shape: tuple[int, ...], flat: int) -> tuple[int, ...]:
        """The index into the arrays of value number ``flat`` of the block of this shape at ``origin``."""
        local = np.unravel_index(flat, shape)
        place = tuple(start + int(step) for start, step in zip(origin, local, strict=True))
        ordered = np.unravel_index(int(np.ravel_multi_index(place, self._shape)), self._sizes or (1,))
        found = [0] * self._dimensions
        for axis, value in zip(self._axes, ordered, strict=False):
            found[axis] = int(value)
        return tuple(found)


def _merged(
    first: Array, second: Array, axes: list[int]
) -> tuple[tuple[int, ...], tuple[list[int], list[int]]]:
    """The shape and strides after joining neighbouring axes that both arrays hold as one."""
    shape: list[int] = []
    strides: tuple[list[int], list[int]] = ([], [])
    for axis in axes:
        n, steps = first.shape[axis], (first.strides[axis], second.strides[axis])
        if shape and all(have[-1] == n * step for have, step in zip(strides, steps, strict=True)):
            shape[-1] *= n
            strides[0][-1], strides[1][-1] = steps
            continue
        shape.append(n)
        strides[0].append(steps[0])
        strides[1].append(steps[1])
    return (tuple(shape), strides) if shape else ((1,), ([0], [0]))


def _block_shape(shape: tuple[int, ...], strides: tuple[list[int], list[int]], size: int) -> tuple[int, ...]:
    """A block long in the fastest axis of either array; what room is left goes to the other axes."""
    rank = len(shape)
    # The axes are in the order of the first array, so that its fastest is the last one.
    fastest = [rank - 1, min(range(rank), key=lambda axis: abs(strides[1][axis]))]
    block = [1] * rank
    for axis in fastest:
        block[axis] = min(shape[axis], RUN, max(size // (prod(block) // block[axis]), 1))
    for axis in [*fastest, *reversed(range(rank))]:
        room = size // (prod(block) // block[axis])
        block[axis] = min(shape[axis], max(block[axis], room))
    # Blocks of even size: a last one of a few values would cost as much as a whole one.
    return tuple(-(-n // -(-n // step)) for n, step in zip(shape, block, strict=True))

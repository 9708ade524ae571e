"""Pooling: output sizes, ``ceil_mode`` as explicit padding, and what an average divides by.

With ``ceil_mode`` a last window may hang over the padded input. Max pooling reads nothing there, so the
overhang is the same as more end padding. For an average it matters: torch and ONNX count the padding when
asked to (``count_include_pad``), never the overhang.

Sources: torch.nn.MaxPool2d and AvgPool2d (``ceil_mode``, ``count_include_pad``); PyTorch's
aten/src/ATen/native/Pool.h (pooling_output_shape_pad_lr) and AvgPoolKernel.cpp (the divisor); ONNX operators
MaxPool and AveragePool, opset 22.
"""

from __future__ import annotations

import functools
from typing import Sequence, Tuple

import numpy as np

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.padding import (
    Padding,
    Window,
    convolution_output_sizes,
    room,
    sizes_of,
    windows,
)


def pool_output_sizes(
    sizes: Sequence[int],
    padding: Padding,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    drop_outside: bool = True,
) -> Tuple[int, ...]:
    """Output size per axis: that of a convolution, rounded up with ``ceil_mode``.

    A window that would start in the end padding or beyond it is dropped: torch always, ONNX Runtime always,
    the ONNX standard since opset 19. ``drop_outside=False`` is the standard's earlier rule, which keeps it.

    Example:
        >>> pool_output_sizes((7,), Padding.symmetric((1,)), kernel=3, strides=2)
        (4,)
        >>> pool_output_sizes((8,), Padding.symmetric((1,)), kernel=3, strides=2, ceil_mode=True)
        (5,)
        >>> pool_output_sizes((4,), Padding.symmetric((1,)), kernel=2, strides=3, ceil_mode=True)     # not 3
        (2,)

    Raises:
        PaddingError: the padded input is smaller than the kernel, a negative padding with ``ceil_mode``, or
            numbers that do not fit the axes.
    """
    if not ceil_mode:
        return convolution_output_sizes(sizes, padding, kernel, strides, dilations)
    if padding.crops:
        raise PaddingError(f"ceil_mode with a negative padding {padding} is ambiguous: crop before pooling")
    counts = []
    axes = windows(padding.ndim, kernel, strides, dilations)
    for size, pair, window in zip(sizes_of(sizes, padding.ndim), padding.pairs, axes):
        count = -(-room(size, pair, window) // window.stride) + 1
        last_start = (count - 1) * window.stride
        counts.append(count - 1 if drop_outside and last_start >= size + pair[0] else count)
    return tuple(counts)


def ceil_mode_as_padding(
    sizes: Sequence[int],
    padding: Padding,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    dilations: int | Sequence[int] = 1,
    drop_outside: bool = True,
) -> Padding:
    """The padding that gives without ``ceil_mode`` the windows that ``padding`` gives with it.

    Exact for max pooling and for averages that do not count padding; for the others see
    :func:`average_divisors`.

    Example:
        >>> print(ceil_mode_as_padding((22, 24), Padding.none(2), kernel=3, strides=2))
        ((0, 1), (0, 1))

    Raises:
        PaddingError: as for :func:`pool_output_sizes`.
    """
    plain = pool_output_sizes(sizes, padding, kernel, strides, dilations)
    wanted = pool_output_sizes(sizes, padding, kernel, strides, dilations, True, drop_outside)
    axes = windows(padding.ndim, kernel, strides, dilations)
    ends = []
    for index, (size, window) in enumerate(zip(sizes, axes)):
        exact = (wanted[index] - 1) * window.stride + window.extent - size - padding.begins[index]
        ends.append(padding.ends[index] if wanted[index] == plain[index] else exact)
    return Padding(padding.begins, tuple(ends))


def average_divisors(
    sizes: Sequence[int],
    padding: Padding,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    dilations: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Tuple[np.ndarray, ...]:
    """How many elements each window of an average counts, per axis; :func:`divisor_map` multiplies them.

    A window counts the elements of the input, and those of the padding with ``count_include_pad`` (torch's
    default; ONNX's is off; TensorFlow and Keras never count them), but never the overhang of ``ceil_mode``.
    A count of 0 means a window that lies in padding alone: its average is not defined.

    Example:
        >>> average_divisors((8,), Padding.symmetric((1,)), 3, 2, ceil_mode=True, count_include_pad=True)
        (array([3, 3, 3, 3, 2]),)
        >>> average_divisors((8,), Padding.symmetric((1,)), 3, 2, ceil_mode=True)
        (array([2, 3, 3, 3, 1]),)

    Returns:
        One integer array per spatial axis, as long as the output there.

    Raises:
        PaddingError: as for :func:`pool_output_sizes`.
    """
    counts = pool_output_sizes(sizes, padding, kernel, strides, dilations, ceil_mode)
    axes = windows(padding.ndim, kernel, strides, dilations)
    return tuple(
        _counted(count, size, pair, window, count_include_pad)
        for count, size, pair, window in zip(counts, sizes, padding.pairs, axes)
    )


def divisor_map(divisors: Sequence[np.ndarray]) -> np.ndarray:
    """The divisor of every output element, from those of each axis: their outer product.

    Example:
        >>> divisor_map((np.array([2, 3]), np.array([1, 2, 2])))
        array([[2, 4, 4],
               [3, 6, 6]])
    """
    return functools.reduce(np.multiply.outer, divisors)


def _counted(count: int, size: int, pair: Tuple[int, int], window: Window, include_pad: bool) -> np.ndarray:
    """Per window of one axis, the taps that fall between the first and last element that counts."""
    taps = np.arange(count)[:, None] * window.stride + np.arange(window.kernel) * window.dilation - pair[0]
    first, stop = (-pair[0], size + pair[1]) if include_pad else (0, size)
    inside: np.ndarray = ((taps >= first) & (taps < stop)).sum(axis=1)
    return inside

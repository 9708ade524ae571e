"""Winograd convolution in float32, to know the error that a fast algorithm makes on given data.

Matrices of F(2x2, 3x3), F(4x4, 3x3) and F(6x6, 3x3) after Lavin & Gray (arXiv:1509.09308) and Barabasz et al.
(arXiv:1803.10986), built by the Cook-Toom method at the usual points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.operators.windows import padded, resolve

Array = np.ndarray

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
TILES = (2, 4, 6)

SIMILAR = (0.1, 6.0)
"""How the rms of an error may stand to that of the emulated algorithm (implementations scale their matrices variously)."""

ALIKE = 3.0
"""How far the errors of one channel may stand from the others', beside the emulated ones: every channel is convolved so."""

SYSTEMATIC = 0.5
"""Largest correlation of the errors with the results: a fast algorithm's errors are not a wrong scale."""

MOST = 1 << 22
"""Most values of a batch that is emulated; larger ones are cut to their first channels out and samples."""


def matrices(tile: int) -> tuple[Array, Array, Array]:
    """The transforms of output, kernel and data of F(tile, 3), so that ``A^T ((G g) * (B^T d))`` is the correlation.

    Example:
        >>> a, g, b = matrices(2)
        >>> d, k = np.arange(4.0), np.array([1.0, 2.0, 3.0])
        >>> (a.T @ ((g @ k) * (b.T @ d))).tolist(), np.correlate(d, k, "valid").tolist()
        ([8.0, 14.0], [8.0, 14.0])
    """
    size = tile + 2
    points = np.array(POINTS[: size - 1])
    at = np.vander(points, size, increasing=True)
    kernel = np.vstack([at[:, :3], [0.0, 0.0, 1.0]])
    output = np.vstack([at[:, :tile], [0.0] * (tile - 1) + [1.0]])
    whole = np.vstack([at, [0.0] * (size - 1) + [1.0]])
    # The transposition principle: the data transform is the inverse of evaluation at the points.
    data = np.linalg.inv(whole)
    scale = np.array([np.prod([p - q for q in points if q != p]) for p in points] + [1.0])
    return output, kernel / scale[:, None], data * scale


def convolve(x: Array, w: Array, tile: int) -> Array:
    """A stride-1 correlation of padded ``x (N, C, H, W)`` with ``w (O, C, 3, 3)`` by Winograd, in float32."""
    a, g, b = (m.astype(np.float32) for m in matrices(tile))
    rows, columns = x.shape[2] - 2, x.shape[3] - 2
    counts = -(-rows // tile), -(-columns // tile)
    grown = [(0, 0), (0, 0), (0, counts[0] * tile + 2 - x.shape[2]), (0, counts[1] * tile + 2 - x.shape[3])]
    x = np.pad(x.astype(np.float32), grown)
    tiles = np.lib.stride_tricks.sliding_window_view(x, (tile + 2, tile + 2), axis=(2, 3))[
        :, :, ::tile, ::tile
    ]
    data = np.einsum("ip,nctuij,jq->ncpqtu", b, tiles, b, optimize=True)
    kernel = np.einsum("pi,ocij,qj->ocpq", g, w.astype(np.float32), g, optimize=True)
    shape = (data.shape[0], kernel.shape[0])
    made = np.zeros((*shape, *data.shape[2:]), np.float32)
    for channel in range(w.shape[1]):
        made += kernel[None, :, channel, :, :, None, None] * data[:, None, channel]
    found = np.einsum("pi,nopqtu,qj->notiuj", a, made, a, optimize=True)
    return np.asarray(found).reshape(*shape, counts[0] * tile, counts[1] * tile)[:, :, :rows, :columns]


def fast_algorithm(node: Node, inputs: Sequence[Array | None], error: Array, truth: Array) -> str | None:
    """``Winograd F(6x6, 3x3)`` when recomputing by it makes an error of this size, else ``None``.

    Args:
        node: a convolution; only 3x3 with stride 1, no dilation and one group has such algorithms.
        inputs: data and kernel in float64, canonical layout.
        error: of the node's output, canonical layout.
        truth: the output in float64.
    """
    if node.op_type != "Conv" or node.attributes.get("group", 1) != 1:
        return None
    x, w = inputs[0], inputs[1]
    if x is None or w is None or w.shape[2:] != (3, 3):
        return None
    windows = resolve(node.attributes, x.shape[2:], w.shape[2:])
    if set(windows.strides) != {1} or set(windows.dilations) != {1}:
        return None
    samples = max(1, min(x.shape[0], MOST // max(x[0].size, 1)))
    outputs = max(1, min(w.shape[0], MOST // max(truth[0, 0].size * samples, 1)))
    part = (slice(samples), slice(outputs))
    bias = inputs[2] if len(inputs) > 2 else None
    wanted = truth[part] - (0.0 if bias is None else bias[:outputs].reshape(1, -1, 1, 1))
    if _correlation(error[part], wanted) > SYSTEMATIC:
        return None
    for tile in TILES[::-1]:
        emulated = convolve(padded(x[:samples], windows.pads), w[:outputs], tile) - wanted
        if _alike(error[part], emulated):
            return f"Winograd F({tile}x{tile}, 3x3)"
    return None


def _alike(error: Array, emulated: Array) -> bool:
    """Whether two errors are of one size: as a whole, in each channel, and in the middle (most places must err)."""
    own = float(np.sqrt(np.square(emulated).mean()))
    if not own:
        return False
    size = float(np.sqrt(np.square(error).mean())) / own
    each = np.sqrt(
        np.square(error).mean(axis=(0, 2, 3)) / np.maximum(np.square(emulated).mean(axis=(0, 2, 3)), 1e-300)
    )
    many = error[:, 0].size >= 16
    middle = np.median(np.abs(error)) / max(float(np.median(np.abs(emulated))), 1e-300)
    return bool(
        SIMILAR[0] <= size <= SIMILAR[1]
        and np.abs(error).max() <= SIMILAR[1] * np.abs(emulated).max()
        and (not many or ((each <= ALIKE * size).all() and (each * ALIKE >= size).all()))
        and middle * ALIKE >= size
    )


def _correlation(error: Array, result: Array) -> float:
    """Of the errors with the results, either sign."""
    power = float(np.square(error).sum() * np.square(result).sum())
    return abs(float((error * result).sum())) / power**0.5 if power else 0.0

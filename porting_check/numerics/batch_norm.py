"""One training step of a batch normalisation: its truth, what to feed, and the update of its statistics told from numbers.

In training the layer normalises by the statistics of the batch and moves its running ones::

    mean <- keep * mean + (1 - keep) * batch_mean
    var  <- keep * var  + (1 - keep) * correction * batch_var

with ``batch_var`` over ``n`` positions. ``keep`` is Keras' and flax' ``momentum`` and one minus torch's; ``correction`` is 1
(Keras 3, flax, ONNX) or ``n / (n - 1)`` (torch; Keras 2 where the kernel is fused). Both are solved for, not looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from porting_check.numerics.optimizer_fit import short

Array = np.ndarray

POSITIONS, BATCH = 64, 4
"""Positions that are fed, and in a batch of how many: so few that ``n / (n - 1)`` is plain (1.6%), with several samples."""

FLOAT32 = 2.0**-24
BIASED, UNBIASED, UNKNOWN = "biased", "unbiased", "unknown"


@dataclass(frozen=True, slots=True)
class Update:
    """How running statistics move.

    ``keep`` is the share of the old mean that stays (1: they do not move; ``None``: the channels do not follow one rule).
    ``variance`` is ``biased``, ``unbiased``, ``unknown`` (another factor, or the numbers cannot tell), ``""`` when nothing
    moves. ``factor`` is the factor found.
    """

    keep: float | None
    variance: str
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and variance of each channel."""

    mean: Array
    var: Array


def batch_statistics(positions: Array) -> Statistics:
    """Biased statistics of ``(n, C)`` in float64.

    Example:
        >>> batch_statistics(np.array([[1.0], [3.0]])).var
        array([1.])
    """
    wide = np.asarray(positions, np.float64)
    return Statistics(wide.mean(axis=0), wide.var(axis=0))


def positions_of(x: Array) -> Array:
    """Every position of a channel-first tensor ``(N, C, …)`` as a row of channels, ``(n, C)``."""
    return np.moveaxis(np.asarray(x), 1, -1).reshape(-1, x.shape[1])


def arranged(positions: Array, ndim: int) -> Array:
    """Rows of channels as a channel-first tensor of a rank: a batch of 4 with 16 positions each, or 64 without space.

    Example:
        >>> arranged(np.zeros((64, 3)), 4).shape
        (4, 3, 4, 4)
    """
    if ndim == 2:
        return positions
    space = {3: (16,), 4: (4, 4), 5: (2, 2, 4)}.get(ndim, (*(1,) * (ndim - 3), 16))
    return np.ascontiguousarray(np.moveaxis(positions.reshape(BATCH, *space, -1), -1, 1))


def fed(x: Array, running: Statistics, seed: int = 0) -> tuple[Array, tuple[str, ...]]:
    """64 positions of a recorded input, and what had to be added to it.

    Evenly spread positions are taken. Where there are too few, seeded noise around their statistics (around the running
    ones, where there is one position only) fills up. Where the batch's mean is the running mean already, nothing could be
    told from a step, and each channel is shifted by half its deviation.
    """
    rows = np.asarray(positions_of(x), np.float64)
    taken = rows[np.linspace(0, len(rows) - 1, min(POSITIONS, len(rows))).astype(int)]
    rng, notes = np.random.default_rng(seed), []
    scale = np.sqrt(np.maximum(running.var, 0))
    if len(taken) < POSITIONS:
        around = batch_statistics(taken)
        spread = np.sqrt(around.var) if len(taken) > 1 and (around.var > 0).any() else scale
        noise = around.mean + np.where(spread > 0, spread, 1.0) * rng.standard_normal(
            (POSITIONS - len(taken), rows.shape[1])
        )
        notes.append(
            f"its input has {len(rows)} positions per channel: seeded noise around their statistics was added"
        )
        taken = np.concatenate([taken, noise])
    now = batch_statistics(taken)
    spread = np.maximum(np.sqrt(now.var), scale)
    if np.linalg.norm(now.mean - running.mean) < 0.05 * np.linalg.norm(spread):
        taken = taken + 0.5 * np.where(spread > 0, spread, 1.0)
        notes.append("its input has the running mean already: it was shifted by half a deviation")
    return np.asarray(taken, np.float32), tuple(notes)


def normalized_by(
    x: Array, by: Statistics, scale: Array, shift: Array, epsilon: float
) -> tuple[Array, Array]:
    """``(x - mean) / sqrt(var + epsilon) * scale + shift`` of ``(n, C)`` in float64, and what float32 may cost of it.

    The limit counts the input's rounding, the subtraction, and that variances may be computed as ``E[x²] - E[x]²`` (flax).
    """
    wide = np.asarray(x, np.float64)
    factor = scale / np.sqrt(by.var + epsilon)
    y = (wide - by.mean) * factor + shift
    lost = 1 + (np.square(by.mean) + by.var) / (by.var + epsilon)
    limit = (
        16 * FLOAT32 * (np.abs(factor) * (np.abs(wide) + np.abs(by.mean)) + np.abs(y) * lost + np.abs(shift))
    )
    return y, limit


def solve(before: Statistics, after: Statistics, batch: Statistics, n: int) -> Update:
    """The update that took the running statistics from ``before`` to ``after``.

    Example:
        >>> zero, one = np.zeros(2), np.ones(2)
        >>> solve(Statistics(zero, one), Statistics(one * 0.1, one * 1.1), Statistics(one, one * 2), 64)
        Update(keep=0.9, variance='biased', factor=1.0)
    """
    moved, distance = after.mean - before.mean, batch.mean - before.mean
    if not np.any(moved) and not np.any(after.var - before.var):
        return Update(1.0, "")
    if not np.any(distance):
        return Update(None, UNKNOWN)
    new = float(moved @ distance / (distance @ distance))
    size = np.abs(before.mean) + np.abs(batch.mean) + np.sqrt(batch.var)
    if np.any(np.abs(moved - new * distance) > 64 * FLOAT32 * size):
        return Update(None, UNKNOWN)
    keep = 1 - short(
        new, 32 * FLOAT32 * float(np.linalg.norm(size) / np.linalg.norm(distance)) / max(abs(new), 1e-9)
    )
    return Update(round(keep, 12), *_correction(before, after, batch, n, new))


def _correction(
    before: Statistics, after: Statistics, batch: Statistics, n: int, new: float
) -> tuple[str, float | None]:
    """Which variance of the batch is stored; unknown where float32 cannot resolve one part in ``n``."""
    added, whole = after.var - (1 - new) * before.var, new * batch.var
    power = float(whole @ whole)
    if power == 0:
        return UNKNOWN, None
    factor = float(added @ whole / power)
    unsure = 4 * FLOAT32 * float(np.linalg.norm(np.abs(before.var) + np.abs(after.var)) / np.sqrt(power))
    room = 0.25 / (n - 1)
    if unsure > room or np.any(
        np.abs(added - factor * whole) > room * np.abs(whole) + 64 * FLOAT32 * np.abs(after.var)
    ):
        return UNKNOWN, factor
    for name, wanted in ((BIASED, 1.0), (UNBIASED, n / (n - 1))):
        if abs(factor - wanted) < room:
            return name, round(factor, 6)
    return UNKNOWN, factor

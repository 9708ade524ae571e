"""What a pruned recording says of a value that it dropped: shape, type, a few numbers, and a seeded sample of its elements."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from porting_check.alignment.fingerprint import weight_hash

Array = np.ndarray

SAMPLES = "kept:"
"""What the keys of samples begin with; no record reads or makes these values."""

METHOD = "one element of each stratum, by splitmix64"
"""How positions are drawn; written into the recording, so that a later version can tell."""


def positions(key: str, size: int, count: int, seed: int) -> Array:
    """Flat positions of the sample of a value: one in each of ``count`` equal parts, ascending; all when there are no more.

    The same on every machine and with every version of numpy: integers only (splitmix64, Steele, Lea and Flood 2014,
    doi:10.1145/2660193.2660195), started from the key and the seed.

    Example:
        >>> positions("conv1:0", 5, 8, 0)
        array([0, 1, 2, 3, 4])
        >>> len(positions("conv1:0", 10_000, 64, 0))
        64
    """
    if count >= size:
        return np.arange(size)
    start = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(int.from_bytes(start, "little"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    edges = np.arange(count + 1, dtype=np.int64) * size // count
    drawn = state % np.diff(edges).astype(np.uint64)
    return np.asarray(edges[:-1] + drawn.astype(np.int64))


def sample(array: Array, key: str, count: int, seed: int) -> Array:
    """The elements at :func:`positions`, bit for bit."""
    return np.array(np.asarray(array).reshape(-1)[positions(key, array.size, count, seed)])


def digest(array: Array) -> str:
    """A digest of type, shape and bytes in this order of axes: equal only for the same array.

    Example:
        >>> digest(np.eye(2)) == digest(np.eye(2)), digest(np.ones((1, 2))) == digest(np.ones((2, 1)))
        (True, False)
    """
    array = np.ascontiguousarray(array)
    made = hashlib.blake2b(f"{array.dtype.name}{array.shape}".encode(), digest_size=16)
    made.update(array.reshape(-1).view(np.uint8).data)
    return made.hexdigest()


def wide(array: Array) -> Array:
    """Real double precision; complex numbers by their size."""
    array = np.asarray(array)
    return np.abs(array).astype(np.float64) if array.dtype.kind == "c" else array.astype(np.float64)


def measures(array: Array) -> dict[str, float | int | None]:
    """Least, largest and root mean square of the finite elements, and how many are not finite.

    Example:
        >>> measures(np.float32([3.0, -4.0, np.nan]))["nonfinite"]
        1
    """
    values = wide(array).reshape(-1)
    finite = np.isfinite(values)
    count = int(values.size - np.count_nonzero(finite))
    values = values if not count else values[finite]
    if not values.size:
        return {"min": None, "max": None, "rms": None, "nonfinite": count}
    rms = float(np.sqrt(np.dot(values, values) / values.size))
    return {"min": float(values.min()), "max": float(values.max()), "rms": rms, "nonfinite": count}


def note_of(key: str, array: Array, samples: int) -> dict[str, Any]:
    """The note of a dropped value; of a parameter also the digest of its bytes, which proves a layout map."""
    note: dict[str, Any] = {"shape": list(array.shape), "dtype": array.dtype.name}
    note.update(measures(array))
    note["hash"] = weight_hash(array)
    note["samples"] = min(samples, array.size)
    if key.startswith("parameter:"):
        note["digest"] = digest(array)
    return note


def stand_in(key: str, note: Mapping[str, Any]) -> Array | None:
    """Seeded noise of a note's shape, size and range, for a value that cannot be had; ``None`` for whole numbers."""
    if note.get("rms") is None or np.dtype(dtype_of(note)).kind in "iubc":
        return None
    drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(note["shape"]))
    return np.asarray(np.clip(drawn * float(note["rms"]), float(note["min"]), float(note["max"])))


def dtype_of(note: Mapping[str, Any]) -> np.dtype:
    """The dtype that a note names.

    Raises:
        ImportError: bfloat16 or float8 without the package ml_dtypes.
    """
    name = str(note["dtype"])
    if name.startswith(("bfloat16", "float8")):
        import ml_dtypes

        extended: np.dtype = np.dtype(getattr(ml_dtypes, name))
        return extended
    plain: np.dtype = np.dtype(name)
    return plain

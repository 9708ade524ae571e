"""Sizes: what a budget says, and what a recording on disk will take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porting_check.neutral.errors import InputError
from porting_check.neutral.trace import Trace
from porting_check.neutral.tracefile import StoredValues

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kMG]?)(i?)B?\s*$", re.IGNORECASE)

_OVERHEAD = 140
"""Bytes of the entry of a stored value in a shard's header and in the index, besides its key twice."""

_NOTE = 280
"""Bytes of a note in the index, besides the key: numbers, hash and digest."""


def parse_size(text: int | str | None) -> int | None:
    """A size in bytes: a whole number, or text with a unit (``20MB``, ``512 KiB``).

    Raises:
        InputError: no size.

    Example:
        >>> parse_size("20MB"), parse_size("1KiB"), parse_size(None)
        (20000000, 1024, None)
    """
    if text is None:
        return None
    found = _SIZE.match(str(text))
    size = 0
    if found:
        base = 1024 if found[3] else 1000
        size = int(float(found[1]) * base ** " kmg".index(found[2].lower() or " "))
    if size <= 0:
        raise InputError(
            f"the budget {str(text)!r} is no size; expected bytes, or a size like 500KB, 20MB or 1.5GiB"
        )
    return size


def words(size: float) -> str:
    """A size for people.

    Example:
        >>> words(3_140_000), words(900)
        ('3.1 MB', '0.9 kB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.1f} kB"


def stored(key: str, size: int) -> int:
    """Bytes on disk of a value of ``size`` bytes."""
    return size + 2 * len(json.dumps(key)) + _OVERHEAD


def noted(key: str, rank: int, itemsize: int, samples: int) -> int:
    """Bytes on disk of the note and the sample of a dropped value."""
    return (
        len(json.dumps(key))
        + _NOTE
        + 8 * rank
        + (stored("kept:" + key, samples * itemsize) if samples else 0)
    )


def fixed(trace: Trace) -> int:
    """Bytes of the index without values: records, head and tail."""
    parts: list[Mapping[str, Any]] = [record.to_json() for record in trace.records]
    parts += [trace.environment.to_json(), trace.checks.to_json()]
    ports = [port.to_json() for port in trace.inputs + trace.outputs]
    return sum(len(json.dumps(part, separators=(",", ":"))) + 14 for part in [*parts, ports]) + 4096


def size_of(trace: Trace) -> int:
    """Bytes of a recording: its files where it lies on disk, its arrays where it is in memory."""
    if isinstance(trace.values, StoredValues):
        return sum(file.stat().st_size for file in Path(trace.values.path).iterdir() if file.is_file())
    return sum(array.nbytes for array in trace.values.values())

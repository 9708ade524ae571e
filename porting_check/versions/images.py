"""A set of images as environments: ``--images docker/matrix.toml`` takes every image of a framework that the file lists."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from porting_check.neutral.errors import InputError

REPOSITORY = "porting-check"


def images_of(path: str | Path, frameworks: Sequence[str]) -> dict[str, str]:
    """The images of some frameworks, in the file's order: environments by name, as ``pc.matrix`` takes them.

    The file holds tables ``[[image]]`` with ``name``, ``framework`` and ``version``, and perhaps ``image`` (else it is
    ``porting-check/<framework>:<major.minor>``); those with ``built = false`` are left out.

    Raises:
        InputError: the file cannot be read, is no such list, or has no image of these frameworks.

    Example:
        >>> images_of("docker/matrix.toml", ["onnxruntime"])                     # doctest: +SKIP
        {'onnxruntime-1.10': 'docker:porting-check/onnxruntime:1.10', ...}
    """
    try:
        rows = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("image")
    except (OSError, ValueError) as error:
        raise InputError(f"the list of images {str(path)!r} cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _complete(row) for row in rows):
        raise InputError(
            f"{str(path)!r} is no list of images: expected [[image]] with name, framework and version"
        )
    found = {
        str(row["name"]): f"docker:{_tag(row)}"
        for row in rows
        if row["framework"] in frameworks and row.get("built", True)
    }
    if not found:
        known = sorted({str(row["framework"]) for row in rows})
        wanted = ", ".join(frameworks) or "no framework"
        raise InputError(
            f"{str(path)!r} lists no image of {wanted} that can be built; it has {', '.join(known)}"
        )
    return found


def _complete(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(key), str) for key in ("name", "framework", "version"))


def _tag(row: dict[str, Any]) -> str:
    short = ".".join(str(row["version"]).split(".")[:2])
    return str(row.get("image") or f"{REPOSITORY}/{row['framework']}:{short}")

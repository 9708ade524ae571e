"""The supported environments, read from ``matrix.toml``. Standard library only."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
REPOSITORY = "porting-check"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One row of the matrix; ``matrix.toml`` explains the fields."""

    name: str
    framework: str
    version: str
    python: str
    requirements: Sequence[str]
    constraints: bool = False
    index: str = ""
    cpu: Mapping[str, str] = field(default_factory=dict)
    built: bool = True
    reason: str = ""

    @property
    def short(self) -> str:
        """Major and minor version: ``1.10``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def tag(self) -> str:
        """``porting-check/torch:1.10``."""
        return f"{REPOSITORY}/{self.framework}:{self.short}"

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile of its framework."""
        return FOLDER / f"{self.framework}.Dockerfile"

    @property
    def lock(self) -> str:
        """Its lock, relative to this folder."""
        return f"locks/{self.framework}-{self.short}.txt"

    @property
    def base(self) -> str:
        """The public base image."""
        return f"python:{self.python}-slim"


def images(path: Path = FOLDER / "matrix.toml") -> dict[str, Image]:
    """Every image by its name, in the order of the file."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["image"]
    return {row["name"]: Image(**row) for row in rows}


def chosen(names: Sequence[str]) -> list[Image]:
    """The images of these names; with none, all that are built.

    Raises:
        ValueError: no image has this name; lists those there are.
    """
    known = images()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"matrix.toml has no image {', '.join(unknown)}; it has {', '.join(known)}")
    return [known[name] for name in names] if names else [image for image in known.values() if image.built]

"""Where a side runs, as the user says it: ``venv:tensorflow==2.5.0,python==3.9``, ``docker:IMAGE``, ``python:PATH``, or nothing.

Options follow after commas with a single ``=``: ``memory=8g``, ``timeout=10m``, ``files=weights``, ``network=yes``,
``python=/opt/conda/bin/python`` (in an image), ``lock=tf25.txt`` (of a ``venv:``), ``env.NAME=VALUE``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from porting_check.neutral.errors import PortingError

Kind = Literal["local", "python", "venv", "docker"]

FORMS = (
    "expected venv:REQUIREMENT,…,python==3.9, docker:IMAGE, python:PATH, nothing (this interpreter), or a name of "
    "[environments.NAME] in porting-check.toml"
)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600}


class EnvironmentSpecError(PortingError):
    """A description of an environment that cannot be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """Where a side runs.

    Attributes:
        kind: ``local`` (a subprocess of this interpreter), ``python`` (of another one), ``venv`` (made and cached) or ``docker``.
        text: as the user wrote it, or the name in ``porting-check.toml``; shown in messages and reports.
        requirements: of a ``venv``: PEP 508 lines, or paths of requirement files.
        python: of a ``venv``: a version (``3.9``) or an interpreter; of ``docker``: the interpreter in the image
            (``python3`` when empty); of ``python``: the interpreter.
        image: of ``docker``.
        lock: of a ``venv``: a file that holds the locked versions; written when it does not exist, used when it does.
        memory: most bytes of resident memory; 0 is no limit.
        timeout: most seconds a run may take; 0 is no limit.
        network: whether the inside may reach the network (``docker``; the others always can).
        files: further files and folders that the model reads; read-only in an image.
        variables: environment variables of the inside.

    Example:
        >>> spec = parse("venv:tensorflow==2.5.0,numpy>=1.19,<1.20,python==3.9,memory=8g")
        >>> spec.requirements, spec.python, spec.memory
        (('tensorflow==2.5.0', 'numpy>=1.19,<1.20'), '3.9', 8589934592)
    """

    kind: Kind = "local"
    text: str = ""
    requirements: tuple[str, ...] = ()
    python: str = ""
    image: str = ""
    lock: str = ""
    memory: int = 0
    timeout: float = 0
    network: bool = False
    files: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.text or "this interpreter"


def parse(text: str) -> EnvironmentSpec:
    """Understand one ``--reference-env`` or ``--candidate-env``.

    Raises:
        EnvironmentSpecError: an unknown kind or option, nothing after the colon, or a value that is no size or time.

    Example:
        >>> parse("docker:tensorflow/tensorflow:2.5.0,timeout=10m").image
        'tensorflow/tensorflow:2.5.0'
        >>> parse("").kind
        'local'
    """
    if not text or text == "local":
        return EnvironmentSpec()
    kind, colon, rest = text.partition(":")
    if kind not in ("python", "venv", "docker") or not colon or not rest.strip():
        raise EnvironmentSpecError(f"the environment {text!r} cannot be understood; {FORMS}")
    pieces = _pieces(rest)
    options: dict[str, str] = {}
    for piece in list(pieces):
        if option := re.match(r"^([a-z]+(?:\.\w+)?)\s*=(?!=)\s*(.*)$", piece):
            pieces.remove(piece)
            key, value = option.groups()
            options[key] = f"{options[key]},{value}" if key in options else value
    spec = _with_options(EnvironmentSpec(kind=kind, text=text), options)  # type: ignore[arg-type]
    if kind == "venv":
        return _virtualenv(spec, pieces)
    if len(pieces) != 1:
        raise EnvironmentSpecError(
            f"the environment {text!r} names {len(pieces)} {'images' if kind == 'docker' else 'interpreters'}: "
            f"{', '.join(pieces)}; {FORMS}"
        )
    return replace(spec, image=pieces[0]) if kind == "docker" else replace(spec, python=pieces[0])


def _pieces(rest: str) -> list[str]:
    """Split at commas; ``<1.20`` after ``numpy>=1.19`` belongs to it, and commas in brackets (extras) do not split."""
    pieces: list[str] = []
    for piece in re.split(r",(?![^\[]*\])", rest):
        if pieces and re.match(r"\s*(<|>|!=|~=|==)", piece):
            pieces[-1] += "," + piece.strip()
        elif piece.strip():
            pieces.append(piece.strip())
    return pieces


def _virtualenv(spec: EnvironmentSpec, pieces: list[str]) -> EnvironmentSpec:
    python = spec.python
    requirements = []
    for piece in pieces:
        wanted = re.match(r"^python\s*==?\s*([\d.]+)$", piece)
        if wanted:
            python = wanted.group(1)
        elif re.match(r"^python\s*[<>!~]", piece):
            raise EnvironmentSpecError(
                f"{spec.text!r}: give one Python version, as python==3.9; found {piece!r}"
            )
        else:
            requirements.append(piece)
    if not requirements:
        raise EnvironmentSpecError(f"{spec.text!r} names no package; {FORMS}")
    return replace(spec, requirements=tuple(requirements), python=python)


def _with_options(spec: EnvironmentSpec, options: Mapping[str, str]) -> EnvironmentSpec:
    variables = {key[4:]: value for key, value in options.items() if key.startswith("env.")}
    made = replace(spec, variables=variables)
    for key, value in options.items():
        if key == "memory":
            made = replace(made, memory=size(value))
        elif key == "timeout":
            made = replace(made, timeout=seconds(value))
        elif key == "files":
            made = replace(made, files=tuple(value.split(",")))
        elif key == "network":
            made = replace(made, network=_yes(spec.text, value))
        elif key == "lock" and spec.kind == "venv":
            made = replace(made, lock=value)
        elif key == "python" and spec.kind in ("docker", "venv"):
            made = replace(made, python=value)
        elif not key.startswith("env."):
            raise EnvironmentSpecError(
                f"{spec.text!r}: {spec.kind}: knows no option {key!r}; there are memory, timeout, files, network, python, "
                "lock, env.NAME (and a requirement has two equals signs: tensorflow==2.5.0)"
            )
    return made


def _yes(text: str, value: str) -> bool:
    if value.lower() not in ("yes", "no", "true", "false"):
        raise EnvironmentSpecError(f"{text!r}: network={value!r}; expected yes or no")
    return value.lower() in ("yes", "true")


def size(text: str) -> int:
    """Bytes of ``8g``, ``512m``.

    Example:
        >>> size("1.5k")
        1536

    Raises:
        EnvironmentSpecError: not a size.
    """
    return int(_scaled(text, r"([bkmgt]?)(?:i?b)?", _UNITS, "a size like 8g or 512m"))


def seconds(text: str) -> float:
    """Seconds of ``90``, ``10m``, ``2h``.

    Example:
        >>> seconds("10m")
        600.0

    Raises:
        EnvironmentSpecError: not a time.
    """
    return _scaled(text, "([smh]?)", _TIMES, "a time like 90, 10m or 2h")


def _scaled(text: str, suffix: str, units: Mapping[str, int], expected: str) -> float:
    found = re.match(rf"^(\d+(?:\.\d+)?)\s*{suffix}$", text.strip().lower())
    if not found or float(found.group(1)) <= 0:
        raise EnvironmentSpecError(f"{text!r} is not {expected}")
    return float(found.group(1)) * units[found.group(2)]

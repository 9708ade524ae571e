"""``porting-check.toml``: named environments, and which side runs in which.

    [environments.tf25]
    venv = ["tensorflow==2.5.0", "numpy~=1.19.2", "protobuf<3.21"]
    python = "3.9"
    lock = "locks/tf25.txt"

    [environments.torch110]
    docker = "porting-check/torch:1.10"
    memory = "8g"
    timeout = "10m"
    files = ["weights"]
    variables = { OMP_NUM_THREADS = "1" }

    [compare]
    reference-env = "tf25"
    candidate-env = "torch110"

The file is looked for in the working folder and those above it; ``[tool.porting-check]`` of a ``pyproject.toml`` serves as well.
Paths in it are relative to its folder. What the command line says comes before it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from porting_check.environments.specification import (
    FORMS,
    EnvironmentSpec,
    EnvironmentSpecError,
    parse,
    seconds,
    size,
)
from porting_check.neutral.errors import PortingError

FILE = "porting-check.toml"
SIDES = ("reference-env", "candidate-env")


class ConfigurationError(PortingError):
    """A configuration file that cannot be read or understood."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a project says once for all runs.

    Attributes:
        path: of the file; empty when there is none.
        environments: by name.
        compare: names of environments by option (``reference-env``, ``candidate-env``).
    """

    path: str = ""
    environments: Mapping[str, EnvironmentSpec] = field(default_factory=dict)
    compare: Mapping[str, str] = field(default_factory=dict)


def configuration(start: Path | None = None) -> Configuration:
    """The configuration that holds in a folder: of the nearest file in it or above it.

    Raises:
        ConfigurationError: not TOML, unknown keys, or values of the wrong kind; with the file and the key.

    Example:
        >>> configuration().environments                     # doctest: +SKIP
        {'tf25': EnvironmentSpec(kind='venv', ...)}
    """
    here = (start or Path()).resolve()
    for folder in (here, *here.parents):
        own, project = folder / FILE, folder / "pyproject.toml"
        if own.is_file():
            return _read(own, _toml(own))
        if project.is_file():
            tool = _toml(project).get("tool", {})
            if isinstance(tool, Mapping) and "porting-check" in tool:
                return _read(project, tool["porting-check"])
    return Configuration()


def environment(wanted: EnvironmentSpec | str | None, known: Configuration | None = None) -> EnvironmentSpec:
    """What ``--reference-env``, ``environments=`` and the like mean: a specification, its text, or a name from the file.

    Raises:
        EnvironmentSpecError: neither; with the nearest name.

    Example:
        >>> environment("docker:python:3.9-slim").kind
        'docker'
    """
    if isinstance(wanted, EnvironmentSpec):
        return wanted
    text = (wanted or "").strip()
    if not text or text == "local" or ":" in text:
        return parse(text)
    given = configuration() if known is None else known
    if text in given.environments:
        return given.environments[text]
    near = difflib.get_close_matches(text, list(given.environments), 1)
    names = ", ".join(sorted(given.environments)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"named in {given.path or FILE}: {names}"
    raise EnvironmentSpecError(f"no environment is called {text!r}; {hint}; {FORMS}")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None


def _read(path: Path, data: Any) -> Configuration:
    table = _table(path, "", data)
    _known(path, "", table, ("environments", "compare"))
    found = {
        name: _environment(path, str(name), _table(path, f"environments.{name}", entry))
        for name, entry in _table(path, "environments", table.get("environments", {})).items()
    }
    sides = _table(path, "compare", table.get("compare", {}))
    _known(path, "compare", sides, SIDES)
    return Configuration(
        str(path), found, {key: _text(path, f"compare.{key}", v) for key, v in sides.items()}
    )


def _environment(path: Path, name: str, entry: Mapping[str, Any]) -> EnvironmentSpec:
    place = f"environments.{name}"
    _known(path, place, entry, ("venv", "docker", *_READERS))
    kinds = [kind for kind in ("venv", "docker") if kind in entry]
    if len(kinds) > 1 or not (kinds or "python" in entry):
        raise ConfigurationError(
            f"{path}: [{place}] needs one of venv = [REQUIREMENTS], docker = IMAGE or python = PATH; found "
            f"{', '.join(sorted(entry)) or 'nothing'}"
        )
    made = EnvironmentSpec(kind=kinds[0] if kinds else "python", text=name)  # type: ignore[arg-type]
    for key, value in entry.items():
        try:
            made = replace(made, **_READERS[key](path, f"{place}.{key}", value)) if key in _READERS else made
        except EnvironmentSpecError as error:
            raise ConfigurationError(f"{path}: {place}.{key}: {error}") from None
    if "docker" in entry:
        return replace(made, image=_text(path, f"{place}.docker", entry["docker"]))
    if "venv" in entry:
        lines = _texts(path, f"{place}.venv", entry["venv"])
        return replace(made, requirements=tuple(_beside(path, line) for line in lines))
    return replace(made, python=_beside(path, made.python))


def _beside(path: Path, text: str) -> str:
    """A path relative to the file's folder, where there is such a file; other texts as they are."""
    return str(path.parent / text) if (path.parent / text).exists() else text


def _table(path: Path, place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{path}: [{place}] is a {type(value).__name__}; expected a table")
    return value


def _known(path: Path, place: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(keys)}"
            raise ConfigurationError(f"{path}: [{place or 'the file'}] has the key {key!r}; {hint}")


def _text(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{path}: {place} is {value!r}; expected a text")
    return value


def _texts(path: Path, place: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise ConfigurationError(f"{path}: {place} is {value!r}; expected a list of texts")
    return tuple(_text(path, place, item) for item in items)


def _truth(path: Path, place: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{path}: {place} is {value!r}; expected true or false")
    return value


def _variables(path: Path, place: str, value: Any) -> dict[str, str]:
    return {str(key): _text(path, f"{place}.{key}", item) for key, item in _table(path, place, value).items()}


_READERS: Mapping[str, Callable[[Path, str, Any], dict[str, Any]]] = {
    "python": lambda path, place, value: {"python": _text(path, place, value)},
    "lock": lambda path, place, value: {"lock": str(path.parent / _text(path, place, value))},
    "memory": lambda path, place, value: {"memory": size(str(value))},
    "timeout": lambda path, place, value: {"timeout": seconds(str(value))},
    "network": lambda path, place, value: {"network": _truth(path, place, value)},
    "files": lambda path, place, value: {
        "files": tuple(str(path.parent / item) for item in _texts(path, place, value))
    },
    "variables": lambda path, place, value: {"variables": _variables(path, place, value)},
}
"""What each key of an environment means; paths are relative to the file."""

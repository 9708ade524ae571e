"""From the text of command-line options to what the verbs take, and back to one line to copy."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from porting_check.cli_support import PROGRAM


def assignment(item: str, option: str, form: str) -> tuple[str, str]:
    """The two sides of ``name=value``; ``option`` and ``form`` are for the error."""
    name, equals, value = item.partition("=")
    if not (equals and name and value):
        raise typer.BadParameter(f"{item!r} is not of the form {form}", param_hint=option)
    return name, value


def layouts(items: Sequence[str]) -> dict[str, str | dict[str, str]]:
    """``reference=NHWC`` and ``candidate:image=NCHW`` as what :func:`porting_check.compare` takes.

    Example:
        >>> layouts(["reference=NHWC", "candidate:image=NCHW"])
        {'reference': 'NHWC', 'candidate': {'image': 'NCHW'}}
    """
    found: dict[str, str | dict[str, str]] = {}
    for item in items:
        target, layout = assignment(item, "--layout", "SIDE[:INPUT]=LAYOUT")
        side, _, name = target.partition(":")
        if side not in ("reference", "candidate"):
            raise typer.BadParameter(
                f"{item!r} names the side {side!r}; expected reference or candidate", param_hint="--layout"
            )
        before = found.get(side)
        if not name and before is None:
            found[side] = layout
        elif name and not isinstance(before, str):
            found[side] = {**(before or {}), name: layout}
        else:
            raise typer.BadParameter(
                f"the {side} has a layout for all its inputs and another one", param_hint="--layout"
            )
    return found


def own_layouts(items: Sequence[str]) -> str | dict[str, str]:
    """``NHWC`` for all inputs, or ``image=NHWC`` for one, as what :func:`porting_check.record` takes.

    Example:
        >>> own_layouts(["NHWC"]), own_layouts(["image=NHWC", "mask=NHW"])
        ('NHWC', {'image': 'NHWC', 'mask': 'NHW'})
    """
    if len(items) == 1 and "=" not in items[0]:
        return items[0]
    return dict(assignment(item, "--layout", "INPUT=LAYOUT") for item in items)


def named_files(items: Sequence[str]) -> dict[str, str] | None:
    """``FILE`` and ``name=FILE`` by input name.

    One file without a name keeps the names inside it; several without names are numbered.

    Example:
        >>> named_files(["cat.npy"]), named_files(["ids=a.npy"]), named_files(["a.npy", "b.npy"])
        ({'': 'cat.npy'}, {'ids': 'a.npy'}, {'0': 'a.npy', '1': 'b.npy'})
    """
    found: dict[str, str] = {}
    for position, item in enumerate(items):
        name, equals, path = item.partition("=")
        if not equals or os.path.exists(item):
            name, path = "" if len(items) == 1 else str(position), item
        if not path or name in found:
            reason = "names no file" if not path else f"gives input {name!r} a second time"
            raise typer.BadParameter(f"{item!r} {reason}", param_hint="--inputs")
        found[name] = path
    return found or None


def chosen_environments(
    reference: str, candidate: str, reference_env: str | None, candidate_env: str | None
) -> dict[str, str]:
    """Where each side runs: as the options say, else as ``[compare]`` of porting-check.toml says; nothing for recordings.

    Raises:
        ConfigurationError: a ``porting-check.toml`` that cannot be understood.
    """
    from porting_check.configuration import configuration
    from porting_check.recorder.sources import is_trace

    known = configuration().compare
    asked = {"reference": reference_env, "candidate": candidate_env}
    models = {"reference": reference, "candidate": candidate}
    found = {}
    for side, given in asked.items():
        default = "" if is_trace(models[side]) else known.get(f"{side}-env", "")
        if given or default:
            found[side] = given or default
    return found


def tolerance(rtol: float | None, atol: float | None) -> None:
    """Refuse a lone, negative or infinite tolerance."""
    if (rtol is None) != (atol is None):
        raise typer.BadParameter(
            "give both or neither: a lone one hides what the other allows", param_hint="--rtol, --atol"
        )
    for name, value in (("--rtol", rtol), ("--atol", atol)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise typer.BadParameter(
                f"{value} is not a tolerance: it must be a finite number, 0 or more", param_hint=name
            )


def default_recording(model: str) -> str:
    """A name for a recording beside the model's own.

    Example:
        >>> default_recording("nets/resnet.keras"), default_recording("port.py:build")
        ('resnet.trace', 'build.trace')
    """
    name = Path(model).name or "model"
    head, colon, function = name.rpartition(":")
    stem = function if colon and head and function.isidentifier() else Path(name).stem
    return f"{stem or 'model'}.trace"


def command_line(
    reference: str,
    candidate: str,
    inputs: Sequence[str],
    layout: Sequence[str],
    mapping: Sequence[str],
    options: Mapping[str, Any],
) -> str:
    """The same comparison as one line to copy; where reports go is not part of it."""
    words = [PROGRAM, "compare", reference, candidate, "--seed", str(options["seed"])]
    for flag, items in (("--inputs", inputs), ("--layout", layout), ("--map", mapping)):
        for item in items:
            words += [flag, item]
    for side, environment in options.get("environments", {}).items():
        words += [f"--{side}-env", environment]
    words += ["--transfer"] if options["transfer"] else []
    words += ["--gradients"] if options.get("gradients") else []
    words += [] if options.get("shadow", True) else ["--no-shadow"]
    if options["rtol"] is not None:
        words += ["--rtol", repr(options["rtol"]), "--atol", repr(options["atol"])]
    return shlex.join(words)

"""``porting-check matrix``: one model in several environments; which version changed the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from porting_check.cli_arguments import assignment, named_files, own_layouts
from porting_check.cli_options import Inputs, Json, Model, OwnLayout, Quiet, Seed, Verbose
from porting_check.cli_support import coloured, emit, emit_json, progress_bar, results_only, tell

MATRIX_EPILOG = (
    "Exit status: 0 all compute the same, 1 some compute another function, 2 wrong usage, 3 the baseline or all others "
    "could not be run, 4 inconclusive, 130 interrupted."
)

Envs = Annotated[
    list[str] | None,
    typer.Option(
        "--envs",
        "--env",
        "-e",
        metavar="ENVIRONMENT",
        show_default=False,
        help="In the order to compare; repeatable: local (this interpreter), python:PATH, venv:REQUIREMENT,…,python==3.9, "
        "docker:IMAGE, or names from porting-check.toml, with commas between.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="FILE",
        help="Every image that a file like docker/matrix.toml lists for the framework.",
    ),
]
Frameworks = Annotated[
    list[str] | None,
    typer.Option(
        "--framework",
        "-f",
        metavar="NAME",
        help="Whose images, where the model's file does not tell it: torch, tensorflow, jax, onnxruntime; repeatable.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="ENVIRONMENT=MODEL",
        help="Another model for one environment, where it must be built otherwise there; repeatable.",
    ),
]
Baseline = Annotated[
    str, typer.Option("--baseline", metavar="ENVIRONMENT", help="What to compare with; the first one.")
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights by native name, .npz or .safetensors, for the baseline's model.",
    ),
]
Transfer = Annotated[
    bool | None,
    typer.Option(
        "--transfer/--no-transfer",
        show_default=False,
        help="Put the baseline's weights into models that were built with others; by default where the framework is the same.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="Keep the recordings there; run again, only what is missing or changed is recorded.",
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Environments at a time; 0 chooses.")]
Again = Annotated[bool, typer.Option("--again", help="Record everything, also what is kept.")]
Save = Annotated[
    list[Path] | None,
    typer.Option("--save", "-o", metavar="FILE", help="Write .html, .json, .csv, .md or .txt; repeatable."),
]


def matrix(
    context: typer.Context,
    model: Model,
    envs: Envs = None,
    images: Images = None,
    frameworks: Frameworks = None,
    models: Models = None,
    baseline: Baseline = "",
    inputs: Inputs = None,
    layout: OwnLayout = None,
    seed: Seed = 0,
    weights: Weights = None,
    transfer: Transfer = None,
    folder: Folder = None,
    jobs: Jobs = 0,
    again: Again = False,
    save: Save = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run one model in several environments and say which changed the numbers.

    Identical weights and inputs in each; every layer against the baseline's and against the environment's before.

    Example: porting-check matrix net.onnx --envs docker:old --envs local --folder versions --save versions.md
    """
    from porting_check.report.version_table import form

    for target in save or ():
        form(target)
    environments = _environments(model, envs or [], images, frameworks or [])
    options: dict[str, Any] = {
        "models": dict(_model(item) for item in models or ()) or None,
        "baseline": baseline,
        "weights": weights,
        "transfer": transfer,
        "folder": folder,
        "jobs": jobs,
        "seed": seed,
        "layouts": own_layouts(layout) if layout else None,
        "again": again,
    }
    verb = getattr(context.obj, "matrix", None) or _matrix
    with progress_bar(not quiet) as progress, results_only():
        table = verb(model, environments, named_files(inputs or ()), **options, progress=progress)
    for target in save or ():
        tell(f"wrote {table.save(target)}")
    _show(table, as_json=as_json, quiet=quiet, verbose=verbose)
    return int(table.exit_status)


def _show(table: Any, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """The answer on stdout, in the form that was asked for."""
    if as_json:
        found = table.to_json()
        emit_json("matrix", **{key: found[key] for key in found if key not in ("kind", "schema")})
    elif quiet:
        emit(str(table).splitlines()[0])
    else:
        from porting_check.report.version_console import render

        emit(render(table, color=coloured(), limit=None if verbose else 40))


def _matrix(*arguments: Any, **options: Any) -> Any:
    from porting_check.versions import matrix as verb

    return verb(*arguments, **options)


def _environments(
    model: str, envs: list[str], images: Path | None, frameworks: list[str]
) -> list[str] | dict[str, str]:
    """What ``--envs`` lists, and after it the images of a file."""
    if images is None:
        return names(envs)
    from porting_check.recorder.sources import framework_of
    from porting_check.versions.images import images_of

    wanted = frameworks or [name for name in [framework_of(model)] if name]
    if not wanted:
        raise typer.BadParameter(
            f"{model!r} does not tell its framework: say --framework torch or the like", param_hint="--images"
        )
    return {**{name: name for name in names(envs)}, **images_of(images, wanted)}


def names(given: list[str]) -> list[str]:
    """Environments in order; commas part names, and belong to what has a colon.

    Example:
        >>> names(["tf115,tf25", "venv:torch==1.10.0,python==3.9", "local"])
        ['tf115', 'tf25', 'venv:torch==1.10.0,python==3.9', 'local']
    """
    made: list[str] = []
    for text in given:
        parts = [text] if ":" in text else [part.strip() for part in text.split(",")]
        made += [part for part in parts if part]
    return made


def _model(item: str) -> tuple[str, str]:
    """``ENVIRONMENT=MODEL``; an environment that holds ``=`` itself ends at the last one."""
    name, equals, model = item.rpartition("=")
    return (name, model) if equals and name and model else assignment(item, "--model", "ENVIRONMENT=MODEL")

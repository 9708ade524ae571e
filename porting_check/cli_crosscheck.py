"""``porting-check crosscheck``: one network, or one layer, through several frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from porting_check.cli_arguments import named_files, own_layouts
from porting_check.cli_options import MODEL_HELP, Inputs, Json, OwnLayout, Quiet, Seed, Verbose
from porting_check.cli_results import prepare
from porting_check.cli_support import coloured, emit, emit_json, progress_bar, results_only, tell

FORMS = ("crosscheck.json", "crosscheck.md", "crosscheck.txt")
"""What ``--out`` writes."""


def crosscheck(
    context: typer.Context,
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            show_default=False,
            help=MODEL_HELP + " Or one layer: 'Conv(filters=8, kernel=5, stride=2, padding=same)'.",
        ),
    ],
    frameworks: Annotated[
        list[str] | None,
        typer.Option(
            "--framework", "-f", metavar="NAME", help="torch, tensorflow, jax, onnxruntime; repeatable. All."
        ),
    ] = None,
    inputs: Inputs = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", metavar="N,C,H,W", help="Of the input of a layer, channel-first."),
    ] = None,
    seed: Seed = 0,
    layout: OwnLayout = None,
    float64: Annotated[
        bool, typer.Option("--float64", help="Let the frameworks compute in float64.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Write crosscheck.json, .md and .txt there."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run one network in several frameworks and compare every layer.

    Identical weights and inputs in each; every framework in a process of its own.

    Example: porting-check crosscheck 'Conv(filters=8, kernel=5, stride=2, padding=same)'
    """
    options: dict[str, Any] = {"frameworks": frameworks, "seed": seed, "float64": float64}
    options["layouts"] = own_layouts(layout) if layout else None
    subject, given, options["note"] = _subject(network, shape, seed, inputs)
    prepare(out, None)
    with progress_bar(not quiet) as progress, results_only():
        table = context.obj.crosscheck(subject, given, **options, progress=progress)
    for name in FORMS if out is not None else ():
        assert out is not None
        tell(f"wrote {table.save(out / name)}")
    if as_json:
        data = table.to_json()
        emit_json("crosscheck", **{key: data[key] for key in data if key not in ("kind", "schema")})
    elif quiet:
        emit(str(table).splitlines()[0])
    else:
        from porting_check.report.crosstable import render

        emit(render(table, color=coloured(), limit=None if verbose else 40))
    return int(table.exit_status)


def _subject(network: str, shape: str | None, seed: int, inputs: list[str] | None) -> tuple[Any, Any, str]:
    """What to run, on what, and a note: a layer that was written out, or the model as it was named."""
    from porting_check.single_layer import is_layer, parse

    if not is_layer(network):
        if shape is not None:
            raise typer.BadParameter(
                "it gives the input of a layer; a model says its own", param_hint="--shape"
            )
        return network, named_files(inputs or ()), ""
    if inputs:
        raise typer.BadParameter("a layer gets noise; say its --shape", param_hint="--inputs")
    return parse(network, sizes_of(shape), seed)


def sizes_of(text: str | None) -> tuple[int, ...] | None:
    """The sizes in ``1,3,32,32`` or ``1x3x32x32``; ``None`` stays."""
    if text is None:
        return None
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a shape; write 1,3,32,32", param_hint="--shape")
    return tuple(int(part) for part in parts)

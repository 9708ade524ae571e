"""``porting-check sweep``: the error of one layer against one quantity, across frameworks, beside what theory predicts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from porting_check.cli_crosscheck import sizes_of
from porting_check.cli_options import Json, Quiet, Seed, Verbose
from porting_check.cli_support import coloured, emit, emit_json, progress_bar, results_only, tell

MOST = 64
"""Points that a doubling range may give."""


Layer = Annotated[
    str,
    typer.Argument(
        metavar="LAYER", show_default=False, help="One layer: 'Conv(filters=8, kernel=3, padding=same)'."
    ),
]
Vary = Annotated[
    str,
    typer.Option(
        "--vary",
        metavar="QUANTITY=VALUES",
        show_default=False,
        help="What to vary, and its values: kernel=1,3,5,7 or dimension=16..2048 (doubling). A word of the layer, or "
        "batch, channels, size, features, time, dimension, magnitude, weights, mean, depth.",
    ),
]
Frameworks = Annotated[
    list[str] | None,
    typer.Option(
        "--frameworks",
        "--framework",
        "-f",
        metavar="NAMES",
        help="torch, tensorflow, jax, onnxruntime; repeatable. All.",
    ),
]
Shape = Annotated[
    str | None, typer.Option("--shape", metavar="N,C,H,W", help="Of the layer's input, channel-first.")
]
Data = Annotated[str, typer.Option("--data", metavar="KIND", help="normal, relu, uniform, heavy or tiny.")]
Float64 = Annotated[bool, typer.Option("--float64", help="Let the frameworks compute in float64.")]
Save = Annotated[
    list[Path] | None,
    typer.Option(
        "--save", "-o", metavar="FILE", help="Write .html, .svg, .json, .csv, .md or .txt; repeatable."
    ),
]


def sweep(
    context: typer.Context,
    layer: Layer,
    vary: Vary,
    frameworks: Frameworks = None,
    shape: Shape = None,
    data: Data = "normal",
    seed: Seed = 0,
    float64: Float64 = False,
    save: Save = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Measure how the error of a layer grows with one quantity.

    Every framework runs all points on identical numbers; theory gives the band to expect.

    Example: porting-check sweep 'Gemm()' --vary dimension=16..1024 --frameworks torch,jax --save growth.html
    """
    from porting_check.report.sweep_result import form

    for target in save or ():
        form(target)
    quantity, values = _vary(vary)
    options: dict[str, Any] = {"frameworks": _names(frameworks), "shape": sizes_of(shape), "data": data}
    verb = getattr(context.obj, "sweep", None) or _sweep
    with progress_bar(not quiet) as progress, results_only():
        result = verb(layer, quantity, values, **options, seed=seed, float64=float64, progress=progress)
    for target in save or ():
        tell(f"wrote {result.save(target)}")
    _show(result, as_json=as_json, quiet=quiet, verbose=verbose)
    return int(result.exit_status)


def _show(result: Any, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """The answer on stdout, in the form that was asked for."""
    if as_json:
        found = result.to_json()
        emit_json("sweep", **{key: found[key] for key in found if key not in ("kind", "schema")})
    elif quiet:
        emit(str(result).splitlines()[0])
    else:
        from porting_check.report.sweep_console import render

        emit(render(result, color=coloured(), limit=None if verbose else 40))


def _sweep(*arguments: Any, **options: Any) -> Any:
    from porting_check.sweeping import sweep as verb

    return verb(*arguments, **options)


def _names(given: list[str] | None) -> list[str] | None:
    """Frameworks, repeated or with commas between."""
    if not given:
        return None
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def _vary(text: str) -> tuple[str, list[int | float]]:
    """``kernel=1,3,5`` as a name and numbers."""
    name, equals, listed = text.partition("=")
    parts = [part.strip() for part in listed.split(",") if part.strip()]
    if not equals or not name.strip() or not parts:
        raise typer.BadParameter(
            f"{text!r}: write what to vary and its values, as in kernel=1,3,5,7 or dimension=16..2048",
            param_hint="--vary",
        )
    return name.strip(), [value for part in parts for value in _values(part)]


def _values(part: str) -> list[int | float]:
    """One number, or ``16..2048``: from the first, doubling, up to the last."""
    first, dots, last = part.partition("..")
    if not dots:
        return [_number(part)]
    low, high = _number(first), _number(last)
    if not (0 < low <= high and math.isfinite(high)):
        raise typer.BadParameter(
            f"{part!r}: a range doubles from a positive number up to a larger one", param_hint="--vary"
        )
    count = int(math.log2(high) - math.log2(low) + 1e-9) + 1
    if count > MOST:
        raise typer.BadParameter(f"{part!r} gives {count} points; at most {MOST}", param_hint="--vary")
    return [low * 2**step for step in range(count)]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number", param_hint="--vary") from None

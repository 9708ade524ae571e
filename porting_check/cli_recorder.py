"""``porting-check recorder``: the recorder in one file, for environments in which nothing can be installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from porting_check.cli_options import Json, Quiet, Verbose
from porting_check.cli_support import emit, emit_json

EPILOG = "Exit status: 0 written, 2 no such adapter, 3 the file cannot be written."

recorder = typer.Typer(
    name="recorder",
    help="The recorder in one file, for images and environments in which nothing can be installed.",
    epilog="Example: porting-check recorder build\n\n" + EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@recorder.callback()
def _recorder() -> None:
    """The recorder in one file, for images and environments in which nothing can be installed."""


@recorder.command(epilog=EPILOG)
def build(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The file; porting-check-recorder.pyz when left out."
        ),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME",
            help="Also pack this installed adapter of another package; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write porting-check-recorder.pyz: Python 3.7 or newer, numpy and one framework are all that it needs.

    Then, there: python porting-check-recorder.pyz record MODEL --inputs FILE --out NAME.trace

    Example: porting-check recorder build --out recorder.pyz
    """
    from porting_check.packing import NAME, build_recorder

    built = build_recorder(out or Path(NAME), tuple(adapters or ()))
    if as_json:
        facts = {"path": str(built.path), "sha256": built.digest, "bytes": built.size}
        emit_json("recorder", exit_status=0, **facts, adapters=dict(built.adapters))
    elif quiet:
        emit(str(built.path))
    else:
        named = ", ".join(f"{name} ({value})" if verbose else name for name, value in built.adapters.items())
        emit(f"wrote {built.path} ({built.size / 1e6:.1f} MB; adapters: {named})\nsha256:{built.digest}")
    return 0

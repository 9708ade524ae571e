"""The command line. ``porting-check --help`` imports no framework, no numpy and nothing else that is slow.

Exit status: 0 faithful, 1 divergent, 2 wrong usage, 3 a side could not be run, 4 inconclusive,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from porting_check.cli_arguments import (
    assignment,
    chosen_environments,
    command_line,
    default_recording,
    layouts,
    named_files,
    own_layouts,
    tolerance,
)
from porting_check.cli_crosscheck import crosscheck
from porting_check.cli_keep import KEEP_EPILOG, keep
from porting_check.cli_matrix import MATRIX_EPILOG, matrix
from porting_check.cli_options import (
    EPILOG,
    Atol,
    Budget,
    Candidate,
    CandidateEnv,
    Environment,
    Gradients,
    Inputs,
    Json,
    Junit,
    Keep,
    Layout,
    Map,
    Model,
    Out,
    OwnLayout,
    PrintCommands,
    Quiet,
    Reference,
    ReferenceEnv,
    Rtol,
    Seed,
    Shadow,
    Transfer,
    Verbose,
)
from porting_check.cli_recorder import recorder
from porting_check.cli_results import prepare, show, trace_facts, trace_text, with_command, write_all
from porting_check.cli_support import (
    PROGRAM,
    Mode,
    Verbs,
    emit,
    emit_json,
    ended_like_interrupted,
    guarded,
    progress_bar,
    results_only,
    safe_streams,
    tell,
)
from porting_check.cli_sweep import sweep
from porting_check.neutral.errors import PortingError

app = typer.Typer(
    name=PROGRAM,
    help="Is the port of a model faithful? If not: which layer is wrong, why, and what to change.",
    epilog=EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None, *, verbs: Verbs | None = None) -> int:
    """Run one command and return its exit status; never raises for what a user or a model did.

    Example:
        >>> main(["compare", "keras_model.py:build", "port.py:build"])     # doctest: +SKIP
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    safe_streams()
    ended_like_interrupted()
    command = typer.main.get_command(app)
    mode = Mode.of(given, os.environ.get("PORTING_CHECK_DEBUG", ""))
    return guarded(
        lambda: command.main(
            given or ["--help"], prog_name=PROGRAM, standalone_mode=False, obj=verbs or Verbs()
        ),
        mode,
    )


def _version(wanted: bool) -> None:
    if wanted:
        import porting_check

        emit(f"{PROGRAM} {porting_check.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Is the port of a model faithful? If not: which layer is wrong, why, and what to change."""


@app.command(epilog=EPILOG)
def compare(
    context: typer.Context,
    reference: Reference,
    candidate: Candidate,
    inputs: Inputs = None,
    reference_env: ReferenceEnv = None,
    candidate_env: CandidateEnv = None,
    seed: Seed = 0,
    layout: Layout = None,
    mapping: Map = None,
    transfer: Transfer = False,
    gradients: Gradients = False,
    shadow: Shadow = True,
    rtol: Rtol = None,
    atol: Atol = None,
    out: Out = None,
    junit: Junit = None,
    print_commands: PrintCommands = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Compare a candidate with its reference, layer by layer.

    Example: porting-check compare keras_model.py:build torch_port.py:build --inputs cat.npy --out report
    """
    tolerance(rtol, atol)
    environments = chosen_environments(reference, candidate, reference_env, candidate_env)
    options: dict[str, Any] = {
        "layouts": layouts(layout or ()) or None,
        "mapping": dict(assignment(item, "--map", "REFNAME=CANDNAME") for item in mapping or ()) or None,
        "seed": seed,
        "rtol": rtol,
        "atol": atol,
        "transfer": transfer,
        **({"gradients": True} if gradients else {}),
        **({} if shadow else {"shadow": False}),
        **({"environments": environments} if environments else {}),
    }
    files = named_files(inputs or ())
    if print_commands:
        from porting_check.by_hand import comparison

        emit(comparison(reference, candidate, files, options))
        return 0
    prepare(out, junit)
    with progress_bar(not quiet) as progress, results_only():
        report = context.obj.compare(reference, candidate, files, **options, progress=progress)
    report = with_command(
        report, command_line(reference, candidate, inputs or (), layout or (), mapping or (), options)
    )
    for path in write_all(report, out, junit):
        tell(f"wrote {path}")
    show(report, as_json=as_json, quiet=quiet, verbose=verbose)
    return report.exit_status


@app.command(epilog=EPILOG)
def record(
    context: typer.Context,
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help="The recording, a folder; NAME.trace when left out."
        ),
    ] = None,
    inputs: Inputs = None,
    environment: Environment = None,
    layout: OwnLayout = None,
    seed: Seed = 0,
    keep_as: Keep = "all",
    budget: Budget = None,
    print_commands: PrintCommands = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run a model once and keep what every layer computed.

    A recording stands for the model in compare, later or elsewhere.

    Example: porting-check record keras_model.py:build --inputs cat.npy --out keras.trace
    """
    path = output or Path(default_recording(model))
    options: dict[str, Any] = {"layouts": own_layouts(layout)} if layout else {}
    if environment:
        options["environment"] = environment
    if keep_as != "all" or budget:
        options.update(keep=keep_as, budget=budget)
    files = named_files(inputs or ())
    if print_commands:
        from porting_check.by_hand import recording

        emit(recording(model, files, path, {"seed": seed, **options}))
        return 0
    with progress_bar(not quiet) as progress, results_only():
        trace = context.obj.record(model, files, path=str(path), seed=seed, progress=progress, **options)
    if as_json:
        emit_json("recording", exit_status=0, path=str(path), **trace_facts(trace))
    elif not quiet:
        emit(trace_text(trace, path, verbose))
    return 0


app.command(
    epilog="Exit status: 0 all agree, 1 some differ, 2 wrong usage, 3 nothing could be run, 4 inconclusive."
)(crosscheck)

app.command(
    epilog="Exit status: 0 all within round-off, 1 some differ, 2 wrong usage, 3 nothing could be run, 4 inconclusive."
)(sweep)

app.command(epilog=KEEP_EPILOG)(keep)

app.command(epilog=MATRIX_EPILOG)(matrix)

app.add_typer(recorder)


@app.command(name="report", epilog="Exit status: 0 rendered, 2 the file or a target cannot be used.")
def render(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.json", help="A report that compare saved.", show_default=False)
    ],
    targets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="Files to write, by suffix: .html .json .md .xml (JUnit) .csv.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Show a saved report again, or write it in other forms. The models are not needed.

    Example: porting-check report report/report.json pairs.csv junit.xml
    """
    from porting_check.report.json import loads
    from porting_check.report.save import form, save

    for target in targets or ():
        form(target)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise PortingError(f"the report {str(file)!r} cannot be read: {error.strerror or error}") from None
    report = loads(text)
    for target in targets or ():
        tell(f"wrote {save(report, target)}")
    if not targets or as_json:
        show(report, as_json=as_json, quiet=quiet, verbose=verbose)
    return 0


@app.command(epilog="Exit status: 0 ready, 3 no framework can be used or an installed one fails.")
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not try to load the adapters, which imports the frameworks.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Say what can be used here, and what gets in the way.

    Each adapter is loaded in a process of its own, because frameworks disturb each other.

    Example: porting-check doctor
    """
    from porting_check.cli_doctor import document, examine, text

    with progress_bar(True) as progress, results_only():
        found = examine(load=not quick, progress=progress)
    if as_json:
        emit_json("doctor", exit_status=found.exit_status, **document(found))
    else:
        emit(text(found, verbose=verbose))
    return found.exit_status


@app.command(epilog="Exit status: 0 everything came out as it should.")
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the reports go.")] = Path(
        "porting-check-demo"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
) -> int:
    """Verify a real port, then find two planted mistakes.

    MTCNN with its trained weights, from Keras to PyTorch.

    Example: porting-check demo --out demo
    """
    with progress_bar(not quiet) as progress:
        return int(context.obj.demo(out, progress))


if __name__ == "__main__":
    sys.exit(main())

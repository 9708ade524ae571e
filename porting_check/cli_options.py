"""The arguments and options that commands share, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = (
    "A model file (.onnx .keras .h5 .pt2 .pt .tflite .pb), a SavedModel folder, a recording, or a function "
    "that returns the model: file.py:function or package.module:function."
)
EPILOG = (
    "Exit status: 0 faithful, 1 divergent, 2 wrong usage, 3 a side could not be run, 4 inconclusive, "
    "130 interrupted."
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--inputs",
        "-i",
        metavar="[NAME=]FILE",
        help="Input in the reference's layout: .npy, .npz, .safetensors or an image; repeat for several. "
        "Seeded noise when left out.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise that stands in for inputs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, also on failure.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer, and no progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print every pair; show the traceback of an error.")
]

Reference = Annotated[
    str, typer.Argument(metavar="REF", help="The model that is right. " + MODEL_HELP, show_default=False)
]
Candidate = Annotated[
    str, typer.Argument(metavar="CAND", help="Its port, in any of the same forms.", show_default=False)
]
Layout = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="SIDE[:INPUT]=LAYOUT",
        help="Order of an input's axes where it cannot be known: reference=NHWC, candidate:image=NCHW.",
    ),
]
OwnLayout = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="[INPUT=]LAYOUT",
        help="Order of an input's axes where it cannot be known: NHWC.",
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="REFNAME=CANDNAME",
        help="Pair these two layers, where pairing needs help; repeatable.",
    ),
]
Transfer = Annotated[
    bool, typer.Option("--transfer", help="Move the reference's weights into the candidate first.")
]
Gradients = Annotated[
    bool, typer.Option("--gradients", help="Also compare gradients of parameters, inputs and layer outputs.")
]
Shadow = Annotated[
    bool,
    typer.Option(
        "--shadow/--no-shadow",
        help="Also run both whole models in float64, as a second opinion (on by default).",
    ),
]
_ENVIRONMENT = (
    "venv:REQUIREMENT,…,python==3.9 (made and cached), docker:IMAGE, python:PATH, or a name from porting-check.toml; "
    "options follow after commas: memory=8g, timeout=10m."
)
Environment = Annotated[
    str | None,
    typer.Option(
        "--env", metavar="ENV", help="Where the model runs; this Python when left out. " + _ENVIRONMENT
    ),
]
ReferenceEnv = Annotated[
    str | None,
    typer.Option(
        "--reference-env",
        metavar="ENV",
        help="Where the reference runs; this Python when left out. " + _ENVIRONMENT,
    ),
]
CandidateEnv = Annotated[
    str | None,
    typer.Option("--candidate-env", metavar="ENV", help="Where the candidate runs, in the same forms."),
]
Keep = Annotated[
    str,
    typer.Option(
        "--keep",
        metavar="POLICY",
        help="all, boundaries or sampled: how much is kept; see porting-check keep.",
    ),
]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="SIZE", help="Largest size on disk, like 500KB or 20MB.")
]
PrintCommands = Annotated[
    bool,
    typer.Option("--print-commands", help="Run nothing; print what would be run, to be done by hand."),
]
Rtol = Annotated[
    float | None, typer.Option("--rtol", help="Relative tolerance that overrides the verdict; with --atol.")
]
Atol = Annotated[
    float | None, typer.Option("--atol", help="Absolute tolerance that overrides the verdict; with --rtol.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Write report.html, report.json and report.md there."),
]
Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for a CI service.")
]

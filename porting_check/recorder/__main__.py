"""``python -m porting_check.recorder``: record one model in this process and leave; what the other side calls.

Standard library and numpy only, Python 3.7. Errors that the user caused go to ``--error`` as JSON, so that the caller can
raise them again as they were. With ``--request -`` the request is read as one line from standard input after the framework
was imported and the model opened, so that these go on while the other side still decides what to ask.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from porting_check.neutral.errors import InputError, PortingError, RecordingError
from porting_check.neutral.tensorfile import write_tensors
from porting_check.neutral.tracefile import TraceWriter, refuse_foreign
from porting_check.recorder.inputs import fitting, load_inputs, named, probe, suited, translate
from porting_check.recorder.machine import surroundings
from porting_check.recorder.session import Progress, record_model
from porting_check.recorder.sources import open_model

ANNOUNCED = "inputs chosen"
"""The stage that tells that the announced inputs can be read."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Record the model that the arguments name; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        record_to(options.model, options.out, lambda: asked(options.request), _progress)
        return 0
    except PortingError as error:
        return failed(error, options.error)
    except OSError as error:
        return failed(RecordingError(f"recording {options.model!r} failed: {error}"), options.error)


def failed(error: PortingError, path: str) -> int:
    """Leave an error where the other side looks for it, or say it where that cannot be written (the disk is full)."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"type": type(error).__name__, "message": str(error)}, file)
    except OSError:
        print(f"porting-check: {error}", file=sys.stderr)
    return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m porting_check.recorder", description=__doc__)
    parser.add_argument("model", help="a model file, a folder, file.py:function or package.module:function")
    parser.add_argument("--out", required=True, help="the folder to write")
    parser.add_argument(
        "--request",
        default="{}",
        help="JSON: inputs (files by name), like (layouts of those), layouts, seed, weights, float64, check, name, origin, "
        "announce; - reads it from standard input when the model is open",
    )
    parser.add_argument("--error", default="", help="file that receives an error as JSON")
    return parser


def asked(text: str) -> Dict[str, Any]:
    """The request that ``--request`` gives, or that comes on standard input.

    Raises:
        InputError: not an object in JSON, or the other side went away.
    """
    if text == "-":
        text = sys.stdin.readline()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"the request is not JSON: {error}; found {text[:80]!r}") from None
    if not isinstance(found, dict):
        raise InputError(f"the request is a {type(found).__name__}; expected an object")
    return found


def record_to(
    spec: str,
    out: str,
    request: Callable[[], Mapping[str, Any]],
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Open the model, choose its inputs, record it.

    Args:
        spec: the model.
        out: folder of the recording.
        request: called when the model is open; gives ``inputs`` = path by name; ``like`` = layouts of these inputs on the
            side they come from (then they are translated), or the file that :func:`announce` wrote beside them;
            ``layouts`` = declared layouts by input name; ``seed``; ``weights`` = an ``.npz`` of parameters by native name to
            put into the model first; ``check`` = also run unrecorded; ``float64`` = also run the whole model in float64;
            ``name`` of the model for the trace; ``origin`` for its environment; ``announce`` = a file that receives the
            chosen inputs before the model runs, see :func:`announce`.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        PortingError: the model cannot be opened or run, bad inputs, or the recording cannot be written.
    """
    refuse_foreign(out)
    model, adapter = open_model(spec)
    wanted = request()
    if wanted.get("weights"):
        with np.load(wanted["weights"], allow_pickle=False) as archive:
            adapter.assign(model, {name: archive[name] for name in archive.files})
    inputs, layouts = choose_inputs(adapter.inputs(model), wanted)
    if wanted.get("announce"):
        announce(wanted["announce"], inputs, layouts)
        progress(ANNOUNCED, 0, 0)
    with TraceWriter(out, wanted.get("name") or spec, surroundings(adapter, wanted.get("origin"))) as sink:
        checks = record_model(
            adapter,
            model,
            inputs,
            sink,
            layouts=layouts,
            check=bool(wanted.get("check", True)),
            float64=bool(wanted.get("float64", False)),
            progress=progress,
        )
        sink.finish(checks)


def announce(path: str, inputs: Mapping[str, np.ndarray], layouts: Mapping[str, str]) -> None:
    """Write the chosen inputs to a file of tensors and their layouts beside it (``.json``), which comes last.

    Layouts are those known before the model runs; it may turn out that a layer takes an input in another one.
    """
    write_tensors(path, {name: np.asarray(array) for name, array in inputs.items()})
    with open(path + ".json", "w", encoding="utf-8") as file:
        json.dump(dict(layouts), file)


def choose_inputs(specs: Any, request: Mapping[str, Any]) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """The inputs to run with and the layout of each: given ones, translated ones, or seeded probes."""
    declared: Mapping[str, str] = request.get("layouts") or {}
    files: Mapping[str, str] = request.get("inputs") or {}
    known = {spec.name: spec.layout for spec in specs}
    if not files:
        made = probe(specs, int(request.get("seed", 0)))
        return made, fitting({name: _layout(name, declared) or known.get(name, "") for name in made}, made)
    given = load_inputs(files)
    if "like" in request:
        wanted = {spec.name: _layout(spec.name, declared) for spec in specs}
        translated, layouts = translate(given, _like(request["like"]), specs, wanted)
        return named(translated, specs), layouts
    made = named(given, specs)
    layouts = {name: _layout(name, declared) or suited(_layout(name, known), made[name]) for name in made}
    return made, fitting(layouts, made)


def _like(layouts: Any) -> Mapping[str, str]:
    """Layouts by input name, or the file that holds them."""
    if not isinstance(layouts, str):
        return dict(layouts)
    try:
        with open(layouts, encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"the layouts in {layouts!r} cannot be read: {error}") from None


def _layout(name: str, layouts: Mapping[str, str]) -> str:
    """The layout of an input by name, else the one that holds for every input, else ""."""
    return layouts.get(name) or layouts.get("") or ""


def _progress(stage: str, done: int, total: int) -> None:
    """Progress as JSON lines on standard error, which the caller reads."""
    if done % 20 == 0 or done == total:
        print(json.dumps({"stage": stage, "done": done, "total": total}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.stdout = os.fdopen(os.dup(2), "w", buffering=1)
    sys.exit(main())

"""``python -m porting_check.recorder``: record one model in this process and leave; what the other side calls.

Standard library and numpy only, Python 3.7. Errors that the user caused go to ``--error`` as JSON, so that the caller can
raise them again as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from porting_check.neutral.errors import PortingError
from porting_check.neutral.tracefile import TraceWriter
from porting_check.recorder.inputs import fitting, load_inputs, named, probe, suited, translate
from porting_check.recorder.session import record_model
from porting_check.recorder.sources import open_model


def main(arguments: Optional[List[str]] = None) -> int:
    """Record the model that the arguments name; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        record_to(options.model, options.out, json.loads(options.request))
        return 0
    except PortingError as error:
        if options.error:
            with open(options.error, "w", encoding="utf-8") as file:
                json.dump({"type": type(error).__name__, "message": str(error)}, file)
        else:
            print(f"porting-check: {error}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m porting_check.recorder", description=__doc__)
    parser.add_argument("model", help="a model file, a folder, file.py:function or package.module:function")
    parser.add_argument("--out", required=True, help="the folder to write")
    parser.add_argument(
        "--request",
        default="{}",
        help="JSON: inputs (files by name), like (layouts of those), layouts, seed, weights, float64",
    )
    parser.add_argument("--error", default="", help="file that receives an error as JSON")
    return parser


def record_to(spec: str, out: str, request: Mapping[str, Any]) -> None:
    """Open the model, choose its inputs, record it.

    Args:
        spec: the model.
        out: folder of the recording.
        request: ``inputs`` = path by name; ``like`` = layouts of these inputs on the side they come from (then they are
            translated); ``layouts`` = declared layouts by input name; ``seed``; ``weights`` = an ``.npz`` of parameters by
            native name to put into the model first; ``check`` = also run unrecorded; ``float64`` = also run the whole
            model in float64.
    """
    model, adapter = open_model(spec)
    if request.get("weights"):
        with np.load(request["weights"], allow_pickle=False) as archive:
            adapter.assign(model, {name: archive[name] for name in archive.files})
    inputs, layouts = choose_inputs(adapter.inputs(model), request)
    with TraceWriter(out, spec, adapter.environment()) as sink:
        checks = record_model(
            adapter,
            model,
            inputs,
            sink,
            layouts=layouts,
            check=bool(request.get("check", True)),
            float64=bool(request.get("float64", False)),
            progress=_progress,
        )
        sink.finish(checks)


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
        translated, layouts = translate(given, request["like"], specs, wanted)
        return named(translated, specs), layouts
    made = named(given, specs)
    layouts = {name: _layout(name, declared) or suited(_layout(name, known), made[name]) for name in made}
    return made, fitting(layouts, made)


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

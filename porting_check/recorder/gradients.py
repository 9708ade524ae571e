"""``python -m porting_check.recorder.gradients``: differentiate one model in this process and leave.

Standard library and numpy only, Python 3.7. Gradients go to one file of tensors; errors that the user caused to ``--error``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from porting_check.neutral.errors import PortingError
from porting_check.neutral.tensorfile import read_header, read_tensor, write_tensors
from porting_check.recorder.__main__ import failed
from porting_check.recorder.sources import open_model


def main(arguments: Optional[List[str]] = None) -> int:
    """Differentiate the model that the arguments name; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        gradients_to(options.model, options.out, json.loads(options.request))
        return 0
    except PortingError as error:
        return failed(error, options.error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m porting_check.recorder.gradients", description=__doc__)
    parser.add_argument("model", help="a model file, a folder, file.py:function or package.module:function")
    parser.add_argument("--out", required=True, help="the file of tensors to write")
    parser.add_argument(
        "--request", required=True, help="JSON: inputs, cotangents and weights, each a file of tensors"
    )
    parser.add_argument("--error", default="", help="file that receives an error as JSON")
    return parser


def gradients_to(spec: str, out: str, request: Mapping[str, Any]) -> None:
    """Open the model, differentiate it for the given cotangents, write the gradients.

    Args:
        spec: the model.
        out: the file to write; names of tensors are the keys of a recording on the same inputs.
        request: files of tensors: ``inputs`` by name, in the model's own layouts; ``cotangents`` by output path; ``weights``
            = parameters by native name to put into the model first.

    Raises:
        Unsupported: this kind of model cannot be differentiated.
        RunError: the model raised.
    """
    model, adapter = open_model(spec)
    if request.get("weights"):
        adapter.assign(model, read(request["weights"]))
    found = adapter.gradients(model, read(request["inputs"]), read(request["cotangents"]))
    write_tensors(out, {key: np.asarray(array) for key, array in found.items()})


def read(path: str) -> Dict[str, np.ndarray]:
    """The tensors of a file by name, owned."""
    header = read_header(path)
    return {name: np.array(read_tensor(path, name, header)) for name in header["tensors"]}


if __name__ == "__main__":
    sys.stdout = os.fdopen(os.dup(2), "w", buffering=1)
    sys.exit(main())

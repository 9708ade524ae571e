"""Model files: exported programs and TorchScript. Pickles are refused: loading one runs its code."""

from __future__ import annotations

import contextlib
import os
import zipfile
from typing import Any, Iterator, List

import torch

from porting_check.neutral.errors import ModelError

SUFFIXES = (".pt2", ".pt", ".pth", ".ts", ".torchscript", ".jit")
INSTEAD = (
    "Give a function that builds the module and loads the weights, as file.py:function "
    "(torch.load(..., weights_only=True) in it is safe), or a file from torch.export.save or torch.jit.save"
)
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_RELAX = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load_model(path: str) -> Any:
    """Load an exported program (``.pt2``) or TorchScript (``.pt``), told apart by what is in the file.

    Raises:
        ModelError: no such file, a damaged one, a pickle of weights or of a module, or a kind that cannot be
        told.
    """
    if not os.path.isfile(path):
        raise ModelError(
            f"{path!r} does not exist or is a folder; expected a file of torch.export.save or torch.jit.save"
        )
    names = _names(path)
    if any(name.endswith("constants.pkl") and "/code/" not in name for name in names) and _has(
        names, "/code/"
    ):
        return _script(path)
    if _has(names, "/models/") or _has(names, "serialized_exported_program.json"):
        return _exported(path, names)
    if _has(names, "data.pkl"):
        raise ModelError(
            f"{path!r} is a pickle: weights alone (state_dict) or a whole Python module. {INSTEAD}"
        )
    raise ModelError(f"{path!r} is a zip file, but neither an exported program nor TorchScript. {INSTEAD}")


def _names(path: str) -> List[str]:
    """What is in the archive; old torch.save files are bare pickles."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            start = file.read(2)
        if start[:1] == b"\x80":
            raise ModelError(f"{path!r} is a pickle. {INSTEAD}")
        raise ModelError(
            f"{path!r} is damaged or not a torch file: it is no zip archive (cut short?). {INSTEAD}"
        )
    with zipfile.ZipFile(path) as archive:
        return ["/" + name for name in archive.namelist()]


def _has(names: List[str], part: str) -> bool:
    return any(part in name for name in names)


def _script(path: str) -> Any:
    try:
        return torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path!r} is TorchScript that cannot be loaded: {_first(error)}") from error


def _exported(path: str, names: List[str]) -> Any:
    """Load an exported program with every pickle inside read as bare tensors or not at all."""
    if not hasattr(torch, "export"):
        raise ModelError(
            f"{path!r} is an exported program; torch {torch.__version__} cannot load those (2.1 can)"
        )
    custom = [
        name for name in names if "/constants/" in name and ("custom_obj" in name or "opaque_obj" in name)
    ]
    if custom:
        raise ModelError(
            f"{path!r} holds Python objects ({custom[0]}), which only unpickling could load; that is refused"
        )
    with _weights_only():
        try:
            return torch.export.load(path)
        except Exception as error:
            raise ModelError(
                f"{path!r} is an exported program that cannot be loaded: {_first(error)}"
            ) from error


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Make every ``torch.load`` inside read nothing but tensors, whatever it is asked for."""
    saved = {name: os.environ.pop(name, None) for name in (_FORCE, _RELAX)}
    load = torch.load

    def careful(*args: Any, **kwargs: Any) -> Any:
        kwargs["weights_only"] = True
        return load(*args, **kwargs)

    torch.load = careful
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        torch.load = load
        os.environ.pop(_FORCE, None)
        os.environ.update({name: value for name, value in saved.items() if value is not None})


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

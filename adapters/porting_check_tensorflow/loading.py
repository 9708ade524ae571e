"""Keras' own files, read without running code that they hold."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import zipfile
from typing import Any, Iterator

from porting_check.neutral.errors import ModelError, PortingError

OWN = "build the model in a Python file and give file.py:function"
HDF5 = b"\x89HDF\r\n\x1a\n"


def load_keras(path: str) -> Any:
    """A model from ``.keras`` or ``.h5``.

    Python code in the file (a Lambda layer) is refused, as Keras itself does with ``safe_mode=True``.

    Raises:
        ModelError: damaged, weights only, of another kind, or holding code.
    """
    _check_kind(path)
    with _quiet():
        try:
            load = _loader()
            if "safe_mode" in inspect.signature(load).parameters:
                return load(path, compile=False, safe_mode=True)
            _refuse_code(path)
            return load(path, compile=False)
        except PortingError:
            raise
        except (
            Exception
        ) as error:  # Keras raises anything, from KeyError to UnicodeDecodeError, on a damaged file
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            hint = _hint(str(error))
            raise ModelError(f"Keras cannot load {path!r}: {type(error).__name__}: {first}{hint}") from error


def _loader() -> Any:
    """``load_model`` of Keras; TensorFlow before 2.6 has Keras inside, and another one beside it is not its own."""
    try:
        found: Any = importlib.import_module("keras").models.load_model
        if "safe_mode" in inspect.signature(found).parameters:
            return found
    except ImportError:
        pass
    return importlib.import_module("tensorflow").keras.models.load_model


def _refuse_code(path: str) -> None:
    """Before Keras 2.13 nothing in it refuses Python code in a file.

    Raises:
        ModelError: the file holds a Lambda layer.
    """
    h5py = importlib.import_module("h5py")
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config", "")
    if '"Lambda"' in (config.decode("utf-8") if isinstance(config, bytes) else str(config)):
        raise ModelError(f"{path!r} holds Python code (a Lambda layer), which is not run: {OWN}")


def _check_kind(path: str) -> None:
    """The file must be what its suffix says."""
    if os.path.isdir(path):
        raise ModelError(f"{path!r} is a folder; expected a .keras or .h5 file")
    with open(path, "rb") as file:
        start = file.read(8)
    if path.lower().endswith(".keras"):
        if start == HDF5:
            raise ModelError(f"{path!r} is an HDF5 file with the suffix .keras: rename it to .h5")
        if not zipfile.is_zipfile(path):
            raise ModelError(f"{path!r} is no .keras file: not a zip archive (truncated, or of another kind)")
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        if "config.json" not in names:
            raise ModelError(
                f"{path!r} is no .keras file: the archive holds no config.json but {sorted(names)[:5]}"
            )
    elif start != HDF5:
        raise ModelError(f"{path!r} is no HDF5 file (truncated, or of another kind)")


def _hint(message: str) -> str:
    if "safe_mode" in message or "unsafe_deserialization" in message or "lambda" in message.lower():
        return f". The file holds Python code (a Lambda layer): {OWN}"
    if "No model config" in message or "No model found" in message:
        return ". The file holds weights only: load them where the model is built, in a file.py:function"
    if (
        "custom_objects" in message
        or "register_keras_serializable" in message
        or "Could not locate class" in message
    ):
        return f". The model has classes of its own: {OWN}"
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keras warns about missing compile information, which nobody needs here."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""From what stands on the command line to a live model: model files, ``file.py:function``, ``package.module:function``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from typing import Any, Callable, Dict, Tuple

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import ModelError, PortingError
from porting_check.recorder.registry import adapter_for, installed, load_adapter

SUFFIXES = {
    ".keras": "tensorflow",
    ".h5": "tensorflow",
    ".hdf5": "tensorflow",
    ".tflite": "tensorflow",
    ".pb": "tensorflow",
    ".pt": "torch",
    ".pt2": "torch",
    ".pth": "torch",
    ".onnx": "onnxruntime",
}
"""Framework of a file suffix, so that a file can be opened without importing every framework."""

RUNNABLE = f"a model file ({' '.join(sorted(SUFFIXES))}), a SavedModel folder, file.py:function or package.module:function"
FORMS = RUNNABLE + "; where nothing is run, a recording too"


def is_trace(spec: str) -> bool:
    """Whether a path is (or looks like) a recording."""
    return os.path.isfile(os.path.join(spec, "index.jsonl")) or spec.rstrip("/\\").endswith(".trace")


def open_model(spec: str) -> Tuple[Any, Adapter]:
    """The live model that a command-line argument names, and its adapter.

    Example:
        >>> model, adapter = open_model("port.py:build")        # doctest: +SKIP

    Raises:
        ModelError: nothing there, an unknown suffix, no such function, or the function raised.
        FrameworkMissing: the framework of the file is not installed.
    """
    framework = framework_of(spec)
    if not framework:
        model = call_function(spec)
        return model, adapter_for(model)
    adapter = load_adapter(framework)
    return adapter.load(spec), adapter


def framework_of(spec: str) -> str:
    """Which framework opens what ``spec`` names, without opening it; "" for a function, which tells only when called.

    Raises:
        ModelError: nothing there, or not a model's suffix.
    """
    if _is_function(spec):
        head = spec.rpartition(":")[0]
        if head.endswith(".py") and not os.path.isfile(head):
            raise ModelError(f"the file {head!r} does not exist")
        return ""
    if not os.path.exists(spec):
        raise ModelError(f"{spec!r} does not exist. Expected {FORMS}")
    if is_trace(spec):
        raise ModelError(f"{spec!r} is a recording; here a model is needed that can be run: {RUNNABLE}")
    if os.path.isdir(spec):
        if not os.path.isfile(os.path.join(spec, "saved_model.pb")):
            raise ModelError(
                f"the folder {spec!r} is neither a SavedModel (no saved_model.pb) nor a recording (no index.jsonl)"
            )
        return "tensorflow"
    return _framework(spec)


def _is_function(spec: str) -> bool:
    """``something:name`` with an identifier after the colon (so a Windows drive letter makes no function)."""
    head, colon, name = spec.rpartition(":")
    return bool(colon) and name.isidentifier() and bool(head) and not os.path.exists(spec)


def _framework(spec: str) -> str:
    suffix = os.path.splitext(spec)[1].lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix == ".py":
        raise ModelError(f"{spec!r}: say which function returns the model: {spec}:FUNCTION")
    for framework in sorted(set(installed()) - set(SUFFIXES.values())):
        if suffix in load_adapter(framework).suffixes:
            return framework
    raise ModelError(f"{spec!r}: the suffix {suffix!r} is not a model file's. Expected {FORMS}")


def call_function(spec: str) -> Any:
    """Import the module of ``head:name`` and call its function without arguments.

    Raises:
        ModelError: the module cannot be imported, lacks the name, or the function raised; with the line in the user's file.
    """
    head, _, name = spec.rpartition(":")
    module = _guarded(spec, f"importing {head!r}", lambda: _import(head))
    scope: Dict[str, Any] = vars(module)
    if name not in scope:
        public = sorted(key for key, value in scope.items() if callable(value) and not key.startswith("_"))
        near = difflib.get_close_matches(name, public, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(public[:12]) or 'no functions'}"
        raise ModelError(f"{head!r} has no function {name!r}; {hint}")
    function = scope[name]
    if not callable(function) or adapter_owned(function):
        return function
    return _guarded(spec, f"{name}()", function)


def adapter_owned(value: Any) -> bool:
    """Whether a callable is a model itself (``file.py:model``) and must not be called."""
    if isinstance(value, type) or hasattr(value, "__code__"):
        return False
    try:
        adapter_for(value)
    except PortingError:
        return False
    return True


def _import(head: str) -> Any:
    if not head.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(head)
        finally:
            sys.path.remove(os.getcwd())
    if not os.path.isfile(head):
        raise ModelError(f"the file {head!r} does not exist")
    folder, file = os.path.split(os.path.abspath(head))
    spec = importlib.util.spec_from_file_location("porting_check_user_" + file[:-3].replace("-", "_"), head)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def _guarded(spec: str, doing: str, action: Callable[[], Any]) -> Any:
    """Run the user's code; what it raises becomes one sentence with the place in the user's file."""
    try:
        return action()
    except PortingError:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            f
            for f in frames
            if os.path.basename(os.path.dirname(f.filename)) != "recorder" and "importlib" not in f.filename
        ]
        where = f" ({os.path.basename(own[-1].filename)}, line {own[-1].lineno})" if own else ""
        first = str(error).strip().splitlines()
        raise ModelError(
            f"{spec!r}: {doing} raised {type(error).__name__}{where}: {first[0] if first else ''}"
        ) from error

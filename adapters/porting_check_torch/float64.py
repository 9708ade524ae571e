"""The whole model in float64: a copy with every parameter and tensor cast, run once and watched for what stays float32."""

from __future__ import annotations

import contextlib
import copy
import functools
import types
import warnings
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import torch
from torch import nn

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import Unsupported
from porting_check_torch import models, trees
from porting_check_torch.arrays import dtype_name
from porting_check_torch.keras_models import is_keras

try:
    from torch.utils._python_dispatch import TorchDispatchMode
except ImportError:  # before torch 1.13: what stays float32 is then not named
    TorchDispatchMode = None

NARROW = (torch.float32, torch.float16, torch.bfloat16)
DEEP = 4
"""How many functions deep the closure of a function is followed."""


def wide_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A real or complex tensor in double precision, everything else as it is; the values are the same."""
    if tensor.dtype in NARROW:
        return tensor.detach().double()
    return tensor.detach().to(torch.complex128) if tensor.dtype == torch.complex64 else tensor


def wide_model(model: Any) -> Any:
    """A copy of a model that holds its weights in float64; the caller's is not touched.

    Raises:
        Unsupported: a kind that cannot be copied or cast.
    """
    if models.is_exported(model):
        return _wide_exported(model)
    root = models.root_of(model)
    if root is not None and is_keras(root):
        raise Unsupported(
            "Keras on the torch backend casts its inputs by the dtype policy that its layers were made with; "
            "run it with KERAS_BACKEND=tensorflow to have it in float64"
        )
    if isinstance(model, torch.jit.ScriptFunction):
        raise Unsupported(
            "a compiled function keeps its constants in float32; give the function it was made from"
        )
    try:
        return _wide(model, 0, {})
    except Exception as error:
        if isinstance(error, Unsupported):
            raise
        raise Unsupported(f"the model cannot be copied: {type(error).__name__}: {_first(error)}") from error


def _wide(value: Any, depth: int, known: Dict[int, Any]) -> Any:
    """A module, function or tensor in float64; anything else as it is. ``known`` keeps what is shared shared."""
    if id(value) in known:
        return known[id(value)][1]
    made = value
    if isinstance(value, nn.Module):
        made = _wide_module(models.unwrapped(value))
    elif isinstance(value, torch.Tensor):
        made = wide_tensor(value)
    elif isinstance(value, functools.partial):
        inner = _wide(value.func, depth, known)
        made = functools.partial(inner, *_wide_tree(value.args), **_wide_tree(value.keywords))
    elif isinstance(value, types.MethodType):
        made = types.MethodType(value.__func__, _wide(value.__self__, depth, known))
    elif isinstance(value, types.FunctionType) and depth < DEEP and not _of_library(value):
        made = _wide_function(value, depth, known)
    elif isinstance(value, (list, tuple, dict)):
        made = _wide_container(value, depth, known)
    elif depth == 0 and hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        made = copy.copy(value)
        vars(made).update({name: _wide(held, 1, known) for name, held in vars(value).items()})
    known[id(value)] = (value, made)
    return made


def _wide_container(value: Any, depth: int, known: Dict[int, Any]) -> Any:
    if isinstance(value, dict):
        made = {key: _wide(item, depth + 1, known) for key, item in value.items()}
        return made if any(made[key] is not value[key] for key in value) else value
    items = [_wide(item, depth + 1, known) for item in value] if depth < DEEP else list(value)
    if all(new is old for new, old in zip(items, value)):
        return value
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _wide_module(module: nn.Module) -> nn.Module:
    """A deep copy in double; tensors that are plain attributes too, which ``double`` leaves alone."""
    with warnings.catch_warnings():  # compiled modules tell of gradients that their copies do not have
        warnings.simplefilter("ignore")
        made = copy.deepcopy(module).double()
    for part in made.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for name, held in list(vars(part).items()):
            if name not in ("_parameters", "_buffers", "_modules") and trees.tensors(held):
                vars(part)[name] = trees.replace(held, wide_tensor)
    return made


def _of_library(function: Any) -> bool:
    return str(getattr(function, "__module__", "") or "").split(".")[0] in ("torch", "torchvision", "numpy")


def _wide_function(function: Any, depth: int, known: Dict[int, Any]) -> Any:
    """The function with the modules and tensors of its closure, its globals and its defaults exchanged."""
    scope, cells = dict(function.__globals__), []
    for cell in function.__closure__ or ():
        try:
            cells.append(_cell(_wide(cell.cell_contents, depth + 1, known)))
        except ValueError:  # a cell that is still empty
            cells.append(cell)
    defaults = _wide_tree(function.__defaults__)
    code = function.__code__
    made = types.FunctionType(code, scope, function.__name__, defaults, tuple(cells) or None)
    made.__kwdefaults__ = _wide_tree(function.__kwdefaults__)
    known[id(function)] = (function, made)  # before the globals, which may name the function itself
    for name in code.co_names:
        if name in scope and not isinstance(scope[name], (type, types.ModuleType)):
            scope[name] = _wide(scope[name], depth + 1, known)
    return made


def _cell(value: Any) -> Any:
    """A cell of a closure (``types.CellType`` is newer than Python 3.7)."""
    return (lambda: value).__closure__[0]  # type: ignore[index]


def _wide_tree(value: Any) -> Any:
    return trees.replace(value, wide_tensor)


def _wide_exported(model: Any) -> Any:
    """The graph of an exported program without the checks of dtypes that the exporter wrote into it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = copy.deepcopy(model.module())
    for node in list(made.graph.nodes):
        if node.op == "call_function" and "_assert_tensor_metadata" in str(node.target):
            made.graph.erase_node(node)
    made.recompile()
    return _wide_module(made)


def float64_outputs(model: Any, inputs: Inputs) -> Tuple[Dict[str, torch.Tensor], List[str]]:
    """Outputs of one run in float64 by path, and what computed in less all the same.

    Raises:
        Unsupported: the model cannot be copied or cast.
    """
    from porting_check_torch.record import call_model

    made = wide_model(model)
    arrays = {name: _wide_array(np.asarray(array)) for name, array in inputs.items()}
    args, kwargs = trees.arguments(arrays, models.device_of(model))
    with models.preserved(made), _default_double(), _islands(made) as found:
        outputs = trees.outputs_by_path(call_model(made, args, kwargs))
    return outputs, found


def _wide_array(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


@contextlib.contextmanager
def _default_double() -> Iterator[None]:
    """Tensors that the model makes on its way (``torch.ones``, numbers) are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _islands(model: Any) -> Iterator[List[str]]:
    """Collects what made a narrower float out of float64 while the model ran."""
    found: List[str] = []
    if TorchDispatchMode is None:
        yield found
        return
    path: List[str] = [""]
    handles = _watched(model, path)
    try:
        with _mode(found, path):
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _watched(model: Any, path: List[str]) -> List[Any]:
    """Hooks on the copy that say which of its modules runs."""
    handles: List[Any] = []
    root = models.root_of(model)
    for name, module in root.named_modules() if root is not None else ():
        if name and not isinstance(module, torch.jit.ScriptModule):
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: path.append(name)))
            handles.append(module.register_forward_hook(lambda *_: path.pop() and None))
    return handles


def _mode(found: List[str], path: List[str]) -> Any:
    """A dispatch mode that notes each operator with a float64 operand and a narrower floating result, once a place."""

    class Watch(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else torch imports its whole compiler, which takes seconds

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            made = {t.dtype for t in trees.tensors(result)} & set(NARROW)
            if made and any(t.dtype == torch.float64 for t in trees.tensors((args, kwargs or {}))):
                place = f" in {path[-1]}" if path[-1] else ""
                name = str(func).replace("aten.", "").split(".")[0].lstrip("_")
                kinds = ", ".join(sorted(map(dtype_name, made)))
                text = f"{name}{place} gives {kinds} also when it is given float64"
                if text not in found:
                    found.append(text)
            return result

    return Watch()


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]

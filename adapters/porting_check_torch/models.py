"""What counts as a torch model, its tensors by name, and a model left as it was found."""

from __future__ import annotations

import contextlib
import inspect
import random
import weakref
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import torch
from torch import nn

from porting_check.neutral.errors import WeightsError
from porting_check_torch.arrays import same_dtype, to_array, to_tensor
from porting_check_torch.keras_models import is_keras, layer_paths, named_variables
from porting_check_torch.script_state import State

_UNLIFTED: Any = weakref.WeakKeyDictionary()


def is_exported(model: Any) -> bool:
    """Whether a model is a ``torch.export.ExportedProgram``."""
    return type(model).__name__ == "ExportedProgram" and type(model).__module__.startswith("torch.export")


def is_script(model: Any) -> bool:
    """Whether a model is compiled TorchScript."""
    return isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction))


def unwrapped(model: Any) -> Any:
    """The model inside ``torch.compile``'s wrapper."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def root_of(model: Any) -> Optional[nn.Module]:
    """The module with a model's parameters: itself, an exported program's graph, a bound method's object."""
    if is_exported(model):
        if model not in _UNLIFTED:
            _UNLIFTED[model] = model.module()
        module: nn.Module = _UNLIFTED[model]
        return module
    model = unwrapped(model)
    if isinstance(model, nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def named_tensors(model: Any) -> Dict[str, torch.Tensor]:
    """Parameters and buffers by native name; tied ones under the first of their names."""
    root = root_of(model)
    if root is None:
        return {}
    if is_keras(root):
        return named_variables(root)
    found: Dict[str, torch.Tensor] = {}
    seen = set()
    for name, tensor in list(root.named_parameters()) + list(root.named_buffers()):
        if tensor is not None and id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


def modules_by_path(model: Any) -> Dict[str, nn.Module]:
    """The modules of a model by path; Keras layers by Keras' own names."""
    root = root_of(model)
    if root is None:
        return {}
    return layer_paths(root) if is_keras(root) else dict(root.named_modules())


def device_of(model: Any) -> torch.device:
    """Where a model's first parameter lives."""
    return next((tensor.device for tensor in named_tensors(model).values()), torch.device("cpu"))


def read_parameters(model: Any) -> Dict[str, np.ndarray]:
    """Every parameter and buffer as an owned array."""
    return {name: to_array(tensor) for name, tensor in named_tensors(model).items()}


def write_parameters(model: Any, parameters: Mapping[str, np.ndarray]) -> None:
    """Copy arrays into the model's own tensors; all of them, or none when one does not fit.

    Raises:
        WeightsError: an unknown name, another shape or another dtype.
    """
    known = named_tensors(model)
    root = root_of(model)
    for name, tensor in _every_name(root).items() if root is not None and not is_keras(root) else ():
        known.setdefault(name, tensor)
    problems = [
        problem for name, array in parameters.items() for problem in _misfit(name, np.asarray(array), known)
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise WeightsError(f"nothing was written: {'; '.join(problems[:5])}{more}")
    with torch.no_grad():
        for name, array in parameters.items():
            known[name].copy_(to_tensor(np.asarray(array)))


def _every_name(root: nn.Module) -> Dict[str, torch.Tensor]:
    """All names, the second ones of tied tensors too."""
    found: Dict[str, torch.Tensor] = {}
    for path, module in _every_path(root, "", ()):
        held = list(module._parameters.items()) + list(module._buffers.items())
        found.update({f"{path}.{key}" if path else key: tensor for key, tensor in held if tensor is not None})
    return found


def _every_path(module: nn.Module, path: str, above: Tuple[int, ...]) -> Iterator[Tuple[str, nn.Module]]:
    yield path, module
    for name, child in module._modules.items():
        if child is not None and id(child) not in above:
            yield from _every_path(child, f"{path}.{name}" if path else name, above + (id(module),))


def _misfit(name: str, array: np.ndarray, known: Mapping[str, torch.Tensor]) -> List[str]:
    if name not in known:
        return [f"the model has no parameter or buffer {name!r}"]
    tensor = known[name]
    if tuple(array.shape) != tuple(tensor.shape):
        return [f"{name!r} has shape {tuple(tensor.shape)}, the array {tuple(array.shape)}"]
    if not same_dtype(array, tensor):
        return [f"{name!r} has dtype {str(tensor.dtype)[6:]}, the array {array.dtype.name}"]
    return []


@contextlib.contextmanager
def preserved(model: Any) -> Iterator[None]:
    """Leave a model's state and modes, and all random generators, as they were, whatever happens inside."""
    restore = saved(model)
    try:
        with torch.no_grad():
            yield
    finally:
        restore()


def saved(model: Any) -> Callable[[], None]:
    """Remember a model's buffers, states, modes, and all random generators; returns what puts them back."""
    root = root_of(model)
    modules = list(root.modules()) if root is not None else []
    modes = [(module, module.training) for module in modules]
    buffers = [
        (module, name, tensor, tensor.detach().clone())
        for module in modules
        for name, tensor in module._buffers.items()
        if isinstance(tensor, torch.Tensor)
    ]
    parameters = [(module, dict(module._parameters)) for module in modules if not is_script(module)]
    states = _random_states()
    put_back = State(modules).save()

    def restore() -> None:
        _restore_random(states)
        for module, training in modes:
            if module.training is not training:
                module.training = training
        put_back()
        _restore_tensors(buffers, parameters)

    return restore


def _restore_tensors(
    buffers: List[Tuple[nn.Module, str, torch.Tensor, torch.Tensor]], parameters: List[Any]
) -> None:
    for module, own in parameters:
        if any(module._parameters.get(name) is not tensor for name, tensor in own.items()):
            module._parameters.update(own)
    with torch.no_grad():
        for module, name, tensor, saved in buffers:
            if not is_script(module) and module._buffers.get(name) is not tensor:
                module._buffers[name] = tensor
            if tensor.shape != saved.shape:
                tensor.set_(saved)
            elif not _same_bits(tensor, saved):
                tensor.copy_(saved)


def _same_bits(tensor: torch.Tensor, saved: torch.Tensor) -> bool:
    return bool(torch.equal(tensor, saved))


def _random_states() -> List[Any]:
    cuda = (
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    )
    return [torch.get_rng_state(), cuda, random.getstate(), np.random.get_state()]


def _restore_random(states: List[Any]) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state_all(states[1])
    random.setstate(states[2])
    np.random.set_state(states[3])


_DROPS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")


def differs_in_training(module: nn.Module) -> bool:
    """Whether a module that is in training mode computes something else than it would in inference."""
    if not module.training:
        return False
    kinds = {kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.modules")}
    if kinds & {"_BatchNorm", "_InstanceNorm"}:
        return bool(getattr(module, "track_running_stats", False))
    if kinds & set(_DROPS):
        return float(getattr(module, "p", 0)) > 0
    if "RReLU" in kinds:
        return bool(getattr(module, "lower", 0) != getattr(module, "upper", 0))
    if "RNNBase" in kinds:
        return float(getattr(module, "dropout", 0)) > 0 and int(getattr(module, "num_layers", 1)) > 1
    if "MultiheadAttention" in kinds:
        return float(getattr(module, "dropout", 0)) > 0
    return type(module).__module__.split(".")[0] != "torch" and _asks_for_mode(module)


def _asks_for_mode(module: nn.Module) -> bool:
    """Whether the forward pass of somebody's own module looks at ``self.training``."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return "training" in getattr(code, "co_names", ())

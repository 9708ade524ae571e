"""What inference cannot show: one layer in training mode, and the steps of an optimiser."""

from __future__ import annotations

import contextlib
import inspect
from collections import defaultdict
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from porting_check.neutral.errors import Unsupported
from porting_check_torch import models, trees
from porting_check_torch.arrays import to_array, to_tensor
from porting_check_torch.keras_models import is_keras

BOOKKEEPING = ("params", "param_names", "initial_lr")
"""Entries of a parameter group that are no options."""


def train_layer(
    model: Any, name: str, module: nn.Module, inputs: Sequence[np.ndarray]
) -> Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]:
    """Call a module of the model in training mode and read its tensors; everything is put back afterwards.

    Args:
        model: the whole model, which names the tensors.
        name: the module's path, for messages.
        module: the module.
        inputs: its positional inputs.

    Raises:
        Unsupported: the module cannot be called alone on these inputs.
    """
    held = list(module.parameters()) + list(module.buffers()) + list(models.named_tensors(module).values())
    named = {
        key: tensor for key, tensor in models.named_tensors(model).items() if any(tensor is t for t in held)
    }
    args = [to_tensor(np.asarray(array)).to(models.device_of(module)) for array in inputs]
    options = {"training": True} if is_keras(module) else {}
    with models.preserved(module), _values(held):
        try:
            module.train()
            outputs = module(*args, **options)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise Unsupported(
                f"layer {name!r} cannot train alone: {type(error).__name__}: {first}"
            ) from error
        made = tuple(to_array(tensor) for tensor in trees.outputs_by_path(outputs).values())
        return made, _state(model, named)


@contextlib.contextmanager
def _values(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Put values back that a run wrote into parameters: Keras keeps moving statistics and seeds in them."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                if tensor.shape == value.shape and not torch.equal(tensor, value):
                    tensor.copy_(value)


def _state(model: Any, named: Mapping[str, torch.Tensor]) -> Dict[str, np.ndarray]:
    """The tensors now: a module may have put new ones in the places of its buffers."""
    now = models.named_tensors(model)
    return {key: to_array(now.get(key, tensor)) for key, tensor in named.items()}


def optimizer_steps(
    optimizer: Any,
    parameters: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray]],
    *,
    float64: bool = False,
) -> Tuple[Dict[str, np.ndarray], ...]:
    """Parameters after each step of a fresh copy of the optimiser.

    Raises:
        Unsupported: the optimiser cannot be made anew, or needs more than gradients for a step.
    """
    dtype = torch.float64 if float64 else torch.float32
    tensors = {name: nn.Parameter(to_tensor(np.asarray(a)).to(dtype)) for name, a in parameters.items()}
    steps: List[Dict[str, np.ndarray]] = []
    with models.preserved(None):
        fresh = _fresh(optimizer, list(tensors.values()))
        for given in gradients:
            for name, tensor in tensors.items():
                tensor.grad = to_tensor(np.asarray(given[name])).to(dtype)
            try:
                fresh.step()
            except Exception as error:
                first = (str(error).strip().splitlines() or [""])[0]
                raise Unsupported(
                    f"{type(optimizer).__name__} makes no step from gradients alone: {type(error).__name__}: {first}"
                ) from error
            steps.append({name: to_array(tensor) for name, tensor in tensors.items()})
    return tuple(steps)


def options_of(optimizer: Any) -> Dict[str, Any]:
    """What the optimiser runs with: its groups' options where all groups have the same, else its defaults.

    Example:
        >>> options_of(torch.optim.SGD([torch.zeros(1)], lr=0.5))["lr"]
        0.5
    """
    groups = [_options(group) for group in optimizer.param_groups]
    if groups and all(_same(group, groups[0]) for group in groups[1:]):
        return groups[0]
    return dict(optimizer.defaults)


def _options(group: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in group.items() if key not in BOOKKEEPING}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return set(one) == set(other) and all(_plain(one[key]) == _plain(other[key]) for key in one)


def _plain(value: Any) -> Any:
    """A value that ``==`` answers plainly; options may be tensors (a learning rate), or hold some (betas)."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return tuple(_plain(item) for item in value) if isinstance(value, (list, tuple)) else value


def _fresh(optimizer: Any, tensors: List[nn.Parameter]) -> Any:
    """An optimiser of the same class and options on other parameters, without a state.

    It is made by its class; one whose constructor asks for more is copied instead, and emptied.
    """
    options = {key: _detached(value) for key, value in options_of(optimizer).items()}
    kind = type(optimizer)
    accepted = inspect.signature(kind.__init__).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    try:
        fresh = kind(tensors, **{k: v for k, v in options.items() if anything or k in accepted})
    except Exception:  # noqa: BLE001  a constructor of somebody's own: anything can be wrong with these arguments
        fresh = object.__new__(kind)
        fresh.__dict__.update(optimizer.__dict__)
        fresh.param_groups = [{"params": tensors}]
    fresh.state = defaultdict(dict)
    for group in fresh.param_groups:
        group.update(options)
    return fresh


def _detached(value: Any) -> Any:
    """Options may be tensors, which a scheduler writes into."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value

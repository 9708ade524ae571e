"""Keras 3 on its torch backend: models are modules, but layers, weights and inputs go by Keras' own names."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import torch
from torch import nn

from porting_check.neutral.adapter import InputSpec
from porting_check.neutral.errors import InputError

LAYOUTS = {3: ("NLC", "NCL"), 4: ("NHWC", "NCHW"), 5: ("NDHWC", "NCDHW")}
"""Channels-last and channels-first layouts by rank."""


def is_keras(model: Any) -> bool:
    """Whether a module is a Keras layer or model.

    Example:
        >>> is_keras(nn.ReLU())
        False
    """
    if not isinstance(model, nn.Module):
        return False
    return any(
        base.__name__ == "Layer" and base.__module__.startswith("keras.") for base in type(model).__mro__
    )


def layer_paths(model: Any) -> Dict[str, Any]:
    """Layers by path, without the outermost model's own name: ``conv1``, ``block/conv1``."""
    return dict(_walk(model, "", ()))


def _walk(layer: Any, path: str, above: Tuple[int, ...]) -> Iterator[Tuple[str, Any]]:
    yield path, layer
    names: Dict[str, int] = {}
    for child in getattr(layer, "_layers", None) or []:
        if not is_keras(child) or id(child) in above:
            continue
        name = str(child.name)
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}_{names[name]}"
        yield from _walk(child, f"{path}/{name}" if path else name, above + (id(layer),))


def named_variables(model: Any) -> Dict[str, torch.Tensor]:
    """Weights by layer path and own name: ``conv1/kernel``; those shared by layers under the first of them."""
    found: Dict[str, torch.Tensor] = {}
    seen = set()
    for path, layer in layer_paths(model).items():
        own = list(getattr(layer, "_trainable_variables", ())) + list(
            getattr(layer, "_non_trainable_variables", ())
        )
        for variable in own:
            tensor = variable.value
            if id(tensor) not in seen:
                seen.add(id(tensor))
                name = str(variable.name)
                found[f"{path}/{name}" if path else name] = tensor
    return found


def keras_inputs(model: Any) -> Tuple[InputSpec, ...]:
    """The inputs of a functional or sequential model; empty for one made by subclassing."""
    nested = _structure(model)
    if nested is None:
        return ()
    specs = []
    for name, tensor in _leaves(nested).items():
        shape = tuple(None if size is None else int(size) for size in tensor.shape)
        specs.append(InputSpec(name, shape, str(tensor.dtype), _layout(model, len(shape))))
    return tuple(specs)


def keras_arguments(
    model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tuple[List[Any], Dict[str, Any]]:
    """Inputs as the model takes them: a functional model has one argument, of the structure that it was made with.

    Raises:
        InputError: inputs of other names than the model's.
    """
    nested = _structure(model)
    if nested is None:
        return list(args), dict(kwargs)
    wanted = _leaves(nested)
    given = {str(place): value for place, value in enumerate(args)}
    given.update(kwargs)
    own = {str(tensor.name): path for path, tensor in wanted.items()}
    given = {name if name in wanted else own.get(name, name): value for name, value in given.items()}
    if set(given) != set(wanted) and len(args) == len(wanted):
        given = dict(zip(wanted, args))
    if set(given) != set(wanted):
        raise InputError(
            f"the inputs are called {sorted(given)}; model {model.name!r} has the inputs {sorted(wanted)}"
        )
    return [_filled(nested, given)], {}


def _structure(model: Any) -> Any:
    inner = getattr(model, "_functional", None) or model
    return getattr(inner, "_inputs_struct", None)


def _parts(nested: Any) -> List[Tuple[str, Any]]:
    if isinstance(nested, dict):
        return [(str(key), value) for key, value in nested.items()]
    return [(str(place), value) for place, value in enumerate(nested)]


def _leaves(nested: Any, path: str = "") -> Dict[str, Any]:
    if not isinstance(nested, (dict, list, tuple)):
        return {path or "0": nested}
    found: Dict[str, Any] = {}
    for key, value in _parts(nested):
        found.update(_leaves(value, f"{path}/{key}" if path else key))
    return found


def _filled(nested: Any, given: Mapping[str, Any], path: str = "") -> Any:
    if not isinstance(nested, (dict, list, tuple)):
        return given[path or "0"]
    items = {key: _filled(value, given, f"{path}/{key}" if path else key) for key, value in _parts(nested)}
    return items if isinstance(nested, dict) else type(nested)(items.values())


def _layout(model: Any, rank: int) -> str:
    """The layout that the first layer of this rank works on."""
    if rank not in LAYOUTS:
        return ""
    for layer in layer_paths(model).values():
        if f"{rank - 2}D" in type(layer).__name__ and hasattr(layer, "data_format"):
            return LAYOUTS[rank][layer.data_format == "channels_first"]
    return ""

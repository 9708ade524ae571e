"""Nested arguments and outputs: tensors found, exchanged, and named by path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping as AnyMapping
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import InputError
from porting_check_torch.arrays import to_tensor


def tensors(value: Any) -> List[torch.Tensor]:
    """All tensors in nested lists, tuples, dicts, slices and dataclasses, in order.

    Example:
        >>> len(tensors([torch.zeros(1), {"a": torch.zeros(1)}, None, 3]))
        2
    """
    found: List[torch.Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: List[torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found)
    elif value is not None and not isinstance(value, (int, float, str, torch.dtype, torch.device)):
        for _, item in _items(value):
            _collect(item, found)


def replace(value: Any, exchange: Callable[[torch.Tensor], Any]) -> Any:
    """The same structure of lists, tuples, dicts and slices with every tensor exchanged."""
    if isinstance(value, torch.Tensor):
        return exchange(value)
    if isinstance(value, slice):
        return slice(*(replace(part, exchange) for part in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and not isinstance(value, torch.Size):
        return tuple(replace(item, exchange) for item in value)
    if isinstance(value, list):
        return [replace(item, exchange) for item in value]
    if isinstance(value, dict):
        return {key: replace(item, exchange) for key, item in value.items()}
    return value


def outputs_by_path(outputs: Any) -> Dict[str, torch.Tensor]:
    """The outputs of a model by path: ``"0"``, ``"logits"``, ``"boxes/1"``; a single tensor is ``"0"``.

    Numbers count as tensors without axes; ``None`` and anything else is left out.

    Example:
        >>> sorted(outputs_by_path({"boxes": [torch.zeros(1), torch.zeros(2)], "logits": torch.zeros(3)}))
        ['boxes/0', 'boxes/1', 'logits']
    """
    if isinstance(outputs, (torch.Tensor, int, float, complex)):
        outputs = [outputs]
    return {
        path: item if isinstance(item, torch.Tensor) else torch.tensor(item)
        for path, item in _walk(outputs, "", True)
    }


def _walk(value: Any, path: str, numbers: bool = False) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, torch.Tensor) or (numbers and isinstance(value, (bool, int, float, complex))):
        yield path, value
        return
    for key, item in _items(value):
        yield from _walk(item, f"{path}/{key}" if path else key, numbers)


def _items(value: Any) -> List[Tuple[str, Any]]:
    """The parts of a container by name."""
    if isinstance(value, AnyMapping):
        return [(str(key), item) for key, item in value.items()]
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return [(str(place), item) for place, item in enumerate(value)]
    if isinstance(value, slice):
        return [("start", value.start), ("stop", value.stop), ("step", value.step)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    return []


def arguments(inputs: Inputs, device: torch.device) -> Tuple[List[torch.Tensor], Dict[str, torch.Tensor]]:
    """Inputs by name as positional and keyword tensors of their own memory.

    Raises:
        InputError: positional names that do not count from 0, or a dtype that torch lacks.
    """
    positional = sorted((name for name in inputs if str(name).isdigit()), key=int)
    if positional != [str(place) for place in range(len(positional))]:
        raise InputError(f"positional inputs must be named '0', '1', … without a gap; found {positional}")
    made = {str(name): to_tensor(array).to(device) for name, array in inputs.items()}
    return [made[name] for name in positional], {
        name: t for name, t in made.items() if name not in positional
    }

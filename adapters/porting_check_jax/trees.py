"""Nested arguments, outputs and parameters: arrays found, exchanged, and named by path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping as AnyMapping
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import jax
import jax.numpy as jnp
import numpy as np

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import InputError
from porting_check_jax import compat


def is_array(value: Any) -> bool:
    """Whether a value is an array of JAX (concrete or traced) or of numpy."""
    return isinstance(value, (jax.Array, np.ndarray, np.generic)) or compat.is_tracer(value)


def arrays(value: Any) -> List[Any]:
    """All arrays in a nested value, in order.

    Example:
        >>> len(arrays([jnp.zeros(1), {"a": jnp.zeros(1)}, None, 3]))
        2
    """
    return [leaf for leaf in jax.tree_util.tree_leaves(value) if is_array(leaf)]


def exchange(value: Any, how: Callable[[Any], Any]) -> Any:
    """The same structure with every array exchanged."""
    return jax.tree_util.tree_map(lambda leaf: how(leaf) if is_array(leaf) else leaf, value)


def outputs_by_path(outputs: Any) -> Dict[str, Any]:
    """The outputs of a model by path: ``"0"``, ``"logits"``, ``"boxes/1"``; a single array is ``"0"``.

    Numbers count as arrays without axes; ``None`` and anything else is left out.

    Example:
        >>> sorted(outputs_by_path({"boxes": [jnp.zeros(1), jnp.zeros(2)], "logits": jnp.zeros(3)}))
        ['boxes/0', 'boxes/1', 'logits']
    """
    if is_array(outputs) or isinstance(outputs, (int, float, complex)):
        outputs = [outputs]
    return dict(_walk(outputs, ""))


def _walk(value: Any, path: str) -> Iterator[Tuple[str, Any]]:
    if is_array(value) or isinstance(value, (bool, int, float, complex)):
        yield path, value
        return
    for key, item in _items(value):
        yield from _walk(item, f"{path}/{key}" if path else key)


def _items(value: Any) -> List[Tuple[str, Any]]:
    """The parts of a container by name."""
    if isinstance(value, AnyMapping):
        return [(str(key), item) for key, item in value.items()]
    fields = getattr(value, "_fields", None)
    if fields is not None and isinstance(value, tuple):
        return list(zip(fields, value))
    if isinstance(value, (tuple, list)):
        return [(str(place), item) for place, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    if value is None or isinstance(value, (str, bytes)):
        return []
    pairs = jax.tree_util.tree_flatten_with_path(value)[0]
    return [("/".join(map(key_name, path)), leaf) for path, leaf in pairs if path]


def key_name(key: Any) -> str:
    """One step of a tree path as text: a dict key, an index, an attribute.

    Example:
        >>> [key_name(key) for key in jax.tree_util.tree_flatten_with_path({"a": [1]})[0][0][0]]
        ['a', '0']
    """
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key).strip("./[]'\"")


def leaves_by_path(tree: Any) -> Dict[str, Any]:
    """The arrays of a pytree by path, ``/``-joined: ``"layer1/w"``; a bare array is ``"value"``."""
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(map(key_name, path)) or "value": leaf for path, leaf in pairs if is_array(leaf)}


def arguments(inputs: Inputs) -> Tuple[List[Any], Dict[str, Any]]:
    """Inputs by name as positional and keyword arrays of JAX, of their own memory.

    Raises:
        InputError: positional names that do not count from 0, or a dtype that JAX lacks.
    """
    positional = sorted((name for name in inputs if str(name).isdigit()), key=int)
    if positional != [str(place) for place in range(len(positional))]:
        raise InputError(f"positional inputs must be named '0', '1', … without a gap; found {positional}")
    made = {str(name): to_jax(str(name), array) for name, array in inputs.items()}
    return [made[name] for name in positional], {n: a for n, a in made.items() if n not in positional}


def to_jax(name: str, array: Any) -> Any:
    """An array of numpy as one of JAX; 64 bits become 32 unless ``jax_enable_x64`` is on, as JAX does itself.

    Raises:
        InputError: JAX has no such dtype (text, objects).
    """
    given = np.asarray(array)
    try:
        return jnp.array(given, dtype=jax.dtypes.canonicalize_dtype(given.dtype), copy=True)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"JAX has no arrays of dtype {given.dtype}; input {name!r} has shape {given.shape}; "
            "give numbers (float32, int32, bool, …)"
        ) from error


def narrowed(inputs: Mapping[str, Any]) -> List[str]:
    """A note for each input that JAX takes in another dtype than it was given."""
    notes = []
    for name, array in inputs.items():
        given = np.asarray(array).dtype
        taken = jax.dtypes.canonicalize_dtype(given)
        if taken != given:
            notes.append(
                f"input {name!r} of dtype {given.name} enters as {taken.name} (jax_enable_x64 is off)"
            )
    return notes


def to_array(value: Any) -> np.ndarray:
    """The values as numpy holds them; the memory of a JAX array on the CPU is shared, which nobody can write to.

    Random keys become their bits.
    """
    if compat.is_key(value):
        with compat.evaluating():
            value = jax.random.key_data(value)
    return np.asarray(value)


def owned(value: Any) -> np.ndarray:
    """The values in memory of their own."""
    return np.array(to_array(value))


def contents(value: Any, how: Callable[[Any], Any]) -> Any:
    """Like :func:`exchange`, but leaves objects (modules, random streams) alone unless they are equinox' states."""
    if is_array(value):
        return how(value)
    if isinstance(value, dict):
        return {key: contents(item, how) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [contents(item, how) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [contents(item, how) for item in value]
    if type(value).__module__.startswith("equinox.nn._stateful"):
        return exchange(value, how)
    return value

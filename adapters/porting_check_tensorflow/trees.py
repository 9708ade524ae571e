"""Nested inputs and outputs of a model, flattened to paths and put together again."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import tensorflow as tf


def flatten(outputs: Any) -> Dict[str, Any]:
    """Tensors of a nested structure by path: ``"0"``, ``"logits"``, ``"boxes/1"``; a lone tensor is ``"0"``.

    Example:
        >>> sorted(flatten({"boxes": [tf.zeros(1), tf.zeros(2)], "logits": tf.zeros(3)}))
        ['boxes/0', 'boxes/1', 'logits']
    """
    if is_tensor(outputs):
        return {"0": outputs}
    return dict(_walk(outputs, ""))


def _walk(value: Any, path: str) -> Iterator[Tuple[str, Any]]:
    if is_tensor(value):
        yield path, value
    elif isinstance(value, AnyMapping):
        for key, item in value.items():
            yield from _walk(item, f"{path}/{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}/{index}" if path else str(index))


def is_tensor(value: Any) -> bool:
    """Whether a value is one dense tensor: not ragged, not sparse, not a variable."""
    return isinstance(value, tf.Tensor)


def is_eager(value: Any) -> bool:
    """Whether a tensor holds a value now, rather than standing for one in a graph."""
    return is_tensor(value) and hasattr(value, "numpy")


def tensors(*structures: Any) -> List[Any]:
    """All dense tensors in nested structures, in order.

    Example:
        >>> len(tensors([tf.zeros(1), {"a": tf.zeros(1)}], None, tf.zeros(2)))
        3
    """
    return [tensor for structure in structures for _, tensor in _walk(structure, "")]


def replace(structure: Any, exchange: Mapping[int, Any]) -> Any:
    """The same structure with some tensors exchanged, given by ``id``; untouched where nothing changes.

    Example:
        >>> old = tf.zeros(1); new = tf.zeros(1)
        >>> replace([old], {id(old): new})[0] is new
        True
    """
    if not exchange:
        return structure
    if is_tensor(structure):
        return exchange.get(id(structure), structure)
    return tf.nest.map_structure(lambda item: exchange.get(id(item), item), structure)


def arguments(inputs: Mapping[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """Inputs by name as positional and keyword arguments: names ``"0"``, ``"1"``, … are positional.

    Example:
        >>> arguments({"1": "b", "0": "a", "mask": "m"})
        (['a', 'b'], {'mask': 'm'})
    """
    positional = sorted((name for name in inputs if name.isdigit()), key=int)
    return [inputs[name] for name in positional], {n: v for n, v in inputs.items() if not n.isdigit()}


def inside_function() -> bool:
    """Whether Python code is being traced into a graph; TensorFlow 1 has no public way to ask."""
    ask = getattr(tf, "inside_function", None)
    return bool(ask() if ask is not None else not tf.executing_eagerly())


def sizes_of(tensor: Any) -> Tuple[Any, ...]:
    """The shape of a tensor, symbolic or not; in TensorFlow 1 the sizes are objects.

    Example:
        >>> sizes_of(tf.TensorSpec([None, 3]))
        (None, 3)
    """
    known = [getattr(size, "value", size) for size in tensor.shape]
    return tuple(None if size is None else int(size) for size in known)


def array_of(tensor: Any) -> np.ndarray:
    """The value of an eager tensor or variable as numpy, without a copy where the memory is TensorFlow's own.

    Tensors are immutable and TensorFlow copies a variable's buffer before it writes into one that is still
    referenced, so the array never changes; it keeps the memory alive by itself.
    """
    if not is_tensor(tensor):
        inner = getattr(tensor, "_value", tensor)
        handle = getattr(inner, "handle", None)
        if handle is not None:  # a variable: far faster than through Keras' own ``value``
            tensor = tf.raw_ops.ReadVariableOp(resource=handle, dtype=inner.dtype)
        else:
            tensor = tf.convert_to_tensor(tensor)
    reader = getattr(tensor, "_numpy", None)
    if reader is None:
        reader = tensor.numpy
    return np.asarray(reader())


def is_numeric(tensor: Any) -> bool:
    """Whether numpy can hold the tensor's values as numbers (not text, resources or variants)."""
    return tensor.dtype not in (tf.string, tf.resource, tf.variant)

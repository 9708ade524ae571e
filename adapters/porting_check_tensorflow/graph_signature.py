"""Arguments and results of functions: nested structures as named tensors, and back."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import tensorflow as tf

from porting_check_tensorflow.graph_program import Leaf
from porting_check_tensorflow.trees import arguments


def signature_of(traced: Any) -> Any:
    """Specs of positional and keyword arguments; TensorFlow 1.15 knows only the keywords of some signatures."""
    if traced.structured_input_signature is not None:
        return traced.structured_input_signature
    pairs = zip(getattr(traced, "_arg_keywords", ()), traced.inputs)
    return (), {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in pairs}


def walk(structure: Any, path: str = "") -> List[Tuple[str, Any]]:
    """Tensors and specs of a structure with their paths, in the order of ``tf.nest`` (dict keys sorted).

    Example:
        >>> [path for path, _ in walk({"q": tf.TensorSpec(()), "b": (tf.TensorSpec(()), tf.TensorSpec(()))})]
        ['b/0', 'b/1', 'q']
    """
    if isinstance(structure, (tf.Tensor, tf.TensorSpec)):
        return [(path or "0", structure)]
    if isinstance(structure, Mapping):
        items = [(str(key), structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        items = [(str(index), item) for index, item in enumerate(structure)]
    else:
        return []
    return [leaf for key, item in items for leaf in walk(item, f"{path}/{key}" if path else key)]


def leaves_of(signature: Any, names: Sequence[str]) -> Tuple[Leaf, ...]:
    """The tensor inputs of a traced function by position, keyword, or key of the only dict."""
    positional, named = signature
    found = walk(positional) + walk(named)
    only = [item for item in positional if walk(item)]
    unwrapped = len(only) == 1 and isinstance(only[0], Mapping) and not walk(named)
    leaves = []
    for number, (path, spec) in enumerate(found):
        name = path.split("/", 1)[1] if unwrapped else path
        also = tuple(str(other) for other in (path, spec.name, names[number]) if other and other != name)
        leaves.append(Leaf(name, also, spec, names[number]))
    return tuple(leaves)


def packed(signature: Any, leaves: Sequence[Leaf], fed: Mapping[str, Any]) -> Tuple[Any, Any]:
    """The arguments of a call: the signature with tensors in the place of specs."""
    waiting = iter([fed[leaf.name] for leaf in leaves])

    def filled(structure: Any) -> Any:
        if isinstance(structure, (tf.Tensor, tf.TensorSpec)):
            return next(waiting)
        if isinstance(structure, Mapping):
            done = {key: filled(structure[key]) for key in sorted(structure)}
            return {key: done[key] for key in structure}
        if isinstance(structure, tuple) and hasattr(structure, "_fields"):
            return type(structure)(*[filled(item) for item in structure])
        if isinstance(structure, (list, tuple)):
            return type(structure)(filled(item) for item in structure)
        return structure

    positional, named = signature
    return filled(positional), filled(named)


def call_arguments(function: Any, fed: Mapping[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """Positional and keyword arguments; names that are no arguments are the entries of one dict."""
    positional, named = arguments(fed)
    plain = getattr(function, "python_function", None)
    if named and plain is not None and not positional:
        try:
            parameters = inspect.signature(plain).parameters.values()
        except (TypeError, ValueError):
            return positional, named
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not open_ended and not set(named) <= {parameter.name for parameter in parameters}:
            return [named], {}
    return positional, named

"""Variables of functions, modules and loaded objects by name."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import tensorflow as tf

from porting_check_tensorflow.weights import distinct


def named_variables(model: Any, traced: Any) -> Dict[str, Any]:
    """Variables by name; two of one name are told apart by where the model keeps them."""
    found = list(getattr(getattr(traced, "graph", None), "variables", ()) or ())
    found += [v for v in (getattr(model, "variables", None) or ()) if not any(v is other for other in found)]
    names = [str(variable.name).split(":")[0] for variable in found]
    held = _held_paths(model) if len(set(names)) < len(names) else {}
    named: Dict[str, Any] = {}
    for name, variable in zip(names, found):
        twice = names.count(name) > 1
        named[distinct(held.get(id(variable), name) if twice else name, named)] = variable
    return named


def _held_paths(model: Any) -> Dict[int, str]:
    """Where a module or a loaded object keeps each variable: ``layers/0/w``, by ``id``."""
    found: Dict[int, str] = {}
    waiting: List[Tuple[str, Any]] = [("", model)]
    seen = set()
    while waiting:
        path, holder = waiting.pop(0)
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        if isinstance(holder, tf.Variable):
            found[id(holder)] = path
        children = getattr(holder, "_trackable_children", None)
        if children is not None:
            waiting += [
                (f"{path}/{name}" if path else str(name), child) for name, child in sorted(children().items())
            ]
    return found


def reference_values(traced: Any, graph_def: Any) -> Dict[str, Any]:
    """Values of the variables of a TensorFlow 1 SavedModel that were saved without ``use_resource``."""
    variables = [str(node.name) for node in graph_def.node if node.op in ("VariableV2", "Variable")]
    # A function cannot return a reference; the Identity that TensorFlow 1 put behind every variable reads it.
    readers = {str(node.input[0]): str(node.name) for node in graph_def.node if node.op == "Identity"}
    names = [name for name in variables if name in readers]
    if not names:
        return {}
    fetched = traced.prune([], [traced.graph.get_tensor_by_name(f"{readers[name]}:0") for name in names])()
    return {name: tf.constant(value.numpy()) for name, value in zip(names, fetched)}

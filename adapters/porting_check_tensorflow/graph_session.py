"""Models that live in a session of TensorFlow 1: the session itself, and Keras models that are not eager.

Their variables have values inside the session only. To be run and recorded, the part of the graph that is wanted is
frozen in memory; to be read and written, the session is asked.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import ModelError, WeightsError
from porting_check_tensorflow.flavours import is_keras, major
from porting_check_tensorflow.graph_errors import headline
from porting_check_tensorflow.graph_frozen import FrozenGraph
from porting_check_tensorflow.weights import handle_of, variables_by_name

LEFT = frozenset(
    "NoOp Assert Const Placeholder PlaceholderWithDefault Assign AssignVariableOp SaveV2".split()
)
"""Operators in which no model ends."""


def in_session(model: Any) -> bool:
    """Whether a model is a session, or a Keras model whose variables have values in a session only.

    Example:
        >>> in_session(tf.keras.Sequential([tf.keras.layers.Dense(1)]))
        False
    """
    if isinstance(model, (tf.compat.v1.Session, tf.compat.v1.InteractiveSession)):
        return True
    if not is_keras(model) or major(model) > 2 or not getattr(model, "outputs", None):
        return False
    handles = [handle_of(variable) for variable in model.weights]
    return any(handle is not None and not hasattr(handle, "numpy") for handle in handles)


def _session(model: Any) -> Any:
    if not is_keras(model):
        return model
    return tf.compat.v1.keras.backend.get_session(model.outputs)


def frozen(model: Any, outputs: Optional[Sequence[str]] = None) -> FrozenGraph:
    """The model's graph with the values that its variables have now.

    Args:
        model: a session or a Keras model in one.
        outputs: names of the tensors to compute; a Keras model's own, or all that nothing reads, when not given.

    Raises:
        ModelError: variables without values, or nothing to compute.
    """
    session = _session(model)
    graph_def = session.graph.as_graph_def()
    if outputs is None:
        outputs = [str(t.name) for t in model.outputs] if is_keras(model) else _ends(graph_def)
    operators = list(dict.fromkeys(name.split(":")[0] for name in outputs))
    if not operators:
        raise ModelError("the session's graph computes nothing: there is no tensor that it ends in")
    try:
        made = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph_def, operators)
    except Exception as error:  # TensorFlow raises its own kinds for variables without values
        raise ModelError(
            f"the session's graph could not be frozen at {operators[:5]}: {type(error).__name__}: {headline(error)}; "
            "initialise its variables first, or freeze the part that you want and give the file"
        ) from error
    for node in made.node:
        if node.op == "PlaceholderWithDefault" and str(node.name).endswith("keras_learning_phase"):
            node.op = "Identity"  # it says whether the model trains: no input of the model
            node.attr["T"].type = node.attr["dtype"].type
            for name in ("dtype", "shape"):
                del node.attr[name]
    return FrozenGraph(made, [name[:-2] if name.endswith(":0") else name for name in outputs])


def _ends(graph_def: Any) -> List[str]:
    """Tensors that nothing reads and that depend on a placeholder: not those of saving and initialising."""
    nodes = {str(node.name): node for node in graph_def.node}
    fed: Dict[str, bool] = {}
    for node in graph_def.node:  # in an order in which operands come first, but for loops
        names = [str(name).split(":")[0] for name in node.input if not name.startswith("^")]
        fed[str(node.name)] = node.op == "Placeholder" or any(fed.get(name, False) for name in names)
    read = {str(name).split(":")[0].lstrip("^") for node in graph_def.node for name in node.input}
    return [name for name, node in nodes.items() if fed[name] and name not in read and node.op not in LEFT]


def variables(model: Any) -> Dict[str, Any]:
    """The variables of a model in a session, by name."""
    if is_keras(model):
        return variables_by_name(model)
    found = model.graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
    return {str(variable.name).split(":")[0]: variable for variable in found}


def read_parameters(model: Any) -> Dict[str, np.ndarray]:
    """Every variable's value in the session, owned."""
    held = variables(model)
    with _session(model).graph.as_default():
        return {name: np.array(value) for name, value in _session(model).run(held).items()}


def write_parameters(model: Any, parameters: Mapping[str, np.ndarray]) -> None:
    """Write values into the session; nothing is written unless everything fits.

    Raises:
        WeightsError: an unknown name or a wrong shape.
    """
    held = variables(model)
    unknown = sorted(set(parameters) - set(held))
    if unknown:
        raise WeightsError(f"the session has no variables {unknown[:5]}; it has {sorted(held)[:8]}")
    for name, array in parameters.items():
        expected = tuple(held[name].shape.as_list())
        if tuple(np.shape(array)) != expected:
            raise WeightsError(
                f"weight {name!r} has shape {expected} in the model, but {np.shape(array)} was given"
            )
    session = _session(model)
    with session.graph.as_default():
        for name, array in parameters.items():
            held[name].load(np.asarray(array), session)

"""Which graph a model is, and how its inputs and outputs are called."""

from __future__ import annotations

import types
from typing import Any, Dict, List, Mapping, Optional

import tensorflow as tf

from porting_check.neutral.errors import ModelError, RunError
from porting_check_tensorflow.graph_body import Library
from porting_check_tensorflow.graph_errors import headline
from porting_check_tensorflow.graph_frozen import FrozenGraph, frozen_program
from porting_check_tensorflow.graph_parts import Ref
from porting_check_tensorflow.graph_program import Program
from porting_check_tensorflow.graph_session import frozen, in_session
from porting_check_tensorflow.graph_signature import call_arguments, leaves_of, packed, signature_of, walk
from porting_check_tensorflow.graph_variables import named_variables, reference_values
from porting_check_tensorflow.trees import flatten

SERVING = "serving_default"


def program(model: Any, inputs: Optional[Mapping[str, Any]] = None) -> Program:
    """The graph of a model.

    A function that was not traced yet needs the inputs, to be traced for them.

    Raises:
        ModelError: the model has no graph, or several and none is the one to run, or cannot be traced.
    """
    if in_session(model):
        model = frozen(model)
    elif isinstance(model, tf.Graph):
        model = FrozenGraph(model.as_graph_def())
    elif type(model).__name__ == "GraphDef":
        model = FrozenGraph(model)
    if isinstance(model, FrozenGraph):
        return frozen_program(model)
    chosen = callable_of(model)
    if is_concrete(chosen):
        return concrete_program(chosen, named_variables(model, chosen), None)
    return _traced_program(model, chosen, inputs)


def is_concrete(model: Any) -> bool:
    """Whether this is one traced function."""
    return hasattr(model, "structured_input_signature") and hasattr(model, "graph") and callable(model)


def is_function(model: Any) -> bool:
    """Whether this is a ``tf.function``."""
    return hasattr(model, "get_concrete_function") and callable(model)


def callable_of(model: Any) -> Any:
    """The function that a model is run by: itself, a signature, or its ``__call__``.

    Raises:
        ModelError: none, or several signatures of which none is called ``serving_default``.
    """
    if is_concrete(model) or is_function(model):
        return model
    signatures: Any = getattr(model, "signatures", None)
    names = sorted(signatures) if hasattr(signatures, "keys") else []
    if SERVING in names or len(names) == 1:
        return signatures[SERVING if SERVING in names else names[0]]
    if names:
        raise ModelError(
            f"the SavedModel has the signatures {names} and none is called {SERVING!r}: "
            f"give one of them, for example model.signatures[{names[0]!r}]"
        )
    if not callable(model):
        functions = sorted(name for name in dir(model) if is_function(getattr(model, name, None)))
        raise ModelError(
            f"a {type(model).__name__} has no signature and no __call__"
            + (f": give one of its functions {functions}" if functions else ", so there is nothing to run")
        )
    if isinstance(model, types.FunctionType):
        return tf.function(model)
    method = model.__call__  # noqa: B004 - the bound method, which may be a tf.function
    return method if is_function(method) else tf.function(method)


def _traced_program(model: Any, function: Any, inputs: Optional[Mapping[str, Any]]) -> Program:
    """Trace a function for these inputs."""
    positional: List[Any] = []
    named: Dict[str, Any] = {}
    if inputs is not None and getattr(function, "input_signature", None) is None:
        positional, named = call_arguments(
            function, {name: tf.constant(array) for name, array in inputs.items()}
        )
    try:
        traced = function.get_concrete_function(*positional, **named)
    except Exception as error:
        kind, what = (ModelError, "without inputs") if inputs is None else (RunError, "for these inputs")
        raise kind(
            f"the function could not be traced {what}: {type(error).__name__}: {headline(error)}"
        ) from error
    return concrete_program(traced, named_variables(model, traced), function)


def concrete_program(traced: Any, variables: Dict[str, Any], function: Optional[Any]) -> Program:
    """The program of one traced function.

    Args:
        traced: the ConcreteFunction.
        variables: by native name.
        function: what to call for the plain run; the traced function itself when ``None``.

    Raises:
        ModelError: it reads tensors or variables of a graph outside, which have no values.
    """
    _refuse_outside(traced)
    graph_def = traced.graph.as_graph_def()
    library = Library(graph_def.library.function)
    signature = signature_of(traced)
    names = [str(tensor.name).split(":")[0] for tensor in traced.inputs]
    leaves = leaves_of(signature, names)
    results = [Ref(str(tensor.op.name), int(tensor.value_index)) for tensor in traced.outputs]
    paths = [path for path, _ in walk(traced.structured_outputs)]
    if len(paths) != len(results):
        paths = [str(index) for index in range(len(results))]
    controls = [str(operation.name) for operation in getattr(traced.graph, "control_outputs", ())]
    body = library.from_graph(graph_def, names, results, controls)

    def plain(fed: Mapping[str, Any]) -> Dict[str, Any]:
        positional, named = packed(signature, leaves, fed)
        return flatten((function or traced)(*positional, **named))

    captured, held = tuple(traced.captured_inputs), reference_values(traced, graph_def)
    return Program(library, body, leaves, captured, variables, tuple(paths), plain, held)


def _refuse_outside(traced: Any) -> None:
    """What was made in a graph (TensorFlow 1, before eager execution is enabled) has values in a session only.

    Raises:
        ModelError: the function captured such a tensor or variable.
    """
    lone = [t for t in traced.captured_inputs if isinstance(t, tf.Tensor) and not hasattr(t, "numpy")]
    if lone:
        raise ModelError(
            f"the model reads {str(lone[0].name)!r}, which was made in a graph of TensorFlow 1 and has a value in a session "
            "only: call tf.compat.v1.enable_eager_execution() before the model is built, or give the session that holds "
            "its variables (a tf.compat.v1.Session) or a SavedModel"
        )


def variables_of(model: Any) -> Dict[str, Any]:
    """Variables of a model that need not be traced yet, by name."""
    if in_session(model) or isinstance(model, (FrozenGraph, tf.Graph)) or type(model).__name__ == "GraphDef":
        return {}
    if is_concrete(model):
        return named_variables(model, model)
    try:
        chosen = callable_of(model)
    except ModelError:
        chosen = None
    return named_variables(model, chosen)

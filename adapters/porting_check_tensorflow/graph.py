"""TensorFlow without Keras: ``tf.function``, ``tf.Module``, SavedModels, frozen graphs.

A model becomes one graph (:mod:`~porting_check_tensorflow.graph_model`), which is run node by node
(:mod:`~porting_check_tensorflow.graph_run`) and recorded (:mod:`~porting_check_tensorflow.graph_record`). The
functions here are those that the adapter hands on to.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.adapter import Inputs, InputSpec
from porting_check.neutral.errors import ModelError, PortingError, RunError, WeightsError
from porting_check.neutral.trace import Sink
from porting_check_tensorflow import graph_session
from porting_check_tensorflow.flavours import is_keras
from porting_check_tensorflow.graph_errors import headline
from porting_check_tensorflow.graph_facts import frozen_weights, input_facts, training_names
from porting_check_tensorflow.graph_frozen import FrozenGraph
from porting_check_tensorflow.graph_model import is_concrete, is_function, program, variables_of
from porting_check_tensorflow.graph_program import Program
from porting_check_tensorflow.graph_record import GraphRecorder
from porting_check_tensorflow.graph_run import Held, Runner
from porting_check_tensorflow.graph_session import in_session
from porting_check_tensorflow.graph_state import eagerly, left_alone, unoptimised
from porting_check_tensorflow.trees import array_of, is_numeric

__all__ = ["FrozenGraph", "assign", "inputs", "load", "owns", "parameters", "predict", "record", "training"]


def owns(model: Any) -> bool:
    """Whether this is TensorFlow's, not Keras': a function, a module, a loaded SavedModel, a graph.

    Example:
        >>> owns(tf.function(lambda x: x)), owns(tf.Module()), owns(tf.zeros(3))
        (True, True, False)
    """
    if is_keras(model):
        return False
    if (
        in_session(model)
        or isinstance(model, (tf.Module, tf.Graph, FrozenGraph))
        or type(model).__name__
        in (
            "GraphDef",
            "_UserObject",
        )
    ):
        return True
    ours = type(model).__module__.split(".")[0] in ("tensorflow", "tensorflow_core")
    return ours and (is_concrete(model) or is_function(model) or hasattr(model, "signatures"))


def load(path: str) -> Any:
    """A SavedModel folder (or the ``saved_model.pb`` in it), or a frozen graph.

    Raises:
        ModelError: missing, damaged, or of another kind.
    """
    if os.path.basename(path) in ("saved_model.pb", "saved_model.pbtxt"):
        path = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return _load_folder(path)
    if not os.path.isfile(path):
        raise ModelError(f"the model file {path!r} does not exist")
    return _load_frozen(path)


def _load_folder(path: str) -> Any:
    if not any(os.path.isfile(os.path.join(path, name)) for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise ModelError(f"the folder {path!r} holds no saved_model.pb: expected a SavedModel")
    try:
        with eagerly():
            return tf.compat.v2.saved_model.load(path)
    except Exception as error:
        raise ModelError(
            f"the SavedModel {path!r} could not be loaded: {type(error).__name__}: {headline(error)}"
        ) from error


def _load_frozen(path: str) -> FrozenGraph:
    graph_def = tf.compat.v1.GraphDef()
    with open(path, "rb") as file:
        data = file.read()
    try:
        graph_def.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError has moved between packages
        raise ModelError(f"{path!r} is no TensorFlow graph: {type(error).__name__}: {error}") from None
    if not graph_def.node:
        raise ModelError(f"{path!r} holds no operators: expected a frozen GraphDef")
    return FrozenGraph(graph_def)


@eagerly()
def inputs(model: Any) -> Tuple[InputSpec, ...]:
    """What is known of the inputs; empty for a function that was not traced yet.

    Shapes come from the signature, layouts and table sizes from the operators that read the inputs.
    """
    try:
        made = program(model)
    except ModelError:
        return ()
    return tuple(input_facts(made))


@eagerly()
def predict(model: Any, inputs: Inputs) -> Dict[str, np.ndarray]:
    """Outputs of an ordinary run by path, owned; variables and random states are as before.

    Grappler stays off: it fuses operators, so that last digits would differ from those of the operators one
    by one.

    Raises:
        InputError: inputs of other names, shapes or dtypes.
        RunError: the model raised.
    """
    return _runs(model, inputs, 1)[0]


@eagerly()
def repeat(model: Any, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
    """Outputs of two ordinary runs in a row; variables and random states go on between them and are restored after.

    Raises:
        InputError: inputs of other names, shapes or dtypes.
        RunError: the model raised.
    """
    first, second = _runs(model, inputs, 2)
    return first, second


def _runs(model: Any, inputs: Inputs, count: int) -> List[Dict[str, np.ndarray]]:
    made = program(model, inputs)
    fed = made.fed(inputs)
    with left_alone(written(made)), unoptimised(), _plain_errors():
        outputs = [made.plain(fed) for _ in range(count)]
    return [{path: np.array(array_of(t)) for path, t in one.items() if is_numeric(t)} for one in outputs]


@eagerly()
def record(model: Any, inputs: Inputs, sink: Sink) -> None:
    """Run the model's graph once, node by node, and put every operator into the sink.

    Raises:
        InputError: inputs of other names, shapes or dtypes.
        RunError: the model raised.
    """
    made = program(model, inputs)
    recorder = GraphRecorder(made, sink)
    runner = Runner(made.library, recorder, made.held)
    recorder.finish(observe(made, recorder, runner, made.fed(inputs)))


def observe(made: Program, recorder: GraphRecorder, runner: Runner, fed: Mapping[str, Any]) -> List[Held]:
    """Run a graph node by node under a recorder; its results. What it writes and draws is undone.

    Raises:
        RunError: the model raised.
    """
    with left_alone(written(made)), _plain_errors():
        return runner.run(made.body, recorder.feed(fed))


def written(made: Program) -> List[Any]:
    """The variables that a run may write: all of them, or none."""
    return list(made.variables.values()) if made.writes else []


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except PortingError:
        raise
    except Exception as error:
        raise RunError(f"the model raised {type(error).__name__}: {headline(error)}") from error


@eagerly()
def training(model: Any) -> Tuple[str, ...]:
    """Names of batch normalizations that use the batch's own moments, and of dropouts that drop."""
    try:
        return training_names(program(model))
    except ModelError:
        return ()


@eagerly()
def parameters(model: Any) -> Dict[str, np.ndarray]:
    """Every variable by name, and every constant of the graph that is a weight, owned."""
    if in_session(model):
        return graph_session.read_parameters(model)
    found = {name: np.array(array_of(variable)) for name, variable in variables_of(model).items()}
    try:
        made = program(model)
    except ModelError:
        return found
    for name, array in frozen_weights(made):
        found.setdefault(name, array)
    return found


@eagerly()
def assign(model: Any, parameters: Mapping[str, np.ndarray]) -> None:
    """Write variables by name; nothing is written unless everything fits.

    Raises:
        WeightsError: an unknown name, a wrong shape, or a weight that is frozen into the graph.
    """
    if in_session(model):
        graph_session.write_parameters(model, parameters)
        return
    variables = variables_of(model)
    unknown = sorted(set(parameters) - set(variables))
    if unknown:
        raise WeightsError(
            f"the model has no variables {unknown[:5]} (weights frozen into a graph cannot be written); "
            f"it has {sorted(variables)[:8]}"
        )
    for name, array in parameters.items():
        expected = tuple(variables[name].shape)
        if tuple(np.shape(array)) != expected:
            raise WeightsError(
                f"weight {name!r} has shape {expected} in the model, but {np.shape(array)} was given"
            )
    for name, array in parameters.items():
        variables[name].assign(np.asarray(array))

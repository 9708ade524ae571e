"""The whole model in float64: Keras models rebuilt in that precision, all else as a graph that is run in double.

A Keras model is rebuilt from its configuration with the dtype policy float64, and its weights are copied into that. Where it
cannot be rebuilt (layers of one's own without ``get_config``), it is traced, and its graph runs like any other.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import ModelError, PortingError, RunError, Unsupported
from porting_check_tensorflow import callbacks
from porting_check_tensorflow.calling import call_model, predict
from porting_check_tensorflow.flavours import is_keras, is_library, library
from porting_check_tensorflow.graph_float64 import run_wide
from porting_check_tensorflow.graph_model import concrete_program, program
from porting_check_tensorflow.graph_session import in_session
from porting_check_tensorflow.graph_state import eagerly, left_alone, unoptimised
from porting_check_tensorflow.graph_variables import named_variables
from porting_check_tensorflow.replay import _wide_config
from porting_check_tensorflow.trees import array_of, is_numeric
from porting_check_tensorflow.weights import layers_by_path, preserved

NOT_REBUILT = (
    "the model cannot be rebuilt in float64 from its configuration, so the graph that it is traced to was run"
)

Wide = Tuple[Dict[str, np.ndarray], List[str]]


def keras_outputs(model: Any, inputs: Inputs) -> Wide:
    """Outputs of a Keras model in float64 by path, and what computed in less all the same.

    Raises:
        RunError: the model raised.
    """
    with preserved(model):
        try:
            copy = rebuilt(model, inputs)
        except Exception:  # Keras raises anything where a configuration does not make a model
            outputs, notes = _traced(model, inputs)
            return outputs, [NOT_REBUILT, *notes]
    found: List[str] = []
    with callbacks.operators(_Islands(found)):
        outputs = predict(copy, {name: wide_array(array) for name, array in inputs.items()})
    return {path: wide_array(array) for path, array in outputs.items()}, found


def graph_outputs(model: Any, inputs: Inputs) -> Wide:
    """Outputs of a graph (a function, a module, a SavedModel, a frozen graph) in float64 by path, and the notes on it.

    Raises:
        Unsupported: the model has no graph that could be run.
        RunError: the model raised.
    """
    with eagerly(), unoptimised():
        try:
            made = program(model, inputs)
        except ModelError as error:
            raise Unsupported(f"the model cannot be run in float64: {error}") from error
        with left_alone(list(made.variables.values()) if made.writes else []):
            return _arrays(*run_wide(made, inputs))


def _traced(model: Any, inputs: Inputs) -> Wide:
    """The graph of a Keras model in float64."""
    names = list(inputs)
    function = tf.function(lambda *given: call_model(model, dict(zip(names, given))))
    arrays = [np.asarray(array) for array in inputs.values()]
    with eagerly(), unoptimised():
        try:
            traced = function.get_concrete_function(*(tf.TensorSpec(a.shape, a.dtype) for a in arrays))
            made = concrete_program(traced, named_variables(model, traced), function)
        except PortingError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise Unsupported(f"the model could not be traced: {type(error).__name__}: {first}") from error
        return _arrays(*run_wide(made, {str(place): array for place, array in enumerate(arrays)}))


def _arrays(outputs: Mapping[str, Any], notes: List[str]) -> Wide:
    return {p: wide_array(array_of(t).copy()) for p, t in outputs.items() if is_numeric(t)}, notes


def wide_array(array: Any) -> np.ndarray:
    """An array of real numbers in float64, anything else as it is."""
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def rebuilt(model: Any, inputs: Inputs) -> Any:
    """A copy of a Keras model that computes in float64, with the same weights.

    Raises:
        Unsupported: its configuration does not make an equal model.
    """
    keras = library(model)
    classes = {type(layer).__name__: type(layer) for layer in layers_by_path(model).values()}
    own = {name: kind for name, kind in classes.items() if not is_library(kind.__module__)}
    with _float64_policy(keras), _own_code(keras, own):
        copy = type(model).from_config(_unfilled(_wide_config(model.get_config())))
        feeds = {name: tf.convert_to_tensor(wide_array(array)) for name, array in inputs.items()}
        if not copy.built or len(copy.weights) != len(model.weights):
            call_model(copy, feeds)
    if [tuple(w.shape) for w in copy.weights] != [tuple(w.shape) for w in model.weights]:
        raise Unsupported("rebuilt from its configuration it has other weights")
    narrow = [path for path, layer in layers_by_path(copy).items() if not _computes_wide(layer)]
    if narrow:
        raise Unsupported(f"layer {narrow[0]!r} rebuilt in float64 computes in another type")
    for new, old in zip(copy.weights, model.weights):
        if new is old:
            raise Unsupported("its copy shares its weights")
        new.assign(wide_array(array_of(old)))
    return copy


def _unfilled(value: Any, key: str = "") -> Any:
    """A configuration whose weights begin as zeros: drawing them at random takes longer than running the model."""
    if isinstance(value, dict):
        if key.endswith("_initializer") and "class_name" in value:
            return {
                **value,
                "module": "keras.initializers",
                "class_name": "Zeros",
                "config": {},
                "registered_name": None,
            }
        return {name: _unfilled(item, str(name)) for name, item in value.items()}
    return type(value)(_unfilled(item) for item in value) if type(value) in (list, tuple) else value


def _computes_wide(layer: Any) -> bool:
    policy = getattr(layer, "compute_dtype", "float64")
    return policy is None or str(policy) not in ("float32", "float16", "bfloat16")


@contextlib.contextmanager
def _float64_policy(keras: Any) -> Iterator[None]:
    """Layers that are made inside, without a dtype of their own, compute in float64."""
    if hasattr(getattr(keras, "config", None), "set_dtype_policy"):
        get, put, floats = keras.config.dtype_policy, keras.config.set_dtype_policy, keras.config
    else:  # Keras 2
        get, put = keras.mixed_precision.global_policy, keras.mixed_precision.set_global_policy
        floats = keras.backend
    policy, floatx = get(), floats.floatx()
    put("float64")
    floats.set_floatx("float64")
    try:
        yield
    finally:
        floats.set_floatx(floatx)
        put(policy)


@contextlib.contextmanager
def _own_code(keras: Any, classes: Mapping[str, Any]) -> Iterator[None]:
    """The model's own classes and lambdas may be made again: they run in this process already."""
    scope = (
        getattr(getattr(keras, "saving", None), "custom_object_scope", None)
        or keras.utils.custom_object_scope
    )
    lib = getattr(getattr(getattr(keras, "src", None), "saving", None), "serialization_lib", None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(scope(dict(classes)))
        if lib is not None and hasattr(lib, "SafeModeScope"):
            stack.enter_context(lib.SafeModeScope(False))
        yield


class _Islands:
    """Notes each operator that makes a narrower float of float64, and each number that was a float32 before.

    TensorFlow keeps real attributes of operators as float32 whatever the tensors are (the slope of LeakyRelu), and
    ``tf.cast(1.41, features.dtype)`` makes a float32 of the number first.
    """

    def __init__(self, found: List[str]) -> None:
        self._found = found

    def __call__(self, op_type: str, inputs: Any, attributes: Any, outputs: Any) -> None:
        wide = any(getattr(tensor, "dtype", None) == tf.float64 for tensor in inputs)
        if wide and any(tensor.dtype in (tf.float32, tf.float16, tf.bfloat16) for tensor in outputs):
            self._note(f"{op_type}{_layer()} gives float32 also when it is given float64")
        elif op_type == "Cast" and inputs[0].dtype == tf.float32 and not inputs[0].shape.rank:
            value = float(inputs[0])
            if value != round(value, 3):
                self._note(f"the constant {value:.9g}{_layer()} was rounded to float32")
        elif wide and op_type in ("LeakyRelu", "LRN", "Elu", "QuantizeAndDequantizeV2"):
            pairs = zip(attributes[::2], attributes[1::2])
            self._numbers(op_type, [(str(name), value) for name, value in pairs if isinstance(value, float)])

    def _numbers(self, op_type: str, found: List[Tuple[str, float]]) -> None:
        for name, value in found:
            if float(np.float32(value)) != value or value != round(value, 7):
                self._note(f"{op_type}{_layer()} keeps its {name} of {value:.7g} as float32")

    def _note(self, text: str) -> None:
        if text not in self._found:
            self._found.append(text)


def _layer() -> str:
    """The layer that is being called, from the Python stack: asked only where there is something to note."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if owner is not None and is_keras(owner) and frame.f_code.co_name in ("call", "__call__"):
            return f" in {owner.name}"
        frame = frame.f_back
    return ""


def float64_outputs(model: Any, inputs: Inputs) -> Wide:
    """As :meth:`~porting_check.neutral.adapter.Adapter.float64_outputs`, with the notes.

    Raises:
        Unsupported: this kind of model cannot be cast.
        RunError: the model raised in float64.
    """
    if not is_keras(model) or in_session(model):
        return graph_outputs(model, inputs)
    try:
        return keras_outputs(model, inputs)
    except PortingError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise RunError(f"model {model.name!r} raised {type(error).__name__} in float64: {first}") from error

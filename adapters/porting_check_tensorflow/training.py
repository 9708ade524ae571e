"""What inference cannot show: one layer in training mode, and the steps of an optimiser."""

from __future__ import annotations

import re
import sys
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import Unsupported
from porting_check_tensorflow.calling import model_arguments
from porting_check_tensorflow.flavours import is_library, major
from porting_check_tensorflow.trees import array_of, tensors
from porting_check_tensorflow.weights import layers_by_path, preserved, variables_by_name

BASES = ("BaseOptimizer", "_BaseOptimizer", "OptimizerV2")
"""The base classes of optimisers in Keras 3, Keras 2 since 2.11, and before (``optimizers.legacy``)."""

NAMES = "_exclude_from_weight_decay_names"
"""Where a Keras 2 optimiser keeps what its configuration leaves out."""


def train_layer(
    model: Any, name: str, inputs: Sequence[np.ndarray]
) -> Tuple[Tuple[np.ndarray, ...], Dict[str, np.ndarray]]:
    """Call the layer of this path with ``training=True`` and read its weights; they are put back afterwards.

    Raises:
        Unsupported: no layer of that path, or it cannot be called on these inputs.
    """
    path = re.sub(r"#\d+$", "", name)
    layers = layers_by_path(model)
    if path not in layers:
        raise Unsupported(f"model {model.name!r} has no layer {path!r} to train alone")
    layer = layers[path]
    own = {id(variable) for variable in layer.weights}
    fed = {str(place): tf.convert_to_tensor(np.asarray(array)) for place, array in enumerate(inputs)}
    try:
        with preserved(layer):
            output = _call(layer, fed)
            made = tuple(array_of(tensor).copy() for tensor in tensors(output))
            named = variables_by_name(model)
            return made, {key: np.array(array_of(v)) for key, v in named.items() if id(v) in own}
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise Unsupported(f"layer {path!r} cannot train alone: {type(error).__name__}: {first}") from error


def _call(layer: Any, fed: Mapping[str, Any]) -> Any:
    positional, named = model_arguments(layer, fed)
    if major(layer) >= 3 or getattr(layer, "_expects_training_arg", True):
        named["training"] = True
    return layer(*positional, **named)


def owns_optimizer(optimizer: Any) -> bool:
    """Whether this is an optimiser of a Keras that computes with TensorFlow."""
    base = _base(optimizer)
    if base is None:
        return False
    return base.__module__.split(".")[0] != "keras" or _backend(base) == "tensorflow"


def _base(optimizer: Any) -> Optional[type]:
    return next(
        (k for k in reversed(type(optimizer).__mro__) if k.__name__ in BASES and is_library(k.__module__)),
        None,
    )


def _backend(base: Any) -> str:
    """The backend of Keras 3; a ``keras`` of version 2 has TensorFlow's only."""
    backend = getattr(sys.modules.get("keras"), "backend", None)
    return (
        str(backend.backend()) if backend is not None and base.__name__ == "BaseOptimizer" else "tensorflow"
    )


def optimizer_steps(
    optimizer: Any,
    parameters: Mapping[str, np.ndarray],
    gradients: Sequence[Mapping[str, np.ndarray]],
    *,
    float64: bool = False,
) -> Tuple[Dict[str, np.ndarray], ...]:
    """Parameters after each step of a copy that is made from the optimiser's configuration.

    Raises:
        Unsupported: the optimiser cannot be made anew, or makes no step from gradients alone.
    """
    dtype = "float64" if float64 else "float32"
    base = _base(optimizer)
    try:
        fresh = _fresh(optimizer)
        make = _variable if base is not None and base.__name__ == "BaseOptimizer" else tf.Variable
        variables = {
            name: make(np.asarray(array, dtype), dtype=dtype, name=name) for name, array in parameters.items()
        }
        steps: List[Dict[str, np.ndarray]] = []
        for given in gradients:
            slopes = [tf.constant(np.asarray(given[name]), dtype) for name in variables]
            fresh.apply_gradients(list(zip(slopes, variables.values())))
            steps.append({name: np.array(array_of(v)) for name, v in variables.items()})
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise Unsupported(
            f"{type(optimizer).__name__} makes no step from gradients alone: {type(error).__name__}: {first}"
        ) from error
    return tuple(steps)


def _fresh(optimizer: Any) -> Any:
    """An optimiser of the same configuration, without slots; which weights do not decay is kept by name."""
    fresh = type(optimizer).from_config(optimizer.get_config())
    names = getattr(optimizer, NAMES, None)
    if names:
        fresh.exclude_from_weight_decay(var_names=list(names))
    return fresh


def _variable(array: np.ndarray, dtype: str, name: str) -> Any:
    """A variable of Keras 3; names have no slashes there."""
    return sys.modules["keras"].Variable(array, dtype=dtype, name=name.replace("/", "_"))

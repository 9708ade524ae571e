"""Running one layer of a Keras model alone, in its own precision or in float64."""

from __future__ import annotations

import re
from typing import Any, Sequence, Tuple

import numpy as np
import tensorflow as tf

from porting_check.neutral.errors import UnsupportedNode
from porting_check_tensorflow.calling import call_model
from porting_check_tensorflow.flavours import major
from porting_check_tensorflow.trees import array_of, tensors
from porting_check_tensorflow.weights import layers_by_path, preserved


def replay(
    model: Any, name: str, inputs: Sequence[np.ndarray], *, float64: bool = False
) -> Tuple[np.ndarray, ...]:
    """Run the layer of this path on these inputs; gives its output tensors in order.

    For float64 a copy is rebuilt from the layer's configuration with dtype float64 and the layer's weights;
    the model's own layer is not touched.

    Raises:
        UnsupportedNode: no layer of that path, or it cannot be rebuilt or called on these inputs.
    """
    layers = layers_by_path(model)
    path = re.sub(r"#\d+$", "", name)
    if path not in layers:
        raise UnsupportedNode(
            f"model {model.name!r} has no layer {path!r} to run alone; operators between layers have none"
        )
    layer = layers[path]
    try:
        if float64:
            layer = doubled(layer, inputs)
        fed = [tf.convert_to_tensor(_wide(array) if float64 else array) for array in inputs]
        with preserved(layer):
            output = _call(layer, fed)
    except UnsupportedNode:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UnsupportedNode(f"layer {path!r} cannot run alone: {type(error).__name__}: {first}") from error
    return tuple(array_of(tensor).copy() for tensor in tensors(output))


def _call(layer: Any, fed: Sequence[Any]) -> Any:
    """Merging layers take one list, others one argument each."""
    if len(fed) > 1 and any(kind.__name__ == "Merge" for kind in type(layer).__mro__):
        return layer(list(fed))
    return call_model(layer, {str(index): tensor for index, tensor in enumerate(fed)})


def doubled(layer: Any, inputs: Sequence[np.ndarray]) -> Any:
    """A copy of a layer that computes in float64, with the same weights.

    Raises:
        UnsupportedNode: its configuration does not make an equal layer.
    """
    config = _wide_config(layer.get_config())
    copy = type(layer).from_config(config)
    if not copy.built:
        _call(copy, [tf.convert_to_tensor(_wide(array)) for array in inputs])
    if [tuple(w.shape) for w in copy.weights] != [tuple(w.shape) for w in layer.weights]:
        raise UnsupportedNode(f"layer {layer.name!r} rebuilt from its configuration has other weights")
    copy.set_weights([array_of(weight).astype(np.float64) for weight in layer.weights])
    if major(layer) >= 3 and str(copy.compute_dtype) != "float64":
        raise UnsupportedNode(
            f"layer {layer.name!r} rebuilt in float64 still computes in {copy.compute_dtype}"
        )
    return copy


def _wide(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


def _wide_config(value: Any) -> Any:
    """A configuration with every dtype and dtype policy set to float64."""
    if isinstance(value, dict):
        if value.get("class_name") in ("DTypePolicy", "Policy"):
            return "float64"
        return {key: _dtype(key, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_wide_config(item) for item in value)
    return value


def _dtype(key: str, item: Any) -> Any:
    if key == "dtype" and isinstance(item, str) and "int" not in item:
        return "float64"
    return _wide_config(item)

"""What a Keras model says of its inputs before it runs.

Shapes, dtypes, layouts, sizes of embedding tables.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from porting_check.neutral.adapter import InputSpec
from porting_check_tensorflow.calling import leaves, structure
from porting_check_tensorflow.flavours import major
from porting_check_tensorflow.sketch import ACTIVATIONS
from porting_check_tensorflow.trees import sizes_of
from porting_check_tensorflow.weights import layers_by_path

REORDERING = ("Permute", "Reshape", "Flatten", "RepeatVector", "Dense", "EinsumDense", "Transpose")
"""Operations after which the axes of an input no longer are what they were."""


def input_specs(model: Any) -> Tuple[InputSpec, ...]:
    """What is known of the inputs of a Keras model; empty when it was made by subclassing and never built.

    Layouts are taken from the first layer with a ``data_format`` that an input reaches.
    """
    nested = structure(model)
    if nested is not None:
        return tuple(_spec(model, name, tensor) for name, tensor in leaves(nested).items())
    built = tuple(_built(model, name, shape) for name, shape in _build_shapes(model).items())
    return built or _guessed(model)


def _guessed(model: Any) -> Tuple[InputSpec, ...]:
    """For a subclassed model that nothing is known of: the layout of its first convolution or pooling, for any input."""
    for layer in layers_by_path(model).values():
        for rank in (4, 3, 5):
            layout = layout_from(layer, rank) if f"{rank - 2}D" in type(layer).__name__ else ""
            if layout:
                return (InputSpec("", None, "float32", layout),)
    return ()


def _spec(model: Any, name: str, tensor: Any) -> InputSpec:
    shape = sizes_of(tensor)
    if not any(getattr(layer, "stateful", False) for layer in layers_by_path(model).values()):
        shape = (None,) + shape[1:]  # a Sequential that was built by a call keeps that call's batch
    dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
    layout, limit = "", None
    for operation in _reached(tensor):
        kind = type(operation).__name__
        if kind in ("Embedding", "ReversibleEmbedding"):
            return InputSpec(name, shape, dtype if "int" in dtype else "int32", "", int(operation.input_dim))
        layout = layout or layout_from(operation, len(shape))
    if "int" in dtype:
        limit = _smallest_table(model)
    return InputSpec(name, shape, dtype, layout, limit, certain=limit is None)


def layout_from(operation: Any, rank: int) -> str:
    """The layout of data of this rank that a layer works on; ``""`` when the layer does not say.

    Example:
        >>> import keras
        >>> layout_from(keras.layers.Conv2D(3, 3), 4)
        'NHWC'
    """
    ndim = rank - 2
    if ndim not in ACTIVATIONS:
        return ""
    last, first = ACTIVATIONS[ndim]
    kind = type(operation).__name__
    if f"{ndim}D" in kind and hasattr(operation, "data_format"):
        return first if operation.data_format == "channels_first" else last
    if kind in ("BatchNormalization", "GroupNormalization") and ndim > 1:
        axis = operation.axis[0] if isinstance(operation.axis, (list, tuple)) else operation.axis
        return {-1: last, rank - 1: last, 1: first}.get(int(axis), "")
    return ""


def _reached(tensor: Any, seen: Optional[Set[int]] = None) -> Iterator[Any]:
    """Operations that an input reaches before its axes are reordered, breadth first."""
    waiting: List[Any] = [tensor]
    seen = set() if seen is None else seen
    while waiting:
        current = waiting.pop(0)
        for operation, outputs, inner in _consumers(current):
            if id(operation) in seen:
                continue
            seen.add(id(operation))
            if inner is not None:
                yield from _reached(inner, seen)
                continue
            yield operation
            if type(operation).__name__ not in REORDERING:
                waiting += [out for out in outputs if len(out.shape) == len(current.shape)]


def _consumers(tensor: Any) -> Iterator[Tuple[Any, Sequence[Any], Any]]:
    """``(operation, its outputs, the inner model's input)`` for all that read a symbolic tensor."""
    history = getattr(tensor, "_keras_history", None)
    maker = _first(history, "operation", "layer")
    for node in getattr(maker, "_outbound_nodes", None) or []:
        operation = _first(node, "operation", "outbound_layer")
        read = _flat(_first(node, "input_tensors", "keras_inputs"))
        position = next((i for i, item in enumerate(read) if item is tensor), None)
        if position is None or operation is None:
            continue
        made = _flat(_first(node, "output_tensors", "outputs"))
        inner = None
        if hasattr(operation, "layers") and structure(operation) is not None:
            inner = list(leaves(structure(operation)).values())[position]
        yield operation, made, inner


def _first(owner: Any, *names: str) -> Any:
    """The first attribute that is there.

    Keras 2 and 3 name them differently, and symbolic tensors have no truth.
    """
    return next((getattr(owner, name) for name in names if getattr(owner, name, None) is not None), None)


def _flat(value: Any) -> List[Any]:
    return list(leaves(value).values()) if isinstance(value, (list, tuple, dict)) else [value]


def _smallest_table(model: Any) -> Optional[int]:
    tables = [
        int(layer.input_dim)
        for layer in layers_by_path(model).values()
        if type(layer).__name__ == "Embedding"
    ]
    return min(tables) if tables else None


def _build_shapes(model: Any) -> Dict[str, Tuple[Optional[int], ...]]:
    """Shapes that a subclassed model was built for, by argument; the batch is free."""
    if not getattr(model, "built", False):
        return {}
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    config = config or {}
    shapes = dict(config.get("shapes_dict") or {})
    if config.get("input_shape") is not None:
        shapes = {"input_shape": config["input_shape"]}
    if len(shapes) == 1:
        return leaves_of_shapes(next(iter(shapes.values())))
    found: Dict[str, Tuple[Optional[int], ...]] = {}
    for key, shape in shapes.items():
        name = key[: -len("_shape")] if key.endswith("_shape") else key
        found.update(
            {name if path == "0" else f"{name}/{path}": s for path, s in leaves_of_shapes(shape).items()}
        )
    return found


def leaves_of_shapes(nested: Any, path: str = "") -> Dict[str, Tuple[Optional[int], ...]]:
    """Shapes by path in a nested structure of shapes.

    Example:
        >>> leaves_of_shapes([(2, 3), (2, 4)])
        {'0': (None, 3), '1': (None, 4)}
    """
    if isinstance(nested, dict):
        pairs = [(str(key), value) for key, value in nested.items()]
    elif isinstance(nested, (list, tuple)) and any(isinstance(item, (list, tuple, dict)) for item in nested):
        pairs = [(str(index), value) for index, value in enumerate(nested)]
    else:
        sizes = [None if size is None else int(size) for size in nested]
        return {path or "0": tuple([None] + sizes[1:] if sizes else [])}
    found: Dict[str, Tuple[Optional[int], ...]] = {}
    for key, value in pairs:
        found.update(leaves_of_shapes(value, f"{path}/{key}" if path else key))
    return found


def _built(model: Any, name: str, shape: Tuple[Optional[int], ...]) -> InputSpec:
    layers = list(layers_by_path(model).values())
    if layers and any(type(layer).__name__ == "Embedding" for layer in layers) and len(shape) == 2:
        return InputSpec(name, shape, "int32", "", _smallest_table(model), certain=False)
    layout = next((found for found in (layout_from(layer, len(shape)) for layer in layers) if found), "")
    return InputSpec(name, shape, "float32", layout)


def forced_training(model: Any) -> Tuple[str, ...]:
    """Paths of layers that a functional model of Keras 2 calls with ``training=True``, whatever its own mode.

    Keras 3 calls them with the mode of the model; a ``training=True`` in the code of a subclassed model shows
    only when it runs, and makes the record opaque.
    """
    found: List[str] = []
    if major(model) >= 3:
        return ()
    for path, layer in layers_by_path(model).items():
        for node in getattr(layer, "_inbound_nodes", None) or []:
            kwargs = getattr(node, "call_kwargs", None) or {}
            if kwargs.get("training") is True and path not in found:
                found.append(path)
    return tuple(found)

"""Normalisations, and the preprocessing layers that are affine maps."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from porting_check_tensorflow.describe_activations import Place, scalar
from porting_check_tensorflow.flavours import library
from porting_check_tensorflow.sketch import ACTIVATIONS, LayerCall, NotDescribedError, Sketch, dtype_of
from porting_check_tensorflow.trees import array_of


def _axes(axis: Any, rank: int) -> List[int]:
    items = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    return sorted(int(item) % rank for item in items)


def _channel_layouts(rank: int, axis: int) -> Tuple[str, str]:
    """Native and canonical layouts when the channels are on this axis.

    Raises:
        NotDescribedError: the channels are in the middle, so that no layout says it.
    """
    if rank == 2:
        return "NC", "NC"
    if rank - 2 not in ACTIVATIONS or axis not in (1, rank - 1):
        raise NotDescribedError(f"channels on axis {axis} of {rank} are not described")
    last, first = ACTIVATIONS[rank - 2]
    return (last, first) if axis == rank - 1 else (first, first)


def _affine(
    call: LayerCall, sketch: Sketch, role: str, variable: Any, shape: Sequence[int], fill: float
) -> str:
    """A scale or bias: the variable, or ones or zeros where the layer has none."""
    if variable is not None:
        return sketch.parameter(role, variable)
    return sketch.constant(role, np.full(tuple(shape), fill, dtype_of(call.x)))


def batch_normalization(call: LayerCall, sketch: Sketch) -> None:
    """``BatchNormalization`` with the moving statistics (Keras layer BatchNormalization in inference)."""
    layer, rank = call.layer, call.rank
    if call.argument("training") and getattr(layer, "trainable", True):
        raise NotDescribedError("it ran in training mode, on the statistics of the batch")
    axes = _axes(layer.axis, rank)
    if len(axes) != 1:
        raise NotDescribedError(f"statistics over several axes {axes} are not described")
    layout, canonical = _channel_layouts(rank, axes[0])
    size = [int(call.x.shape[axes[0]])]
    value = sketch.add(
        "BatchNormalization",
        sketch.input("x", call.x, layout, canonical),
        _affine(call, sketch, "scale", layer.gamma if layer.scale else None, size, 1),
        _affine(call, sketch, "bias", layer.beta if layer.center else None, size, 0),
        sketch.parameter("mean", layer.moving_mean),
        sketch.parameter("var", layer.moving_variance),
        epsilon=float(layer.epsilon),
    )
    sketch.output(value, call.y, layout, canonical)


def layer_normalization(call: LayerCall, sketch: Sketch) -> None:
    """``LayerNormalization`` over trailing axes.

    ``rms_scaling`` divides by the deviation without centring (Keras).
    """
    layer, rank = call.layer, call.rank
    axes = _axes(layer.axis, rank)
    shape = [int(size) for size in call.x.shape]
    if getattr(layer, "rms_scaling", False):
        _scaled_by_deviation(call, sketch, axes)
        return
    scale = layer.gamma if layer.scale else None
    bias = layer.beta if layer.center else None
    if axes != list(range(axes[0], rank)):
        _moments(call, sketch, axes, scale, bias)
        return
    x = sketch.input("x", call.x)
    gamma = _affine(call, sketch, "scale", scale, shape[axes[0] :], 1)
    beta = _affine(call, sketch, "bias", bias, shape[axes[0] :], 0)
    value = sketch.add(
        "LayerNormalization", x, gamma, beta, axis=axes[0] - rank, epsilon=float(layer.epsilon), stash_type=1
    )
    sketch.output(value, call.y)


def _broadcast(sketch: Sketch, name: str, shape: Sequence[int], axes: Sequence[int]) -> str:
    """A parameter over some axes as an array that broadcasts against the input."""
    wanted = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    return str(sketch.add("Reshape", name, sketch.integers("shape", wanted), allowzero=0))


def _deviation(call: LayerCall, sketch: Sketch, x: str, axes: Sequence[int]) -> Tuple[str, str]:
    """The centred input and ``1 / sqrt(variance + epsilon)`` over the axes."""
    over = sketch.integers("axes", axes)
    centred = sketch.add("Sub", x, sketch.add("ReduceMean", x, over, keepdims=1))
    variance = sketch.add("ReduceMean", sketch.add("Mul", centred, centred), over, keepdims=1)
    epsilon = scalar(sketch, "epsilon", float(call.layer.epsilon), Place(call.x))
    return centred, str(sketch.add("Reciprocal", sketch.add("Sqrt", sketch.add("Add", variance, epsilon))))


def _moments(call: LayerCall, sketch: Sketch, axes: Sequence[int], scale: Any, bias: Any) -> None:
    """Layer normalisation over axes that are not the trailing ones, written out."""
    shape = [int(size) for size in call.x.shape]
    centred, inverse = _deviation(call, sketch, sketch.input("x", call.x), axes)
    value = sketch.add("Mul", centred, inverse)
    if scale is not None:
        value = sketch.add("Mul", value, _broadcast(sketch, sketch.parameter("scale", scale), shape, axes))
    if bias is not None:
        value = sketch.add("Add", value, _broadcast(sketch, sketch.parameter("bias", bias), shape, axes))
    sketch.output(value, call.y)


def _scaled_by_deviation(call: LayerCall, sketch: Sketch, axes: Sequence[int]) -> None:
    shape = [int(size) for size in call.x.shape]
    x = sketch.input("x", call.x)
    _, inverse = _deviation(call, sketch, x, axes)
    value = sketch.add("Mul", x, inverse)
    if call.layer.gamma is not None:
        value = sketch.add(
            "Mul", value, _broadcast(sketch, sketch.parameter("scale", call.layer.gamma), shape, axes)
        )
    sketch.output(value, call.y)


def rms_normalization(call: LayerCall, sketch: Sketch) -> None:
    """``RMSNormalization`` over trailing axes (Keras layer RMSNormalization)."""
    layer, rank = call.layer, call.rank
    axes = _axes(layer.axis, rank)
    if axes != list(range(axes[0], rank)):
        raise NotDescribedError(f"axes {axes} that are not the trailing ones are not described")
    x = sketch.input("x", call.x)
    scale = sketch.parameter("scale", layer.scale)
    value = sketch.add(
        "RMSNormalization", x, scale, axis=axes[0] - rank, epsilon=float(layer.epsilon), stash_type=1
    )
    sketch.output(value, call.y)


def group_normalization(call: LayerCall, sketch: Sketch) -> None:
    """``GroupNormalization``; ``groups=-1`` or one group per channel is ``InstanceNormalization``."""
    layer, rank = call.layer, call.rank
    axis = _axes(layer.axis, rank)[0]
    layout, canonical = _channel_layouts(rank, axis)
    channels = int(call.x.shape[axis])
    groups = channels if int(layer.groups) == -1 else int(layer.groups)
    x = sketch.input("x", call.x, layout, canonical)
    scale = _affine(call, sketch, "scale", layer.gamma if layer.scale else None, [channels], 1)
    bias = _affine(call, sketch, "bias", layer.beta if layer.center else None, [channels], 0)
    epsilon = float(layer.epsilon)
    if groups == channels and rank > 2:
        value = sketch.add("InstanceNormalization", x, scale, bias, epsilon=epsilon)
    else:
        value = sketch.add(
            "GroupNormalization", x, scale, bias, num_groups=groups, epsilon=epsilon, stash_type=1
        )
    sketch.output(value, call.y, layout, canonical)


def unit_normalization(call: LayerCall, sketch: Sketch) -> None:
    """``x * min(1 / ||x||, 1e12)`` over the axes (Keras 3); Keras 2 floors the squared norm at 1e-12."""
    x = sketch.input("x", call.x)
    over = sketch.integers("axes", _axes(call.layer.axis, call.rank))
    squares = sketch.add("ReduceSumSquare", x, over, keepdims=1)
    place = Place(call.x)
    if call.keras >= 3:
        inverse = sketch.add("Reciprocal", sketch.add("Sqrt", squares))
        factor = sketch.add("Min", inverse, scalar(sketch, "largest", 1e12, place))
    else:
        floored = sketch.add("Max", squares, scalar(sketch, "floor", 1e-12, place))
        factor = sketch.add("Reciprocal", sketch.add("Sqrt", floored))
    sketch.output(sketch.add("Mul", x, factor), call.y)


def rescaling(call: LayerCall, sketch: Sketch) -> None:
    """``x * scale + offset`` (Keras layer Rescaling)."""
    dtype = dtype_of(call.y)
    scale, offset = np.asarray(call.layer.scale, dtype), np.asarray(call.layer.offset, dtype)
    if scale.ndim and library(call.layer).backend.image_data_format() == "channels_first":
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    value = _floats(call, sketch, sketch.input("x", call.x))
    value = sketch.add("Mul", value, sketch.constant("scale", scale))
    sketch.output(sketch.add("Add", value, sketch.constant("offset", offset)), call.y)


def _floats(call: LayerCall, sketch: Sketch, x: str) -> str:
    """The input in the layer's own dtype: images often arrive as integers."""
    if dtype_of(call.x) == dtype_of(call.y):
        return x
    codes = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
    name = dtype_of(call.y).name
    if name not in codes:
        raise NotDescribedError(f"it casts {dtype_of(call.x)} to {name}")
    return str(sketch.add("Cast", x, to=codes[name]))


def normalization(call: LayerCall, sketch: Sketch) -> None:
    """``(x - mean) / max(sqrt(variance), 1e-7)``, or its inverse (Keras layer Normalization).

    Adapted statistics are weights of the layer; statistics given to its constructor are constants.
    """
    layer = call.layer
    value = _floats(call, sketch, sketch.input("x", call.x))
    mean = _statistic(call, sketch, "mean", getattr(layer, "adapt_mean", None))
    variance = _statistic(call, sketch, "variance", getattr(layer, "adapt_variance", None))
    smallest = scalar(sketch, "smallest", float(library(layer).backend.epsilon()), Place(call.y))
    deviation = sketch.add("Max", sketch.add("Sqrt", variance), smallest)
    if getattr(layer, "invert", False):
        value = sketch.add("Add", mean, sketch.add("Mul", value, deviation))
    else:
        value = sketch.add("Div", sketch.add("Sub", value, mean), deviation)
    sketch.output(value, call.y)


def _statistic(call: LayerCall, sketch: Sketch, name: str, variable: Optional[Any]) -> str:
    held = array_of(getattr(call.layer, name)).astype(dtype_of(call.y))
    if variable is None or not np.array_equal(held.ravel(), array_of(variable).astype(held.dtype).ravel()):
        # Statistics loaded or set after ``finalize_state`` are not the ones that the layer computes with.
        return sketch.constant(name, held)
    port = sketch.parameter(name, variable)
    return str(sketch.add("Reshape", port, sketch.integers(f"{name}_shape", held.shape), allowzero=0))


LAYERS: Dict[str, Callable[[LayerCall, Sketch], None]] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "GroupNormalization": group_normalization,
    "UnitNormalization": unit_normalization,
    "Rescaling": rescaling,
    "Normalization": normalization,
}

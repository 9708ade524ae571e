"""Dense layers, embeddings, merging and reshaping layers: generic operators on the native axes."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import numpy as np

from porting_check_tensorflow.describe_activations import Place, activate, scalar
from porting_check_tensorflow.sketch import (
    LayerCall,
    NotDescribedError,
    Sketch,
    channels_first,
    dtype_of,
    weight,
)

Describer = Callable[[LayerCall, Sketch], None]


def dense(call: LayerCall, sketch: Sketch) -> None:
    """``Gemm`` on a matrix; ``MatMul`` and ``Add`` on any other rank (Keras layer Dense)."""
    layer = call.layer
    x = sketch.input("x", call.x)
    bias = weight(layer, "bias")
    if call.rank == 2:
        names = [x, sketch.parameter("weight", layer.kernel, "IO", "OI")]
        names += [] if bias is None else [sketch.parameter("bias", bias)]
        value = sketch.add("Gemm", *names, transA=0, transB=1, alpha=1.0, beta=1.0)
    else:
        value = sketch.add("MatMul", x, sketch.parameter("weight", layer.kernel, "IO", "IO"))
        if bias is not None:
            value = sketch.add("Add", value, sketch.parameter("bias", bias))
    sketch.output(activate(sketch, value, layer.activation, Place(call.y, keras=call.keras)), call.y)


def plain_equation(equation: str, ranks: List[int]) -> str:
    """An einsum equation without an ellipsis, for inputs of these ranks.

    Example:
        >>> plain_equation("...x,xy->...y", [3, 2])
        'ABx,xy->ABy'
    """
    equation = equation.replace(" ", "")
    if "..." not in equation:
        return equation
    terms = equation.split("->")[0].split(",")
    free = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation]
    widths = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks) if "..." in term]
    return equation.replace("...", "".join(free[: max(widths)]))


def einsum_dense(call: LayerCall, sketch: Sketch) -> None:
    """``Einsum`` and ``Add`` (Keras layer EinsumDense)."""
    layer = call.layer
    equation = plain_equation(str(layer.equation), [call.rank, len(layer.kernel.shape)])
    value = sketch.add(
        "Einsum", sketch.input("x", call.x), sketch.parameter("weight", layer.kernel), equation=equation
    )
    if layer.bias is not None:
        value = sketch.add("Add", value, sketch.parameter("bias", layer.bias))
    sketch.output(activate(sketch, value, layer.activation, Place(call.y, keras=call.keras)), call.y)


def embedding(call: LayerCall, sketch: Sketch) -> None:
    """``Gather`` of rows; indices that arrive as floats are cast as Keras does (Keras layer Embedding)."""
    if call.argument("reverse"):
        raise NotDescribedError("the reverse direction of an embedding is not described")
    table = sketch.parameter("weight", weight(call.layer, "embeddings"))
    indices = sketch.input("indices", call.x)
    if dtype_of(call.x).kind == "f":
        indices = sketch.add("Cast", indices, to=6)
    sketch.output(sketch.add("Gather", table, indices, axis=0), call.y)


def _merged(call: LayerCall, sketch: Sketch) -> List[str]:
    """The inputs of a merging layer, brought to one rank by new axes after the batch as Keras does."""
    names = [sketch.input(f"x{index}", tensor) for index, tensor in enumerate(call.many)]
    rank = max(len(tensor.shape) for tensor in call.many)
    merged = []
    for name, tensor in zip(names, call.many):
        missing = rank - len(tensor.shape)
        if missing:
            name = sketch.add("Unsqueeze", name, sketch.integers("axes", list(range(1, 1 + missing))))
        merged.append(name)
    return merged


def merging(op_type: str) -> Describer:
    """A describer of ``Add``, ``Subtract``, ``Multiply``, ``Maximum``, ``Minimum``.

    Pairwise, left to right.
    """

    def describe(call: LayerCall, sketch: Sketch) -> None:
        names = _merged(call, sketch)
        value = names[0]
        for name in names[1:]:
            value = sketch.add(op_type, value, name)
        sketch.output(value, call.y)

    return describe


def average(call: LayerCall, sketch: Sketch) -> None:
    """The sum divided by the number of inputs."""
    names = _merged(call, sketch)
    value = names[0]
    for name in names[1:]:
        value = sketch.add("Add", value, name)
    sketch.output(sketch.add("Div", value, scalar(sketch, "count", len(names), Place(call.y))), call.y)


def concatenate(call: LayerCall, sketch: Sketch) -> None:
    """``Concat`` on the native axis."""
    names = [sketch.input(f"x{index}", tensor) for index, tensor in enumerate(call.many)]
    axis = int(call.layer.axis) % len(call.y.shape)
    sketch.output(sketch.add("Concat", *names, axis=axis), call.y)


def dot(call: LayerCall, sketch: Sketch) -> None:
    """The batched product over one axis of each input, as ``Einsum`` (Keras layer Dot)."""
    layer = call.layer
    first, second = call.many
    axes = layer.axes if isinstance(layer.axes, (list, tuple)) else (layer.axes, layer.axes)
    ranks = [len(first.shape), len(second.shape)]
    axes = [int(axis) % rank for axis, rank in zip(axes, ranks)]
    if max(ranks) > 3:
        raise NotDescribedError(f"a product of ranks {ranks} is not described")
    letters = ["abc"[: ranks[0]], "ade"[: ranks[1]]]
    shared = [term.replace(term[axis], "z") for term, axis in zip(letters, axes)]
    names = [sketch.input("x0", first), sketch.input("x1", second)]
    if getattr(layer, "normalize", False):
        names = [_normalized(call, sketch, name, axis) for name, axis in zip(names, axes)]
    made = "".join(letter for letter in shared[0] + shared[1][1:] if letter != "z")
    value = sketch.add("Einsum", *names, equation=f"{shared[0]},{shared[1]}->{made}")
    if len(made) == 1:
        value = sketch.add("Unsqueeze", value, sketch.integers("axes", [1]))
    sketch.output(value, call.y)


def _normalized(call: LayerCall, sketch: Sketch, name: str, axis: int) -> str:
    """``x / sqrt(max(sum(x^2), 1e-12))`` along an axis; Keras 3: ``max(||x||, 1e-12)``."""
    squares = sketch.add("ReduceSumSquare", name, sketch.integers("axes", [axis]), keepdims=1)
    place = Place(call.many[0])
    if call.keras < 3:
        squares = sketch.add("Max", squares, scalar(sketch, "floor", 1e-12, place))
        return str(sketch.add("Div", name, sketch.add("Sqrt", squares)))
    return str(
        sketch.add(
            "Div", name, sketch.add("Max", sketch.add("Sqrt", squares), scalar(sketch, "floor", 1e-12, place))
        )
    )


def _shape_of(tensor: Any) -> List[int]:
    """A target shape with a free batch."""
    return [-1] + [int(size) for size in tensor.shape[1:]]


def flatten(call: LayerCall, sketch: Sketch) -> None:
    """``Flatten``; channels-first data is brought to channels-last before, as Keras does."""
    value = sketch.input("x", call.x)
    if call.rank == 1:
        value = sketch.add("Reshape", value, sketch.integers("shape", [-1, 1]), allowzero=0)
    elif channels_first(call.layer) and call.rank > 2:
        value = sketch.add("Transpose", value, perm=[0] + list(range(2, call.rank)) + [1])
        value = sketch.add("Flatten", value, axis=1)
    else:
        value = sketch.add("Flatten", value, axis=1)
    sketch.output(value, call.y)


def reshape(call: LayerCall, sketch: Sketch) -> None:
    """``Reshape`` with a free batch."""
    target = _shape_of(call.y)
    if 0 in target:
        target = [int(size) for size in call.y.shape]
    shape = sketch.integers("shape", target)
    sketch.output(sketch.add("Reshape", sketch.input("x", call.x), shape, allowzero=1), call.y)


def permute(call: LayerCall, sketch: Sketch) -> None:
    """``Transpose``; Keras counts the axes after the batch."""
    perm = [0] + [int(dim) for dim in call.layer.dims]
    sketch.output(sketch.add("Transpose", sketch.input("x", call.x), perm=perm), call.y)


def repeat_vector(call: LayerCall, sketch: Sketch) -> None:
    """``Unsqueeze`` and ``Expand``."""
    value = sketch.add("Unsqueeze", sketch.input("x", call.x), sketch.integers("axes", [1]))
    sketch.output(sketch.add("Expand", value, sketch.integers("shape", [1, int(call.layer.n), 1])), call.y)


def identity(call: LayerCall, sketch: Sketch) -> None:
    """``Identity``: what regularisation layers are in inference."""
    if call.argument("training"):
        raise NotDescribedError("it ran in training mode")
    sketch.output(sketch.add("Identity", sketch.input("x", call.x)), call.y)


def masking(call: LayerCall, sketch: Sketch) -> None:
    """Rows that are all ``mask_value`` become zeros.

    The mask itself travels with the tensor (Keras layer Masking).
    """
    x = sketch.input("x", call.x)
    value = sketch.constant("mask_value", np.asarray(call.layer.mask_value, dtype_of(call.x)))
    zero = scalar(sketch, "zero", 0.0, Place(call.x))
    differs = sketch.add("Cast", sketch.add("Not", sketch.add("Equal", x, value)), to=6)
    kept = sketch.add("ReduceMax", differs, sketch.integers("axes", [-1]), keepdims=1)
    sketch.output(sketch.add("Where", sketch.add("Cast", kept, to=9), x, zero), call.y)


IDENTITIES = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
)

LAYERS: Dict[str, Describer] = {
    "Dense": dense,
    "EinsumDense": einsum_dense,
    "Embedding": embedding,
    "Add": merging("Add"),
    "Subtract": merging("Sub"),
    "Multiply": merging("Mul"),
    "Maximum": merging("Max"),
    "Minimum": merging("Min"),
    "Average": average,
    "Concatenate": concatenate,
    "Dot": dot,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "Masking": masking,
}
LAYERS.update(dict.fromkeys(IDENTITIES, identity))

"""Attention layers, written out: projections, scaled scores, mask, softmax, weighted values."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from porting_check_tensorflow.describe_activations import Place, scalar
from porting_check_tensorflow.sketch import LayerCall, NotDescribedError, Sketch, dtype_of
from porting_check_tensorflow.trees import is_tensor

BOOL = 9


class _Inputs:
    """Input ports by tensor: self-attention reads one tensor three times, through one port."""

    def __init__(self, sketch: Sketch) -> None:
        self.sketch = sketch
        self.names: Dict[int, str] = {}

    def port(self, name: str, tensor: Any) -> str:
        if id(tensor) not in self.names:
            self.names[id(tensor)] = self.sketch.input(name, tensor)
        return self.names[id(tensor)]


def multi_head_attention(call: LayerCall, sketch: Sketch) -> None:
    """``MultiHeadAttention`` of Keras 3, with every mask that its call was given."""
    layer = call.layer
    if call.keras < 3 or len(layer._attention_axes) != 1 or call.rank != 3:
        raise NotDescribedError(
            f"attention in Keras {call.keras} over inputs of rank {call.rank} is not described"
        )
    if call.argument("training") and layer._dropout > 0:
        raise NotDescribedError("it ran in training mode with dropout")
    inputs = _Inputs(sketch)
    query, value = call.x, call.argument("value")
    key = value if call.argument("key") is None else call.argument("key")
    names = [inputs.port(n, t) for n, t in (("query", query), ("key", key), ("value", value))]
    projected = []
    for name, role, tensor in zip(names, ("query", "key", "value"), (query, key, value)):
        projected.append(_projection(sketch, getattr(layer, f"_{role}_dense"), name, role, tensor))
    mask = _combined_mask(call, sketch, inputs, query, value)
    scores, attended = _scaled_attention(call, sketch, projected, mask)
    if getattr(layer, "_use_gate", False):
        gate = _projection(sketch, layer._gate_dense, names[0], "gate", query)
        attended = sketch.add("Mul", attended, gate)
    sketch.output(_projection(sketch, layer._output_dense, attended, "output", None), call.outputs[0])
    if len(call.outputs) > 1:
        sketch.output(scores, call.outputs[1], name="scores")


def _projection(sketch: Sketch, dense: Any, name: str, role: str, tensor: Optional[Any]) -> str:
    """An inner ``EinsumDense`` as the matrix product that it is, its kernel as ``<role>_weight``.

    Kernels are (E, H, D) on the way in and (H, D, E) on the way out; heads and head size are one axis of the
    product.
    """
    from porting_check_tensorflow.describe_activations import activate

    shape = [int(size) for size in dense.kernel.shape]
    inward = role != "output"
    if not inward:
        name = sketch.add("Reshape", name, sketch.integers("joined", [0, 0, shape[0] * shape[1]]))
    layouts = ("EHD", "E(HD)") if inward else ("HDE", "(HD)E")
    value = sketch.add("MatMul", name, sketch.parameter(f"{role}_weight", dense.kernel, *layouts))
    if dense.bias is not None:
        layouts = ("HD", "(HD)") if inward else ("", "")
        value = sketch.add("Add", value, sketch.parameter(f"{role}_bias", dense.bias, *layouts))
    if inward:
        value = sketch.add("Reshape", value, sketch.integers(f"{role}_heads", [0, 0, *shape[1:]]))
    if dense.activation is not None and tensor is not None:
        value = activate(sketch, value, dense.activation, Place(tensor))
    return str(value)


def _scaled_attention(
    call: LayerCall, sketch: Sketch, projected: List[str], mask: Optional[str]
) -> Tuple[str, str]:
    """Scores (batch, heads, T, S) after the softmax, and the attended values (batch, T, heads, size)."""
    layer, query = call.layer, call.x
    asked = bool(call.argument("return_attention_scores"))
    fused = not (layer._dropout > 0.0 or asked)
    place = Place(query)
    scale = sketch.constant("scale", np.asarray(layer._inverse_sqrt_key_dim, dtype_of(query)))
    scores = sketch.add("Einsum", projected[0], projected[1], equation="btnh,bsnh->bnts")
    scores = sketch.add("Mul", scores, scale)
    if mask is not None:
        # The fused path fills with nearly the lowest number, the explicit one with -1e9 and zeros the result
        # as well.
        fill = float(np.finfo(np.float32).min) * 0.7 if fused else -1e9
        if dtype_of(query) == np.float16:
            fill = -3e4
        scores = sketch.add("Where", mask, scores, scalar(sketch, "hidden", fill, place))
    weights = sketch.add("Softmax", scores, axis=3)
    if mask is not None and not fused:
        weights = sketch.add("Where", mask, weights, scalar(sketch, "zero", 0.0, place))
    return weights, str(sketch.add("Einsum", weights, projected[2], equation="bnts,bsnh->btnh"))


def _combined_mask(call: LayerCall, sketch: Sketch, inputs: _Inputs, query: Any, value: Any) -> Optional[str]:
    """All masks joined by ``And``, broadcastable to (batch, heads, T, S)."""
    parts: List[str] = []
    for name, axis, tensor in (
        ("query_mask", 2, getattr(query, "_keras_mask", None)),
        ("value_mask", 1, None),
        ("key_mask", 1, None),
    ):
        tensor = call.argument(name) if tensor is None else tensor
        if is_tensor(tensor):
            port = sketch.add("Cast", inputs.port(name, tensor), to=BOOL)
            parts.append(sketch.add("Unsqueeze", port, sketch.integers("mask_axes", [1, 1 + axis])))
    positions = int(query.shape[1]), int(value.shape[1])
    fixed = np.ones(positions, bool)
    if call.argument("use_causal_mask"):
        fixed &= np.tril(fixed)
    if getattr(call.layer, "_sliding_window", None) is not None:
        fixed &= _window(positions, int(call.layer._sliding_window))
    if not fixed.all():
        parts.append(sketch.constant("fixed_mask", fixed[None, None]))
    given = call.argument("attention_mask")
    if is_tensor(given):
        port = sketch.add("Cast", inputs.port("attention_mask", given), to=BOOL)
        missing = 4 - len(given.shape)
        if missing:
            port = sketch.add("Unsqueeze", port, sketch.integers("heads", _before_last_two(len(given.shape))))
        parts.append(port)
    if not parts:
        return None
    joined = parts[0]
    for part in parts[1:]:
        joined = sketch.add("And", joined, part)
    return joined


def _before_last_two(rank: int) -> List[int]:
    """Axes to insert so that a mask of this rank gets rank 4 with its last two axes last."""
    return list(range(max(rank - 2, 0), 2))


def _window(positions: Tuple[int, int], size: int) -> np.ndarray:
    rows, columns = np.arange(positions[0])[:, None], np.arange(positions[1])[None]
    return np.abs(rows - columns) < size


def attention(call: LayerCall, sketch: Sketch) -> None:
    """``Attention`` and ``AdditiveAttention``: Luong's and Bahdanau's."""
    layer = call.layer
    if call.argument("training") and float(getattr(layer, "dropout", 0)) > 0:
        raise NotDescribedError("it ran in training mode with dropout")
    masks = call.argument("mask")
    if masks is not None and any(is_tensor(item) and not np.all(item.numpy()) for item in _items(masks)):
        raise NotDescribedError("a mask hides some positions")
    if call.keras < 3 and any(getattr(tensor, "_keras_mask", None) is not None for tensor in call.many):
        raise NotDescribedError("a mask travels with its inputs")
    inputs = _Inputs(sketch)
    tensors = call.many
    query, value = inputs.port("query", tensors[0]), inputs.port("value", tensors[1])
    key = inputs.port("key", tensors[2]) if len(tensors) > 2 else value
    scores = _scores(call, sketch, query, key)
    if call.argument("use_causal_mask") or getattr(layer, "causal", False):
        shape = int(tensors[0].shape[-2]), int(tensors[1].shape[-2])
        place = Place(tensors[0])
        lowest = scalar(sketch, "hidden", 65504.0 if place.dtype == np.float16 else 1e9, place)
        visible = sketch.constant("fixed_mask", np.tril(np.ones(shape, bool))[None])
        scores = sketch.add("Where", visible, scores, sketch.add("Sub", scores, lowest))
    weights = sketch.add("Softmax", scores, axis=-1)
    sketch.output(sketch.add("MatMul", weights, value), call.outputs[0])
    if len(call.outputs) > 1:
        sketch.output(weights, call.outputs[1], name="scores")


def _items(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _scores(call: LayerCall, sketch: Sketch, query: str, key: str) -> str:
    layer = call.layer
    scale = getattr(layer, "scale", None)
    additive = type(layer).__name__ == "AdditiveAttention"
    if not additive and layer.score_mode == "dot":
        perm = list(range(len(call.many[0].shape)))
        turned = sketch.add("Transpose", key, perm=perm[:-2] + [perm[-1], perm[-2]])
        scores = sketch.add("MatMul", query, turned)
        return str(scores if scale is None else sketch.add("Mul", scores, sketch.parameter("scale", scale)))
    rows = sketch.add("Unsqueeze", query, sketch.integers("query_axis", [-2]))
    columns = sketch.add("Unsqueeze", key, sketch.integers("key_axis", [-3]))
    value = sketch.add("Add", rows, columns)
    if scale is not None and not additive:
        value = sketch.add("Mul", sketch.parameter("scale", scale), value)
    value = sketch.add("Tanh", value)
    if scale is not None and additive:
        value = sketch.add("Mul", sketch.parameter("scale", scale), value)
    total = sketch.add("ReduceSum", value, sketch.integers("features", [-1]), keepdims=0)
    if additive:
        return str(total)
    return str(sketch.add("Mul", sketch.parameter("concat_score_weight", layer.concat_score_weight), total))


LAYERS: Dict[str, Callable[[LayerCall, Sketch], None]] = {
    "MultiHeadAttention": multi_head_attention,
    "Attention": attention,
    "AdditiveAttention": attention,
}

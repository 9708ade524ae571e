"""Normalisation layers of flax linen, flax nnx and equinox.

Flax computes variances as ``E[x²] - E[x]²`` unless ``use_fast_variance`` is off. That is the same function, with
fewer digits where the mean is large, and the nodes do not show it.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from porting_check_jax.draft import Draft, Ref, axes
from porting_check_jax.layers import LayerCall
from porting_check_jax.layers_shared import (
    SPATIAL,
    activation,
    argument,
    fed,
    fed_or,
    layouts,
    number,
    optional,
    plain,
    promoted,
    required,
    setting,
    wide,
)


class Dtypes(NamedTuple):
    """What a flax norm casts its arrays to: its own or common dtype, then that of the arithmetic.

    The arithmetic is never narrower than float32. linen leaves out the first step.
    """

    first: np.dtype
    arithmetic: np.dtype

    def fed(self, d: Draft, ref: Ref, role: str, layout: str = "", canonical: str = "") -> str:
        """An array as the nodes read it."""
        return d.cast(fed(d, ref, role, self.first, layout, canonical), self.first, self.arithmetic)

    def fed_or(self, d: Draft, ref: Optional[Ref], role: str, fill: float, shape: Sequence[int]) -> str:
        """A scale or bias, or the constant that stands for its absence."""
        return fed_or(d, None, role, self.arithmetic, fill, shape) if ref is None else self.fed(d, ref, role)


def _dtypes(call: LayerCall, d: Draft) -> Dtypes:
    plain(call, d)
    own = call.module.dtype if call.kind.startswith("nnx.") else None
    first = promoted(d, [call.x, optional(call, "scale"), optional(call, "bias")], own)
    return Dtypes(first, wide(d, [Ref("", (), first)]))


def _refuse_training(call: LayerCall, d: Draft) -> None:
    """Statistics over other devices or over a part of the elements are not described."""
    if argument(call, "mask") is not None:
        d.refuse("with a mask is not described")
    if getattr(call.module, "axis_name", None) is not None:
        d.refuse("with axis_name is not described")


def batch_norm(call: LayerCall, d: Draft) -> None:
    """``linen.BatchNorm`` and ``nnx.BatchNorm`` with the running statistics."""
    if not setting(call, "use_running_average", 1):
        d.refuse("computes batch statistics (training mode)")
    plain(call, d)
    mean, var = required(call, d, "mean", "var")
    scale, bias, ref = optional(call, "scale"), optional(call, "bias"), call.x
    own = call.module.dtype if call.kind.startswith("nnx.") else None
    dtype = promoted(d, (ref, scale, bias, mean, var), own)
    places = axes(call.module.axis, ref.ndim)
    if len(places) != 1:
        d.refuse(f"with statistics over several axes {places} is not described")
    place, channels = places[0], (ref.shape[places[0]],)
    if ref.ndim == 1 or place not in (1, ref.ndim - 1) or ref.ndim - 2 not in SPATIAL:
        _spelt_batch_norm(call, d, dtype, place)
        return
    layout, canonical = layouts(1, ref.ndim - 2, place == ref.ndim - 1)
    y = d.node(
        "BatchNormalization",
        fed(d, ref, "x", dtype, layout, canonical),
        fed_or(d, scale, "scale", dtype, 1, channels),
        fed_or(d, bias, "bias", dtype, 0, channels),
        fed(d, mean, "mean", dtype),
        fed(d, var, "var", dtype),
        epsilon=float(call.module.epsilon),
    )
    d.give_as(y, dtype, layout, canonical)


def _spelt_batch_norm(call: LayerCall, d: Draft, dtype: np.dtype, place: int) -> None:
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` for channels where no layout says so."""
    spread = [1] * call.x.ndim
    spread[place] = call.x.shape[place]

    def aligned(name: str) -> str:
        return d.reshape(fed(d, call.parameters[name], name, dtype), spread)

    centred = d.node("Sub", fed(d, call.x, "x", dtype), aligned("mean"))
    raised = d.node("Add", aligned("var"), number(d, call.module.epsilon, "epsilon", dtype))
    y = d.node("Div", centred, d.node("Sqrt", raised))
    y = d.node("Mul", y, aligned("scale")) if "scale" in call.parameters else y
    d.give_as(d.node("Add", y, aligned("bias")) if "bias" in call.parameters else y, dtype)


def layer_norm(call: LayerCall, d: Draft) -> None:
    """``linen.LayerNorm`` and ``nnx.LayerNorm``."""
    _over_axes(call, d, "LayerNormalization")


def rms_norm(call: LayerCall, d: Draft) -> None:
    """``linen.RMSNorm`` and ``nnx.RMSNorm``."""
    _over_axes(call, d, "RMSNormalization")


def _over_axes(call: LayerCall, d: Draft, op_type: str) -> None:
    """Over trailing axes that carry the scale too it is an operator of ONNX; other axes are spelt out."""
    _refuse_training(call, d)
    rank, module = call.x.ndim, call.module
    over, features = (sorted(axes(value, rank)) for value in (module.reduction_axes, module.feature_axes))
    if over != features or over != list(range(over[0], rank)):
        _moments(call, d, over, axes(module.feature_axes, rank), centre=op_type == "LayerNormalization")
        return
    dtypes, shape = _dtypes(call, d), [call.x.shape[axis] for axis in over]
    inputs = [dtypes.fed(d, call.x, "x"), dtypes.fed_or(d, optional(call, "scale"), "scale", 1, shape)]
    if op_type == "LayerNormalization":
        inputs.append(dtypes.fed_or(d, optional(call, "bias"), "bias", 0, shape))
    options = {"axis": -len(over), "epsilon": float(module.epsilon), "stash_type": 1}
    d.give_as(d.node(op_type, *inputs, **options), dtypes.arithmetic)


def _moments(
    call: LayerCall, d: Draft, over: Sequence[int], features: Sequence[int], centre: bool = True
) -> None:
    """``(x - mean) / sqrt(variance + epsilon)``, then the scale and bias, which lie on the feature axes."""
    dtypes = _dtypes(call, d)
    x = dtypes.fed(d, call.x, "x")
    places = d.integers(list(over))
    x = d.node("Sub", x, d.node("ReduceMean", x, places, keepdims=1)) if centre else x
    variance = d.node("ReduceMean", d.node("Mul", x, x), places, keepdims=1)
    raised = d.node("Add", variance, number(d, call.module.epsilon, "epsilon", dtypes.arithmetic))
    y = d.node("Div", x, d.node("Sqrt", raised))
    if list(features) != sorted(features):
        d.refuse(f"with feature axes {list(features)} out of order is not described")
    spread = [size if axis in features else 1 for axis, size in enumerate(call.x.shape)]
    for op_type, role in (("Mul", "scale"), ("Add", "bias")):
        ref = optional(call, role)
        if ref is not None:
            y = d.node(op_type, y, d.reshape(dtypes.fed(d, ref, role), spread))
    d.give_as(y, dtypes.arithmetic)


def group_norm(call: LayerCall, d: Draft) -> None:
    """``linen.GroupNorm`` and ``nnx.GroupNorm``: channels last, each sample by itself."""
    _refuse_training(call, d)
    module, rank, channels = call.module, call.x.ndim, call.x.shape[-1]
    over = module.reduction_axes
    if over is not None and sorted(axes(over, rank)) != list(range(1, rank)):
        d.refuse(f"with reduction_axes {over} is not described")
    if rank - 2 not in SPATIAL:
        d.refuse(f"with an input of rank {rank} is not described")
    # nnx keeps both numbers; linen one of the two.
    size = module.group_size
    groups = int(module.num_groups if module.num_groups is not None else channels // size)
    _grouped(call, d, groups, True)


def instance_norm(call: LayerCall, d: Draft) -> None:
    """``linen.InstanceNorm`` and ``nnx.InstanceNorm``: each channel of each sample by itself."""
    _refuse_training(call, d)
    rank, places = call.x.ndim, axes(call.module.feature_axes, call.x.ndim)
    if len(places) == 1 and places[0] in (1, rank - 1) and rank - 2 in (1, 2, 3):
        _grouped(call, d, call.x.shape[places[0]], places[0] == rank - 1)
        return
    over = [axis for axis in range(1, rank) if axis not in places]
    if not over:
        d.refuse("over single elements is not described")
    _moments(call, d, over, places)


def _grouped(call: LayerCall, d: Draft, groups: int, last: bool) -> None:
    """A group norm; a group of one channel is an instance norm."""
    ref, rank = call.x, call.x.ndim
    layout, canonical = layouts(1, rank - 2, last)
    channels = ref.shape[-1 if last else 1]
    dtypes = _dtypes(call, d)
    x = dtypes.fed(d, ref, "x", layout, canonical)
    affine = [
        dtypes.fed_or(d, optional(call, role), role, fill, (channels,))
        for role, fill in (("scale", 1.0), ("bias", 0.0))
    ]
    y = _group_nodes(d, [x] + affine, groups, channels, rank, float(call.module.epsilon))
    d.give_as(y, dtypes.arithmetic, layout, canonical)


def _group_nodes(
    d: Draft, inputs: Sequence[str], groups: int, channels: int, rank: int, epsilon: float
) -> str:
    """From the input, scale and bias of a value of this rank with a batch axis and channels first."""
    if groups == channels and rank > 2:
        return d.node("InstanceNormalization", *inputs, epsilon=epsilon)
    options = {"num_groups": groups, "epsilon": epsilon, "stash_type": 1}
    return d.node("GroupNormalization", *inputs, **options)


def equinox_layer_norm(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.LayerNorm`` and ``RMSNorm``: over all axes of one sample."""
    ref, shape, rms = call.x, tuple(call.module.shape), call.kind.endswith("RMSNorm")
    if not shape or ref.shape[ref.ndim - len(shape) :] != shape:
        d.refuse(f"of shape {shape} with an input of shape {ref.shape} is not described")
    dtype = wide(d, (ref,))
    scale = fed_or(d, optional(call, "weight"), "scale", dtype, 1, shape)
    bias = optional(call, "bias")
    options = {"axis": -len(shape), "epsilon": float(call.module.eps), "stash_type": 1}
    x = fed(d, ref, "x", dtype)
    if rms:
        y = d.node("RMSNormalization", x, scale, **options)
        y = y if bias is None else d.node("Add", y, fed(d, bias, "bias", dtype))
    else:
        y = d.node("LayerNormalization", x, scale, fed_or(d, bias, "bias", dtype, 0, shape), **options)
    d.give_as(y, dtype)
    _hand_on(call, d)


def equinox_group_norm(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.GroupNorm``: one sample, channels first."""
    ref, module = call.x, call.module
    dtype, spatial = wide(d, (ref,)), ref.ndim - 1 - call.batched
    x, give = activation(d, ref, spatial, dtype, last=False)
    channels = ref.shape[call.batched]
    affine = [
        fed_or(d, optional(call, name), role, dtype, fill, (channels,))
        for name, role, fill in (("weight", "scale", 1), ("bias", "bias", 0))
    ]
    give(_group_nodes(d, [x] + affine, int(module.groups), channels, spatial + 2, float(module.eps)))
    _hand_on(call, d)


def equinox_batch_norm(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.BatchNorm`` in inference; its statistics are in the state that the call was given."""
    module, ref = call.module, call.x
    inference = argument(call, "inference")
    if not (module.inference if inference is None else inference):
        d.refuse("computes batch statistics (training mode)")
    mean, var, counter = _running(call, d)
    scale, bias = optional(call, "weight"), optional(call, "bias")
    dtype = promoted(d, (ref, mean, var, scale, bias))
    statistics = [fed(d, mean, "mean", dtype), fed(d, var, "var", dtype)]
    if counter is not None:
        statistics = [_debiased(d, name, counter, float(module.momentum), dtype) for name in statistics]
    x, give = activation(d, ref, ref.ndim - 1 - call.batched, dtype, last=False)
    affine = [
        fed_or(d, found, role, dtype, fill, (ref.shape[call.batched],))
        for found, role, fill in ((scale, "scale", 1), (bias, "bias", 0))
    ]
    give(d.node("BatchNormalization", x, *affine, *statistics, epsilon=float(module.eps)))
    _hand_on(call, d)


def _hand_on(call: LayerCall, d: Draft) -> None:
    """The state that equinox gives back as it was, where the recorder counts it among the outputs."""
    leaves = {leaf.key: leaf for leaf in _state_leaves(argument(call, "state", 1))}
    if len(d.outputs) == 1:
        return
    if len(leaves) != len(d.outputs) - 1:
        d.refuse("that changes its state is not described")
    for leaf in leaves.values():
        d.give(d.port(leaf, "state"))


def _state_leaves(state: Any) -> List[Any]:
    """All arrays of an equinox state, in the order of its leaves."""
    found = getattr(state, "_state", None)
    values = list(found.values()) if isinstance(found, dict) else []
    return [leaf for value in values for leaf in (value if isinstance(value, tuple) else (value,))]


def _running(call: LayerCall, d: Draft) -> Tuple[Ref, Ref, Optional[Ref]]:
    """Mean, variance, and in mode "batch" how many batches they have seen.

    Raises:
        Undescribed: the state is not the one that the call was given.
    """
    module, found = call.module, getattr(argument(call, "state", 1), "_state", None)
    state: Dict[Any, Any] = found if isinstance(found, dict) else {}
    lone = module.mode == "ema"
    index = module.ema_state_index if lone else module.batch_state_index
    pair = state.get(index.marker)
    if not isinstance(pair, tuple) or not all(isinstance(item, Ref) for item in pair):
        return d.refuse("without its state among the arguments is not described")
    counter = None if lone else state.get(module.batch_counter.marker)
    return pair[0], pair[1], counter


def _debiased(d: Draft, name: str, counter: Ref, momentum: float, dtype: np.dtype) -> str:
    """A running mean that began at zero, divided by the weight of what it has seen (mode "batch")."""
    count = d.cast(d.port(counter, "counter"), counter.dtype, dtype)
    power = d.node("Pow", number(d, momentum, "momentum", dtype), count)
    one = number(d, 1, "one", dtype)
    weight = d.node("Sub", one, power)
    untouched = d.node("Equal", count, number(d, 0, "zero", dtype))
    return d.node("Div", name, d.node("Where", untouched, one, weight))

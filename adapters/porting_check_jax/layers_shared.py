"""What the describers of flax and equinox layers share: arguments, dtypes, batch axes, library functions."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check.neutral.layout import convert_shape
from porting_check_jax.draft import Draft, Ref, host_dtype
from porting_check_jax.layers import LayerCall

SPATIAL = {0: "", 1: "L", 2: "HW", 3: "DHW"}
"""Letters of the spatial axes by their number."""

LEADS = ("", "N", "NT", "NTS")
"""Letters of the batch axes by their number: flax layers take any number of them, and none."""

Give = Callable[[str], None]
"""Takes a value with one batch axis, channels first, and makes it the layer's output."""

_OWN = {
    "conv_general_dilated": lax.conv_general_dilated,
    "dot_general": lax.dot_general,
    "einsum_op": jnp.einsum,
}
"""What a hook of a layer holds when it is not used; ``None`` always means so too."""

_HOOKS = (
    "conv_general_dilated",
    "conv_general_dilated_cls",
    "dot_general",
    "dot_general_cls",
    "qkv_dot_general",
    "qkv_dot_general_cls",
    "out_dot_general",
    "out_dot_general_cls",
    "qk_attn_weights_einsum_cls",
    "attn_weights_value_einsum_cls",
    "einsum_op",
    "mask",
    "preferred_element_type",
)

_PROMOTIONS = ("promote_dtype", "qkv_promote_dtype", "out_promote_dtype", "ln_promote_dtype")


def plain(call: LayerCall, d: Draft) -> None:
    """Refuse a flax layer in which the user replaced a part: an own product, convolution, promotion or mask."""
    for name in _HOOKS:
        value = getattr(call.module, name, None)
        if value is not None and value is not _OWN.get(name):
            d.refuse(f"with {name} is not described")
    for name in _PROMOTIONS:
        value = getattr(call.module, name, None)
        if value is not None and not str(getattr(value, "__module__", "")).startswith("flax."):
            d.refuse(f"with {name} is not described")


def argument(call: LayerCall, name: str, place: Optional[int] = None, default: Any = None) -> Any:
    """An argument of the call by its name, or by its place when it may be positional."""
    if name in call.kwargs:
        return call.kwargs[name]
    return call.args[place] if place is not None and place < len(call.args) else default


def setting(call: LayerCall, name: str, place: Optional[int] = None) -> Any:
    """What was given to the call, else to the constructor (flax: ``merge_param``, ``first_from``)."""
    given = argument(call, name, place)
    return getattr(call.module, name, None) if given is None else given


def promoted(d: Draft, refs: Sequence[Optional[Ref]], dtype: Any = None) -> np.dtype:
    """The dtype a flax layer computes in: its own, else the common one, at least float32 for integers.

    Source: flax.linen.dtypes.canonicalize_dtype.
    """
    if dtype is None:
        dtype = jnp.result_type(*[ref.dtype for ref in refs if ref is not None])
        if not jnp.issubdtype(dtype, jnp.inexact):
            dtype = jnp.promote_types(jnp.float32, dtype)
    found = np.dtype(dtype)
    if not jnp.issubdtype(found, jnp.floating):
        d.refuse(f"in {found.name} is not described")
    return found


def wide(d: Draft, refs: Sequence[Optional[Ref]]) -> np.dtype:
    """The common dtype, at least float32: what normalisations compute in."""
    return promoted(d, list(refs) + [Ref("", (), np.dtype(np.float32))])


def fed(d: Draft, ref: Any, role: str, dtype: np.dtype, layout: str = "", canonical: str = "") -> str:
    """An array as the nodes read it, cast to the dtype they compute in."""
    name = d.port(ref, role, layout, canonical)
    return d.cast(name, ref.dtype, dtype)


def fed_or(
    d: Draft, ref: Optional[Ref], role: str, dtype: np.dtype, fill: float, shape: Sequence[int]
) -> str:
    """A scale or bias, or the constant that stands for its absence."""
    if ref is not None:
        return fed(d, ref, role, dtype)
    return number(d, np.full(tuple(shape), fill), role, dtype)


def number(d: Draft, value: Any, role: str, dtype: np.dtype) -> str:
    """A number or an array of them as a constant of a dtype, cast where numpy lacks the dtype (bfloat16)."""
    return d.cast(d.scalar(value, role, dtype), host_dtype(dtype), dtype)


def amounts(value: Any, count: int) -> Tuple[int, ...]:
    """Strides or dilations as flax takes them: ``None`` is 1, an integer holds for every axis."""
    value = 1 if value is None else value
    return (
        (int(value),) * count if isinstance(value, (int, np.integer)) else tuple(int(item) for item in value)
    )


def layouts(lead: int, spatial: int, last: bool) -> Tuple[str, str]:
    """Native and canonical layout of an activation with so many batch and spatial axes.

    Example:
        >>> layouts(1, 2, True), layouts(0, 1, False)
        (('NHWC', 'NCHW'), ('CL', 'CL'))
    """
    canonical = LEADS[lead] + "C" + SPATIAL[spatial]
    return (LEADS[lead] + SPATIAL[spatial] + "C" if last else canonical), canonical


def activation(d: Draft, ref: Any, spatial: int, dtype: np.dtype, last: bool = True) -> Tuple[str, Give]:
    """The input with one batch axis and channels first, and how to give an output of the same kind.

    Args:
        d: the draft.
        ref: the input, with any number of batch axes.
        spatial: number of spatial axes.
        dtype: what the nodes compute in.
        last: whether the channels are last (flax) or come after the batch (equinox).
    """
    if not isinstance(ref, Ref):
        d.refuse(f"with {type(ref).__name__} as input is not described")
    lead = ref.ndim - spatial - 1
    if not 0 <= lead < len(LEADS) or spatial not in SPATIAL:
        d.refuse(f"with an input of rank {ref.ndim} is not described")
    layout, canonical = layouts(lead, spatial, last)
    x = fed(d, ref, "x", dtype, layout, canonical)
    if lead == 0:
        x = d.node("Unsqueeze", x, d.integers([0], "batch_axis"))
    elif lead > 1:
        shape = convert_shape(ref.shape, layout, canonical)
        x = d.reshape(x, (int(np.prod(shape[:lead])),) + shape[lead:])

    def give(name: str) -> None:
        if lead == 0:
            name = d.node("Squeeze", name, d.integers([0], "batch_axis"))
        elif lead > 1:
            name = d.reshape(name, convert_shape(d.out.shape, layout, canonical))
        d.give_as(name, dtype, layout, canonical)

    return x, give


def sizes_of(ref: Ref, spatial: int, last: bool = True) -> Tuple[int, ...]:
    """The spatial sizes of an activation."""
    return ref.shape[ref.ndim - spatial - 1 : -1] if last else ref.shape[ref.ndim - spatial :]


def reversed_axes(d: Draft, name: str, axes: Sequence[int]) -> str:
    """A value with some axes back to front: a Slice with steps of -1."""
    count = len(axes)
    bounds = [
        d.integers([-1] * count, "starts"),
        d.integers([np.iinfo(np.int64).min] * count, "ends"),
        d.integers(list(axes), "axes"),
        d.integers([-1] * count, "steps"),
    ]
    return d.node("Slice", name, *bounds)


def optional(call: LayerCall, name: str) -> Optional[Ref]:
    """A parameter, or ``None`` where the layer has none of the name."""
    return call.parameters.get(name)


def required(call: LayerCall, d: Draft, *names: str) -> List[Ref]:
    """Parameters that must be there; a submodule that lives elsewhere in the model has none here."""
    missing = [name for name in names if name not in call.parameters]
    if missing:
        d.refuse(f"whose parameters {missing[:3]} are held elsewhere is not described")
    return [call.parameters[name] for name in names]

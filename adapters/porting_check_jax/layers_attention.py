"""Multi-head attention of flax linen, flax nnx and equinox, written out as products and a softmax."""

from __future__ import annotations

import math
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import jax.numpy as jnp
import numpy as np

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.layers import LayerCall
from porting_check_jax.layers_shared import (
    argument,
    fed,
    number,
    optional,
    plain,
    promoted,
    required,
    setting,
)

BOOL = 9
"""``onnx.TensorProto.BOOL``."""


class Projection(NamedTuple):
    """A product with a kernel: roles, and the layouts of kernel and bias, native and as the nodes want them."""

    role: str
    kernel: Ref
    bias: Optional[Ref]
    kernel_layout: Tuple[str, str]
    bias_layout: Tuple[str, str] = ("", "")

    def apply(self, d: Draft, x: str, dtype: np.dtype) -> str:
        """``x W + b`` over the last axis."""
        kernel = fed(d, self.kernel, f"{self.role}_weight", dtype, *self.kernel_layout)
        y = d.node("MatMul", x, kernel)
        if self.bias is None:
            return y
        return d.node("Add", y, fed(d, self.bias, f"{self.role}_bias", dtype, *self.bias_layout))


class Heads(NamedTuple):
    """A projected input: its name, (…, T, heads, size) or, once turned, (…, heads, T, size)."""

    name: str
    lead: Tuple[int, ...]
    length: int
    heads: int

    def turned(self, d: Draft) -> str:
        """The heads before the positions."""
        rank = len(self.lead) + 3
        return d.node("Transpose", self.name, perm=tuple(range(rank - 3)) + (rank - 2, rank - 3, rank - 1))


def split(d: Draft, name: str, ref: Ref, count: int, size: int) -> Heads:
    """A projection (…, T, heads * size) cut into heads."""
    lead, length = ref.shape[:-2], ref.shape[-2]
    return Heads(d.reshape(name, lead + (length, count, size)), lead, length, count)


def attended(
    d: Draft, heads: Sequence[Heads], size: int, value_size: int, mask: Optional[str], dtype: np.dtype
) -> str:
    """``softmax(q kᵀ / sqrt(size)) v``, heads side by side again: (…, T, heads * value size).

    A masked score becomes the lowest finite number, as flax and equinox have it: a query that may attend to
    nothing then attends to everything alike.
    """
    query, key, value = heads
    rank = len(query.lead) + 3
    scale = number(d, 1.0 / math.sqrt(size), "scale", dtype)
    q = d.node("Mul", query.turned(d), scale)
    k, v = (_repeated(d, item.turned(d), item.heads, query.heads, rank) for item in (key, value))
    scores = d.node("MatMul", q, d.node("Transpose", k, perm=tuple(range(rank - 2)) + (rank - 1, rank - 2)))
    if mask is not None:
        lowest = float(jnp.finfo(dtype).min)
        scores = d.node("Where", mask, scores, number(d, lowest, "masked", dtype))
    mixed = d.node("MatMul", d.node("Softmax", scores, axis=-1), v)
    back = d.node("Transpose", mixed, perm=tuple(range(rank - 3)) + (rank - 2, rank - 3, rank - 1))
    return d.reshape(back, query.lead + (query.length, query.heads * value_size))


def _repeated(d: Draft, name: str, have: int, want: int, rank: int) -> str:
    """Heads of keys or values that several query heads share, repeated one by one."""
    if have == want:
        return name
    return d.node(
        "Gather", name, d.integers(np.repeat(np.arange(have), want // have), "heads"), axis=rank - 3
    )


def _mask(d: Draft, mask: Any, causal: Optional[Tuple[int, int]]) -> Optional[str]:
    """What may be attended to, as booleans that broadcast to the scores."""
    parts = []
    if mask is not None:
        name = d.operand(mask, "mask")
        parts.append(name if mask.dtype.kind == "b" else d.node("Cast", name, to=BOOL))
    if causal is not None:
        parts.append(d.constant(np.tril(np.ones(causal, bool)), "causal"))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else d.node("And", *parts)


def flax_attention(call: LayerCall, d: Draft) -> None:
    """``MultiHeadDotProductAttention``, ``MultiHeadAttention`` and ``SelfAttention`` of linen and nnx."""
    plain(call, d)
    _refuse_flax(call, d)
    query, key, value = _flax_inputs(call, d)
    names = ("query", "key", "value", "out")
    refs = [query, key, value] + [required(call, d, f"{name}/kernel")[0] for name in names]
    biases = [optional(call, f"{name}/bias") for name in names]
    dtype = promoted(d, refs + biases, call.module.dtype)
    heads, size = [], refs[3].shape[2]
    for place, (role, ref) in enumerate(zip(names, (query, key, value))):
        kernel = refs[3 + place]
        layouts = ("EHD", "E(HD)"), ("HD", "(HD)")
        projection = Projection(role, kernel, biases[place], *layouts)
        name = projection.apply(d, fed(d, ref, role, dtype), dtype)
        part = split(d, name, ref, kernel.shape[1], kernel.shape[2])
        heads.append(part._replace(name=_normalised(call, d, part.name, role, kernel.shape[2], dtype)))
    causal = (query.shape[-2], key.shape[-2]) if argument(call, "is_causal", default=False) else None
    mask = argument(call, "mask", 1 if call.kind.endswith("SelfAttention") else None)
    mixed = attended(d, heads, size, size, _mask(d, mask, causal), dtype)
    d.give_as(Projection("out", refs[6], biases[3], ("HDE", "(HD)E")).apply(d, mixed, dtype), dtype)


def _refuse_flax(call: LayerCall, d: Draft) -> None:
    if setting(call, "decode"):
        d.refuse("that decodes with a cache is not described")
    function = call.module.attention_fn
    known = getattr(function, "__name__", "") == "dot_product_attention"
    if not known or not str(getattr(function, "__module__", "")).startswith("flax."):
        d.refuse("with an attention_fn is not described")
    place = 2 if call.kind.endswith("SelfAttention") else None
    if call.module.dropout_rate > 0 and not setting(call, "deterministic", place):
        d.refuse("drops weights at random (training mode)")


def _flax_inputs(call: LayerCall, d: Draft) -> List[Ref]:
    """Query, key and value; a missing key is the query, a missing value the key."""
    query = argument(call, "inputs_q", 0)
    key = value = None
    if not call.kind.endswith("SelfAttention"):
        both = argument(call, "inputs_kv")
        key = argument(call, "inputs_k", 1) if both is None else both
        value = argument(call, "inputs_v", 2) if both is None else both
    key = query if key is None else key
    value = key if value is None else value
    for ref in (query, key, value):
        if not isinstance(ref, Ref) or ref.ndim < 2:
            d.refuse("with such inputs is not described")
    return [query, key, value]


def _normalised(call: LayerCall, d: Draft, name: str, role: str, size: int, dtype: np.dtype) -> str:
    """``normalize_qk``: a LayerNorm without bias over each head of query and key."""
    if role == "value" or not call.module.normalize_qk:
        return name
    scale = fed(d, required(call, d, f"{role}_ln/scale")[0], f"{role}_ln_scale", dtype)
    none = number(d, np.zeros(size), f"{role}_ln_bias", dtype)
    epsilon = float(getattr(getattr(call.module, f"{role}_ln", None), "epsilon", 1e-6))
    return d.node("LayerNormalization", name, scale, none, axis=-1, epsilon=epsilon, stash_type=1)


def equinox_attention(call: LayerCall, d: Draft) -> None:
    """``equinox.nn.MultiheadAttention``: one sample, kernels as torch stores them."""
    module = call.module
    query, key, value = (argument(call, name, place) for place, name in enumerate(("query", "key_", "value")))
    if not all(isinstance(ref, Ref) and ref.ndim == 2 + call.batched for ref in (query, key, value)):
        d.refuse("with such inputs is not described")
    if argument(call, "process_heads") is not None:
        d.refuse("with process_heads is not described")
    given = argument(call, "deterministic")
    given = argument(call, "inference") if given is None else given
    off = module.dropout.inference if given is None else given
    if module.dropout.p != 0 and off is not True:
        d.refuse("drops weights at random (training mode)")
    names = ("query_proj", "key_proj", "value_proj", "output_proj")
    kernels = [required(call, d, f"{name}/weight")[0] for name in names]
    biases = [optional(call, f"{name}/bias") for name in names]
    dtype = promoted(d, [query, key, value] + kernels + biases)
    sizes, heads = (module.qk_size, module.qk_size, module.vo_size), []
    for place, ref in enumerate((query, key, value)):
        role = names[place][:-5]
        projection = Projection(role, kernels[place], biases[place], ("OI", "IO"))
        name = projection.apply(d, fed(d, ref, role, dtype), dtype)
        heads.append(split(d, name, ref, module.num_heads, sizes[place]))
    mask = _equinox_mask(call, d, query.ndim - 2)
    mixed = attended(d, heads, module.qk_size, module.vo_size, mask, dtype)
    d.give_as(Projection("output", kernels[3], biases[3], ("OI", "IO")).apply(d, mixed, dtype), dtype)


def _equinox_mask(call: LayerCall, d: Draft, lead: int) -> Optional[str]:
    """A mask (T, S) or (heads, T, S), with a batch axis in front when it is mapped.

    Raises:
        Undescribed: three axes inside ``vmap`` of which the first may be the batch or the heads.
    """
    mask = argument(call, "mask", 3)
    if mask is None or not lead or mask.ndim != 3:
        return _mask(d, mask, None)
    first, batch, heads = mask.shape[0], call.x.shape[0], int(call.module.num_heads)
    if batch == heads or first not in (batch, heads):
        d.refuse(f"with a mask of shape {mask.shape} inside vmap is not described")
    name = _mask(d, mask, None) or ""
    return name if first == heads else d.node("Unsqueeze", name, d.integers([1], "heads_axis"))

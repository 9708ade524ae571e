"""Attention: the scaled dot product, and torch's multi-head layer around it."""

from __future__ import annotations

import math
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch

from porting_check_torch.arrays import to_array
from porting_check_torch.describe.draft import Draft, Ref, host_dtype
from porting_check_torch.describe.table import describes


def _causal(d: Draft, rows: int, columns: int, dtype: torch.dtype) -> str:
    """Zero on and below the diagonal that starts top left, minus infinity above (torch's ``is_causal``)."""
    above = np.triu(np.ones((rows, columns), bool), 1)
    return d.constant(np.where(above, -np.inf, 0.0).astype(host_dtype(dtype)), "causal")


def _masked(d: Draft, scores: str, mask: Ref, ignored: bool, dtype: torch.dtype) -> str:
    """Scores with a mask: numbers are added, booleans choose (``ignored`` says what True means)."""
    if mask.dtype != torch.bool:
        return d.node("Add", scores, d.operand(mask, "attn_mask", dtype))
    name, low = d.operand(mask, "attn_mask"), d.scalar(-np.inf, "ignored", dtype)
    return d.node("Where", name, low, scores) if ignored else d.node("Where", name, scores, low)


@describes("scaled_dot_product_attention")
def scaled_dot_product_attention(
    d: Draft,
    query: Ref,
    key: Ref,
    value: Ref,
    attn_mask: Optional[Ref] = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: Optional[float] = None,
    enable_gqa: bool = False,
) -> None:
    """``softmax(q k^T * scale + mask) v`` over the last two axes; True in a mask means "attend"."""
    if dropout_p > 0:
        d.refuse("drops weights at random (dropout_p)")
    dtype = query.dtype
    q, k, v = d.port(query, "query"), d.port(key, "key"), d.port(value, "value")
    if enable_gqa:
        k, v = _shared_heads(d, k, key, query), _shared_heads(d, v, value, query)
    perm = tuple(range(key.ndim - 2)) + (key.ndim - 1, key.ndim - 2)
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    scores = d.node("MatMul", q, d.node("Transpose", k, perm=perm))
    scores = d.node("Mul", scores, d.scalar(factor, "scale", dtype))
    if is_causal:
        scores = d.node("Add", scores, _causal(d, query.shape[-2], key.shape[-2], dtype))
    if attn_mask is not None:
        scores = _masked(d, scores, attn_mask, False, dtype)
    attention = d.node("Softmax", scores, axis=-1)
    if attn_mask is not None and _blind(attn_mask, False):
        attention = _safe(d, attention, scores, dtype)
    d.give(d.node("MatMul", attention, v))


def _blind(mask: Ref, ignored: bool) -> bool:
    """Whether some query may attend to nothing."""
    values = to_array(mask.tensor)
    shut = values == ignored if mask.dtype == torch.bool else values.astype(np.float64) == -np.inf
    return bool(shut.all(axis=-1).any()) if shut.ndim else bool(shut)


def _safe(d: Draft, attention: str, scores: str, dtype: torch.dtype) -> str:
    """Zero, not NaN, for a query that attends to nothing (torch's fused attention since 2.5)."""
    best = d.node("ReduceMax", scores, d.integers([-1]), keepdims=1)
    none = d.node("IsInf", best, detect_negative=1, detect_positive=0)
    return d.node("Where", none, d.scalar(0, "nothing", dtype), attention)


def _shared_heads(d: Draft, name: str, ref: Ref, query: Ref) -> str:
    """Key or value heads that several query heads share, repeated one by one."""
    times = query.shape[-3] // ref.shape[-3]
    indices = d.integers(np.repeat(np.arange(ref.shape[-3]), times), "heads")
    return d.node("Gather", name, indices, axis=ref.ndim - 3)


class Heads:
    """The nodes of multi-head attention; inputs come as (L, N, E), or (N, L, E) when ``batch_first``."""

    def __init__(self, d: Draft, embed: int, heads: int, batch_first: bool, dtype: torch.dtype) -> None:
        self.d, self.embed, self.heads, self.batch_first, self.dtype = d, embed, heads, batch_first, dtype

    def split(self, name: str, ref: Ref) -> str:
        """A projection as (N, heads, L, head size)."""
        d, size = self.d, self.embed // self.heads
        if ref.ndim == 2:
            shaped = d.reshape(name, (ref.shape[0], self.heads, size))
            return d.node(
                "Unsqueeze", d.node("Transpose", shaped, perm=(1, 0, 2)), d.integers([0], "batch_axis")
            )
        shaped = d.reshape(name, ref.shape[:2] + (self.heads, size))
        return d.node("Transpose", shaped, perm=(0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3))

    def join(self, name: str, query: Ref) -> str:
        """The heads side by side again, in the order of the query."""
        d = self.d
        if query.ndim == 2:
            flat = d.node("Squeeze", name, d.integers([0], "batch_axis"))
            return d.reshape(d.node("Transpose", flat, perm=(1, 0, 2)), (query.shape[0], self.embed))
        moved = d.node("Transpose", name, perm=(0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        return d.reshape(moved, query.shape[:2] + (self.embed,))

    def lengths(self, ref: Ref) -> Tuple[int, int]:
        """Batch size and length."""
        if ref.ndim == 2:
            return 1, ref.shape[0]
        return (ref.shape[0], ref.shape[1]) if self.batch_first else (ref.shape[1], ref.shape[0])


def _projections(
    d: Draft, packed: Optional[Ref], apart: Sequence[Optional[Ref]], bias: Optional[Ref]
) -> List[Tuple[str, str]]:
    """Kernel (input, output) and bias of query, key and value."""
    if packed is not None:
        width = packed.shape[0] // 3
        kernel = d.port(packed, "in_proj_weight")
        rows = d.nodes(3, "Split", kernel, d.integers([width] * 3, "thirds"), axis=0)
        kernels = [d.node("Transpose", row, perm=(1, 0)) for row in rows]
    else:
        roles = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        kernels = [d.port(ref, role, "OI", "IO") for ref, role in zip(apart, roles) if ref is not None]
    if bias is None:
        return [(kernel, "") for kernel in kernels]
    parts = d.nodes(
        3, "Split", d.port(bias, "in_proj_bias"), d.integers([bias.shape[0] // 3] * 3, "thirds"), axis=0
    )
    return list(zip(kernels, parts))


def _padding_mask(d: Draft, mask: Ref, scores: str, batched: bool, dtype: torch.dtype) -> str:
    """Keys to ignore: (N, S) against scores (N, heads, L, S)."""
    shape = (mask.shape[0], 1, 1, mask.shape[1]) if batched else (1, 1, 1, mask.shape[0])
    if mask.dtype == torch.bool:
        name = d.reshape(d.operand(mask, "key_padding_mask"), shape)
        return d.node("Where", name, d.scalar(-np.inf, "ignored", dtype), scores)
    return d.node("Add", scores, d.reshape(d.operand(mask, "key_padding_mask", dtype), shape))


def _attention_mask(h: Heads, mask: Ref, scores: str, batch: int) -> str:
    """A mask (L, S), or (N * heads, L, S); True means "ignore"."""
    d = h.d
    if mask.ndim == 2:
        return _masked(d, scores, mask, True, h.dtype)
    shape = (batch, h.heads) + mask.shape[1:]
    name = d.reshape(d.operand(mask, "attn_mask"), shape)
    if mask.dtype == torch.bool:
        return d.node("Where", name, d.scalar(-np.inf, "ignored", h.dtype), scores)
    return d.node("Add", scores, d.cast(name, mask.dtype, h.dtype))


def multi_head(
    d: Draft,
    inputs: Sequence[Ref],
    heads: int,
    weights: Tuple[Optional[Ref], Sequence[Optional[Ref]], Optional[Ref]],
    out_proj: Tuple[Ref, Optional[Ref]],
    masks: Tuple[Optional[Ref], Optional[Ref], bool],
    *,
    batch_first: bool,
    average: bool,
) -> None:
    """Projections, scaled dot product per head, and the output projection.

    Args:
        d: the draft.
        inputs: query, key, value.
        heads: their number.
        weights: packed kernel or the three kernels apart, and the packed bias.
        out_proj: kernel and bias.
        masks: attention mask, key padding mask, and whether the attention is causal without a mask.
        batch_first: whether the inputs are (N, L, E) rather than (L, N, E).
        average: the second output is the mean over heads.
    """
    query, key = inputs[0], inputs[1]
    h = Heads(d, out_proj[0].shape[1], heads, batch_first, query.dtype)
    projected = []
    for (kernel, bias), ref, role in zip(_projections(d, *weights), inputs, ("query", "key", "value")):
        product = d.node("MatMul", d.port(ref, role), kernel)
        projected.append(h.split(d.node("Add", product, bias) if bias else product, ref))
    scaled = d.node("Mul", projected[0], d.scalar(math.sqrt(1.0 / (h.embed // heads)), "scale", h.dtype))
    scores = d.node("MatMul", scaled, d.node("Transpose", projected[1], perm=(0, 1, 3, 2)))
    batch, rows = h.lengths(query)
    if masks[2]:
        scores = d.node("Add", scores, _causal(d, rows, h.lengths(key)[1], h.dtype))
    if masks[0] is not None:
        scores = _attention_mask(h, masks[0], scores, batch)
    if masks[1] is not None:
        scores = _padding_mask(d, masks[1], scores, query.ndim == 3, h.dtype)
    attention = d.node("Softmax", scores, axis=-1)
    mixed = h.join(d.node("MatMul", attention, projected[2]), query)
    result = d.node("MatMul", mixed, d.port(out_proj[0], "out_proj_weight", "OI", "IO"))
    d.give(result if out_proj[1] is None else d.node("Add", result, d.port(out_proj[1], "out_proj_bias")))
    if len(d.outputs) > 1:
        d.give(_weights(h, attention, average, query.ndim == 3))


def _weights(h: Heads, attention: str, average: bool, batched: bool) -> str:
    """The attention weights as torch returns them: (N, [heads,] L, S)."""
    d = h.d
    name = d.node("ReduceMean", attention, d.integers([1]), keepdims=0) if average else attention
    return name if batched else d.node("Squeeze", name, d.integers([0], "batch_axis"))


@describes("multi_head_attention_forward", main=True)
def multi_head_attention_forward(
    d: Draft,
    query: Ref,
    key: Ref,
    value: Ref,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Optional[Ref],
    in_proj_bias: Optional[Ref],
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Ref,
    out_proj_bias: Optional[Ref],
    training: bool = True,
    key_padding_mask: Optional[Ref] = None,
    need_weights: bool = True,
    attn_mask: Optional[Ref] = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Optional[Ref] = None,
    k_proj_weight: Optional[Ref] = None,
    v_proj_weight: Optional[Ref] = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    batch_first: bool = False,
) -> None:
    """The function behind nn.MultiheadAttention, length first."""
    if (
        bias_k is not None
        or bias_v is not None
        or add_zero_attn
        or static_k is not None
        or static_v is not None
    ):
        d.refuse("with bias_k, bias_v, add_zero_attn or static keys is not described")
    if training and dropout_p > 0:
        d.refuse("drops weights at random (training mode)")
    apart = (q_proj_weight, k_proj_weight, v_proj_weight)
    packed = None if use_separate_proj_weight else in_proj_weight
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None  # torch then takes the hint and does not look at the mask
    causal = is_causal and attn_mask is None
    multi_head(
        d,
        (query, key, value),
        num_heads,
        (packed, apart, in_proj_bias),
        (out_proj_weight, out_proj_bias),
        (attn_mask, key_padding_mask, causal),
        batch_first=batch_first,
        average=average_attn_weights,
    )

"""Attention and rotary embeddings."""

from __future__ import annotations

import math
from typing import Dict, Optional, Tuple

import torch
from torch.nn import functional

from porting_check.neutral.dtypes import ONNX_DTYPES
from porting_check_torch.run_call import Call, Handler, Result, torch_dtype


def split_heads(x: torch.Tensor, heads: Optional[int]) -> torch.Tensor:
    """(batch, steps, heads * size) to (batch, heads, steps, size); four axes stay as they are."""
    if x.dim() == 4 or heads is None:
        return x
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def attention_bias(call: Call, q: torch.Tensor, steps: int) -> torch.Tensor:
    """What is added to the scores: the mask, causality, windows and padding; minus infinity forbids."""
    mask, past, valid = call.input(3), call.input(4), call.input(6)
    bias = torch.zeros(q.shape[2], steps, dtype=q.dtype)
    if mask is not None:
        mask = (
            torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
            if mask.dtype == torch.bool
            else mask
        )
        bias = bias + functional.pad(mask, (0, steps - mask.shape[-1]), value=-math.inf)
    offset = torch.tensor(0 if past is None else past.shape[2])
    if past is None and valid is not None:
        offset = (valid.to(torch.int64) - q.shape[2]).reshape(-1, 1, 1, 1)
    ahead = torch.arange(steps)[None, :] - torch.arange(q.shape[2])[:, None] - offset
    forbidden = torch.zeros_like(ahead, dtype=torch.bool)
    if call.get("is_causal", 0):
        forbidden = forbidden | (ahead > 0)
    if call.get("left_window_size", -1) >= 0:
        forbidden = forbidden | (-ahead > call.get("left_window_size"))
    if call.get("right_window_size", -1) >= 0:
        forbidden = forbidden | (ahead > call.get("right_window_size"))
    if valid is not None:
        forbidden = forbidden | (torch.arange(steps) >= valid.to(torch.int64).reshape(-1, 1, 1, 1))
    return (
        bias.masked_fill(forbidden, -math.inf)
        if bias.dim() >= forbidden.dim()
        else torch.where(forbidden, -math.inf, bias)
    )


def attention(call: Call) -> Result:
    """ONNX Attention (opset 24): grouped heads, cache, masks, softcap; also the scores when asked for."""
    q, k, v = call.x, call.need(1), call.need(2)
    flat = q.dim() == 3
    q = split_heads(q, call.get("q_num_heads"))
    k, v = split_heads(k, call.get("kv_num_heads")), split_heads(v, call.get("kv_num_heads"))
    if call.input(4) is not None:
        k, v = torch.cat([call.need(4), k], dim=2), torch.cat([call.need(5), v], dim=2)
    present = (k, v)
    if q.shape[1] != k.shape[1]:
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    bias = attention_bias(call, q, k.shape[2])
    scale = call.get("scale") or 1.0 / math.sqrt(q.shape[3])
    blind = torch.amax(bias, dim=-1, keepdim=True) == -math.inf
    plain = len(call.node.outputs) < 4 and not call.get("softcap", 0.0) and _same_precision(call, q)
    if plain:
        result = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=scale)
        result = torch.where(blind, torch.zeros_like(result), result)
        scores = q.new_zeros(0)
    else:
        result, scores = _explicit(call, q, k, v, bias, blind, scale)
    if flat:
        result = result.transpose(1, 2).flatten(2)
    return (result,) + present + (scores,)


def _same_precision(call: Call, q: torch.Tensor) -> bool:
    """Whether the softmax is asked for in the precision that torch uses anyway."""
    number = call.get("softmax_precision")
    return number is None or call.float64 or torch_dtype(ONNX_DTYPES[number]) == q.dtype


def _explicit(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    blind: torch.Tensor,
    scale: float,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Attention in single steps: what functional.scaled_dot_product_attention does not show or do."""
    root = torch.tensor(math.sqrt(scale), dtype=q.dtype)
    scores = torch.matmul(q * root, k.transpose(2, 3) * root)
    mode, cap = call.get("qk_matmul_output_mode", 0), call.get("softcap", 0.0)
    shown = scores
    if cap:
        scores = torch.tanh(scores / cap) * cap
    shown = scores if mode == 1 else shown
    scores = scores + bias
    shown = scores if mode == 2 else shown
    number = call.get("softmax_precision")
    if number is not None and not call.float64:
        scores = scores.to(torch_dtype(ONNX_DTYPES[number]))
    weights = functional.softmax(scores, dim=-1).masked_fill(blind, 0.0).to(q.dtype)
    return torch.matmul(weights, v), weights if mode == 3 else shown


def rotary_embedding(call: Call) -> Result:
    """ONNX RotaryEmbedding: halves, or neighbours when interleaved, turned by the cached angles."""
    x, cosine, sine, positions = call.x, call.need(1), call.need(2), call.input(3)
    flat = x.dim() == 3
    heads = split_heads(x, call.get("num_heads", 0) or None) if flat else x
    turned = call.get("rotary_embedding_dim", 0) or heads.shape[-1]
    if positions is not None:
        cosine, sine = cosine[positions.to(torch.int64)], sine[positions.to(torch.int64)]
    cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)
    part, rest = heads[..., :turned], heads[..., turned:]
    interleaved = bool(call.get("interleaved", 0))
    first, second = (part[..., 0::2], part[..., 1::2]) if interleaved else torch.chunk(part, 2, dim=-1)
    real, imaginary = cosine * first - sine * second, sine * first + cosine * second
    joined = (
        torch.stack([real, imaginary], dim=-1).flatten(-2)
        if interleaved
        else torch.cat([real, imaginary], dim=-1)
    )
    result = torch.cat([joined, rest], dim=-1)
    return result.transpose(1, 2).reshape(x.shape) if flat else result


def _per_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, steps, heads * size) to (batch, heads, steps, size)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def linear_attention(call: Call) -> Result:
    """ONNX LinearAttention (opset 27): a recurrent state per head, with decay and delta correction."""
    heads, groups = call.get("kv_num_heads"), call.get("q_num_heads") // call.get("kv_num_heads")
    wide = torch.promote_types(call.x.dtype, torch.float32)
    q = _per_head(call.x, call.get("q_num_heads")).to(wide)
    k, v = _per_head(call.need(1), heads).to(wide), _per_head(call.need(2), heads).to(wide)
    past, decay, beta = call.input(3), call.input(4), call.input(5)
    state = k.new_zeros(k.shape[0], heads, k.shape[3], v.shape[3]) if past is None else past.to(wide)
    growth = None if decay is None else torch.exp(_per_head(decay, heads).to(wide))
    rate = None if beta is None else beta.transpose(1, 2)[..., None].to(wide)
    scale = call.get("scale", 0.0) or 1.0 / math.sqrt(q.shape[3])
    outputs = []
    for step in range(q.shape[2]):
        if growth is not None:
            state = state * growth[:, :, step, :, None]
        value = v[:, :, step, None, :]
        if rate is not None:
            value = rate[:, :, step, :, None] * (value - torch.matmul(k[:, :, step, None, :], state))
        state = state + k[:, :, step, :, None] * value
        read = state.repeat_interleave(groups, dim=1)
        outputs.append(scale * torch.matmul(q[:, :, step, None, :], read)[:, :, 0])
    result = torch.stack(outputs, dim=1).flatten(2).to(call.x.dtype)
    return result, state.to(call.x.dtype if past is None else past.dtype)


OPERATORS: Dict[str, Handler] = {
    "Attention": attention,
    "LinearAttention": linear_attention,
    "RotaryEmbedding": rotary_embedding,
}

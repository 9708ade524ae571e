"""Attention and rotary embeddings."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple

import jax
import jax.numpy as jnp
from jax import lax

from porting_check.neutral.dtypes import ONNX_DTYPES
from porting_check_jax.run_call import HIGHEST, Call, Handler, Result, jax_dtype


def split_heads(x: jax.Array, heads: Optional[int]) -> jax.Array:
    """(batch, steps, heads * size) to (batch, heads, steps, size); four axes stay as they are."""
    if x.ndim == 4 or heads is None:
        return x
    return jnp.swapaxes(x.reshape(x.shape[0], x.shape[1], heads, -1), 1, 2)


def join_heads(x: jax.Array) -> jax.Array:
    """The inverse of :func:`split_heads`."""
    return jnp.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def attention_bias(call: Call, q: jax.Array, steps: int) -> jax.Array:
    """What is added to the scores: the mask, causality, windows and padding; minus infinity forbids."""
    mask, past, valid = call.input(3), call.input(4), call.input(6)
    queries = q.shape[2]
    bias = jnp.zeros((queries, steps), q.dtype)
    if mask is not None:
        mask = jnp.where(mask, 0.0, -math.inf) if mask.dtype == jnp.bool_ else mask
        missing = [(0, 0)] * (mask.ndim - 1) + [(0, steps - mask.shape[-1])]
        bias = bias + jnp.pad(mask.astype(q.dtype), missing, constant_values=-math.inf)
    ends = None if valid is None else valid.astype(jnp.int64).reshape(-1, 1, 1, 1)
    offset: Any = 0 if past is None else past.shape[2]
    if past is None and ends is not None:
        offset = ends - queries
    column = jnp.arange(steps)
    ahead = column - jnp.arange(queries)[:, None] - offset
    forbidden = jnp.zeros(ahead.shape, bool)
    if call.get("is_causal", 0):
        forbidden = forbidden | (ahead > 0)
    if call.get("left_window_size", -1) >= 0:
        forbidden = forbidden | (-ahead > call.get("left_window_size"))
    if call.get("right_window_size", -1) >= 0:
        forbidden = forbidden | (ahead > call.get("right_window_size"))
    if ends is not None:
        forbidden = forbidden | (column >= ends)
    return jnp.where(forbidden, -math.inf, bias)


def attention(call: Call) -> Result:
    """ONNX Attention (opset 24): grouped heads, cache, masks, softcap; also the scores when asked for."""
    q = split_heads(call.x, call.get("q_num_heads"))
    k, v = (split_heads(call.need(index), call.get("kv_num_heads")) for index in (1, 2))
    if call.input(4) is not None:
        k, v = jnp.concatenate([call.need(4), k], axis=2), jnp.concatenate([call.need(5), v], axis=2)
    present = (k, v)
    if q.shape[1] != k.shape[1]:
        groups = q.shape[1] // k.shape[1]
        k, v = jnp.repeat(k, groups, axis=1), jnp.repeat(v, groups, axis=1)
    result, scores = _scored(call, q, k, v, attention_bias(call, q, k.shape[2]))
    return (join_heads(result) if call.x.ndim == 3 else result,) + present + (scores,)


def _scored(
    call: Call, q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array
) -> Tuple[jax.Array, jax.Array]:
    """The weighted values, and the scores at the stage that ``qk_matmul_output_mode`` names."""
    root = math.sqrt(call.get("scale") or 1.0 / math.sqrt(q.shape[3]))
    scores = jnp.matmul(q * root, jnp.swapaxes(k, 2, 3) * root, precision=HIGHEST)
    mode, cap = call.get("qk_matmul_output_mode", 0), call.get("softcap", 0.0)
    shown = scores
    if cap:
        scores = jnp.tanh(scores / cap) * cap
    shown = scores if mode == 1 else shown
    scores = scores + bias
    shown = scores if mode == 2 else shown
    number = call.get("softmax_precision")
    if number is not None and not call.float64:
        scores = scores.astype(jax_dtype(ONNX_DTYPES[number]))
    blind = jnp.max(bias, axis=-1, keepdims=True) == -math.inf
    weights = jnp.where(blind, 0.0, jax.nn.softmax(scores, axis=-1)).astype(q.dtype)
    return jnp.matmul(weights, v, precision=HIGHEST), weights if mode == 3 else shown


def rotary_embedding(call: Call) -> Result:
    """ONNX RotaryEmbedding: halves, or neighbours when interleaved, turned by the cached angles."""
    x, cosine, sine, positions = call.x, call.need(1), call.need(2), call.value(3)
    flat = x.ndim == 3
    heads = split_heads(x, call.get("num_heads", 0) or None) if flat else x
    turned = call.get("rotary_embedding_dim", 0) or heads.shape[-1]
    if positions is not None:
        length = cosine.shape[0]
        if positions.size and not -length <= positions.min() <= positions.max() < length:
            # JAX would read the last angles, or none, without a word
            raise IndexError(f"positions {positions.min()} to {positions.max()} of {length} cached angles")
        cosine, sine = cosine[positions], sine[positions]
    cosine, sine = cosine[:, None], sine[:, None]
    part, rest = heads[..., :turned], heads[..., turned:]
    interleaved = bool(call.get("interleaved", 0))
    first, second = (part[..., 0::2], part[..., 1::2]) if interleaved else jnp.split(part, 2, axis=-1)
    real, imaginary = cosine * first - sine * second, sine * first + cosine * second
    joined = (
        jnp.stack([real, imaginary], axis=-1).reshape(part.shape)
        if interleaved
        else jnp.concatenate([real, imaginary], axis=-1)
    )
    result = jnp.concatenate([joined, rest], axis=-1)
    return join_heads(result).reshape(x.shape) if flat else result


def linear_attention(call: Call) -> Result:
    """ONNX LinearAttention (opset 27): a recurrent state per head, with decay and delta correction."""
    heads, groups = call.get("kv_num_heads"), call.get("q_num_heads") // call.get("kv_num_heads")
    wide = jnp.promote_types(call.x.dtype, jnp.float32)
    q = split_heads(call.x, call.get("q_num_heads")).astype(wide)
    k, v = (split_heads(call.need(index), heads).astype(wide) for index in (1, 2))
    past, decay, beta = call.input(3), call.input(4), call.input(5)
    empty = jnp.zeros((k.shape[0], heads, k.shape[3], v.shape[3]), wide)
    start = empty if past is None else past.astype(wide)
    growth = None if decay is None else jnp.exp(split_heads(decay, heads).astype(wide))
    rate = None if beta is None else jnp.swapaxes(beta, 1, 2)[..., None].astype(wide)
    scale = call.get("scale", 0.0) or 1.0 / math.sqrt(q.shape[3])

    def step(state: jax.Array, at: Tuple[Any, ...]) -> Tuple[jax.Array, jax.Array]:
        query, key, value, grown, learned = at
        state = state if grown is None else state * grown[..., None]
        value = value[:, :, None]
        if learned is not None:
            value = learned[..., None] * (value - jnp.matmul(key[:, :, None], state, precision=HIGHEST))
        state = state + key[..., None] * value
        read = jnp.repeat(state, groups, axis=1)
        return state, scale * jnp.matmul(query[:, :, None], read, precision=HIGHEST)[:, :, 0]

    steps = tuple(None if one is None else jnp.moveaxis(one, 2, 0) for one in (q, k, v, growth, rate))
    state, outputs = lax.scan(step, start, steps)
    result = jnp.moveaxis(outputs, 0, 1).reshape(q.shape[0], q.shape[2], -1).astype(call.x.dtype)
    return result, state.astype(call.x.dtype if past is None else past.dtype)


OPERATORS: Dict[str, Handler] = {
    "Attention": attention,
    "LinearAttention": linear_attention,
    "RotaryEmbedding": rotary_embedding,
}

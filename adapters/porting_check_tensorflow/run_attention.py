"""Attention and rotary embeddings, composed of matrix products and softmax as Keras does."""

from __future__ import annotations

import math
from typing import Dict, Optional, Tuple

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check.neutral.dtypes import ONNX_DTYPES
from porting_check_tensorflow.run_call import (
    REDUCED,
    Call,
    Handler,
    Result,
    like,
    rank,
    sizes,
    tf_dtype,
)


def split_heads(x: tf.Tensor, heads: Optional[int]) -> tf.Tensor:
    """(batch, steps, heads * size) to (batch, heads, steps, size); four axes stay as they are."""
    if rank(x) == 4 or heads is None:
        return x
    batch, steps, width = sizes(x)
    return tf.transpose(tf.reshape(x, [batch, steps, heads, width // heads]), [0, 2, 1, 3])


def join_heads(x: tf.Tensor) -> tf.Tensor:
    """The inverse of :func:`split_heads`."""
    batch, heads, steps, size = sizes(x)
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, steps, heads * size])


def attention_bias(call: Call, q: tf.Tensor, steps: int) -> tf.Tensor:
    """What is added to the scores: the mask, causality, windows and padding; minus infinity forbids."""
    mask, past, valid = call.input(3), call.input(4), call.input(6)
    queries, never = sizes(q)[2], like(float("-inf"), q)
    bias = tf.zeros([queries, steps], dtype=q.dtype)
    if mask is not None:
        mask = tf.where(mask, like(0.0, q), never) if mask.dtype == tf.bool else mask
        bias = bias + tf.pad(
            mask, [(0, 0)] * (rank(mask) - 1) + [(0, steps - sizes(mask)[-1])], constant_values=never
        )
    offset = tf.constant(0 if past is None else sizes(past)[2], dtype=tf.int64)
    if past is None and valid is not None:
        offset = tf.reshape(tf.cast(valid, tf.int64) - queries, [-1, 1, 1, 1])
    column = tf.range(steps, dtype=tf.int64)
    ahead = column[None, :] - tf.range(queries, dtype=tf.int64)[:, None] - offset
    forbidden = tf.zeros_like(ahead, dtype=tf.bool)
    if call.get("is_causal", 0):
        forbidden = forbidden | (ahead > 0)
    if call.get("left_window_size", -1) >= 0:
        forbidden = forbidden | (-ahead > call.get("left_window_size"))
    if call.get("right_window_size", -1) >= 0:
        forbidden = forbidden | (ahead > call.get("right_window_size"))
    if valid is not None:
        forbidden = forbidden | (column >= tf.reshape(tf.cast(valid, tf.int64), [-1, 1, 1, 1]))
    return tf.where(forbidden, never, bias)


def attention(call: Call) -> Result:
    """ONNX Attention (opset 24): grouped heads, cache, masks, softcap; also the scores when asked for."""
    q = split_heads(call.x, call.get("q_num_heads"))
    k, v = (split_heads(call.need(index), call.get("kv_num_heads")) for index in (1, 2))
    if call.input(4) is not None:
        k, v = tf.concat([call.need(4), k], axis=2), tf.concat([call.need(5), v], axis=2)
    present = (k, v)
    if sizes(q)[1] != sizes(k)[1]:
        groups = sizes(q)[1] // sizes(k)[1]
        k, v = tf.repeat(k, groups, axis=1), tf.repeat(v, groups, axis=1)
    bias = attention_bias(call, q, sizes(k)[2])
    result, scores = _scored(call, q, k, v, bias)
    return (join_heads(result) if rank(call.x) == 3 else result, *present, scores)


def _scored(
    call: Call, q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, bias: tf.Tensor
) -> Tuple[tf.Tensor, tf.Tensor]:
    """The weighted values, and the scores at the stage that ``qk_matmul_output_mode`` names."""
    scale = call.get("scale") or 1.0 / math.sqrt(sizes(q)[3])
    root = like(math.sqrt(scale), q)
    scores = tf.matmul(q * root, k * root, transpose_b=True)
    mode, cap = call.get("qk_matmul_output_mode", 0), call.get("softcap", 0.0)
    shown = scores
    if cap:
        scores = tf.tanh(scores / like(cap, scores)) * like(cap, scores)
    shown = scores if mode == 1 else shown
    scores = scores + bias
    shown = scores if mode == 2 else shown
    number = call.get("softmax_precision")
    if number is not None and not call.float64:
        scores = tf.cast(scores, tf_dtype(ONNX_DTYPES[number]))
    blind = tf.reduce_max(bias, axis=-1, keepdims=True) == like(float("-inf"), bias)
    weights = tf.nn.softmax(scores)
    weights = tf.cast(tf.where(blind, tf.zeros_like(weights), weights), q.dtype)
    return tf.matmul(weights, v), weights if mode == 3 else shown


def linear_attention(call: Call) -> Result:
    """ONNX LinearAttention (opset 27): a recurrent state per head, with decay and delta correction."""
    heads, groups = call.get("kv_num_heads"), call.get("q_num_heads") // call.get("kv_num_heads")
    wide = tf.float32 if call.x.dtype in REDUCED else call.x.dtype
    q = tf.cast(split_heads(call.x, call.get("q_num_heads")), wide)
    k, v = (tf.cast(split_heads(call.need(index), heads), wide) for index in (1, 2))
    past, decay, beta = call.input(3), call.input(4), call.input(5)
    state = (
        tf.zeros([sizes(k)[0], heads, sizes(k)[3], sizes(v)[3]], wide)
        if past is None
        else tf.cast(past, wide)
    )
    growth = None if decay is None else tf.exp(tf.cast(split_heads(decay, heads), wide))
    rate = None if beta is None else tf.cast(tf.transpose(beta, [0, 2, 1])[..., None], wide)
    scale = like(call.get("scale", 0.0) or 1.0 / math.sqrt(sizes(q)[3]), q)
    outputs = []
    for step in range(sizes(q)[2]):
        if growth is not None:
            state = state * growth[:, :, step, :, None]
        value = v[:, :, step, None, :]
        if rate is not None:
            value = rate[:, :, step, :, None] * (value - tf.matmul(k[:, :, step, None, :], state))
        state = state + k[:, :, step, :, None] * value
        outputs.append(scale * tf.matmul(q[:, :, step, None, :], tf.repeat(state, groups, axis=1))[:, :, 0])
    result = join_heads(tf.stack(outputs, axis=2))
    return tf.cast(result, call.x.dtype), tf.cast(state, call.x.dtype if past is None else past.dtype)


def rotary_embedding(call: Call) -> Result:
    """ONNX RotaryEmbedding: halves, or neighbours when interleaved, turned by the cached angles."""
    x, cosine, sine, positions = call.x, call.need(1), call.need(2), call.input(3)
    heads = split_heads(x, call.get("num_heads", 0) or None)
    turned = call.get("rotary_embedding_dim", 0) or sizes(heads)[-1]
    if positions is not None:
        cosine, sine = tf.gather(cosine, positions), tf.gather(sine, positions)
    cosine, sine = cosine[:, None], sine[:, None]
    part, rest = heads[..., :turned], heads[..., turned:]
    interleaved = bool(call.get("interleaved", 0))
    first, second = (part[..., 0::2], part[..., 1::2]) if interleaved else tf.split(part, 2, axis=-1)
    real, imaginary = cosine * first - sine * second, sine * first + cosine * second
    if interleaved:
        joined = tf.reshape(tf.stack([real, imaginary], axis=-1), sizes(part))
    else:
        joined = tf.concat([real, imaginary], axis=-1)
    result = tf.concat([joined, rest], axis=-1)
    return join_heads(result) if rank(x) == 3 else result


OPERATORS: Dict[str, Handler] = {
    "Attention": attention,
    "LinearAttention": linear_attention,
    "RotaryEmbedding": rotary_embedding,
}

"""Scaled dot-product attention and rotary position embedding."""

from __future__ import annotations

import numpy as np

from porting_check.numerics.operators.registry import (
    Array,
    Attributes,
    Inputs,
    Outputs,
    operator,
    optional,
    required,
)


@operator("Attention")
def attention(attributes: Attributes, inputs: Inputs) -> Outputs:
    """``softmax(softcap(scale * Q K') + bias) V``; returns Y, present key and value, and scores.

    Inputs Q, K, V of ``(N, heads, L, D)`` or ``(N, L, heads * D)``, mask, past key, past value,
    ``nonpad_kv_seqlen``. Causal masking is aligned to the end of the cache: query i sees key j when ``j <= i
    + offset``. A query that sees no key gives zeros. ``softmax_precision`` is how a kernel computes, and does
    not change the truth.

    Source: ONNX Attention-24 with its erratum of onnx 1.23, and the windows of Attention-25.
    """
    q, k, v = (required(inputs, index, name) for index, name in enumerate("QKV"))
    flat = q.ndim == 3
    if flat:
        heads, groups = int(attributes["q_num_heads"]), int(attributes["kv_num_heads"])
        q, k, v = _heads(q, heads), _heads(k, groups), _heads(v, groups)
    past_key, past_value = optional(inputs, 4), optional(inputs, 5)
    if (past_key is None) != (past_value is None):
        raise ValueError("past_key and past_value must be given together")
    offset = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    bias = _bias(attributes, inputs, q, k, offset)
    y, scores = _attend(attributes, q, k, v, bias)
    if flat:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    return (y, k, v, scores)


def _heads(x: Array, heads: int) -> Array:
    """``(N, L, heads * D)`` as ``(N, heads, L, D)``."""
    if x.shape[2] % heads:
        raise ValueError(f"{x.shape[2]} values per position cannot be divided into {heads} heads")
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)


def _bias(attributes: Attributes, inputs: Inputs, q: Array, k: Array, offset: int) -> Array | None:
    """What is added to the scores ``(N, heads, Lq, Lk)``: minus infinity where a key must not be seen."""
    mask, lengths = optional(inputs, 3), optional(inputs, 6)
    total: Array | None = None
    if mask is not None:
        short = k.shape[2] - mask.shape[-1]
        filler = False if mask.dtype == bool else -np.inf
        if short > 0:
            mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, short)], constant_values=filler)
        total = _blocked(~mask, q) if mask.dtype == bool else mask
    keys, queries = np.arange(k.shape[2]), np.arange(q.shape[2])[:, None] + offset
    hidden: list[Array] = []
    if lengths is not None:
        lengths = lengths.reshape(-1, 1, 1, 1)
        queries = queries + (lengths - q.shape[2] if optional(inputs, 4) is None else 0)
        hidden.append(keys >= lengths)
    left, right = (int(attributes.get(name, -1)) for name in ("left_window_size", "right_window_size"))
    if attributes.get("is_causal", 0):
        hidden.append(keys > queries)
    if left >= 0:
        hidden.append(keys < queries - left)
    if right >= 0:
        hidden.append(keys > queries + right)
    for part in hidden:
        total = _blocked(part, q) if total is None else total + _blocked(part, q)
    return total


def _blocked(hidden: Array, like: Array) -> Array:
    """Minus infinity where ``hidden``, else zero."""
    return np.asarray(np.where(hidden, like.dtype.type(-np.inf), like.dtype.type(0)))


def _attend(attributes: Attributes, q: Array, k: Array, v: Array, bias: Array | None) -> tuple[Array, Array]:
    """The output and the stage of the scores that ``qk_matmul_output_mode`` asks for."""
    scale = attributes.get("scale")
    scale = 1 / np.sqrt(q.shape[3]) if scale is None else float(scale)
    if q.shape[1] != k.shape[1]:
        # Grouped heads: head h of the queries uses head h // repeats of the keys.
        if q.shape[1] % k.shape[1]:
            raise ValueError(f"{q.shape[1]} query heads cannot share {k.shape[1]} key heads evenly")
        repeats = q.shape[1] // k.shape[1]
        k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
    stages = [np.matmul(q * q.dtype.type(scale), k.swapaxes(2, 3))]
    softcap = float(attributes.get("softcap") or 0)
    stages.append(softcap * np.tanh(stages[0] / softcap) if softcap > 0 else stages[0])
    stages.append(stages[1] if bias is None else stages[1] + bias)
    stages.append(_softmax(stages[2], bias).astype(q.dtype))
    mode = int(attributes.get("qk_matmul_output_mode") or 0)
    return np.matmul(stages[3], v), stages[mode].astype(q.dtype)


def _softmax(scores: Array, bias: Array | None) -> Array:
    """Softmax over the keys; zeros for a query whose bias hides every key."""
    highest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(highest), 0, highest))
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    if bias is not None:
        weights = np.where(np.isneginf(bias).all(axis=-1, keepdims=True), 0, weights)
    return np.asarray(weights, scores.dtype)


@operator("RotaryEmbedding")
def rotary_embedding(attributes: Attributes, inputs: Inputs) -> Outputs:
    """Rotate pairs of features by position: the halves of a head, or even and odd (``interleaved``).

    X is ``(N, heads, L, D)`` or ``(N, L, heads * D)``; the caches are ``(positions, R / 2)`` with position
    ids, else ``(N, L, R / 2)``. Only the first ``rotary_embedding_dim`` features R rotate (0 means all).

    Source: ONNX RotaryEmbedding-23.
    """
    x, cosine, sine = (
        required(inputs, index, name) for index, name in enumerate(("X", "cos_cache", "sin_cache"))
    )
    places, shape = optional(inputs, 3), x.shape
    if x.ndim == 3:
        heads = int(attributes.get("num_heads", 0))
        if heads <= 0:
            raise ValueError(f"X has shape {shape}; with three axes the attribute num_heads must be given")
        x = x.reshape(shape[0], shape[1], heads, -1)
    else:
        x = x.swapaxes(1, 2)
    if places is not None:
        cosine, sine = cosine[places.astype(np.intp)], sine[places.astype(np.intp)]
    rotated = int(attributes.get("rotary_embedding_dim") or 0) or x.shape[-1]
    if cosine.shape[-1] * 2 != rotated:
        raise ValueError(f"the caches have {cosine.shape[-1]} values per position, expected {rotated // 2}")
    y = x.copy()
    even, odd = slice(0, rotated // 2), slice(rotated // 2, rotated)
    if attributes.get("interleaved", 0):
        even, odd = slice(0, rotated, 2), slice(1, rotated, 2)
    first, second = x[..., even], x[..., odd]
    cosine, sine = cosine[:, :, None], sine[:, :, None]
    y[..., even] = cosine * first - sine * second
    y[..., odd] = sine * first + cosine * second
    return (y.reshape(shape) if len(shape) == 3 else np.ascontiguousarray(y.swapaxes(1, 2)),)

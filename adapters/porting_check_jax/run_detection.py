"""Selection of boxes."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import jax
import jax.numpy as jnp
from jax import lax

from porting_check_jax.run_call import Call, Handler, Ragged, Result


def corners(boxes: jax.Array, centred: bool) -> jax.Array:
    """Boxes as (low, low, high, high): from opposite corners in any order, or from centre and extent."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return jnp.concatenate([first - second / 2, first + second / 2], axis=-1)
    return jnp.concatenate([jnp.minimum(first, second), jnp.maximum(first, second)], axis=-1)


def overlaps(box: jax.Array, others: jax.Array) -> jax.Array:
    """Intersection over union of one box with others; zero where either is empty."""
    low, high = jnp.maximum(box[:2], others[:, :2]), jnp.minimum(box[2:], others[:, 2:])
    shared = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    union = jnp.prod(box[2:] - box[:2]) + jnp.prod(others[:, 2:] - others[:, :2], axis=-1) - shared
    return jnp.where((shared > 0) & (union > 0), shared / union, jnp.zeros_like(shared))


def _select(
    boxes: jax.Array, scores: jax.Array, free: jax.Array, overlap: jax.Array, limit: int
) -> jax.Array:
    """Boxes of one class by descending score, each dropped when it overlaps one taken; -1 where none is left."""

    def step(index: int, state: Tuple[Any, Any]) -> Tuple[Any, Any]:
        free, taken = state
        best = order[jnp.argmax(free[order])]
        found = free[best]
        left = free & (overlaps(boxes[best], boxes) <= overlap) & (jnp.arange(free.size) != best)
        return jnp.where(found, left, free), taken.at[index].set(jnp.where(found, best, -1))

    order = jnp.argsort(scores, stable=True, descending=True)
    return lax.fori_loop(0, limit, step, (free, jnp.full((limit,), -1, dtype=jnp.int64)))[1]


def non_max_suppression(call: Call) -> Result:
    """ONNX NonMaxSuppression: (batch, class, box) of each box that stays."""
    boxes = corners(call.x, bool(call.get("center_point_box", 0)))
    scores, floors = call.need(1), call.numbers(4)
    limit = max(0, min(call.integer(2, 0), scores.shape[2]))
    free = scores > jnp.asarray(floors[0], scores.dtype) if floors else jnp.ones(scores.shape, dtype=bool)
    overlap = jnp.asarray(call.number(3, 0.0), scores.dtype)
    by_class = jax.vmap(
        lambda *args: _select(args[0], args[1], args[2], overlap, limit), in_axes=(None, 0, 0)
    )
    taken = jax.vmap(by_class)(boxes, scores, free)
    found = taken >= 0
    batch, label, place = jnp.nonzero(found, size=found.size, fill_value=0)
    rows = jnp.stack([batch, label, taken[batch, label, place]], axis=-1).astype(jnp.int64)
    return Ragged(rows, jnp.sum(found))


OPERATORS: Dict[str, Handler] = {"NonMaxSuppression": non_max_suppression}

"""Selection of boxes."""

from __future__ import annotations

from typing import Dict, List, Optional

import tensorflow.compat.v2 as tf  # in TensorFlow 1 too, where names mean otherwise

from porting_check_tensorflow.run_call import Call, Handler, Result, sizes


def corners(boxes: tf.Tensor, centred: bool) -> tf.Tensor:
    """Boxes as (low, low, high, high): from opposite corners in any order, or from centre and extent."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return tf.concat([first - second / 2, first + second / 2], axis=-1)
    return tf.concat([tf.minimum(first, second), tf.maximum(first, second)], axis=-1)


def overlaps(box: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Intersection over union of one box with others; zero where either is empty."""
    low, high = tf.maximum(box[:2], others[:, :2]), tf.minimum(box[2:], others[:, 2:])
    shared = tf.reduce_prod(tf.nn.relu(high - low), -1)
    union = tf.reduce_prod(box[2:] - box[:2]) + tf.reduce_prod(others[:, 2:] - others[:, :2], -1) - shared
    return tf.where((shared > 0) & (union > 0), shared / union, tf.zeros_like(shared))


def _select(
    boxes: tf.Tensor, scores: tf.Tensor, limit: int, overlap: float, lowest: Optional[float]
) -> List[int]:
    """Boxes of one class: TensorFlow's own selection, which has no float64; for that, the loop it runs."""
    if scores.dtype == tf.float32:
        floor = float("-inf") if lowest is None else lowest
        return list(tf.image.non_max_suppression(boxes, scores, limit, overlap, floor).numpy().tolist())
    order = tf.argsort(scores, direction="DESCENDING", stable=True)
    if lowest is not None:
        order = tf.boolean_mask(order, tf.gather(scores, order) > lowest)
    taken: List[int] = []
    while sizes(order)[0] and len(taken) < limit:
        taken.append(int(order[0]))
        rest = order[1:]
        shared = overlaps(boxes[taken[-1]], tf.gather(boxes, rest))
        order = tf.boolean_mask(rest, shared <= overlap)
    return taken


def non_max_suppression(call: Call) -> Result:
    """ONNX NonMaxSuppression: (batch, class, box) of each box that stays."""
    boxes = corners(call.x, bool(call.get("center_point_box", 0)))
    scores, limit, overlap = call.need(1), call.integer(2, 0), call.number(3, 0.0)
    floors = call.numbers(4)
    lowest = floors[0] if floors else None
    rows = [
        [batch, label, box]
        for batch in range(sizes(scores)[0])
        for label in range(sizes(scores)[1])
        for box in _select(boxes[batch], scores[batch, label], limit, overlap, lowest)
    ]
    return tf.reshape(tf.constant(rows, dtype=tf.int64), [-1, 3])


OPERATORS: Dict[str, Handler] = {"NonMaxSuppression": non_max_suppression}

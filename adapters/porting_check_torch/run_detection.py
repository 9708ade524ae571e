"""Selection of boxes."""

from __future__ import annotations

from typing import Dict, List, Optional

import torch

from porting_check_torch.run_call import Call, Handler, Result


def corners(boxes: torch.Tensor, centred: bool) -> torch.Tensor:
    """Boxes as (low, low, high, high): from opposite corners in any order, or from centre and extent."""
    if centred:
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat([centre - half, centre + half], dim=-1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)


def overlaps(box: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of one box with others; zero where either is empty."""
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(-1) - shared
    return torch.where((shared > 0) & (union > 0), shared / union, torch.zeros_like(shared))


def _select(
    boxes: torch.Tensor, scores: torch.Tensor, limit: int, overlap: float, lowest: Optional[float]
) -> List[int]:
    """Boxes of one class in order of score, each dropped when it overlaps one already taken."""
    order = torch.argsort(scores, descending=True, stable=True)
    if lowest is not None:
        order = order[scores[order] > lowest]
    taken: List[int] = []
    while order.numel() and len(taken) < limit:
        best = int(order[0])
        taken.append(best)
        order = order[1:]
        order = order[overlaps(boxes[best], boxes[order]) <= overlap]
    return taken


def non_max_suppression(call: Call) -> Result:
    """ONNX NonMaxSuppression: (batch, class, box) of each box that stays."""
    boxes = corners(call.x, bool(call.get("center_point_box", 0)))
    scores, limit, overlap = call.need(1), call.integer(2, 0), call.number(3, 0.0)
    given = call.input(4)
    lowest = None if given is None or given.numel() == 0 else call.number(4, 0.0)
    rows = [
        [batch, label, box]
        for batch in range(scores.shape[0])
        for label in range(scores.shape[1])
        for box in _select(boxes[batch], scores[batch, label], limit, overlap, lowest)
    ]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)


OPERATORS: Dict[str, Handler] = {"NonMaxSuppression": non_max_suppression}

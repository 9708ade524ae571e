"""Writes through views: a tensor was written to, and another one lies in the same memory.

The other tensor has a new value then. What it became is put into nodes where its geometry allows it: the
written tensor is a region of it, or the other way round, or both are the same elements in another shape.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch

from porting_check_torch.describe.draft import Draft, Ref
from porting_check_torch.describe.indexing import LIMIT, Plan, cut, place, place_flat


def overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors of one storage share an element; in doubt they do.

    Example:
        >>> x = torch.zeros(4, 2)
        >>> overlap(x[:, 0], x[:, 1]), overlap(x[0], x[:, 1])
        (False, True)
    """
    if not first.numel() or not second.numel():
        return False
    low, high = zip(*(_extent(tensor) for tensor in (first, second)))
    if max(low) > min(high):
        return False
    try:
        views = [_bytes(tensor) for tensor in (first, second)]
        shares: Any = np.shares_memory  # its type knows no bound of the effort
        return bool(shares(views[0], views[1], max_work=100000))
    except (RuntimeError, TypeError, ValueError):  # not on the CPU, or too hard (numpy's TooHardError)
        return True


def _extent(tensor: torch.Tensor) -> Tuple[int, int]:
    """First and last element in the storage, in bytes."""
    start = tensor.storage_offset()
    last = start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return start * tensor.element_size(), last * tensor.element_size()


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach().as_subclass(torch.Tensor)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(plain.element_size())
    return (plain if width is None or plain.dtype == width else plain.view(width)).numpy()


def describe_writes(d: Draft, old: Ref, writes: Sequence[Ref]) -> None:
    """Nodes that make a tensor's new value from its old one and from what was written since, in order.

    Raises:
        Undescribed: two tensors lie across each other in a way that no nodes are known for.
    """
    value = d.port(old)
    for written in writes:
        if old.dtype != written.dtype:
            d.refuse("into memory that another tensor reads as another dtype is not described")
        value = _written(d, value, old, written)
    d.give(value)


def _written(d: Draft, value: str, old: Ref, written: Ref) -> str:
    """The value after one write."""
    mine, theirs = old.tensor, written.tensor
    new = d.port(written, "written")
    if _same_elements(mine, theirs):
        return d.reshape(new, old.shape)
    plan = region(theirs, mine)
    if plan is not None:
        return d.reshape(cut(d, new, plan), old.shape)
    plan = region(mine, theirs)
    if plan is not None:
        return place(d, value, plan, d.reshape(new, plan.region))
    return place_flat(d, value, old.shape, _places(d, mine, theirs), new)


def _same_elements(first: torch.Tensor, second: torch.Tensor) -> bool:
    same = first.numel() == second.numel() and first.storage_offset() == second.storage_offset()
    return same and first.is_contiguous() and second.is_contiguous()


def region(whole: torch.Tensor, part: torch.Tensor) -> Optional[Plan]:
    """The slices and integers that cut ``part`` out of ``whole``, read off strides and offsets.

    Example:
        >>> x = torch.zeros(4, 6)
        >>> region(x, x[1:3, 2]).bounds
        [(1, 3, 1), (2, 3, 1)]
    """
    rest = part.storage_offset() - whole.storage_offset()
    if rest < 0 or not _nested(whole):
        return None
    starts: List[int] = [0] * whole.dim()
    for dim in sorted(range(whole.dim()), key=lambda dim: -whole.stride(dim)):
        if whole.stride(dim) and whole.shape[dim] > 1:
            starts[dim], rest = divmod(rest, whole.stride(dim))
    if rest or any(start >= size for start, size in zip(starts, whole.shape)):
        return None
    plan, taken = Plan(tuple(whole.shape)), 0
    for dim, start in enumerate(starts):
        step = _step(whole, dim, start, part, taken)
        if step:
            plan.bounds.append((start, start + (part.shape[taken] - 1) * step + 1, step))
            taken += 1
        else:
            plan.bounds.append((start, start + 1, 1))
            plan.dropped.append(dim)
    plan.bounds = [_plain(bound, size) for bound, size in zip(plan.bounds, plan.shape)]
    return plan if taken == part.dim() else None


def _plain(bound: Tuple[int, int, int], size: int) -> Tuple[int, int, int]:
    return (0, size, 1) if bound == (0, size, 1) else bound


def _nested(tensor: torch.Tensor) -> bool:
    """Whether the axes lie inside each other, so that an offset has one meaning."""
    reach = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape) if n > 1):
        if stride < reach:
            return False
        reach = stride * size
    return True


def _step(whole: torch.Tensor, dim: int, start: int, part: torch.Tensor, taken: int) -> int:
    """The step with which an axis of ``part`` runs along an axis of ``whole``; 0 when it does not."""
    if taken >= part.dim():
        return 0
    size, stride, unit = part.shape[taken], part.stride(taken), whole.stride(dim)
    if size == 1:
        return 1
    if not unit or stride % unit or stride < unit:
        return 0
    step = stride // unit
    return step if start + (size - 1) * step < whole.shape[dim] else 0


def _places(d: Draft, mine: torch.Tensor, theirs: torch.Tensor) -> np.ndarray:
    """Where the elements of ``theirs`` lie in the flattened ``mine``."""
    if theirs.numel() > LIMIT or mine.numel() > 16 * LIMIT:
        d.refuse(f"to {theirs.numel()} elements that are no region of the other tensor is not described")
    own, other = _positions(mine), _positions(theirs)
    order = np.argsort(own, kind="stable")
    found = np.minimum(np.searchsorted(own, other, sorter=order), own.size - 1)
    places = order[found]
    if not np.array_equal(own[places], other) or np.unique(own).size != own.size:
        d.refuse("that reaches beyond the other tensor is not described")
    return np.asarray(places)


def _positions(tensor: torch.Tensor) -> np.ndarray:
    """The place in the storage of each element."""
    positions = np.asarray(tensor.storage_offset())
    for size, stride in zip(tensor.shape, tensor.stride()):
        positions = positions[..., None] + np.arange(size) * stride
    return positions.reshape(-1)

"""Matrix products."""

from __future__ import annotations

import string
from typing import Any, List, Mapping, Sequence, Tuple

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.operators.table import describes, real


@describes("dot_general")
def dot_general(d: Draft, args: Sequence[Ref], params: Mapping[str, Any]) -> None:
    """``MatMul`` where the axes lie as it wants them (the second operand transposed if need be), else ``Einsum``."""
    real(d, *args)
    (left_over, right_over), (left_batch, right_batch) = [
        tuple(tuple(int(axis) for axis in axes) for axes in pair) for pair in params["dimension_numbers"]
    ]
    left, right = args
    names = [d.operand(ref, role, d.out.dtype) for ref, role in ((left, "x"), (right, "other"))]
    batch = len(left_batch)
    leading = left_batch == right_batch == tuple(range(batch))
    single = len(left_over) == 1 and left_over[0] == left.ndim - 1
    plain = right.ndim == batch + 2 and (left.ndim == batch + 2 or (not batch and left.ndim >= 1))
    plain = plain or (right.ndim == 1 and not batch)
    if leading and single and plain:
        if right.ndim > 1 and right_over[0] == right.ndim - 1:
            order = tuple(range(batch)) + (right.ndim - 1, right.ndim - 2)
            names[1] = d.node("Transpose", names[1], perm=order)
        d.give(d.node("MatMul", *names))
        return
    d.give(
        d.node("Einsum", *names, equation=equation(args, (left_over, right_over), (left_batch, right_batch)))
    )


Axes = Tuple[Tuple[int, ...], Tuple[int, ...]]


def equation(args: Sequence[Ref], over: Axes, batch: Axes) -> str:
    """The product as an equation: shared axes first, then those of the first operand, then of the second.

    Example:
        >>> import numpy as np
        >>> x, w = (Ref("", shape, np.dtype(np.float32)) for shape in ((2, 3), (4, 3)))
        >>> equation((x, w), ((1,), (1,)), ((), ()))
        'ab,cb->ac'
    """
    letters = iter(string.ascii_letters)
    left: List[str] = [next(letters) for _ in range(args[0].ndim)]
    right: List[str] = [""] * args[1].ndim
    for axes in (over, batch):
        for first, second in zip(*axes):
            right[second] = left[first]
    shared = [left[axis] for axis in batch[0]]
    right = [letter or next(letters) for letter in right]
    bound = set(shared) | {left[axis] for axis in over[0]}
    free = [letter for letter in left + right if letter not in bound]
    return "{},{}->{}".format("".join(left), "".join(right), "".join(shared + free))

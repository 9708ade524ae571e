"""The single products that a sum of products adds up, for a sample of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.operators.windows import padded, resolve, sliding

Array = np.ndarray

SAMPLE = 2048
"""How many outputs are looked at (fewer where sums are long: at most :data:`MOST` products are held)."""

MOST = 1 << 22


@dataclass(frozen=True, slots=True)
class Products:
    """``terms`` of shape ``(sample, *axes)``: the products of each sampled output, along the axes of its sum.

    ``index`` is where the outputs lie in the node's own output, one array per axis; the first ``drawn`` were drawn at random
    (all of them by default). ``channel`` is the axis whose outputs have their own weights.
    """

    terms: Array
    index: tuple[Array, ...]
    drawn: int | None = None
    channel: int = -1


def sampled(
    node: Node,
    inputs: Sequence[Array | None],
    shape: Sequence[int],
    seed: int = 0,
    also: Sequence[int] | Array = (),
) -> Products | None:
    """The products of a random sample of outputs; ``None`` for an operator whose sums are not known here.

    Args:
        node: a Conv, Gemm, MatMul, ReduceMean, ReduceSum or global average pool.
        inputs: its operands in float64, canonical layout.
        shape: of its output.
        seed: of the sample.
        also: flat places of outputs to look at besides.

    Example:
        >>> x, w = np.arange(6.0).reshape(2, 3), np.ones((3, 4))
        >>> found = sampled(Node("MatMul", ("x", "w")), [x, w], (2, 4))
        >>> bool(np.allclose(found.terms.sum(axis=1), (x @ w)[found.index]))
        True
    """
    first, second = inputs[0], inputs[1] if len(inputs) > 1 else None
    make = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "ReduceMean": _mean, "ReduceSum": _mean}
    make["GlobalAveragePool"] = _mean
    if first is None or node.op_type not in make or not int(np.prod(shape)):
        return None
    pick = _Pick(tuple(shape), np.random.default_rng(seed), np.asarray(also, np.intp))
    found = make[node.op_type](node, first, second, pick)
    drawn = None if found is None else len(found.terms) - len(pick.also)
    return found and replace(found, drawn=drawn, channel=1 if node.op_type == "Conv" else -1)


@dataclass(frozen=True)
class _Pick:
    """Which outputs to look at."""

    shape: tuple[int, ...]
    rng: np.random.Generator
    also: Array

    def __call__(self, length: int) -> tuple[Array, ...]:
        """Places of outputs that are sums of so many terms, one array per axis."""
        flat = _drawn(self.shape, length, self.rng)
        return np.unravel_index(np.concatenate([flat, self.also]), self.shape)


def _drawn(shape: tuple[int, ...], length: int, rng: np.random.Generator) -> Array:
    count = max(16, min(SAMPLE, MOST // max(length, 1)))
    total = int(np.prod(shape))
    flat = (
        rng.choice(total, min(count, total), replace=False)
        if total < 1 << 24
        else rng.integers(0, total, count)
    )
    return np.sort(flat)


def _conv(node: Node, x: Array, w: Array | None, pick: _Pick) -> Products | None:
    if w is None:
        return None
    windows = resolve(node.attributes, x.shape[2:], w.shape[2:])
    view = sliding(padded(x, windows.pads), windows)
    index = pick(w[0].size)
    group = int(node.attributes.get("group", 1))
    inner, per_group = w.shape[1], w.shape[0] // group
    channels = (index[1] // per_group)[:, None] * inner + np.arange(inner)
    rank = w.ndim - 2
    # Advanced indices around the kernel's axes: the sample comes first, then the channels, then the kernel.
    places = tuple(i[:, None] for i in index[2:])
    patches = view[(index[0][:, None], channels, *(slice(None),) * rank, *places)]
    return Products(patches * w[index[1]], index)


def _gemm(node: Node, x: Array, w: Array | None, pick: _Pick) -> Products | None:
    if w is None:
        return None
    left = x.T if node.attributes.get("transA") else x
    right = w if node.attributes.get("transB") else w.T
    index = pick(left.shape[-1])
    return Products(left[index[0]] * right[index[1]] * node.attributes.get("alpha", 1.0), index)


def _matmul(node: Node, x: Array, w: Array | None, pick: _Pick) -> Products | None:
    if w is None or x.ndim < 2 or w.ndim < 2:
        return None
    lead = pick.shape[:-2]
    index = pick(x.shape[-1])
    left = np.broadcast_to(x, (*lead, *x.shape[-2:]))[index[:-1]]
    right = np.swapaxes(np.broadcast_to(w, (*lead, *w.shape[-2:])), -1, -2)[(*index[:-2], index[-1])]
    return Products(left * right, index)


def _mean(node: Node, x: Array, axes: Array | None, pick: _Pick) -> Products | None:
    if node.op_type == "GlobalAveragePool":
        reduced: tuple[int, ...] = tuple(range(2, x.ndim))
    elif axes is None or not axes.size:
        reduced = tuple(range(x.ndim))
    else:
        reduced = tuple(int(axis) % x.ndim for axis in np.ravel(axes))
    kept = tuple(axis for axis in range(x.ndim) if axis not in reduced)
    rows = x.transpose(kept + reduced).reshape(-1, *(x.shape[axis] for axis in reduced))
    index = pick(rows[0].size)
    share = 1.0 if node.op_type == "ReduceSum" else 1.0 / rows[0].size
    return Products(rows[np.ravel_multi_index(index, pick.shape)] * share, index)

"""Gradients of sums of products: convolutions, matrix products, averages and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.adjoint import Call, NoAdjoint, Sum, adjoint, unbroadcast
from porting_check.numerics.operators.registry import Array, integers
from porting_check.numerics.operators.windows import Windows, explicit_pads, padded, resolve, tap
from porting_check.numerics.truth import evaluate_node


def _bias(call: Call, made: dict[int, Sum]) -> dict[int, Sum]:
    """The gradient of a bias per channel: the sum over batch and positions."""
    g = call.g
    if call.has(2):
        made[2] = Sum(g.sum(axis=(0, *range(2, g.ndim))), g.size / max(g.shape[1], 1))
    return made


@adjoint("Conv")
def conv(call: Call) -> dict[int, Sum]:
    """Input: the transposed convolution of the gradient; kernel: windows of the input times the gradient."""
    x, w, g = call.operand(0), call.operand(1), call.g
    attributes = call.node.attributes
    group, windows = int(attributes.get("group", 1)), resolve(attributes, x.shape[2:], w.shape[2:])
    terms = w.shape[0] / group * prod(windows.kernel)
    made = {
        0: Sum(_spread(g, w, windows, group, x.shape[2:]), terms),
        1: Sum(_kernel(padded(x, windows.pads), g, windows, group), g.size / max(g.shape[1], 1)),
    }
    return _bias(call, made)


def _spread(g: Array, w: Array, windows: Windows, group: int, sizes: Sequence[int]) -> Array:
    """The transposed convolution that undoes the geometry of ``windows`` exactly, to ``sizes``."""
    pads = [*(b for b, _ in windows.pads), *(e for _, e in windows.pads)]
    extra = [
        n + b + e - ((count - 1) * s + (k - 1) * d + 1)
        for n, (b, e), count, s, k, d in zip(
            sizes,
            windows.pads,
            windows.counts,
            windows.strides,
            windows.kernel,
            windows.dilations,
            strict=True,
        )
    ]
    attributes = {
        "group": group, "strides": windows.strides, "dilations": windows.dilations, "pads": pads, "output_padding": extra,
    }  # fmt: skip
    return evaluate_node(Node("ConvTranspose", ("g", "w"), ("x",), attributes), [g, w], dtype=None)[0]


def _kernel(x: Array, g: Array, windows: Windows, group: int) -> Array:
    """The kernel's gradient, one tap at a time: ``(O, C / group, *kernel)`` from a padded input ``(N, C, …)``."""
    batch, places = x.shape[0], prod(windows.counts)
    ours, theirs = x.shape[1] // group, g.shape[1] // group
    right = g.reshape(batch, group, theirs, places)
    made = np.zeros((group, theirs, ours, *windows.kernel), np.result_type(x, g))
    for offsets in product(*map(range, windows.kernel)):
        part = x[(slice(None), slice(None), *tap(offsets, windows))].reshape(batch, group, ours, places)
        at: tuple[Any, ...] = (slice(None), slice(None), slice(None), *offsets)
        for sample in range(batch):
            made[at] += np.matmul(right[sample], part[sample].swapaxes(-1, -2))
    return made.reshape((group * theirs, ours, *windows.kernel))


@adjoint("ConvTranspose")
def conv_transpose(call: Call) -> dict[int, Sum]:
    """Input: the convolution of the gradient; kernel: windows of the gradient times the input.

    Raises:
        NoAdjoint: pads that are not given but computed (``auto_pad``, ``output_shape``).
    """
    x, w, g = call.operand(0), call.operand(1), call.g
    attributes, rank = call.node.attributes, x.ndim - 2
    if attributes.get("output_shape") is not None or str(attributes.get("auto_pad") or "NOTSET") != "NOTSET":
        raise NoAdjoint("ConvTranspose whose pads are computed has no rule for its gradient")
    group, kernel = int(attributes.get("group", 1)), w.shape[2:]
    windows = Windows(
        tuple(kernel), integers(attributes.get("strides"), (1,) * rank), integers(attributes.get("dilations"), (1,) * rank),
        explicit_pads(attributes, rank), x.shape[2:],
    )  # fmt: skip
    full = padded(g, windows.pads)
    flat = {"group": group, "strides": windows.strides, "dilations": windows.dilations}
    back = evaluate_node(Node("Conv", ("g", "w"), ("x",), flat), [full, w], dtype=None)[0]
    kept = back[(slice(None), slice(None), *(slice(0, n) for n in x.shape[2:]))]
    places = x.size / max(x.shape[1], 1)
    made = {
        0: Sum(kept, w.shape[1] * prod(kernel)),
        1: Sum(_kernel(full, x, windows, group), places),
    }
    return _bias(call, made)


@adjoint("Gemm")
def gemm(call: Call) -> dict[int, Sum]:
    """Matrix products of the gradient with the other operand."""
    a, b, g, attributes = call.operand(0), call.operand(1), call.g, call.node.attributes
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    if call.absolute:
        alpha, beta = abs(alpha), abs(beta)
    turned = bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0))
    left, right = (a.T if turned[0] else a), (b.T if turned[1] else b)
    ours, theirs = alpha * (g @ right.T), alpha * (left.T @ g)
    made = {
        0: Sum(ours.T if turned[0] else ours, g.shape[1]),
        1: Sum(theirs.T if turned[1] else theirs, g.shape[0]),
    }
    if call.has(2):
        made[2] = unbroadcast(beta * g, call.given(2).shape)
    return made


@adjoint("MatMul")
def matmul(call: Call) -> dict[int, Sum]:
    """``g B^T`` and ``A^T g``, summed over what was broadcast; vectors are rows or columns."""
    a, b, g = call.operand(0), call.operand(1), call.g
    shapes = a.shape, b.shape
    a, b = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    g = g.reshape(*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    ours = unbroadcast(g @ b.swapaxes(-1, -2), a.shape, g.shape[-1])
    theirs = unbroadcast(a.swapaxes(-1, -2) @ g, b.shape, g.shape[-2])
    return {
        0: Sum(ours.gradient.reshape(shapes[0]), ours.terms),
        1: Sum(theirs.gradient.reshape(shapes[1]), theirs.terms),
    }


@adjoint("Einsum")
def einsum(call: Call) -> dict[int, Sum]:
    """For each operand the sum over what it lacks of the gradient and the other operands.

    Raises:
        NoAdjoint: an ellipsis, or an axis that stands twice in one operand.
    """
    equation = str(call.node.attributes["equation"]).replace(" ", "")
    left, _, result = equation.partition("->")
    parts = left.split(",")
    if "." in equation or "->" not in equation or any(len(set(p)) != len(p) for p in [*parts, result]):
        raise NoAdjoint(f"Einsum {equation} has no rule for its gradient")
    sizes = {
        c: n
        for p, i in zip(parts, range(len(parts)), strict=True)
        for c, n in zip(p, call.given(i).shape, strict=True)
    }
    made = {}
    for position, part in enumerate(parts):
        terms = [result, *(p for i, p in enumerate(parts) if i != position)]
        arrays = [call.g, *(call.operand(i) for i in range(len(parts)) if i != position)]
        lacking = "".join(c for c in part if all(c not in t for t in terms))
        if lacking:
            terms, arrays = [*terms, lacking], [*arrays, np.ones([sizes[c] for c in lacking])]
        found = np.einsum(f"{','.join(terms)}->{part}", *arrays, optimize=True)
        summed = prod(sizes[c] for c in sizes if c not in part)
        made[position] = Sum(found, float(summed))
    return made


@adjoint("GlobalAveragePool")
def global_average(call: Call) -> dict[int, Sum]:
    """Every element gets its share."""
    x = call.given(0)
    return {0: Sum(np.broadcast_to(call.g / prod(x.shape[2:]), x.shape).copy())}


@adjoint("AveragePool", "AdaptiveAveragePool", "Resize", "Upsample")
def separable(call: Call) -> dict[int, Sum]:
    """Operators that are one matrix per axis: each matrix is what the operator makes of an identity."""
    x, g = call.given(0), call.g
    terms = 1.0
    for axis, matrix in _matrices(call.node, call.inputs, x, call.outputs[0]):
        matrix = np.abs(matrix) if call.absolute else matrix
        g = np.moveaxis(np.moveaxis(g, axis, -1) @ matrix, -1, axis)
        terms *= max(1.0, float((matrix != 0).sum(axis=0).max(initial=1)))
    if g.shape != x.shape:
        raise NoAdjoint(f"{call.node.op_type} could not be taken apart by axes")
    return {0: Sum(g, terms)}


def _matrices(node: Node, inputs: Sequence[Array | None], x: Array, y: Array) -> list[tuple[int, Array]]:
    """Per changed axis the matrix (outputs by inputs)."""
    if node.op_type in ("Resize", "Upsample"):
        return [
            (axis, _resizing(node, inputs, x, y, axis))
            for axis in range(x.ndim)
            if _resized(node, inputs, x, y, axis)
        ]
    return [(axis, _pooling(node, axis - 2, x.shape[axis])) for axis in range(2, x.ndim)]


def _pooling(node: Node, place: int, size: int) -> Array:
    """A pooling node along one spatial axis."""
    rank = len(node.attributes.get("kernel_shape") or node.attributes.get("output_size") or ())
    one = {}
    for name, value in node.attributes.items():
        if name == "pads":
            value = (value[place], value[rank + place])
        elif isinstance(value, tuple):
            value = (value[place if len(value) > 1 else 0],)
        one[name] = value
    made = evaluate_node(Node(node.op_type, ("x",), ("y",), one, node.domain), [np.eye(size)[None]])[0]
    return np.ascontiguousarray(made[0].T)


def _resized(node: Node, inputs: Sequence[Array | None], x: Array, y: Array, axis: int) -> bool:
    scales = inputs[2 if node.op_type == "Resize" else 1] if len(inputs) > 1 else None
    listed = integers(node.attributes.get("axes"), tuple(range(x.ndim)))
    if (
        scales is not None
        and scales.size
        and axis in listed
        and float(scales.reshape(-1)[listed.index(axis)]) != 1.0
    ):
        return True
    return bool(x.shape[axis] != y.shape[axis])


def _resizing(node: Node, inputs: Sequence[Array | None], x: Array, y: Array, axis: int) -> Array:
    """A resize along one axis.

    Raises:
        NoAdjoint: a region of interest, or a policy that ties the axes together.
    """
    attributes = {k: v for k, v in node.attributes.items() if k != "axes"}
    mode = str(attributes.get("coordinate_transformation_mode", "half_pixel"))
    if (
        mode == "tf_crop_and_resize"
        or str(attributes.get("keep_aspect_ratio_policy", "stretch")) != "stretch"
    ):
        raise NoAdjoint(f"Resize with {mode} has no rule for its gradient")
    listed = integers(node.attributes.get("axes"), tuple(range(x.ndim)))
    scales = inputs[2 if node.op_type == "Resize" else 1]
    operands: list[Array | None] = [np.eye(x.shape[axis])[None]]
    if scales is not None and scales.size:
        scale = np.array([1.0, 1.0, float(scales.reshape(-1)[listed.index(axis)])], np.float32)
        operands += [None, scale] if node.op_type == "Resize" else [scale]
    else:
        operands += [None, None, np.array([1, x.shape[axis], y.shape[axis]], np.int64)]
    names = ("x", "roi", "scales", "sizes")[: len(operands)] if node.op_type == "Resize" else ("x", "scales")
    made = evaluate_node(Node(node.op_type, names, ("y",), attributes, node.domain), operands)[0]
    return np.ascontiguousarray(made[0].T)

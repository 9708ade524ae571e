"""Gradients of maximum and norm pooling; averages are linear (:mod:`porting_check.numerics.adjoint_linear`)."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from porting_check.neutral.node import Node
from porting_check.numerics.adjoint import Call, Sum, adjoint
from porting_check.numerics.operators.registry import Array, integers
from porting_check.numerics.roundoff_units import ELEMENTWISE
from porting_check.numerics.truth import evaluate_node


@adjoint("MaxPool")
def maximum(call: Call) -> dict[int, Sum]:
    """To the first maximum under each window; ties are kinks."""
    x = call.given(0)
    attributes = {k: v for k, v in call.node.attributes.items() if k != "storage_order"}
    node = Node("MaxPool", ("x",), ("y", "places"), attributes, call.node.domain)
    places = evaluate_node(node, [x])[1].reshape(-1)
    hits = np.bincount(places[places >= 0], minlength=1)
    g = call.g.reshape(-1)
    made = np.bincount(places[places >= 0], g[places >= 0], x.size).reshape(x.shape)
    return {0: Sum(made, max(1.0, float(hits.max(initial=1))))}


@adjoint("GlobalMaxPool")
def whole(call: Call) -> dict[int, Sum]:
    """To the first maximum of each channel."""
    x = call.given(0)
    flat = x.reshape(*x.shape[:2], -1)
    made = np.zeros_like(flat)
    np.put_along_axis(made, flat.argmax(axis=-1)[..., None], call.g.reshape(*x.shape[:2], 1), -1)
    return {0: Sum(made.reshape(x.shape))}


@adjoint("AdaptiveMaxPool")
def adaptive(call: Call) -> dict[int, Sum]:
    """To the first maximum of each bin."""
    x, y, g = call.given(0), call.outputs[0], call.g
    made = np.zeros(x.shape)
    for place in product(*map(range, y.shape[2:])):
        bins = tuple(
            slice(i * n // m, -(-(i + 1) * n // m))
            for i, n, m in zip(place, x.shape[2:], y.shape[2:], strict=True)
        )
        part = x[(slice(None), slice(None), *bins)]
        flat = part.reshape(*part.shape[:2], -1)
        share = np.zeros_like(flat)
        at: tuple[Any, ...] = (slice(None), slice(None), *place)
        np.put_along_axis(share, flat.argmax(axis=-1)[..., None], g[at][..., None], -1)
        made[(slice(None), slice(None), *bins)] += share.reshape(part.shape)
    return {0: Sum(made)}


@adjoint("LpPool", "GlobalLpPool", units=ELEMENTWISE)
def norm(call: Call) -> dict[int, Sum]:
    """``sign(x) |x|^(p-1) / y^(p-1)`` under each window, by the gradient of the sum of powers."""
    x, p = call.given(0), int(call.node.attributes.get("p", 2))
    y = call.outputs[0]
    share = np.where(y > 0, call.g / np.where(y > 0, y, 1.0) ** (p - 1), 0.0)
    powers = np.abs(x) ** (p - 1) * (1.0 if call.absolute else np.sign(x))
    return {
        0: Sum(
            powers * _under(call, share),
            float(np.prod(integers(call.node.attributes.get("kernel_shape"), (1,)))),
        )
    }


def _under(call: Call, share: Array) -> Array:
    """Sum of the shares of all windows that an element lies under: the adjoint of summing windows."""
    from porting_check.numerics.adjoint import vjp

    x = call.given(0)
    if call.node.op_type == "GlobalLpPool":
        return np.broadcast_to(share, x.shape)
    kept = {k: v for k, v in call.node.attributes.items() if k not in ("p", "count_include_pad")}
    count = float(np.prod(integers(kept["kernel_shape"])))
    # The mean with padding counted, times the number of elements, is the sum; an overhanging window is the exception.
    node = Node("AveragePool", ("x",), ("y",), {**kept, "count_include_pad": 1}, call.node.domain)
    return vjp(node, [x], [share], [share])[0] * count

"""What round-off may legitimately do to a tensor: forward error analysis along the nodes of a record.

Each operator contributes a limit of its own and passes on the error of its inputs. For sums of products the limit is the
one that holds for *any* order of summation (Higham & Mary 2019, in the form of the partial-sum bound): with ``n`` terms of
total magnitude ``s`` and result ``y``, ``a = u (sqrt(n + 2) (s + |y|) / 2 + |y|)``, times 0.577 sqrt(2 ln(2N / 1e-9)) for
``N`` outputs. Elementwise functions, normalisations and softmax have their own units; everything else is measured by its
response to perturbed inputs. The constants are those of Table 1.1 and section 3.1 of the numerics study that the project
was built on (18 convolution shapes and 12 linear shapes by 6 kinds of data by up to 15 backends: no false alarm).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from porting_check.neutral.graph import MOVEMENT
from porting_check.neutral.node import Node
from porting_check.numerics.roundoff_elementwise import (
    FUNCTIONS,
    addition,
    contraction,
    function,
    product,
    softmax,
)
from porting_check.numerics.roundoff_normalization import one_pass_over_two, two_pass, with_one_pass
from porting_check.numerics.roundoff_resampling import INTERPOLATION, exact_positions, positions
from porting_check.numerics.roundoff_units import COMPOSITE, LONG, NORMALIZED, TINY, errors_of
from porting_check.numerics.truth import evaluate_node

Array = np.ndarray

LINEAR = {
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Einsum",
    "AveragePool",
    "GlobalAveragePool",
    "AdaptiveAveragePool",
}
LINEAR |= {"ReduceMean", "ReduceSum", "Resize", "Upsample", "GridSample"}
"""Operators whose outputs are sums of products."""

_NORMS = {
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "RMSNormalization",
}
_MONOTONE = {"MaxPool", "GlobalMaxPool", "AdaptiveMaxPool", "ReduceMax", "Max", "Min", "ReduceMin"}
_SUMS = {"Add", "Sub", "Sum"}
_CONTRACTING = {"Relu", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu", "Abs", "Neg"}
_INDICES = {
    "ArgMax",
    "ArgMin",
    "Shape",
    "Size",
    "NonZero",
    "Equal",
    "Less",
    "Greater",
    "And",
    "Or",
    "Not",
    "IsNaN",
    "IsInf",
}


def limits(
    node: Node,
    inputs: Sequence[Array | None],
    incoming: Sequence[Array | None],
    outputs: Sequence[Array],
    unit: float,
) -> list[Array]:
    """Largest legitimate error of each output of a node.

    Args:
        node: the operator.
        inputs: its inputs in float64, canonical layout.
        incoming: the legitimate error of each input (``None`` or zeros = exact).
        outputs: its outputs in float64.
        unit: unit round-off of the native arithmetic (:data:`UNIT`).

    Returns:
        One array per output, of its shape.

    Example:
        >>> x = np.ones((1, 4)); w = np.ones((2, 4))
        >>> node = Node("Gemm", ("x", "w"), attributes={"transB": 1})
        >>> float(limits(node, [x, w], [None, None], [x @ w.T], 2.0**-24)[0].max()) < 1e-5
        True
    """
    if node.op_type in _INDICES or not outputs or outputs[0].dtype.kind not in "fc":
        return [np.zeros(output.shape) for output in outputs]
    rule = _rule(node) if not exact_positions(node) else _moved
    first = rule(node, inputs, incoming, outputs[0], unit)
    rest = [np.broadcast_to(first.max(initial=0.0), output.shape) for output in outputs[1:]]
    return [first, *rest] if rule is not _moved else _moved_all(node, inputs, incoming, outputs)


Rule = Callable[[Node, Sequence[Array | None], Sequence[Array | None], Array, float], Array]


def _rule(node: Node) -> Rule:
    table: tuple[tuple[Collection[str], Rule], ...] = (
        (MOVEMENT, _moved),
        (LINEAR, _sum_of_products),
        (_NORMS, _normalization),
        (_MONOTONE, _selection),
        (_SUMS, addition),
        (_CONTRACTING, contraction),
        (FUNCTIONS, function),
        (("Mul",), product),
        (("Softmax",), softmax),
    )
    return next((rule for ops, rule in table if node.op_type in ops), _response)


def any_order(count: float, magnitude: Array, result: Array, unit: float) -> Array:
    """Limit of a sum of ``count`` products in any order of summation; see the module's head."""
    factor = 0.577 * np.sqrt(2 * np.log(2 * max(result.size, 1) / 1e-9)) * unit
    half = factor * np.sqrt(count + 2) / 2
    limit = np.asarray(
        half * magnitude
    )  # in place from here on: these are the largest arrays that a comparison holds
    limit += np.abs(result) * (half + factor)
    return limit


def _moved(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    return np.zeros(output.shape)


def _moved_all(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], outputs: Sequence[Array]
) -> list[Array]:
    """Errors are moved like the elements themselves (fill values are exact)."""
    if all(errors_of(incoming, i) is None for i in range(len(inputs))):
        return [np.zeros(output.shape) for output in outputs]
    many = node.op_type in ("Concat", "ScatterND", "ScatterElements")
    moved: list[Array | None] = []
    for index, value in enumerate(inputs):
        carries = value is not None and value.dtype.kind in "fc" and (index == 0 or many)
        error = incoming[index] if index < len(incoming) else None
        moved.append(
            (np.zeros(value.shape) if error is None else error) if carries and value is not None else value
        )
    if node.op_type == "Pad" and len(moved) > 2:
        moved[2] = None
    return [np.abs(array) for array in evaluate_node(node, moved)]


def _sum_of_products(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    scales = {name: abs(node.attributes[name]) for name in ("alpha", "beta") if name in node.attributes}
    node = node.edit(**scales)  # magnitudes add up, whatever the signs of Gemm's factors
    # Two digits are enough here, so the second evaluation is made in float32.
    magnitudes = [np.abs(x, dtype=np.float32) if x is not None and x.dtype.kind == "f" else x for x in inputs]
    magnitude = evaluate_node(node, _fixed_operands(node, magnitudes, inputs), dtype=None)[0]
    count = terms(node, inputs, output)
    limit = any_order(count, magnitude, output, unit)
    if count > LONG:
        limit += count * unit / max(1 - count * unit, 0.5) * np.abs(output)
    if node.op_type in INTERPOLATION:
        limit += positions(node, inputs, unit)
    for position in range(min(2, len(inputs)) if node.op_type in ("Gemm", "MatMul", "Einsum") else 1):
        error = errors_of(incoming, position)
        if error is not None:
            carried = list(magnitudes)
            carried[position] = error.astype(np.float32)
            bias = 2 if node.op_type in ("Conv", "ConvTranspose", "Gemm") else len(carried)
            carried[bias:] = [None] * len(carried[bias:])
            limit = limit + np.abs(evaluate_node(node, _fixed_operands(node, carried, inputs), dtype=None)[0])
    return limit


def _fixed_operands(
    node: Node, changed: list[Array | None], original: Sequence[Array | None]
) -> list[Array | None]:
    """Operands that are no data (axes, sizes, scales, a sampling grid) stay as they are."""
    if node.op_type in INTERPOLATION or node.op_type in ("ReduceMean", "ReduceSum"):
        return [changed[0], *original[1:]]  # positions and sizes stay exact
    return changed


def terms(node: Node, inputs: Sequence[Array | None], output: Array) -> float:
    """Number of terms in the sum that makes one output (an upper bound at borders)."""
    data = inputs[0]
    assert data is not None
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = inputs[1]
        assert weight is not None
        per_output = (
            weight.size / weight.shape[0] if node.op_type == "Conv" else weight.size / weight.shape[1]
        )
        return float(per_output + 1)
    if node.op_type in ("Gemm", "MatMul"):
        axis = -2 if node.attributes.get("transA") else -1
        return float(data.shape[axis] + 1)
    if node.op_type == "AveragePool":
        return float(np.prod(node.attributes["kernel_shape"]))
    if node.op_type in INTERPOLATION:
        return 16.0 * max(1.0, data.size / max(output.size, 1))
    if node.op_type == "Einsum":
        return _einsum_terms(node, inputs)
    return float(max(1.0, data.size / max(output.size, 1)))


def _einsum_terms(node: Node, inputs: Sequence[Array | None]) -> float:
    """Product of the sizes of the summed letters; every element of the first operand where they are not all written."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    sides, _, kept = equation.partition("->")
    sizes: dict[str, int] = {}
    for letters, operand in zip(sides.split(","), inputs, strict=False):
        if operand is None or "." in letters or "->" not in equation:
            return float(inputs[0].size) if inputs[0] is not None else 1.0
        sizes.update(zip(letters, operand.shape, strict=False))
    return float(np.prod([size for letter, size in sizes.items() if letter not in kept]))


def _normalization(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """See :mod:`porting_check.numerics.roundoff_normalization`; an error that comes in is passed on as the response to it."""
    limit = with_one_pass(node, inputs, output, NORMALIZED * unit)
    limit += TINY * (unit > 2.0**-53)
    error = errors_of(incoming, 0)
    if error is None:
        return limit
    if node.op_type == "BatchNormalization" and not node.attributes.get("training_mode", 0):
        scale, var = (_channels(x, output.ndim) for x in (inputs[1], inputs[4]))
        return np.asarray(limit + np.abs(scale) / np.sqrt(var + node.attributes.get("epsilon", 1e-5)) * error)
    return np.asarray(limit + _response(node, inputs, incoming, output, unit))


def usual(
    node: Node, inputs: Sequence[Array | None], output: Array, unit: float
) -> tuple[Callable[[], Array] | None, float]:
    """The limit of the algorithm that is usual, where a less precise one is legal too, and how much larger that one's may be.

    A normalisation may compute its variance in one pass (``E[x^2] - E[x]^2``, as flax does), which loses digits where the
    mean is large. ``None`` where there is but one algorithm.
    """
    looser = one_pass_over_two(node, inputs)
    if looser <= 1:
        return None, 1.0
    return lambda: two_pass(node, inputs, output, NORMALIZED * unit) + TINY * (unit > 2.0**-53), looser


def _channels(vector: Array | None, rank: int) -> Array:
    assert vector is not None
    return vector.reshape((1, -1) + (1,) * (rank - 2)) if rank > 1 else vector


def _selection(
    node: Node, inputs: Sequence[Array | None], incoming: Sequence[Array | None], output: Array, unit: float
) -> Array:
    """The largest error among the candidates: the operator itself on the errors for pools, the maximum otherwise."""
    errors = [e for e in (errors_of(incoming, i) for i in range(len(inputs))) if e is not None]
    if not errors:
        return np.zeros(output.shape)
    if node.op_type in ("MaxPool", "GlobalMaxPool", "AdaptiveMaxPool"):
        return np.abs(evaluate_node(node, [errors[0]])[0])
    return np.broadcast_to(max(float(error.max()) for error in errors), output.shape)


def _response(
    node: Node,
    inputs: Sequence[Array | None],
    incoming: Sequence[Array | None],
    output: Array,
    unit: float,
    runs: int = 6,
) -> Array:
    """Root mean square response to inputs perturbed by one unit (and by their own error), with a floor; times 50.

    Perturbed inputs do not show what long sums round; those of reductions and of attention's logits are added.
    """
    rng = np.random.default_rng(0)
    total = np.zeros(output.shape)
    for _ in range(runs):
        perturbed: list[Array | None] = []
        for position, value in enumerate(inputs):
            if value is None or value.dtype.kind != "f":
                perturbed.append(value)
                continue
            error = errors_of(incoming, position)
            size = unit * np.abs(value) + (0.0 if error is None else error / COMPOSITE)
            value = value + size * rng.uniform(-1, 1, value.shape)
            if node.op_type == "Attention" and position == 1:
                value = value * (1 + _summed_keys(node, value, unit, rng))
            perturbed.append(value)
        with np.errstate(all="ignore"):
            total += np.square(np.abs(evaluate_node(node, perturbed)[0] - output))
    rms = np.sqrt(total / runs)
    typical = np.sqrt(np.square(np.where(np.isfinite(rms), rms, 0.0)).mean()) if rms.size else 0.0
    # A saturated gate is off by a rounding of 1, whatever the inputs do: 1 - sigmoid(x) may be all error.
    gates = float(node.op_type in ("LSTM", "GRU", "RNN"))
    limit = COMPOSITE * (rms + typical + 0.3 * unit * (np.abs(output) + gates)) + TINY * (unit > 2.0**-53)
    return np.asarray(limit + _reduced(node, inputs, output, unit))


def _summed_keys(node: Node, keys: Array, unit: float, rng: np.random.Generator) -> Array:
    """What adding up a logit in order does to it, as a factor of each key: 0.42 sqrt(n / 3) u of the sum (positive terms)."""
    terms = keys.shape[-1] / (node.attributes.get("kv_num_heads", 1) if keys.ndim == 3 else 1)
    return np.asarray(0.42 * unit * np.sqrt(terms / 3) * rng.standard_normal((*keys.shape[:-1], 1)))


def _reduced(node: Node, inputs: Sequence[Array | None], output: Array, unit: float) -> Array | float:
    """Six deviations of 0.42 sqrt(n / 3) u of the terms' magnitude, for reductions that are no plain sums."""
    data = inputs[0]
    if data is None or not output.size or not (node.op_type.startswith("Reduce") or node.op_type == "CumSum"):
        return 0.0
    if node.op_type == "CumSum":
        axis = int(np.ravel(inputs[1])[0]) if len(inputs) > 1 and inputs[1] is not None else 0
        magnitude, terms = evaluate_node(node, [np.abs(data), *inputs[1:]])[0], float(data.shape[axis])
    else:
        logarithm = node.op_type.startswith("ReduceLog")
        magnitude, terms = np.maximum(np.abs(output), float(logarithm)), data.size / output.size
    return np.asarray(2.5 * unit * np.sqrt(terms / 3) * magnitude)

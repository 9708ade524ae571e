"""Correct comparisons for the benchmark of the rule: single nodes of many operators and shapes on six kinds of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from porting_check.neutral.node import EXTENSION, Node

Array = np.ndarray
Rng = np.random.Generator
Draw = Callable[[Rng, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Kind:
    """One kind of data: how inputs and weights are drawn."""

    name: str
    data: Draw
    weight: Draw
    structured: bool = False


def _normal(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _uniform(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0, 1, shape)


def _relu(rng: Rng, shape: tuple[int, ...]) -> Array:
    return np.abs(rng.standard_normal(shape))


def _tiny(rng: Rng, shape: tuple[int, ...]) -> Array:
    return 1e-5 * rng.standard_normal(shape)


def _far(rng: Rng, shape: tuple[int, ...]) -> Array:
    return 100 + rng.standard_normal(shape)


def _heavy(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Log-normal scales of the channels (the second axis, or the only one)."""
    sizes = [1] * len(shape)
    axis = min(1, len(shape) - 1)
    sizes[axis] = shape[axis]
    return rng.standard_normal(shape) * rng.lognormal(0, 1.5, sizes)


def _spread_out(rng: Rng, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * rng.lognormal(0, 1.0, shape)


def _edge(rng: Rng, shape: tuple[int, ...]) -> Array:
    """An edge filter: the first half of every sum positive, the second half negative."""
    found = np.abs(rng.standard_normal(shape)).reshape(shape[0], -1)
    found[:, found.shape[1] // 2 :] *= -1
    return found.reshape(shape)


def _parity(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Positive at even places, negative at odd ones."""
    found = np.abs(rng.standard_normal(shape)).reshape(shape[0], -1)
    found[:, 1::2] *= -1
    return found.reshape(shape)


KINDS = (
    Kind("normal", _normal, _normal),
    Kind("relu", _relu, _normal),
    Kind("uniform", _uniform, _uniform),
    Kind("1e-5 weights", _uniform, _tiny),
    Kind("mean 100", _far, _normal),
    Kind("heavy", _heavy, _spread_out),
)
"""As in the study that the rule was made on."""

STRUCTURED = (Kind("edge filter", _uniform, _edge, True), Kind("parity filter", _uniform, _parity, True))
"""Terms that are not exchangeable: legitimate, but beyond the law of sums in unknown order."""


@dataclass(frozen=True)
class Case:
    """One node with its inputs.

    ``label`` is the operator with what sets its form apart; ``channel`` the axis of its output's channels. ``layout`` that
    of its input and output.
    """

    label: str
    kind: str
    node: Node
    inputs: tuple[Array | None, ...]
    channel: int | None = None
    structured: bool = False


Maker = Callable[[Rng, Kind], tuple[str, Node, list[Array | None]]]


def _of(*arrays: Array | None) -> list[Array | None]:
    return [None if x is None else x.astype(np.float32) if x.dtype.kind == "f" else x for x in arrays]


def _int(rng: Rng, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "Conv 3x3": {"kernel": (3, 3), "inner": (3, 96), "outer": (4, 48), "pads": 1},
    "Conv 1x1": {"kernel": (1, 1), "inner": (8, 256), "outer": (4, 64)},
    "Conv 5x5": {"kernel": (5, 5), "inner": (3, 48), "outer": (4, 32), "pads": 2},
    "Conv 7x7/2": {"kernel": (7, 7), "inner": (3, 24), "outer": (8, 64), "pads": 3, "strides": 2},
    "Conv long": {"kernel": (3, 3), "inner": (256, 512), "outer": (16, 24), "pads": 1, "sizes": (5, 9)},
    "Conv depthwise": {"kernel": (3, 3), "inner": (1, 1), "group": (16, 96), "pads": 1},
    "Conv grouped": {"kernel": (3, 3), "inner": (4, 24), "outer": (4, 16), "group": (2, 4), "pads": 1},
    "Conv dilated": {"kernel": (3, 3), "inner": (4, 48), "outer": (4, 32), "dilations": 2},
    "Conv 1-D": {"kernel": (9,), "inner": (8, 96), "outer": (4, 48), "sizes": (30, 120)},
    "Conv 3-D": {"kernel": (3, 3, 3), "inner": (3, 24), "outer": (4, 16), "sizes": (5, 8)},
}


def convolution(label: str) -> Maker:
    """Convolutions of one form, with random sizes."""
    form = CONVOLUTIONS[label]

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        kernel: tuple[int, ...] = form["kernel"]
        rank, group = len(kernel), _int(rng, *form.get("group", (1, 1)))
        inner = _int(rng, *form["inner"])
        outer = group * (_int(rng, *form["outer"]) if "outer" in form else 1)
        sizes = [_int(rng, *form.get("sizes", (9, 22))) for _ in kernel]
        x = kind.data(rng, (_int(rng, 1, 2), inner * group, *sizes))
        attributes = {
            "kernel_shape": kernel,
            "strides": (form.get("strides", 1),) * rank,
            "dilations": (form.get("dilations", 1),) * rank,
            "pads": (form.get("pads", 0),) * (2 * rank),
            "group": group,
        }
        bias = kind.weight(rng, (outer,)) if rng.random() < 0.7 else None
        weight = kind.weight(rng, (outer, inner, *kernel))
        node = Node("Conv", ("x", "w", "b")[: 2 + (bias is not None)], attributes=attributes)
        return label, node, _of(x, weight, bias)[: len(node.inputs)]

    return make


def transposed(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Transposed convolutions of stride 2."""
    inner, outer, k = _int(rng, 4, 48), _int(rng, 3, 24), _int(rng, 2, 4)
    x = kind.data(rng, (1, inner, _int(rng, 5, 11), _int(rng, 5, 11)))
    node = Node("ConvTranspose", ("x", "w", "b"), attributes={"kernel_shape": (k, k), "strides": (2, 2)})
    weight = kind.weight(rng, (outer, inner, k, k)).transpose(1, 0, 2, 3)
    return "ConvTranspose", node, _of(x, np.ascontiguousarray(weight), kind.weight(rng, (outer,)))


def gemm(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Dense layers with a bias."""
    k, n = int(2 ** rng.uniform(3, 13)), _int(rng, 8, 96)
    x, w = kind.data(rng, (_int(rng, 1, 24), k)), kind.weight(rng, (n, k))
    return "Gemm", Node("Gemm", ("x", "w", "b"), attributes={"transB": 1}), _of(x, w, kind.weight(rng, (n,)))


def matmul(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Products of matrices, with and without a batch."""
    k, n, lead = int(2 ** rng.uniform(3, 11)), _int(rng, 8, 80), [(), (3,)][_int(rng, 0, 1)]
    x, w = kind.data(rng, (*lead, _int(rng, 2, 24), k)), kind.weight(rng, (n, k))
    return "MatMul", Node("MatMul", ("x", "w")), _of(x, np.ascontiguousarray(w.T))


def einsum(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """The products of attention."""
    b, h, t, d = _int(rng, 1, 3), _int(rng, 2, 4), _int(rng, 5, 20), _int(rng, 8, 128)
    x, w = kind.data(rng, (b, t, h, d)), kind.weight(rng, (b, t + 2, h, d))
    return "Einsum", Node("Einsum", ("x", "w"), attributes={"equation": "bthd,bshd->bhts"}), _of(x, w)


def _image(rng: Rng, kind: Kind, low: int = 8, high: int = 24) -> Array:
    return kind.data(rng, (_int(rng, 1, 2), _int(rng, 3, 32), _int(rng, low, high), _int(rng, low, high)))


def average_pool(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Windows of 2 or 3, by stride 2."""
    k = _int(rng, 2, 3)
    node = Node("AveragePool", ("x",), attributes={"kernel_shape": (k, k), "strides": (2, 2)})
    return "AveragePool", node, _of(_image(rng, kind))


def global_pool(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Means of whole images."""
    return "GlobalAveragePool", Node("GlobalAveragePool", ("x",)), _of(_image(rng, kind, 20, 64))


def reduction(op: str) -> Maker:
    """Means or sums over one axis or two."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        axes = np.array([[-1], [1, 2], [0]][_int(rng, 0, 2)])
        x = kind.data(rng, (_int(rng, 3, 9), _int(rng, 20, 60), _int(rng, 20, 90)))
        return op, Node(op, ("x", "a"), attributes={"keepdims": 1}), _of(x, axes)

    return make


def resize(mode: str) -> Maker:
    """Up or down by odd factors, to given sizes."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        x = _image(rng, kind, 7, 20)
        sizes = np.array([*x.shape[:2], *(int(n * rng.uniform(1.1, 3.2)) for n in x.shape[2:])])
        where = ["half_pixel", "align_corners"][_int(rng, 0, 1)]
        attributes = {"mode": mode, "coordinate_transformation_mode": where}
        return (
            f"Resize {mode}",
            Node("Resize", ("x", "", "", "s"), attributes=attributes),
            _of(x, None, None, sizes),
        )

    return make


def grid_sample(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Bilinear sampling at random places, some outside."""
    x = _image(rng, kind, 6, 20)
    grid = rng.uniform(-1.1, 1.1, (x.shape[0], _int(rng, 5, 12), _int(rng, 5, 12), 2))
    attributes = {"mode": "linear", "padding_mode": "zeros", "align_corners": _int(rng, 0, 1)}
    return "GridSample", Node("GridSample", ("x", "g"), attributes=attributes), _of(x, grid)


def batch_norm(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """In inference; statistics near those of the data."""
    x = _image(rng, kind)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3)) * rng.uniform(0.5, 2, x.shape[1])
    node = Node("BatchNormalization", tuple("xgbmv"), attributes={"epsilon": 1e-3})
    return "BatchNormalization", node, _of(x, *(kind.weight(rng, mean.shape) for _ in "gb"), mean, var)


def normalization(op: str) -> Maker:
    """Layer, group, instance and root-mean-square normalisation."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        if op in ("LayerNormalization", "RMSNormalization"):
            x = kind.data(rng, (_int(rng, 2, 8), _int(rng, 4, 20), int(2 ** rng.uniform(4, 10))))
            gain = kind.weight(rng, x.shape[-1:])
            rest, attributes = [gain, kind.weight(rng, gain.shape)], {"axis": -1, "epsilon": 1e-5}
            rest = rest[:1] if op == "RMSNormalization" else rest
        else:
            groups = _int(rng, 2, 4)
            x = kind.data(rng, (2, 4 * groups, _int(rng, 6, 16), _int(rng, 6, 16)))
            rest = [kind.weight(rng, x.shape[1:2]) for _ in "gb"]
            attributes = {"epsilon": 1e-5, **({"num_groups": groups} if op == "GroupNormalization" else {})}
        return op, Node(op, ("x", "g", "b")[: 1 + len(rest)], attributes=attributes), _of(x, *rest)

    return make


def softmax(op: str) -> Maker:
    """Softmax of logits along the last axis or the channels."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        x = kind.data(rng, (_int(rng, 2, 6), _int(rng, 5, 40), _int(rng, 10, 200)))
        return op, Node(op, ("x",), attributes={"axis": [1, -1][_int(rng, 0, 1)]}), _of(5 * x)

    return make


RANGES: dict[str, tuple[float, float]] = {
    "Log": (1e-3, 1e3), "Sqrt": (0, 1e3), "Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-0.99, 0.99),
    "Acosh": (1, 50), "Exp": (-80, 80), "Sinh": (-80, 80), "Cosh": (-80, 80), "Tan": (-1.5, 1.5),
}  # fmt: skip
"""Functions that are not defined, or not finite, everywhere."""

FUNCTIONS = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Log", "Mish", "Reciprocal", "Selu", "Shrink", "Sigmoid", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
MOVED = ("Relu", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Clip", "MaxPool", "Transpose")
"""Operators that round nothing: equal bits, or a mistake."""


def function(op: str) -> Maker:
    """An elementwise function, on the kind's data scaled into where it is defined."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        x = kind.data(rng, (_int(rng, 2, 5), _int(rng, 8, 32), _int(rng, 20, 60)))
        x = x * 10.0 ** rng.uniform(-2, 1)
        if op in RANGES:
            low, high = RANGES[op]
            x = rng.uniform(low, high, x.shape) if rng.random() < 0.5 else np.clip(np.abs(x) + low, low, high)
        form = {"approximate": ["none", "tanh"][_int(rng, 0, 1)]} if op == "Gelu" else {}
        return (
            op + (" tanh" if form.get("approximate") == "tanh" else ""),
            Node(op, ("x",), attributes=form),
            _of(x),
        )

    return make


def arithmetic(op: str) -> Maker:
    """Two operands, the second broadcast."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        x = kind.data(rng, (3, _int(rng, 8, 40), _int(rng, 20, 60)))
        other = kind.weight(rng, (1, x.shape[1], 1))
        return op, Node(op, ("x", "w")), _of(np.abs(x) if op == "Pow" else x, other)

    return make


def moved(op: str) -> Maker:
    """What rounds nothing."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        x, form, rest = _image(rng, kind), {}, []
        if op == "MaxPool":
            form = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
        if op == "Transpose":
            form = {"perm": (0, 3, 1, 2)}
        if op == "Clip":
            rest = [np.array(0.0), np.array(6.0)]
        return op, Node(op, ("x", "l", "h")[: 1 + len(rest)], attributes=form), _of(x, *rest)

    return make


def recurrent(op: str) -> Maker:
    """LSTM and GRU, one direction or both."""

    def make(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
        gates, directions = {"LSTM": 4, "GRU": 3}[op], _int(rng, 1, 2)
        steps, batch, size, hidden = _int(rng, 3, 16), _int(rng, 1, 3), _int(rng, 4, 32), _int(rng, 4, 48)
        x = kind.data(rng, (steps, batch, size))
        w, r = (kind.weight(rng, (directions, gates * hidden, n)) / np.sqrt(n) for n in (size, hidden))
        b = 0.1 * rng.standard_normal((directions, 2 * gates * hidden))
        form: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": ("forward", "bidirectional")[directions - 1],
        }
        if op == "GRU":
            form["linear_before_reset"] = 1
        return op, Node(op, ("x", "w", "r", "b"), ("y", "h"), form), _of(x, w, r, b)

    return make


def attention(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Scaled dot-product attention of several heads."""
    b, h, t, d = _int(rng, 1, 2), _int(rng, 2, 4), _int(rng, 4, 24), _int(rng, 8, 64)
    q, k, v = (kind.data(rng, (b, h, n, d)) for n in (t, t + 3, t + 3))
    return "Attention", Node("Attention", ("q", "k", "v")), _of(q, k, v)


def adaptive_pool(rng: Rng, kind: Kind) -> tuple[str, Node, list[Array | None]]:
    """Means over bins of unequal sizes."""
    node = Node("AdaptiveAveragePool", ("x",), attributes={"output_size": (3, 4)}, domain=EXTENSION)
    return "AdaptiveAveragePool", node, _of(_image(rng, kind))


LINEAR_MAKERS: tuple[Maker, ...] = (*map(convolution, CONVOLUTIONS), transposed, gemm, matmul, einsum)
MAKERS: tuple[Maker, ...] = (
    *LINEAR_MAKERS, gemm, average_pool, global_pool, adaptive_pool, reduction("ReduceMean"), reduction("ReduceSum"),
    resize("linear"), resize("cubic"), grid_sample, batch_norm,
    *map(normalization, ("LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization")),
    softmax("Softmax"), softmax("LogSoftmax"), *map(function, FUNCTIONS), *map(arithmetic, ("Add", "Mul", "Div", "Pow")),
    recurrent("LSTM"), recurrent("GRU"), attention, *map(moved, MOVED),
)  # fmt: skip


def drawn(make: Maker, rng: Rng, kind: Kind) -> Case:
    """One case of a maker on a kind of data."""
    label, node, inputs = make(rng, kind)
    return Case(label, kind.name, node, tuple(inputs), channel_of(node), kind.structured)


def channel_of(node: Node) -> int | None:
    """The axis of an output's channels, as the layouts of a recording would say."""
    if node.op_type in (
        "Gemm",
        "MatMul",
        "LayerNormalization",
        "RMSNormalization",
        "ReduceMean",
        "ReduceSum",
    ):
        return -1
    vision = ("Conv", "Pool", "BatchNorm", "GroupNorm", "InstanceNorm", "Resize", "GridSample")
    return 1 if any(part in node.op_type for part in vision) else None


def cases(rng: Rng) -> Iterator[Case]:
    """Cases without end: every maker in turn, each time on the next kind of data."""
    turn = 0
    while True:
        for place, make in enumerate(MAKERS):
            yield drawn(make, rng, KINDS[(turn + place) % len(KINDS)])
        turn += 1


def structured_cases(rng: Rng) -> Iterator[Case]:
    """Sums of products with structured weights, without end."""
    while True:
        for make in LINEAR_MAKERS:
            for kind in STRUCTURED:
                yield drawn(make, rng, kind)

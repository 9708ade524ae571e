"""Random nodes with inputs that fit them, and random geometries of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from porting_check.neutral.node import Node


def small_integers(seed: int, *shapes: Sequence[int]) -> list[np.ndarray]:
    """Integers in [-8, 8], as float32: sums of their products are exact (NUMERICS, integer probe)."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-8, 9, tuple(shape)).astype(np.float32) for shape in shapes]


def noise(seed: int, *shapes: Sequence[int]) -> list[np.ndarray]:
    """Normal numbers, as float32."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=tuple(shape)).astype(np.float32) for shape in shapes]


def some(draw: Callable[..., Any], rank: int, low: int, high: int) -> tuple[int, ...]:
    """One integer per spatial axis."""
    return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))


@st.composite
def windows(draw: Callable[..., Any], dilated: bool = True) -> dict[str, Any]:
    """Attributes of sliding windows with the input sizes that they fit into."""
    rank = draw(st.sampled_from((1, 1, 2, 2, 2, 3)))
    kernel, strides = some(draw, rank, 1, 3), some(draw, rank, 1, 3)
    dilations = some(draw, rank, 1, 2) if dilated and draw(st.booleans()) else (1,) * rank
    begin, end = some(draw, rank, 0, 3), some(draw, rank, 0, 3)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = tuple(span + more for span, more in zip(spans, some(draw, rank, 0, 5), strict=True))
    pads = {"pads": begin + end}
    if draw(st.booleans()):
        pads = {"auto_pad": draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID")))}
    return {"sizes": sizes, "kernel_shape": kernel, "strides": strides, "dilations": dilations, **pads}


@st.composite
def convolutions(draw: Callable[..., Any]) -> tuple[Node, list[Sequence[int]]]:
    """A Conv node and the shapes of its input, kernel and bias."""
    found = draw(windows())
    group, inner, outer = (draw(st.integers(1, 3)) for _ in range(3))
    sizes = found.pop("sizes")
    shapes = [
        (draw(st.integers(1, 2)), group * inner, *sizes),
        (group * outer, inner, *found["kernel_shape"]),
    ]
    node = Node("Conv", ("x", "weight", "bias"), attributes={"group": group, **found})
    return node, [*shapes, (group * outer,)]


@st.composite
def transposed_convolutions(draw: Callable[..., Any]) -> tuple[Node, list[Sequence[int]]]:
    """A ConvTranspose node and the shapes of its input, kernel and bias."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))
    kernel, strides, dilations = some(draw, rank, 1, 3), some(draw, rank, 1, 3), some(draw, rank, 1, 2)
    grow = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
    pads, sizes = some(draw, 2 * rank, 0, 2), some(draw, rank, 1, 4)
    full = [
        (n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    assume(all(full[i] + grow[i] - pads[i] - pads[i + rank] > 0 for i in range(rank)))
    group, inner, outer = (draw(st.integers(1, 2)) for _ in range(3))
    attributes = {
        "group": group,
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
    }
    node = Node("ConvTranspose", ("x", "weight", "bias"), attributes={"output_padding": grow, **attributes})
    return node, [(2, group * inner, *sizes), (group * inner, outer, *kernel), (group * outer,)]


MATRIX_SHAPES = (
    [(5,), (5,)],
    [(5,), (2, 5, 3)],
    [(2, 4, 5), (5,)],
    [(4, 5), (5, 3)],
    [(3, 1, 4, 5), (2, 5, 6)],
)
"""Shapes that the rules of ``MatMul`` treat apart."""


@st.composite
def matrix_products(draw: Callable[..., Any]) -> tuple[Node, list[Sequence[int]]]:
    """A MatMul or Gemm node and the shapes of its inputs."""
    if draw(st.booleans()):
        return Node("MatMul", ("a", "b")), list(draw(st.sampled_from(MATRIX_SHAPES)))
    rows, inner, columns = (draw(st.integers(1, 5)) for _ in range(3))
    flips = {"transA": draw(st.integers(0, 1)), "transB": draw(st.integers(0, 1))}
    scales = {"alpha": draw(st.sampled_from((1.0, 2.0))), "beta": draw(st.sampled_from((1.0, 3.0)))}
    left = (inner, rows) if flips["transA"] else (rows, inner)
    right = (columns, inner) if flips["transB"] else (inner, columns)
    third = draw(st.sampled_from([[], [(columns,)], [(rows, 1)], [(rows, columns)]]))
    shapes = [left, right, *third]
    return Node("Gemm", tuple("abc"[: len(shapes)]), attributes={**flips, **scales}), list(shapes)


def linear_nodes() -> st.SearchStrategy[tuple[Node, list[Sequence[int]]]]:
    """Nodes whose every output is one sum of products, with the shapes of their inputs."""
    return st.one_of(convolutions(), transposed_convolutions(), matrix_products())


@dataclass(frozen=True)
class Geometry:
    """A random sliding-window layer: one entry per spatial axis; channels are multiples of ``groups``."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    sizes: tuple[int, ...]
    groups: int
    channels: int
    filters: int
    padding: str
    batch: int
    bias: bool

    @property
    def rank(self) -> int:
        """How many spatial axes there are."""
        return len(self.kernel)

    @property
    def first(self) -> tuple[int, ...]:
        """Shape of the input, channels first."""
        return (self.batch, self.channels, *self.sizes)

    @property
    def last(self) -> tuple[int, ...]:
        """Shape of the input, channels last."""
        return (self.batch, *self.sizes, self.channels)


@st.composite
def geometries(
    draw: Callable[..., Any],
    ranks: Sequence[int] = (1, 2, 2, 3),
    groups: Sequence[int] = (1, 1, 2),
    paddings: Sequence[str] = ("valid", "same"),
    stride_or_dilation: bool = False,
) -> Geometry:
    """A sliding window over odd and even sizes into which it fits.

    Args:
        draw: hypothesis' own.
        ranks: numbers of spatial axes to choose from.
        groups: numbers of groups to choose from.
        paddings: words to choose from.
        stride_or_dilation: never both, as some frameworks ask for.
    """
    rank, group = draw(st.sampled_from(ranks)), draw(st.sampled_from(groups))
    kernel, stride, dilation = some(draw, rank, 1, 4), some(draw, rank, 1, 3), some(draw, rank, 1, 3)
    if stride_or_dilation:
        stride, dilation = (stride, (1,) * rank) if draw(st.booleans()) else ((1,) * rank, dilation)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = tuple(span + more for span, more in zip(spans, some(draw, rank, 0, 4), strict=True))
    channels, filters = group * draw(st.integers(1, 3)), group * draw(st.integers(1, 3))
    word, batch, bias = draw(st.sampled_from(paddings)), draw(st.integers(1, 2)), draw(st.booleans())
    return Geometry(kernel, stride, dilation, sizes, group, channels, filters, word, batch, bias)


WHERE = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")


@st.composite
def resizes(draw: Callable[..., Any]) -> tuple[Node, tuple[int, ...], list[int]]:
    """A Resize node, the shape of its input and the sizes asked for."""
    rank = draw(st.sampled_from((1, 2, 2, 2, 3)))
    shape, factors = some(draw, rank, 2, 6), some(draw, rank, 1, 3)
    sizes = [n * f for n, f in zip(shape, factors, strict=True)]
    if draw(st.booleans()):
        sizes = list(some(draw, rank, 2, 9))
    mode = draw(st.sampled_from(("nearest", "linear", "cubic")))
    attributes = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(WHERE))}
    if mode == "nearest":
        attributes["nearest_mode"] = draw(
            st.sampled_from(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
        )
    else:
        attributes["antialias"] = int(draw(st.booleans()))
        attributes["exclude_outside"] = int(draw(st.booleans()))
        attributes["cubic_coeff_a"] = draw(st.sampled_from((-0.75, -0.5)))
    node = Node("Resize", ("x", "", "", "sizes"), attributes=attributes)
    return node, (2, 3, *shape), [2, 3, *sizes]


@st.composite
def recurrent_layers(draw: Callable[..., Any]) -> tuple[Node, list[np.ndarray | None]]:
    """An RNN, GRU or LSTM node with random sizes, states, lengths, activations."""
    kind = draw(st.sampled_from(("RNN", "GRU", "LSTM")))
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    count, gates = (2 if direction == "bidirectional" else 1), {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    steps, batch, width, hidden = (draw(st.integers(1, 4)) for _ in range(4))
    layout = draw(st.integers(0, 1))
    x, w, r, b, h, c, p = noise(
        draw(st.integers(0, 99)),
        (batch, steps, width) if layout else (steps, batch, width),
        (count, gates * hidden, width),
        (count, gates * hidden, hidden),
        (count, 2 * gates * hidden),
        *[(batch, count, hidden) if layout else (count, batch, hidden)] * 2,
        (count, 3 * hidden),
    )
    lengths = np.array(draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch)), np.int32)
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction, "layout": layout}
    if draw(st.booleans()):
        attributes["clip"] = 0.4
    if kind == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        names = {
            "RNN": ["LeakyRelu"],
            "GRU": ["HardSigmoid", "Softsign"],
            "LSTM": ["Sigmoid", "ScaledTanh", "Affine"],
        }
        attributes["activations"] = names[kind] * count
        attributes["activation_alpha"] = [0.3] * len(names[kind]) * count
        attributes["activation_beta"] = [0.6] * len(names[kind]) * count
    given_ = [draw(st.booleans()) for _ in range(4)]
    inputs = [x, w, r, b if given_[0] else None, lengths if given_[1] else None, h if given_[2] else None]
    if kind == "LSTM":
        inputs += [c if given_[2] else None, p if given_[3] else None]
    names_in = tuple(
        name if value is not None else "" for name, value in zip("xwrblhcp", inputs, strict=False)
    )
    return Node(kind, names_in, ("y", "h", "c") if kind == "LSTM" else ("y", "h"), attributes), inputs

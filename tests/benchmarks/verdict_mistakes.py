"""Mistakes for the benchmark of the rule: small ones hidden from the description, and the ten that pass a loose tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.errors import PortingError
from porting_check.neutral.node import Node
from porting_check.neutral.trace import Environment, MemorySink, Port, Record, Trace, parameter_key
from porting_check.numerics.precision import BFLOAT16, TF32, Format
from porting_check.numerics.truth import evaluate_node
from tests.benchmarks.verdict_cases import KINDS, Array, Case, Maker, Rng, convolution, drawn, gemm

Inputs = list[Array | None]
Same = Callable[[Array], Array]
CUT = Format("TF32, cut off instead of rounded,", 10, truncated=True)
TWICE = Format("16-bit significand (bfloat16 twice)", 15)


@dataclass(frozen=True)
class Changed:
    """What is computed instead of what is described: another node, other operands, something done to the output."""

    node: Node
    inputs: Inputs
    after: Same = field(default=np.asarray)


Change = Callable[[Case, Rng], Changed | None]


def _rounded(form: Format, *places: int) -> Change:
    def change(case: Case, rng: Rng) -> Changed:
        inputs = list(case.inputs)
        for place in places:
            inputs[place] = form.round(inputs[place]).astype(np.float32)
        return Changed(case.node, inputs)

    return change


def _half_weights(case: Case, rng: Rng) -> Changed:
    inputs = list(case.inputs)
    inputs[1] = inputs[1].astype(np.float16).astype(np.float32)
    return Changed(case.node, inputs)


def _half_output(case: Case, rng: Rng) -> Changed:
    return Changed(case.node, list(case.inputs), lambda y: y.astype(np.float16).astype(y.dtype))


def _no_bias(case: Case, rng: Rng) -> Changed | None:
    if len(case.inputs) < 3:
        return None
    return Changed(case.node, [*case.inputs[:2], np.zeros_like(case.inputs[2])])


def _kernel(how: Same) -> Change:
    def change(case: Case, rng: Rng) -> Changed | None:
        weight = case.inputs[1]
        if weight.ndim != 4 or weight.shape[2] == 1:
            return None
        return Changed(case.node, [case.inputs[0], np.ascontiguousarray(how(weight)), *case.inputs[2:]])

    return change


def _replicate(case: Case, rng: Rng) -> Changed | None:
    pads = case.node.attributes.get("pads", ())
    if not any(pads):
        return None
    rank = len(pads) // 2
    edges = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    wide = np.pad(case.inputs[0], edges, mode="edge")
    return Changed(case.node.edit(pads=(0,) * len(pads)), [wide, *case.inputs[1:]])


def _one_filter(case: Case, rng: Rng) -> Changed:
    weight = case.inputs[1].copy()
    weight[rng.integers(len(weight))] *= np.float32(1.0001)
    return Changed(case.node, [case.inputs[0], weight, *case.inputs[2:]])


def _one_weight(how: Same) -> Change:
    def change(case: Case, rng: Rng) -> Changed:
        weight = case.inputs[1].copy()
        index = np.unravel_index(rng.integers(weight.size), weight.shape)
        weight[index] = how(weight[index])
        return Changed(case.node, [case.inputs[0], weight, *case.inputs[2:]])

    return change


def _one_bias(case: Case, rng: Rng) -> Changed | None:
    if len(case.inputs) < 3:
        return None
    bias = case.inputs[2].copy()
    bias[rng.integers(bias.size)] += np.float32(1e-3)
    return Changed(case.node, [*case.inputs[:2], bias])


def _scaled(factor: float) -> Change:
    return lambda case, rng: Changed(case.node, list(case.inputs), lambda y: (y * factor).astype(y.dtype))


NARROW: Mapping[str, tuple[Change, str]] = {
    "bfloat16 weights": (_rounded(BFLOAT16, 1), "weights rounded to bfloat16"),
    "float16 weights": (_half_weights, "weights rounded to .*float16"),
    "TF32 operands": (_rounded(TF32, 0, 1), "both operands rounded to TF32"),
    "TF32 operands, cut off": (_rounded(CUT, 0, 1), "both operands rounded to TF32, cut off"),
    "16-bit significands": (_rounded(TWICE, 0, 1), "both operands rounded to 16-bit"),
    "float16 output": (_half_output, "results rounded to .*float16"),
}
"""Coarser arithmetic, with the words that name it."""

MISTAKES: Mapping[str, Change] = {
    "bias missing": _no_bias,
    "kernel transposed": _kernel(lambda w: w.swapaxes(2, 3)),
    "kernel flipped": _kernel(lambda w: w[:, :, ::-1, ::-1]),
    "replicate padding": _replicate,
    "one filter x 1.0001": _one_filter,
    "output x (1 + 1e-5)": _scaled(1 + 1e-5),
    "output x (1 - 1e-5)": _scaled(1 - 1e-5),
    "output x (1 + 1e-6)": _scaled(1 + 1e-6),
    "one weight x 1.01": _one_weight(lambda w: w * np.float32(1.01)),
    "one weight + 1000 ulp": _one_weight(lambda w: (w.view(np.int32) + np.int32(1000)).view(np.float32)),
    "one bias + 1e-3": _one_bias,
}
"""Another function than the description says."""

FORMS = ("Conv 3x3", "Conv 5x5", "Conv 7x7/2", "Conv long", "Conv grouped", "Conv 1x1")


def victims(rng: Rng) -> Iterator[Case]:
    """Convolutions and dense layers on the kinds of data in turn, without end."""
    makers: tuple[Maker, ...] = (*map(convolution, FORMS), gemm)
    turn = 0
    while True:
        for place, make in enumerate(makers):
            yield drawn(make, rng, KINDS[(turn + place) % len(KINDS)])
        turn += 1


@dataclass(frozen=True)
class Evil:
    """One of the ten: what the reference computes and what the port computes, each with its own parameters.

    ``made`` is what the port's framework made, where no node says so. ``words``: what the verdict must name, for the decoy
    that is no mistake but coarse arithmetic.
    """

    id: str
    x: Array
    reference: Sequence[Node]
    candidate: Sequence[Node]
    parameters: tuple[Mapping[str, Array], Mapping[str, Array]]
    made: Array | None = None
    words: str = ""


def _float32(**arrays: Array | float) -> dict[str, Array]:
    made = {name: np.asarray(array) for name, array in arrays.items()}
    return {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in made.items()}


def _same(name: str, x: Array, node: Node, edits: Mapping[str, object], **parameters: Array) -> Evil:
    """An attribute that differs."""
    given = _float32(**parameters)
    return Evil(name, x.astype(np.float32), [node], [node.edit(**edits)], (given, given))


def evil(rng: Rng) -> Iterator[Evil]:
    """All ten of the catalogue of mistakes, section 5, at unit variance; ``resize-bicubic-a`` shares its place with another."""
    rows, image = rng.standard_normal((16, 768)), rng.standard_normal((2, 12, 15, 17))
    g, b = rng.uniform(0.5, 1.5, 768), rng.standard_normal(768)
    gain, bias, mean = rng.uniform(0.5, 1.5, 12), rng.standard_normal(12), rng.standard_normal(12)
    layer = Node("LayerNormalization", ("x", "g", "b"), attributes={"axis": -1, "epsilon": 1e-5})
    yield _same("ln-eps", rows, layer, {"epsilon": 1e-6}, g=g, b=b)
    yield _same("gelu-tanh", rows, Node("Gelu", ("x",)), {"approximate": "tanh"})
    batch = Node("BatchNormalization", tuple("xgbmv"), attributes={"epsilon": 1e-3})
    var = rng.uniform(0.8, 1.2, 12)
    yield _same("bn-eps", image, batch, {"epsilon": 1e-5}, g=gain, b=bias, m=mean, v=var)
    yield _formula(rows, g, b)
    yield _running_variance(rng.standard_normal((2, 6, 28, 28)), rng.uniform(0.5, 2, 6))
    group = Node("GroupNormalization", ("x", "g", "b"), attributes={"num_groups": 3, "epsilon": 1e-5})
    yield _same("gn-eps", image, group, {"epsilon": 1e-6}, g=gain, b=bias)
    yield _same(
        "lrn-alpha", image, Node("LRN", ("x",), attributes={"size": 5, "alpha": 1e-3}), {"alpha": 5e-3}
    )
    cubic = {"mode": "cubic", "cubic_coeff_a": -0.5}
    resize = Node("Resize", ("x", "", "", "s"), attributes=cubic)
    yield _same("resize-bicubic-a", image, resize, {"cubic_coeff_a": -0.75}, s=np.array([2, 12, 37, 41]))
    scale = Node("Mul", ("x", "k"))
    pixels = rng.integers(0, 256, (1, 3, 16, 16)).astype(np.float32)
    yield Evil("preprocess-small-scale", pixels, [scale], [scale], (_float32(k=1 / 255), _float32(k=1 / 256)))

    yield _table(rng.standard_normal((1, 3, 12, 14)).astype(np.float32))
    yield _decoy(drawn(convolution("Conv 3x3"), rng, KINDS[0]))


def _table(x: Array) -> Evil:
    """TensorFlow's bicubic resize, which reads its weights from a table of 1024 places."""
    import tensorflow as tf

    size = (31, 33)
    made = tf.raw_ops.ResizeBicubic(images=x.transpose(0, 2, 3, 1), size=size, half_pixel_centers=True)
    form = {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}
    node = Node("Resize", ("x", "", "", "s"), attributes=form)
    given = {"s": np.array([*x.shape[:2], *size])}
    array = np.ascontiguousarray(made.numpy().transpose(0, 3, 1, 2))
    return Evil("resize-bicubic-tf-table", x, [node], [node], (given, given), array)


def _decoy(case: Case) -> Evil:
    """TF32 operands, hidden from the description."""
    x, *rest = case.inputs
    given = dict(zip(case.node.inputs[1:], rest, strict=True))
    wide = [TF32.round(x), TF32.round(rest[0]), *(bias.astype(np.float64) for bias in rest[1:])]
    made = evaluate_node(case.node, wide)[0].astype(np.float32)
    return Evil("tf32", x, [case.node], [case.node], (given, given), made, "both operands rounded to TF32")


def _formula(rows: Array, g: Array, b: Array) -> Evil:
    """The deviation with one degree of freedom less, epsilon outside of the root."""
    chain = [
        Node("ReduceMean", ("x", "a"), ("m",), {"keepdims": 1}),
        Node("Sub", ("x", "m"), ("c",)),
        Node("Mul", ("c", "c"), ("q",)),
        Node("ReduceSum", ("q", "a"), ("t",), {"keepdims": 1}),
        Node("Mul", ("t", "k"), ("v",)),
        Node("Sqrt", ("v",), ("d",)),
        Node("Add", ("d", "e"), ("o",)),
        Node("Div", ("c", "o"), ("n",)),
        Node("Mul", ("n", "g"), ("w",)),
        Node("Add", ("w", "b"), ("y",)),
    ]
    layer = Node("LayerNormalization", ("x", "g", "b"), attributes={"axis": -1, "epsilon": 1e-6})
    ours = _float32(g=g, b=b)
    theirs = {**ours, **_float32(a=np.array([-1]), k=1 / 767, e=1e-6)}
    return Evil("ln-std-formula", rows.astype(np.float32), [layer], chain, (ours, theirs))


def _running_variance(x: Array, old: Array) -> Evil:
    """The running variance after one training step: the batch's own, biased or not."""
    chain = [
        Node("ReduceMean", ("x", "a"), ("m",), {"keepdims": 1}),
        Node("Sub", ("x", "m"), ("c",)),
        Node("Mul", ("c", "c"), ("q",)),
        Node("ReduceMean", ("q", "a"), ("v",), {"keepdims": 1}),
        Node("Mul", ("v", "k"), ("n",)),
        Node("Add", ("n", "o"), ("y",)),
    ]
    count = x[:, 0].size
    shared = _float32(a=np.array([0, 2, 3]), o=0.9 * old.reshape(1, -1, 1, 1))
    sides = tuple({**shared, **_float32(k=0.1 * factor)} for factor in (1.0, count / (count - 1)))
    return Evil("bn-unbiased-var", x.astype(np.float32), chain, chain, (sides[0], sides[1]))


def recorded(
    adapters: Sequence[Adapter],
    nodes: Sequence[Node],
    x: Array,
    parameters: Mapping[str, Array],
    made: Array | None = None,
) -> Trace:
    """One layer of these nodes, run by the first framework that can, as it would have been recorded; or ``made`` itself."""
    if made is not None:
        return _trace(adapters[0].framework, nodes, x, parameters, made)
    for adapter in adapters:
        held: dict[str, Array] = {"x": x, **parameters}
        try:
            for node in nodes:
                found = adapter.run(node, [held[name] if name else None for name in node.inputs])
                held.update(zip(node.outputs, found, strict=False))
        except PortingError:
            continue
        return _trace(adapter.framework, nodes, x, parameters, held["y"])
    raise AssertionError(f"no framework runs {nodes}")


def _trace(
    framework: str, nodes: Sequence[Node], x: Array, parameters: Mapping[str, Array], y: Array
) -> Trace:
    sink, layout = MemorySink(), "NCHW" if x.ndim == 4 else ""
    sink.value("input:0", x)
    sink.value("layer:0", y)
    sink.input(Port("0", "input:0", layout))
    ports = [Port(name, parameter_key(f"layer.{name}")) for name in parameters]
    for port, array in zip(ports, parameters.values(), strict=True):
        sink.value(port.value, array)
    into, out = Port("x", "input:0", layout, layout), Port("y", "layer:0", layout, layout)
    sink.record(Record("layer", 0, "layer", (into,), (out,), tuple(ports), tuple(nodes)))
    sink.output(Port("0", "layer:0"))
    return sink.trace(framework, Environment(framework, {framework: "0"}))

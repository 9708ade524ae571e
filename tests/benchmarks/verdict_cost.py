"""What the judgement of a layer costs, in float32 evaluations of that layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from porting_check.neutral.adapter import Adapter
from porting_check.neutral.node import Node
from porting_check.numerics.excess import settled
from porting_check.numerics.spread import bounds_of
from porting_check.numerics.truth import evaluate_node

Array = np.ndarray

UNIT = 2.0**-24


def _normal(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def layers() -> Mapping[str, tuple[Node, list[Array]]]:
    """Layers of the sizes that networks have."""
    conv = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    x = (1, 64, 56, 56)
    return {
        "Conv 3x3 64": (Node("Conv", ("x", "w"), attributes=conv), _normal(x, (64, 64, 3, 3))),
        "Conv 1x1 256": (Node("Conv", ("x", "w")), _normal((1, 256, 28, 28), (256, 256, 1, 1))),
        "Conv 7x7/2": (
            Node("Conv", ("x", "w"), attributes={"strides": (2, 2), "pads": (3, 3, 3, 3)}),
            _normal((1, 3, 224, 224), (64, 3, 7, 7)),
        ),
        "Conv depthwise": (
            Node("Conv", ("x", "w"), attributes={**conv, "group": 64}),
            _normal(x, (64, 1, 3, 3)),
        ),
        "Gemm": (Node("Gemm", ("x", "w"), attributes={"transB": 1}), _normal((64, 1024), (1024, 1024))),
        "MatMul": (Node("MatMul", ("x", "w")), _normal((8, 128, 512), (512, 512))),
        "AveragePool": (
            Node("AveragePool", ("x",), attributes={"kernel_shape": (2, 2), "strides": (2, 2)}),
            _normal(x),
        ),
        "BatchNormalization": (
            Node("BatchNormalization", tuple("xgbmv")),
            [*_normal(x, (64,), (64,), (64,)), np.ones(64, np.float32)],
        ),
        "LayerNormalization": (
            Node("LayerNormalization", ("x", "g", "b")),
            _normal((256, 768), (768,), (768,)),
        ),
        "Softmax": (Node("Softmax", ("x",)), _normal((8, 12, 64, 64))),
        "Gelu": (Node("Gelu", ("x",)), _normal((256, 768))),
        "Add": (Node("Add", ("x", "w")), _normal(x, x)),
        "Relu": (Node("Relu", ("x",)), _normal(x)),
    }


def least(function: Callable[[], object], repeat: int) -> float:
    """Least CPU time of a function."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def costs(adapter: Adapter, repeat: int = 5) -> dict[str, tuple[float, float]]:
    """By layer, the judgement's time over that of one float32 evaluation: by this package, and by a framework."""
    found = {}
    for name, (node, inputs) in layers().items():
        native = adapter.run(node, inputs)[0]

        def judge(node: Node = node, inputs: list[Array] = inputs, native: Array = native) -> None:
            wide = [x.astype(np.float64) for x in inputs]
            truth = evaluate_node(node, wide)
            bounds = bounds_of(node, wide, [None] * len(wide), truth, UNIT)
            assert settled(node, inputs, native, truth[0], bounds[0]).good

        def again(node: Node = node, inputs: list[Array] = inputs) -> None:
            evaluate_node(node, inputs, dtype=None)

        def run(node: Node = node, inputs: list[Array] = inputs) -> None:
            adapter.run(node, inputs)

        own = least(judge, repeat)
        found[name] = own / max(least(again, repeat), 1e-6), own / max(least(run, repeat), 1e-6)
    return found

"""ONNX Runtime under the conformance suite."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper

from porting_check.neutral.node import Node
from porting_check.testing import AdapterContract, DescribeContract, Example, Layer, RunContract
from porting_check.testing.strategies import (
    Geometry,
    geometries,
    matrix_products,
    recurrent_layers,
    resizes,
    transposed_convolutions,
)
from tests.adapters.onnx_graphs import graph_model, noise

NODE = helper.make_node
X = noise(2, 6)
IMAGE = noise(2, 3, 9, 8)


def mlp() -> Any:
    weights = {
        "w1": noise(8, 6, seed=1),
        "b1": noise(8, seed=2),
        "s": noise(8, seed=3),
        "w2": noise(8, 3, seed=4),
    }
    nodes = [
        NODE("Gemm", ["x", "w1", "b1"], ["a"], name="fc1", transB=1),
        NODE("Relu", ["a"], ["b"], name="act"),
        NODE("LayerNormalization", ["b", "s"], ["c"], name="norm"),
        NODE("MatMul", ["c", "w2"], ["y"], name="fc2"),
    ]
    return graph_model(nodes, {"x": X}, ["y"], weights)


def network() -> Any:
    weights = {"w": noise(4, 3, 3, 3, seed=1), "b": noise(4, seed=2), "v": np.abs(noise(4, seed=3)) + 1}
    nodes = [
        NODE("Conv", ["x", "w", "b"], ["a"], name="conv", strides=[2, 2], auto_pad="SAME_UPPER"),
        NODE("BatchNormalization", ["a", "b", "b", "b", "v"], ["n"], name="norm"),
        NODE("MaxPool", ["n"], ["p"], name="pool", kernel_shape=[2, 2]),
        NODE("Flatten", ["p"], ["y"], name="flat"),
    ]
    return graph_model(nodes, {"x": IMAGE}, ["y"], weights)


def looped() -> Any:
    """Two steps of a loop."""
    names = ("i", TensorProto.INT64), ("c", TensorProto.BOOL), ("v", TensorProto.FLOAT)
    given = [helper.make_tensor_value_info(name, kind, [2, 6] if name == "v" else []) for name, kind in names]
    out = [
        helper.make_tensor_value_info("d", TensorProto.BOOL, None),
        helper.make_tensor_value_info("u", TensorProto.FLOAT, None),
    ]
    steps = [NODE("Identity", ["c"], ["d"]), NODE("Add", ["v", "v"], ["u"])]
    body = helper.make_graph(steps, "body", given, out)
    nodes = [
        NODE("Relu", ["x"], ["a"], name="act"),
        NODE("Loop", ["n", "", "a"], ["y"], name="loop", body=body),
    ]
    return graph_model(nodes, {"x": X}, ["y"], {"n": np.array(2)})


def noisy() -> Any:
    nodes = [NODE("RandomNormalLike", ["x"], ["r"], name="draw"), NODE("Add", ["x", "r"], ["y"], name="add")]
    return graph_model(nodes, {"x": X}, ["y"])


def broken() -> Any:
    nodes = [
        NODE("Relu", ["x"], ["a"], name="first"),
        NODE("NonZero", ["a"], ["places"], name="places"),
        NODE("Reshape", ["places", "s"], ["y"], name="inner"),
    ]
    return graph_model(nodes, {"x": X}, ["y"], {"s": np.array([1, 7919])})


def moved(dtype: str) -> Example:
    x = np.arange(12).reshape(2, 6).astype(getattr(ml_dtypes, dtype))
    nodes = [NODE("Reshape", ["x", "s"], ["y"], name="reshape")]
    build = lambda: graph_model(nodes, {"x": x}, ["y"], {"s": np.array([3, 4])}, opset=21, ir=10)  # noqa: E731
    return Example(dtype, "narrow", build, {"x": x}, outputs=("y",))


class TestRecording(AdapterContract):
    framework = "onnxruntime"
    lacks = {  # noqa: RUF012
        "in-place": "values of a graph are written once",
        "repeated": "every node of a graph has a name of its own and runs once, inside of functions too",
        "nested": "outputs of a graph are a flat list of tensors",
        "stateful": "a graph keeps nothing between runs",
        "training": "a file says itself what it computes; nodes in training mode are opaque",
    }

    def examples(self):
        y = ("y",)
        return [
            Example("mlp", "plain", mlp, {"x": X}, ("fc1", "act", "norm", "fc2"), outputs=y),
            Example("network", "plain", network, {"x": IMAGE}, ("conv", "norm", "pool", "flat"), outputs=y),
            Example("loop", "opaque", looped, {"x": X}, outputs=y, reasons={"loop": "control flow"}),
            Example("noisy", "random", noisy, {"x": X}, outputs=y, reasons={"draw": "random"}),
            Example("broken", "raises", broken, {"x": X}, fails_in="inner"),
            *map(moved, ("bfloat16", "float8_e4m3fn", "float8_e5m2")),
        ]

    def modes(self):
        return None  # the environment tells of the model that was run last

    def state(self, model):
        return model.SerializeToString(deterministic=True)


class TestRun(RunContract):
    framework = "onnxruntime"
    refuses = "it has kernels for few types, and no dilation with auto_pad"
    narrow_gaps = {  # noqa: RUF012
        "int8": frozenset({"CumSum", "MatMul"}),
        "int16": frozenset({"ArgMax", "CumSum", "MatMul", "Max"}),
        "uint8": frozenset({"CumSum", "MatMul"}),
        "uint16": frozenset({"ArgMax", "CumSum", "MatMul", "Max"}),
        "uint32": frozenset({"ArgMax", "CumSum"}),
        "uint64": frozenset({"ArgMax", "CumSum"}),
    }


def alone(node: Node, *arrays: Any, fed: int = 1, opset: int = 24) -> Layer:
    """A graph of one node; the first ``fed`` arrays are inputs, the others weights."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    held = {name: np.asarray(array) for name, array in zip(names, arrays) if name}
    inputs = {name: held.pop(name) for name in names[:fed]}
    outputs = [name for name in node.outputs if name]
    made = NODE(node.op_type, names, list(node.outputs), name="layer", **node.attributes)
    return Layer(lambda: graph_model([made], inputs, outputs, held, opset=opset, ir=10), inputs, str(node))


def larger(g: Geometry) -> np.ndarray:
    return noise(g.batch, g.channels, *(n + 1 for n in g.sizes))


def within(g: Geometry) -> tuple[int, ...]:
    """Strides no larger than the kernel: with auto_pad ONNX Runtime finds negative padding for others."""
    return tuple(map(min, g.kernel, g.stride))


def convolution(g: Geometry) -> Layer:
    attributes: dict[str, Any] = {"strides": g.stride, "group": g.groups}
    if g.padding == "same" and max(g.dilation) > 1:
        attributes |= {"dilations": g.dilation, "pads": tuple(k // 2 for k in g.kernel) + (1,) * g.rank}
    elif g.padding == "same":
        attributes |= {"auto_pad": ("SAME_LOWER", "SAME_UPPER")[g.batch - 1], "strides": within(g)}
    weights = noise(g.filters, g.channels // g.groups, *g.kernel, seed=1), noise(g.filters, seed=2)
    return alone(Node("Conv", (), attributes=attributes), larger(g), *weights[: 1 + g.bias])


def pool(g: Geometry, kind: str, ceil: bool) -> Layer:
    attributes: dict[str, Any] = {"kernel_shape": g.kernel, "strides": g.stride}
    if g.padding == "same":
        attributes |= {"auto_pad": "SAME_UPPER", "strides": within(g)}
    else:
        attributes |= {"pads": tuple(k // 2 for k in g.kernel * 2), "ceil_mode": int(ceil)}
    if kind == "AveragePool":
        attributes["count_include_pad"] = int(g.bias)
    return alone(Node(kind, (), attributes=attributes), larger(g))


def normalization(g: Geometry, kind: str) -> Layer:
    (c, *sizes), x = larger(g).shape[1:], larger(g)
    vectors = [noise(c, seed=i) for i in range(3)]
    attributes, weights = {
        "BatchNormalization": ({"epsilon": 1e-3}, [*vectors, np.abs(noise(c, seed=4)) + 0.5]),
        "InstanceNormalization": ({"epsilon": 1e-3}, vectors[:2]),
        "GroupNormalization": ({"num_groups": g.groups, "epsilon": 1e-3}, vectors[:2]),
        "LayerNormalization": ({"axis": 2, "epsilon": 1e-3}, [noise(*sizes, seed=5), noise(*sizes, seed=6)]),
    }[kind]
    return alone(Node(kind, (), attributes=attributes), x, *weights, opset=21)


def resized(found: tuple[Node, tuple[int, ...], list[int]]) -> Layer:
    node, shape, sizes = found
    return alone(node, noise(*shape), None, None, np.array(sizes))


def product(found: tuple[Node, list[Any]]) -> Layer:
    node, shapes = found
    return alone(node, *(noise(*shape, seed=i) for i, shape in enumerate(shapes)))


def recurrent(found: tuple[Node, list[Any]]) -> Layer:
    node, arrays = found
    return alone(node, *arrays)


def transposed(found: tuple[Node, list[Any]]) -> Layer:
    node, shapes = found
    return alone(node, *(noise(*shape, seed=i) for i, shape in enumerate(shapes)))


def growable(found: tuple[Node, Any]) -> bool:
    """A growth below the stride: ONNX Runtime refuses others."""
    given = found[0].attributes
    return all(grow < stride for grow, stride in zip(given["output_padding"], given["strides"]))


def resizable(found: tuple[Node, tuple[int, ...], list[int]]) -> bool:
    """The cubic kernel and antialiasing exist in the plane only, and neighbours are left out by the two of them only."""
    given, plane = found[0].attributes, len(found[1]) == 4
    special = given["mode"] == "cubic" or bool(given.get("antialias"))
    return plane if special else not given.get("exclude_outside")


FUNCTIONS = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Mish",
    "Tanh", "Softplus", "Softsign", "Softmax", "LogSoftmax", "Exp", "Erf", "Abs", "Neg", "Flatten",
    "Identity", "Dropout", "GlobalAveragePool", "GlobalMaxPool",
)  # fmt: skip


class TestDescribe(DescribeContract):
    framework = "onnxruntime"

    def layers(self):
        flat, whole = geometries(groups=(1,)), geometries()
        norms = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization")
        # batch-first layers are refused, and with clip its kernels do not clip the state before the last activation
        plain = recurrent_layers().filter(
            lambda f: not f[0].attributes["layout"] and "clip" not in f[0].attributes
        )
        return {
            "Conv": whole.map(convolution),
            "ConvTranspose": transposed_convolutions().filter(growable).map(transposed),
            "MaxPool": st.builds(pool, flat, st.just("MaxPool"), st.booleans()),
            "AveragePool": st.builds(pool, flat, st.just("AveragePool"), st.booleans()),
            **{kind: whole.map(lambda g, kind=kind: normalization(g, kind)) for kind in norms},
            "Resize": resizes().filter(resizable).map(resized),
            "MatMul": matrix_products().map(product),
            "recurrent": plain.map(recurrent),
            "functions": st.sampled_from(FUNCTIONS).map(
                lambda name: alone(Node(name, ()), noise(2, 3, 4, 5))
            ),
        }

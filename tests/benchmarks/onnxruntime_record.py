"""Recording an ONNX ResNet50 with every value exposed beside a plain run of the same session options.

Usage: python tests/benchmarks/onnxruntime_record.py
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import onnx
from onnx import helper, numpy_helper
from porting_check_onnxruntime import OnnxRuntimeAdapter
from porting_check_onnxruntime.branches import opened
from porting_check_onnxruntime.exposure import Exposed
from porting_check_onnxruntime.prepared import prepare
from porting_check_onnxruntime.session import Session

from porting_check.neutral.trace import MemorySink

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


class Builder:
    """Grows a graph: each method adds nodes and gives the name of their output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        """A new weight, scaled to its fan-in."""
        scale = 1.0 / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 1.0)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array((self._rng.random(shape) * scale).astype("f4"), name))
        return name

    def node(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """A node with one output."""
        name = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        """A convolution and its normalisation."""
        y = self.node(
            "Conv",
            x,
            self.weight(outputs, inputs, kernel, kernel),
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
        )
        return self.node("BatchNormalization", y, *(self.weight(outputs) for _ in range(4)))

    def block(self, x: str, inputs: int, channels: int, stride: int) -> str:
        """A bottleneck."""
        y = self.node("Relu", self.conv(x, inputs, channels, 1))
        y = self.node("Relu", self.conv(y, channels, channels, 3, stride))
        y = self.conv(y, channels, 4 * channels, 1)
        if inputs != 4 * channels or stride > 1:
            x = self.conv(x, inputs, 4 * channels, 1, stride)
        return self.node("Relu", self.node("Add", x, y))


def resnet50() -> onnx.ModelProto:
    """ResNet50 in ONNX."""
    b = Builder()
    x = b.node("Relu", b.conv("x", 3, 64, 7, 2))
    x, inputs = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 64
    for channels, blocks, stride in STAGES:
        for index in range(blocks):
            x, inputs = b.block(x, inputs, channels, 1 if index else stride), 4 * channels
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    y = b.node("Softmax", b.node("Gemm", x, b.weight(1000, 2048), b.weight(1000), transB=1))
    ends = [helper.make_tensor_value_info("x", 1, [1, 3, 224, 224])]
    graph = helper.make_graph(b.nodes, "resnet50", ends, [onnx.ValueInfoProto(name=y)], b.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seconds(action: object) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - start


def main(runs: int = 7) -> None:
    """Measure in turns, print medians and ratios."""
    model, adapter = resnet50(), OnnxRuntimeAdapter()
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype("f4")}
    prepared = prepare(adapter_model(model))
    plain = Session(prepared.proto, prepared.heavy, prepared.folder)
    exposed = Exposed(opened(prepared, feeds), prepared.heavy, prepared.folder)
    names = list(plain.outputs)
    rows: dict[str, list[float]] = {
        "plain run": [],
        "run with all values": [],
        "predict (open and run)": [],
        "record (open, run, record)": [],
    }
    plain.run(names, feeds)
    for _ in range(runs):
        rows["plain run"].append(seconds(lambda: plain.run(names, feeds)))
        rows["run with all values"].append(seconds(lambda: exposed.run(feeds)))
        rows["predict (open and run)"].append(seconds(lambda: adapter.predict(model, feeds)))
        rows["record (open, run, record)"].append(seconds(lambda: adapter.record(model, feeds, MemorySink())))
    medians = {name: statistics.median(times) for name, times in rows.items()}
    print(f"ResNet50 at 224x224, {len(model.graph.node)} nodes, optimisation disabled, median of {runs}")
    for name, base in zip(medians, ["plain run"] * 2 + ["predict (open and run)"] * 2, strict=True):
        print(f"{name:30s} {medians[name]:7.3f} s   ratio {medians[name] / medians[base]:.2f}")
    print(
        f"record beside a plain run alone            ratio {medians['record (open, run, record)'] / medians['plain run']:.2f}"
    )


def adapter_model(proto: onnx.ModelProto) -> object:
    """The model with nothing optimised."""
    from porting_check_onnxruntime.model import OnnxModel

    return OnnxModel(proto, optimization="disabled")


if __name__ == "__main__":
    main()

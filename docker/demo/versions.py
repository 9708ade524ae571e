"""One network in every framework, with the layers whose kernels change between versions. For ``porting-check matrix``.

    porting-check matrix docker/demo/versions.py:torch_model --inputs image.npy --images docker/matrix.toml -f torch

Initial weights are drawn by each framework and differ between its versions; the first version's are put into the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE, CLASSES = 32, 10


def torch_model() -> Any:
    """A residual network with an LSTM behind it; NCHW."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pool = nn.Conv2d(3, 16, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1)
            self.layer1, self.layer2 = Block(16), Block(16)
            self.norm, self.lstm = nn.LayerNorm(16), nn.LSTM(16, 12, batch_first=True)
            self.head = nn.Linear(12, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layer2(self.layer1(self.pool(self.stem(x))))
            x = nn.functional.gelu(self.norm(x.flatten(2).transpose(1, 2)))
            return torch.softmax(self.head(self.lstm(x)[0][:, -1]), -1)

    return Network().eval()


def tensorflow_model() -> Any:
    """A separable convolution network in Keras; NHWC."""
    import tensorflow as tf

    keras, layers = tf.keras, tf.keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")(image)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.Activation("relu", name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(16, 1, activation="sigmoid", name="conv2")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(CLASSES, name="dense")(x)
    return keras.Model(image, layers.Softmax(name="softmax")(x))


def jax_model() -> Any:
    """A Flax network and its variables; NHWC."""
    import jax
    from flax import linen

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.Conv(8, (3, 3), strides=2, name="conv1")(x)
            x = linen.gelu(linen.GroupNorm(num_groups=4, name="norm1")(x))
            x = linen.relu(linen.Conv(16, (3, 3), name="conv2")(x)).mean(axis=(1, 2))
            return linen.softmax(linen.Dense(CLASSES, name="dense")(x))

    network = Network()
    return network, network.init(jax.random.PRNGKey(0), np.zeros((1, SIZE, SIZE, 3), np.float32))


def onnxruntime_model() -> Any:
    """An ONNX model with weights of its own; NCHW."""
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.RandomState(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "wd": (16, CLASSES), "bd": (CLASSES,)}
    weights = {name: draw.uniform(-0.3, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    weights.update(
        {name: draw.uniform(0.5, 1.5, 8).astype(np.float32) for name in ("scale", "mean", "var", "shift")}
    )
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"], "bn1"),
        helper.make_node("Relu", ["n1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c2"], ["s2"], "sigmoid"),
        helper.make_node("Mul", ["c2", "s2"], ["m2"], "mul"),
        helper.make_node("GlobalAveragePool", ["m2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "wd", "bd"], ["g"], "dense"),
        helper.make_node("Softmax", ["g"], ["y"], "softmax", axis=1),
    ]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, CLASSES])],
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "versions", *ends, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)

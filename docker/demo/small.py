"""One small network in every framework, for trying an image: convolution, bias, ReLU, max pooling. Any version of the matrix.

python porting-check-recorder.pyz record small.py:torch_model --inputs nchw.npy --out out.trace
"""

from __future__ import annotations

from typing import Any

import numpy as np

INPUT_NHWC = (1, 16, 16, 3)
KERNEL = np.random.RandomState(1).uniform(-1, 1, (3, 3, 3, 8)).astype(np.float32)
BIAS = np.random.RandomState(2).uniform(-1, 1, 8).astype(np.float32)


def image() -> np.ndarray:
    """The input, NHWC."""
    return np.random.RandomState(3).uniform(-1, 1, INPUT_NHWC).astype(np.float32)


def torch_model() -> Any:
    """A module; NCHW."""
    import torch
    from torch import nn

    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    with torch.no_grad():
        network[0].weight.copy_(torch.from_numpy(KERNEL.transpose(3, 2, 0, 1).copy()))
        network[0].bias.copy_(torch.from_numpy(BIAS))
    return network.eval()


def tensorflow_model() -> Any:
    """A Keras model; NHWC."""
    from tensorflow import keras

    layers = [
        keras.layers.Conv2D(8, 3, activation="relu", input_shape=INPUT_NHWC[1:]),
        keras.layers.MaxPooling2D(2),
    ]
    network = keras.Sequential(layers)
    network.build((None, *INPUT_NHWC[1:]))
    network.set_weights([KERNEL, BIAS])
    return network


def jax_model() -> Any:
    """A Flax module and its variables; NHWC."""
    from flax import linen

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.relu(linen.Conv(8, (3, 3), padding="VALID")(x))
            return linen.max_pool(x, (2, 2), strides=(2, 2))

    return Network(), {"params": {"Conv_0": {"kernel": KERNEL, "bias": BIAS}}}


def onnxruntime_model() -> Any:
    """An ONNX model; NCHW."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    weights = [
        numpy_helper.from_array(KERNEL.transpose(3, 2, 0, 1).copy(), "w"),
        numpy_helper.from_array(BIAS, "b"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 7, 7])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)

"""The references, in Keras with any TensorFlow from 2.0: the founding question's convolution, and a trained network."""

from __future__ import annotations

import os

import numpy as np
from tensorflow import keras

HERE = os.path.dirname(os.path.abspath(__file__))
WEIGHTS = os.environ.get("WEIGHTS", "weights.npz")


def conv() -> keras.Model:
    """(N, 16, 32, 256) to (N, 8, 16, 512): 5x5, stride 2, "same", float32."""
    with np.load(WEIGHTS) as weights:
        kernel, bias = weights["kernel"], weights["bias"]
    size, _, in_channels, out_channels = kernel.shape
    inputs = keras.Input((16, 32, in_channels))
    layer = keras.layers.Conv2D(out_channels, size, strides=2, padding="same", name="conv")
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([kernel, bias])
    return model


def pnet() -> keras.Model:
    """MTCNN's proposal network with its trained weights: (N, H, W, 3) to boxes (N, h, w, 4) and faces (N, h, w, 2)."""
    layers = keras.layers
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(10, 3, name="conv1")(inputs)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu1")(x)
    x = layers.MaxPooling2D(2, 2, padding="same", name="pool1")(x)
    x = layers.Conv2D(16, 3, name="conv2")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu2")(x)
    x = layers.Conv2D(32, 3, name="conv3")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu3")(x)
    boxes = layers.Conv2D(4, 1, name="conv4-1")(x)
    faces = layers.Conv2D(2, 1, activation="softmax", name="conv4-2")(x)
    model = keras.Model(inputs, [boxes, faces])
    with np.load(os.path.join(HERE, "pnet.npz")) as weights:
        for layer in model.layers:
            names = [f"{layer.name}/{kind}" for kind in ("kernel", "bias", "alpha")]
            layer.set_weights([weights[name] for name in names if name in weights.files])
    return model

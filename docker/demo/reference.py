"""The reference: a Keras convolution, 5x5, 256 to 512 channels, stride 2, "same", in float32. Any TensorFlow from 2.0."""

from __future__ import annotations

import os

import numpy as np
from tensorflow import keras

WEIGHTS = os.environ.get("WEIGHTS", "weights.npz")


def conv() -> keras.Model:
    """(N, 16, 32, 256) to (N, 8, 16, 512)."""
    with np.load(WEIGHTS) as weights:
        kernel, bias = weights["kernel"], weights["bias"]
    size, _, in_channels, out_channels = kernel.shape
    inputs = keras.Input((16, 32, in_channels))
    layer = keras.layers.Conv2D(out_channels, size, strides=2, padding="same", name="conv")
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([kernel, bias])
    return model

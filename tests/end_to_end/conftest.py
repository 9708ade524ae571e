"""A user's folder: a small Keras model, its PyTorch port as a file, and the same port with mistakes."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

KERAS = """
    import keras

    def build():
        keras.utils.set_random_seed(3)
        layers = keras.layers
        return keras.Sequential([
            keras.Input((16, 20, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv1"),
            layers.BatchNormalization(name="bn"),
            layers.Conv2D(4, 3, padding="same", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(5, activation="softmax", name="dense"),
        ])
"""

TORCH = """
    import torch
    from torch import nn
    import torch.nn.functional as F

    class Port(nn.Module):
        def __init__(self, pad=(0, 1, 0, 1), eps=1e-3):
            super().__init__()
            self.pad = pad
            self.conv1 = nn.Conv2d(3, 6, 3, stride=2)
            self.bn = nn.BatchNorm2d(6, eps=eps)
            self.conv2 = nn.Conv2d(6, 4, 3, padding=1)
            self.dense = nn.Linear(8 * 10 * 4, 5)

        def forward(self, x):
            x = self.bn(F.relu(self.conv1(F.pad(x, self.pad))))
            x = self.conv2(x).permute(0, 2, 3, 1).flatten(1)
            return F.softmax(self.dense(x), dim=-1)

    def build():
        return Port().eval()

    def wrong_padding():
        return Port(pad=(1, 1, 1, 1)).eval()

    def wrong_epsilon():
        return Port(eps=1e-5).eval()

    def in_training():
        return Port().train()

    def raises():
        raise ValueError("no such weights: 12")

    def wrong_shape():
        return nn.Linear(7, 2).eval()

    def not_a_model():
        return 3

    def empty():
        return nn.Sequential()
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a user who ports a model."""
    path = tmp_path_factory.mktemp("user")
    (path / "reference.py").write_text(textwrap.dedent(KERAS))
    (path / "port.py").write_text(textwrap.dedent(TORCH))
    rng = np.random.default_rng(0)
    np.save(path / "image.npy", rng.standard_normal((2, 16, 20, 3)).astype("f4"))
    np.save(path / "wrong_shape.npy", np.zeros((2, 16, 20, 4), "f4"))
    np.save(path / "wrong_kind.npy", np.array(["text"]))
    np.save(path / "nan.npy", np.full((2, 16, 20, 3), np.nan, "f4"))
    (path / "damaged.npy").write_bytes(b"\\x93NUMPY nonsense")
    (path / "damaged.keras").write_bytes(b"PK nonsense")
    (path / "model.xyz").write_bytes(b"")
    (path / "pickle.pt").write_bytes(b"\\x80\\x02}q\\x00.")
    return path

"""The candidates: the same convolution and the same network in PyTorch 1.9 or newer, and each with a planted mistake."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = os.path.dirname(os.path.abspath(__file__))
WEIGHTS = os.environ.get("WEIGHTS", "weights.npz")


class PaddedConv(nn.Module):
    """(N, 256, 16, 32) to (N, 512, 8, 16), computed in the type of the weights."""

    def __init__(self, pads: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        super().__init__()
        with np.load(WEIGHTS) as weights:
            kernel, bias = weights["kernel"], weights["bias"]
        size, _, in_channels, out_channels = kernel.shape
        self.pads = pads  # left, right, top, bottom
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride=2, dtype=dtype)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(kernel).permute(3, 2, 0, 1))
            self.conv.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad, then convolve."""
        return self.conv(functional.pad(x.to(self.conv.weight.dtype), self.pads))


def conv() -> nn.Module:
    """Padded as TensorFlow pads, in float64, as the question had it."""
    return PaddedConv((1, 2, 1, 2), torch.float64).eval()


def conv_float32() -> nn.Module:
    """Padded as TensorFlow pads, in float32, like the reference."""
    return PaddedConv((1, 2, 1, 2), torch.float32).eval()


def conv_wrong_padding() -> nn.Module:
    """Mistake: the larger half of the padding comes before the data."""
    return PaddedConv((2, 1, 2, 1), torch.float32).eval()


class PNet(nn.Module):
    """(N, 3, H, W) to boxes (N, 4, h, w) and faces (N, 2, h, w); even heights and widths after ``conv1`` go without padding."""

    def __init__(self, pads: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.pads = pads  # left, right, top, bottom: of "same" for the size that pool1 sees
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)
        with np.load(os.path.join(HERE, "pnet.npz")) as weights:
            values = {name.replace("-", "_"): torch.from_numpy(weights[name]) for name in weights.files}
        self.load_state_dict(dict(_translated(name, value) for name, value in values.items()))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes, and the probabilities of no face and of a face."""
        x = self.prelu1(self.conv1(x))
        x = self.pool1(functional.pad(x, self.pads, value=float("-inf")))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x), torch.softmax(self.conv4_2(x), dim=1)


def _translated(name: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """A Keras weight under PyTorch's name; Keras keeps kernels as (height, width, in, out)."""
    layer, kind = name.split("/")
    if kind == "kernel":
        return f"{layer}.weight", value.permute(3, 2, 0, 1)
    return f"{layer}.{'bias' if kind == 'bias' else 'weight'}", value.flatten()


def pnet() -> nn.Module:
    """Padded as TensorFlow pads the 45x59 values of ``pool1``: one row and one column after the data."""
    return PNet((0, 1, 0, 1)).eval()


def pnet_wrong_padding() -> nn.Module:
    """Mistake: the row and the column come before the data; the shapes are right."""
    return PNet((1, 0, 1, 0)).eval()

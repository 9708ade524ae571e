"""The candidates: the same convolution in PyTorch, behind explicit padding. PyTorch 1.9 or newer."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

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

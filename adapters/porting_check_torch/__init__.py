"""The PyTorch adapter of porting-check."""

from __future__ import annotations

from porting_check_torch.adapter import TorchAdapter

__all__ = ["TorchAdapter"]

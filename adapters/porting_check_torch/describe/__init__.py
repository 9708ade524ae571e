"""What torch functions compute, as nodes: one describer per function, one file per family."""

from __future__ import annotations

from porting_check_torch.describe import (
    activation,
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    linear,
    movement,
    normalization,
    pooling,
    recurrent,
    reduction,
    resampling,
)
from porting_check_torch.describe.draft import Description, Draft, Ref, Undescribed
from porting_check_torch.describe.table import Function, function_of

__all__ = [
    "Description",
    "Draft",
    "Function",
    "Ref",
    "Undescribed",
    "activation",
    "attention",
    "convolution",
    "creation",
    "elementwise",
    "function_of",
    "indexing",
    "linear",
    "movement",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "resampling",
]

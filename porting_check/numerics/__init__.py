"""Numbers about tensors: their difference, and the float64 truth of the nodes that made them."""

from __future__ import annotations

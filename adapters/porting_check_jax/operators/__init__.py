"""What JAX's primitives compute, as nodes: one describer per primitive, one file per family."""

from __future__ import annotations

from porting_check_jax.operators import (  # noqa: F401 - importing a family enters it into the table
    convolution,
    elementwise,
    indexing,
    linear,
    movement,
    pooling,
    reduction,
)
from porting_check_jax.operators.table import STRETCHING, TABLE

__all__ = ["PASS_THROUGH", "STRETCHING", "TABLE"]

PASS_THROUGH = frozenset(
    "copy copy_p optimization_barrier pvary pbroadcast sharding_constraint device_put stop_gradient name "
    "mesh_cast reshard layout_constraint stage".split()
)
"""Primitives whose output i is input i; they need no record of their own."""

"""The JAX adapter of porting-check: plain functions, flax linen, flax nnx and equinox."""

from __future__ import annotations

from porting_check_jax.adapter import JaxAdapter

__all__ = ["JaxAdapter"]

"""Layers of equinox that are described as a whole, by kind.

Left to the operators they execute: Lambda, MLP, Pool and AdaptivePool with an operation of the user's own,
RotaryPositionalEmbedding, SpectralNorm, WeightNorm, Sequential.
"""

from __future__ import annotations

from typing import Dict

from porting_check_jax import layers_activation as activation
from porting_check_jax import layers_attention as attention
from porting_check_jax import layers_convolution as convolution
from porting_check_jax import layers_linear as linear
from porting_check_jax import layers_normalization as normalization
from porting_check_jax import layers_pooling as pooling
from porting_check_jax import layers_recurrent as recurrent
from porting_check_jax.layers import LayerDescriber


def _table() -> Dict[str, LayerDescriber]:
    table: Dict[str, LayerDescriber] = {
        "equinox.Conv": convolution.equinox_convolution,
        "equinox.ConvTranspose": convolution.equinox_transposed,
        "equinox.Linear": linear.equinox_linear,
        "equinox.Identity": activation.identity,
        "equinox.Embedding": linear.embed,
        "equinox.BatchNorm": normalization.equinox_batch_norm,
        "equinox.LayerNorm": normalization.equinox_layer_norm,
        "equinox.RMSNorm": normalization.equinox_layer_norm,
        "equinox.GroupNorm": normalization.equinox_group_norm,
        "equinox.PReLU": activation.prelu,
        "equinox.Dropout": activation.dropout,
        "equinox.MultiheadAttention": attention.equinox_attention,
        "equinox.LSTMCell": recurrent.cell,
        "equinox.GRUCell": recurrent.cell,
    }
    for spatial in (1, 2, 3):
        table[f"equinox.Conv{spatial}d"] = convolution.equinox_convolution
        table[f"equinox.ConvTranspose{spatial}d"] = convolution.equinox_transposed
        table[f"equinox.MaxPool{spatial}d"] = pooling.pooling("MaxPool", spatial)
        table[f"equinox.AvgPool{spatial}d"] = pooling.pooling("AveragePool", spatial)
        table[f"equinox.AdaptiveAvgPool{spatial}d"] = pooling.adaptive_pooling(True, spatial)
        table[f"equinox.AdaptiveMaxPool{spatial}d"] = pooling.adaptive_pooling(False, spatial)
    return table


LAYERS: Dict[str, LayerDescriber] = _table()
"""Describers of equinox."""

BATCHED = frozenset(LAYERS)
"""All of them know what to do inside ``jax.vmap``, which is how equinox layers see a batch."""

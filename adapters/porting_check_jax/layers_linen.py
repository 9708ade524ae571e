"""Layers of flax linen that are described as a whole, by kind.

Left to the operators they execute: ConvLocal, MGUCell, ConvLSTMCell, SpectralNorm, WeightNorm, Sequential.
"""

from __future__ import annotations

from typing import Dict

from porting_check_jax import layers_activation as activation
from porting_check_jax import layers_attention as attention
from porting_check_jax import layers_convolution as convolution
from porting_check_jax import layers_linear as linear
from porting_check_jax import layers_normalization as normalization
from porting_check_jax import layers_recurrent as recurrent
from porting_check_jax.layers import LayerDescriber

LAYERS: Dict[str, LayerDescriber] = {
    "linen.Conv": convolution.flax_convolution,
    "linen.ConvTranspose": convolution.flax_transposed,
    "linen.Dense": linear.dense,
    "linen.DenseGeneral": linear.dense_general,
    "linen.Einsum": linear.einsum,
    "linen.Embed": linear.embed,
    "linen.BatchNorm": normalization.batch_norm,
    "linen.LayerNorm": normalization.layer_norm,
    "linen.RMSNorm": normalization.rms_norm,
    "linen.GroupNorm": normalization.group_norm,
    "linen.InstanceNorm": normalization.instance_norm,
    "linen.PReLU": activation.prelu,
    "linen.Dropout": activation.dropout,
    "linen.MultiHeadDotProductAttention": attention.flax_attention,
    "linen.MultiHeadAttention": attention.flax_attention,
    "linen.SelfAttention": attention.flax_attention,
    "linen.LSTMCell": recurrent.cell,
    "linen.OptimizedLSTMCell": recurrent.cell,
    "linen.GRUCell": recurrent.cell,
    "linen.SimpleCell": recurrent.cell,
    "linen.RNN": recurrent.rnn,
    "linen.Bidirectional": recurrent.bidirectional,
}
"""Describers of flax linen."""

BATCHED = frozenset(
    f"linen.{name}" for name in ("Conv", "ConvTranspose", "Dense", "Embed", "PReLU", "Dropout")
)
"""Kinds for which an axis of ``jax.vmap`` is one more batch axis."""

"""Layers of flax nnx that are described as a whole, by kind.

Left to the operators they execute: SpectralNorm, WeightNorm, LoRA, Sequential.
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
    "nnx.Conv": convolution.flax_convolution,
    "nnx.ConvTranspose": convolution.flax_transposed,
    "nnx.Linear": linear.dense,
    "nnx.LinearGeneral": linear.dense_general,
    "nnx.Einsum": linear.einsum,
    "nnx.Embed": linear.embed,
    "nnx.BatchNorm": normalization.batch_norm,
    "nnx.LayerNorm": normalization.layer_norm,
    "nnx.RMSNorm": normalization.rms_norm,
    "nnx.GroupNorm": normalization.group_norm,
    "nnx.InstanceNorm": normalization.instance_norm,
    "nnx.PReLU": activation.prelu,
    "nnx.Dropout": activation.dropout,
    "nnx.MultiHeadAttention": attention.flax_attention,
    "nnx.LSTMCell": recurrent.cell,
    "nnx.OptimizedLSTMCell": recurrent.cell,
    "nnx.GRUCell": recurrent.cell,
    "nnx.SimpleCell": recurrent.cell,
    "nnx.RNN": recurrent.rnn,
    "nnx.Bidirectional": recurrent.bidirectional,
}
"""Describers of flax nnx."""

BATCHED = frozenset(
    f"nnx.{name}" for name in ("Conv", "ConvTranspose", "Linear", "Embed", "PReLU", "Dropout")
)
"""Kinds for which an axis of ``jax.vmap`` is one more batch axis."""

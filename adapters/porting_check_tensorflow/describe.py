"""Which layers are described, and by what.

A layer is known by its class, which must be Keras' own and unchanged.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from porting_check_tensorflow import (
    describe_activations,
    describe_attention,
    describe_convolution,
    describe_dense,
    describe_distributed,
    describe_normalization,
    describe_pooling,
    describe_recurrent,
)
from porting_check_tensorflow.describe_activations import is_known
from porting_check_tensorflow.flavours import is_library
from porting_check_tensorflow.sketch import LayerCall, Sketch

Describer = Callable[[LayerCall, Sketch], None]

LAYERS: Dict[str, Describer] = {}
for _family in (
    describe_activations,
    describe_attention,
    describe_convolution,
    describe_dense,
    describe_normalization,
    describe_pooling,
    describe_recurrent,
):
    LAYERS.update(_family.LAYERS)


def describer(layer: Any) -> Optional[Describer]:
    """How a layer is described as one record; ``None`` when it is to be entered.

    Entered are models, a user's own classes, library classes whose ``call`` was replaced, layers with an
    activation that is not Keras' own, and layers whose weights are not what they compute with (quantised, or
    with a LoRA update).

    Example:
        >>> import keras
        >>> describer(keras.layers.Conv2D(3, 3)) is LAYERS["Conv2D"]
        True
        >>> describer(keras.layers.Dense(3, activation=lambda x: x)) is None
        True
    """
    found = LAYERS.get(type(layer).__name__)
    if type(layer).__name__ == "TimeDistributed" and describer(layer.layer) is not None:
        found = describe_distributed.time_distributed(LAYERS[type(layer.layer).__name__])
    if found is None or not _unchanged(layer) or _replaced_weights(layer):
        return None
    recurrent = found in (describe_recurrent.recurrent, describe_recurrent.bidirectional)
    # A recurrent layer is never entered: one record says more than the operators of all its steps.
    known = recurrent or is_known(getattr(layer, "activation", None))
    return found if known else None


def _unchanged(layer: Any) -> bool:
    """Whether a layer's class and its ``call`` are Keras' own."""
    module = type(layer).__module__
    call = getattr(type(layer), "call", None)
    return (
        is_library(module)
        and ".applications" not in module
        and is_library(str(getattr(call, "__module__", "")))
        and "call" not in vars(layer)
    )


def _replaced_weights(layer: Any) -> bool:
    return bool(getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False))

"""Batch and local response normalization."""

from __future__ import annotations

from typing import Tuple

from porting_check_tensorflow.operators.activation import activate
from porting_check_tensorflow.operators.call import Call, channel_layouts, describes


def _layouts(call: Call) -> Tuple[str, str]:
    rank = call.rank()
    return channel_layouts(rank, call.text("data_format", "NDHWC" if rank == 5 else "NHWC"))


@describes("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "_FusedBatchNormEx")
def batch_normalization(call: Call) -> None:
    """``BatchNormalization`` in inference; the moments and reserve spaces it also gives are left out."""
    if call.attributes.get("is_training", True):
        call.refuse("with is_training=True normalizes by the batch's own moments, which is not inference")
    if call.integer("num_side_inputs"):
        call.refuse("with a side input is not described")
    native, canonical = _layouts(call)
    x = call.port(0, "x", native, canonical)
    roles = [call.port(place + 1, role) for place, role in enumerate(("scale", "bias", "mean", "var"))]
    value = call.node("BatchNormalization", x, *roles, epsilon=call.number("epsilon", 1e-4))
    activation = call.text("activation_mode", "Identity")
    if activation != "Identity":
        value = activate(call, activation, value)
    call.give(value, 0, native, canonical)


@describes("LRN")
def local_response(call: Call) -> None:
    """``LRN``: ONNX divides alpha by the window's size ``2*depth_radius + 1``, TensorFlow does not."""
    native, canonical = channel_layouts(call.rank(), "NHWC")
    size = 2 * call.integer("depth_radius", 5) + 1
    value = call.node(
        "LRN",
        call.port(0, "x", native, canonical),
        alpha=call.number("alpha", 1.0) * size,
        beta=call.number("beta", 0.5),
        bias=call.number("bias", 1.0),
        size=size,
    )
    call.give(value, 0, native, canonical)


@describes("BiasAdd", "BiasAddV1")
def bias_add(call: Call) -> None:
    """An ``Add`` along the last axis, or along axis 1 in channels-first formats."""
    x, bias = call.port(0), call.port(1, "bias")
    rank = call.rank()
    if call.text("data_format", "NHWC").startswith("NC") and rank > 2:
        bias = call.node("Unsqueeze", bias, call.constant(list(range(1, rank - 1)), "axes"))
    call.give(call.node("Add", x, bias))

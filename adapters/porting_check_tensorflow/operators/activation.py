"""Activation operators, also as the tail of fused ones."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np

from porting_check_tensorflow.operators.call import Call, describes

SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805
"""tensorflow/core/kernels/relu_op_functor.h: scale 1.0507009873554804…, scale*alpha 1.7580993408473768…"""

PLAIN: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "Relu": ("Relu", {}),
    "Elu": ("Elu", {"alpha": 1.0}),
    "Selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA}),
    "Sigmoid": ("Sigmoid", {}),
    "Tanh": ("Tanh", {}),
    "Softplus": ("Softplus", {}),
    "Softsign": ("Softsign", {}),
    "Softmax": ("Softmax", {"axis": -1}),
    "LogSoftmax": ("LogSoftmax", {"axis": -1}),
    "GeluExact": ("Gelu", {"approximate": "none"}),
    "GeluApproximate": ("Gelu", {"approximate": "tanh"}),
}
"""Activations that are one ONNX node."""


def activate(call: Call, name: str, value: str, leaky_alpha: float = 0.2) -> str:
    """Add the nodes of an activation; returns the output's name."""
    if name in PLAIN:
        op_type, attributes = PLAIN[name]
        return call.node(op_type, value, **attributes)
    if name == "Relu6":
        return call.node("Clip", value, call.scalar(0, "min"), call.scalar(6, "max"))
    if name == "LeakyRelu":
        return call.node("LeakyRelu", value, alpha=leaky_alpha)
    return call.refuse(f"with the activation {name} is not described")


@describes("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softsign")
def activation(call: Call) -> None:
    """An activation that works element by element, on the array as it is."""
    call.give(activate(call, call.op_type, call.port(0), call.number("alpha", 0.2)))


@describes("Softmax", "LogSoftmax")
def softmax(call: Call) -> None:
    """Over the last axis, counted from the end so that any rank reads alike."""
    call.give(activate(call, call.op_type, call.port(0)))


@describes("ClipByValue")
def clip(call: Call) -> None:
    """``Clip`` where both limits are scalars, otherwise a minimum and a maximum that broadcast."""
    x = call.port(0)
    low, high = call.operand(1, "min"), call.operand(2, "max")
    if call.rank(1) == 0 and call.rank(2) == 0:
        call.give(call.node("Clip", x, low, high))
    else:
        call.give(call.node("Max", call.node("Min", x, high), low))


@describes("L2Loss")
def half_sum_of_squares(call: Call) -> None:
    """``sum(x**2) / 2``, a scalar."""
    total = call.node("ReduceSumSquare", call.port(0), keepdims=0)
    call.give(call.node("Mul", total, call.constant(np.asarray(0.5, call.dtype(0)), "half")))

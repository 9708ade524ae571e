"""Activation functions, as layers and as functions."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Optional, Tuple

import torch

from porting_check_torch.describe.draft import ACTIVATION, Draft, Ref, axis
from porting_check_torch.describe.table import TABLE, describes

SELU_ALPHA, SELU_GAMMA = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
"""ATen/native/Activation.cpp, function selu."""

PLAIN: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "expit": ("Sigmoid", {}),
    "softsign": ("Softsign", {}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA}),
    "silu": ("Swish", {"alpha": 1.0}),
    "mish": ("Mish", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}),
}
"""Activations that are one ONNX node and have no arguments."""


def _plain(op_type: str, attributes: Dict[str, Any]) -> Callable[..., None]:
    def describe(d: Draft, input: Ref) -> None:
        d.give(d.node(op_type, d.operand(input, "x", d.out.dtype), **attributes))

    return describe


TABLE.update({name: _plain(*entry) for name, entry in PLAIN.items()})


@describes("relu6")
def relu6(d: Draft, input: Ref) -> None:
    """``min(max(x, 0), 6)``."""
    hardtanh(d, input, 0.0, 6.0)


@describes("hardtanh")
def hardtanh(d: Draft, input: Ref, min_val: float = -1.0, max_val: float = 1.0) -> None:
    """Limits on both sides."""
    limits = [d.scalar(value, role, input.dtype) for value, role in ((min_val, "min"), (max_val, "max"))]
    d.give(d.node("Clip", d.port(input), *limits))


@describes("leaky_relu")
def leaky_relu(d: Draft, input: Ref, negative_slope: float = 0.01) -> None:
    """One slope for negative values."""
    d.give(d.node("LeakyRelu", d.port(input), alpha=float(negative_slope)))


@describes("rrelu")
def rrelu(
    d: Draft,
    input: Ref,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    generator: Any = None,
) -> None:
    """In inference the mean of both slopes."""
    if training:
        d.refuse("draws random slopes (training mode)")
    leaky_relu(d, input, (lower + upper) / 2)


@describes("prelu", "_prelu_kernel", main=True)
def prelu(d: Draft, input: Ref, weight: Ref) -> None:
    """One slope, or one per channel (axis 1)."""
    layout = ACTIVATION.get(input.ndim, "")
    slope = d.port(weight, "slope")
    if weight.numel > 1 and weight.ndim == 1:
        slope = d.reshape(slope, (weight.numel,) + (1,) * max(input.ndim - 2, 0))
    elif weight.ndim == 0:
        slope = d.reshape(slope, (1,))
    d.give(d.node("PRelu", d.port(input, "x", layout), slope), layout)


@describes("elu")
def elu(d: Draft, input: Ref, alpha: float = 1.0, scale: float = 1, input_scale: float = 1) -> None:
    """``alpha * (exp(x) - 1)`` below zero."""
    if scale != 1 or input_scale != 1:
        d.refuse("with scale or input_scale is not described")
    d.give(d.node("Elu", d.port(input), alpha=float(alpha)))


@describes("celu")
def celu(d: Draft, input: Ref, alpha: float = 1.0) -> None:
    """``alpha * (exp(x / alpha) - 1)`` below zero."""
    d.give(d.node("Celu", d.port(input), alpha=float(alpha)))


@describes("gelu")
def gelu(d: Draft, input: Ref, approximate: str = "none") -> None:
    """With the error function, or its approximation by tanh."""
    d.give(d.node("Gelu", d.port(input), approximate=str(approximate)))


@describes("softplus")
def softplus(d: Draft, input: Ref, beta: float = 1, threshold: float = 20) -> None:
    """``log(1 + exp(beta x)) / beta``, and ``x`` itself where ``beta x > threshold``.

    With the usual threshold the two branches differ by less than the dtype resolves, and the branch is left
    out.
    """
    x = d.port(input)
    scaled = x if beta == 1 else d.node("Mul", x, d.scalar(beta, "beta", input.dtype))
    soft = d.node("Softplus", scaled)
    soft = soft if beta == 1 else d.node("Div", soft, d.scalar(beta, "divisor", input.dtype))
    if threshold > 0 and math.log1p(math.exp(-threshold)) < torch.finfo(input.dtype).eps * threshold / 8:
        d.give(soft)
        return
    linear = d.node("Greater", scaled, d.scalar(threshold, "threshold", input.dtype))
    d.give(d.node("Where", linear, x, soft))


@describes("logsigmoid", "log_sigmoid")
def logsigmoid(d: Draft, input: Ref) -> None:
    """``-softplus(-x)``."""
    d.give(d.node("Neg", d.node("Softplus", d.node("Neg", d.port(input)))))


def _over_axis(d: Draft, op_type: str, x: str, ndim: int, dim: Optional[int]) -> str:
    """Softmax and its kin; without ``dim`` torch takes axis 0 for rank 0, 1 and 3, and axis 1 otherwise."""
    chosen = (0 if ndim in (0, 1, 3) else 1) if dim is None else int(dim)
    last = axis(chosen, ndim) == max(ndim, 1) - 1
    return d.node(op_type, x, axis=-1 if last else axis(chosen, ndim))


@describes("softmax", "_softmax")
def softmax(
    d: Draft,
    input: Ref,
    dim: Optional[int] = None,
    dtype: Optional[torch.dtype] = None,
    half_to_float: bool = False,
) -> None:
    """Over one axis; ``dtype`` casts before."""
    d.give(_over_axis(d, "Softmax", d.operand(input, "x", d.out.dtype), input.ndim, dim))


@describes("log_softmax", "_log_softmax")
def log_softmax(
    d: Draft,
    input: Ref,
    dim: Optional[int] = None,
    dtype: Optional[torch.dtype] = None,
    half_to_float: bool = False,
) -> None:
    """The logarithm of softmax."""
    d.give(_over_axis(d, "LogSoftmax", d.operand(input, "x", d.out.dtype), input.ndim, dim))


@describes("softmin")
def softmin(d: Draft, input: Ref, dim: Optional[int] = None, dtype: Optional[torch.dtype] = None) -> None:
    """The softmax of ``-x``."""
    d.give(_over_axis(d, "Softmax", d.node("Neg", d.operand(input, "x", d.out.dtype)), input.ndim, dim))


@describes("tanhshrink")
def tanhshrink(d: Draft, input: Ref) -> None:
    """``x - tanh(x)``."""
    x = d.port(input)
    d.give(d.node("Sub", x, d.node("Tanh", x)))


@describes("hardshrink")
def hardshrink(d: Draft, input: Ref, lambd: float = 0.5) -> None:
    """Zero within ``lambd`` of zero."""
    d.give(d.node("Shrink", d.port(input), lambd=float(lambd), bias=0.0))


@describes("softshrink")
def softshrink(d: Draft, input: Ref, lambd: float = 0.5) -> None:
    """Towards zero by ``lambd``."""
    d.give(d.node("Shrink", d.port(input), lambd=float(lambd), bias=float(lambd)))


@describes("threshold", "_threshold")
def threshold(d: Draft, input: Ref, threshold: float, value: float) -> None:
    """``value`` where x is not above the threshold."""
    x = d.port(input)
    above = d.node("Greater", x, d.scalar(threshold, "threshold", input.dtype))
    d.give(d.node("Where", above, x, d.scalar(value, "value", input.dtype)))


@describes("glu")
def glu(d: Draft, input: Ref, dim: int = -1) -> None:
    """The first half times the sigmoid of the second."""
    place = axis(dim, input.ndim)
    half = input.shape[place] // 2
    first, second = d.nodes(2, "Split", d.port(input), d.integers((half, half), "split"), axis=place)
    d.give(d.node("Mul", first, d.node("Sigmoid", second)))


@describes(
    "dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_dropout",
)
def dropout(
    d: Draft, input: Ref, p: float = 0.5, training: Optional[bool] = None, train: Optional[bool] = None
) -> None:
    """Nothing in inference."""
    active = training if train is None else train
    if (active is None or active) and p > 0:
        d.refuse("drops elements at random (training mode)")
    d.give(d.node("Identity", d.port(input)))

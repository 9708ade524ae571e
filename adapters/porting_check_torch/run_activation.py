"""Activation functions, with ONNX's own default coefficients."""

from __future__ import annotations

from typing import Callable, Dict, Optional

import torch
from torch.nn import functional

from porting_check_torch.run_call import Call, Handler, Result

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def gelu(call: Call) -> Result:
    """ONNX Gelu, exact or with the tanh approximation."""
    return functional.gelu(call.x, approximate=call.get("approximate", "none"))


def prelu(call: Call) -> Result:
    """ONNX PRelu; torch's own where the slope is one number or one per channel, else a choice by sign."""
    x, slope = call.x, call.need(1)
    if x.is_floating_point() and slope.numel() == 1:
        return functional.prelu(x, slope.reshape(1))
    per_channel = x.dim() > 1 and slope.dim() == x.dim() - 1 and slope.numel() == slope.shape[0] == x.shape[1]
    if x.is_floating_point() and per_channel:
        return functional.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


def softplus(call: Call) -> Result:
    """ONNX Softplus. torch returns x itself above its threshold; 20 is too low for float64's precision."""
    return functional.softplus(call.x, threshold=20.0 if call.x.dtype != torch.float64 else 50.0)


def swish(call: Call) -> Result:
    """ONNX Swish: ``x * sigmoid(alpha * x)``; torch's SiLU when alpha is 1."""
    alpha = call.get("alpha", 1.0)
    return functional.silu(call.x) if alpha == 1.0 else call.x * torch.sigmoid(alpha * call.x)


def swiglu(call: Call) -> Result:
    """ONNX SwiGLU (opset 28): the swish of the first input times the second."""
    a, b = call.x, call.need(1)
    if a.shape != b.shape:
        raise call.unsupported(
            f"its inputs have shapes {tuple(a.shape)} and {tuple(b.shape)}; they must be the same"
        )
    gate = swish(call)
    assert isinstance(gate, torch.Tensor)
    return gate * b


def shrink(call: Call) -> Result:
    """ONNX Shrink: zero inside [-lambd, lambd], moved by ``bias`` outside."""
    x, limit, bias = call.x, call.get("lambd", 0.5), call.get("bias", 0.0)
    if not x.is_floating_point():
        bias = int(bias)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


def hardmax(call: Call) -> Result:
    """ONNX Hardmax: one at the first maximum along the axis, zero elsewhere."""
    axis = call.get("axis", -1)
    best = call.x.argmax(dim=axis, keepdim=True)
    return torch.zeros_like(call.x).scatter(axis, best, 1.0)


def _coefficients(function: Callable[..., torch.Tensor], **defaults: float) -> Handler:
    """A handler that calls ``function(x, …)`` with attributes in the order of their defaults."""

    def run(call: Call) -> Result:
        return function(call.x, *(call.get(name, default) for name, default in defaults.items()))

    return run


def scaled_tanh(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """``alpha * tanh(beta * x)``, an activation of recurrent layers."""
    return alpha * torch.tanh(beta * x)


def affine(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """``alpha * x + beta``."""
    return alpha * x + beta


def hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """``max(0, min(1, alpha * x + beta))``; torch's own hardsigmoid has alpha fixed at 1/6."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def selu(x: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """``gamma * elu(x, alpha)``; torch's own selu fixes both at more digits than ONNX's defaults have."""
    return gamma * functional.elu(x, alpha)


def thresholded(x: torch.Tensor, alpha: float) -> torch.Tensor:
    """``x`` above ``alpha``, zero elsewhere."""
    return functional.threshold(x, alpha, 0.0)


OPERATORS: Dict[str, Handler] = {
    "Relu": _coefficients(functional.relu),
    "LeakyRelu": _coefficients(functional.leaky_relu, alpha=0.01),
    "PRelu": prelu,
    "Elu": _coefficients(functional.elu, alpha=1.0),
    "Celu": _coefficients(functional.celu, alpha=1.0),
    "Selu": _coefficients(selu, alpha=SELU_ALPHA, gamma=SELU_GAMMA),
    "Gelu": gelu,
    "Sigmoid": _coefficients(torch.sigmoid),
    "HardSigmoid": _coefficients(hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _coefficients(functional.hardswish),
    "Mish": _coefficients(functional.mish),
    "Swish": swish,
    "SwiGLU": swiglu,
    "Softplus": softplus,
    "Softsign": _coefficients(functional.softsign),
    "ThresholdedRelu": _coefficients(thresholded, alpha=1.0),
    "Shrink": shrink,
    "Tanh": _coefficients(torch.tanh),
    "Softmax": _coefficients(functional.softmax, axis=-1),
    "LogSoftmax": _coefficients(functional.log_softmax, axis=-1),
    "Hardmax": hardmax,
}


def recurrent_activation(
    name: str, alpha: Optional[float], beta: Optional[float]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """An activation of ONNX's RNN, GRU and LSTM by its name, with their defaults for coefficients not given.

    Raises:
        KeyError: ONNX has no such activation.
    """
    table: Dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "relu": functional.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softsign": functional.softsign,
        "softplus": functional.softplus,
        "affine": lambda x: affine(x, 1.0 if alpha is None else alpha, 0.0 if beta is None else beta),
        "leakyrelu": lambda x: functional.leaky_relu(x, 0.01 if alpha is None else alpha),
        "thresholdedrelu": lambda x: thresholded(x, 1.0 if alpha is None else alpha),
        "scaledtanh": lambda x: scaled_tanh(
            x, 1.0 if alpha is None else alpha, 1.0 if beta is None else beta
        ),
        "hardsigmoid": lambda x: hard_sigmoid(
            x, 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
        ),
        "elu": lambda x: functional.elu(x, 1.0 if alpha is None else alpha),
    }
    return table[name.lower()]

"""Activation functions, with ONNX's own default coefficients."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

import jax
import jax.numpy as jnp

from porting_check_jax.run_call import Call, Handler, Result

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def relu(call: Call) -> Result:
    """ONNX Relu, of integers too."""
    return jax.nn.relu(call.x)


def gelu(call: Call) -> Result:
    """ONNX Gelu, exact or with the tanh approximation."""
    call.floating()
    return jax.nn.gelu(call.x, approximate=call.get("approximate", "none") == "tanh")


def prelu(call: Call) -> Result:
    """ONNX PRelu."""
    x, slope = call.x, call.need(1)
    return jnp.where(x < 0, slope * x, x)


def swish(call: Call) -> Result:
    """ONNX Swish: ``x * sigmoid(alpha * x)``; JAX's SiLU when alpha is 1."""
    call.floating()
    alpha = call.get("alpha", 1.0)
    return jax.nn.silu(call.x) if alpha == 1.0 else call.x * jax.nn.sigmoid(alpha * call.x)


def swiglu(call: Call) -> Result:
    """ONNX SwiGLU (opset 28): the swish of the first input times the second."""
    a, b = call.x, call.need(1)
    if a.shape != b.shape:
        raise call.unsupported(f"its inputs have shapes {a.shape} and {b.shape}; they must be the same")
    gate: Any = swish(call)
    return gate * b


def shrink(call: Call) -> Result:
    """ONNX Shrink: zero inside [-lambd, lambd], moved by ``bias`` outside."""
    x, limit, bias = call.x, call.get("lambd", 0.5), jnp.asarray(call.get("bias", 0.0)).astype(call.x.dtype)
    return jnp.where(x < -limit, x + bias, jnp.where(x > limit, x - bias, jnp.zeros_like(x)))


def hardmax(call: Call) -> Result:
    """ONNX Hardmax: one at the first maximum along the axis, zero elsewhere."""
    axis = call.get("axis", -1)
    best = jnp.argmax(call.x, axis=axis)
    return jax.nn.one_hot(best, call.x.shape[axis], dtype=call.x.dtype, axis=axis % call.x.ndim)


def _coefficients(function: Callable[..., Any], **defaults: float) -> Handler:
    """A handler that calls ``function(x, …)`` with attributes in the order of their defaults."""

    def run(call: Call) -> Result:
        call.floating()
        return function(call.x, *(call.get(name, default) for name, default in defaults.items()))

    return run


def scaled_tanh(x: jax.Array, alpha: float, beta: float) -> jax.Array:
    """``alpha * tanh(beta * x)``, an activation of recurrent layers."""
    return alpha * jnp.tanh(beta * x)


def affine(x: jax.Array, alpha: float, beta: float) -> jax.Array:
    """``alpha * x + beta``."""
    return alpha * x + beta


def hard_sigmoid(x: jax.Array, alpha: float, beta: float) -> jax.Array:
    """``max(0, min(1, alpha * x + beta))``; JAX's own has alpha fixed at 1/6."""
    return jnp.clip(alpha * x + beta, 0.0, 1.0)


def selu(x: jax.Array, alpha: float, gamma: float) -> jax.Array:
    """``gamma * elu(x, alpha)``; JAX's own fixes both at more digits than ONNX's defaults have."""
    return gamma * jax.nn.elu(x, alpha)


def mish(x: jax.Array) -> jax.Array:
    """``x * tanh(softplus(x))``; older versions of JAX have no function of that name."""
    return x * jnp.tanh(jax.nn.softplus(x))


def thresholded(x: jax.Array, alpha: float) -> jax.Array:
    """``x`` above ``alpha``, zero elsewhere."""
    return jnp.where(x > alpha, x, jnp.zeros_like(x))


OPERATORS: Dict[str, Handler] = {
    "Relu": relu,
    "LeakyRelu": _coefficients(jax.nn.leaky_relu, alpha=0.01),
    "PRelu": prelu,
    "Elu": _coefficients(jax.nn.elu, alpha=1.0),
    "Celu": _coefficients(jax.nn.celu, alpha=1.0),
    "Selu": _coefficients(selu, alpha=SELU_ALPHA, gamma=SELU_GAMMA),
    "Gelu": gelu,
    "Sigmoid": _coefficients(jax.nn.sigmoid),
    "HardSigmoid": _coefficients(hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _coefficients(jax.nn.hard_swish),
    "Mish": _coefficients(mish),
    "Swish": swish,
    "SwiGLU": swiglu,
    "Softplus": _coefficients(jax.nn.softplus),
    "Softsign": _coefficients(jax.nn.soft_sign),
    "ThresholdedRelu": _coefficients(thresholded, alpha=1.0),
    "Shrink": shrink,
    "Tanh": _coefficients(jnp.tanh),
    "Softmax": _coefficients(jax.nn.softmax, axis=-1),
    "LogSoftmax": _coefficients(jax.nn.log_softmax, axis=-1),
    "Hardmax": hardmax,
}


def recurrent_activation(
    name: str, alpha: Optional[float], beta: Optional[float]
) -> Callable[[jax.Array], jax.Array]:
    """An activation of ONNX's RNN, GRU and LSTM by its name, with their defaults for coefficients not given.

    Raises:
        KeyError: ONNX has no such activation.
    """
    table: Dict[str, Callable[[Any], Any]] = {
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "softsign": jax.nn.soft_sign,
        "softplus": jax.nn.softplus,
        "affine": lambda x: affine(x, 1.0 if alpha is None else alpha, 0.0 if beta is None else beta),
        "leakyrelu": lambda x: jax.nn.leaky_relu(x, 0.01 if alpha is None else alpha),
        "thresholdedrelu": lambda x: thresholded(x, 1.0 if alpha is None else alpha),
        "scaledtanh": lambda x: scaled_tanh(
            x, 1.0 if alpha is None else alpha, 1.0 if beta is None else beta
        ),
        "hardsigmoid": lambda x: hard_sigmoid(
            x, 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
        ),
        "elu": lambda x: jax.nn.elu(x, 1.0 if alpha is None else alpha),
    }
    return table[name.lower()]

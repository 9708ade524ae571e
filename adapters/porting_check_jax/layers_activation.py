"""Layers without products: PReLU, Dropout, Identity; and activation functions inside recurrent layers."""

from __future__ import annotations

from typing import Any, Tuple

import jax
import jax.numpy as jnp

from porting_check_jax.draft import Draft, Ref
from porting_check_jax.layers import LayerCall
from porting_check_jax.layers_shared import argument, fed, plain, promoted, required, setting

RECURRENT: Tuple[Tuple[Any, str, float, float], ...] = (
    (jax.nn.sigmoid, "Sigmoid", 0.0, 0.0),
    (jnp.tanh, "Tanh", 0.0, 0.0),
    (jax.lax.tanh, "Tanh", 0.0, 0.0),
    (jax.nn.relu, "Relu", 0.0, 0.0),
    (jax.nn.soft_sign, "Softsign", 0.0, 0.0),
    (jax.nn.softplus, "Softplus", 0.0, 0.0),
    (jax.nn.hard_sigmoid, "HardSigmoid", 1.0 / 6.0, 0.5),
    (jax.nn.elu, "Elu", 1.0, 0.0),
)
"""Functions that ONNX' recurrent operators know: name, alpha and beta."""


def recurrent_activation(d: Draft, function: Any) -> Tuple[str, float, float]:
    """ONNX' name, alpha and beta of a gate's function.

    Raises:
        Undescribed: a function of the user's own.
    """
    for known, name, alpha, beta in RECURRENT:
        if function is known:
            return name, alpha, beta
    return d.refuse(f"with the activation {getattr(function, '__name__', function)!r} is not described")


def prelu(call: LayerCall, d: Draft) -> None:
    """``x`` where it is positive, else ``slope * x``; flax has one slope, equinox slopes for the last axes."""
    plain(call, d)
    slope = required(call, d, "negative_slope")[0]
    own = getattr(call.module, "dtype", None)
    if call.kind.startswith("equinox."):
        dtype = promoted(d, (call.x, slope))
    else:
        dtype = promoted(d, (call.x,), own)
    factor = fed(d, slope, "slope", dtype)
    factor = d.reshape(factor, (1,)) if slope.ndim == 0 else factor
    d.give_as(d.node("PRelu", fed(d, call.x, "x", dtype), factor), dtype)


def dropout(call: LayerCall, d: Draft) -> None:
    """Nothing in inference; a mask drawn at random is not described."""
    if call.kind.startswith("equinox."):
        rate, given = call.module.p, argument(call, "deterministic")
        given = argument(call, "inference") if given is None else given
        off = call.module.inference if given is None else given
    else:
        rate, off = (
            call.module.rate,
            setting(call, "deterministic", 1 if call.kind.startswith("linen.") else None),
        )
    if isinstance(rate, Ref) or isinstance(off, Ref) or (not bool(off) and rate != 0):
        d.refuse("drops elements at random (training mode)")
    d.give(d.node("Identity", d.port(call.x)))


def identity(call: LayerCall, d: Draft) -> None:
    """The input itself."""
    d.give(d.node("Identity", d.port(call.x)))

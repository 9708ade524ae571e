"""Models whose gradients are tested: the same few in torch, TensorFlow and JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from porting_check.neutral.trace import parameter_key
from porting_check.testing.gradient_contract import Arrays

RNG = np.random.default_rng(11)


def whole(*shape: int) -> np.ndarray:
    """Small integers as float32."""
    return RNG.integers(-3, 4, shape).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    """Standard normal float32."""
    return RNG.standard_normal(shape).astype(np.float32)


ROWS, INTEGERS, IMAGE = whole(2, 6), RNG.integers(0, 5, (2, 3)), normal(2, 7, 7, 3)
FIRST, FIRST_BIAS, SECOND, SECOND_BIAS = whole(6, 4), whole(4), whole(4, 3), whole(3)
"""Weights of two dense layers, inputs by outputs."""

SOFT = normal(2, 6)


def two_layers(
    names: tuple[str, str, str, str], transposed: bool, made: tuple[str, str] = ("first:0", "second:0")
) -> Callable[[Arrays, Arrays, Arrays], Arrays]:
    """The gradients of two dense layers on each other.

    Args:
        names: of kernel and bias of the first layer and of the second.
        transposed: whether kernels are outputs by inputs.
        made: keys of the layers' outputs.
    """

    def gradients(inputs: Arrays, parameters: Arrays, cotangents: Arrays) -> Arrays:
        (x,), (above,) = inputs.values(), cotangents.values()
        first, bias, second = (parameters[name] for name in names[:3])
        if transposed:
            first, second = first.T, second.T
        hidden = x @ first + bias
        below = above @ second.T
        kernels = (x.T @ below, hidden.T @ above)
        if transposed:
            kernels = (kernels[0].T, kernels[1].T)
        values = (kernels[0], below.sum(0), kernels[1], above.sum(0))
        found: Arrays = {parameter_key(name): value for name, value in zip(names, values, strict=True)}
        return {**found, "input:0": below @ first.T, made[0]: below, made[1]: above}

    return gradients


def reversed_gradient(inputs: Arrays, parameters: Arrays, cotangents: Arrays) -> Arrays:
    """Of ``2 x + r(3 x)``, where ``r`` returns its argument and hands back the negative gradient."""
    (above,) = cotangents.values()
    return {"input:0": -above}


def weights(*shapes: tuple[int, ...]) -> list[Any]:
    """The same random arrays at every call."""
    rng = np.random.default_rng(5)
    return [(0.5 * rng.standard_normal(shape)).astype(np.float32) for shape in shapes]

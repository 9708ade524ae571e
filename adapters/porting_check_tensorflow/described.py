"""What a describer hands to a recorder: nodes, and how the native tensors reach them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Tuple

import numpy as np

from porting_check.neutral.node import Node


@dataclass(frozen=True)
class PortSpec:
    """How one native tensor reaches the nodes: its name there, and its native and canonical layout.

    ``index`` counts the operator's or layer's inputs (or outputs). Both layouts empty: the nodes take it as
    it is.

    Example:
        >>> PortSpec(0, "x", "NHWC", "NCHW").name
        'x'
    """

    index: int
    name: str
    layout: str = ""
    canonical: str = ""


@dataclass(frozen=True)
class Operand:
    """One input or output of an operator while it is described.

    ``fixed``: computed neither from the model's inputs nor from its parameters, so it is part of the code (a
    shape, an axis, the ``0.5`` in ``0.5 * x``). ``parameter``: the value of a variable, or a frozen one.
    ``read`` gives the value, which the describer asks for only when it needs it.

    Example:
        >>> Operand((2,), "int32", lambda: np.array([1, 2]), fixed=True).value.tolist()
        [1, 2]
    """

    shape: Tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]
    fixed: bool = False
    parameter: bool = False

    @property
    def value(self) -> np.ndarray:
        """The tensor's value, in native layout."""
        return self.read()


@dataclass(frozen=True)
class Described:
    """An operator in the neutral language.

    ``inputs`` names the native inputs that the nodes read (an input that went into ``constants``, such as the
    shape of a Reshape, is not listed); the recorder makes parameters of those that are variables. ``outputs``
    likewise.
    """

    inputs: Tuple[PortSpec, ...]
    outputs: Tuple[PortSpec, ...]
    nodes: Tuple[Node, ...]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)

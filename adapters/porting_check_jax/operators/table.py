"""The table of describers by primitive name."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Sequence, Set

import numpy as np

from porting_check_jax.draft import Draft, Ref

Describer = Callable[[Draft, Sequence[Ref], Mapping[str, Any]], None]
"""Puts a primitive into nodes: draft, operands in order, the primitive's parameters."""

TABLE: Dict[str, Describer] = {}

STRETCHING: Set[str] = set()
"""Primitives whose nodes broadcast their operands as ONNX does, so that an explicit broadcast before is needless."""


def describes(*names: str, stretches: bool = False) -> Callable[[Describer], Describer]:
    """Enter a describer into the table under these primitive names.

    Example:
        >>> @describes("example_p")
        ... def example(d, args, params): d.give(d.node("Relu", d.operand(args[0])))
        >>> TABLE.pop("example_p") is example
        True
    """

    def enter(describer: Describer) -> Describer:
        for name in names:
            TABLE[name] = describer
            if stretches:
                STRETCHING.add(name)
        return describer

    return enter


def real(d: Draft, *refs: Ref) -> None:
    """Refuse complex numbers, 4-bit integers and whatever else ONNX' operators do not compute with."""
    for ref in refs:
        if ref.dtype.kind == "c":
            d.refuse("of complex numbers is not described")
        if ref.dtype.kind not in "fiub" and not ref.floating:
            d.refuse(f"of dtype {ref.dtype.name} is not described")


def number(d: Draft, value: float, like: Ref, role: str = "number") -> str:
    """A scalar constant in the dtype of an array; where numpy lacks the dtype, a cast follows."""
    name = d.scalar(value, role, like.dtype)
    return (
        name
        if like.dtype.kind == "f" or not like.floating
        else d.cast(name, np.dtype(np.float32), like.dtype)
    )

"""Models that an adapter's recording is tested with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = {
    "plain": "layers with parameters, all of them described",
    "repeated": "one layer called twice",
    "in-place": "operators that write into tensors that were recorded",
    "narrow": "values of bfloat16 or float8 that are only moved",
    "nested": "outputs in a nested structure",
    "opaque": "an operator that is not described",
    "random": "random numbers drawn in inference",
    "stateful": "a state of its own that a run changes",
    "training": "a layer in training mode",
    "raises": "an exception in the middle of the forward pass",
}
"""Kinds of examples; an adapter has at least one of each, or says why there is none."""


@dataclass(frozen=True)
class Example:
    """One model with inputs, and what its recording must hold.

    Attributes:
        name: what the test is called.
        kind: one of :data:`KINDS`.
        build: makes the model; called anew for every test.
        inputs: by name, in the model's own layouts.
        records: ids of the records in order, where they are known; ``None`` where any will do.
        reasons: of the opaque records, a regular expression for the reason by id.
        outputs: paths of the outputs in order.
        fails_in: of a model that raises, the layer that does.
        deterministic: whether two runs of it draw the same numbers.
        rtol, atol: of replaying described records in float64 (relative, and in units of the largest value).

    Example:
        >>> Example("sum", "plain", lambda: sum, {"0": np.ones(3, np.float32)}).outputs
        ('0',)
    """

    name: str
    kind: str
    build: Callable[[], Any]
    inputs: Mapping[str, np.ndarray]
    records: tuple[str, ...] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("0",)
    fails_in: str = ""
    deterministic: bool = True
    rtol: float = 1e-5
    atol: float = 2e-6

    def __post_init__(self) -> None:
        """Refuse a kind that no test asks for."""
        if self.kind not in KINDS:
            raise ValueError(f"example {self.name!r} is of kind {self.kind!r}; kinds: {', '.join(KINDS)}")

    def feeds(self) -> dict[str, np.ndarray]:
        """Copies of the inputs."""
        return {name: array.copy() for name, array in self.inputs.items()}

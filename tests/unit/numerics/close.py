"""Helpers of the tests beside this file."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings

from porting_check.neutral.node import Node
from porting_check.numerics.truth import evaluate_node

FEW = settings(max_examples=25, deadline=None)
MORE = settings(max_examples=60, deadline=None)


def run(op_type: str, inputs: Any, outputs: int = 1, **attributes: Any) -> tuple[np.ndarray, ...]:
    """Evaluate one operator in float64."""
    names = tuple("" if item is None else f"input_{i}" for i, item in enumerate(inputs))
    node = Node(op_type, names, tuple(f"output_{i}" for i in range(outputs)), attributes)
    return evaluate_node(node, inputs)


def assert_close(found: np.ndarray, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal shapes, float64, and values within ``tolerance`` of the largest expected magnitude."""
    wanted = np.asarray(expected)
    assert found.shape == wanted.shape
    assert found.dtype == np.float64
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1.0)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)

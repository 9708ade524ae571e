"""Booleans are values too: a layer that compares is judged like any other."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.numerics.own import judged
from porting_check.numerics.spread import Bounds


@pytest.mark.parametrize("truth", [np.bool_, np.float64])
def test_booleans_are_judged(truth):
    native = np.array([True, False, True])
    exact = Bounds(np.zeros(3))
    assert judged(native, native.astype(truth), exact).ratio == 0
    assert judged(native, (~native).astype(truth), exact).ratio > 1

"""What people use instead of the rule: fixed tolerances and a cosine threshold, with their usual settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
Check = Callable[[Array, Array], bool]


def _allclose(reference: Array, candidate: Array) -> bool:
    return bool(np.allclose(candidate, reference))


def _assert_close(reference: Array, candidate: Array) -> bool:
    import torch

    try:
        torch.testing.assert_close(torch.from_numpy(candidate.copy()), torch.from_numpy(reference.copy()))
    except AssertionError:
        return False
    return True


def _cosine(threshold: float) -> Check:
    def check(reference: Array, candidate: Array) -> bool:
        first, second = (x.astype(np.float64).ravel() for x in (reference, candidate))
        scale = float(np.linalg.norm(first) * np.linalg.norm(second))
        return bool(scale == 0 or first @ second / scale > threshold)

    return check


PEERS: Mapping[str, Check] = {
    "np.allclose": _allclose,
    "torch assert_close": _assert_close,
    "cosine > 0.9999": _cosine(0.9999),
    "cosine > 0.999": _cosine(0.999),
}
"""Whether they pass a pair of outputs. numpy: rtol 1e-5, atol 1e-8; torch for float32: rtol 1.3e-6, atol 1e-5."""

"""Which narrower number format a side's float32 arithmetic uses, where its error is larger than float32's round-off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from porting_check.calling import Arrays
from porting_check.equivalence_parts import Runs, joined
from porting_check.numerics.precision import Rounded, rounded_operands, rounded_results
from porting_check.recorder.inputs import named

Array = np.ndarray


def narrower(reference: Runs, candidate: Runs, inputs: Arrays) -> str:
    """What computing again with rounded arguments proves of the side that is off; "" when nothing is.

    The first two floating arguments of two axes or more are taken for the factors. The float64 function of the *other* side
    is evaluated on them, because a side that rounds may round its own float64 too.
    """
    for side, other, name in ((candidate, reference, "candidate"), (reference, candidate, "reference")):
        if other.double is None or other.double.shape != side.single.shape:
            continue
        native = side.single.astype(np.float64)
        if np.abs(native - other.double).max(initial=0.0) <= 1e-6 * np.abs(other.double).max(initial=0.0):
            continue
        found = rounded_operands(native, other.double, _recomputed(other, inputs))
        found = found or rounded_results(native, other.double)
        if found is not None:
            return f"The {name} computes with {found}{_left(found)}"
    return ""


def _left(found: Rounded) -> str:
    return (
        ""
        if found.operands == "results"
        else f": computing again so leaves {found.residual:.1%} of the error"
    )


def _recomputed(side: Runs, inputs: Arrays) -> Callable[[Callable[[Array, int], Array]], Array]:
    factors = [name for name, array in inputs.items() if array.dtype.kind == "f" and array.ndim > 1][:2]

    def recompute(rounding: Callable[[Array, int], Array]) -> Array:
        changed = {
            name: rounding(array, factors.index(name)).astype(array.dtype) if name in factors else array
            for name, array in inputs.items()
        }
        return joined(side.computation.outputs(named(changed, ()), float64=True)).astype(np.float64)

    return recompute

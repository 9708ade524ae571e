"""Every ONNX operator (opset 24) that porting-check evaluates itself, in numpy, in any precision.

Example:
    >>> import numpy as np
    >>> relu = find("Relu")
    >>> relu({}, [np.array([-1.0, 2.0])])[0]
    array([0., 2.])
"""

from __future__ import annotations

from porting_check.numerics.operators import (
    activation,
    attention,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    recurrent,
    reduction,
    resampling,
    sampling,
    shape,
)
from porting_check.numerics.operators.registry import (
    OUTPUT_COUNT,
    Array,
    Operator,
    find,
    moves_data,
    operator,
    supported,
)

FAMILIES = (
    activation, attention, convolution, elementwise, indexing, linear, normalization, pooling, recurrent,
    reduction, resampling, sampling, shape,
)  # fmt: skip
"""The modules whose import fills the table."""

__all__ = ["OUTPUT_COUNT", "Array", "Operator", "find", "moves_data", "operator", "supported"]

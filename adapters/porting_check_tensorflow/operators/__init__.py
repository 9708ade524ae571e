"""TensorFlow's raw operators in the neutral language: one describer per operator type."""

from __future__ import annotations

from typing import Any, Mapping, Sequence, Union

from porting_check.neutral.errors import PaddingError
from porting_check_tensorflow.described import Described, Operand
from porting_check_tensorflow.operators import (  # noqa: F401 - importing a family enters it into the table
    activation,
    convolution,
    elementwise,
    indexing,
    linear,
    movement,
    normalization,
    pooling,
    reduction,
    spatial,
)
from porting_check_tensorflow.operators.call import (
    TABLE,
    Call,
    UndescribedError,
    plain_attributes,
    refused_dtype,
)

__all__ = ["BOOKKEEPING", "PASS_THROUGH", "describe_operator", "plain_attributes"]

PASS_THROUGH = frozenset(
    "Identity IdentityN StopGradient PreventGradient Snapshot EnsureShape CheckNumerics "
    "DebugGradientIdentity".split()
)
"""Operator types whose output i is input i; they need no record of their own."""

BOOKKEEPING = frozenset(
    "NoOp Assert Const Placeholder Shape ShapeN Size Rank VarHandleOp VarIsInitializedOp ReadVariableOp "
    "VariableShape Print PrintV2 StringFormat BroadcastArgs BroadcastGradientArgs ConcatOffset "
    "InvertPermutation".split()
)
"""Operator types that compute nothing from the values of tensors; their outputs are fixed."""


def describe_operator(
    op_type: str, attributes: Mapping[str, Any], inputs: Sequence[Operand], outputs: Sequence[Operand]
) -> Union[Described, str]:
    """One executed operator in the neutral language, or the reason why it has no description.

    Example:
        >>> import numpy as np
        >>> x = Operand((2, 3), "float32", lambda: np.ones((2, 3), np.float32))
        >>> print(describe_operator("Relu6", {}, [x], [x]).nodes[0])
        Clip()
        >>> describe_operator("FFT2D", {}, [x], [x])
        'tf.raw_ops.FFT2D is not described'

    Args:
        op_type: TensorFlow's operator type, for example ``"Conv2D"``.
        attributes: as the operator callback, the NodeDef or :func:`plain_attributes` gives them; absent ones
            have TensorFlow's default.
        inputs: all inputs in order; the values of axes, shapes and paddings are read and become constants.
        outputs: all outputs in order.
    """
    describer = TABLE.get(op_type)
    if describer is None:
        return f"tf.raw_ops.{op_type} is not described"
    call = Call(op_type, plain_attributes(attributes), inputs, outputs)
    foreign = refused_dtype(list(inputs) + list(outputs))
    if foreign is not None:
        return f"tf.raw_ops.{op_type} on {foreign} is not described"
    try:
        describer(call)
    except (UndescribedError, PaddingError) as reason:
        return f"tf.raw_ops.{op_type} {reason}"
    return call.described()

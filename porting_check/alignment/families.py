"""Families of operators that a port may exchange for one another by mistake, and so must be paired to be compared."""

from __future__ import annotations

from porting_check.neutral.graph import Step

FAMILIES = {
    "linear": "Conv ConvTranspose Gemm MatMul Einsum ConvInteger QLinearConv",
    "normalization": (
        "BatchNormalization LayerNormalization GroupNormalization InstanceNormalization RMSNormalization "
        "LRN LpNormalization MeanVarianceNormalization"
    ),
    "activation": (
        "Relu Clip LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid HardSigmoid HardSwish Swish Mish Tanh Softplus Softsign "
        "ThresholdedRelu Shrink Erf Softmax LogSoftmax Hardmax"
    ),
    "pooling": (
        "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool AdaptiveAveragePool AdaptiveMaxPool "
        "ReduceMean ReduceMax ReduceSum"
    ),
    "addition": "Add Sub Sum Mean",
    "multiplication": "Mul Div Pow",
    "extremum": "Max Min",
    "resampling": "Resize Upsample GridSample",
    "recurrent": "LSTM GRU RNN",
    "attention": "Attention",
    "lookup": "Gather",
}

_OF = {op: family for family, ops in FAMILIES.items() for op in ops.split()}


def family(step: Step) -> str:
    """The family of a step's operator; an operator outside the table is a family of its own.

    Example:
        >>> family(conv_step), family(opaque_step)       # doctest: +SKIP
        ('linear', 'opaque')
    """
    if step.node is None:
        return "opaque"
    if step.movement:
        return "movement"
    return _OF.get(step.node.op_type, step.node.op_type)

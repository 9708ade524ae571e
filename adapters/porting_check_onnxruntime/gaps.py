"""What ONNX Runtime's own kernels do not run, in part or at all: held true by the tests, strictly, both ways."""

from __future__ import annotations

from typing import Dict

TYPES = "impossible: no kernel on the CPU for some of the standard's types: "
NEWER = "impossible: an operator of opset 27 or later; ONNX Runtime 1.31 runs opsets up to 26"
BATCHWISE = "not yet: ONNX Runtime has no batch-first recurrent kernels (layout=1), it would take transpositions around"

GAPS: Dict[str, str] = {
    "AdaptiveAveragePool": "impossible: neither the standard nor ONNX Runtime has adaptive pooling",
    "AdaptiveMaxPool": "impossible: neither the standard nor ONNX Runtime has adaptive pooling",
    "Attention": (
        "impossible: windows are attributes of opset 27, bfloat16 lacks kernels, and a causal mask beside a past differs"
    ),
    "BitCast": TYPES + "bool",
    "BitShift": TYPES + "uint16 and signed integers",
    "Cast": TYPES + "float4e2m1, float8e8m0",
    "CastLike": TYPES + "float4e2m1, float8e8m0",
    "CausalConvWithState": NEWER,
    "Celu": TYPES + "float16, float64",
    "Compress": TYPES + "bfloat16",
    "ConvInteger": "impossible: its kernel wants zero points for padding",
    "DFT": "impossible: its kernel is off by 1e-4 where other frameworks reach 1e-6",
    "DequantizeLinear": TYPES + "uint2, int2, float4e2m1",
    "Dropout": "not yet: the ratio was an attribute before opset 12, and one case is in that form",
    "Einsum": TYPES + "bfloat16",
    "GRU": BATCHWISE,
    "LSTM": BATCHWISE,
    "LinearAttention": NEWER,
    "Max": TYPES + "int16, uint16",
    "MaxUnpool": "impossible: output_shape with other sizes than the pooling had is read otherwise",
    "Min": TYPES + "int16, uint16",
    "Mod": "impossible: floating types only with fmod=1",
    "OneHot": TYPES + "bfloat16",
    "Pow": TYPES + "unsigned exponents",
    "QuantizeLinear": TYPES + "uint2, int2, float4e2m1",
    "RNN": BATCHWISE,
    "Range": TYPES + "float16, bfloat16",
    "ReduceMax": "impossible: no maximum of an empty set of truth values",
    "Resize": (
        "impossible: a linear resize to one element with align_corners takes the last place, the standard the first"
    ),
    "ReverseSequence": TYPES + "bfloat16",
    "STFT": "impossible: its kernel is off by 1e-5 where others reach 1e-6",
    "SpaceToDepth": "impossible: its mode is an attribute of opset 27",
    "SwiGLU": NEWER,
    "TopK": TYPES + "uint64",
    "Unique": TYPES + "bfloat16",
}
"""Operators of which some case fails, and why; ``impossible: …`` where no work on the adapter can change that."""

SINGLE = (
    "Acos Acosh Asin Asinh Atan Atanh AveragePool Col2Im Conv ConvTranspose Cosh Det DynamicQuantizeLinear Elu Erf Gelu "
    "GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Hardmax InstanceNormalization LRN LayerNormalization LeakyRelu "
    "LpPool Mean MeanVarianceNormalization MelWeightMatrix Mish NonMaxSuppression PRelu QLinearConv QLinearMatMul "
    "RotaryEmbedding Selu Sinh Softplus Softsign Tan ThresholdedRelu Upsample"
)
"""Operators without a kernel for float64."""

FLOAT32_ONLY: Dict[str, str] = dict.fromkeys(SINGLE.split(), "no kernel for float64")
FLOAT32_ONLY["GlobalLpPool"] = "no kernel for float64"
FLOAT32_ONLY["Shrink"] = "its results are rounded to float32"
FLOAT32_ONLY["GroupNormalization"] = "the function that it is made of goes through float32"
"""Operators that are not evaluated in float64, and why."""

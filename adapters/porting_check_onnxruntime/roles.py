"""Which constant tensors are weights, and which are part of the code."""

from __future__ import annotations

import collections
from typing import Any, Dict, List, Set, Tuple

import numpy as np
from onnx import TensorProto

from porting_check_onnxruntime.checks import all_nodes

SMALL = 64
"""Integer constants of at most this many elements are part of the code; floating ones only as scalars."""

WEIGHTS: Dict[str, Tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "FusedConv": (1, 2),
    "QLinearConv": (3, 8),
    "Gemm": (1, 2),
    "FusedGemm": (1, 2),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3, 4),
    "PRelu": (1,),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
}
"""Inputs that are weights, whatever their size."""

CODE: Dict[str, Tuple[int, ...]] = {
    "Clip": (1, 2),
    "CumSum": (1,),
    "DequantizeLinear": (2,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "GatherND": (1,),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "QuantizeLinear": (2,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "ScatterND": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    "Where": (0,),
    **{f"Reduce{name}": (1,) for name in "Max Min Mean Prod Sum L1 L2 LogSum LogSumExp SumSquare".split()},
}
"""Inputs that say how to compute."""

FLOATING = frozenset(
    (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    + (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
    + (
        getattr(TensorProto, "FLOAT8E4M3FN", 0),
        getattr(TensorProto, "FLOAT8E4M3FNUZ", 0),
        getattr(TensorProto, "FLOAT8E5M2", 0),
        getattr(TensorProto, "FLOAT8E5M2FNUZ", 0),
    )
)


def parameter_names(graph: Any) -> Set[str]:
    """Names of the constant tensors that are weights, in a graph and in the graphs inside it."""
    uses: Dict[str, List[Tuple[str, int]]] = collections.defaultdict(list)
    for node in all_nodes(graph):
        for place, name in enumerate(node.input):
            uses[name].append((node.op_type, place))
    return {tensor.name for tensor in initializers(graph) if _is_weight(tensor, uses[tensor.name])}


def initializers(graph: Any) -> List[Any]:
    """Initializers of a graph and of the graphs inside it."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                found += initializers(inner)
    return found


def _is_weight(tensor: Any, uses: List[Tuple[str, int]]) -> bool:
    if tensor.data_type in (TensorProto.STRING, TensorProto.BOOL, TensorProto.UNDEFINED):
        return False
    if any(place in WEIGHTS.get(op_type, ()) for op_type, place in uses):
        return True
    if uses and all(place in CODE.get(op_type, ()) for op_type, place in uses):
        return False
    size = int(np.prod(tuple(tensor.dims), dtype=np.int64))
    if tensor.data_type in FLOATING:
        return len(tensor.dims) > 0 and size > 1
    return size > SMALL

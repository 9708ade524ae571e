"""TFLite's operators in the neutral language.

Most compute what an operator of TensorFlow's does and differ in how its options are written: those are turned into
that operator's attributes and described by it. An activation fused into an operator becomes a further node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import numpy as np

from porting_check.neutral.errors import PaddingError
from porting_check_tensorflow.described import Described, Operand
from porting_check_tensorflow.lite_schema import LiteOperation
from porting_check_tensorflow.operators.activation import activate
from porting_check_tensorflow.operators.call import TABLE, Call, UndescribedError, refused_dtype

BOOKKEEPING = frozenset("SHAPE RANK RANGE CALL_ONCE VAR_HANDLE".split())
"""Operators that compute nothing from the values of tensors; their outputs are fixed."""

PASS_THROUGH = frozenset(["IDENTITY"])

FUSED = {1: "Relu", 2: "ReluN1", 3: "Relu6", 4: "Tanh"}
"""``ActivationFunctionType`` of the schema by number; 0 is none."""

CONTROL = frozenset("IF WHILE CALL STABLEHLO_WHILE STABLEHLO_COMPOSITE STABLEHLO_CASE".split())

Options = Mapping[str, Any]
LiteDescriber = Callable[["LiteCall"], None]
LITE: Dict[str, LiteDescriber] = {}
"""Describers of operators that TensorFlow has no equal of, by TFLite's name."""


class LiteCall(Call):
    """One executed operator of TFLite while it is turned into nodes."""

    def __init__(
        self,
        operation: LiteOperation,
        op_type: str,
        attributes: Options,
        inputs: Sequence[Operand],
        outputs: Sequence[Operand],
    ) -> None:
        super().__init__(op_type, attributes, inputs, outputs)
        self.options = operation.options
        self._fused = int(operation.options.get("fusedActivationFunction") or 0)

    def option(self, name: str, default: Any = 0) -> Any:
        """An option of the operator."""
        found = self.options.get(name)
        return default if found is None else found

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and bool(self.inputs[index].dtype)

    def give(self, value: str, index: int = 0, layout: str = "", canonical: str = "") -> None:
        """Give an output, after the activation that is fused into the operator."""
        if self._fused:
            value = self._activated(value)
        super().give(value, index, layout, canonical)

    def _activated(self, value: str) -> str:
        if self._fused not in FUSED:
            self.refuse(f"with fused activation {self._fused} is not described")
        if FUSED[self._fused] == "ReluN1":
            return self.node("Clip", value, self.limit(-1, "min"), self.limit(1, "max"))
        return activate(self, FUSED[self._fused], value)

    def limit(self, number: float, name: str) -> str:
        """A scalar constant of the output's dtype."""
        return self.constant(np.asarray(number, self.outputs[0].dtype), name)


def lite(*op_types: str) -> Callable[[LiteDescriber], LiteDescriber]:
    """Enter a describer into the table under TFLite's names."""

    def enter(describer: LiteDescriber) -> LiteDescriber:
        for op_type in op_types:
            LITE[op_type] = describer
        return describer

    return enter


class Same(NamedTuple):
    """The operator of TensorFlow that computes the same.

    Attributes:
        op_type: its type.
        attributes: its attributes, from TFLite's options.
        order: which inputs it takes, in its own order; empty: all as they are.
        more: inputs that TFLite writes as options, appended.
    """

    op_type: str
    attributes: Callable[[Options], Dict[str, Any]] = lambda options: {}
    order: Tuple[int, ...] = ()
    more: Callable[[Options], List[Any]] = lambda options: []


def _options(**names: str) -> Callable[[Options], Dict[str, Any]]:
    """Attributes that are options under other names."""
    return lambda options: {ours: options[theirs] for ours, theirs in names.items() if theirs in options}


_MASKS = _options(
    begin_mask="beginMask",
    end_mask="endMask",
    ellipsis_mask="ellipsisMask",
    new_axis_mask="newAxisMask",
    shrink_axis_mask="shrinkAxisMask",
)
_KEEP = _options(keep_dims="keepDims")
_RESIZE = _options(align_corners="alignCorners", half_pixel_centers="halfPixelCenters")
_SAME_NAMES = {
    "AddV2": "ADD",
    "Sub": "SUB",
    "Mul": "MUL",
    "RealDiv": "DIV",
    "SquaredDifference": "SQUARED_DIFFERENCE",
    "FloorDiv": "FLOOR_DIV",
    "FloorMod": "FLOOR_MOD",
    "NotEqual": "NOT_EQUAL",
    "GreaterEqual": "GREATER_EQUAL",
    "LessEqual": "LESS_EQUAL",
    "LogicalAnd": "LOGICAL_AND",
    "LogicalOr": "LOGICAL_OR",
    "LogicalNot": "LOGICAL_NOT",
    "AddN": "ADD_N",
    "Relu": "RELU",
    "Relu6": "RELU6",
    "Elu": "ELU",
    "Tanh": "TANH",
    "Sigmoid": "LOGISTIC",
    "LogSoftmax": "LOG_SOFTMAX",
    "Cast": "CAST",
    "Select": "SELECT",
    "SelectV2": "SELECT_V2",
    "ExpandDims": "EXPAND_DIMS",
    "Transpose": "TRANSPOSE",
    "Split": "SPLIT",
    "SplitV": "SPLIT_V",
    "Slice": "SLICE",
    "Pad": "PAD",
    "PadV2": "PADV2",
    "Tile": "TILE",
    "BroadcastTo": "BROADCAST_TO",
    "Fill": "FILL",
    "ZerosLike": "ZEROS_LIKE",
    "ReverseV2": "REVERSE_V2",
    "GatherNd": "GATHER_ND",
    "ScatterNd": "SCATTER_ND",
    "ArgMax": "ARG_MAX",
    "ArgMin": "ARG_MIN",
    "TopKV2": "TOPK_V2",
    "SpaceToBatchND": "SPACE_TO_BATCH_ND",
    "BatchToSpaceND": "BATCH_TO_SPACE_ND",
    **{
        name.capitalize(): name
        for name in "POW MAXIMUM MINIMUM EQUAL GREATER LESS ABS NEG EXP LOG SQRT RSQRT SQUARE SIN COS "
        "FLOOR CEIL ROUND SIGN".split()
    },
}

SAME: Dict[str, Same] = {
    **{theirs: Same(ours) for ours, theirs in _SAME_NAMES.items()},
    "LEAKY_RELU": Same("LeakyRelu", _options(alpha="alpha")),
    "SQUEEZE": Same("Squeeze", lambda o: {"squeeze_dims": _list(o.get("squeezeDims"))}),
    "PACK": Same("Pack", _options(axis="axis")),
    "UNPACK": Same("Unpack", _options(axis="axis")),
    "STRIDED_SLICE": Same("StridedSlice", _MASKS),
    "MIRROR_PAD": Same("MirrorPad", lambda o: {"mode": "SYMMETRIC" if o.get("mode") else "REFLECT"}),
    "GATHER": Same(
        "GatherV2", _options(batch_dims="batchDims"), (0, 1), lambda o: [np.asarray(o.get("axis") or 0)]
    ),
    "EMBEDDING_LOOKUP": Same("GatherV2", order=(1, 0), more=lambda o: [np.asarray(0)]),
    "ONE_HOT": Same("OneHot", _options(axis="axis")),
    "CUMSUM": Same("Cumsum", _options(exclusive="exclusive", reverse="reverse")),
    "MEAN": Same("Mean", _KEEP),
    "SUM": Same("Sum", _KEEP),
    "REDUCE_MAX": Same("Max", _KEEP),
    "REDUCE_MIN": Same("Min", _KEEP),
    "REDUCE_PROD": Same("Prod", _KEEP),
    "REDUCE_ANY": Same("Any", _KEEP),
    "REDUCE_ALL": Same("All", _KEEP),
    "RESIZE_BILINEAR": Same("ResizeBilinear", _RESIZE),
    "RESIZE_NEAREST_NEIGHBOR": Same("ResizeNearestNeighbor", _RESIZE),
    "SPACE_TO_DEPTH": Same("SpaceToDepth", _options(block_size="blockSize")),
    "DEPTH_TO_SPACE": Same("DepthToSpace", _options(block_size="blockSize")),
    "BATCH_MATMUL": Same("BatchMatMulV2", _options(adj_x="adjX", adj_y="adjY")),
    "MATRIX_DIAG": Same("MatrixDiag"),
    "LOCAL_RESPONSE_NORMALIZATION": Same(
        "LRN", _options(depth_radius="radius", alpha="alpha", beta="beta", bias="bias")
    ),
}
"""Operators of TFLite that are one of TensorFlow's."""


def _list(value: Any) -> Tuple[int, ...]:
    return () if value is None else tuple(int(item) for item in value)


def describe_lite(
    operation: LiteOperation, inputs: Sequence[Operand], outputs: Sequence[Operand]
) -> Union[Described, str]:
    """One executed operator in the neutral language, or the reason why it has no description.

    Example:
        >>> x = Operand((2, 3), "float32", lambda: np.ones((2, 3), np.float32))
        >>> [node.op_type for node in describe_lite(LiteOperation("LOGISTIC", (0,), (1,)), [x], [x]).nodes]
        ['Sigmoid']
        >>> describe_lite(LiteOperation("WHILE", (0,), (1,)), [x], [x])
        'tflite.WHILE runs other graphs of the file whole'

    Args:
        operation: from the file.
        inputs: all inputs in order, absent ones without a dtype.
        outputs: all outputs in order.
    """
    name = f"tflite.{operation.op_type}"
    if operation.op_type in CONTROL:
        return f"{name} runs other graphs of the file whole"
    foreign = refused_dtype([operand for operand in list(inputs) + list(outputs) if operand.dtype])
    if operation.custom or (operation.op_type not in LITE and operation.op_type not in SAME):
        return f"{name} is not described"
    if foreign is not None:
        return f"{name} on {foreign} is not described"
    try:
        return _describe(operation, inputs, outputs)
    except (UndescribedError, PaddingError) as reason:
        return f"{name} {reason}"


def _describe(operation: LiteOperation, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> Described:
    if operation.op_type in LITE:
        call = LiteCall(operation, operation.op_type, {}, inputs, outputs)
        LITE[operation.op_type](call)
        return call.described()
    same = SAME[operation.op_type]
    order = same.order or tuple(range(len(inputs)))
    taken = [inputs[index] for index in order] + [_fixed(value) for value in same.more(operation.options)]
    call = LiteCall(operation, same.op_type, same.attributes(operation.options), taken, outputs)
    if same.op_type not in TABLE:
        call.refuse("is not described")
    TABLE[same.op_type](call)
    found = call.described()
    ports = tuple(replace(spec, index=order[spec.index]) for spec in found.inputs)
    return replace(found, inputs=ports)


def _fixed(value: np.ndarray) -> Operand:
    return Operand(tuple(value.shape), str(value.dtype.name), lambda: value, fixed=True)

"""TFLite files: operators, tensors and signatures, read from the flatbuffer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from porting_check.neutral.errors import FrameworkMissing, ModelError

ABSENT = -1
"""Stands for an optional input that is not given."""

QUANTIZED = ("int4", "int8", "uint8", "int16")


@dataclass(frozen=True)
class LiteTensor:
    """One tensor of a graph.

    Attributes:
        name: as the file has it, ``a;b;c`` where operators were fused.
        shape: with ``None`` for axes that are free.
        dtype: numpy's name, or TFLite's own for what numpy lacks (``string``, ``resource``).
        constant: whether its value is in the file.
        quantized: whether its integers stand for real numbers by a scale.
    """

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str
    constant: bool = False
    quantized: bool = False


@dataclass(frozen=True)
class LiteOperation:
    """One operator: ``CONV_2D`` or the name of a custom one, indices of tensors, and options by name."""

    op_type: str
    inputs: Tuple[int, ...]
    outputs: Tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: bool = False


@dataclass(frozen=True)
class LiteGraph:
    """The main graph of a file.

    Attributes:
        inputs, outputs: index of the tensor by name: names of the signature, else ``"0"``, ``"1"``, …
    """

    tensors: Tuple[LiteTensor, ...]
    operations: Tuple[LiteOperation, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def schema() -> Any:
    """The generated reader of the file format.

    Raises:
        FrameworkMissing: neither package that brings it is installed.
    """
    try:
        from ai_edge_litert import schema_py_generated

        return schema_py_generated
    except ImportError:
        pass
    try:
        from tensorflow.lite.python import schema_py_generated

        return schema_py_generated
    except ImportError:
        raise FrameworkMissing(
            "reading TFLite files needs the package ai-edge-litert (or tensorflow.lite, which newer TensorFlow "
            "leaves out): run pip install ai-edge-litert"
        ) from None


def read_graph(content: bytes, path: str) -> LiteGraph:
    """The main graph of a file.

    Raises:
        ModelError: it is no TFLite file, or a damaged one.
    """
    reader = schema()
    if content[4:8] != b"TFL3":
        raise ModelError(
            f"{path!r} is no TFLite model: it lacks the mark TFL3 (cut short, or of another kind)"
        )
    try:
        model = reader.ModelT.InitFromObj(reader.Model.GetRootAsModel(content, 0))
        graph = model.subgraphs[0]
        tensors = tuple(_tensor(reader, model, tensor) for tensor in graph.tensors)
        names = _names(reader.BuiltinOperator)
        operations = tuple(_operation(model, names, one) for one in _items(graph.operators))
        inputs, outputs = _ends(model, graph)
    except (
        Exception
    ) as error:  # flatbuffers raises anything, from struct.error to TypeError, on a damaged file
        raise ModelError(f"{path!r} is a damaged TFLite model: {type(error).__name__}: {error}") from None
    return LiteGraph(tensors, operations, inputs, outputs)


def _items(value: Any) -> List[Any]:
    """A vector of the file, which may be absent (and may be a numpy array, which has no truth)."""
    return [] if value is None else list(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _names(kind: Any) -> Dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


def _tensor(reader: Any, model: Any, tensor: Any) -> LiteTensor:
    shape = tuple(int(size) for size in _items(tensor.shape))
    signature = tuple(int(size) for size in _items(tensor.shapeSignature)) or shape
    data = model.buffers[tensor.buffer].data if tensor.buffer < len(model.buffers) else None
    kind = _names(reader.TensorType)[tensor.type].lower()
    scales = tensor.quantization is not None and len(_items(tensor.quantization.scale)) > 0
    return LiteTensor(
        _text(tensor.name),
        tuple(None if size < 0 else size for size in signature),
        kind,
        len(_items(data)) > 0,
        scales and kind in QUANTIZED + ("int32", "int64"),
    )


def _operation(model: Any, names: Mapping[int, str], one: Any) -> LiteOperation:
    code = model.operatorCodes[one.opcodeIndex]
    number = max(int(code.builtinCode), int(getattr(code, "deprecatedBuiltinCode", 0)))
    custom = names.get(number) == "CUSTOM"
    op_type = _text(code.customCode) if custom else names.get(number, f"operator {number}")
    options = dict(vars(one.builtinOptions)) if one.builtinOptions is not None else {}
    if getattr(one, "builtinOptions2", None) is not None:
        options.update(vars(one.builtinOptions2))
    inputs, outputs = (tuple(int(index) for index in _items(side)) for side in (one.inputs, one.outputs))
    return LiteOperation(op_type, inputs, outputs, options, custom)


def _ends(model: Any, graph: Any) -> Tuple[Dict[str, int], Dict[str, int]]:
    """Inputs and outputs by the names of the one signature of the main graph, else by position."""
    signatures = [one for one in _items(model.signatureDefs) if not one.subgraphIndex]
    found = []
    for side, indices in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        wanted = [int(index) for index in _items(indices)]
        named = _items(getattr(signatures[0], side)) if len(signatures) == 1 else []
        by_index = {int(one.tensorIndex): _text(one.name) for one in named}
        if len(by_index) == len(wanted) == len(set(wanted)) and set(by_index) == set(wanted):
            found.append({name: index for index, name in by_index.items()})
        else:
            found.append({str(place): index for place, index in enumerate(wanted)})
    return found[0], found[1]

"""TFLite models: loaded, run, and recorded with every tensor that the interpreter computes.

What is recorded are TFLite's own built-in kernels. By default the interpreter hands what it can to XNNPACK, which
computes in one piece and shows nothing of its inside; where that gives other last digits, a note says so.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from porting_check.neutral.adapter import Inputs, InputSpec
from porting_check.neutral.errors import FrameworkMissing, InputError, ModelError, RunError, WeightsError
from porting_check.neutral.trace import Sink
from porting_check_tensorflow.lite_record import LiteRecorder, parameter_names, plain_name
from porting_check_tensorflow.lite_schema import LiteGraph, LiteOperation, read_graph

CHANNELS = {
    **dict.fromkeys("CONV_2D DEPTHWISE_CONV_2D AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D".split(), 0),
    **dict.fromkeys("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SPACE_TO_DEPTH DEPTH_TO_SPACE".split(), 0),
    "TRANSPOSE_CONV": 2,
}
"""Operators on channels-last images, and which input the image is."""

KEEPS_AXES = frozenset(
    "ADD SUB MUL DIV MAXIMUM MINIMUM NEG ABS SQRT SQUARE RELU RELU6 PAD PADV2 MIRROR_PAD CAST QUANTIZE "
    "DEQUANTIZE".split()
)
"""Operators whose output has the axes of their first input."""


class LiteModel:
    """A TFLite file.

    Args:
        content: of the file.
        path: where it came from, for messages.

    Raises:
        ModelError: it is no TFLite file, or a damaged one.
        FrameworkMissing: no package can read it.
    """

    def __init__(self, content: bytes, path: str = "a TFLite model") -> None:
        self.content = bytes(content)
        self.path = path
        self.__name__ = os.path.basename(path)
        self.graph: LiteGraph = read_graph(self.content, path)


def load(path: str) -> LiteModel:
    """Read a ``.tflite`` file.

    Raises:
        ModelError: missing, damaged, or of another kind.
    """
    if not os.path.isfile(path):
        raise ModelError(f"the model file {path!r} does not exist")
    with open(path, "rb") as file:
        return LiteModel(file.read(), path)


def owns(model: Any) -> bool:
    """Whether this is a model of :func:`load`."""
    return isinstance(model, LiteModel)


def inputs(model: LiteModel) -> Tuple[InputSpec, ...]:
    """Inputs as the file declares them; layouts from the first operator with channels that each one reaches."""
    specs = []
    for name, index in model.graph.inputs.items():
        tensor = model.graph.tensors[index]
        layout = _layout(model.graph, index) if len(tensor.shape) == 4 else ""
        specs.append(InputSpec(name, tensor.shape, tensor.dtype, layout))
    return tuple(specs)


def _layout(graph: LiteGraph, index: int) -> str:
    """``NHWC`` when an operator on images reads this tensor, or what only shifts or scales it."""
    reached = {index}
    for operation in graph.operations:
        place = CHANNELS.get(operation.op_type)
        if place is not None and len(operation.inputs) > place and operation.inputs[place] in reached:
            return "NHWC"
        if operation.op_type in KEEPS_AXES and operation.inputs[0] in reached:
            reached.update(operation.outputs)
    return ""


def predict(model: LiteModel, inputs: Inputs) -> Dict[str, np.ndarray]:
    """Outputs of one run with TFLite's built-in kernels, by the signature's names, owned.

    Raises:
        InputError: inputs of other names, shapes or dtypes.
        RunError: the interpreter refused the model or failed in it.
    """
    return _outputs(model, _run(model, inputs))


def repeat(model: LiteModel, inputs: Inputs) -> Tuple[Dict[str, np.ndarray], Dict[str, np.ndarray]]:
    """Outputs of two runs in a row of one interpreter, whose variables go on between them."""
    interpreter = _run(model, inputs)
    first = _outputs(model, interpreter)
    _invoke(interpreter)
    return first, _outputs(model, interpreter)


def record(model: LiteModel, inputs: Inputs, sink: Sink) -> List[str]:
    """Run once with all tensors kept, and put every operator into the sink; returns notes.

    Raises:
        InputError: inputs of other names, shapes or dtypes.
        RunError: the interpreter refused the model or failed in it.
    """
    fed = _named(model, inputs)
    interpreter = _run(model, fed, keep=True)
    LiteRecorder(model.graph, interpreter.get_tensor, sink).record(fed)
    found = _outputs(model, interpreter)
    return _delegated(model, fed, found)


def parameters(model: LiteModel) -> Dict[str, np.ndarray]:
    """Every constant of the file that is a weight, by the name of its tensor."""
    interpreter = _interpreter(model, False, False)
    return {
        name: interpreter.get_tensor(index).copy() for index, name in parameter_names(model.graph).items()
    }


def assign(model: LiteModel, parameters: Mapping[str, np.ndarray]) -> None:
    """Weights of a TFLite file are written into it.

    Raises:
        WeightsError: always.
    """
    raise WeightsError(
        f"the weights in {model.path!r} are part of the file and cannot be written "
        f"({len(parameters)} were given): write them into the model that it is converted from"
    )


# The interpreter.


def _library() -> Any:
    """The module with ``Interpreter`` and ``OpResolverType``.

    Raises:
        FrameworkMissing: neither package is installed.
    """
    try:
        from ai_edge_litert import interpreter

        return interpreter
    except ImportError:
        pass
    try:
        from tensorflow.lite.python import interpreter

        return interpreter
    except ImportError:
        raise FrameworkMissing(
            "running TFLite models needs the package ai-edge-litert (or tensorflow.lite, which newer TensorFlow "
            "leaves out): run pip install ai-edge-litert"
        ) from None


def _interpreter(model: LiteModel, keep: bool, delegates: bool) -> Any:
    library = _library()
    kinds = library.OpResolverType
    resolver = kinds.AUTO if delegates else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        return library.Interpreter(
            model_content=model.content,
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=keep,
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(f"TFLite cannot run {model.path!r}: {_headline(error)}{_hint(model)}") from error


def _run(model: LiteModel, inputs: Inputs, keep: bool = False, delegates: bool = False) -> Any:
    """An interpreter that has run on these inputs."""
    fed = _named(model, inputs)
    interpreter = _interpreter(model, keep, delegates)
    known = {int(detail["index"]): detail for detail in interpreter.get_input_details()}
    for name, index in model.graph.inputs.items():
        _check(name, fed[name], model.graph.tensors[index].shape, np.dtype(known[index]["dtype"]))
        if tuple(known[index]["shape"]) != fed[name].shape:
            interpreter.resize_tensor_input(index, fed[name].shape)
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RunError(f"TFLite cannot run {model.path!r}: {_headline(error)}{_hint(model)}") from error
    for name, index in model.graph.inputs.items():
        interpreter.set_tensor(index, np.ascontiguousarray(fed[name]))
    _invoke(interpreter)
    return interpreter


def _invoke(interpreter: Any) -> None:
    try:
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise RunError(f"the model raised {type(error).__name__}: {_headline(error)}") from error


def _named(model: LiteModel, inputs: Inputs) -> Dict[str, np.ndarray]:
    """Inputs by the model's own names; positions and names of tensors are welcome.

    Raises:
        InputError: other names, or another number of inputs.
    """
    wanted = list(model.graph.inputs)
    tensors = {model.graph.tensors[index].name: name for name, index in model.graph.inputs.items()}
    given = {tensors.get(name, name): np.asarray(array) for name, array in inputs.items()}
    if set(given) != set(wanted) and len(given) == len(wanted) and all(name.isdigit() for name in given):
        given = dict(zip(wanted, (given[name] for name in sorted(given, key=int))))
    if set(given) != set(wanted):
        raise InputError(f"the inputs are called {sorted(inputs)}; {model.path!r} has the inputs {wanted}")
    return given


def _check(name: str, array: np.ndarray, shape: Tuple[Any, ...], dtype: Any) -> None:
    fits = len(shape) == array.ndim and all(a is None or a == b for a, b in zip(shape[1:], array.shape[1:]))
    if not fits:
        said = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise InputError(f"input {name!r} has shape {array.shape}; the model expects {said}")
    if array.dtype != dtype:
        raise InputError(f"input {name!r} has dtype {array.dtype}; the model expects {dtype}")


def _outputs(model: LiteModel, interpreter: Any) -> Dict[str, np.ndarray]:
    return {name: interpreter.get_tensor(index).copy() for name, index in model.graph.outputs.items()}


def _delegated(model: LiteModel, fed: Inputs, found: Mapping[str, np.ndarray]) -> List[str]:
    """A note where a run as users make it, with XNNPACK, gives other numbers than what was recorded."""
    try:
        usual = _outputs(model, _run(model, fed, delegates=True))
    except RunError as error:
        return [f"with TFLite's default delegate (XNNPACK) the model does not run: {error}"]
    floats = [name for name in found if found[name].dtype.kind == "f" and found[name].size]
    pairs = [(usual[name].astype(np.float64), found[name].astype(np.float64)) for name in floats]
    largest = max((float(np.max(np.abs(a - b))) for a, b in pairs if a.shape == b.shape), default=0.0)
    if not largest:
        return []
    said = "TFLite's built-in kernels were recorded; its default delegate (XNNPACK) cannot be looked into"
    return [f"{said} and gives outputs that differ by up to {largest:.2g}"]


def _headline(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _hint(model: LiteModel) -> str:
    flex = [plain_name(o.op_type) for o in model.graph.operations if _flex(o)]
    return f" (it holds TensorFlow's own operators: {', '.join(sorted(set(flex))[:5])})" if flex else ""


def _flex(operation: LiteOperation) -> bool:
    return operation.custom and operation.op_type.startswith("Flex")


def training(model: LiteModel) -> Tuple[str, ...]:
    """Nothing in a TFLite file is in training mode."""
    return ()

"""Execute one node of the neutral language with ONNX Runtime's own kernels, as a model of one node."""

from __future__ import annotations

import functools
import re
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from porting_check.neutral.errors import RunError, UnsupportedNode
from porting_check.neutral.node import OPSET, Node
from porting_check.neutral.padding import same_padding
from porting_check_onnxruntime.compat import dtype_of_element, element_of_dtype
from porting_check_onnxruntime.compat_opset import EARLY, newest_opset, older_form
from porting_check_onnxruntime.gaps import FLOAT32_ONLY as FLOAT32_ONLY
from porting_check_onnxruntime.gaps import GAPS as GAPS
from porting_check_onnxruntime.session import (
    NARROW,
    PROVIDERS,
    REFUSED,
    element_type,
    first_line,
    narrow_dtype,
)

OLDEST = 18
"""Opset down to which a node of opset 24 means the same where ONNX Runtime lacks the newer version's kernel."""

ABSENT = frozenset(
    "Bernoulli ConcatFromSequence If ImageDecoder Loop MaxRoiPool Multinomial NegativeLogLikelihoodLoss Optional "
    "OptionalGetElement OptionalHasElement RandomNormal RandomNormalLike RandomUniform RandomUniformLike RegexFullMatch "
    "Scan SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
    "SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TfIdfVectorizer".split()
)
"""Operators that no neutral node stands for."""

WIDE = {dtype: (number, wide) for dtype, number, wide in NARROW.values()}
FLOATS = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE))

NO_KERNEL = r"not a registered function|No Op registered|Could not find an implementation|under development"
"""What ONNX Runtime says of operators that it lacks."""

UNABLE = (errors.NotImplemented, errors.InvalidGraph)
"""What ONNX Runtime raises where it has no kernel, or the standard no such types."""


@functools.lru_cache(maxsize=None)
def supported() -> FrozenSet[str]:
    """Names of the operators that :func:`run` hands to ONNX Runtime; which of them it can run is for its kernels to say.

    Example:
        >>> "Conv" in supported()
        True
    """
    known = frozenset(
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if schema.domain == "" and schema.name not in ABSENT
    )
    return known | EARLY


def run(
    node: Node, inputs: Sequence[Optional[np.ndarray]], *, float64: bool = False
) -> Tuple[np.ndarray, ...]:
    """Execute one node in inference, with ONNX opset-24 semantics, on the CPU.

    Args:
        node: what to compute.
        inputs: one array per name in ``node.inputs``, ``None`` for an optional input that is absent.
        float64: cast floating inputs to float64 and use the kernels for it, where there are any.

    Returns:
        One owned array per name in ``node.outputs``.

    Raises:
        UnsupportedNode: ONNX Runtime has no kernel for this operator, or none for these types.
        RunError: it refused these inputs (shapes that do not fit, for example).

    Example:
        >>> x = np.array([[-1.0, 2.0]], np.float32)
        >>> run(Node("Relu", ("x",)), [x])[0]
        array([[0., 2.]], dtype=float32)
    """
    _refuse(node, inputs, float64)
    arrays = [None if a is None else _double(np.asarray(a)) if float64 else np.asarray(a) for a in inputs]
    node = _explicit(node, arrays)
    while arrays and arrays[-1] is None:
        arrays.pop()
    reason: Optional[Exception] = None
    for opset in _opsets(node.op_type):
        try:
            said, given = older_form(node, arrays) if opset < OLDEST else (node, arrays)
            results = _run(_wide(said) if float64 else said, given, opset)
            return _all_wide(node, results) if float64 else results
        except UNABLE as error:
            reason = reason or error
        except REFUSED as error:
            raise _explained(node, error) from error
    assert reason is not None
    kind = " in float64 (the kernels are for float32 only)" if float64 else ""
    raise UnsupportedNode(
        f"onnxruntime {onnxruntime.__version__} cannot run {node}{kind}: {first_line(reason)}"
    ) from reason


def _explicit(node: Node, arrays: Sequence[Optional[np.ndarray]]) -> Node:
    """A pool whose stride exceeds its kernel with SAME resolved: ONNX Runtime makes the total padding negative there.

    (It refuses it for floats and shifts the windows for integers; the standard clamps the total at zero.)
    """
    mode, data = node.attributes.get("auto_pad", "NOTSET"), arrays[0] if arrays else None
    kernel: Tuple[int, ...] = node.attributes.get("kernel_shape", ())
    if (
        node.op_type not in ("MaxPool", "AveragePool", "LpPool")
        or not mode.startswith("SAME")
        or data is None
    ):
        return node
    strides = node.attributes.get("strides", (1,) * len(kernel))
    dilations = node.attributes.get("dilations", (1,) * len(kernel))
    if all((k - 1) * d + 1 >= s for k, s, d in zip(kernel, strides, dilations)):
        return node
    extra = "end" if mode == "SAME_UPPER" else "begin"
    pads = same_padding(data.shape[2:], kernel, strides, dilations, extra)
    return node.edit(auto_pad="NOTSET", pads=pads.begins + pads.ends)


def _refuse(node: Node, inputs: Sequence[Optional[np.ndarray]], float64: bool) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in supported():
        where = f" of domain {node.domain!r}" if node.domain else ""
        raise UnsupportedNode(
            f"operator {node.op_type!r}{where} is not described for onnxruntime; see supported() for those that are"
        )
    if float64 and node.op_type in FLOAT32_ONLY:
        raise UnsupportedNode(f"onnxruntime does not run {node} in float64: {FLOAT32_ONLY[node.op_type]}")
    if any(array is not None and np.asarray(array).dtype.kind in "OUST" for array in inputs):
        raise UnsupportedNode(f"{node} reads strings, which no recording for onnxruntime holds")
    if node.op_type == "Dropout" and len(inputs) > 2 and inputs[2] is not None and bool(inputs[2]):
        if inputs[1] is None or float(inputs[1]):
            raise UnsupportedNode("Dropout with training_mode draws random numbers")


@functools.lru_cache(maxsize=None)
def _opsets(op_type: str) -> Tuple[int, ...]:
    """Opsets to try: 24, then older ones that stand before another version of the operator, newest first.

    An operator that opset 24 has no more, or not yet, is run where it is.
    """
    versions = {schema.since_version: schema for schema in _history() if schema.name == op_type}
    newest = newest_opset()
    if newest < OLDEST:
        return (newest,)
    current = max((version for version in versions if version <= OPSET), default=0)
    if not current:
        return (min(versions),)
    if versions[current].deprecated:
        return (current - 1,)
    return (OPSET, *(v - 1 for v in sorted(versions, reverse=True) if OLDEST < v <= OPSET))


@functools.lru_cache(maxsize=1)
def _history() -> Tuple[Any, ...]:
    """Every version of every operator of ONNX."""
    return tuple(schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == "")


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def _wide(node: Node) -> Node:
    """The node with casts to narrower floats turned into casts to float64."""
    if node.op_type == "BitCast":
        raise UnsupportedNode("BitCast reads the bits of a float32, which float64 has not")
    changed = {
        name: TensorProto.DOUBLE
        for name in ("to", "dtype", "output_dtype")
        if node.attributes.get(name) in FLOATS
    }
    return node.edit(**changed) if changed else node


def _all_wide(node: Node, results: Tuple[np.ndarray, ...]) -> Tuple[np.ndarray, ...]:
    """Results of a float64 evaluation; a float of less precision among them would pass for exact.

    Raises:
        UnsupportedNode: there is one.
    """
    narrow = [
        result.dtype.name for result in results if result.dtype.kind == "f" and result.dtype != np.float64
    ]
    if narrow:
        raise UnsupportedNode(f"onnxruntime gives an output of {node} as {narrow[0]} also in float64")
    return results


def _run(node: Node, arrays: Sequence[Optional[np.ndarray]], opset: int) -> Tuple[np.ndarray, ...]:
    """Build, open and run; narrow types go in and out through casts that keep their values."""
    nodes: List[Any] = []
    graph_inputs, feeds, names = [], {}, []
    for place, array in enumerate(arrays):
        names.append("" if array is None else f"x{place}")
        if array is None:
            continue
        number, wide = WIDE.get(array.dtype.name, (0, 0))
        fed = f"x{place}/wide" if wide else f"x{place}"
        if wide:
            array = array.astype(dtype_of_element(wide))
            nodes.append(onnx.helper.make_node("Cast", [fed], [f"x{place}"], to=number))
        kind = element_of_dtype(array.dtype)
        graph_inputs.append(onnx.helper.make_tensor_value_info(fed, kind, array.shape))
        feeds[fed] = np.ascontiguousarray(array).reshape(array.shape)
    outputs = [f"y{place}" for place in range(len(node.outputs))]
    attributes = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }
    if node.op_type == "Split" and len(names) < 2 and "num_outputs" not in attributes:
        attributes["num_outputs"] = len(outputs)  # equal parts needed no number before opset 18
    nodes.append(onnx.helper.make_node(node.op_type, names, outputs, **attributes))
    return _fetched(nodes, graph_inputs, feeds, outputs, opset)


def _fetched(
    nodes: List[Any], graph_inputs: List[Any], feeds: Dict[str, np.ndarray], names: List[str], opset: int
) -> Tuple[np.ndarray, ...]:
    session = _session(nodes, graph_inputs, names, opset)
    kinds = {value.name: element_type(value.type) for value in session.get_outputs()}
    narrow = {name: NARROW[kind] for name, kind in kinds.items() if kind in NARROW}
    if narrow:
        casts = [
            onnx.helper.make_node("Cast", [name], [f"{name}/wide"], to=wide)
            for name, (_, _, wide) in narrow.items()
        ]
        session = _session(
            nodes + casts, graph_inputs, [f"{name}/wide" if name in narrow else name for name in names], opset
        )
    results = []
    for name, value in zip(names, session.run(None, feeds)):
        if not isinstance(value, np.ndarray):
            raise UnsupportedNode(f"output {name} is no tensor")
        made = value.astype(narrow_dtype(narrow[name][0])) if name in narrow else value
        results.append(np.array(made))
    return tuple(results)


def _session(nodes: List[Any], graph_inputs: List[Any], names: List[str], opset: int) -> Any:
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = onnx.helper.make_graph(nodes, "one_node", graph_inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_ir_version())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)


@functools.lru_cache(maxsize=1)
def _ir_version() -> int:
    """The newest version of the file format that goes with opset 24 and that onnx writes."""
    return min(int(onnx.IR_VERSION), 11)


def _explained(node: Node, error: BaseException) -> Exception:
    """ONNX Runtime's refusal in the project's words."""
    line = first_line(error)
    missing = re.search(NO_KERNEL, str(error))
    if missing or "not supported" in line or "does not support" in line or "not implemented" in line.lower():
        return UnsupportedNode(f"onnxruntime {onnxruntime.__version__} cannot run {node}: {line}")
    return RunError(
        f"onnxruntime could not run {node}: {type(error).__name__}: {line}; check the shapes and attributes"
    )

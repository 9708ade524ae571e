"""The whole model in float64, node by node: ONNX Runtime's kernels for double where there are any, numpy's where not.

ONNX Runtime has none for Conv, Erf, Gelu, Resize, recurrent layers and some more. Convolutions and the error function are
computed here (the one as products of matrices, the other by the C library), the rest by ``onnx.reference``.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx
from numpy.lib.stride_tricks import as_strided
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from porting_check.neutral.adapter import Inputs
from porting_check.neutral.errors import ModelError, RunError, Unsupported
from porting_check_onnxruntime.compat import element_of_dtype
from porting_check_onnxruntime.model import OnnxModel
from porting_check_onnxruntime.prepared import Prepared, prepare, subgraphs
from porting_check_onnxruntime.session import Session, first_line
from porting_check_onnxruntime.specs import checked_feeds

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
TYPES = ("to", "dtype", "output_dtype", "stash_type")
"""Attributes that say in which type to compute."""

NARROW_INSIDE = {
    "GroupNormalization": "is defined by ONNX with a step in float32 (stash_type), so part of it was float32",
    "HardSwish": "is defined by ONNX with 1/6 as a float32, so part of it was float32",
}
"""Operators that are computed with float32 inside also when they are given float64 (measured: off by 2e-7 and 4e-8)."""

ATTRIBUTES = (
    "ONNX stores real attributes (epsilon, alpha) as float32, so that is what the run in float64 used"
)

Array = np.ndarray
Arrays = Sequence[Optional[Array]]


def float64_outputs(model: OnnxModel, inputs: Inputs) -> Tuple[Dict[str, Array], List[str]]:
    """Outputs of one run in float64 by name, and what the reader must know of it.

    Raises:
        Unsupported: an operator that nothing at hand computes in float64.
        InputError: inputs that the model does not take.
    """
    prepared = prepare(model)
    feeds = checked_feeds(prepared, inputs)
    run = _WideRun(prepared)
    held = run.run({name: wide(np.asarray(array)) for name, array in feeds.items()})
    outputs = [value.name for value in prepared.proto.graph.output]
    return {name: held[name] for name in outputs if isinstance(held.get(name), np.ndarray)}, run.notes()


def wide(array: Array) -> Array:
    """An array of real numbers in float64, anything else as it is."""
    return array.astype(np.float64) if array.dtype.kind in "fV" else array


class _WideRun:
    """One run of a graph in float64; remembers which operators ONNX Runtime has no kernels for."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared, self.graph = prepared, prepared.proto.graph
        self.lacking: Dict[str, str] = {}
        self.narrow: List[str] = []

    def run(self, feeds: Mapping[str, Array]) -> Dict[str, Array]:
        """Every node in order; values are freed after their last use."""
        held: Dict[str, Any] = {
            tensor.name: wide(np.asarray(self.prepared.array(tensor.name)))
            for tensor in self.graph.initializer
        }
        held.update(feeds)
        last = {name: place for place, node in enumerate(self.graph.node) for name in _reads(node)}
        kept = {value.name for value in self.graph.output}
        for place, node in enumerate(self.graph.node):
            made = self._node(node, held)
            held.update(zip(node.output, made))
            for name in set(_reads(node)) - kept:
                if last[name] == place:
                    held.pop(name, None)
        return held

    def notes(self) -> List[str]:
        """What the reader must know of the run."""
        found = []
        if self.lacking:
            names = ", ".join(sorted(self.lacking))
            found.append(
                f"ONNX Runtime has no kernels in float64 for {names}: numpy and onnx.reference computed those"
            )
        if any(_is_inexact(value) for node in self.graph.node for value in node.attribute):
            found.append(ATTRIBUTES)
        return found + self.narrow

    def _node(self, node: Any, held: Mapping[str, Any]) -> List[Any]:
        given = [held.get(name) if name else None for name in node.input]
        own = OWN.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if own is not None and given[0] is not None and given[0].dtype == np.float64:
            made = own(given, _attributes(node))
            if made is not None:
                self.lacking.setdefault(node.op_type, "own")
                return [made]
        double = _doubled(node)
        results = None if node.op_type in self.lacking else self._by_runtime(double, held)
        return self._by_reference(double, held) if results is None else self._checked(node, given, results)

    def _by_runtime(self, node: Any, held: Mapping[str, Any]) -> Optional[List[Any]]:
        """The outputs by ONNX Runtime's kernel; ``None`` where it has none."""
        part, feeds = self._alone(node, held)
        try:
            found = Session(part).run([name for name in node.output if name], feeds)
        except (
            ModelError,
            RunError,
        ) as error:  # a kernel may find out only when it runs that it has no double
            self.lacking[node.op_type] = first_line(error)
            return None
        return [found.get(name) for name in node.output]

    def _by_reference(self, node: Any, held: Mapping[str, Any]) -> List[Any]:
        part, feeds = self._alone(node, held)
        try:
            found = ReferenceEvaluator(part).run(None, feeds)
        except Exception as error:
            raise Unsupported(
                f"nothing here computes {node.op_type} ({node.name or node.output[0]}) in float64: ONNX Runtime: "
                f"{self.lacking.get(node.op_type, 'no kernel')}; onnx.reference: {type(error).__name__}: {first_line(error)}"
            ) from error
        results = dict(zip((name for name in node.output if name), found))
        given = [held.get(name) for name in node.input if name]
        return self._checked(node, given, [results.get(name) for name in node.output])

    def _checked(self, node: Any, given: Arrays, results: List[Any]) -> List[Any]:
        """Results that came out as float32 although float64 went in are noted, and widened."""
        real = any(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in given)
        if real and any(isinstance(r, np.ndarray) and r.dtype in (np.float32, np.float16) for r in results):
            self._island(node, "gives float32 also when it is given float64")
        if real and node.op_type in NARROW_INSIDE:
            self._island(node, NARROW_INSIDE[node.op_type])
        return [wide(result) if isinstance(result, np.ndarray) else result for result in results]

    def _island(self, node: Any, what: str) -> None:
        text = f"{node.op_type} {node.name} {what}".replace("  ", " ")
        if text not in self.narrow:
            self.narrow.append(text)

    def _alone(self, node: Any, held: Mapping[str, Any]) -> Tuple[Any, Dict[str, Array]]:
        """A model of this node alone, fed with all that it reads."""
        part = onnx.ModelProto(ir_version=self.prepared.proto.ir_version)
        part.opset_import.extend(self.prepared.proto.opset_import)
        part.graph.name = "node"
        part.graph.node.append(node)
        feeds = {name: held[name] for name in dict.fromkeys(_reads(node)) if name in held}
        for name, array in feeds.items():
            if not isinstance(array, np.ndarray):
                raise Unsupported(f"{node.op_type} ({node.name}) reads {name!r}, which is no tensor")
            kind = element_of_dtype(array.dtype)
            part.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        return part, feeds


def _reads(node: Any) -> Iterator[str]:
    """Names that a node reads, those that the graphs inside it take from outside too."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        made: Set[str] = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        made |= {name for inner in graph.node for name in inner.output}
        yield from (name for inner in graph.node for name in _reads(inner) if name not in made)
        yield from (value.name for value in graph.output if value.name not in made)


def _doubled(node: Any) -> Any:
    """The node with its types and tensors of real numbers in double, in the graphs inside too."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.name in TYPES and attribute.i in FLOATS:
            attribute.i = TensorProto.DOUBLE
        elif attribute.HasField("t") and attribute.t.data_type in FLOATS:
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(wide(onnx.numpy_helper.to_array(attribute.t))))
    for graph in subgraphs(copy):
        for tensor in graph.initializer:
            if tensor.data_type in FLOATS:
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(wide(onnx.numpy_helper.to_array(tensor)), tensor.name)
                )
        for value in [*graph.input, *graph.output]:
            if value.type.tensor_type.elem_type in FLOATS:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        del graph.value_info[:]
        inner = [_doubled(part) for part in graph.node]
        del graph.node[:]
        graph.node.extend(inner)
    return copy


def _attributes(node: Any) -> Dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _is_inexact(attribute: Any) -> bool:
    """Whether an attribute is a number that float32 does not hold: 0.1, not 0.5."""
    return bool(attribute.type == onnx.AttributeProto.FLOAT and attribute.f != round(attribute.f, 7))


def _conv(given: Arrays, attributes: Mapping[str, Any]) -> Optional[Array]:
    """A convolution as one product of matrices for each group; ``None`` where the padding must be worked out first."""
    x, w = given[0], given[1]
    assert x is not None and w is not None
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    rank = x.ndim - 2
    strides, dilations = (tuple(attributes.get(k) or (1,) * rank) for k in ("strides", "dilations"))
    pads = tuple(attributes.get("pads") or (0,) * 2 * rank)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:])])
    kernel, groups = w.shape[2:], int(attributes.get("group", 1))
    out = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations))
    shape = (x.shape[0], groups, x.shape[1] // groups, *kernel, *out)
    steps = x.strides[2:]
    windows = (
        x.strides[0],
        x.strides[1] * shape[2],
        x.strides[1],
        *(s * d for s, d in zip(steps, dilations)),
    )
    columns = as_strided(x, shape, (*windows, *(s * d for s, d in zip(steps, strides))), writeable=False)
    flat = columns.reshape(shape[0], groups, -1, int(np.prod(out)))
    made = np.matmul(w.reshape(groups, w.shape[0] // groups, -1), flat).reshape(x.shape[0], w.shape[0], *out)
    bias = given[2] if len(given) > 2 else None
    return made if bias is None else made + bias.reshape(-1, *(1,) * rank)


_erf_of = np.vectorize(math.erf, otypes=[np.float64])


def _erf(given: Arrays, attributes: Mapping[str, Any]) -> Optional[Array]:
    x = given[0]
    assert x is not None
    return np.asarray(_erf_of(x)).reshape(x.shape)


def _gelu(given: Arrays, attributes: Mapping[str, Any]) -> Optional[Array]:
    x = given[0]
    assert x is not None
    if attributes.get("approximate", b"none") == b"tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.asarray(_erf_of(x / math.sqrt(2))).reshape(x.shape))


OWN: Dict[str, Callable[[Arrays, Mapping[str, Any]], Optional[Array]]] = {
    "Conv": _conv,
    "Erf": _erf,
    "Gelu": _gelu,
}
"""Operators that ONNX Runtime lacks in float64 and ``onnx.reference`` computes slowly, or with float32 inside."""

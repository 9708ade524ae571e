"""The conformance cases of the ONNX standard, as nodes for an adapter's ``run``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from porting_check.neutral.errors import InputError, PaddingError, RunError, UnsupportedNode
from porting_check.neutral.node import Node

onnx = pytest.importorskip("onnx")

Run = Callable[..., tuple[np.ndarray, ...]]

NOT_INFERENCE = {
    "Bernoulli": "random",
    "If": "control flow",
    "ImageDecoder": "image decoding",
    "Loop": "control flow",
    "NegativeLogLikelihoodLoss": "a loss",
    "OptionalGetElement": "optionals",
    "OptionalHasElement": "optionals",
    "RegexFullMatch": "strings",
    "Scan": "control flow",
    "SequenceInsert": "sequences",
    "SequenceMap": "sequences",
    "SoftmaxCrossEntropyLoss": "a loss",
    "SplitToSequence": "sequences",
    "StringConcat": "strings",
    "StringNormalizer": "strings",
    "StringSplit": "strings",
    "TfIdfVectorizer": "text",
}
"""Operators that no neutral node stands for, and why."""

WITHOUT_CASES = {
    "AdaptiveAveragePool": "porting_check's own",
    "AdaptiveMaxPool": "porting_check's own",
    "GlobalLpPool": "the standard has none",
}
"""Operators that are run and have no case in the standard; test_run_agreement.py has them."""

NOT_DESCRIBED = {
    "ConcatFromSequence": "sequences",
    "MaxRoiPool": "not yet: superseded by RoiAlign, and the standard has no case",
    "Multinomial": "random",
    "Optional": "optionals",
    "RandomNormal": "random",
    "RandomNormalLike": "random",
    "RandomUniform": "random",
    "RandomUniformLike": "random",
    "SequenceAt": "sequences",
    "SequenceConstruct": "sequences",
    "SequenceEmpty": "sequences",
    "SequenceErase": "sequences",
    "SequenceLength": "sequences",
}
"""Operators of the standard without cases of their own that no adapter runs, and why."""

SKIPPED_CASES = {
    "test_training_dropout_default": "training, random",
    "test_training_dropout_default_mask": "training, random",
    "test_training_dropout": "training, random",
    "test_training_dropout_mask": "training, random",
    "test_equal_string": "strings",
    "test_equal_string_broadcast": "strings",
    "test_identity_sequence": "sequences",
    "test_identity_opt": "optionals",
}
"""Single cases of other operators, by name, and why."""

FOUR_DIGITS = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
}
"""Cases whose expected values are written with four digits in the standard."""

TOLERANCE = {
    "float16": (4e-3, 2e-3),
    "bfloat16": (2e-2, 1e-2),
    "float32": (1e-5, 2e-6),
    "float64": (1e-7, 1e-7),
}
"""Relative and absolute tolerance by dtype; expected values of narrow ones were rounded at every step."""


@dataclass(frozen=True)
class Case:
    """One node with inputs and what it must give; ``opset`` is that of the standard's model."""

    name: str
    opset: int
    node: Node
    inputs: tuple[np.ndarray | None, ...]
    expected: dict[str, np.ndarray]


def array(value: Any) -> np.ndarray:
    """A value of the conformance data as an array."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def attribute(proto: Any) -> Any:
    """An attribute as a node holds it."""
    value = onnx.helper.get_attribute_value(proto)
    return array(value) if isinstance(value, onnx.TensorProto) else value


def node_of(proto: Any) -> Node:
    """A node of an ONNX graph in the neutral language."""
    attributes = {found.name: attribute(found) for found in proto.attribute}
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes, proto.domain)


@functools.cache
def collected() -> tuple[Any, ...]:
    """Every case of the standard whose operators are of the domain ai.onnx."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return tuple(case for case in found if not any(node.domain for node in case.model.graph.node))


@functools.cache
def cases() -> dict[str, tuple[Case, ...]]:
    """The cases of one node each, by operator of inference."""
    found: dict[str, list[Case]] = {}
    for case in collected():
        graph = case.model.graph
        if len(graph.node) != 1 or graph.node[0].op_type in NOT_INFERENCE or case.name in SKIPPED_CASES:
            continue
        node, opset = node_of(graph.node[0]), case.model.opset_import[0].version
        for feeds, wanted in case.data_sets:
            given = {proto.name: array(feed) for proto, feed in zip(graph.input, feeds, strict=True)}
            expected = {proto.name: array(value) for proto, value in zip(graph.output, wanted, strict=True)}
            inputs = tuple(given[name] if name else None for name in node.inputs)
            found.setdefault(node.op_type, []).append(Case(case.name, opset, node, inputs, expected))
    return {op_type: tuple(of) for op_type, of in sorted(found.items())}


def compare(name: str, found: np.ndarray, wanted: np.ndarray) -> None:
    """Same dtype and shape; floats within the tolerance of their type, everything else equal."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if wanted.dtype.name not in TOLERANCE:
        # narrow floats and integers: the same bits, except that a NaN may carry any sign
        np.testing.assert_array_equal(found.astype(float), wanted.astype(float))
        return
    rtol, atol = (1e-3, 1e-4) if name in FOUR_DIGITS else TOLERANCE[wanted.dtype.name]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=rtol, atol=atol)


def check(run: Run, case: Case) -> None:
    """Run one case in its own dtypes."""
    before = [None if given is None else given.tobytes() for given in case.inputs]
    found = dict(zip(case.node.outputs, run(case.node, case.inputs), strict=True))
    assert before == [None if given is None else given.tobytes() for given in case.inputs]
    for name, wanted in case.expected.items():
        compare(case.name, found[name], wanted)
        assert not any(np.shares_memory(found[name], given) for given in case.inputs if given is not None)


def failures(run: Run, chosen: Sequence[Case]) -> dict[str, str]:
    """Names of the cases that fail, with the first line of why."""
    failed = {}
    for case in chosen:
        try:
            check(run, case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return failed


def failures_of_graphs(run: Run, supported: frozenset[str]) -> tuple[int, dict[str, str]]:
    """Run the cases of several nodes, node by node: how many there are, and those that fail."""
    count, failed = 0, {}
    for case in collected():
        graph = case.model.graph
        if len(graph.node) == 1 or not {node.op_type for node in graph.node} <= supported:
            continue
        count += 1
        try:
            _check_graph(run, case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return count, failed


def _check_graph(run: Run, case: Any) -> None:
    """Run the nodes of one case in order and compare its outputs."""
    graph = case.model.graph
    for feeds, wanted in case.data_sets:
        values: dict[str, np.ndarray] = {tensor.name: array(tensor) for tensor in graph.initializer}
        values.update({proto.name: array(feed) for proto, feed in zip(graph.input, feeds, strict=True)})
        for proto in graph.node:
            node = node_of(proto)
            results = run(node, [values[name] if name else None for name in node.inputs])
            values.update(zip(node.outputs, results, strict=True))
        for proto, value in zip(graph.output, wanted, strict=True):
            compare(case.name, values[proto.name], array(value))


def by_operator(supported: frozenset[str], gaps: dict[str, str]) -> list[Any]:
    """Parameters for a test per operator: those in ``gaps`` must fail, so that a closed gap is noticed."""
    return [
        pytest.param(op_type, marks=pytest.mark.xfail(reason=gaps[op_type], strict=True))
        if op_type in gaps
        else op_type
        for op_type in sorted(supported - WITHOUT_CASES.keys())
    ]


def check_coverage(supported: frozenset[str]) -> None:
    """Every operator of the standard is run or its absence is explained, and nothing explained is run."""
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    explained = NOT_INFERENCE.keys() | NOT_DESCRIBED.keys()
    assert standard - supported == explained & standard
    assert not explained & supported
    assert cases().keys() == supported - WITHOUT_CASES.keys()


def check_refusals(run: Run, framework: str) -> None:
    """What cannot be run is refused with what was found, by errors that users may catch."""
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(UnsupportedNode, match=f"'Blur'.*{framework}"):
        run(Node("Blur", ("x",)), [x])
    with pytest.raises(UnsupportedNode, match=r"'Relu' of domain 'com\.example'"):
        run(Node("Relu", ("x",), domain="com.example"), [x])
    with pytest.raises(UnsupportedNode, match=rf"{framework}.*strings"):
        run(Node("Identity", ("x",)), [np.array(["text"])])
    with pytest.raises(UnsupportedNode, match=r"int4.*cast it first"):
        run(Node("Identity", ("x",)), [np.zeros(2, ml_dtypes.int4)])
    with pytest.raises(RunError, match=rf"{framework} could not run MatMul\(\)"):
        run(Node("MatMul", ("a", "b")), [x, x])
    with pytest.raises(InputError, match="MatMul needs input 1"):
        run(Node("MatMul", ("a",)), [x])
    with pytest.raises(UnsupportedNode, match=r"gives 1 outputs.*asked for 2"):
        run(Node("Relu", ("x",), ("y", "z")), [x])
    with pytest.raises(UnsupportedNode, match="training_mode"):
        run(Node("Dropout", ("x", "ratio", "mode")), [x, np.float32(0.5), np.array(True)])
    with pytest.raises(PaddingError, match="kernel"):
        run(Node("Conv", ("x", "w")), [x[None], np.zeros((1, 2, 4), np.float32)])
    with pytest.raises(UnsupportedNode, match="mode 'mirror'"):
        run(Node("Pad", ("x", "p"), attributes={"mode": "mirror"}), [x, np.array([1, 1, 1, 1])])


def check_narrow_types(run: Run) -> None:
    """Types that frameworks only store are computed all the same; where they cannot be, that is said."""
    for dtype in (np.int8, np.int16, np.uint8, np.uint16, np.uint32, np.uint64):
        a, b = np.array([7, 200 % 127, 3], dtype), np.array([2, 3, 5], dtype)
        for op_type, wanted in (("Add", a + b), ("Mul", a * b), ("Max", np.maximum(a, b)), ("Mod", a % b)):
            found = run(Node(op_type, ("a", "b")), [a, b])[0]
            assert (found.dtype, found.tolist()) == (dtype, wanted.tolist())
        square = np.array([[1, 2], [3, 4]], dtype)
        for op_type, inputs, wanted in (
            ("Abs", [a], a),
            ("Sign", [a], np.ones(3)),
            ("MatMul", [square, square], square @ square),
            ("Tile", [a, np.array([2])], np.tile(a, 2)),
            ("CumSum", [a, np.array(0)], np.cumsum(a)),
        ):
            found = run(Node(op_type, tuple("ab"[: len(inputs)])), inputs)[0]
            assert (found.dtype, found.tolist()) == (dtype, wanted.tolist())
        (place,) = run(Node("ArgMax", ("a",), attributes={"keepdims": 0}), [a])
        assert (place.dtype, int(place)) == (np.int64, int(a.argmax()))
    found = run(Node("Transpose", ("x",)), [np.ones((2, 3), ml_dtypes.bfloat16)])[0]
    assert (found.dtype, found.shape) == (np.dtype(ml_dtypes.bfloat16), (3, 2))
    with pytest.raises(UnsupportedNode, match=r"uint64 values of 2\*\*63"):
        run(Node("Pow", ("a", "b")), [np.array([2**63], np.uint64), np.array([1], np.uint64)])
    with pytest.raises(UnsupportedNode, match="cannot run"):
        run(Node("Softmax", ("a",)), [np.array([1], np.int32)])


def check_float64(run: Run) -> None:
    """Every floating result of a float64 evaluation is float64, and no operator went through float32."""
    for op_type, chosen in cases().items():
        for case in chosen:
            if op_type == "BitCast" or not any(_floating(given) for given in case.inputs):
                continue
            for result in run(case.node, case.inputs, float64=True):
                integer = result.dtype.kind in "biu" or "int" in result.dtype.name
                assert integer or result.dtype == np.float64, case.name
    with pytest.raises(UnsupportedNode, match="bits of a float32"):
        run(Node("BitCast", ("x",), attributes={"to": 6}), [np.zeros(2, np.float32)], float64=True)


def _floating(given: np.ndarray | None) -> bool:
    """Whether an input is of a floating type."""
    return given is not None and (given.dtype.kind == "f" or given.dtype.name in ("bfloat16",))

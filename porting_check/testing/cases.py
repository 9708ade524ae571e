"""The conformance cases of the ONNX standard, as nodes for an adapter's ``run``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from porting_check.neutral.node import Node
from porting_check.numerics.normal import at_float32

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
"""Operators that are run and have no case in the standard; the contract of agreement has them."""

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
    """An attribute as a node holds it, ``None`` where the standard has no default for it."""
    if proto.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = onnx.helper.get_attribute_value(proto)
    return array(value) if isinstance(value, onnx.TensorProto) else value


def node_of(proto: Any) -> Node:
    """A node of an ONNX graph in the neutral language."""
    attributes = {found.name: attribute(found) for found in proto.attribute}
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes, proto.domain)


def explicit(node: Node) -> Node:
    """The node with every real attribute written out and rounded to float32, as a file of the standard holds it.

    Frameworks that take attributes in float64 then compute with the same numbers as those that read them from a file.
    """
    if node.domain not in ("", "ai.onnx"):
        return at_float32(node)
    known = onnx.defs.get_schema(node.op_type).attributes.items()
    reals = {
        name: attribute(a.default_value) for name, a in known if a.type == onnx.defs.OpSchema.AttrType.FLOAT
    }
    given = {
        name: value for name, value in reals.items() if name not in node.attributes and value is not None
    }
    return at_float32(replace(node, attributes={**node.attributes, **given}))


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


def graphs(supported: frozenset[str], every: int = 1) -> list[Any]:
    """The cases of several nodes whose operators are all supported; ``every`` n-th of them."""
    found = [case for case in collected() if len(case.model.graph.node) > 1]
    return [c for c in found if {node.op_type for node in c.model.graph.node} <= supported][::every]


def failures_of_graphs(run: Run, chosen: Sequence[Any]) -> dict[str, str]:
    """Run cases of several nodes, node by node: those that fail, with the first line of why."""
    failed = {}
    for case in chosen:
        try:
            _check_graph(run, case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return failed


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

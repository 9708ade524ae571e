"""The conformance cases of the ONNX standard, as nodes for an adapter's ``run``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401  (registers the narrow dtypes)
import numpy as np
import pytest

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
    np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=rtol, atol=atol)


def check(run: Run, case: Case) -> None:
    """Run one case in its own dtypes."""
    found = dict(zip(case.node.outputs, run(case.node, case.inputs), strict=True))
    assert all(result.flags.owndata or result.base is not None for result in found.values())
    for name, wanted in case.expected.items():
        compare(case.name, found[name], wanted)


def failures(run: Run, chosen: Sequence[Case]) -> dict[str, str]:
    """Names of the cases that fail, with the first line of why."""
    failed = {}
    for case in chosen:
        try:
            check(run, case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return failed


def passing(run: Run) -> frozenset[str]:
    """The operators that pass all of their cases."""
    return frozenset(op_type for op_type, chosen in cases().items() if not failures(run, chosen))


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

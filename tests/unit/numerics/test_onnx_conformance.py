"""Every operator against the conformance data of the ONNX standard."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import ml_dtypes  # noqa: F401  (registers the narrow dtypes)
import numpy as np
import pytest

from porting_check.neutral.node import Node
from porting_check.numerics.operators import supported
from porting_check.numerics.truth import evaluate

onnx = pytest.importorskip("onnx")

GAPS = {
    "test_training_dropout_default": "training mode is random and has no truth",
    "test_training_dropout_default_mask": "training mode is random and has no truth",
    "test_training_dropout": "training mode is random and has no truth",
    "test_training_dropout_mask": "training mode is random and has no truth",
    "test_cast_e8m0_FLOAT_to_FLOAT8E8M0": "the scale format float8_e8m0 is no tensor dtype",
    "test_cast_e8m0_FLOAT16_to_FLOAT8E8M0": "the scale format float8_e8m0 is no tensor dtype",
}
"""Cases that must fail, and why. One that passes after all fails the test, so that this list stays true."""

FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad", "test_gridsample_bicubic"}
"""Cases whose expected values are written with four digits in the standard."""

TOLERANCE = {"float16": (4e-3, 2e-3), "bfloat16": (2e-2, 1e-2)}
"""Relative and absolute tolerance of the narrow dtypes, whose expected values were rounded at every step."""

WITHOUT_CASES = {
    "AdaptiveAveragePool": "an extension; against torch in test_pooling.py",
    "AdaptiveMaxPool": "an extension; against torch in test_pooling.py",
    "GlobalLpPool": "no case in the standard; against torch in test_pooling.py",
}


@functools.cache
def cases() -> dict[str, list[Any]]:
    """All cases whose operators are evaluated here, by operator; under "" models of several operators."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    for case in collected:
        operators = {node.op_type for node in case.model.graph.node}
        if operators <= supported() and not any(node.domain for node in case.model.graph.node):
            found.setdefault(operators.pop() if len(case.model.graph.node) == 1 else "", []).append(case)
    return found


def array(value: Any) -> np.ndarray:
    """A value of the conformance data as an array."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def nodes_of(graph: Any) -> list[Node]:
    """The nodes of an ONNX graph in the neutral language."""

    def attribute(proto: Any) -> Any:
        value = onnx.helper.get_attribute_value(proto)
        return array(value) if isinstance(value, onnx.TensorProto) else value

    return [
        Node(n.op_type, tuple(n.input), tuple(n.output), {a.name: attribute(a) for a in n.attribute})
        for n in graph.node
    ]


def check(case: Any) -> None:
    """Evaluate one case in its own dtypes; shapes and dtypes must be equal, values within its arithmetic."""
    graph = case.model.graph
    names = [output.name for output in graph.output]
    for feeds, expected in case.data_sets:
        values = {tensor.name: array(tensor) for tensor in graph.initializer}
        values.update({proto.name: array(feed) for proto, feed in zip(graph.input, feeds, strict=False)})
        found = evaluate(nodes_of(graph), values, dtype=None, keep=names)
        for name, wanted in zip(names, map(array, expected), strict=True):
            assert found[name].dtype == wanted.dtype
            assert found[name].shape == wanted.shape
            if wanted.dtype.kind not in "fV":
                np.testing.assert_array_equal(found[name], wanted)
                continue
            rtol, atol = TOLERANCE.get(wanted.dtype.name, (1e-5, 1e-6))
            rtol, atol = (1e-3, 1e-4) if case.name in FOUR_DIGITS else (rtol, atol)
            np.testing.assert_allclose(found[name].astype(float), wanted.astype(float), rtol=rtol, atol=atol)


def failures(chosen: list[Any]) -> dict[str, str]:
    """Names of the cases that fail, with their reason."""
    failed = {}
    for case in chosen:
        try:
            check(case)
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {error}"
    return failed


@pytest.mark.parametrize("op_type", sorted(supported()))
def test_operator_agrees_with_the_cases_of_the_standard(op_type: str) -> None:
    chosen = cases().get(op_type, [])
    assert bool(chosen) != (op_type in WITHOUT_CASES)
    failed = failures(chosen)
    gaps = {case.name for case in chosen} & GAPS.keys()
    assert failed.keys() == gaps, failed


def test_models_of_several_operators_agree_with_the_cases_of_the_standard() -> None:
    chosen = cases()[""]
    assert len(chosen) > 300
    assert failures(chosen) == {}

"""Evaluating chains of nodes: precision, memory, the fallback to ONNX's own reference, and refusals."""

from __future__ import annotations

import logging
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from porting_check.neutral.errors import PortingError
from porting_check.neutral.node import Node, chain
from porting_check.numerics.operators import find, supported
from porting_check.numerics.truth import CannotEvaluate, evaluate, evaluate_node, widened

CHAIN = chain([Node("Conv", ("x", "w")), Node("Relu", ("x",)), Node("GlobalAveragePool", ("x",))])


def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((1, 3, 8, 7)).astype(np.float32),
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
    }


def test_float32_values_are_evaluated_in_float64() -> None:
    values = parameters()
    made = evaluate(CHAIN, values)
    assert set(made) == {"_1", "_2", "y"}
    assert {array.dtype for array in made.values()} == {np.dtype(np.float64)}
    wide = evaluate(CHAIN, {name: array.astype(np.float64) for name, array in values.items()})
    for name, array in made.items():
        np.testing.assert_array_equal(array, wide[name])
    narrow = evaluate(CHAIN, values, dtype=None)
    assert narrow["y"].dtype == np.float32
    np.testing.assert_allclose(narrow["y"], made["y"], rtol=1e-5)


def test_the_values_given_are_not_changed() -> None:
    values = parameters()
    copies = {name: array.copy() for name, array in values.items()}
    for array in values.values():
        array.setflags(write=False)
    evaluate([*CHAIN, Node("Add", ("x", "x"), ("z",))], values)
    for name, array in values.items():
        np.testing.assert_array_equal(array, copies[name])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_every_floating_dtype_is_widened_and_integers_are_not(dtype: type) -> None:
    assert widened(np.ones(3, dtype), np.float64).dtype == np.float64
    assert widened(np.ones(3, dtype), None).dtype == dtype
    assert widened(np.ones(3, np.complex64), np.float64).dtype == np.complex128
    assert widened(np.ones(3, np.int16), np.float64).dtype == np.int16


def test_movement_alone_keeps_the_dtype_when_none_is_asked_for() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    turn = [Node("Transpose", ("x",), ("y",), {"perm": (1, 0)})]
    assert evaluate(turn, {"x": x}, dtype=None)["y"].dtype == np.float32
    assert evaluate(turn, {"x": x})["y"].dtype == np.float64
    assert evaluate_node(turn[0], [x])[0].dtype == np.float32


def test_a_cast_to_a_narrower_float_does_not_round_but_a_quantisation_and_an_integer_do() -> None:
    x = np.array([1 / 3, 300.7])
    for target in (1, 10, 16, "float32", "bfloat16"):
        np.testing.assert_array_equal(evaluate_node(Node("Cast", ("x",), ("y",), {"to": target}), [x])[0], x)
    assert evaluate_node(Node("Cast", ("x",), ("y",), {"to": 7}), [x])[0].tolist() == [0, 300]
    eight = evaluate_node(Node("Cast", ("x",), ("y",), {"to": 17}), [x])[0]
    np.testing.assert_array_equal(
        eight, x.astype(np.float32).astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
    )
    whole = np.array([2**60 + 1])
    assert evaluate_node(Node("Cast", ("x",), ("y",), {"to": 1}), [whole])[0].dtype == np.float64


def test_values_that_nobody_needs_any_more_are_freed() -> None:
    size = 1 << 20
    steps = [Node("Add", (f"v{i}", "x"), (f"v{i + 1}",)) for i in range(20)]
    tracemalloc.start()
    try:
        made = evaluate(steps, {"x": np.ones(size), "v0": np.ones(size)}, keep=["v20"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert set(made) == {"v20"}
    assert made["v20"][0] == 21
    assert peak < 6 * size * 8


def test_keep_returns_inputs_and_intermediate_values_by_name() -> None:
    values = parameters()
    made = evaluate(CHAIN, values, keep=["x", "_1"])
    assert set(made) == {"x", "_1"}
    np.testing.assert_array_equal(made["x"], values["x"])


def test_absent_inputs_and_unused_outputs_have_the_empty_name() -> None:
    x = np.array([-1.0, 0.5, 7.0])
    made = evaluate([Node("Clip", ("x", "", "high"), ("y",))], {"x": x, "high": np.array(6.0)})
    assert made["y"].tolist() == [-1, 0.5, 6]
    split = Node("Split", ("x",), ("", "b", ""), {"num_outputs": 3})
    assert {name: value.tolist() for name, value in evaluate([split], {"x": x}).items()} == {"b": [0.5]}


def test_a_name_that_nothing_makes_is_an_error() -> None:
    with pytest.raises(CannotEvaluate, match="'x'"):
        evaluate([Node("Relu", ("x",))], {})
    with pytest.raises(CannotEvaluate, match="'z'"):
        evaluate([Node("Relu", ("x",))], {"x": np.ones(2)}, keep=["z"])


def test_an_operator_without_a_rule_is_evaluated_by_onnx_in_float64(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("onnx")
    assert find("Det") is None
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    with caplog.at_level(logging.INFO, logger="porting_check"):
        (found,) = evaluate_node(Node("Det", ("x",), ("y",)), [x])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.linalg.det(x.astype(np.float64)), rtol=1e-12)
    assert "onnx.reference" in caplog.text


def test_the_fallback_takes_attributes_absent_inputs_and_several_outputs() -> None:
    pytest.importorskip("onnx")
    unique = Node("Unique", ("x",), ("y", "", "inverse"), {"sorted": 1})
    values, _, inverse = evaluate_node(unique, [np.array([3.0, 1.0, 3.0])])
    assert values.tolist() == [1, 3]
    assert inverse.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "node",
    [Node("NoSuchOperator", ("x",)), Node("Relu", ("x",), domain="com.example"), Node("Det", ("x", "x"))],
)
def test_what_nothing_can_evaluate_is_a_porting_error_that_names_the_operator(node: Node) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(CannotEvaluate, match=node.op_type) as caught:
        evaluate_node(node, [np.ones((2, 2))] * len(node.inputs))
    assert isinstance(caught.value, PortingError)
    assert caught.value.op_type == node.op_type
    assert caught.value.reason


def test_extra_outputs_are_made_only_when_the_node_names_them() -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 6))
    pool = {"kernel_shape": (2,)}
    assert len(evaluate_node(Node("MaxPool", ("x",), ("y",), pool), [x])) == 1
    assert len(evaluate_node(Node("MaxPool", ("x",), ("y", "i"), pool), [x])) == 2


def test_invalid_values_are_results_and_not_warnings(recwarn: pytest.WarningsRecorder) -> None:
    x = np.array([0.0, -1.0, np.inf, np.nan])
    for op_type in ("Log", "Sqrt", "Reciprocal", "Softmax", "Exp", "Acos"):
        evaluate_node(Node(op_type, ("x",)), [x])
    assert not recwarn.list


@pytest.mark.parametrize("op_type", sorted(supported()))
def test_every_operator_is_documented(op_type: str) -> None:
    function = find(op_type)
    assert function is not None
    assert function.__doc__

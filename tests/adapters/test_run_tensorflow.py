"""What tensorflow makes of nodes: the conformance cases of the ONNX standard, types, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from porting_check_tensorflow.run import run, supported

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.node import Node
from tests.adapters import run_cases

GAPS: dict[str, str] = {}
"""Operators of which some case fails, and why. One that passes after all turns its test red."""


@pytest.mark.parametrize("op_type", run_cases.by_operator(supported(), GAPS))
def test_operator_passes_all_cases_of_the_standard(op_type: str) -> None:
    assert run_cases.cases()[op_type]
    assert run_cases.failures(run, run_cases.cases()[op_type]) == {}


def test_every_operator_of_inference_is_run() -> None:
    run_cases.check_coverage(supported())
    assert len(run_cases.cases()) - len(GAPS) >= 165


def test_functions_of_several_nodes_pass_their_cases() -> None:
    count, failed = run_cases.failures_of_graphs(run, supported())
    assert count > 300
    assert failed == {}


def test_what_cannot_be_run_is_refused_with_a_reason() -> None:
    run_cases.check_refusals(run, "tensorflow")


def test_types_with_few_kernels_are_computed() -> None:
    run_cases.check_narrow_types(run)


def test_float64_results_are_float64() -> None:
    run_cases.check_float64(run)


def test_nothing_of_the_process_is_changed() -> None:
    rng, kind = tf.random.Generator.from_seed(5), tf.keras.backend.floatx()
    tf.random.set_global_generator(rng)
    state = rng.state.numpy().tolist()
    run(Node("Conv", ("x", "w")), [np.ones((1, 2, 5)), np.ones((3, 2, 2))])
    with pytest.raises(UnsupportedNode):
        run(Node("Blur", ("x",)), [np.ones(2)])
    assert tf.random.get_global_generator().state.numpy().tolist() == state
    assert (tf.keras.backend.floatx(), tf.executing_eagerly()) == (kind, True)


def test_operators_that_go_through_float32_silently_are_routed_around() -> None:
    x = np.random.default_rng(1).normal(size=(1, 3, 5, 4))
    third = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nodes = [
        (Node("Resize", ("x", "", "", "s"), attributes=third), [x, None, None, np.array([1, 3, 10, 8])]),
        (Node("LRN", ("x",), attributes={"size": 3, "alpha": 0.1}), [x]),
        (Node("Gelu", ("x",), attributes={"approximate": "none"}), [x]),
        (Node("LeakyRelu", ("x",), attributes={"alpha": 0.1}), [x]),
    ]
    for node, inputs in nodes:
        wide, native = run(node, inputs, float64=True)[0], run(node, [x.astype(np.float32), *inputs[1:]])[0]
        assert wide.dtype == np.float64
        assert native.dtype == np.float32
        assert 0 < np.abs(wide - native).max() < 1e-5
        assert (wide.astype(np.float32) != wide).mean() > 0.5

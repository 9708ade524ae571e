"""What torch makes of nodes: the conformance cases of the ONNX standard, types, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from porting_check_torch.run import run, supported

from porting_check.neutral.errors import UnsupportedNode
from porting_check.neutral.node import Node
from tests.adapters import run_cases

GAPS = {"Add": "planted"}
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
    run_cases.check_refusals(run, "torch")


def test_types_with_few_kernels_are_computed() -> None:
    run_cases.check_narrow_types(run)


def test_float64_results_are_float64() -> None:
    run_cases.check_float64(run)


def test_nothing_of_the_process_is_changed() -> None:
    torch.manual_seed(3)
    state, kind, grad = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    rng = np.random.default_rng(0)
    w, r = rng.normal(size=(1, 8, 3)), rng.normal(size=(1, 8, 2))
    run(Node("LSTM", ("x", "w", "r"), ("y",), {"hidden_size": 2}), [rng.normal(size=(4, 2, 3)), w, r])
    with pytest.raises(UnsupportedNode):
        run(Node("Blur", ("x",)), [w])
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (kind, grad)

"""Sweeps through the real frameworks: growth is compared with theory by wide margins, and with nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from porting_check.neutral.errors import RunError
from porting_check.sweeping import sweep

torch = pytest.importorskip("torch")
functional = torch.nn.functional

ALL = ("torch", "tensorflow", "jax", "onnxruntime")


def formula(x, w, b):
    return x @ w.T + b


def operands(n: int) -> tuple[np.ndarray, ...]:
    """The shapes of the founding question: 32 rows, a square matrix, no scaling."""
    rng = np.random.default_rng(n)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in ((32, n), (n, n), (n,)))


@pytest.fixture(scope="module")
def dense():
    return sweep("Gemm()", "dimension", (16, 128, 1024), frameworks=ALL, shape=(16, 64))


def test_all_frameworks_stay_within_round_off_at_every_dimension(dense):
    assert dense.verdict == "agree"
    assert dense.names == ALL
    assert [point.shape for point in dense.points] == [(16, 16), (16, 128), (16, 1024)]
    assert [point.terms for point in dense.points] == [17, 129, 1025]


def test_no_backend_grows_faster_than_sums_term_after_term(dense):
    predicted = dense.predicted_exponents
    assert 0.4 < predicted["expected"] < 0.55
    assert all(-0.2 < power < predicted["expected"] + 0.15 for power in dense.exponents.values())


def test_errors_lie_between_half_the_lower_and_twice_the_upper_line(dense):
    for point in dense.points:
        errors = [measure.rms for measure in point.measures.values()]
        assert 0.5 * point.band.low < min(errors)
        assert max(errors) < 2 * point.band.expected < point.band.limit


def test_sums_of_absolute_differences_stay_below_the_worst_order(dense):
    for point in dense.points:
        assert len(point.gaps) == 6
        assert all(gap.sum_abs < 1.5 * gap.predicted for gap in point.gaps)
    assert dense.points[-1].gap("torch", "jax").sum_abs > 0


def test_along_a_chain_the_inherited_error_grows_and_each_layers_own_does_not():
    found = sweep(
        "Conv(filters=8, padding=same)",
        "depth",
        (1, 4, 16),
        frameworks=("torch", "jax"),
        shape=(2, 8, 12, 12),
    )
    assert found.verdict == "agree"
    assert found.depth
    for name in found.names:
        own = [point.relative(point.measures[name].rms) for point in found.points]
        assert max(own) < 3 * min(own)
        assert found.error(found.points[-1], name) > 1.5 * own[-1]
        assert abs(found.exponents[name] - found.predicted_exponents["expected"]) < 0.35
    first = found.points[0].measures["torch"]
    assert first.end_to_end == pytest.approx(first.rms)  # nothing is inherited by the first layer


def test_the_magnitude_of_the_input_changes_no_relative_error():
    found = sweep("MatMul()", "magnitude", (1e-3, 1.0, 1e3), frameworks=("torch", "onnxruntime"))
    assert found.verdict == "agree"
    assert all(abs(power) < 0.02 for power in found.exponents.values())
    assert abs(found.predicted_exponents["expected"]) < 1e-3


def test_an_operator_that_one_framework_lacks_is_no_agreement():
    found = sweep(
        "Conv(filters=4)",
        "kernel",
        (1, 3),
        frameworks=("torch", "onnxruntime"),
        shape=(1, 2, 8, 8),
        float64=True,
    )
    assert found.verdict == "inconclusive"
    cells = [point.measures["onnxruntime"] for point in found.points]
    assert [cell.verdict for cell in cells] == ["refused", "refused"]
    assert all(cell.reason for cell in cells)
    errors = [point.measures["torch"].rms for point in found.points]
    assert all(error < 1e-14 for error in errors)


def test_the_formula_and_the_function_differ_by_no_more_than_predicted():
    found = sweep(
        (formula, functional.linear), "dimension", (64, 256, 1024), make=operands, computes="Gemm(transB=1)",
        frameworks="torch",
    )  # fmt: skip
    assert found.verdict == "agree"
    assert (
        1.8 < found.sum_exponents["predicted"] < 2.2
    )  # outputs times the root of the terms times the root of y
    for point in found.points:
        assert point.gaps[0].sum_abs < 1.2 * point.gaps[0].predicted
        assert all(measure.rms < 1.5 * point.band.expected for measure in point.measures.values())


def test_a_coarse_device_or_precision_is_seen_in_the_sweep():
    def short(x, w, b):
        return (x.bfloat16() @ w.bfloat16().T).float() + b

    given = {"make": operands, "computes": "Gemm(transB=1)"}
    with pytest.raises(RunError, match="called with numpy arrays"):
        sweep((formula, short), "dimension", (64, 256), **given)
    found = sweep((formula, short), "dimension", (64, 256), **given, frameworks=("numpy", "torch"))
    assert found.verdict == "differ"
    assert {point.measures["short"].verdict for point in found.points} == {"divergent"}
    assert {point.measures["formula"].verdict for point in found.points} <= {"round-off", "identical"}


def test_chains_of_linear_and_of_convolution_grow_alike():
    def linear(x, *weights):
        for w in weights:
            x = functional.linear(x, w)
        return x

    def convolution(x, *weights):
        x = x.transpose(1, 2)
        for w in weights:
            x = functional.conv1d(x, w[..., None])
        return x.transpose(1, 2)

    def chain(depth: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(0)
        weights = [
            rng.standard_normal((96, 96)).astype(np.float32) / np.float32(96**0.5) for _ in range(depth)
        ]
        return (rng.standard_normal((2, 64, 96)).astype(np.float32), *weights)

    found = sweep((linear, convolution), "depth", (1, 4, 16), make=chain)
    assert found.verdict == "agree"
    assert found.judged
    assert not found.depth
    assert all(0.25 < power < 0.8 for power in found.exponents.values())

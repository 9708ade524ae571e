"""Activations in float64: against PyTorch, and against fifty digits where PyTorch itself is not exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.numerics.close import FEW, assert_close, run

torch = pytest.importorskip("torch")
functional = torch.nn.functional
seeds = st.integers(0, 2**31)

TWINS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "Relu": (functional.relu, {}),
    "LeakyRelu": (lambda x: functional.leaky_relu(x, 0.2), {"alpha": 0.2}),
    "Elu": (lambda x: functional.elu(x, 0.7), {"alpha": 0.7}),
    "Celu": (lambda x: functional.celu(x, 0.7), {"alpha": 0.7}),
    "Gelu": (functional.gelu, {}),
    "HardSigmoid": (functional.hardsigmoid, {"alpha": 1 / 6}),
    "HardSwish": (functional.hardswish, {}),
    "Sigmoid": (torch.sigmoid, {}),
    "Softsign": (functional.softsign, {}),
    "Swish": (functional.silu, {}),
    "Tanh": (torch.tanh, {}),
    "Erf": (torch.erf, {}),
    "Mish": (functional.mish, {}),
    "ThresholdedRelu": (lambda x: functional.threshold(x, 0.3, 0.0), {"alpha": 0.3}),
    "Softplus": (lambda x: torch.log1p(torch.exp(x)), {}),
    "Softmax": (lambda x: torch.softmax(x, -1), {}),
    "LogSoftmax": (lambda x: torch.log_softmax(x, 0), {"axis": 0}),
    "Shrink": (lambda x: functional.hardshrink(x, 0.5), {}),
}


@pytest.mark.parametrize("op_type", sorted(TWINS))
def test_activation_is_that_of_torch(op_type: str) -> None:
    function, attributes = TWINS[op_type]
    x = np.random.default_rng(0).standard_normal((7, 50)) * 4
    (found,) = run(op_type, [x], **attributes)
    assert_close(found, function(torch.from_numpy(x)))


def test_gelu_by_tanh_selu_and_soft_shrink_are_those_of_torch() -> None:
    x = np.linspace(-6, 6, 401)
    t = torch.from_numpy(x)
    assert_close(run("Gelu", [x], approximate="tanh")[0], functional.gelu(t, approximate="tanh"))
    assert_close(run("Selu", [x])[0], functional.selu(t), 1e-7)  # ONNX keeps its two constants in float32
    assert_close(run("Shrink", [x], lambd=0.7, bias=0.7)[0], functional.softshrink(t, 0.7))
    assert_close(run("Swish", [x], alpha=1.702)[0], t * torch.sigmoid(1.702 * t))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("Sigmoid", {}), ("Softplus", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Swish", {})],
)
def test_tails_keep_their_relative_precision(op_type: str, attributes: dict[str, str]) -> None:
    """The negative tail is where 1 + erf, 1 + tanh and 1 + exp lose all digits."""
    mpmath = pytest.importorskip("mpmath")
    exact = {
        "Sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "Softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
        "Swish": lambda x: x / (1 + mpmath.exp(-x)),
        "Gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        "tanh": lambda x: (
            x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x**3))) / 2
        ),
    }[attributes.get("approximate", op_type)]
    x = np.array([-30.0, -12.5, -5.0, -1.0, -1e-3, 1e-3, 2.0, 8.0, 40.0, 700.0])
    (found,) = run(op_type, [x], **attributes)
    with mpmath.workdps(400):
        expected = [float(exact(mpmath.mpf(float(value)))) for value in x]
    np.testing.assert_allclose(found, expected, rtol=2e-13, atol=1e-300)


@pytest.mark.parametrize(
    "op_type", ["Sigmoid", "Softplus", "Gelu", "Swish", "Tanh", "Mish", "Elu", "Softmax"]
)
def test_huge_arguments_neither_overflow_nor_become_nan(op_type: str) -> None:
    (found,) = run(op_type, [np.array([-1e6, -1e3, 0.0, 1e3, 1e6])])
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "op_type", ["Relu", "Sigmoid", "Gelu", "Clip", "LeakyRelu", "HardSwish", "Elu", "Softplus"]
)
def test_nan_goes_through(op_type: str) -> None:
    assert np.isnan(
        run(op_type, [np.array([np.nan]), *([np.array(-1.0), np.array(1.0)] if op_type == "Clip" else [])])[0]
    )


@FEW
@given(seeds)
def test_prelu_broadcasts_its_slope_and_takes_one_per_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, slope = rng.standard_normal((2, 3, 5, 4)), rng.random(3)
    expected = functional.prelu(torch.from_numpy(x), torch.from_numpy(slope))
    assert_close(run("PRelu", [x, slope.reshape(3, 1, 1)])[0], expected)
    assert_close(run("PRelu", [x, slope])[0], expected)
    assert_close(run("PRelu", [x, slope[:1]])[0], np.where(x < 0, slope[0] * x, x))


def test_clip_takes_bounds_as_inputs_or_attributes_and_the_upper_one_wins() -> None:
    x = np.array([-2.0, 0.5, 9.0])
    np.testing.assert_array_equal(run("Clip", [x, None, np.array(6.0)])[0], [-2, 0.5, 6])
    np.testing.assert_array_equal(run("Clip", [x], min=0.0, max=6.0)[0], [0, 0.5, 6])
    np.testing.assert_array_equal(run("Clip", [x, np.array(5.0), np.array(1.0)])[0], [1, 1, 1])
    np.testing.assert_array_equal(run("Clip", [x])[0], x)

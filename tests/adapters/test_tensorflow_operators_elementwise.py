"""Operators that work element by element: nodes in float64 give what TensorFlow gives in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from porting_check_tensorflow.operators import PASS_THROUGH

from porting_check.testing.replay import evaluated
from tests.adapters.tensorflow_operators import as_record, check, describe

few = settings(max_examples=15, deadline=None)
LOOSE = {"rtol": 1e-8, "atol": 1e-10}
"""Where TensorFlow's own float64 kernel is an approximation."""

shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def doubles(low: float, high: float):
    """Arrays of multiples of 1/64: TensorFlow's Elu is ``exp(x) - 1``, whose digits a tiny x loses."""
    wanted = st.integers(int(np.ceil(low * 64)), int(high * 64)).map(lambda number: number / 64)
    return hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4), elements=wanted)


DOMAINS = {
    **dict.fromkeys(
        [
            "Abs",
            "Neg",
            "Sign",
            "Floor",
            "Ceil",
            "Round",
            "Rint",
            "Square",
            "Sin",
            "Cos",
            "Atan",
            "Asinh",
            "Tanh",
            "Sigmoid",
            "Softsign",
        ],
        (-20, 20),
    ),
    **dict.fromkeys(
        ["Exp", "Sinh", "Cosh", "Softplus", "Elu", "Selu", "Relu", "Relu6", "Erf", "Expm1"], (-8, 8)
    ),
    **dict.fromkeys(["Log", "Sqrt", "Rsqrt", "Reciprocal", "Inv"], (0.01, 50)),
    "Log1p": (-0.99, 1000),
    "Tan": (-1.5, 1.5),
    "Asin": (-1, 1),
    "Acos": (-1, 1),
    "Acosh": (1, 9),
    "Atanh": (-0.99, 0.99),
    **dict.fromkeys(
        [
            "IsNan",
            "IsInf",
            "IsFinite",
            "Identity",
            "StopGradient",
            "PreventGradient",
            "Snapshot",
            "ZerosLike",
            "OnesLike",
            "L2Loss",
        ],
        (-5, 5),
    ),
}
DOMAINS["Erfc"] = (-8, 3)  # beyond, 1 - erf(x) keeps absolute precision only
ARGUMENT = {**dict.fromkeys(["Relu", "Relu6", "Elu", "Selu", "Softplus", "Softsign"], "features")}
ARGUMENT.update(
    dict.fromkeys(["Identity", "StopGradient", "PreventGradient", "Snapshot"], "input"), L2Loss="t"
)


@pytest.mark.parametrize("op_type", sorted(DOMAINS))
@few
@given(st.data())
def test_one_operand(op_type, data):
    x = data.draw(doubles(*DOMAINS[op_type]))
    check(op_type, tolerance=LOOSE, **{ARGUMENT.get(op_type, "x"): x})


@pytest.mark.parametrize("op_type", ["IsNan", "IsInf", "IsFinite", "Relu6", "Sign"])
def test_special_values(op_type):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 7.0])
    check(op_type, **{ARGUMENT.get(op_type, "x"): x})


def test_the_tail_of_erfc_keeps_absolute_precision():
    found, inputs, outputs = describe("Erfc", x=np.array([4.0, 6.0, 9.0]))
    record, values = as_record("Erfc", found, inputs, outputs)
    np.testing.assert_allclose(evaluated(record, values)["y"], outputs[0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("op_type", ["Log1p", "Expm1"])
def test_tiny_arguments_keep_their_digits(op_type):
    x = np.array([1e-300, -1e-200, 3e-17, 1e-12, -1e-9, 1e-5])
    check(op_type, tolerance={"rtol": 1e-13, "atol": 0.0}, x=x)


@pytest.mark.parametrize("op_type", ["Log1p", "Expm1"])
def test_huge_arguments_and_the_edge_of_the_domain(op_type):
    x = np.array(
        [1e3, 700.0, 1e300 if op_type == "Log1p" else 710.0, -1.0 if op_type == "Log1p" else -800.0, -2.5]
    )
    with np.errstate(all="ignore"):
        check(op_type, tolerance={"rtol": 1e-13, "atol": 0.0}, x=x)


@few
@given(
    st.floats(0.0, 1.0, allow_subnormal=False).filter(lambda alpha: alpha == 0 or alpha > 1e-30),
    doubles(-5, 5),
)
def test_leaky_relu_keeps_its_slope(alpha, x):
    check("LeakyRelu", tolerance={"rtol": 1e-6, "atol": 1e-7}, features=x, alpha=alpha)


BINARY = [
    "Add",
    "AddV2",
    "Sub",
    "Mul",
    "Maximum",
    "Minimum",
    "SquaredDifference",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "Equal",
    "NotEqual",
]


@pytest.mark.parametrize("op_type", BINARY)
@few
@given(shapes)
def test_two_operands_broadcast_as_numpy(op_type, pair):
    check(op_type, x=noise(*pair.input_shapes[0]), y=np.round(noise(*pair.input_shapes[1]), 1))


@pytest.mark.parametrize(
    "op_type",
    [
        "Div",
        "RealDiv",
        "Pow",
        "FloorDiv",
        "FloorMod",
        "Mod",
        "TruncateMod",
        "DivNoNan",
        "Xdivy",
        "Xlogy",
        "Xlog1py",
    ],
)
@few
@given(shapes)
def test_two_operands_with_a_positive_second(op_type, pair):
    second = np.abs(noise(*pair.input_shapes[1])) + 0.3
    first = noise(*pair.input_shapes[0]) * 5
    check(op_type, x=np.abs(first) if op_type == "Pow" else first, y=second)


@pytest.mark.parametrize("op_type", ["FloorDiv", "FloorMod", "Mod", "TruncateMod"])
def test_remainders_of_every_sign(op_type):
    a = np.array([7.5, -7.5, 7.5, -7.5, 6.0, -6.0, 0.0])
    check(op_type, x=a, y=np.array([2.0, 2.0, -2.0, -2.0, 3.0, 3.0, -2.0]))


@pytest.mark.parametrize("op_type", ["FloorDiv", "FloorMod", "Div", "TruncateDiv", "Mod", "TruncateMod"])
def test_integer_division_of_every_sign(op_type):
    a, b = np.array([7, -7, 7, -7, 6, -6, 0], np.int32), np.array([2, 2, -2, -2, 3, 3, -2], np.int32)
    check(op_type, x=a, y=b)


def test_guarded_divisions_are_zero_where_their_guard_is():
    a, b = np.array([0.0, 1.0, -3.0, 2.0]), np.array([0.0, 0.0, 2.0, np.inf])
    for op_type in ("DivNoNan", "MulNoNan", "Xdivy", "Xlogy"):
        check(op_type, x=a, y=b)


@pytest.mark.parametrize("op_type", ["LogicalAnd", "LogicalOr", "BitwiseAnd", "BitwiseOr", "BitwiseXor"])
@few
@given(shapes)
def test_logic(op_type, pair):
    kind = bool if op_type.startswith("Logical") else np.int16
    x, y = (np.round(3 * noise(*shape)).astype(np.int16).astype(kind) for shape in pair.input_shapes)
    check(op_type, x=x, y=y)


def test_negations():
    check("LogicalNot", x=np.array([[True, False]]))
    check("Invert", x=np.array([3, -8, 0], np.int32))


def test_small_fixed_operands_become_constants_and_parameters_become_ports():
    found = check("Mul", x=noise(2, 3), y=noise(3))
    assert [spec.name for spec in found.inputs] == ["a", "b"]
    found = check("Maximum", x=np.array([[1, 5]], np.int32), y=np.array(3, np.int32))
    assert found.inputs == ()
    found = check("Maximum", (0,), x=np.array([[1, 5]], np.int32), y=np.array(3, np.int32))
    assert [spec.name for spec in found.inputs] == ["a"]


@few
@given(st.integers(1, 4))
def test_add_n(count):
    found = check("AddN", inputs=[noise(2, 3) for _ in range(count)])
    assert len(found.inputs) == count


def test_select_of_both_ages():
    check("SelectV2", condition=np.array([[True], [False]]), t=noise(2, 3), e=noise(1, 3))
    check("Select", condition=np.array([True, False]), x=noise(2, 3, 2), y=noise(2, 3, 2))
    check("Select", condition=np.array([[True, False]]), x=noise(1, 2), y=noise(1, 2))


@pytest.mark.parametrize("limits", [((), ()), ((2, 3), (2, 3)), ((), (2, 3))], ids=str)
def test_clip_by_value(limits):
    low, high = -np.abs(noise(*limits[0])) / 2, np.abs(noise(*limits[1])) / 2
    check("ClipByValue", t=noise(2, 3), clip_value_min=low, clip_value_max=high)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (np.float64, tf.int32),
        (np.int32, tf.float64),
        (np.bool_, tf.float64),
        (np.float64, tf.bool),
        (np.int64, tf.uint8),
    ],
)
def test_cast(start, end):
    x = np.array([0, 1, 2.7, 3.2, 100]) if start is not np.int64 else np.array([0, 255, 17])
    check("Cast", x=x.astype(start), DstT=end)


def test_cast_to_half_precision_names_the_type():
    found, _, _ = describe("Cast", x=noise(3).astype(np.float32), DstT=tf.bfloat16)
    assert found.nodes[0].attributes["to"] == 16


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5)], ids=str)
def test_softmax_is_over_the_last_axis(op_type, shape):
    check(op_type, logits=5 * noise(*shape))


def test_softplus_does_not_overflow():
    check("Softplus", tolerance=LOOSE, features=np.array([-800.0, -30.0, 0.0, 30.0, 800.0]))


def test_every_pass_through_operator_gives_back_its_input():
    check("EnsureShape", input=noise(2, 3), shape=[2, None])
    check("CheckNumerics", tensor=noise(2, 3), message="no")
    check("IdentityN", input=[noise(2), noise(3)])
    check("DebugGradientIdentity", input=noise(2))
    check("PlaceholderWithDefault", input=noise(2), shape=[None])
    assert "ReadVariableOp" not in PASS_THROUGH

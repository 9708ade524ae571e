"""What JAX's primitives and functions are recorded as: replayed against what JAX computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.adapters.jax_recording import by_name, checked, names, operators

RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 4)).astype(np.float32)
Y = RNG.standard_normal((3, 4)).astype(np.float32)
POSITIVE = (np.abs(X) + 0.1).astype(np.float32)
UNIT = (X / (np.abs(X).max() * 1.1)).astype(np.float32)
CUBE = RNG.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 6, 7, 3)).astype(np.float32)
FIRST = RNG.standard_normal((2, 3, 6, 7)).astype(np.float32)
WHOLE = np.array([[7, -7, 5, -5], [0, 3, -3, 9]], np.int32)
DIVISOR = np.array([[2, 2, -3, -3], [4, 5, 5, -2]], np.int32)
TRUTH = X > 0

UNARY: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "abs": (lax.abs, X),
    "neg": (lax.neg, X),
    "exp": (lax.exp, X),
    "exp2": (lax.exp2, X),
    "expm1": (lax.expm1, UNIT * 5),
    "log": (lax.log, POSITIVE),
    "log1p": (lax.log1p, POSITIVE),
    "sqrt": (lax.sqrt, POSITIVE),
    "rsqrt": (lax.rsqrt, POSITIVE),
    "cbrt": (lax.cbrt, X),
    "square": (lax.square, X),
    "cube": (lambda x: x**3, X),
    "inverse": (lambda x: x**-1, POSITIVE),
    "floor": (lax.floor, X * 3),
    "ceil": (lax.ceil, X * 3),
    "round to even": (jnp.round, np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.4], np.float32)),
    "round away": (lax.round, np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.4], np.float32)),
    "sign": (lax.sign, X),
    "sin": (lax.sin, X),
    "cos": (lax.cos, X),
    "tan": (lax.tan, UNIT),
    "asin": (lax.asin, UNIT),
    "acos": (lax.acos, UNIT),
    "atan": (lax.atan, X),
    "sinh": (lax.sinh, X),
    "cosh": (lax.cosh, X),
    "tanh": (lax.tanh, X),
    "asinh": (lax.asinh, X),
    "acosh": (lax.acosh, POSITIVE + 1),
    "atanh": (lax.atanh, UNIT),
    "erf": (lax.erf, X),
    "erfc": (lax.erfc, X),
    "logistic": (lax.logistic, X),
    "is_finite": (lax.is_finite, np.array([1, np.inf, -np.inf, np.nan], np.float32)),
    "not": (lax.bitwise_not, TRUTH),
    "bits": (lax.bitwise_not, WHOLE),
    "to integers": (lambda x: (x * 3).astype(jnp.int32), X),
    "to booleans": (lambda x: x.astype(bool), WHOLE),
}


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_array(name: str) -> None:
    """Each is one record that replays, jitted or not."""
    function, x = UNARY[name]
    checked(function, x)
    checked(jax.jit(function), x)


BINARY: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "add": (jnp.add, X, Y),
    "sub": (jnp.subtract, X, Y),
    "mul": (jnp.multiply, X, Y),
    "div": (jnp.divide, X, Y),
    "max": (jnp.maximum, X, Y),
    "min": (jnp.minimum, X, Y),
    "pow": (jnp.power, POSITIVE, Y),
    "atan2": (jnp.arctan2, X, Y),
    "eq": (jnp.equal, WHOLE, DIVISOR),
    "ne": (jnp.not_equal, WHOLE, DIVISOR),
    "lt": (jnp.less, X, Y),
    "le": (jnp.less_equal, X, Y),
    "gt": (jnp.greater, X, Y),
    "ge": (jnp.greater_equal, X, Y),
    "and": (jnp.logical_and, TRUTH, Y > 0),
    "or": (jnp.logical_or, TRUTH, Y > 0),
    "xor": (jnp.logical_xor, TRUTH, Y > 0),
    "bitwise and": (jnp.bitwise_and, WHOLE, DIVISOR),
    "boolean sum": (lambda a, b: a + b, TRUTH, Y > 0),
    "truncated quotient": (lax.div, WHOLE, DIVISOR),
    "truncated remainder": (lax.rem, WHOLE, DIVISOR),
    "floored quotient": (jnp.floor_divide, WHOLE, DIVISOR),
    "floored remainder": (jnp.remainder, WHOLE, DIVISOR),
    "float remainder": (lax.rem, X * 5, Y),
    "python modulo": (jnp.remainder, X * 5, Y),
    "row": (lambda x, b: x + b, CUBE, CUBE[0, 0]),
    "column": (lambda x, b: x * b[:, None], X, X[:, 0]),
    "both stretched": (lambda a, b: a[None, :] + b[:, None], X[0], Y[:, 0]),
    "mixed dtypes": (lambda a, b: a + b, X, WHOLE[:1]),
    "where": (lambda x, y: jnp.where(x > 0, x, y), X, Y),
    "select of three": (lambda x, i: lax.select_n(i, x, x * 2, x * 3), X, np.abs(WHOLE[:1].repeat(3, 0)) % 3),
    "clamp by arrays": (lambda x, y: lax.clamp(-jnp.abs(y), x, jnp.abs(y)), X, Y),
    "matmul": (jnp.matmul, X, Y.T),
    "matmul transposed": (lambda x, w: lax.dot_general(x, w, (((1,), (1,)), ((), ()))), X, Y),
    "matvec": (jnp.matmul, X, Y[0]),
    "dot of vectors": (jnp.dot, X[0], Y[0]),
    "batched matmul": (jnp.matmul, CUBE, CUBE.transpose(0, 2, 1)),
    "einsum": (lambda a, b: jnp.einsum("bij,bkj->kbi", a, b), CUBE, CUBE),
    "tensordot": (lambda a, b: jnp.tensordot(a, b, 2), CUBE, CUBE.transpose(1, 2, 0)),
    "outer": (jnp.outer, X[0], Y[0]),
}


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays(name: str) -> None:
    """Arithmetic, comparison, logic, products; broadcasting as numpy has it."""
    function, x, y = BINARY[name]
    checked(function, x, y)


MOVEMENT: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "reshape": (lambda x: x.reshape(4, 3), X),
    "flatten": (lambda x: x.reshape(x.shape[0], -1), CUBE),
    "squeeze": (lambda x: jnp.squeeze(x, 1), CUBE[:, :1]),
    "expand_dims": (lambda x: jnp.expand_dims(x, (0, 2)), X),
    "transpose": (lambda x: x.transpose(2, 0, 1), CUBE),
    "broadcast": (lambda x: jnp.broadcast_to(x, (5, 3, 4)), X),
    "broadcast in front": (lambda x: lax.broadcast_in_dim(x, (3, 4, 2), (0, 1)), X),
    "concatenate": (lambda x: jnp.concatenate([x, x * 2], 1), X),
    "stack": (lambda x: jnp.stack([x, x], 1), X),
    "split": (lambda x: tuple(jnp.split(x, [1, 3], 1)), X),
    "pad": (lambda x: jnp.pad(x, ((1, 2), (0, 1)), constant_values=3.0), X),
    "crop by padding": (lambda x: lax.pad(x, 0.0, ((-1, 0, 0), (2, -1, 0))), X),
    "reflect": (lambda x: jnp.pad(x, ((1, 1), (2, 2)), mode="reflect"), X),
    "slice": (lambda x: x[1:, ::2], X),
    "reversed slice": (lambda x: x[::-1, ::-2], X),
    "flip": (lambda x: jnp.flip(x, 1), CUBE),
    "one row": (lambda x: x[1], X),
    "last row": (lambda x: x[-1, :, None], CUBE),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (1, 0), (2, 2)), X),
    "computed slice": (lambda x: lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 0), (2, 2)), X),
    "update": (lambda x: lax.dynamic_update_slice(x, x[:1, :2] * 2, (1, 1)), X),
    "set": (lambda x: x.at[1].set(7.0), X),
    "add at": (lambda x: x.at[jnp.array([0, 2])].add(x[:2]), X),
    "roll": (lambda x: jnp.roll(x, 1, 1), X),
    "tile": (lambda x: jnp.tile(x, (2, 3)), X),
    "repeat": (lambda x: jnp.repeat(x, 2, axis=1), X),
    "tril": (jnp.tril, X),
    "take": (lambda x: jnp.take(x, jnp.array([2, 0, 0]), axis=0), X),
    "take columns": (lambda x: jnp.take(x, jnp.array([[3, 0], [1, 1]]), axis=1), X),
    "take nothing there": (lambda x: jnp.take(x, jnp.array([2, 9]), axis=0), X),
    "take clipped": (lambda x: jnp.take(x, jnp.array([2, 9]), axis=0, mode="clip"), X),
    "computed rows": (lambda x: x[jnp.argsort(x[:, 0])], X),
    "along axis": (lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1), X),
    "two indices": (lambda x: x[jnp.argmax(x, 0), jnp.arange(4)], X),
    "sum": (lambda x: x.sum((0, 2)), CUBE),
    "sum of all": (jnp.sum, CUBE),
    "mean": (lambda x: x.mean(1, keepdims=True), CUBE),
    "var": (lambda x: x.var(1), CUBE),
    "norm": (lambda x: jnp.linalg.norm(x, axis=1), X),
    "max": (lambda x: x.max(-1), CUBE),
    "min": (lambda x: x.min(0), CUBE),
    "prod": (lambda x: x.prod(1), CUBE),
    "any": (lambda x: jnp.any(x > 1, 0), X),
    "all": (lambda x: jnp.all(x > -1, 0), X),
    "argmax": (lambda x: jnp.argmax(x, 1), X),
    "argmin": (lambda x: jnp.argmin(x), X),
    "cumsum": (lambda x: jnp.cumsum(x, 1), X),
    "reverse cumsum": (lambda x: lax.cumsum(x, 1, reverse=True), X),
    "sort": (lambda x: jnp.sort(x, 1), X),
    "argsort": (lambda x: jnp.argsort(x, 0), X),
    "top_k": (lambda x: lax.top_k(x, 2), X),
    "one_hot": (lambda x: jax.nn.one_hot(jnp.argmax(x, 1), 4), X),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, 1), X),
    "arange": (lambda x: x * jnp.arange(4), X),
    "eye": (lambda x: x @ jnp.eye(4), X),
}


@pytest.mark.parametrize("name", MOVEMENT)
def test_functions_that_move_or_reduce(name: str) -> None:
    """Shapes, parts, gathered elements, sums and extremes; jitted, too."""
    function, x = MOVEMENT[name]
    checked(function, x)
    checked(jax.jit(function), x)


ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "relu": (jax.nn.relu, "Relu"),
    "relu6": (lambda x: jax.nn.relu6(x * 5), "Clip"),
    "sigmoid": (jax.nn.sigmoid, "Sigmoid"),
    "silu": (jax.nn.silu, "Swish"),
    "gelu": (jax.nn.gelu, "Gelu"),
    "softplus": (jax.nn.softplus, "Softplus"),
    "soft_sign": (jax.nn.soft_sign, "Softsign"),
    "elu": (lambda x: jax.nn.elu(x, 0.7), "Elu"),
    "celu": (lambda x: jax.nn.celu(x, 0.7), "Celu"),
    "selu": (jax.nn.selu, "Selu"),
    "leaky_relu": (lambda x: jax.nn.leaky_relu(x, 0.2), "LeakyRelu"),
    "hard_tanh": (jax.nn.hard_tanh, "Clip"),
    "hard_sigmoid": (lambda x: jax.nn.hard_sigmoid(x * 4), "HardSigmoid"),
    "hard_silu": (lambda x: jax.nn.hard_silu(x * 4), "HardSwish"),
    "mish": (jax.nn.mish, "Mish"),
    "softmax": (jax.nn.softmax, "Softmax"),
    "log_softmax": (jax.nn.log_softmax, "LogSoftmax"),
    "log_sigmoid": (jax.nn.log_sigmoid, "Softplus"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_one_record(name: str) -> None:
    """Functions of jax.nn are recorded under their own names, with one node where ONNX has one."""
    function, op_type = ACTIVATIONS[name]
    trace = checked(function, X)
    assert op_type in operators(by_name(trace, name)), names(trace)


def test_a_function_of_the_same_name_is_not_taken_for_the_libraries() -> None:
    """Somebody's own relu is recorded as what it computes."""

    @jax.jit
    def relu(x: Any) -> Any:
        return jnp.maximum(x, 0.1)

    assert operators(checked(relu, X).records[0]) == ["Max"]


def test_gelu_and_softmax_inside_vmap_keep_their_meaning() -> None:
    """The axis is counted in the sample, and moves by one."""
    trace = checked(jax.vmap(lambda x: jax.nn.gelu(jax.nn.softmax(x, axis=0))), CUBE)
    assert names(trace) == ["softmax", "gelu"]
    assert trace.records[0].nodes[0].attributes["axis"] == 1


def test_softmax_with_a_mask_is_recorded_operator_by_operator() -> None:
    """One node would leave the mask out."""
    trace = checked(lambda x: jax.nn.softmax(x, where=x > 0), X)
    assert "softmax" not in names(trace)


def test_gelu_says_which_of_the_two_it_is() -> None:
    """Exact and approximate differ by an attribute."""
    for approximate, kind in ((True, "tanh"), (False, "none")):
        trace = checked(lambda x, a=approximate: jax.nn.gelu(x, approximate=a), X)
        assert trace.records[0].nodes[0].attributes["approximate"] == kind


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "valid": {"window_strides": (1, 1), "padding": "VALID"},
    "same with strides": {"window_strides": (2, 3), "padding": "SAME"},
    "dilated": {"window_strides": (1, 1), "padding": [(2, 1), (0, 3)], "rhs_dilation": (2, 1)},
    "negative padding": {"window_strides": (1, 1), "padding": [(-1, 1), (2, -1)]},
    "transposed": {"window_strides": (1, 1), "padding": [(2, 1), (1, 1)], "lhs_dilation": (2, 3)},
    "transposed, padded": {"window_strides": (1, 1), "padding": [(4, 2), (3, 5)], "lhs_dilation": (2, 2)},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(
    "numbers", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("NCHW", "HWIO", "NHWC")]
)
def test_convolutions_in_any_order_of_axes(name: str, numbers: tuple[str, str, str]) -> None:
    """Ports carry the layouts; the node is the same."""
    kernel = RNG.standard_normal((3, 3, 3, 5) if numbers[1] == "HWIO" else (5, 3, 3, 3)).astype(np.float32)
    x = IMAGE if numbers[0] == "NHWC" else FIRST
    options = CONVOLUTIONS[name]
    trace = checked(
        (lambda w, x: lax.conv_general_dilated(x, w, dimension_numbers=numbers, **options), kernel),
        x,
        rtol=1e-4,
    )
    record = trace.records[-1]
    assert record.inputs[0].layout == numbers[0] and record.outputs[0].layout == numbers[2]


def test_grouped_convolution_and_what_is_left_out() -> None:
    """Groups are an attribute; groups of a dilated input and of the batch are opaque with a reason."""
    kernel = RNG.standard_normal((3, 3, 1, 6)).astype(np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")

    def grouped(x: Any, **options: Any) -> Any:
        return lax.conv_general_dilated(
            x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=numbers, feature_group_count=3, **options
        )

    assert checked(grouped, IMAGE, rtol=1e-4).records[0].nodes[0].attributes["group"] == 3
    trace = checked(lambda x: grouped(x, lhs_dilation=(2, 2)), IMAGE, opaque=("conv_general_dilated",))
    assert "in groups" in trace.records[0].reason


def test_one_dimensional_convolution() -> None:
    """NLC."""
    kernel = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    trace = checked(
        lambda x: lax.conv_general_dilated(x, kernel, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
        CUBE,
    )
    assert trace.records[0].inputs[0].layout == "NLC"


WINDOWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]] = {
    "last": ((1, 2, 3, 1), (1, 2, 2, 1), "SAME"),
    "valid": ((1, 3, 3, 1), (1, 1, 1, 1), "VALID"),
    "odd axes": ((2, 1, 3, 1), (1, 1, 1, 1), "VALID"),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("kind", ["max", "min", "sum"])
def test_windows(name: str, kind: str) -> None:
    """Reductions over windows, also over axes that are no image's."""
    reduce, init = {"max": (lax.max, -np.inf), "min": (lax.min, np.inf), "sum": (lax.add, 0.0)}[kind]
    checked(lambda x: lax.reduce_window(x, init, reduce, *WINDOWS[name]), IMAGE)


def test_what_is_not_described_is_opaque_with_a_reason() -> None:
    """Nothing is dropped."""
    trace = checked(lambda x: jnp.abs(jnp.fft.fft(x)), X, opaque=("convert_element_type", "fft", "abs"))
    assert "jax.lax.fft is not described" in [record.reason for record in trace.records]
    checked(lambda x: lax.cummax(x, 1), X, opaque=("cummax",))
    checked(lambda x: lax.pad(x, 0.0, ((0, 0, 1), (0, 0, 0))), X, opaque=("pad",))


def test_small_dtypes_keep_their_dtype() -> None:
    """bfloat16 and float16 pass through."""
    for dtype in (jnp.bfloat16, jnp.float16):
        trace = checked(lambda x, d=dtype: jax.nn.relu(x.astype(d) * 2 + 1).astype(jnp.float32), X, rtol=2e-2)
        assert any(np.asarray(v).dtype == np.dtype(dtype) for v in trace.values.values())


def test_reduced_precision_is_two_casts() -> None:
    """The truth is computed without rounding, so that it differs by what the bits lost."""
    trace = checked(lambda x: lax.reduce_precision(x, 5, 10), X, rtol=1e-3)
    assert [node.attributes["to"] for node in trace.records[0].nodes] == [10, 1]


def test_literals_are_constants_and_stretched_rows_need_no_record() -> None:
    """``x * 2 + b``: two records, the number inside the first."""
    trace = checked((lambda b, x: x * 2.0 + b, X[0]), CUBE)
    assert names(trace) == ["mul", "add"]
    assert [float(value) for value in trace.records[0].constants.values()] == [2.0]
    assert trace.records[1].parameters[0].value == "parameter:value"


def test_a_stretched_row_that_something_else_reads_is_recorded() -> None:
    """A broadcast that is an output, or the argument of a product, is there."""
    checked(lambda b: jnp.broadcast_to(b, (3, 4)), X[0])
    trace = checked(lambda b, x: x @ jnp.broadcast_to(b, (4, 4)), X[0], X)
    assert names(trace) == ["broadcast_in_dim", "dot_general"]

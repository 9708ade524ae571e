"""Functions of torch: for each, the recorded nodes evaluated in float64 give what torch gave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.adapters.torch_recording import check, noise, reason_of, trace_of, whole

X, Y = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
POSITIVE = np.abs(X) + np.float32(0.25)
UNIT = np.tanh(X).astype(np.float32) * np.float32(0.9)

UNARY = {
    "abs": torch.abs,
    "neg": lambda x: -x,
    "exp": torch.exp,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": lambda x: torch.tan(x * 0.3),
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "erf": torch.erf,
    "floor": torch.floor,
    "ceil": lambda x: x.ceil(),
    "round": torch.round,
    "trunc": torch.trunc,
    "frac": torch.frac,
    "sign": torch.sign,
    "square": torch.square,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "add number": lambda x: x + 2.5,
    "number add": lambda x: 2.5 + x,
    "add alpha": lambda x: torch.add(x, x * 2, alpha=0.3),
    "sub number": lambda x: x - 0.1,
    "rsub": lambda x: 1 - x,
    "mul": lambda x: 3 * x,
    "div": lambda x: x / 3,
    "floordiv": lambda x: x // 0.7,
    "div floor": lambda x: torch.div(x, 0.7, rounding_mode="floor"),
    "div trunc": lambda x: torch.div(x, 0.7, rounding_mode="trunc"),
    "remainder": lambda x: x % 0.7,
    "rmod": lambda x: 0.7 % (x.abs() + 1),
    "rfloordiv": lambda x: 5 // (x.abs() + 1),
    "fmod": lambda x: torch.fmod(x, 0.7),
    "pow": lambda x: x**3,
    "rpow": lambda x: 2.0**x,
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp min": lambda x: torch.clamp(x, min=0.1),
    "clamp max": lambda x: x.clip(max=0.1),
    "clamp_min": lambda x: torch.clamp_min(x, 0.2),
    "clamp_max": lambda x: x.clamp_max(0.2),
    "isnan": torch.isnan,
    "isinf": torch.isinf,
    "isfinite": torch.isfinite,
    "logical_not": lambda x: torch.logical_not(x > 0),
    "invert": lambda x: ~(x > 0),
    "masked_fill": lambda x: x.masked_fill(x > 0, -1.5),
    "where": lambda x: torch.where(x > 0, x, 0.5),
    "where method": lambda x: x.where(x > 0, torch.tensor(2.0)),
    "compare number": lambda x: (x >= 0.5, x < 0.1, x == 0, x != 0, x > 0.2, x <= 0),
    "and or xor": lambda x: ((x > 0) & (x < 1), (x > 0) | (x < -1), (x > 0) ^ (x < 1)),
    "logical": lambda x: (
        torch.logical_and(x > 0, x),
        torch.logical_or(x > 0, x),
        torch.logical_xor(x > 0, x < 1),
    ),
    "lerp": lambda x: torch.lerp(x, x * 2 + 1, 0.3),
    "addcmul": lambda x: torch.addcmul(x, x + 1, x - 1, value=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x + 1, x.abs() + 1, value=0.5),
    "to double": lambda x: x.to(torch.float64) * 2,
    "to int": lambda x: (x * 10).int(),
    "long": lambda x: (x * 10).long(),
    "bool": lambda x: (x > 0).float() + (x > 0).to(x.dtype),
    "type_as": lambda x: (x > 0).type_as(x),
    "isclose free": lambda x: torch.maximum(x, -x),
}


@pytest.mark.parametrize("name", UNARY)
def test_function_of_one_tensor(name):
    check(UNARY[name], X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounding_to_a_narrow_dtype_is_a_cast(dtype):
    (record,) = check(lambda x: x.to(dtype), X, rtol=2.0**-8)
    assert record.nodes[0].op_type == "Cast"


ON_POSITIVE = {
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "power": lambda x: x**0.3,
    "rdiv": lambda x: 2 / x,
    "acosh": lambda x: torch.acosh(x + 1),
    "special": lambda x: torch.special.expit(x) + torch.special.erf(x),
}


@pytest.mark.parametrize("name", ON_POSITIVE)
def test_function_of_positive_numbers(name):
    check(ON_POSITIVE[name], POSITIVE)


@pytest.mark.parametrize("function", [torch.asin, torch.acos, torch.atanh], ids=lambda f: f.__name__)
def test_function_on_the_unit_interval(function):
    check(function, UNIT)


@pytest.mark.parametrize("function", [torch.log1p, torch.expm1], ids=lambda f: f.__name__)
@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e-3, 1.0, 30.0])
def test_functions_near_zero_keep_relative_accuracy(function, scale):
    x = (np.linspace(0.1, 1, 17) * scale).astype(np.float32)
    record = trace_of(function, x).records[0]
    from porting_check.testing.replay import evaluated

    found = evaluated(record, {"input:0": x})["y"]
    exact = getattr(np, function.__name__)(x.astype(np.float64))
    np.testing.assert_allclose(found, exact, rtol=1e-12)


BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "sub alpha": lambda x, y: torch.sub(x, y, alpha=2),
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "floor": lambda x, y: x // y,
    "maximum": torch.maximum,
    "max of two": lambda x, y: torch.max(x, y),
    "min of two": lambda x, y: torch.min(x, other=y),
    "minimum": torch.minimum,
    "pow": lambda x, y: (x.abs() + 0.1) ** y,
    "clamp tensors": lambda x, y: torch.clamp(x, y - 1, y + 1),
    "compare": lambda x, y: (x > y, x.eq(y), torch.ne(x, y), x.ge(y)),
    "where": lambda x, y: torch.where(x > y, x, y),
    "broadcast": lambda x, y: x * y[:, :1] + y[0],
    "matmul": lambda x, y: x @ y.transpose(-1, -2),
    "matmul vector": lambda x, y: torch.matmul(x, y[0, 0, 0]),
    "bmm": lambda x, y: torch.bmm(x[:, 0], y[:, 0].mT),
    "mm": lambda x, y: torch.mm(x[0, 0], y[0, 0].t()),
    "mv": lambda x, y: torch.mv(x[0, 0], y[0, 0, 0]),
    "dot": lambda x, y: torch.dot(x[0, 0, 0], y[0, 0, 0]),
    "outer": lambda x, y: torch.outer(x[0, 0, 0], y[0, 0, 0]),
    "addmm": lambda x, y: torch.addmm(x[0, 0], x[0, 0] @ y[0, 0].T, y[0, 1], beta=0.5, alpha=2),
    "baddbmm": lambda x, y: torch.baddbmm(x[0, :, :, :4], x[0], y[0].mT, beta=0.5, alpha=2),
    "einsum": lambda x, y: torch.einsum("b c h w, bcHw -> bhH", x, y),
    "einsum list": lambda x, y: torch.einsum("bchw,bchw->b", [x, y]),
    "bilinear": lambda x, y: F.bilinear(x[0, 0], y[0, 0], torch.ones(2, 5, 5) * 0.1, torch.ones(2)),
    "cosine": lambda x, y: F.cosine_similarity(x, y, dim=1),
    "cat": lambda x, y: torch.cat([x, y, x], dim=-1),
    "stack": lambda x, y: torch.stack([x, y], dim=1),
    "cat mixed": lambda x, y: torch.cat([x, y.double()], dim=0),
    "scaled dot": lambda x, y: F.scaled_dot_product_attention(x, y, y * 2),
    "sdpa causal": lambda x, y: F.scaled_dot_product_attention(x, y, y, is_causal=True, scale=0.3),
    "sdpa bool mask": lambda x, y: F.scaled_dot_product_attention(x, y, y, attn_mask=(x @ y.mT) > -1),
    "sdpa float mask": lambda x, y: F.scaled_dot_product_attention(x, y, y, attn_mask=x @ y.mT),
    "gather": lambda x, y: torch.gather(x, 2, (y > 0).long()),
    "scatter": lambda x, y: x.scatter(3, (y > 0).long()[..., :1], y[..., :1]),
    "scatter number": lambda x, y: x.scatter(3, (y > 0).long()[..., :1], 7.0),
    "scatter_add": lambda x, y: x.scatter_add(3, (y > 0).long(), y),
    "copy": lambda x, y: torch.zeros(2, 3, 4, 5).copy_(x) + y,
    "copy broadcast": lambda x, y: torch.empty(2, 3, 4, 5, dtype=torch.float64).copy_(x[0, 0, 0]) + y,
}


@pytest.mark.parametrize("name", BINARY)
def test_function_of_two_tensors(name):
    check(BINARY[name], X, Y)


def test_attention_rows_that_attend_to_nothing_are_zero():
    mask = np.ones((4, 6), bool)
    mask[1] = False
    q, k = noise(2, 3, 4, 8), noise(2, 3, 6, 8, seed=2)
    check(lambda q, k, mask: F.scaled_dot_product_attention(q, k, k, attn_mask=mask), q, k, mask)


def test_grouped_query_attention():
    q, k = noise(2, 6, 4, 8), noise(2, 2, 5, 8, seed=2)
    check(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True), q, k)


INTEGERS = {
    "floor divide": lambda a, b: a // b,
    "div floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "div trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "true divide": lambda a, b: a / b,
    "remainder": lambda a, b: a % b,
    "fmod": lambda a, b: torch.fmod(a, b),
    "add": lambda a, b: a + b + 2,
    "float number": lambda a, b: a * 0.5,
    "bits": lambda a, b: (a & b, a | b, a ^ b, ~a),
    "sum": lambda a, b: a.sum(1),
    "mean": lambda a, b: a.float().mean(0),
    "sqrt": lambda a, b: a.abs().sqrt(),
    "sigmoid": lambda a, b: torch.sigmoid(a),
    "maximum": lambda a, b: torch.maximum(a, b),
    "bool sum": lambda a, b: (a > 0).sum(),
    "bool add": lambda a, b: (a > 0) + (b > 0),
    "bool mul": lambda a, b: (a > 0) * (b > 0),
    "bool times float": lambda a, b: (a > 0) * 0.5,
    "one_hot": lambda a, b: F.one_hot(a.abs(), 8),
    "one_hot open": lambda a, b: F.one_hot(a.abs()),
    "any all": lambda a, b: ((a > 0).any(), (a > 0).all(1), torch.any(a, 0, True)),
    "clamp": lambda a, b: a.clamp(min=0),
    "pow": lambda a, b: a**2,
    "compare mixed": lambda a, b: a.float() > b,
    "repeat_interleave": lambda a, b: torch.repeat_interleave(a, 2, dim=1),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_function_of_integers(name):
    divisors = whole(3, 4, low=1, high=5) * np.where(whole(3, 4) > 0, 1, -1)
    check(INTEGERS[name], whole(3, 4, low=-20, high=21) if "one_hot" not in name else whole(3, 4), divisors)


ACTIVATIONS = {
    "relu": F.relu,
    "relu6": lambda x: F.relu6(x * 5),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.3),
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.8),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": lambda x: F.hardswish(x * 3),
    "hardsigmoid": lambda x: F.hardsigmoid(x * 3),
    "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.6),
    "softplus": F.softplus,
    "softplus sharp": lambda x: F.softplus(x * 9, beta=3, threshold=5),
    "softplus far": lambda x: F.softplus(x * 40),
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "softmax": lambda x: F.softmax(x, 1),
    "softmax last": lambda x: x.softmax(-1),
    "softmax dtype": lambda x: torch.softmax(x, 2, dtype=torch.float64),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "softmin": lambda x: F.softmin(x, 2),
    "tanhshrink": F.tanhshrink,
    "hardshrink": F.hardshrink,
    "softshrink": lambda x: F.softshrink(x, 0.3),
    "threshold": lambda x: F.threshold(x, 0.1, -4),
    "glu": lambda x: F.glu(x, 2),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3])),
    "prelu one": lambda x: F.prelu(x, torch.tensor([0.1])),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "normalize": F.normalize,
    "normalize p1": lambda x: F.normalize(x, p=1, dim=-1),
    "normalize p3": lambda x: F.normalize(x, p=3.0, dim=(1, 2)),
    "lrn odd": lambda x: F.local_response_norm(x, 3, 0.1, 0.6, 2.0),
    "lrn even": lambda x: F.local_response_norm(x, 2, 0.1, 0.6, 2.0),
    "relu_": lambda x: F.relu_(x * 2),
    "inplace": lambda x: F.leaky_relu(F.elu(x * 2, inplace=True), inplace=True),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    check(ACTIVATIONS[name], X)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.filterwarnings("ignore:Implicit dimension")
def test_softmax_without_an_axis_takes_torchs_choice(shape):
    check(lambda x: F.softmax(x), noise(*shape))


REDUCTIONS = {
    "mean": lambda x: x.mean(),
    "mean dim": lambda x: x.mean(1),
    "mean dims": lambda x: x.mean((2, 3), keepdim=True),
    "sum": lambda x: x.sum(),
    "sum dims": lambda x: torch.sum(x, dim=(-1, 0)),
    "numpy names": lambda x: torch.sum(x, axis=1, keepdims=True),
    "max": lambda x: x.max(),
    "max dim": lambda x: x.max(2),
    "max keep": lambda x: torch.max(x, dim=-1, keepdim=True)[0],
    "min dim": lambda x: x.min(dim=0).indices,
    "amax": lambda x: x.amax((1, 2)),
    "amin": lambda x: torch.amin(x, 3, keepdim=True),
    "prod": lambda x: x.prod(1),
    "var": lambda x: x.var(1),
    "var all": lambda x: x.var(),
    "var biased": lambda x: x.var((2, 3), unbiased=False, keepdim=True),
    "var correction": lambda x: torch.var(x, dim=-1, correction=0),
    "var positional": lambda x: x.var(False),
    "std": lambda x: x.std(),
    "std dim": lambda x: torch.std(x, 2, True),
    "var_mean": lambda x: torch.var_mean(x, dim=(2, 3), keepdim=True),
    "std_mean": lambda x: torch.std_mean(x, 1),
    "norm": lambda x: x.norm(),
    "norm dim": lambda x: torch.norm(x, p=2, dim=1, keepdim=True),
    "norm p": lambda x: x.norm(p=3, dim=-1),
    "norm inf": lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1),
    "linalg norm": lambda x: torch.linalg.norm(x, dim=-1),
    "frobenius": lambda x: torch.linalg.norm(x[0, 0]),
    "logsumexp": lambda x: torch.logsumexp(x, (1, 2)),
    "argmax": lambda x: x.argmax(),
    "argmax dim": lambda x: x.argmax(1),
    "argmin": lambda x: torch.argmin(x, -1, keepdim=True),
    "cumsum": lambda x: torch.cumsum(x, 2),
    "topk": lambda x: x.topk(2, dim=1),
    "topk smallest": lambda x: torch.topk(x, 3, largest=False),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name):
    check(REDUCTIONS[name], X)


def test_sort_is_opaque_with_a_reason():
    assert reason_of(lambda x: torch.sort(x)[0], X) == "torch.sort is not described"


def test_random_numbers_are_opaque_with_a_reason():
    assert "draws random numbers" in reason_of(lambda x: x + torch.rand(5), X)


def test_custom_operators_of_the_same_name_are_not_taken_for_torchs():
    def relu(x):
        return x * 2

    from torch.overrides import handle_torch_function, has_torch_function_unary

    def fake(x):
        if has_torch_function_unary(x):
            return handle_torch_function(fake, (x,), x)
        return relu(x)

    fake.__name__, fake.__module__ = "relu", "somewhere.else"
    assert trace_of(fake, X).records[0].reason == "torch.somewhere.else.relu is not described"

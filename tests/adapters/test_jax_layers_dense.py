"""Dense, embedding, normalisation, pooling and activation layers of flax and equinox against their nodes."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from porting_check_jax.draft import Undescribed

from tests.adapters.jax_layers import describe, equinox, linen, noise, of_nnx

few = settings(max_examples=12, deadline=None)
KEY = jax.random.key(3)


def layer(name: str, in_nnx: bool, first: tuple[Any, ...], *args: Any, **options: Any) -> Any:
    """A linen module, or a function that builds the nnx one, whose sizes come first."""
    if not in_nnx:
        return getattr(nn, name)(*args, **options)
    return lambda rngs: getattr(nnx, name)(*first, *args, rngs=rngs, **options)


def check(in_nnx: bool, *args: Any, **kwargs: Any) -> Any:
    """Check a layer of either library."""
    return (of_nnx if in_nnx else linen)(*args, **kwargs)


# Products.


@few
@given(st.booleans(), st.booleans(), st.sampled_from([(), (2,), (2, 3), (2, 1, 3)]))
def test_dense_is_a_gemm_for_matrices(in_nnx, bias, lead):
    module = (
        (lambda rngs: nnx.Linear(5, 4, use_bias=bias, rngs=rngs)) if in_nnx else nn.Dense(4, use_bias=bias)
    )
    record = check(in_nnx, module, noise(*lead, 5))
    assert record.nodes[0].op_type == ("Gemm" if len(lead) == 1 else "MatMul")
    assert record.parameters[0].layout == "IO"


@few
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from(
        [((-1,), (7,)), ((-1,), (3, 2)), ((1, 3), (4,)), ((1,), (2, 2)), ((2, 1), (3,)), ((3, 2, 1, 0), (2,))]
    ),
)
def test_dense_over_several_axes(in_nnx, bias, axes):
    (over, features), x = axes, noise(2, 3, 4, 5)
    sizes = tuple(x.shape[axis] for axis in sorted(axis % 4 for axis in over))
    if in_nnx:
        check(True, lambda rngs: nnx.LinearGeneral(sizes, features, axis=over, use_bias=bias, rngs=rngs), x)
    else:
        check(False, nn.DenseGeneral(features, axis=over, use_bias=bias), x)


@pytest.mark.parametrize("bias", [False, True])
def test_dense_with_a_kernel_for_each_place(bias):
    x = noise(2, 3, 4, 5)
    record = linen(nn.DenseGeneral((6, 2), axis=(-1,), batch_dims=(0,), use_bias=bias), x)
    assert record.nodes[0].attributes["equation"] == "abcd,adef->abcef"
    build = functools.partial(nnx.LinearGeneral, (4, 5), 6, axis=(2, 3), batch_axis={0: 2}, use_bias=bias)
    of_nnx(lambda rngs: build(rngs=rngs), x)


@pytest.mark.parametrize("equation", ["abc,cde->abde", "abc,cd->dab", "...c,cd->...d"])
def test_einsum_keeps_its_equation(equation):
    shape, bias = ((5, 4, 2) if "e" in equation else (5, 4)), "." not in equation
    record = linen(nn.Einsum(shape, equation, use_bias=bias), noise(2, 3, 5))
    assert record.nodes[0].attributes["equation"] == equation
    sizes = dict(zip(equation.partition(",")[2], shape, strict=False))
    held = tuple(sizes[letter] for letter in equation.partition("->")[2] if letter in sizes) if bias else None
    of_nnx(lambda rngs: nnx.Einsum(equation, shape, held, rngs=rngs), noise(2, 3, 5))


def test_an_equation_may_come_with_the_call():
    linen(nn.Einsum((5, 4)), noise(2, 5), "ab,bc->ac")


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_embeddings(rows, dtype):
    indices = np.arange(6, dtype=dtype).reshape(2, 3) % rows
    linen(nn.Embed(rows, 4), indices, wide=False)
    record = of_nnx(lambda rngs: nnx.Embed(rows, 4, rngs=rngs), indices, wide=False)
    assert record.nodes[-1].op_type == ("Gather" if rows > 1 else "Expand")


@pytest.mark.parametrize(("sizes", "shape"), [((5, 4), (5,)), (("scalar", 4), ()), ((5, "scalar"), (5,))])
def test_equinox_linear(sizes, shape):
    for bias in (False, True):
        equinox(functools.partial(eqx.nn.Linear, *sizes, use_bias=bias, key=KEY), noise(*shape))


def test_equinox_embedding():
    equinox(functools.partial(eqx.nn.Embedding, 7, 4, key=KEY), jnp.array(5, jnp.int32))


def test_a_replaced_product_is_refused():
    with pytest.raises(Undescribed, match="dot_general"):
        linen(
            nn.Dense(4, dot_general=lambda *args, **kwargs: jax.lax.dot_general(*args, **kwargs)), noise(2, 5)
        )


@pytest.mark.parametrize("in_nnx", [False, True])
def test_dense_in_another_dtype_and_on_integers(in_nnx):
    for dtype in ("bfloat16", None):
        module = (
            (lambda rngs, d=dtype: nnx.Linear(5, 4, dtype=d, rngs=rngs))
            if in_nnx
            else nn.Dense(4, dtype=dtype)
        )
        x = noise(2, 5) if dtype else np.arange(10, dtype=np.int32).reshape(2, 5)
        record = check(in_nnx, module, x, wide=False, tolerance=(3e-2, 3e-2) if dtype else (1e-5, 1e-6))
        assert record.nodes[0].op_type == "Cast"


# Normalisation.


@few
@given(
    st.booleans(),
    st.sampled_from([(5,), (4, 5), (3, 4, 5), (2, 3, 4, 5), (2, 3, 3, 2, 5), (2, 1, 3, 2, 2, 5)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([-1, 0, 1]),
)
def test_batch_norm(in_nnx, shape, scale, bias, axis):
    axis = axis if -len(shape) <= axis < len(shape) else -1
    options = {"axis": axis, "use_scale": scale, "use_bias": bias, "use_running_average": True}
    record = check(in_nnx, layer("BatchNorm", in_nnx, (shape[axis],), **options), noise(*shape))
    if axis == -1 and 1 < len(shape) < 6:
        assert [node.op_type for node in record.nodes] == ["BatchNormalization"]
        assert record.nodes[0].attributes["epsilon"] == 1e-5
        assert record.inputs[0].layout[-1] == "C"


@pytest.mark.parametrize("in_nnx", [False, True])
def test_batch_norm_is_told_by_the_call_and_refuses_to_train(in_nnx):
    module = layer(
        "BatchNorm", in_nnx, (5,), epsilon=0.1, **({"use_running_average": None} if in_nnx else {})
    )
    check(in_nnx, module, noise(4, 5), use_running_average=True)
    training = layer("BatchNorm", in_nnx, (5,), use_running_average=None if not in_nnx else False)
    if in_nnx:
        with pytest.raises(Undescribed, match="training mode"):
            of_nnx(training, noise(4, 5))
    else:
        bound = training.bind({"batch_stats": {}, "params": {}})
        with pytest.raises(Undescribed, match="training mode"):
            describe(bound, {}, noise(4, 5), noise(4, 5), use_running_average=False)


@few
@given(st.booleans(), st.sampled_from(["LayerNorm", "RMSNorm"]), st.booleans(), st.booleans(), st.booleans())
def test_layer_and_rms_norm(in_nnx, name, scale, bias, fast):
    options = {"use_scale": scale, "use_fast_variance": fast}
    options.update({} if name == "RMSNorm" else {"use_bias": bias})
    record = check(in_nnx, layer(name, in_nnx, (6,), **options), noise(2, 3, 6))
    operator = {"LayerNorm": "LayerNormalization", "RMSNorm": "RMSNormalization"}[name]
    assert [node.op_type for node in record.nodes] == [operator]
    assert record.nodes[0].attributes["epsilon"] == 1e-6


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize(
    ("over", "features"), [((-2, -1), (-2, -1)), ((1, 2), (-1,)), ((0,), (1, 2)), (1, -1), ((2, 3), (2, 3))]
)
def test_norms_over_other_axes(name, over, features):
    x = noise(2, 3, 4, 5)
    record = linen(getattr(nn, name)(reduction_axes=over, feature_axes=features), x)
    whole = over == features
    assert (record.nodes[0].op_type in ("LayerNormalization", "RMSNormalization")) is whole


@few
@given(
    st.booleans(),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([(2, 8), (2, 3, 8), (2, 3, 4, 8)]),
    st.booleans(),
)
def test_group_norm(in_nnx, groups, shape, by_size):
    options = {"num_groups": None, "group_size": 8 // groups} if by_size else {"num_groups": groups}
    record = check(in_nnx, layer("GroupNorm", in_nnx, (8,), **options), noise(*shape))
    lone = groups == 8 and len(shape) > 2
    assert record.nodes[0].op_type == ("InstanceNormalization" if lone else "GroupNormalization")


@pytest.mark.parametrize("in_nnx", [False, True])
@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 3, 5, 4), (2, 3, 2, 3, 2, 4)])
def test_instance_norm(in_nnx, shape):
    record = check(in_nnx, layer("InstanceNorm", in_nnx, (4,)), noise(*shape))
    assert (record.nodes[0].op_type == "InstanceNormalization") is (len(shape) < 6)


def test_instance_norm_with_channels_elsewhere():
    linen(nn.InstanceNorm(feature_axes=1), noise(2, 3, 5, 4))
    linen(nn.InstanceNorm(feature_axes=(1, 3)), noise(2, 3, 5, 4))


def test_masked_statistics_are_refused():
    with pytest.raises(Undescribed, match="mask"):
        linen(nn.LayerNorm(), noise(2, 5), mask=np.ones((2, 5), bool))


@pytest.mark.parametrize("in_nnx", [False, True])
def test_norms_of_narrow_arrays_compute_in_float32(in_nnx):
    module = layer("LayerNorm", in_nnx, (64,), dtype="bfloat16")
    record = check(in_nnx, module, noise(2, 64), wide=False, tolerance=(2e-2, 1e-2))
    casts = [node.attributes["to"] for node in record.nodes if node.op_type == "Cast"]
    assert casts[-1] == 16
    assert (1 in casts) is in_nnx  # linen does not narrow its input first


@pytest.mark.parametrize("affine", [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm"])
def test_equinox_norms_of_a_sample(name, affine):
    options = {"use_weight": affine[0], "use_bias": affine[1]}
    record = equinox(functools.partial(getattr(eqx.nn, name), (3, 4), **options), noise(3, 4))
    assert record.nodes[0].attributes["axis"] == -2


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 3, 4)])
@pytest.mark.parametrize("affine", [True, False])
def test_equinox_group_norm(shape, affine):
    build = functools.partial(eqx.nn.GroupNorm, 3, 6 if affine else None, channelwise_affine=affine)
    equinox(build, noise(*shape))


@pytest.mark.parametrize("mode", ["ema", "batch"])
@pytest.mark.parametrize("counter", [0, 3])
def test_equinox_batch_norm_reads_its_state(mode, counter):
    module, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(6, "batch", mode=mode, inference=True)
    index = module.ema_state_index if mode == "ema" else module.batch_state_index
    state = state.set(index, (jnp.asarray(noise(6)), jnp.abs(jnp.asarray(noise(6, seed=1))) + 0.5))
    if mode == "batch":
        state = state.set(module.batch_counter, jnp.array(counter))
    record = equinox(lambda: module, noise(6, 3, 4), state, wide=False)
    assert "BatchNormalization" in [node.op_type for node in record.nodes]


# Pooling.


@few
@given(st.data(), st.sampled_from(["AvgPool", "MaxPool"]), st.integers(1, 3), st.booleans())
def test_equinox_pooling(draw, name, ndim, ceil):
    kernel = draw.draw(st.tuples(*[st.integers(1, 3)] * ndim))
    stride = draw.draw(st.tuples(*[st.integers(1, min(size, 2)) for size in kernel]))
    padding = tuple(draw.draw(st.tuples(*[st.integers(0, (size - 1) // 2)] * 2)) for size in kernel)
    build = functools.partial(getattr(eqx.nn, f"{name}{ndim}d"), kernel, stride, padding, ceil)
    try:
        eqx.filter_eval_shape(lambda: build()(noise(2, *range(5, 5 + ndim))))
    except RuntimeError:  # equinox refuses a padding larger than the kernel, which use_ceil can make
        return
    record = equinox(build, noise(2, *range(5, 5 + ndim)))
    assert record.nodes[1].op_type == {"AvgPool": "AveragePool", "MaxPool": "MaxPool"}[name]


@pytest.mark.parametrize(
    ("goal", "adaptive"), [((3, 2), True), ((4, 3), False), ((1, 1), False), ((6, 7), False)]
)
@pytest.mark.parametrize("name", ["Avg", "Max"])
def test_equinox_adaptive_pooling(name, goal, adaptive):
    record = equinox(functools.partial(getattr(eqx.nn, f"Adaptive{name}Pool2d"), goal), noise(2, 6, 8))
    assert any(node.op_type.startswith("Adaptive") for node in record.nodes) is adaptive


# The rest.


@pytest.mark.parametrize("in_nnx", [False, True])
def test_prelu_and_dropout_in_inference(in_nnx):
    slope = (lambda rngs: nnx.PReLU()) if in_nnx else nn.PReLU()
    assert check(in_nnx, slope, noise(2, 5)).nodes[-1].op_type == "PRelu"
    off = (
        (lambda rngs: nnx.Dropout(0.5, deterministic=True, rngs=rngs))
        if in_nnx
        else nn.Dropout(0.5, deterministic=True)
    )
    assert [node.op_type for node in check(in_nnx, off, noise(2, 5)).nodes] == ["Identity"]


def test_dropout_told_by_the_call_and_dropout_in_training():
    linen(nn.Dropout(0.5), noise(2, 5), True)
    equinox(lambda: eqx.nn.Dropout(0.5), noise(5), inference=True)
    with pytest.raises(Undescribed, match="training mode"):
        of_nnx(lambda rngs: nnx.Dropout(0.5, rngs=rngs), noise(2, 5))


def test_small_equinox_layers():
    equinox(lambda: eqx.nn.PReLU(0.3), noise(4))
    equinox(lambda: eqx.nn.PReLU(jnp.array([0.1, 0.2, 0.3, 0.4])), noise(2, 4))
    assert [node.op_type for node in equinox(eqx.nn.Identity, noise(4)).nodes] == ["Identity"]

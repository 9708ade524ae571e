"""Convolutions of flax linen, flax nnx and equinox: the nodes, in float64, give what the layer gave."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from porting_check_jax.draft import Undescribed

from tests.adapters.jax_layers import equinox, linen, noise, of_nnx

few = settings(max_examples=25, deadline=None)
numbers = st.integers(1, 3)
sizes = st.integers(4, 7)
amounts = st.tuples(st.integers(0, 3), st.integers(0, 3))
KEY = jax.random.key(3)


@st.composite
def geometries(draw: Any, ndim: int) -> dict[str, Any]:
    """Kernel, stride and dilation per axis, all of them different now and then."""
    each = [draw(st.tuples(st.integers(1, 4), numbers, st.integers(1, 2))) for _ in range(ndim)]
    kernel, strides, dilations = (tuple(values) for values in zip(*each, strict=True))
    return {"kernel_size": kernel, "strides": strides, "kernel_dilation": dilations}


def fits(options: dict[str, Any], base: int) -> bool:
    """Whether the dilated kernel fits into the smallest axis."""
    windows = zip(options["kernel_size"], options["kernel_dilation"], strict=True)
    return all((kernel - 1) * dilation + 1 <= base for kernel, dilation in windows)


def data(lead: tuple[int, ...], ndim: int, base: int, channels: int) -> Any:
    """Noise, channels last, spatial sizes pairwise different."""
    return noise(*lead, *[base + axis for axis in range(ndim)], channels)


@few
@given(st.data(), st.integers(1, 3), sizes, st.booleans(), st.sampled_from([(), (2,), (2, 3)]), st.booleans())
def test_flax_convolution(draw, ndim, base, bias, lead, in_nnx):
    options = draw.draw(geometries(ndim))
    assume(fits(options, base))
    padding = draw.draw(
        st.one_of(
            st.sampled_from(["SAME", "VALID", "CIRCULAR", "REFLECT", "SAME_LOWER"]),
            st.integers(0, 2),
            st.tuples(*[amounts] * ndim),
            st.tuples(*[st.integers(0, 2)] * ndim),
        )
    )
    groups = draw.draw(st.sampled_from([1, 2, 4]))
    options.update(padding=padding, feature_group_count=groups, use_bias=bias)
    if not isinstance(padding, str):  # JAX refuses words where the input is dilated
        options["input_dilation"] = draw.draw(st.sampled_from([1, None, 2]))
    x = data(lead, ndim, base, 4)
    if in_nnx:
        record = of_nnx(lambda rngs: nnx.Conv(4, 8, rngs=rngs, **options), x)
    else:
        record = linen(nn.Conv(8, **options), x)
    node = next(node for node in record.nodes if node.op_type == "Conv")
    assert "auto_pad" not in node.attributes
    assert node.attributes["group"] == groups
    assert record.parameters[0].canonical[:2] == "OI"


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), sizes)
def test_causal_convolution(kernel, dilation, stride, length):
    options = {"kernel_size": (kernel,), "kernel_dilation": dilation, "strides": stride, "padding": "CAUSAL"}
    assume((kernel - 1) * dilation + 1 <= length)
    record = linen(nn.Conv(3, **options), noise(2, length, 2))
    assert record.nodes[0].attributes["pads"] == ((kernel - 1) * dilation, 0)


def test_the_default_of_flax_is_same_padding_resolved_for_the_size():
    for size, pads in ((8, (0, 0, 1, 1)), (7, (1, 1, 1, 1))):
        record = linen(nn.Conv(3, (3, 3), strides=2), noise(1, size, size, 2))
        assert record.nodes[0].attributes["pads"] == pads
        assert [port.layout for port in record.inputs] == ["NHWC"]
        assert [port.canonical for port in record.parameters] == ["OIHW", ""]


def test_a_kernel_size_may_be_one_integer_for_one_axis():
    assert linen(nn.Conv(3, 2, strides=None), noise(2, 5, 4)).nodes[0].attributes["kernel_shape"] == (2,)


def test_a_masked_kernel_is_not_described():
    mask = noise(3, 2, 4) > 0
    with pytest.raises(Undescribed, match="mask"):
        linen(nn.Conv(4, (3,), mask=jax.numpy.asarray(mask)), noise(1, 5, 2))


def test_a_negative_padding_crops():
    record = linen(nn.Conv(3, (3,), padding=((-1, 2),)), noise(2, 7, 2))
    assert [node.op_type for node in record.nodes][:2] == ["Pad", "Conv"]


@few
@given(
    st.data(),
    st.integers(1, 3),
    sizes,
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (2,), (2, 2)]),
    st.booleans(),
)
def test_flax_transposed_convolution(draw, ndim, base, bias, flipped, lead, in_nnx):
    options = draw.draw(geometries(ndim))
    padding = draw.draw(
        st.one_of(
            st.sampled_from(["SAME", "VALID", "CIRCULAR"]),
            st.integers(0, 5),
            st.tuples(*[st.tuples(numbers, numbers)] * ndim),
        )
    )
    options.update(padding=padding, use_bias=bias, transpose_kernel=flipped)
    x = data(lead, ndim, base, 3)
    if in_nnx:
        record = of_nnx(lambda rngs: nnx.ConvTranspose(3, 5, rngs=rngs, **options), x)
    else:
        record = linen(nn.ConvTranspose(5, **options), x)
    assert record.parameters[0].canonical[:2] == "IO"
    assert record.parameters[0].layout[-2:] == ("OI" if flipped else "IO")
    assert any(node.op_type == "Slice" for node in record.nodes) is not flipped


def test_a_transposed_convolution_of_stride_none_and_a_single_integer():
    linen(nn.ConvTranspose(2, 3, strides=None), noise(2, 5, 3))


@few
@given(st.data(), st.integers(1, 3), sizes, st.booleans(), st.sampled_from([1, 2]))
def test_equinox_convolution(draw, ndim, base, bias, groups):
    options = draw.draw(geometries(ndim))
    assume(fits(options, base))
    padding = draw.draw(
        st.one_of(st.sampled_from(["SAME", "VALID", "SAME_LOWER"]), st.tuples(*[amounts] * ndim))
    )
    mode = draw.draw(st.sampled_from(["ZEROS", "REFLECT", "REPLICATE", "CIRCULAR"]))
    layer = functools.partial(
        getattr(eqx.nn, f"Conv{ndim}d"),
        4,
        6,
        options["kernel_size"],
        options["strides"],
        padding,
        options["kernel_dilation"],
        groups,
        bias,
        padding_mode=mode,
        key=KEY,
    )
    record = equinox(layer, noise(4, *[base + axis for axis in range(ndim)]))
    assert record.inputs[0].layout[0] == "C"
    assert record.parameters[0].layout == record.parameters[0].canonical


@few
@given(st.data(), st.integers(1, 3), st.integers(2, 5), st.booleans(), st.sampled_from([1, 2]))
def test_equinox_transposed_convolution(draw, ndim, base, bias, groups):
    options = draw.draw(geometries(ndim))
    circular = draw.draw(st.sampled_from([False, False, True]))
    words = st.sampled_from(["SAME", "SAME_LOWER"])
    padding = draw.draw(
        words
        if circular
        else st.one_of(words, st.tuples(*[st.tuples(st.integers(0, 1), st.integers(0, 1))] * ndim))
    )
    extra = (0,) * ndim if circular else tuple(step - 1 for step in options["strides"])
    layer = functools.partial(
        getattr(eqx.nn, f"ConvTranspose{ndim}d"),
        4,
        6,
        options["kernel_size"],
        options["strides"],
        extra,
        padding,
        options["kernel_dilation"],
        groups,
        bias,
        padding_mode="CIRCULAR" if circular else "ZEROS",
        key=KEY,
    )
    x = noise(4, *[base + axis for axis in range(ndim)])
    assume(min(jax.eval_shape(lambda: layer()(x)).shape) > 0)
    record = equinox(layer, x)
    assert any(node.op_type == "ConvTranspose" for node in record.nodes)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_of_its_own_is_a_cast(dtype):
    record = linen(nn.Conv(3, (3,), dtype=dtype), noise(2, 5, 4), wide=False, tolerance=(2e-2, 2e-2))
    assert [node.op_type for node in record.nodes].count("Cast") >= 2

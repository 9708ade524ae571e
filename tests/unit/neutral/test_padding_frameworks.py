"""Resolved paddings against the frameworks, on small integers, so that equal means bit for bit equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.layout import Layout, convert
from porting_check.neutral.padding import Padding, convolution_output_sizes, same_padding
from porting_check.neutral.padding_forms import (
    from_torch_pad,
    jax_padding,
    keras_padding,
    keras_zero_padding,
    onnx_padding,
    tensorflow_padding,
    to_pad_width,
    to_torch_pad,
    torch_padding,
)
from porting_check.neutral.padding_modes import MODES, native_mode
from porting_check.neutral.pooling_padding import (
    average_divisors,
    ceil_mode_as_padding,
    divisor_map,
    pool_output_sizes,
)
from porting_check.neutral.transposed_padding import (
    jax_crop,
    keras_crop,
    onnx_crop,
    onnx_transposed_pads,
    tensorflow_crop,
    torch_crop,
    transposed_output_sizes,
)

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
F = torch.nn.functional

LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}
SPATIAL = {1: "L", 2: "HW", 3: "DHW"}
FEW = settings(deadline=None, max_examples=20)
SOME = settings(deadline=None, max_examples=40)


@dataclass(frozen=True)
class Case:
    """One random window geometry."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    seed: int

    @property
    def ndim(self) -> int:
        return len(self.sizes)

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        return self.kernel, self.strides, self.dilations

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))

    @property
    def fits(self) -> bool:
        return all(size >= extent for size, extent in zip(self.sizes, self.extents))

    def integers(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(self.seed).integers(-8, 9, shape).astype(np.float32)


@st.composite
def cases(draw, ndims=(1, 2, 3), dilate=True, largest=4) -> Case:
    ndim = draw(st.sampled_from(ndims))
    top = {1: 13, 2: 9, 3: 6}[ndim]

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=ndim, max_size=ndim)))

    sizes, kernel, strides = numbers(1, top), numbers(1, largest), numbers(1, 4)
    dilations = numbers(1, 3) if dilate else (1,) * ndim
    return Case(sizes, kernel, strides, dilations, draw(st.integers(0, 2**16)))


def first(array: np.ndarray) -> torch.Tensor:
    """A channels-last array as torch's tensor."""
    last = LAST[array.ndim - 2]
    return torch.from_numpy(convert(array, last, Layout(last).canonical).copy())


def same(result: torch.Tensor, expected) -> None:
    """Torch's result is the channels-last array, bit for bit."""
    last = LAST[result.ndim - 2]
    np.testing.assert_array_equal(convert(result.numpy(), Layout(last).canonical, last), np.asarray(expected))


def torch_convolution(x: np.ndarray, kernel: np.ndarray, case: Case, padding: Padding, groups: int = 1):
    """Torch's convolution, unpadded, of the input padded by hand."""
    spatial = SPATIAL[case.ndim]
    letters = (spatial + "CM", "(CM)1" + spatial) if groups > 1 else (spatial + "IO", "OI" + spatial)
    weight = torch.from_numpy(convert(kernel, *letters).copy())
    function = (F.conv1d, F.conv2d, F.conv3d)[case.ndim - 1]
    padded = F.pad(first(x), to_torch_pad(padding))
    return function(padded, weight, stride=case.strides, dilation=case.dilations, groups=groups)


class TestConvolution:
    @SOME
    @given(cases(ndims=(1, 2)), st.sampled_from(["SAME", "VALID"]))
    def test_tensorflow_words_in_one_and_two_dimensions(self, case, word):
        assume(word == "SAME" or case.fits)
        x, kernel = case.integers(2, *case.sizes, 3), case.integers(*case.kernel, 3, 4)
        function = (tf.nn.conv1d, tf.nn.conv2d)[case.ndim - 1]
        expected = function(x, kernel, list(case.strides), word, dilations=list(case.dilations))
        padding = tensorflow_padding(word, *case.axes, sizes=case.sizes)
        same(torch_convolution(x, kernel, case, padding), expected)
        assert convolution_output_sizes(case.sizes, padding, *case.axes) == tuple(expected.shape[1:-1])

    @FEW
    @given(cases(ndims=(3,), dilate=False), st.sampled_from(["SAME", "VALID"]))
    def test_tensorflow_words_in_three_dimensions(self, case, word):
        assume(word == "SAME" or case.fits)
        x, kernel = case.integers(2, *case.sizes, 2), case.integers(*case.kernel, 2, 3)
        expected = tf.nn.conv3d(x, kernel, [1, *case.strides, 1], word)
        padding = tensorflow_padding(word, *case.axes, sizes=case.sizes, clamp=False)
        same(torch_convolution(x, kernel, case, padding), expected)
        if all(stride <= extent + 1 for stride, extent in zip(case.strides, case.extents)):
            assert padding.grown == tensorflow_padding(word, *case.axes, sizes=case.sizes)

    @FEW
    @given(cases(ndims=(2,)), st.sampled_from(["SAME", "VALID"]), st.booleans())
    def test_tensorflow_depthwise(self, case, word, stride):
        # TensorFlow's depthwise convolution takes one stride for both axes, and a stride or a dilation.
        ones = (1, 1)
        case = Case(
            case.sizes,
            case.kernel,
            case.strides[:1] * 2 if stride else ones,
            ones if stride else case.dilations,
            case.seed,
        )
        assume(word == "SAME" or case.fits)
        x, kernel = case.integers(2, *case.sizes, 3), case.integers(*case.kernel, 3, 2)
        expected = tf.nn.depthwise_conv2d(
            x, kernel, [1, *case.strides, 1], word, dilations=list(case.dilations)
        )
        padding = tensorflow_padding(word, *case.axes, sizes=case.sizes)
        same(torch_convolution(x, kernel, case, padding, groups=3), expected)

    @FEW
    @given(cases(ndims=(2,)), st.tuples(*[st.integers(0, 3)] * 4))
    def test_tensorflow_explicit_pairs(self, case, amounts):
        pairs = [[0, 0], [amounts[0], amounts[1]], [amounts[2], amounts[3]], [0, 0]]
        padding = tensorflow_padding(pairs, case.kernel)
        assume(all(n + t >= e for n, t, e in zip(case.sizes, padding.totals, case.extents)))
        x, kernel = case.integers(1, *case.sizes, 2), case.integers(*case.kernel, 2, 3)
        expected = tf.nn.conv2d(x, kernel, list(case.strides), pairs, dilations=list(case.dilations))
        same(torch_convolution(x, kernel, case, padding), expected)

    @FEW
    @given(cases(ndims=(1,)), st.sampled_from(["same", "valid", "causal"]), st.booleans())
    def test_keras_words_with_causal(self, case, word, stride):
        ones = (1,)  # Keras refuses stride and dilation together
        case = Case(
            case.sizes, case.kernel, *((case.strides, ones) if stride else (ones, case.dilations)), case.seed
        )
        assume(word != "valid" or case.fits)
        x, kernel = case.integers(2, *case.sizes, 2), case.integers(*case.kernel, 2, 3)
        layer = keras.layers.Conv1D(
            3, case.kernel, strides=case.strides, dilation_rate=case.dilations, padding=word, use_bias=False
        )
        layer.build(x.shape)
        layer.set_weights([kernel])
        padding = keras_padding(word, *case.axes, sizes=case.sizes)
        same(torch_convolution(x, kernel, case, padding), layer(x))

    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
    @FEW
    @given(cases())
    def test_torch_same_puts_the_extra_after(self, case):
        case = Case(case.sizes, case.kernel, (1,) * case.ndim, case.dilations, case.seed)
        x, kernel = case.integers(1, *case.sizes, 2), case.integers(*case.kernel, 2, 3)
        spatial = SPATIAL[case.ndim]
        weight = torch.from_numpy(convert(kernel, spatial + "IO", "OI" + spatial).copy())
        function = (F.conv1d, F.conv2d, F.conv3d)[case.ndim - 1]
        expected = function(first(x), weight, padding="same", dilation=case.dilations)
        padding = torch_padding("same", *case.axes)
        assert torch.equal(torch_convolution(x, kernel, case, padding), expected)
        assert padding == same_padding(case.sizes, *case.axes)

    def test_torch_refuses_same_with_a_stride_as_we_do(self):
        with pytest.raises(RuntimeError, match="not supported for strided"):
            F.conv2d(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3), stride=2, padding="same")
        with pytest.raises(PaddingError, match="stride"):
            torch_padding("same", (3, 3), 2)

    @pytest.mark.parametrize("word", ["SAME", "SAME_LOWER", "VALID"])
    def test_jax_words(self, word):
        lax = pytest.importorskip("jax").lax
        for sizes, kernel, strides, dilations in (
            ((8, 9), (3, 4), (2, 1), (1, 2)),
            ((7, 6), (2, 1), (3, 4), (2, 1)),
            ((9, 8), (4, 3), (1, 2), (1, 1)),
        ):
            case = Case(sizes, kernel, strides, dilations, 3)
            x, weight = case.integers(2, *sizes, 3), case.integers(*kernel, 3, 4)
            expected = lax.conv_general_dilated(
                x, weight, strides, word, rhs_dilation=dilations, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            padding = jax_padding(word, *case.axes, sizes=sizes)
            same(torch_convolution(x, weight, case, padding), expected)

    def test_flax_causal(self):
        linen = pytest.importorskip("flax.linen")
        case = Case((9,), (3,), (2,), (2,), 4)
        x, kernel = case.integers(2, 9, 2), case.integers(3, 2, 3)
        layer = linen.Conv(3, (3,), strides=2, kernel_dilation=2, padding="CAUSAL", use_bias=False)
        expected = layer.apply({"params": {"kernel": kernel}}, x)
        same(torch_convolution(x, kernel, case, jax_padding("CAUSAL", *case.axes)), expected)

    @SOME
    @given(cases(), st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    def test_onnx_runtime_auto_pad(self, case, word):
        # ONNX Runtime refuses dilation with SAME, and crops (against the reference implementation of the
        # standard) where the stride skips more than two elements between windows.
        if word != "VALID":
            case = Case(case.sizes, case.kernel, case.strides, (1,) * case.ndim, case.seed)
            assume(all(stride <= extent + 2 for stride, extent in zip(case.strides, case.extents)))
        assume(word != "VALID" or case.fits)
        x, kernel = case.integers(2, *case.sizes, 2), case.integers(*case.kernel, 2, 3)
        padding = onnx_padding(word, None, *case.axes, sizes=case.sizes)
        spatial = SPATIAL[case.ndim]
        weight = convert(kernel, spatial + "IO", "OI" + spatial).copy()
        expected = onnx_run(
            "Conv", first(x), weight, auto_pad=word, strides=case.strides, dilations=case.dilations
        )
        np.testing.assert_array_equal(torch_convolution(x, kernel, case, padding).numpy(), expected)


def onnx_run(operator: str, x, *others, opset: int = 22, **attributes) -> np.ndarray:
    """One ONNX operator in ONNX Runtime; ``others`` are constant inputs."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    x = np.asarray(x)
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    names = [f"c{index}" for index in range(len(others))]
    node = helper.make_node(operator, ["x", *names], ["y"], **attributes)
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for value, name in zip(others, names)]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", float32, x.shape)],
        [helper.make_tensor_value_info("y", float32, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def torch_full_transposed(x: np.ndarray, kernel: np.ndarray, case: Case, crop: Padding):
    """Torch's full transposed convolution, cropped by hand (a negative crop appends zeros)."""
    spatial = SPATIAL[case.ndim]
    weight = torch.from_numpy(convert(kernel, spatial + "OI", "IO" + spatial).copy())
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[case.ndim - 1]
    full = function(first(x), weight, stride=case.strides, dilation=case.dilations)
    return F.pad(full, to_torch_pad(-crop))


class TestTransposedConvolution:
    @SOME
    @given(cases(dilate=False), st.sampled_from(["same", "valid"]), st.data())
    def test_keras_layers(self, case, word, data):
        extra = None
        if data.draw(st.booleans(), label="with output_padding"):
            extra = tuple(data.draw(st.integers(0, stride - 1)) for stride in case.strides)
        x, kernel = case.integers(2, *case.sizes, 2), case.integers(*case.kernel, 3, 2)
        crop = keras_crop(word, extra, *case.axes)
        layer = getattr(keras.layers, f"Conv{case.ndim}DTranspose")(
            3, case.kernel, strides=case.strides, padding=word, output_padding=extra, use_bias=False
        )
        layer.build(x.shape)
        layer.set_weights([kernel])
        try:
            out = transposed_output_sizes(case.sizes, crop, *case.axes)
            assert tensorflow_crop(case.sizes, out, word, *case.axes) == crop
        except PaddingError:
            # Keras computes an output size, sometimes 0, that TensorFlow then refuses.
            with pytest.raises(tf.errors.InvalidArgumentError):
                layer(x)
            return
        expected = layer(x)
        same(torch_full_transposed(x, kernel, case, crop), expected)
        assert out == tuple(expected.shape[1:-1])

    @SOME
    @given(cases(dilate=False), st.sampled_from(["SAME", "VALID"]), st.data())
    def test_tensorflow_with_any_output_size_that_it_takes(self, case, word, data):
        tops = [n * s if word == "SAME" else (n - 1) * s + k for n, k, s in zip(case.sizes, *case.axes[:2])]
        back = [data.draw(st.integers(0, s - 1)) for s in case.strides]
        out = tuple(top - less if word == "SAME" else top + less for top, less in zip(tops, back))
        x, kernel = case.integers(2, *case.sizes, 2), case.integers(*case.kernel, 3, 2)
        function = (tf.nn.conv1d_transpose, tf.nn.conv2d_transpose, tf.nn.conv3d_transpose)[case.ndim - 1]
        expected = function(x, kernel, [2, *out, 3], list(case.strides), padding=word)
        crop = tensorflow_crop(case.sizes, out, word, *case.axes)
        same(torch_full_transposed(x, kernel, case, crop), expected)

    @SOME
    @given(cases(), st.data())
    def test_torch_arguments(self, case, data):
        padding = tuple(data.draw(st.integers(0, extent)) for extent in case.extents)
        tops = [max(s, d) - 1 for s, d in zip(case.strides, case.dilations)]
        extra = tuple(data.draw(st.integers(0, top)) for top in tops)
        crop = torch_crop(padding, extra, case.kernel)
        try:
            sizes = transposed_output_sizes(case.sizes, crop, *case.axes)
        except PaddingError:
            assume(False)
        x, kernel = case.integers(2, *case.sizes, 2), case.integers(*case.kernel, 3, 2)
        spatial = SPATIAL[case.ndim]
        weight = torch.from_numpy(convert(kernel, spatial + "OI", "IO" + spatial).copy())
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[case.ndim - 1]
        expected = function(first(x), weight, None, case.strides, padding, extra, 1, case.dilations)
        assert torch.equal(torch_full_transposed(x, kernel, case, crop), expected)
        assert sizes == tuple(expected.shape[2:])
        pads, output_padding = onnx_transposed_pads(crop, *case.axes)
        assert onnx_crop("NOTSET", pads, output_padding, None, case.sizes, *case.axes) == crop

    @SOME
    @given(cases(ndims=(1, 2)), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]), st.data())
    def test_onnx_runtime_attributes(self, case, word, data):
        attributes: dict[str, list[int]] = {}
        extra = [data.draw(st.integers(0, s - 1)) for s in case.strides]  # the standard: less than max(s, d)
        full = [(n - 1) * s + e for n, s, e in zip(case.sizes, case.strides, case.extents)]
        way = data.draw(st.sampled_from(["output_shape", "output_padding", "pads", "nothing"]))
        if way == "output_shape":
            attributes["output_shape"] = [
                data.draw(st.integers(max(1, f - 3), f + s - 1)) for f, s in zip(full, case.strides)
            ]
        elif way == "output_padding":
            attributes["output_padding"] = extra
        elif way == "pads":
            assume(word == "NOTSET")
            attributes["pads"] = [data.draw(st.integers(0, (f - 1) // 2)) for f in full * 2]
            attributes["output_padding"] = extra
        try:
            crop = onnx_crop(
                word,
                attributes.get("pads"),
                attributes.get("output_padding"),
                attributes.get("output_shape"),
                case.sizes,
                *case.axes,
            )
        except PaddingError:
            assume(False)
        x, kernel = case.integers(1, *case.sizes, 2), case.integers(*case.kernel, 3, 2)
        spatial = SPATIAL[case.ndim]
        weight = convert(kernel, spatial + "OI", "IO" + spatial).copy()
        expected = onnx_run(
            "ConvTranspose",
            first(x),
            weight,
            auto_pad=word,
            strides=case.strides,
            dilations=case.dilations,
            **attributes,
        )
        np.testing.assert_array_equal(torch_full_transposed(x, kernel, case, crop).numpy(), expected)

    @pytest.mark.parametrize("padding", ["SAME", "VALID", [(0, 3), (7, 8)], [(4, 5), (9, 1)]])
    def test_jax(self, padding):
        lax = pytest.importorskip("jax").lax
        for strides, dilations in (((2, 3), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (2, 1))):
            case = Case((4, 3), (3, 4), strides, dilations, 5)
            x, kernel = case.integers(2, 4, 3, 2), case.integers(3, 4, 3, 2)
            # transpose_kernel: the gradient of a convolution, as everywhere else; the kernel is then HWOI
            expected = lax.conv_transpose(
                x, kernel, strides, padding, rhs_dilation=dilations, transpose_kernel=True,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )  # fmt: skip
            same(torch_full_transposed(x, kernel, case, jax_crop(padding, *case.axes)), expected)


class TestPooling:
    @SOME
    @given(cases(dilate=False), st.sampled_from(["SAME", "VALID"]))
    def test_tensorflow_max_and_average(self, case, word):
        assume(word == "SAME" or case.fits)
        x = case.integers(2, *case.sizes, 2)
        padding = tensorflow_padding(word, *case.axes, sizes=case.sizes, clamp=case.ndim < 3)
        pad = to_torch_pad(padding)
        maximum = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[case.ndim - 1]
        average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[case.ndim - 1]
        expected = getattr(tf.nn, f"max_pool{case.ndim}d")(x, case.kernel, list(case.strides), word)
        same(maximum(F.pad(first(x), pad, value=-np.inf), case.kernel, case.strides), expected)
        mean = getattr(tf.nn, f"avg_pool{case.ndim}d")(x, case.kernel, list(case.strides), word).numpy()
        sums = average(F.pad(first(x).double(), pad), case.kernel, case.strides) * int(np.prod(case.kernel))
        ours = sums.numpy() / divisor_map(average_divisors(case.sizes, padding, *case.axes))
        last = LAST[case.ndim]
        np.testing.assert_allclose(convert(ours, Layout(last).canonical, last), mean, rtol=1e-6, atol=1e-6)

    @settings(deadline=None, max_examples=100)
    @given(cases(), st.data())
    def test_torch_max_with_ceil_mode(self, case, data):
        amounts = tuple(data.draw(st.integers(0, k // 2)) for k in case.kernel)
        padding = Padding.symmetric(amounts)
        assume(all(n + 2 * p >= e for n, p, e in zip(case.sizes, amounts, case.extents)))
        ceil = data.draw(st.booleans())
        x = torch.from_numpy(case.integers(1, 2, *case.sizes))
        function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[case.ndim - 1]
        expected = function(x, case.kernel, case.strides, amounts, case.dilations, ceil_mode=ceil)
        assert pool_output_sizes(case.sizes, padding, *case.axes, ceil_mode=ceil) == tuple(expected.shape[2:])
        if ceil:
            padding = ceil_mode_as_padding(case.sizes, padding, *case.axes)
        padded = F.pad(x, to_torch_pad(padding), value=-np.inf)
        assert torch.equal(function(padded, case.kernel, case.strides, 0, case.dilations), expected)

    @settings(deadline=None, max_examples=100)
    @given(cases(dilate=False), st.booleans(), st.booleans(), st.data())
    def test_torch_average_divisors(self, case, ceil, include, data):
        amounts = tuple(data.draw(st.integers(0, k // 2)) for k in case.kernel)
        padding = Padding.symmetric(amounts)
        assume(all(n + 2 * p >= k for n, p, k in zip(case.sizes, amounts, case.kernel)))
        assume(case.ndim < 3 or case.fits)  # torch refuses 3-D averages of less than a kernel, padded or not
        ones = torch.ones(1, 1, *case.sizes, dtype=torch.float64)
        function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[case.ndim - 1]
        expected = function(ones, case.kernel, case.strides, amounts, ceil, include)
        divisors = average_divisors(
            case.sizes, padding, *case.axes, ceil_mode=ceil, count_include_pad=include
        )
        inside = average_divisors(case.sizes, padding, *case.axes, ceil_mode=ceil)
        ours = divisor_map(inside) / divisor_map(divisors)
        np.testing.assert_allclose(ours, expected[0, 0].numpy(), rtol=1e-15)

    @SOME
    @given(cases(ndims=(1, 2), dilate=False), st.booleans(), st.booleans(), st.data())
    def test_onnx_runtime_average_divisors(self, case, ceil, include, data):
        pads = [data.draw(st.integers(0, k - 1)) for k in case.kernel * 2]
        padding = Padding.from_onnx(pads)
        assume(all(n + t >= k for n, t, k in zip(case.sizes, padding.totals, case.kernel)))
        inside = average_divisors(case.sizes, padding, *case.axes, ceil_mode=ceil)
        assume(all(axis.min() > 0 for axis in inside))
        ones = np.ones((1, 1, *case.sizes), np.float32)
        expected = onnx_run(
            "AveragePool", ones, kernel_shape=case.kernel, strides=case.strides, pads=pads,
            ceil_mode=int(ceil), count_include_pad=int(include),
        )  # fmt: skip
        divisors = average_divisors(
            case.sizes, padding, *case.axes, ceil_mode=ceil, count_include_pad=include
        )
        np.testing.assert_allclose(divisor_map(inside) / divisor_map(divisors), expected[0, 0], rtol=1e-6)

    @SOME
    @given(cases(ndims=(1, 2)), st.booleans(), st.data())
    def test_onnx_runtime_max(self, case, ceil, data):
        pads = [data.draw(st.integers(0, extent - 1)) for extent in case.kernel * 2]
        padding = Padding.from_onnx(pads)
        assume(all(n + t >= e for n, t, e in zip(case.sizes, padding.totals, case.extents)))
        x = case.integers(1, 2, *case.sizes)
        expected = onnx_run(
            "MaxPool", x, kernel_shape=case.kernel, strides=case.strides, pads=pads,
            dilations=case.dilations, ceil_mode=int(ceil),
        )  # fmt: skip
        assert pool_output_sizes(case.sizes, padding, *case.axes, ceil_mode=ceil) == expected.shape[2:]

    def test_onnx_rule_before_opset_19_keeps_the_window_that_starts_outside(self):
        # shape inference of onnx itself, the only implementation of the earlier rule at hand
        onnx = pytest.importorskip("onnx")
        geometry = ((4,), Padding.symmetric((1,)), (2,), (3,))
        for opset, drop in ((12, False), (22, True)):
            node = onnx.helper.make_node(
                "MaxPool", ["x"], ["y"], kernel_shape=[2], strides=[3], pads=[1, 1], ceil_mode=1
            )
            info = onnx.helper.make_tensor_value_info
            graph = onnx.helper.make_graph([node], "g", [info("x", 1, [1, 1, 4])], [info("y", 1, None)])
            model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
            shape = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
            assert pool_output_sizes(*geometry, ceil_mode=True, drop_outside=drop) == (
                shape.dim[2].dim_value,
            )


class TestPadOperators:
    @SOME
    @given(cases(), st.sampled_from(sorted(MODES)), st.data())
    def test_modes_mean_the_same_wherever_they_have_a_name(self, case, mode, data):
        tops = [min(3, size - (mode == "reflect")) for size in case.sizes]
        begins, ends = (tuple(data.draw(st.integers(0, top)) for top in tops) for _ in "be")
        padding = Padding(begins, ends)
        x = case.integers(1, *case.sizes, 2)
        last = LAST[case.ndim]
        width = to_pad_width(padding, last)
        truth = np.pad(x, width, mode=mode)
        if native_mode("tensorflow", mode):
            np.testing.assert_array_equal(tf.pad(x, width, mode=native_mode("tensorflow", mode)), truth)
        if native_mode("keras", mode):
            np.testing.assert_array_equal(keras.ops.pad(x, width, mode=native_mode("keras", mode)), truth)
        if native_mode("torch", mode):
            same(F.pad(first(x), to_torch_pad(padding), mode=native_mode("torch", mode)), truth)
        if native_mode("onnx", mode):
            every = Padding((0, 0, *begins), (0, 0, *ends)).to_onnx()
            result = onnx_run("Pad", first(x), np.array(every, np.int64), mode=native_mode("onnx", mode))
            same(torch.from_numpy(result), truth)

    def test_names_that_frameworks_refuse_are_not_given(self):
        x = np.zeros((1, 4, 4, 1), np.float32)
        width = [(0, 0), (1, 1), (1, 1), (0, 0)]
        for mode in ("edge", "wrap"):
            assert native_mode("tensorflow", mode) is None
            with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
                tf.pad(x, width, mode=mode.upper())
        assert native_mode("torch", "symmetric") is None
        with pytest.raises((NotImplementedError, RuntimeError)):
            F.pad(torch.zeros(1, 1, 4, 4), (1, 1, 1, 1), mode="symmetric")
        assert native_mode("onnx", "symmetric") is None
        with pytest.raises(Exception, match=r"(?i)mode"):
            onnx_run("Pad", x, np.array([0, 1, 1, 0, 0, 1, 1, 0]), mode="symmetric")

    def test_jax_modes(self):
        jnp = pytest.importorskip("jax.numpy")
        x = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
        width = to_pad_width(Padding((1, 2), (2, 0)), "NHWC")
        for mode in MODES:
            name = native_mode("jax", mode)
            np.testing.assert_array_equal(
                np.asarray(jnp.pad(x, width, mode=name)), np.pad(x, width, mode=mode)
            )

    @SOME
    @given(cases(), st.data())
    def test_torch_list_and_keras_layers_with_crops(self, case, data):
        amounts = [data.draw(st.integers(-((size - 1) // 2), 3)) for size in case.sizes * 2]
        padding = Padding.from_onnx(amounts)
        x = case.integers(1, *case.sizes, 2)
        cropped = keras_zero_padding(padding.cropped.pairs, case.ndim)
        layers = (
            getattr(keras.layers, f"Cropping{case.ndim}D")(
                cropped.pairs if case.ndim > 1 else cropped.pairs[0]
            ),
            getattr(keras.layers, f"ZeroPadding{case.ndim}D")(
                padding.grown.pairs if case.ndim > 1 else padding.grown.pairs[0]
            ),
        )
        result = F.pad(first(x), to_torch_pad(padding))
        same(result, layers[1](layers[0](x)))
        assert from_torch_pad(to_torch_pad(padding), case.ndim) == padding

    @pytest.mark.parametrize(
        ("ndim", "argument"),
        [(1, 2), (1, (1, 2)), (2, 1), (2, (1, 2)), (2, ((0, 1), (2, 3))), (3, (1, 0, 2))],
    )
    def test_keras_zero_padding_forms(self, ndim, argument):
        x = np.ones((1, *(3, 4, 2)[:ndim], 1), np.float32)
        padding = keras_zero_padding(argument, ndim)
        expected = np.asarray(getattr(keras.layers, f"ZeroPadding{ndim}D")(argument)(x))
        np.testing.assert_array_equal(np.pad(x, to_pad_width(padding, LAST[ndim])), expected)

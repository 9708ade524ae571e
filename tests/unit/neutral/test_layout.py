"""Layouts: parsing, the letters, and conversion against an oracle that places every element by hand."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral.errors import LayoutError, PortingError
from porting_check.neutral.layout import AXIS_LETTERS, Layout, convert, convert_shape

MODEST = settings(deadline=None, max_examples=150)
SPATIAL = {1: "L", 2: "HW", 3: "DHW"}


def labelled(layout: Layout, sizes: dict[str, int]) -> np.ndarray:
    """An array whose every element names its own coordinates, built without transpose or reshape."""
    letters = sorted(sizes)
    shape = [int(np.prod([sizes[letter] for letter in group], dtype=int)) for group in layout.groups]
    array = np.full(shape, -1, np.int64)
    for label, point in enumerate(itertools.product(*(range(sizes[letter]) for letter in letters))):
        at = dict(zip(letters, point))
        place = []
        for group in layout.groups:
            index = 0
            for letter in group:
                index = index * sizes[letter] + at[letter]
            place.append(index)
        array[tuple(place)] = label
    assert (array >= 0).all()
    return array


@st.composite
def layout_texts(draw, letters: str) -> str:
    """The letters in any order, cut into axes anywhere, with axes of size one strewn in."""
    pieces: list[str] = []
    for letter in draw(st.permutations(letters)):
        if pieces and draw(st.booleans()):
            pieces[-1] += letter
        else:
            pieces.append(letter)
    words = [f"({piece})" if len(piece) > 1 else piece for piece in pieces]
    for _ in range(draw(st.integers(0, 2))):
        words.insert(draw(st.integers(0, len(words))), "1")
    return "".join(words)


@st.composite
def cases(draw, count: int) -> tuple[dict[str, int], list[Layout]]:
    letters = "".join(draw(st.sets(st.sampled_from(sorted(AXIS_LETTERS)), min_size=1, max_size=4)))
    sizes = {letter: draw(st.integers(1, 4)) for letter in sorted(letters)}
    return sizes, [Layout(draw(layout_texts(letters))) for _ in range(count)]


class TestConvert:
    @MODEST
    @given(cases(2))
    def test_every_element_lands_where_its_coordinates_say(self, case):
        sizes, (start, goal) = case
        result = convert(labelled(start, sizes), start, goal, sizes)
        np.testing.assert_array_equal(result, labelled(goal, sizes))

    @MODEST
    @given(cases(2))
    def test_there_and_back_is_the_identity(self, case):
        sizes, (start, goal) = case
        array = labelled(start, sizes)
        np.testing.assert_array_equal(convert(convert(array, start, goal, sizes), goal, start, sizes), array)

    @MODEST
    @given(cases(3))
    def test_two_steps_are_as_good_as_one(self, case):
        sizes, (start, middle, goal) = case
        array = labelled(start, sizes)
        two = convert(convert(array, start, middle, sizes), middle, goal, sizes)
        np.testing.assert_array_equal(two, convert(array, start, goal, sizes))

    @MODEST
    @given(cases(2))
    def test_shape_of_conversion_without_the_array(self, case):
        sizes, (start, goal) = case
        array = labelled(start, sizes)
        assert convert_shape(array.shape, start, goal, sizes) == convert(array, start, goal, sizes).shape

    @MODEST
    @given(st.permutations("NDHWC"), st.permutations("NDHWC"))
    def test_pure_permutation_is_numpy_transpose_and_a_view(self, first, second):
        start, goal = Layout("".join(first)), Layout("".join(second))
        array = np.arange(120).reshape(1, 2, 3, 4, 5)
        result = convert(array, start, goal)
        np.testing.assert_array_equal(result, np.transpose(array, start.permutation(goal)))
        assert np.shares_memory(result, array)
        inverse = goal.permutation(start)
        assert tuple(start.permutation(goal)[axis] for axis in inverse) == tuple(range(5))

    def test_depthwise_kernel_of_keras_becomes_channel_times_multiplier(self):
        kernel = np.arange(3 * 2 * 4 * 2).reshape(3, 2, 4, 2)
        expected = kernel.transpose(2, 3, 0, 1).reshape(8, 1, 3, 2)
        np.testing.assert_array_equal(convert(kernel, "HWCM", "(CM)1HW"), expected)
        np.testing.assert_array_equal(convert(expected, "(CM)1HW", "HWCM", sizes={"M": 2}), kernel)
        np.testing.assert_array_equal(convert(expected, "(CM)1HW", "HWCM", sizes={"C": 4}), kernel)

    def test_group_that_stays_together_needs_no_sizes(self):
        array = np.arange(6 * 2 * 3).reshape(2, 3, 1, 6)
        np.testing.assert_array_equal(convert(array, "HW1(CM)", "(CM)1HW"), array.transpose(3, 2, 0, 1))
        assert convert_shape((2, 60), "N(HWC)", "N1(HWC)") == (2, 1, 60)
        assert convert_shape((2, 60), "N(HWC)", "N(HW)C", sizes={"C": 5}) == (2, 12, 5)

    def test_flatten_order_of_channels_last_against_channels_first(self):
        image = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
        flat = convert(image, "NHWC", "N(HWC)")
        np.testing.assert_array_equal(flat, image.reshape(2, -1))
        moved = convert(flat, "N(HWC)", "N(CHW)", sizes={"H": 3, "W": 4})
        np.testing.assert_array_equal(moved, image.transpose(0, 3, 1, 2).reshape(2, -1))

    def test_strided_and_read_only_input_stays_a_view_where_axes_are_split(self):
        base = np.arange(2 * 24 * 10).reshape(2, 24, 10)[:, ::2, ::-1]
        base.flags.writeable = False
        result = convert(base, "T(HD)N", "NHTD", sizes={"H": 3})
        assert result.shape == (10, 3, 2, 4)
        assert np.shares_memory(result, base)
        assert not result.flags.writeable

    def test_empty_arrays_and_scalars(self):
        assert convert(np.zeros((0, 4, 3)), "NLC", "NCL").shape == (0, 3, 4)
        assert convert(np.zeros((0, 12)), "N(LC)", "NCL", sizes={"C": 3}).shape == (0, 3, 4)
        assert convert(np.array(7.0), "", "1").shape == (1,)
        assert convert(np.ones((1, 1)), "11", "").shape == ()

    def test_dtype_is_kept(self):
        for dtype in (np.bool_, np.int8, np.float16, np.complex64):
            assert convert(np.zeros((1, 2, 3), dtype), "NLC", "NCL").dtype == dtype


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("NHWQ", ["unknown letters ['Q']", "NCLDHW"]),
            ("NHHC", ["['H']", "more than once"]),
            ("N(C)HW", ["from '(C)HW'", "parentheses"]),
            ("N(CHW", ["from '(CHW'"]),
            ("nhwc", ["from 'nhwc'", "capital"]),
            ("N HW", ["from ' HW'"]),
            ("N(C1)", ["from '(C1)'"]),
            ("N2", ["from '2'"]),
        ],
    )
    def test_text_that_is_no_layout(self, text, words):
        with pytest.raises(LayoutError) as caught:
            Layout(text)
        assert all(word in str(caught.value) for word in words), caught.value

    def test_not_text(self):
        with pytest.raises(LayoutError, match="not 4"):
            Layout(4)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("shape", "start", "goal", "sizes", "words"),
        [
            ((2, 3), "NC", "NCL", None, ["only NCL has ['L']"]),
            ((2, 3, 4, 5), "HWIO", "NHWC", None, ["only HWIO has ['I', 'O']", "only NHWC has ['C', 'N']"]),
            ((2, 3, 4), "NHWC", "NCHW", None, ["has 4 axes", "(2, 3, 4)"]),
            ((16,), "(CM)", "MC", None, ["['C', 'M']", "length 16", "sizes={'C'"]),
            ((60,), "(HWC)", "CHW", {"H": 3}, ["['H', 'W', 'C']", "all but one"]),
            ((16,), "(CM)", "MC", {"M": 3}, ["length 16", "{'M': 3}", "does not divide"]),
            ((16,), "(CM)", "MC", {"M": 4, "C": 3}, ["length 16", "expected 12"]),
            ((0,), "(CM)", "MC", {"M": 0}, ["does not divide"]),
            ((2, 3), "NC", "CN", {"C": 4}, ["axis C", "length 3", "expected 4"]),
            ((2, 3), "NC", "CN", {"W": 4}, ["['W']", "NC does not have"]),
            ((2, 3), "1C", "C", None, ["axis 1", "length 2", "expected 1"]),
        ],
    )
    def test_conversion_that_cannot_be(self, shape, start, goal, sizes, words):
        for attempt in (
            lambda: convert(np.zeros(shape), start, goal, sizes),
            lambda: convert_shape(shape, start, goal, sizes),
        ):
            with pytest.raises(LayoutError) as caught:
                attempt()
            assert all(word in str(caught.value) for word in words), caught.value

    def test_permutation_refuses_what_a_transposition_cannot_do(self):
        for goal in ("(CM)1HW", "HW(CM)", "HWCM1"):
            assert Layout("HWCM").reachable(goal)
            with pytest.raises(LayoutError, match="use convert"):
                Layout("HWCM").permutation(goal)
        with pytest.raises(LayoutError, match="only OIHW"):
            Layout("HWCM").permutation("OIHW")
        assert not Layout("HWCM").reachable("OIHW")

    def test_error_is_a_porting_error(self):
        assert issubclass(LayoutError, PortingError)


class TestMeaning:
    @pytest.mark.parametrize(
        ("text", "ndim", "axes", "spatial", "channel"),
        [
            ("NHWC", 4, "NHWC", "HW", 3),
            ("NCHW", 4, "NCHW", "HW", 1),
            ("NLC", 3, "NLC", "L", 2),
            ("NDHWC", 5, "NDHWC", "DHW", 4),
            ("HWIO", 4, "HWIO", "HW", None),
            ("(CM)1HW", 4, "CMHW", "HW", None),
            ("HWCM", 4, "HWCM", "HW", 2),
            ("I(GO)", 2, "IGO", "", None),
            ("E(HD)", 2, "EHD", "", 0),
            ("EHD", 3, "EHD", "", 0),
            ("NHTD", 4, "NHTD", "", None),
            ("NTHWC", 5, "NTHWC", "HW", 4),
            ("NTE", 3, "NTE", "", 2),
            ("11C", 3, "C", "", 2),
            ("", 0, "", "", None),
        ],
    )
    def test_properties(self, text, ndim, axes, spatial, channel):
        layout = Layout(text)
        assert (layout.ndim, "".join(layout.axes)) == (ndim, axes)
        assert ("".join(layout.spatial), layout.channel_axis) == (spatial, channel)

    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("NHWC", "NCHW"),
            ("NCHW", "NCHW"),
            ("CHWN", "NCHW"),
            ("NWHC", "NCHW"),
            ("NLC", "NCL"),
            ("LNC", "NCL"),
            ("NDHWC", "NCDHW"),
            ("HWC", "CHW"),
            ("NTHWC", "NTCHW"),
            ("NC", "NC"),
            ("NTE", "NTE"),
            ("NHTD", "NHTD"),
            ("NHW", "NHW"),
        ],
    )
    def test_canonical_activation(self, text, canonical):
        assert Layout(text).canonical == Layout(canonical)
        assert Layout(canonical).canonical == Layout(canonical)

    @pytest.mark.parametrize("text", ["HWIO", "OIHW", "HWCM", "N(HW)C", "LIO"])
    def test_kernels_and_grouped_axes_have_no_canonical_activation(self, text):
        with pytest.raises(LayoutError, match="no canonical"):
            _ = Layout(text).canonical

    def test_axis_by_letter(self):
        assert Layout("N1HWC").axis("C") == 4
        for text, letter in (("N(HWC)", "C"), ("N1C", ""), ("NC", "H")):
            with pytest.raises(LayoutError, match="of its own"):
                Layout(text).axis(letter)

    def test_layout_is_a_frozen_hashable_value(self):
        layout = Layout("NHWC")
        assert layout == Layout("NHWC") != Layout("NCHW")
        assert len({layout, Layout("NHWC"), Layout("NCHW")}) == 2
        assert (str(layout), repr(layout)) == ("NHWC", "Layout('NHWC')")
        assert pickle.loads(pickle.dumps(layout)) == layout
        assert Layout.of(layout) is layout
        with pytest.raises(AttributeError):
            layout.text = "NCHW"  # type: ignore[misc]

    def test_no_framework_is_imported(self):
        code = "import sys, porting_check.neutral.layout; print({'torch', 'tensorflow'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def layers():
    return pytest.importorskip("keras").layers


class TestAgainstFrameworks:
    """Kernels moved by layout make torch compute what Keras computes; integers, so bit for bit."""

    @staticmethod
    def integers(shape, seed):
        return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)

    @staticmethod
    def agree(layer, x, native, function):
        letters = {3: "NLC", 4: "NHWC", 5: "NDHWC"}[x.ndim]
        expected = np.asarray(layer(x))
        result = function(native, convert(x, letters, Layout(letters).canonical))
        np.testing.assert_array_equal(convert(result.numpy(), Layout(letters).canonical, letters), expected)

    # Keras on TensorFlow has no grouped 3-D convolution on the CPU.
    @pytest.mark.parametrize(("ndim", "groups"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
    def test_convolution_kernels(self, torch, layers, ndim, groups):
        x, spatial = self.integers((2, *(7, 6, 5)[:ndim], 4), ndim), SPATIAL[ndim]
        layer = getattr(layers, f"Conv{ndim}D")(6, (3, 2, 1)[:ndim], groups=groups, use_bias=False)
        layer.build(x.shape)
        layer.set_weights([self.integers(layer.get_weights()[0].shape, 5)])
        weight = convert(layer.get_weights()[0], spatial + "IO", "OI" + spatial)
        conv = getattr(torch.nn.functional, f"conv{ndim}d")
        self.agree(layer, x, weight, lambda w, v: conv(torch.tensor(v), torch.tensor(w), groups=groups))

    @pytest.mark.parametrize("ndim", [1, 2, 3])
    def test_transposed_kernels(self, torch, layers, ndim):
        x, spatial = self.integers((2, *(4, 3, 2)[:ndim], 5), ndim), SPATIAL[ndim]
        layer = getattr(layers, f"Conv{ndim}DTranspose")(4, (3, 2, 3)[:ndim], strides=2, use_bias=False)
        layer.build(x.shape)
        layer.set_weights([self.integers(layer.get_weights()[0].shape, 6)])
        weight = convert(layer.get_weights()[0], spatial + "OI", "IO" + spatial)
        conv = getattr(torch.nn.functional, f"conv_transpose{ndim}d")
        self.agree(layer, x, weight, lambda w, v: conv(torch.tensor(v), torch.tensor(w), stride=2))

    @pytest.mark.parametrize("ndim", [1, 2])
    def test_depthwise_kernels_with_multiplier(self, torch, layers, ndim):
        x, spatial = self.integers((2, *(7, 6)[:ndim], 4), ndim), SPATIAL[ndim]
        layer = getattr(layers, f"DepthwiseConv{ndim}D")((3, 2)[:ndim], depth_multiplier=3, use_bias=False)
        layer.build(x.shape)
        layer.set_weights([self.integers(layer.get_weights()[0].shape, 7)])
        weight = convert(layer.get_weights()[0], spatial + "CM", "(CM)1" + spatial)
        conv = getattr(torch.nn.functional, f"conv{ndim}d")
        self.agree(layer, x, weight, lambda w, v: conv(torch.tensor(v), torch.tensor(w), groups=4))

    def test_dense_after_flatten(self, torch, layers):
        x = self.integers((2, 3, 4, 5), 8)
        layer = layers.Dense(7, use_bias=False)
        layer.build((2, 60))
        layer.set_weights([self.integers((60, 7), 9)])
        expected = np.asarray(layer(x.reshape(2, -1)))
        weight = convert(layer.get_weights()[0], "(HWC)O", "O(CHW)", sizes={"H": 3, "W": 4})
        flat = torch.tensor(convert(x, "NHWC", "NCHW").copy()).flatten(1)
        np.testing.assert_array_equal((flat @ torch.tensor(weight).T).numpy(), expected)

    def test_attention_projection(self, torch, layers):
        x = self.integers((2, 5, 12), 10)
        layer = layers.MultiHeadAttention(3, 4, use_bias=False)
        layer.build(x.shape, x.shape)
        kernel = self.integers((12, 3, 4), 11)
        layer.query_dense.set_weights([kernel])
        expected = convert(np.asarray(layer.query_dense(x)), "NTHD", "NT(HD)")
        weight = torch.tensor(convert(kernel, "EHD", "(HD)E"))
        np.testing.assert_array_equal((torch.tensor(x) @ weight.T).numpy(), expected)

    def test_pixel_shuffle_is_a_layout(self, torch):
        x = np.arange(2 * 12 * 3 * 5, dtype=np.float32).reshape(2, 12, 3, 5)
        ours = convert(x, "N(CXY)HW", "NC(HX)(WY)", sizes={"X": 2, "Y": 2})
        np.testing.assert_array_equal(ours, torch.nn.functional.pixel_shuffle(torch.tensor(x), 2).numpy())

    def test_slopes_of_prelu_lose_their_axes_of_size_one(self, torch, layers):
        layer = layers.PReLU(shared_axes=[1, 2])
        x = self.integers((2, 3, 4, 5), 12)
        layer.build(x.shape)
        layer.set_weights([self.integers((1, 1, 5), 13)])
        weight = torch.tensor(convert(layer.get_weights()[0], "11C", "C"))
        moved = torch.tensor(convert(x, "NHWC", "NCHW").copy())
        result = torch.nn.functional.prelu(moved, weight).numpy()
        np.testing.assert_array_equal(convert(result, "NCHW", "NHWC"), np.asarray(layer(x)))

"""Paddings as values, their forms in each framework, and what ``expressible`` says, without any framework."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porting_check.neutral import padding as padding_module
from porting_check.neutral.errors import PaddingError, PortingError
from porting_check.neutral.padding import (
    Padding,
    Window,
    convolution_output_sizes,
    per_axis,
    same_padding,
)
from porting_check.neutral.padding_forms import (
    from_pad_width,
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
from porting_check.neutral.padding_modes import MODES, native_mode, neutral_mode
from porting_check.neutral.pooling_padding import (
    average_divisors,
    ceil_mode_as_padding,
    divisor_map,
    pool_output_sizes,
)
from porting_check.neutral.transposed_padding import (
    full_output_sizes,
    jax_crop,
    keras_crop,
    onnx_crop,
    onnx_transposed_pads,
    tensorflow_crop,
    torch_crop,
    transposed_output_sizes,
)

MODEST = settings(deadline=None, max_examples=200)
small = st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 4)
SAME = Padding((0, 0), (1, 1))


def pads(ndim: int, low: int = -5):
    return st.tuples(*[st.integers(low, 9)] * (2 * ndim)).map(Padding.from_onnx)


class TestValue:
    def test_is_frozen_hashable_and_printable(self):
        padding = Padding((0, 1), (2, 3))
        assert padding == Padding([0, np.int64(1)], np.array([2, 3]))
        assert len({padding, Padding((0, 1), (2, 3)), SAME}) == 2
        assert str(padding) == "((0, 2), (1, 3))"
        assert pickle.loads(pickle.dumps(padding)) == padding
        with pytest.raises(AttributeError):
            padding.begins = (1, 1)  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("begins", "ends", "words"),
        [
            ((0, 1), (2,), "2 begins"),
            ((0.5,), (1,), "whole numbers"),
            ((True,), (1,), "whole numbers"),
            (("1",), (1,), "whole numbers"),
            ("same", "same", "whole numbers"),
        ],
    )
    def test_refuses_what_is_no_padding(self, begins, ends, words):
        with pytest.raises(PaddingError, match=words):
            Padding(begins, ends)

    def test_error_is_a_porting_error(self):
        assert issubclass(PaddingError, PortingError)

    @MODEST
    @given(st.integers(1, 3).flatmap(lambda n: st.tuples(pads(n), pads(n))))
    def test_arithmetic_and_forms_round_trip(self, two):
        one, other = two
        assert one + other - other == one
        assert one.grown - one.cropped == one
        assert not one.grown.crops
        assert one.crops == any(amount < 0 for amount in one.to_onnx())
        assert Padding.from_onnx(one.to_onnx()) == one == Padding.from_pairs(one.pairs)
        assert from_torch_pad(to_torch_pad(one), one.ndim) == one
        assert one.totals == tuple(sum(pair) for pair in one.pairs)
        assert one.is_none == (one == Padding.none(one.ndim))
        assert Padding.symmetric(one.begins).is_symmetric
        layout = {1: "NLC", 2: "NHWC", 3: "NCDHW"}[one.ndim]
        assert from_pad_width(to_pad_width(one, layout), layout) == one

    def test_sums_need_the_same_axes(self):
        with pytest.raises(PaddingError, match="2 and 1 axes"):
            SAME + Padding((1,), (1,))

    def test_pairs_and_onnx_lists_of_the_wrong_length(self):
        with pytest.raises(PaddingError, match="begin, end"):
            Padding.from_pairs([(1, 2, 3)])
        with pytest.raises(PaddingError, match="as many ends"):
            Padding.from_onnx([0, 1, 2])

    def test_numbers_per_axis(self):
        assert (
            per_axis(2, 3, "strides")
            == per_axis((2,), 3, "strides")
            == per_axis(np.int32(2), 3, "s")
            == (2, 2, 2)
        )
        assert per_axis([1, 2], 2, "strides") == per_axis(np.array([1, 2]), 2, "strides") == (1, 2)
        with pytest.raises(PaddingError, match=r"strides.*3 spatial axes.*\(1, 2\)"):
            per_axis((1, 2), 3, "strides")
        with pytest.raises(PaddingError, match="1 or more"):
            Window(3, 0)

    def test_modules_are_for_python_3_7(self):
        folder = Path(padding_module.__file__).parent
        for path in sorted(
            [*folder.glob("*padding*.py"), *folder.glob("*expression*.py"), folder / "layout.py"]
        ):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


class TestSame:
    @MODEST
    @given(*small)
    def test_output_is_the_input_divided_by_the_stride_with_the_least_padding(
        self, size, kernel, stride, dilation
    ):
        padding = same_padding((size,), kernel, stride, dilation)
        ((begin, end),) = padding.pairs
        assert convolution_output_sizes((size,), padding, kernel, stride, dilation) == (-(-size // stride),)
        assert 0 <= end - begin <= 1
        if end:
            smaller = Padding((begin,), (end - 1,))
            fits = size + sum(smaller.totals) >= Window(kernel, stride, dilation).extent
            assert not fits or convolution_output_sizes((size,), smaller, kernel, stride, dilation) < (
                -(-size // stride),
            )

    @MODEST
    @given(*small)
    def test_lower_is_the_mirror_of_upper(self, size, kernel, stride, dilation):
        upper = same_padding((size,), kernel, stride, dilation)
        lower = same_padding((size,), kernel, stride, dilation, extra="begin")
        assert (lower.begins, lower.ends) == (upper.ends, upper.begins)

    @pytest.mark.parametrize(
        ("size", "kernel", "stride", "dilation", "pair"),
        [
            (32, 3, 2, 1, (0, 1)),
            (33, 3, 2, 1, (1, 1)),
            (16, 5, 2, 1, (1, 2)),
            (32, 7, 2, 1, (2, 3)),
            (224, 7, 2, 1, (2, 3)),
            (10, 4, 1, 1, (1, 2)),
            (10, 2, 1, 1, (0, 1)),
            (10, 3, 1, 2, (2, 2)),
            (9, 1, 2, 1, (0, 0)),
            (8, 2, 4, 1, (0, 0)),
            (1, 3, 2, 1, (1, 1)),
        ],
    )
    def test_known_cases(self, size, kernel, stride, dilation, pair):
        assert same_padding((size,), kernel, stride, dilation).pairs == (pair,)

    def test_without_the_clamp_a_large_stride_crops(self):
        assert same_padding((3, 5, 8), (1, 2, 2), (3, 5, 4), clamp=False).pairs == (
            (-1, -1),
            (-1, -2),
            (-1, -1),
        )
        assert same_padding((32,), 3, 2, clamp=False) == same_padding((32,), 3, 2)

    def test_side_of_the_extra_is_checked(self):
        with pytest.raises(PaddingError, match="'left'"):
            same_padding((3,), 3, extra="left")

    def test_sizes_are_checked(self):
        for sizes in ((0,), (-1,), (3.5,)):
            with pytest.raises(PaddingError):
                same_padding(sizes, 3)
        with pytest.raises(PaddingError, match="does not fit"):
            convolution_output_sizes((3,), Padding.none(1), 3, dilations=2)
        with pytest.raises(PaddingError, match="2 numbers"):
            convolution_output_sizes((3,), SAME, 3)


class TestForms:
    def test_words_and_numbers(self):
        two = (3, 3)
        assert tensorflow_padding("VALID", two) == keras_padding("valid", two) == torch_padding("valid", two)
        assert (
            tensorflow_padding("SAME", two, 2, sizes=(32, 32))
            == keras_padding("same", two, 2, sizes=(32, 32))
            == SAME
        )
        assert torch_padding((1, 2), two).pairs == jax_padding((1, 2), two).pairs == ((1, 1), (2, 2))
        assert (
            torch_padding(1, two)
            == torch_padding((1,), two)
            == jax_padding(1, two)
            == Padding((1, 1), (1, 1))
        )
        assert torch_padding("same", (4,), dilations=3).pairs == ((4, 5),)
        assert (
            keras_padding("causal", (3,), dilations=4)
            == jax_padding("CAUSAL", (3,), dilations=4)
            == Padding((8,), (0,))
        )
        assert jax_padding("SAME_LOWER", (2,), sizes=(5,)).pairs == ((1, 0),)
        assert jax_padding([(0, 1), 2], two).pairs == ((0, 1), (2, 2))
        assert (
            onnx_padding("SAME_UPPER", None, two, 2, sizes=(32, 32))
            == onnx_padding("NOTSET", [0, 0, 1, 1], two)
            == SAME
        )
        assert onnx_padding("", None, two) == onnx_padding("VALID", [0, 0, 0, 0], two) == Padding.none(2)
        assert tensorflow_padding([[0, 0], [0, 0], [1, 2], [3, 4]], two, layout="NCHW").pairs == (
            (1, 2),
            (3, 4),
        )

    @pytest.mark.parametrize(
        ("attempt", "words"),
        [
            (lambda: tensorflow_padding("SAME", (3, 3), 2), "give sizes"),
            (lambda: tensorflow_padding("CAUSAL", (3,)), "'SAME', 'VALID'"),
            (lambda: tensorflow_padding([[0, 0], [1, 1]], (3, 3)), "4 axes"),
            (lambda: tensorflow_padding([[1, 1], [1, 1], [1, 1], [0, 0]], (3, 3)), "not spatial"),
            (lambda: tensorflow_padding("SAME", (3, 3), sizes=(3,)), "2 spatial axes"),
            (lambda: keras_padding("causal", (3, 3)), "one spatial axis"),
            (lambda: keras_padding("full", (3, 3)), "'FULL'"),
            (lambda: torch_padding("same", (3, 3), (1, 2)), "stride"),
            (lambda: torch_padding("SAME", (3, 3)), "'same', 'valid'"),
            (lambda: torch_padding(-1, (3, 3)), "negative"),
            (lambda: torch_padding((1, 1, 1), (3, 3)), "2 spatial axes"),
            (lambda: torch_padding(1.5, (3, 3)), "whole"),
            (lambda: jax_padding("CIRCULAR", (3, 3)), "SAME_LOWER"),
            (lambda: jax_padding([(0, 1)], (3, 3)), "one entry"),
            (lambda: onnx_padding("SAME_UPPER", [1, 1], (3,), sizes=(4,)), "excludes"),
            (lambda: onnx_padding("NOTSET", [1, 1], (3, 3)), "2 spatial axes"),
            (lambda: onnx_padding("SAME", None, (3,), sizes=(4,)), "SAME_UPPER"),
            (lambda: keras_zero_padding((1, 2, 3), 2), "ZeroPadding2D"),
            (lambda: from_torch_pad((1, 2, 3), 1), "pairs"),
            (lambda: from_torch_pad((0, 0, 1, 0), 1), "before the 1 spatial"),
            (lambda: to_pad_width(SAME, "NLC"), "1 spatial"),
            (lambda: from_pad_width([(0, 0)], "NLC"), "3 axes"),
        ],
    )
    def test_what_is_refused_says_why(self, attempt, words):
        with pytest.raises(PaddingError) as caught:
            attempt()
        assert words in str(caught.value)

    def test_shorter_torch_lists_leave_the_first_axes_alone(self):
        assert from_torch_pad((1, 2), 3).pairs == ((0, 0), (0, 0), (1, 2))
        assert from_torch_pad((1, 2, 3, 4, 0, 0), 2).pairs == ((3, 4), (1, 2))

    @pytest.mark.parametrize(
        ("mode", "torch", "tensorflow", "keras", "onnx"),
        [
            ("constant", "constant", "CONSTANT", "constant", "constant"),
            ("reflect", "reflect", "REFLECT", "reflect", "reflect"),
            ("symmetric", None, "SYMMETRIC", "symmetric", None),
            ("edge", "replicate", None, None, "edge"),
            ("wrap", "circular", None, None, "wrap"),
        ],
    )
    def test_modes_and_their_twins(self, mode, torch, tensorflow, keras, onnx):
        expected = {
            "torch": torch,
            "tensorflow": tensorflow,
            "keras": keras,
            "onnxruntime": onnx,
            "jax": mode,
        }
        for framework, name in expected.items():
            assert native_mode(framework, mode) == name
            if name:
                assert neutral_mode(framework, name) == mode
        assert neutral_mode("torch", "zeros") == "constant"
        assert neutral_mode("tensorflow", "reflect") == "reflect"
        assert list(MODES) == ["constant", "reflect", "symmetric", "edge", "wrap"]

    def test_unknown_modes_and_frameworks(self):
        with pytest.raises(PaddingError, match="'circular', 'constant'"):
            neutral_mode("torch", "symmetric")
        with pytest.raises(PaddingError, match="'zeros'"):
            native_mode("torch", "zeros")
        with pytest.raises(PaddingError, match="'mindspore'"):
            native_mode("mindspore", "constant")


class TestPooling:
    @MODEST
    @given(*small, st.tuples(st.integers(0, 6), st.integers(0, 6)))
    def test_ceil_mode_as_padding_gives_the_same_number_of_windows(
        self, size, kernel, stride, dilation, pair
    ):
        padding, axis = Padding.from_pairs([pair]), (kernel, stride, dilation)
        if size + sum(pair) < Window(*axis).extent:
            return
        explicit = ceil_mode_as_padding((size,), padding, *axis)
        wanted = pool_output_sizes((size,), padding, *axis, ceil_mode=True)
        assert pool_output_sizes((size,), explicit, *axis) == wanted
        assert explicit.begins == padding.begins
        assert (wanted[0] - 1) * stride < size + pair[0] or pair[1] > kernel

    @MODEST
    @given(*small, st.tuples(st.integers(0, 3), st.integers(0, 3)), st.booleans(), st.booleans())
    def test_divisors_count_by_hand(self, size, kernel, stride, dilation, pair, ceil, include):
        padding, axis = Padding.from_pairs([pair]), (kernel, stride, dilation)
        if size + sum(pair) < Window(*axis).extent:
            return
        (found,) = average_divisors((size,), padding, *axis, ceil_mode=ceil, count_include_pad=include)
        kinds = ["pad"] * pair[0] + ["input"] * size + ["pad"] * pair[1]
        for index, count in enumerate(found):
            taps = [index * stride + tap * dilation for tap in range(kernel)]
            inside = [kinds[tap] for tap in taps if tap < len(kinds)]
            assert count == (len(inside) if include else inside.count("input"))

    def test_known_sizes(self):
        assert pool_output_sizes((112,), Padding((1,), (1,)), 3, 2) == (56,)
        assert pool_output_sizes((5,), Padding((0,), (0,)), 2, 2, ceil_mode=True) == (3,)
        assert pool_output_sizes((4,), Padding((1,), (1,)), 2, 3, ceil_mode=True) == (2,)
        assert pool_output_sizes((4,), Padding((1,), (1,)), 2, 3, ceil_mode=True, drop_outside=False) == (3,)
        assert ceil_mode_as_padding((22,), Padding.none(1), 3, 2).pairs == ((0, 1),)
        assert ceil_mode_as_padding((23,), Padding.none(1), 3, 2).is_none

    def test_divisor_map_is_the_product_over_axes(self):
        divisors = average_divisors((3, 3), Padding.symmetric((1, 1)), 3, 1)
        np.testing.assert_array_equal(divisor_map(divisors), [[4, 6, 4], [6, 9, 6], [4, 6, 4]])

    def test_ceil_mode_does_not_go_with_crops(self):
        with pytest.raises(PaddingError, match="crop before"):
            pool_output_sizes((9,), Padding((0,), (-1,)), 2, 2, ceil_mode=True)


class TestTransposed:
    @MODEST
    @given(*small, st.sampled_from(["same", "valid"]))
    def test_keras_sizes_and_every_other_framework_agree(self, size, kernel, stride, dilation, word):
        axes = ((kernel,), stride, dilation)
        extent = Window(kernel, stride, dilation).extent
        crop = keras_crop(word, None, *axes)
        out = size * stride if word == "same" else (size - 1) * stride + max(extent, stride)
        assert transposed_output_sizes((size,), crop, *axes) == (out,)
        assert crop == jax_crop(word.upper(), *axes) == tensorflow_crop((size,), (out,), word, *axes)
        if stride <= extent:
            upper = onnx_crop("SAME_UPPER" if word == "same" else "VALID", None, None, None, (size,), *axes)
            assert upper == crop

    @MODEST
    @given(*small, st.integers(0, 5), st.integers(0, 4))
    def test_torch_to_onnx_and_back(self, size, kernel, stride, dilation, padding, extra):
        axes = ((kernel,), stride, dilation)
        crop = torch_crop(padding, extra, (kernel,))
        if extra - padding >= max(stride, dilation):
            with pytest.raises(PaddingError, match="no pads"):
                onnx_transposed_pads(crop, *axes)
            return
        attributes = onnx_transposed_pads(crop, *axes)
        assert min(*attributes[0], *attributes[1]) >= 0
        assert onnx_crop("NOTSET", *attributes, None, (size,), *axes) == crop
        assert crop.pairs == ((padding, padding - extra),)

    def test_jax_pads_and_their_crop(self):
        crop = jax_crop([(1, 2)], (4,), 2, 2)
        assert crop.pairs == ((5, 4),)
        assert full_output_sizes((5,), 4, 2, 2) == (15,)
        assert transposed_output_sizes((5,), crop, 4, 2, 2) == (6,)

    def test_onnx_output_shape_fixes_the_total(self):
        assert onnx_crop("NOTSET", None, None, [8], (4,), 3, 2).pairs == ((1, 0),)
        assert onnx_crop("SAME_UPPER", None, None, [8], (4,), 3, 2).pairs == ((0, 1),)
        assert onnx_crop("NOTSET", None, None, [10], (4,), 3, 2).pairs == ((0, -1),)

    @pytest.mark.parametrize(
        ("attempt", "words"),
        [
            (lambda: onnx_crop("SAME_UPPER", None, None, None, (4,), 2, 3), "explicit pads"),
            (lambda: onnx_crop("SAME", None, None, None, (4,), 2, 1), "'SAME'"),
            (lambda: tensorflow_crop((4,), (9,), "SAME", 3, 2), "output size 9"),
            (lambda: tensorflow_crop((4,), (8,), "FULL", 3, 2), "'FULL'"),
            (lambda: keras_crop("causal", None, (3,)), "'causal'"),
            (lambda: transposed_output_sizes((1,), Padding((2,), (2,)), 3), "leaves nothing"),
            (lambda: onnx_transposed_pads(Padding((-1,), (0,)), 3, 2), "no pads"),
        ],
    )
    def test_what_is_refused_says_why(self, attempt, words):
        with pytest.raises(PaddingError) as caught:
            attempt()
        assert words in str(caught.value)

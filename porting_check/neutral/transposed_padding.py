"""Transposed convolution: what is cropped from its full output, whichever framework says it how.

The full output of one axis has ``(size - 1) * stride + (kernel - 1) * dilation + 1`` elements. Frameworks
return a part of it, here a :class:`~porting_check.neutral.padding.Padding` that is *subtracted*: so many
elements cropped at the begin and at the end. A negative crop appends elements that no input reaches (zero
plus bias).

==========  ==========================================  ==========================================
framework   says                                        crop (begin, end)
==========  ==========================================  ==========================================
torch       ``padding=p, output_padding=o``             ``(p, p - o)``
ONNX        ``pads=[b, e], output_padding=[o]``         ``(b, e - o)``
TensorFlow  ``SAME`` and the output size ``n``          ``(t // 2, full - n - t // 2)`` with
                                                        ``t = max(full - n, 0)``
JAX         pads ``(l, r)`` of the dilated input        ``(extent - 1 - l, extent - 1 - r)``
==========  ==========================================  ==========================================
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.padding import Padding, Window, per_axis, same_padding, sizes_of, windows


def full_output_sizes(
    sizes: Sequence[int],
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Tuple[int, ...]:
    """Output sizes of a transposed convolution before any crop.

    Example:
        >>> full_output_sizes((16, 32), kernel=5, strides=2)
        (35, 67)
    """
    axes = windows(len(sizes), kernel, strides, dilations)
    return tuple((size - 1) * window.stride + window.extent for size, window in zip(sizes_of(sizes), axes))


def transposed_output_sizes(
    sizes: Sequence[int],
    crop: Padding,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Tuple[int, ...]:
    """Output sizes of a transposed convolution: the full sizes less the crop.

    Source: torch.nn.ConvTranspose2d, "Shape".

    Example:
        >>> transposed_output_sizes((16, 32), torch_crop(1, 1, kernel=(3, 3)), kernel=3, strides=2)
        (32, 64)

    Raises:
        PaddingError: nothing is left.
    """
    full = full_output_sizes(sizes_of(sizes, crop.ndim), kernel, strides, dilations)
    found = tuple(size - total for size, total in zip(full, crop.totals))
    if min(found) < 1:
        raise PaddingError(f"the crop {crop} leaves nothing of a transposed convolution's full output {full}")
    return found


def torch_crop(
    padding: int | Sequence[int], output_padding: int | Sequence[int], kernel: Sequence[int]
) -> Padding:
    """The crop of torch.nn.ConvTranspose1d to 3d.

    ``padding`` crops both ends, also where dilation is used; ``output_padding`` gives back elements at the
    end only.

    Example:
        >>> print(torch_crop(1, (1, 0), kernel=(3, 3)))
        ((1, 0), (1, 1))
    """
    begins = per_axis(padding, len(kernel), "padding")
    extra = per_axis(output_padding, len(kernel), "output_padding")
    return Padding(begins, tuple(begin - more for begin, more in zip(begins, extra)))


def tensorflow_crop(
    sizes: Sequence[int],
    output_sizes: Sequence[int],
    padding: str,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Padding:
    """The crop of tf.nn.conv1d_transpose to conv3d_transpose, gradients of a convolution of ``output_sizes``.

    With ``SAME`` the begin is what that convolution pads before its input; with ``VALID`` it is 0. The rest
    is cropped at the end. (For explicit pads, the crop is the pads.)

    Example:
        >>> print(tensorflow_crop((16, 16), (32, 31), "SAME", kernel=3, strides=2))
        ((0, 1), (1, 1))

    Raises:
        PaddingError: another word, or output sizes that a convolution does not take to ``sizes``.
    """
    word = padding.upper()
    if word not in ("SAME", "VALID"):
        raise PaddingError(f"TensorFlow padding {padding!r} is not known; expected 'SAME' or 'VALID'")
    axes = windows(len(sizes), kernel, strides, dilations)
    for size, out, window in zip(sizes_of(sizes), sizes_of(output_sizes, len(sizes)), axes):
        if -(-(out if word == "SAME" else out - window.extent + 1) // window.stride) != size:
            raise PaddingError(
                f"TensorFlow refuses output size {out}: a {word} convolution with {window} "
                f"takes it to another size than {size}"
            )
    full = full_output_sizes(sizes, kernel, strides, dilations)
    pads = (
        same_padding(output_sizes, kernel, strides, dilations) if word == "SAME" else Padding.none(len(sizes))
    )
    return Padding(
        pads.begins, tuple(whole - out - begin for whole, out, begin in zip(full, output_sizes, pads.begins))
    )


def keras_crop(
    padding: str,
    output_padding: None | int | Sequence[int],
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Padding:
    """The crop of Keras Conv1DTranspose to Conv3DTranspose; it does not depend on the input size.

    Without ``output_padding`` the output has ``size * stride`` elements (``same``) or
    ``(size - 1) * stride + max(extent, stride)`` (``valid``); with it, ``output_padding`` more than
    ``(size - 1) * stride + extent % 2`` or than the full size.
    Source: keras.src.backend.common.backend_utils, compute_conv_transpose_output_shape.

    Example:
        >>> print(keras_crop("same", None, kernel=(3, 4), strides=2))
        ((0, 1), (1, 1))

    Raises:
        PaddingError: another word.
    """
    word = str(padding).lower()
    if word not in ("same", "valid"):
        raise PaddingError(f"Keras padding {padding!r} is not known here; expected 'same' or 'valid'")
    extra = None if output_padding is None else per_axis(output_padding, len(kernel), "output_padding")
    pairs = []
    for index, window in enumerate(windows(len(kernel), kernel, strides, dilations)):
        total = _keras_total(word, None if extra is None else extra[index], window)
        begin = max(total, 0) // 2 if word == "same" else 0
        pairs.append((begin, total - begin))
    return Padding.from_pairs(pairs)


def jax_crop(
    padding: Any, kernel: Sequence[int], strides: int | Sequence[int] = 1, dilations: int | Sequence[int] = 1
) -> Padding:
    """The crop of jax.lax.conv_transpose and flax.linen.ConvTranspose: a word, or a pair per axis.

    ``SAME`` and ``VALID`` are those of Keras without ``output_padding`` (jax.lax.conv_transpose,
    _conv_transpose_padding).

    Example:
        >>> print(jax_crop("SAME", kernel=(3, 3), strides=2))
        ((0, 1), (0, 1))
        >>> print(jax_crop([(1, 2), (2, 2)], kernel=(3, 3), strides=2))
        ((1, 0), (0, 0))

    Raises:
        PaddingError: another word, or not one pair per axis.
    """
    if isinstance(padding, str):
        return keras_crop(padding, None, kernel, strides, dilations)
    pads = Padding.from_pairs(padding)
    extents = [window.extent for window in windows(pads.ndim, kernel, strides, dilations)]
    return Padding.symmetric([extent - 1 for extent in extents]) - pads


def onnx_crop(
    auto_pad: str,
    pads: Optional[Sequence[int]],
    output_padding: Optional[Sequence[int]],
    output_shape: Optional[Sequence[int]],
    sizes: Sequence[int],
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Padding:
    """The crop of ONNX ConvTranspose from its attributes.

    ``output_shape``, or ``size * stride`` for ``SAME_*``, fixes the total; the odd element is cropped at the
    end for ``SAME_UPPER`` and at the begin otherwise (ONNX operator ConvTranspose).

    Example:
        >>> print(onnx_crop("NOTSET", [1, 1, 1, 1], [1, 0], None, (8, 8), kernel=3, strides=2))
        ((1, 0), (1, 1))
        >>> print(onnx_crop("SAME_UPPER", None, None, None, (8, 8), kernel=3, strides=2))
        ((0, 1), (0, 1))

    Raises:
        PaddingError: another ``auto_pad``, or ``SAME_*`` where the stride exceeds the kernel's extent, which
            implementations read differently.
    """
    ndim = len(sizes)
    extra = per_axis(output_padding or (0,) * ndim, ndim, "output_padding")
    full = full_output_sizes(sizes, kernel, strides, dilations)
    if auto_pad not in ("", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise PaddingError(f"ONNX auto_pad {auto_pad!r} is not known")
    if output_shape is None and not auto_pad.startswith("SAME"):
        shown = Padding.none(ndim) if pads is None or auto_pad == "VALID" else Padding.from_onnx(pads)
        return shown - Padding((0,) * ndim, extra)
    if output_shape is None:
        axes = windows(ndim, kernel, strides, dilations)
        if any(window.stride > window.extent + more for window, more in zip(axes, extra)):
            raise PaddingError(
                f"auto_pad {auto_pad!r} of ConvTranspose is ambiguous with {axes}: the standard asks for "
                "size * stride elements, ONNX Runtime returns fewer; give explicit pads"
            )
        output_shape = [size * window.stride for size, window in zip(sizes, axes)]
    begins, ends = [], []
    for whole, more, out in zip(full, extra, sizes_of(output_shape, ndim)):
        total = max(whole + more - out, 0)
        begins.append(total // 2 if auto_pad == "SAME_UPPER" else total - total // 2)
        ends.append(whole - out - begins[-1])
    return Padding(tuple(begins), tuple(ends))


def onnx_transposed_pads(
    crop: Padding,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Tuple[List[int], List[int]]:
    """``pads`` and ``output_padding`` of the ONNX ConvTranspose that crops so.

    Example:
        >>> onnx_transposed_pads(Padding((1, 0), (2, -1)), kernel=(5, 2), strides=(2, 3))
        ([1, 0, 2, 0], [0, 1])

    Raises:
        PaddingError: a crop that appends at the begin, or more at the end than ``output_padding`` may, which
            is less than the larger of stride and dilation (torch.nn.ConvTranspose2d; ONNX Runtime 1.31 wants
            less than the stride).
    """
    axes = windows(crop.ndim, kernel, strides, dilations)
    for (begin, end), window in zip(crop.pairs, axes):
        if begin < 0 or -end >= max(window.stride, window.dilation):
            raise PaddingError(f"no pads and output_padding give the crop {(begin, end)} with {window}")
    return crop.grown.to_onnx(), list(crop.cropped.ends)


def _keras_total(word: str, extra: Optional[int], window: Window) -> int:
    """How much shorter the output is than the full one."""
    if word == "valid":
        return -(max(window.stride - window.extent, 0) if extra is None else extra)
    if extra is None:
        return window.extent - window.stride
    return window.extent - window.extent % 2 - extra

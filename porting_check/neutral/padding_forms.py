"""What frameworks write as padding, read into :class:`~porting_check.neutral.padding.Padding`.

Every function here takes the argument as the framework's user gave it. Sizes are needed only where the
meaning depends on them, which is ``SAME``. ``kernel`` is one number per spatial axis and says how many there
are. Lists that also name batch and channels need the layout of the array.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.layout import Layout
from porting_check.neutral.padding import Padding, per_axis, same_padding, whole_numbers, windows


def tensorflow_padding(
    padding: str | Sequence[Sequence[int]],
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    sizes: Optional[Sequence[int]] = None,
    layout: Layout | str = "NHWC",
    clamp: bool = True,
) -> Padding:
    """``padding`` of tf.nn.conv2d, tf.nn.max_pool, …: ``"SAME"``, ``"VALID"`` or a pair for every axis.

    Example:
        >>> print(tensorflow_padding("SAME", kernel=(3, 3), strides=2, sizes=(32, 32)))
        ((0, 1), (0, 1))
        >>> print(tensorflow_padding([[0, 0], [1, 1], [2, 2], [0, 0]], kernel=(3, 3)))
        ((1, 1), (2, 2))

    ``clamp`` as for :func:`~porting_check.neutral.padding.same_padding`: ``False`` for 3-D operators on a
    CPU.

    Raises:
        PaddingError: another word, sizes missing for ``SAME``, or pairs that pad batch or channels.
    """
    if not isinstance(padding, str):
        return from_pad_width(padding, layout)
    words = {"SAME": "end", "VALID": None}
    return _word(padding.upper(), words, "TensorFlow", (kernel, strides, dilations), sizes, clamp)


def keras_padding(
    padding: str,
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    sizes: Optional[Sequence[int]] = None,
    clamp: bool = True,
) -> Padding:
    """``padding`` of a Keras layer: ``"same"``, ``"valid"``, and ``"causal"`` for Conv1D.

    ``causal`` puts ``(kernel - 1) * dilation`` zeros before the sequence and none after
    (keras.layers.Conv1D). ``clamp`` as for :func:`tensorflow_padding`.

    Example:
        >>> print(keras_padding("causal", kernel=(3,), dilations=2))
        ((4, 0),)

    Raises:
        PaddingError: another word, sizes missing for ``same``, or ``causal`` on more than one axis.
    """
    axes = (kernel, strides, dilations)
    if str(padding).lower() == "causal":
        return _causal(axes, "Keras")
    return _word(str(padding).upper(), {"SAME": "end", "VALID": None}, "Keras", axes, sizes, clamp)


def jax_padding(
    padding: Any,
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    sizes: Optional[Sequence[int]] = None,
) -> Padding:
    """``padding`` of jax.lax and flax.linen operators: a word, an integer, or an integer or pair per axis.

    Words: ``SAME``, ``SAME_LOWER``, ``VALID`` (jax.lax.padtype_to_pads) and Flax's ``CAUSAL``.

    Example:
        >>> print(jax_padding((1, (0, 2)), kernel=(3, 3)))
        ((1, 1), (0, 2))

    Raises:
        PaddingError: another word (Flax's ``CIRCULAR`` and ``REFLECT`` are pad modes), or sizes missing.
    """
    axes = (kernel, strides, dilations)
    if isinstance(padding, str):
        if padding == "CAUSAL":
            return _causal(axes, "Flax")
        words = {"SAME": "end", "SAME_LOWER": "begin", "VALID": None}
        return _word(padding.upper(), words, "JAX", axes, sizes)
    if not hasattr(padding, "__len__"):
        return Padding.symmetric(per_axis(padding, len(kernel), "padding"))
    if len(padding) != len(kernel):
        raise PaddingError(f"JAX padding {padding!r} must have one entry per spatial axis ({len(kernel)})")
    return Padding.from_pairs(entry if hasattr(entry, "__len__") else (entry, entry) for entry in padding)


def torch_padding(
    padding: int | str | Sequence[int],
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Padding:
    """``padding`` of torch.nn.Conv1d to Conv3d and the pooling layers: an integer, one per axis, or a word.

    ``"same"`` adds ``(kernel - 1) * dilation`` in all, the odd element at the end, whatever the size, and
    exists only for stride 1; ``"valid"`` adds nothing (torch.nn.Conv2d).

    Example:
        >>> print(torch_padding("same", kernel=(4, 3)), torch_padding((1, 2), kernel=(3, 3)))
        ((1, 2), (1, 1)) ((1, 1), (2, 2))

    Raises:
        PaddingError: ``"same"`` with a stride, another word, or a negative amount.
    """
    if not isinstance(padding, str):
        amounts = per_axis(padding, len(kernel), "padding")
        if min(amounts) < 0:
            raise PaddingError(f"torch refuses negative padding {amounts}; crop with F.pad")
        return Padding.symmetric(amounts)
    axes = windows(len(kernel), kernel, strides, dilations)
    if padding == "valid":
        return Padding.none(len(kernel))
    if padding != "same":
        raise PaddingError(f"torch padding {padding!r} is not known; expected 'same', 'valid' or numbers")
    if any(window.stride > 1 for window in axes):
        raise PaddingError(
            "torch refuses padding='same' with a stride: resolve it for the input size and use F.pad"
        )
    totals = [window.extent - 1 for window in axes]
    return Padding(tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals))


def onnx_padding(
    auto_pad: str,
    pads: Optional[Sequence[int]],
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    sizes: Optional[Sequence[int]] = None,
) -> Padding:
    """``auto_pad`` and ``pads`` of ONNX Conv and the pooling operators (not ConvTranspose).

    ONNX Runtime 1.31 differs from the standard: with SAME it refuses dilation in Conv, ignores it in
    MaxPool, and crops where a stride exceeds the kernel by three or more.

    Example:
        >>> print(onnx_padding("SAME_LOWER", None, kernel=[2, 3], sizes=(8, 8)))
        ((1, 0), (1, 1))

    Raises:
        PaddingError: another ``auto_pad``, pads beside it, sizes missing, or pads for other axes.
    """
    ndim = len(kernel)
    if auto_pad in ("", "NOTSET"):
        padding = Padding.none(ndim) if pads is None else Padding.from_onnx(pads)
        if padding.ndim != ndim:
            raise PaddingError(f"ONNX pads {list(pads or ())} are not two for each of {ndim} spatial axes")
        return padding
    if pads is not None and any(pads):
        raise PaddingError(f"ONNX auto_pad {auto_pad!r} excludes pads {list(pads)}")
    words = {"SAME_UPPER": "end", "SAME_LOWER": "begin", "VALID": None}
    return _word(auto_pad, words, "ONNX", (kernel, strides, dilations), sizes)


def keras_zero_padding(argument: Any, ndim: int) -> Padding:
    """The argument of Keras ZeroPadding1D to 3D and Cropping1D to 3D (negate the result for a crop).

    An integer pads all sides; in 1-D a pair is ``(begin, end)``; in 2-D and 3-D an integer per axis pads
    both its sides and a pair per axis is ``(begin, end)`` (keras.layers.ZeroPadding2D).

    Example:
        >>> print(keras_zero_padding(((0, 1), (2, 3)), 2), keras_zero_padding((1, 2), 2))
        ((0, 1), (2, 3)) ((1, 1), (2, 2))

    Raises:
        PaddingError: another form.
    """
    if not hasattr(argument, "__len__"):
        return Padding.symmetric(per_axis(argument, ndim, "padding"))
    if ndim == 1 and len(argument) == 2:
        return Padding.from_pairs([argument])
    if len(argument) != ndim:
        raise PaddingError(
            f"Keras ZeroPadding{ndim}D takes a number, or one entry per axis, not {argument!r}"
        )
    return Padding.from_pairs(entry if hasattr(entry, "__len__") else (entry, entry) for entry in argument)


def to_torch_pad(padding: Padding) -> Tuple[int, ...]:
    """The list of torch.nn.functional.pad: begin and end of the **last** axis first.

    Example:
        >>> to_torch_pad(Padding((0, 2), (1, 3)))
        (2, 3, 0, 1)
    """
    return tuple(amount for pair in reversed(padding.pairs) for amount in pair)


def from_torch_pad(pad: Sequence[int], ndim: int) -> Padding:
    """The inverse of :func:`to_torch_pad`, for an array whose last ``ndim`` axes are spatial.

    Example:
        >>> print(from_torch_pad((1, 0, 0, 2), 2))
        ((0, 2), (1, 0))

    Raises:
        PaddingError: an odd number of amounts, or amounts for channels or batch.
    """
    amounts = whole_numbers(pad, "pad")
    if len(amounts) % 2:
        raise PaddingError(f"F.pad takes pairs, last axis first; found {len(amounts)} amounts {amounts}")
    pairs = [amounts[place : place + 2] for place in range(0, len(amounts), 2)]
    if any(amount for pair in pairs[ndim:] for amount in pair):
        raise PaddingError(
            f"F.pad{amounts} also pads axes before the {ndim} spatial ones, which no layer's padding does"
        )
    pairs = (pairs + [(0, 0)] * ndim)[:ndim]
    return Padding.from_pairs(reversed(pairs))


def to_pad_width(padding: Padding, layout: Layout | str) -> List[Tuple[int, int]]:
    """A pair for every axis of an array, as tf.pad, keras.ops.pad, jax.numpy.pad and numpy.pad take them.

    Example:
        >>> to_pad_width(Padding((0, 2), (1, 3)), "NHWC")
        [(0, 0), (0, 1), (2, 3), (0, 0)]

    Raises:
        PaddingError: the layout has another number of spatial axes.
    """
    layout = Layout.of(layout)
    if len(layout.spatial) != padding.ndim:
        raise PaddingError(
            f"layout {layout} has {len(layout.spatial)} spatial axes, but the padding is {padding}"
        )
    pairs = dict(zip(layout.spatial, padding.pairs))
    return [pairs.get(letters, (0, 0)) for letters in layout.groups]


def from_pad_width(pairs: Sequence[Sequence[int]], layout: Layout | str) -> Padding:
    """The inverse of :func:`to_pad_width`.

    Raises:
        PaddingError: not one pair per axis, or an amount for batch or channels.
    """
    layout = Layout.of(layout)
    if len(pairs) != layout.ndim:
        raise PaddingError(f"layout {layout} has {layout.ndim} axes, but the padding has {len(pairs)} pairs")
    named = [(letters, tuple(pair)) for letters, pair in zip(layout.groups, pairs)]
    others = {letters: pair for letters, pair in named if letters not in layout.spatial and any(pair)}
    if others:
        raise PaddingError(f"padding {others} is for axes of {layout} that are not spatial")
    return Padding.from_pairs(pair for letters, pair in named if letters in layout.spatial)


def _word(
    word: str,
    words: Dict[str, Optional[str]],
    owner: str,
    axes: Tuple[Any, ...],
    sizes: Optional[Sequence[int]],
    clamp: bool = True,
) -> Padding:
    """``VALID`` (no side for the odd element) or some ``SAME``."""
    kernel, strides, dilations = axes
    ndim = len(kernel)
    if word not in words:
        raise PaddingError(f"{owner} padding {word!r} is not known; expected one of {list(words)}")
    windows(ndim, kernel, strides, dilations)
    side = words[word]
    if side is None:
        return Padding.none(ndim)
    if sizes is None:
        raise PaddingError(f"{owner} padding {word!r} depends on the input: give sizes, one per spatial axis")
    if len(sizes) != ndim:
        raise PaddingError(f"sizes {tuple(sizes)} are not those of {ndim} spatial axes")
    return same_padding(sizes, kernel, strides, dilations, side, clamp)


def _causal(axes: Tuple[Any, ...], owner: str) -> Padding:
    if len(axes[0]) != 1:
        raise PaddingError(f"{owner} padding 'causal' is for one spatial axis, not {len(axes[0])}")
    return Padding((windows(1, *axes)[0].extent - 1,), (0,))

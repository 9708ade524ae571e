"""Padding as explicit begins and ends per spatial axis, and how ``SAME`` resolves to it for the size seen.

Frameworks say padding in words (``"same"``), in pairs, in lists that start with the last axis, or as all
begins before all ends. Here it is always :class:`Padding`, spatial axes in order, and everything else is read
into it (:mod:`~porting_check.neutral.padding_forms`) or written from it
(:mod:`~porting_check.neutral.padding_expression`). A negative amount crops.

Sizes, kernels, strides and dilations are given per spatial axis; an integer holds for all of them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Iterable, List, Optional, Sequence, Tuple

from porting_check.neutral.errors import PaddingError


@dataclass(frozen=True)
class Padding:
    """What is added before and after each spatial axis; a value, hashable, never negative by accident.

    Example:
        >>> padding = Padding((0, 0), (1, 1))
        >>> padding.pairs, padding.to_onnx(), padding.is_symmetric
        (((0, 1), (0, 1)), [0, 0, 1, 1], False)
        >>> print(padding + Padding.symmetric((1, 0)))
        ((1, 2), (0, 1))

    Attributes:
        begins: amount before each spatial axis, in order (``D``, ``H``, ``W``).
        ends: amount after each spatial axis.

    Raises:
        PaddingError: amounts that are not whole numbers, or not one begin for each end.
    """

    begins: Tuple[int, ...]
    ends: Tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "begins", whole_numbers(self.begins, "padding begins"))
        object.__setattr__(self, "ends", whole_numbers(self.ends, "padding ends"))
        if len(self.begins) != len(self.ends):
            raise PaddingError(
                f"padding has {len(self.begins)} begins {self.begins} but {len(self.ends)} ends {self.ends}"
            )

    @classmethod
    def none(cls, ndim: int) -> Padding:
        """No padding on ``ndim`` spatial axes."""
        return cls((0,) * ndim, (0,) * ndim)

    @classmethod
    def symmetric(cls, amounts: Sequence[int]) -> Padding:
        """The same amount before and after each axis, as torch's integers mean it."""
        return cls(tuple(amounts), tuple(amounts))

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[int]]) -> Padding:
        """From ``((begin, end), …)``, first axis first, as Keras, JAX and numpy write it."""
        pairs = [tuple(pair) for pair in pairs]
        if any(len(pair) != 2 for pair in pairs):
            raise PaddingError(f"padding pairs must be (begin, end) for each axis, found {pairs}")
        return cls(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))

    @classmethod
    def from_onnx(cls, pads: Sequence[int]) -> Padding:
        """From ONNX's ``pads``: all begins, then all ends (ONNX operators Conv and Pad).

        Example:
            >>> Padding.from_onnx([0, 1, 2, 3])
            Padding(begins=(0, 1), ends=(2, 3))
        """
        if len(pads) % 2:
            raise PaddingError(f"ONNX pads must hold as many ends as begins, found {list(pads)}")
        half = len(pads) // 2
        return cls(tuple(pads[:half]), tuple(pads[half:]))

    def to_onnx(self) -> List[int]:
        """ONNX's ``pads``: all begins, then all ends."""
        return [*self.begins, *self.ends]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.begins)

    @property
    def pairs(self) -> Tuple[Tuple[int, int], ...]:
        """``((begin, end), …)``, first axis first."""
        return tuple(zip(self.begins, self.ends))

    @property
    def totals(self) -> Tuple[int, ...]:
        """Begin plus end, per axis."""
        return tuple(begin + end for begin, end in self.pairs)

    @property
    def is_none(self) -> bool:
        """Whether nothing is added and nothing is cropped."""
        return not any(self.to_onnx())

    @property
    def is_symmetric(self) -> bool:
        """Whether each axis has the same amount before and after."""
        return self.begins == self.ends

    @property
    def crops(self) -> bool:
        """Whether any amount is negative."""
        return any(amount < 0 for amount in self.to_onnx())

    @property
    def grown(self) -> Padding:
        """Only what is added: negative amounts become 0."""
        return Padding(tuple(max(n, 0) for n in self.begins), tuple(max(n, 0) for n in self.ends))

    @property
    def cropped(self) -> Padding:
        """Only what is cropped, as positive amounts: ``grown - cropped`` is the padding itself."""
        return (-self).grown

    def __neg__(self) -> Padding:
        return Padding(tuple(-n for n in self.begins), tuple(-n for n in self.ends))

    def __add__(self, other: Padding) -> Padding:
        """One padding after another, as of a padding layer before a padded convolution."""
        if self.ndim != other.ndim:
            raise PaddingError(
                f"paddings of {self.ndim} and {other.ndim} axes cannot be added: {self} and {other}"
            )
        begins = tuple(mine + theirs for mine, theirs in zip(self.begins, other.begins))
        return Padding(begins, tuple(mine + theirs for mine, theirs in zip(self.ends, other.ends)))

    def __sub__(self, other: Padding) -> Padding:
        return self + -other

    def __str__(self) -> str:
        return str(self.pairs)


@dataclass(frozen=True)
class Window:
    """One spatial axis of a sliding window: kernel size, stride and dilation.

    Example:
        >>> Window(3, 2, 2).extent
        5

    Raises:
        PaddingError: a number below 1.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1

    def __post_init__(self) -> None:
        if min(self.kernel, self.stride, self.dilation) < 1:
            raise PaddingError(f"kernel, stride and dilation must be 1 or more, found {self}")

    @property
    def extent(self) -> int:
        """How far the dilated kernel reaches: ``(kernel - 1) * dilation + 1``."""
        return (self.kernel - 1) * self.dilation + 1


def same_padding(
    sizes: Sequence[int],
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    extra: str = "end",
    clamp: bool = True,
) -> Padding:
    """Resolve ``SAME`` for the input sizes seen: the output has ``ceil(size / stride)`` elements.

    ``total = max((ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)``, half of it
    before and half after. An odd element goes after (TensorFlow, Keras, JAX ``SAME``; ONNX ``SAME_UPPER``) or
    before (``extra="begin"``: ONNX and JAX ``SAME_LOWER``). Sources: TensorFlow API, module tf.nn, "Notes on
    padding"; jax.lax.padtype_to_pads; ONNX operator Conv, ``auto_pad``.

    Example:
        >>> print(same_padding((32, 33), kernel=3, strides=2))
        ((0, 1), (1, 1))

    Args:
        sizes: input size per spatial axis.
        kernel: kernel size.
        strides: stride.
        dilations: distance of two kernel elements.
        extra: ``"end"`` or ``"begin"``, where the odd element goes.
        clamp: ``False`` leaves out the ``max(…, 0)``, so that a stride beyond the kernel's extent crops: what
            TensorFlow's CPU kernels of 3-D convolution and pooling do (2.21), against its documentation.

    Raises:
        PaddingError: numbers that are not whole, not one per axis, or below 1.
    """
    if extra not in ("end", "begin"):
        raise PaddingError(f"the extra element of SAME goes to the 'end' or the 'begin', not {extra!r}")
    pairs = []
    for size, window in zip(sizes_of(sizes), windows(len(sizes), kernel, strides, dilations)):
        count = -(-size // window.stride)
        total = (count - 1) * window.stride + window.extent - size
        total = max(total, 0) if clamp else total
        small = total // 2 if total > 0 else -(-total // 2)
        large = total - small
        pairs.append((small, large) if extra == "end" else (large, small))
    return Padding.from_pairs(pairs)


def convolution_output_sizes(
    sizes: Sequence[int],
    padding: Padding,
    kernel: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
) -> Tuple[int, ...]:
    """Output size per axis: ``floor((size + begin + end - (kernel - 1) * dilation - 1) / stride) + 1``.

    Source: torch.nn.Conv2d, "Shape".

    Example:
        >>> convolution_output_sizes((32, 33), Padding((0, 1), (1, 1)), kernel=3, strides=2)
        (16, 17)

    Raises:
        PaddingError: the padded input is smaller than the kernel, or numbers that do not fit the axes.
    """
    axes = windows(padding.ndim, kernel, strides, dilations)
    return tuple(
        (room(size, pair, window) // window.stride) + 1
        for size, pair, window in zip(sizes_of(sizes, padding.ndim), padding.pairs, axes)
    )


def room(size: int, pair: Tuple[int, int], window: Window) -> int:
    """How many steps of one a window can make in the padded axis.

    Raises:
        PaddingError: not even one window fits.
    """
    steps = size + sum(pair) - window.extent
    if steps < 0:
        raise PaddingError(
            f"a kernel that reaches over {window.extent} does not fit into size {size} with padding {pair}: "
            "give a larger input, or more padding"
        )
    return steps


def windows(
    ndim: int, kernel: int | Sequence[int], strides: int | Sequence[int], dilations: int | Sequence[int]
) -> Tuple[Window, ...]:
    """One :class:`Window` per spatial axis, from an integer for all axes or one number each."""
    numbers = (
        per_axis(kernel, ndim, "kernel"),
        per_axis(strides, ndim, "strides"),
        per_axis(dilations, ndim, "dilations"),
    )
    return tuple(Window(*axis) for axis in zip(*numbers))


def sizes_of(sizes: Sequence[int], ndim: Optional[int] = None) -> Tuple[int, ...]:
    """Input sizes, checked: whole numbers of 1 or more, one per axis."""
    found = whole_numbers(sizes, "sizes")
    if (ndim is not None and len(found) != ndim) or min(found, default=1) < 1:
        raise PaddingError(
            f"sizes must be {ndim or 'some'} numbers of 1 or more, one per spatial axis, found {found}"
        )
    return found


def per_axis(value: int | Sequence[int], ndim: int, name: str) -> Tuple[int, ...]:
    """``value`` for each of ``ndim`` axes; one number is repeated, as torch and TensorFlow do."""
    single = _whole(value)
    numbers = (single,) if single is not None else whole_numbers(value, name)
    numbers = numbers * ndim if len(numbers) == 1 else numbers
    if len(numbers) != ndim:
        raise PaddingError(
            f"{name} must be one number, or one for each of {ndim} spatial axes, found {numbers}"
        )
    return numbers


def whole_numbers(values: Any, name: str) -> Tuple[int, ...]:
    """Python integers from a sequence of integers of any kind; floats and booleans are refused."""
    values = tuple(values) if hasattr(values, "__iter__") and not isinstance(values, str) else (values,)
    numbers = tuple(_whole(value) for value in values)
    if None in numbers:
        raise PaddingError(f"{name} must be whole numbers, found {values}")
    return tuple(number for number in numbers if number is not None)


def _whole(value: Any) -> Optional[int]:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None

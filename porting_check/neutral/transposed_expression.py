"""How each framework says the crop of a transposed convolution."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.padding import Padding
from porting_check.neutral.padding_request import Argument, Expression, Request
from porting_check.neutral.transposed_padding import (
    full_output_sizes,
    keras_crop,
    onnx_transposed_pads,
    tensorflow_crop,
    transposed_output_sizes,
)


def express_transposed(request: Request) -> Expression:
    """The answer of :func:`~porting_check.neutral.padding_expression.expressible` for ``ConvTranspose``.

    In TensorFlow's argument ``x`` is the input and ``kernel`` the kernel, because ``output_shape`` names
    batch and channels.

    Raises:
        PaddingError: a pad mode or value other than zeros, sizes missing for TensorFlow, or a crop that
            appends more than ``output_padding`` may.
    """
    if not request.implicit:
        raise PaddingError("a transposed convolution is cropped: it knows no pad mode and no pad value")
    return _RULES[request.framework](request)


def _torch(request: Request) -> Expression:
    """``padding`` crops both ends, ``output_padding`` gives back at the end."""
    onnx_transposed_pads(request.padding, *request.numbers)
    crop, limits = request.padding, [max(window.stride, window.dilation) for window in request.axes]
    extra = tuple(begin - end for begin, end in crop.pairs)
    if all(0 <= more < limit for more, limit in zip(extra, limits)):
        return request.answer(Argument(f"padding={crop.begins}" + f", output_padding={extra}" * any(extra)))
    extra = crop.cropped.ends
    argument = Argument("padding=0" + f", output_padding={extra}" * any(extra))
    return _cropped_after(request, argument, "torch crops as much at the end as at the begin, or less")


def _onnx(request: Request) -> Expression:
    """``pads`` and ``output_padding`` say every crop that exists."""
    pads, extra = onnx_transposed_pads(request.padding, *request.numbers)
    return request.answer(Argument(f"pads={pads}" + f", output_padding={extra}" * any(extra)))


def _jax(request: Request) -> Expression:
    """Pads of the dilated input: what the crop leaves of the kernel's extent."""
    pads = Padding.symmetric([window.extent - 1 for window in request.axes]) - request.padding
    return request.answer(Argument(f"padding={pads.pairs}"))


def _keras(request: Request) -> Expression:
    """``same`` or ``valid``, with or without ``output_padding``; else ``valid`` and a cropping layer."""
    crop = request.padding
    for word in ("same", "valid"):
        if keras_crop(word, None, *request.numbers) == crop:
            return request.answer(Argument(f'padding="{word}"'))
        extra = _keras_output_padding(request, word)
        if extra is not None:
            return request.answer(Argument(f'padding="{word}", output_padding={extra}'))
    extra = crop.cropped.ends
    if min(crop.begins) < 0 or any(more >= window.stride for more, window in zip(extra, request.axes)):
        raise PaddingError(f"Keras cannot append {-crop} to the full output of a transposed convolution")
    return _cropped_after(
        request, Argument(f'padding="valid", output_padding={extra}'), "Keras has other crops"
    )


def _keras_output_padding(request: Request, word: str) -> Optional[Tuple[int, ...]]:
    """The ``output_padding`` that gives the crop with this word, if there is one that TensorFlow accepts."""
    found = []
    for window, pair in zip(request.axes, request.padding.pairs):
        axis = ((window.kernel,), window.stride, window.dilation)
        # With "same", TensorFlow wants an output size that a SAME convolution takes back to the input size.
        fits = [
            more
            for more in range(window.stride)
            if keras_crop(word, more, *axis).pairs[0] == pair
            and (word == "valid" or 1 <= window.extent % 2 + more <= window.stride)
        ]
        if not fits:
            return None
        found.append(fits[0])
    return tuple(found)


def _tensorflow(request: Request) -> Expression:
    """``output_shape`` with ``SAME`` or ``VALID``; else ``VALID``, and slices of the output."""
    crop, sizes = request.padding, request.known_sizes
    wanted = transposed_output_sizes(sizes, crop, *request.numbers)
    for word in ("SAME", "VALID"):
        if _takes(request, wanted, word) == crop:
            return request.answer(_output_shape(request, wanted, word))
    largest = [n + more for n, more in zip(full_output_sizes(sizes, *request.numbers), crop.cropped.ends)]
    if min(crop.begins) < 0 or _takes(request, largest, "VALID") is None:
        raise PaddingError(f"TensorFlow cannot append {-crop} to the full output of a transposed convolution")
    argument = _output_shape(request, largest, "VALID")
    return _cropped_after(request, argument, "tf.nn crops as SAME or VALID do")


def _takes(request: Request, output_sizes: List[int] | Tuple[int, ...], word: str) -> Optional[Padding]:
    """The crop that TensorFlow gives for these output sizes, or ``None`` where it refuses them."""
    try:
        return tensorflow_crop(request.known_sizes, output_sizes, word, *request.numbers)
    except PaddingError:
        return None


def _output_shape(request: Request, output_sizes: List[int] | Tuple[int, ...], word: str) -> Argument:
    named = dict(zip(request.layout.spatial, map(str, output_sizes)), N="x.shape[0]", C="kernel.shape[-2]")
    shape = ", ".join(named[letter] for letter in request.layout.groups)
    return Argument(f'output_shape=[{shape}], padding="{word}"', request.sizes)


def _cropped_after(request: Request, argument: Argument, reason: str) -> Expression:
    """Compute more than is wanted, and crop the rest away."""
    after = request.dialect.crop("y", request.padding.grown, request.layout)
    return request.answer(argument, (), after, f"crop {request.padding} is not said directly: {reason}")


_RULES: Dict[str, Callable[[Request], Expression]] = {
    "torch": _torch,
    "onnx": _onnx,
    "jax": _jax,
    "keras": _keras,
    "tensorflow": _tensorflow,
}

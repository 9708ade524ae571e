"""Whether an operator's own argument can say an explicit padding, and the code where it cannot.

The question behind every padding fix: the reference pads ``((0, 1), (0, 1))``; what does the candidate's
user write?

    >>> same = Padding((0, 0), (1, 1))
    >>> print(expressible("torch", "Conv", same, kernel=3, strides=2).code)
    x = F.pad(x, (0, 1, 0, 1))
    y = conv(x, padding=0)
    >>> print(expressible("tensorflow", "Conv", same, kernel=3, strides=2, sizes=(32, 32)).code)
    y = conv(x, padding="SAME")

The tests execute every kind of answer against the frameworks.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple

from porting_check.neutral.errors import PaddingError
from porting_check.neutral.layout import Layout
from porting_check.neutral.padding import Padding, same_padding
from porting_check.neutral.padding_code import listing
from porting_check.neutral.padding_forms import to_pad_width
from porting_check.neutral.padding_request import IDENTITY, Argument, Expression, Request
from porting_check.neutral.pooling_padding import ceil_mode_as_padding, pool_output_sizes
from porting_check.neutral.transposed_expression import express_transposed


def expressible(
    framework: str,
    operator: str,
    padding: Padding,
    mode: str = "constant",
    *,
    kernel: int | Sequence[int] = 1,
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    sizes: Optional[Sequence[int]] = None,
    value: Optional[float] = None,
    layout: Optional[Layout | str] = None,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Expression:
    """Say an explicit padding: in the operator's own argument where it can, else with a pad operator.

    Arguments are those of ``torch.nn`` modules (functions take them too, but for ``padding_mode``), ``tf.nn``
    functions, Keras layers, ``flax.linen`` layers and functions, and attributes of ONNX operators.

    Example:
        >>> answer = expressible("torch", "MaxPool", Padding((0, 0), (1, 1)), kernel=3, strides=2)
        >>> answer.direct, answer.before, answer.argument
        (False, ('x = F.pad(x, (0, 1, 0, 1), value=float("-inf"))',), 'padding=0')
        >>> expressible("onnx", "MaxPool", Padding((0, 0), (1, 1)), kernel=3, strides=2).argument
        'pads=[0, 0, 1, 1]'

    Args:
        framework: import name: ``torch``, ``tensorflow``, ``keras``, ``jax``, ``onnx``, ``onnxruntime``, ….
        operator: ``Conv`` (depthwise too), ``MaxPool``, ``AveragePool``, ``Pad``, or ``ConvTranspose``, whose
            padding is the crop of its full output.
        padding: what is padded per spatial axis.
        mode: ``constant``, ``reflect``, ``symmetric``, ``edge`` or ``wrap``.
        kernel: kernel size; needed for all operators but ``Pad``.
        strides: strides.
        dilations: dilations.
        sizes: input size per spatial axis; without them only answers that hold for every size are given.
        value: what ``constant`` pads with, where it is not the operator's own (0, and -inf for max pooling).
        layout: of the activation; by default channels first for torch and ONNX, last for the others.
        ceil_mode: of pooling.
        count_include_pad: of average pooling.

    Raises:
        PaddingError: an unknown framework, operator or mode; sizes missing where they are needed; a request
            without meaning (an average of padding alone) or without code here (a mirrored padding that also
            crops).
    """
    request = Request.of(
        framework, operator, padding, mode, kernel=kernel, strides=strides, dilations=dilations, sizes=sizes,
        value=value, layout=layout, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
    )  # fmt: skip
    if operator == "Pad":
        return _pad(request)
    if operator == "ConvTranspose":
        return express_transposed(request)
    _check_average(request)
    argument = _direct(request)
    return _with_pad_operator(request) if argument is None else request.answer(argument)


def _pad(request: Request) -> Expression:
    """The pad operator itself; direct when the framework has the mode."""
    lines, name = request.dialect.pad("x", request.padding, request.mode, request.value, request.layout)
    native = request.dialect.native(request.mode, request.padding)
    reason = "" if native else f"{request.framework} has no pad mode like {request.mode!r}"
    made = request.answer(Argument(""), lines, (), reason, name)
    return Expression(native is not None, "", "", made.before, (), name, reason, None, made.imports)


def _check_average(request: Request) -> None:
    """An average that does not count padding needs an element of the input in every window."""
    counted = request.operator != "AveragePool" or request.count_include_pad or not request.implicit
    extents = [window.extent for window in request.axes]
    if not counted and any(max(pair) >= extent for pair, extent in zip(request.padding.pairs, extents)):
        raise PaddingError(
            f"with padding {request.padding}, windows of {extents} can hold padding alone: no average"
        )


def _direct(request: Request) -> Optional[Argument]:
    """The operator's own argument, if it has one that says this padding."""
    if request.padding.is_none and not request.ceil_mode:
        return Argument(request.dialect.unpadded(request.padding.ndim))
    kind = "Conv" if request.operator == "Conv" else "Pool"
    return _DIRECT[kind, request.framework](request)


def _with_pad_operator(request: Request) -> Expression:
    """Pad with the framework's pad operator, then apply the operator unpadded."""
    total = _total(request)
    overhang, identity = total - request.padding, IDENTITY[request.operator]
    counts = not request.implicit or request.count_include_pad
    after: List[str] = []
    lines: List[str] = []
    if request.operator == "AveragePool" and (not overhang.is_none or not counts):
        lines, after = _mended_average(request, overhang, 1.0 if counts else 0.0)
    steps = [(total, request.mode, identity)]
    if not request.implicit:
        steps = [(request.padding, request.mode, request.value), (overhang, "constant", identity)]
    name = "x"
    for padding, mode, value in steps:
        added, name = request.dialect.pad(name, padding, mode, value, request.layout)
        lines += added
    argument = Argument(request.dialect.unpadded(total.ndim), request.sizes if request.ceil_mode else None)
    return request.answer(argument, lines, after, _reason(request), name)


def _mended_average(request: Request, overhang: Padding, counted: float) -> Tuple[List[str], List[str]]:
    """Average a one for each element that counts, zeros elsewhere: the share to divide the result by."""
    if request.framework == "onnx":
        raise PaddingError(
            f"ONNX AveragePool cannot average over {request.padding} with kernel {request.numbers[0]} so"
        )
    lines = [f"w = {request.dialect.ones_like}(x)"]
    for padding, value in ((request.padding, counted), (overhang, 0.0)):
        lines += request.dialect.pad("w", padding, "constant", value, request.layout)[0]
    kernel, strides, _ = request.numbers
    return lines, [f"y = y / {request.dialect.average('w', kernel, strides, request.layout)}"]


def _reason(request: Request) -> str:
    """Why the operator's own argument is not enough."""
    if not request.implicit:
        what = f"mode {request.mode!r}" if request.mode != "constant" else f"value {request.value:g}"
        return f"{request.operator} in {request.framework} does not pad so with {what}"
    why = {
        "torch": "torch pads both sides of an axis alike, by at most half the kernel in pooling",
        "tensorflow": "tf.nn knows SAME, VALID and, for some operators, explicit pairs",
        "keras": "Keras layers know 'same', 'valid' and 'causal'",
        "jax": "Flax divides an average by all of the window or by its share of the input",
        "onnx": "ONNX pads are never negative, and in pooling smaller than the kernel",
    }
    return f"{request.operator} cannot pad {request.padding} by itself: {why[request.framework]}"


def _total(request: Request) -> Padding:
    """The padding together with what ``ceil_mode`` adds at the end for the sizes given."""
    if not request.ceil_mode:
        return request.padding
    return ceil_mode_as_padding(request.known_sizes, request.padding, *request.numbers)


def _same(request: Request, padding: Padding) -> Optional[Argument]:
    """``SAME`` where it is this padding: for every size if no axis has a stride, else for the sizes given."""
    word = 'padding="same"' if request.framework == "keras" else 'padding="SAME"'
    free = all(window.stride == 1 for window in request.axes)
    sizes = (1,) * padding.ndim if free else request.sizes
    if sizes is None or same_padding(sizes, *request.numbers) != padding:
        return None
    if padding.ndim == 3 and same_padding(sizes, *request.numbers, clamp=False).begins != padding.begins:
        return None  # TensorFlow on a CPU would crop here
    return Argument(word, None if free and not request.ceil_mode else request.sizes)


def _torch_conv(request: Request) -> Optional[Argument]:
    kernel, strides, dilations = request.numbers
    padding, native = request.padding, request.dialect.native(request.mode, request.padding)
    if padding.crops or native is None or (request.mode == "constant" and not request.implicit):
        return None
    extra = "" if request.mode == "constant" else f', padding_mode="{native}"'
    if padding.is_symmetric:
        return Argument(f"padding={padding.begins}{extra}")
    if (
        all(stride == 1 for stride in strides)
        and same_padding((1,) * padding.ndim, kernel, 1, dilations) == padding
    ):
        return Argument(f'padding="same"{extra}')
    return None


def _tensorflow_conv(request: Request) -> Optional[Argument]:
    if not request.implicit or request.padding.crops:
        return None
    if request.padding.ndim == 2:
        pairs = Argument(f"padding={listing(to_pad_width(request.padding, request.layout))}")
        return _same(request, request.padding) or pairs
    return _same(request, request.padding)


def _keras_conv(request: Request) -> Optional[Argument]:
    padding = request.padding
    if not request.implicit or padding.crops:
        return None
    if padding.ndim == 1 and padding.pairs == ((request.axes[0].extent - 1, 0),):
        return Argument('padding="causal"')
    return _same(request, padding)


def _jax_conv(request: Request) -> Optional[Argument]:
    return Argument(f"padding={request.padding.pairs}") if request.implicit else None


def _onnx_conv(request: Request) -> Optional[Argument]:
    possible = request.implicit and not request.padding.crops
    return Argument(f"pads={request.padding.to_onnx()}") if possible else None


def _torch_pool(request: Request) -> Optional[Argument]:
    padding, (kernel, _, _) = request.padding, request.numbers
    average, small = (
        request.operator == "AveragePool",
        all(b <= k // 2 for b, k in zip(padding.begins, kernel)),
    )
    if not request.implicit or padding.crops or not small:
        return None
    if average and padding.ndim == 3 and any(n < k for n, k in zip(request.sizes or kernel, kernel)):
        return None  # torch refuses it, padded or not
    rest = f", count_include_pad={request.count_include_pad}" if average and any(padding.begins) else ""
    if padding.is_symmetric:
        return Argument(f"padding={padding.begins}{', ceil_mode=True' * request.ceil_mode}{rest}")
    if request.sizes is None or (average and request.count_include_pad):
        return None
    wanted = pool_output_sizes(request.sizes, padding, *request.numbers, ceil_mode=request.ceil_mode)
    for ceil in (False, True):
        # The windows are the same when they begin at the same place and are as many.
        alike = Padding.symmetric(padding.begins)
        if all(n + 2 * b >= w.extent for n, b, w in zip(request.sizes, padding.begins, request.axes)) and (
            pool_output_sizes(request.sizes, alike, *request.numbers, ceil_mode=ceil) == wanted
        ):
            return Argument(f"padding={padding.begins}{', ceil_mode=True' * ceil}{rest}", request.sizes)
    return None


def _tensorflow_pool(request: Request) -> Optional[Argument]:
    """``VALID``, ``SAME``, and explicit pairs for max pooling in one and two dimensions."""
    total = _total(request)
    counted = request.operator == "AveragePool" and request.count_include_pad and not request.padding.is_none
    if not request.implicit or total.crops or counted:
        return None
    bound = request.sizes if request.ceil_mode else None
    if total.is_none:
        return Argument(request.dialect.unpadded(total.ndim), bound)
    small = all(max(pair) < window.kernel for pair, window in zip(total.pairs, request.axes))
    if request.operator == "MaxPool" and request.framework == "tensorflow" and total.ndim < 3 and small:
        pairs = Argument(f"padding={listing(to_pad_width(total, request.layout))}", bound)
        return _same(request, total) or pairs
    return _same(request, total)


def _jax_pool(request: Request) -> Optional[Argument]:
    total = _total(request)
    average, counted = (
        request.operator == "AveragePool",
        request.count_include_pad and not request.padding.is_none,
    )
    if not request.implicit or (average and counted and total != request.padding):
        return None
    rest = f", count_include_pad={counted}" if average else ""
    return Argument(f"padding={total.pairs}{rest}", request.sizes if request.ceil_mode else None)


def _onnx_pool(request: Request) -> Optional[Argument]:
    padding = request.padding
    small = all(max(pair) < window.kernel for pair, window in zip(padding.pairs, request.axes))
    if not request.implicit or padding.crops or not small:
        return None
    counted = request.operator == "AveragePool" and request.count_include_pad
    flags = ", ceil_mode=1" * request.ceil_mode + ", count_include_pad=1" * counted
    return Argument(f"pads={padding.to_onnx()}{flags}")


_DIRECT: Dict[Tuple[str, str], Callable[[Request], Optional[Argument]]] = {
    ("Conv", "torch"): _torch_conv,
    ("Conv", "tensorflow"): _tensorflow_conv,
    ("Conv", "keras"): _keras_conv,
    ("Conv", "jax"): _jax_conv,
    ("Conv", "onnx"): _onnx_conv,
    ("Pool", "torch"): _torch_pool,
    ("Pool", "tensorflow"): _tensorflow_pool,
    ("Pool", "keras"): _tensorflow_pool,
    ("Pool", "jax"): _jax_pool,
    ("Pool", "onnx"): _onnx_pool,
}

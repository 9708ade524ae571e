"""Pooling: windows, adaptive bins, global, powers; with torch's rules for ceil_mode and padding."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from porting_check.neutral.node import EXTENSION
from porting_check_torch.describe.convolution import SPATIAL, batched
from porting_check_torch.describe.draft import Draft, Ref, spread
from porting_check_torch.describe.table import describes


def _window(kernel_size: Any, stride: Any, padding: Any, spatial: int) -> Tuple[Tuple[int, ...], ...]:
    """Kernel, strides (the kernel when absent) and ONNX pads."""
    kernel = spread(kernel_size, spatial)
    absent = stride is None or (isinstance(stride, (list, tuple)) and not stride)
    amounts = spread(padding, spatial)
    return kernel, kernel if absent else spread(stride, spatial), amounts + amounts


def _max_pool(spatial: int) -> Callable[..., None]:
    def describe(
        d: Draft,
        input: Ref,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:
        kernel, strides, pads = _window(kernel_size, stride, padding, spatial)
        attributes: Dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        attributes.update(dilations=spread(dilation, spatial), ceil_mode=int(ceil_mode))
        x, give = batched(d, input, spatial)
        if len(d.outputs) == 1:
            give(d.node("MaxPool", x, **attributes))
            return
        values, places = d.nodes(2, "MaxPool", x, **attributes)
        give(values)
        # ONNX counts through the whole tensor, torch within one channel
        plane = int(np.prod(input.shape[input.ndim - spatial :]))
        give(d.node("Mod", places, d.integers(plane, "plane"), fmod=0))

    return describe


def _avg_pool(spatial: int) -> Callable[..., None]:
    def describe(
        d: Draft,
        input: Ref,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Optional[int] = None,
    ) -> None:
        kernel, strides, pads = _window(kernel_size, stride, padding, spatial)
        attributes: Dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        attributes.update(dilations=(1,) * spatial, ceil_mode=int(ceil_mode))
        x, give = batched(d, input, spatial)
        if divisor_override is None:
            give(d.node("AveragePool", x, count_include_pad=int(count_include_pad), **attributes))
            return
        if ceil_mode:
            d.refuse("with divisor_override and ceil_mode is not described")
        mean = d.node("AveragePool", x, count_include_pad=1, **attributes)
        factor = d.scalar(float(np.prod(kernel)) / divisor_override, "factor", input.dtype)
        give(d.node("Mul", mean, factor))

    return describe


def _lp_pool(spatial: int) -> Callable[..., None]:
    def describe(
        d: Draft, input: Ref, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        """``(k * |mean(x^p)|)^(1/p)`` with its sign, as torch.nn.functional.lp_pool2d writes it: a sum."""
        kernel, strides, pads = _window(kernel_size, stride, 0, spatial)
        x, give = batched(d, input, spatial)
        powered = d.node("Pow", x, d.scalar(float(norm_type), "p", input.dtype))
        attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil_mode)}
        mean = d.node("AveragePool", powered, count_include_pad=1, **attributes)
        signed = d.node("Mul", d.node("Sign", mean), d.node("Relu", d.node("Abs", mean)))
        total = d.node("Mul", signed, d.scalar(float(np.prod(kernel)), "window", input.dtype))
        give(d.node("Pow", total, d.scalar(1.0 / float(norm_type), "root", input.dtype)))

    return describe


def _bins(input: Ref, output_size: Any, spatial: int) -> Tuple[int, ...]:
    """The output size, with ``None`` for "as the input"."""
    wanted: List[Any] = (
        list(output_size) if isinstance(output_size, (list, tuple)) else [output_size] * spatial
    )
    wanted = wanted * spatial if len(wanted) == 1 else wanted
    sizes = input.shape[input.ndim - spatial :]
    return tuple(int(size if want is None else want) for want, size in zip(wanted, sizes))


def _adaptive(spatial: int, op_type: str, whole: str) -> Callable[..., None]:
    def describe(d: Draft, input: Ref, output_size: Any, return_indices: bool = False) -> None:
        if len(d.outputs) > 1:
            d.refuse("with return_indices is not described")
        sizes = _bins(input, output_size, spatial)
        x, give = batched(d, input, spatial)
        if set(sizes) == {1}:
            give(d.node(whole, x))
        else:
            give(d.nodes(1, op_type, x, domain=EXTENSION, output_size=sizes)[0])

    return describe


for _spatial in SPATIAL:
    describes(f"max_pool{_spatial}d", f"max_pool{_spatial}d_with_indices")(_max_pool(_spatial))
    describes(f"avg_pool{_spatial}d")(_avg_pool(_spatial))
    describes(f"lp_pool{_spatial}d")(_lp_pool(_spatial))
    _average = _adaptive(_spatial, "AdaptiveAveragePool", "GlobalAveragePool")
    describes(f"adaptive_avg_pool{_spatial}d", f"_adaptive_avg_pool{_spatial}d")(_average)
    _largest = _adaptive(_spatial, "AdaptiveMaxPool", "GlobalMaxPool")
    describes(f"adaptive_max_pool{_spatial}d", f"adaptive_max_pool{_spatial}d_with_indices")(_largest)

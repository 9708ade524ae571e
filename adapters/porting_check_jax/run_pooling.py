"""Pooling: windows, global, adaptive, and the inverse of max pooling."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from porting_check.neutral.geometry import Windows, product, windows_of
from porting_check.neutral.padding import Padding
from porting_check.neutral.pooling_padding import average_divisors, divisor_map
from porting_check_jax.run_call import Call, Handler, Result, is_floating
from porting_check_jax.run_convolution import pad_spatial


def wide(x: jax.Array) -> jax.Array:
    """Half precision in float32, in which sums are formed; other types as they are."""
    return x.astype(jnp.float32) if x.dtype in (jnp.float16, jnp.bfloat16) else x


def divided(total: jax.Array, counts: np.ndarray) -> jax.Array:
    """Sums over counts, truly divided: XLA would multiply by the counts' reciprocals, an ulp off at times."""
    divisor = jnp.broadcast_to(counts.astype(total.dtype), total.shape)
    # it sees through a broadcast, but not through a barrier around it (where this JAX has one)
    return total / getattr(lax, "optimization_barrier", jnp.asarray)(divisor)


def lowest(x: jax.Array) -> Any:
    """What never wins a maximum."""
    return -math.inf if is_floating(x) else jnp.iinfo(x.dtype).min


def geometry(call: Call) -> Windows:
    """The node's windows over its input."""
    kernel = call.get("kernel_shape")
    if kernel is None or len(kernel) != call.x.ndim - 2:
        raise call.unsupported(f"kernel_shape {kernel} does not fit an input of shape {call.x.shape}")
    return windows_of(call.node, call.x.shape[2:], kernel)


def reduce_windows(x: jax.Array, windows: Windows, combine: Callable[..., Any], start: Any) -> jax.Array:
    """Every window of ``x`` (N, C, …), with ``start`` in the padding, combined by ``lax.reduce_window``."""
    return lax.reduce_window(
        x,
        np.array(start, x.dtype),  # a Python number would be of another type than the values
        combine,
        (1, 1) + windows.kernel,
        (1, 1) + windows.strides,
        ((0, 0), (0, 0)) + windows.whole.pairs,
        window_dilation=(1, 1) + windows.dilations,
    )


def max_pool(call: Call) -> Result:
    """ONNX MaxPool: pads never win; with a second output, the flat index of each maximum."""
    x, windows = call.x, geometry(call)
    if len(call.node.outputs) > 1:
        return _max_pool_with_indices(x, windows, bool(call.get("storage_order", 0)))
    return reduce_windows(x, windows, lax.max, lowest(x))


def cells(sizes: Sequence[int], windows: Windows, column_major: bool = False) -> np.ndarray:
    """The flat place in the plane of every cell of every window, -1 in the padding: (…out, cells)."""
    rank = len(sizes)
    flat, inside = np.zeros((1,) * (2 * rank), np.int64), np.ones((1,) * (2 * rank), bool)
    for axis in reversed(range(rank)) if column_major else range(rank):
        kernel, stride, dilation = windows.kernel[axis], windows.strides[axis], windows.dilations[axis]
        begin, end = windows.whole.pairs[axis]
        count = (sizes[axis] + begin + end - (kernel - 1) * dilation - 1) // stride + 1
        line = np.arange(count)[:, None] * stride + np.arange(kernel) * dilation - begin
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = line.shape
        line = line.reshape(shape)
        flat, inside = flat * sizes[axis] + line, inside & (line >= 0) & (line < sizes[axis])
    found = np.where(inside, flat, -1)
    return found.reshape(found.shape[:rank] + (-1,))


def _max_pool_with_indices(x: jax.Array, windows: Windows, column_major: bool) -> List[jax.Array]:
    """Maxima and their index into the whole input (each plane column-major when asked for)."""
    sizes = x.shape[2:]
    plane = cells(sizes, windows)
    read = jnp.take(x.reshape(x.shape[:2] + (-1,)), np.maximum(plane, 0), axis=2, mode="clip")
    values = jnp.where(plane < 0, jnp.asarray(lowest(x), x.dtype), read)
    best = jnp.argmax(values, axis=-1)
    named = cells(sizes, windows, column_major)
    first = np.arange(product(named.shape[:-1])).reshape(named.shape[:-1]) * named.shape[-1]
    places = jnp.take(jnp.asarray(named.reshape(-1)), best + first, mode="clip")
    planes = np.arange(product(x.shape[:2])).reshape(x.shape[:2] + (1,) * len(sizes))
    return [jnp.max(values, axis=-1), places + planes * product(sizes)]


def average_pool(call: Call) -> Result:
    """ONNX AveragePool: sums over counts; what ``ceil_mode`` adds never counts (opset 22)."""
    x, windows = wide(call.x), geometry(call)
    flags = (bool(call.get("ceil_mode", 0)), bool(call.get("count_include_pad", 0)))
    steps = (windows.kernel, windows.strides, windows.dilations)
    counts = divisor_map(average_divisors(x.shape[2:], windows.padding, *steps, *flags))
    total = reduce_windows(x, windows, lax.add, 0)
    return divided(total, counts).astype(call.x.dtype)


def norm(x: jax.Array, p: int, combine: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """A p-norm: the root of combined powers, in the type of ``x``."""
    size = jnp.abs(wide(x))
    total = combine(size if p == 1 else size**p)
    root = total if p == 1 else jnp.sqrt(total) if p == 2 else total ** (1.0 / p)
    return root.astype(x.dtype)


def lp_pool(call: Call) -> Result:
    """ONNX LpPool: the p-norm of each window."""
    windows = geometry(call)
    return norm(call.x, call.get("p", 2), lambda powers: reduce_windows(powers, windows, lax.add, 0))


def _spatial_axes(x: jax.Array) -> Tuple[int, ...]:
    """Every axis after batch and channel."""
    return tuple(range(2, x.ndim))


def global_average(call: Call) -> Result:
    """ONNX GlobalAveragePool, a mean over the spatial axes."""
    return jnp.mean(call.x, axis=_spatial_axes(call.x), keepdims=True)


def global_max(call: Call) -> Result:
    """ONNX GlobalMaxPool."""
    return jnp.max(call.x, axis=_spatial_axes(call.x), keepdims=True)


def global_lp(call: Call) -> Result:
    """ONNX GlobalLpPool."""
    axes = _spatial_axes(call.x)
    return norm(call.x, call.get("p", 2), lambda powers: jnp.sum(powers, axis=axes, keepdims=True))


def _windows_along(size: int, count: int) -> np.ndarray:
    """Places of adaptive windows, floor(i n/m) to ceil((i+1) n/m); ``size`` where a window is shorter."""
    bounds = [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]
    places = np.array([low for low, _ in bounds])[:, None] + np.arange(
        max(high - low for low, high in bounds)
    )
    return np.where(places < np.array([high for _, high in bounds])[:, None], places, size)


def _gathered(
    call: Call, x: jax.Array, fill: Any, combine: Callable[..., jax.Array]
) -> Tuple[jax.Array, np.ndarray]:
    """Adaptive windows combined axis by axis, and how many elements each of them holds."""
    wanted: Optional[Sequence[int]] = call.get("output_size")
    if wanted is None or len(wanted) != x.ndim - 2:
        raise call.unsupported(f"output_size {wanted} does not fit an input of shape {x.shape}")
    counts = []
    for axis, count in enumerate(wanted, start=2):
        size = x.shape[axis]
        places = _windows_along(size, count)
        counts.append((places < size).sum(axis=1))
        one_more = Padding((0,) * len(wanted), tuple(int(2 + at == axis) for at in range(len(wanted))))
        x = combine(jnp.take(pad_spatial(x, one_more, fill), places, axis=axis, mode="clip"), axis=axis + 1)
    return x, divisor_map(counts)


def adaptive_average(call: Call) -> Result:
    """porting_check's AdaptiveAveragePool: the mean of each window."""
    total, counts = _gathered(call, wide(call.x), 0, jnp.sum)
    return divided(total, counts).astype(call.x.dtype)


def adaptive_max(call: Call) -> Result:
    """porting_check's AdaptiveMaxPool: the largest element of each window."""
    return _gathered(call, call.x, lowest(call.x), jnp.max)[0]


def max_unpool(call: Call) -> Result:
    """ONNX MaxUnpool: each value at its flat index of the unpooled array, zero elsewhere."""
    x, indices, wanted = call.x, call.need(1), call.integers(2)
    rank = x.ndim - 2
    strides, pads = call.get("strides") or (1,) * rank, call.get("pads") or (0,) * (2 * rank)
    kernel = call.get("kernel_shape")
    natural = [(x.shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[i + rank] for i in range(rank)]
    shape = x.shape[:2] + tuple(natural)
    given = call.value(1)
    if given is not None and given.size and not 0 <= given.min() <= given.max() < product(shape):
        # JAX would drop what lies outside without a word
        raise IndexError(f"indices {given.min()} to {given.max()} do not lie in an unpooled shape {shape}")
    flat = jnp.zeros(product(shape), x.dtype).at[indices.reshape(-1)].set(x.reshape(-1))
    result = flat.reshape(shape)
    if wanted is None:
        return result
    more = tuple(size - found for size, found in zip(wanted[2:], natural))
    return pad_spatial(result, Padding((0,) * rank, more))


OPERATORS: Dict[str, Handler] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
    "GlobalLpPool": global_lp,
    "MaxUnpool": max_unpool,
}

EXTENSION: Dict[str, Handler] = {
    "AdaptiveAveragePool": adaptive_average,
    "AdaptiveMaxPool": adaptive_max,
}

"""Normalisation layers and functions."""

# ruff: noqa: A002 (arguments bear torch's own names)

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch

from porting_check_torch.describe.draft import ACTIVATION, Draft, Ref, axis, host_dtype
from porting_check_torch.describe.table import describes

BATCH_STATISTICS = "computes batch statistics (training mode)"


def _affine(
    d: Draft, ref: Optional[Ref], role: str, shape: Sequence[int], fill: float, dtype: torch.dtype
) -> str:
    """A scale or bias, or the constant that stands for its absence."""
    if ref is not None:
        return d.port(ref, role)
    return d.constant(np.full(tuple(shape), fill, host_dtype(dtype)), role)


@describes("F.batch_norm", main=True)
def batch_norm(
    d: Draft,
    input: Ref,
    running_mean: Optional[Ref],
    running_var: Optional[Ref],
    weight: Optional[Ref] = None,
    bias: Optional[Ref] = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> None:
    """With the running statistics; those of the batch are not described."""
    if training or running_mean is None or running_var is None:
        d.refuse(BATCH_STATISTICS)
    layout, channels = ACTIVATION.get(input.ndim, ""), (input.shape[1],)
    x = d.port(input, "x", layout)
    scale = _affine(d, weight, "scale", channels, 1, input.dtype)
    shift = _affine(d, bias, "bias", channels, 0, input.dtype)
    statistics = (d.port(running_mean, "mean"), d.port(running_var, "var"))
    d.give(d.node("BatchNormalization", x, scale, shift, *statistics, epsilon=float(eps)), layout)


@describes("torch.batch_norm", "aten.batch_norm", main=True)
def plain_batch_norm(
    d: Draft,
    input: Ref,
    weight: Optional[Ref],
    bias: Optional[Ref],
    running_mean: Optional[Ref],
    running_var: Optional[Ref],
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> None:
    """The same with torch's inner order of arguments."""
    batch_norm(d, input, running_mean, running_var, weight, bias, training, momentum, eps)


@describes("_native_batch_norm_legit_no_training", main=True)
def exported_batch_norm(
    d: Draft,
    input: Ref,
    weight: Optional[Ref],
    bias: Optional[Ref],
    running_mean: Ref,
    running_var: Ref,
    momentum: float,
    eps: float,
) -> None:
    """The form of a decomposed export, with two empty further outputs."""
    batch_norm(d, input, running_mean, running_var, weight, bias, False, momentum, eps)
    for output in d.outputs[1:]:
        d.give(d.constant(np.empty(output.shape, host_dtype(output.dtype)), "nothing"))


@describes("native_layer_norm", main=True)
def exported_layer_norm(
    d: Draft,
    input: Ref,
    normalized_shape: Sequence[int],
    weight: Optional[Ref],
    bias: Optional[Ref],
    eps: float,
) -> None:
    """The form of a decomposed export, with mean and inverse deviation."""
    scale = _affine(d, weight, "scale", normalized_shape, 1, input.dtype)
    shift = _affine(d, bias, "bias", normalized_shape, 0, input.dtype)
    options: Dict[str, Any] = {"axis": -len(normalized_shape), "epsilon": float(eps), "stash_type": 1}
    for name in d.nodes(3, "LayerNormalization", d.port(input), scale, shift, **options):
        d.give(name)


@describes("layer_norm", main=True)
def layer_norm(
    d: Draft,
    input: Ref,
    normalized_shape: Sequence[int],
    weight: Optional[Ref] = None,
    bias: Optional[Ref] = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> None:
    """Over the last axes."""
    scale = _affine(d, weight, "scale", normalized_shape, 1, input.dtype)
    shift = _affine(d, bias, "bias", normalized_shape, 0, input.dtype)
    options: Dict[str, Any] = {"axis": -len(normalized_shape), "epsilon": float(eps), "stash_type": 1}
    d.give(d.node("LayerNormalization", d.port(input), scale, shift, **options))


@describes("rms_norm", main=True)
def rms_norm(
    d: Draft,
    input: Ref,
    normalized_shape: Sequence[int],
    weight: Optional[Ref] = None,
    eps: Optional[float] = None,
) -> None:
    """Without ``eps`` torch takes the dtype's machine epsilon."""
    scale = _affine(d, weight, "scale", normalized_shape, 1, input.dtype)
    epsilon = torch.finfo(input.dtype).eps if eps is None else eps
    options: Dict[str, Any] = {"axis": -len(normalized_shape), "epsilon": float(epsilon), "stash_type": 1}
    d.give(d.node("RMSNormalization", d.port(input), scale, **options))


@describes("group_norm", main=True)
def group_norm(
    d: Draft,
    input: Ref,
    num_groups: int,
    weight: Optional[Ref] = None,
    bias: Optional[Ref] = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> None:
    """Over the channels of a group and all positions; a group of one channel is an instance norm."""
    layout, channels = ACTIVATION.get(input.ndim, ""), (input.shape[1],)
    scale = _affine(d, weight, "scale", channels, 1, input.dtype)
    shift = _affine(d, bias, "bias", channels, 0, input.dtype)
    x = d.port(input, "x", layout)
    if num_groups == input.shape[1] and input.ndim > 2:
        d.give(d.node("InstanceNormalization", x, scale, shift, epsilon=float(eps)), layout)
        return
    options: Dict[str, Any] = {"num_groups": int(num_groups), "epsilon": float(eps), "stash_type": 1}
    d.give(d.node("GroupNormalization", x, scale, shift, **options), layout)


@describes("F.instance_norm", main=True)
def instance_norm(
    d: Draft,
    input: Ref,
    running_mean: Optional[Ref] = None,
    running_var: Optional[Ref] = None,
    weight: Optional[Ref] = None,
    bias: Optional[Ref] = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> None:
    """With the statistics of each instance, or with running ones, which makes it a batch norm."""
    if not use_input_stats:
        batch_norm(d, input, running_mean, running_var, weight, bias, False, momentum, eps)
        return
    layout, channels = ACTIVATION.get(input.ndim, ""), (input.shape[1],)
    scale = _affine(d, weight, "scale", channels, 1, input.dtype)
    shift = _affine(d, bias, "bias", channels, 0, input.dtype)
    d.give(
        d.node("InstanceNormalization", d.port(input, "x", layout), scale, shift, epsilon=float(eps)), layout
    )


@describes("torch.instance_norm", "aten.instance_norm", main=True)
def plain_instance_norm(
    d: Draft,
    input: Ref,
    weight: Optional[Ref],
    bias: Optional[Ref],
    running_mean: Optional[Ref],
    running_var: Optional[Ref],
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> None:
    """The same with torch's inner order of arguments."""
    instance_norm(d, input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


@describes("local_response_norm")
def local_response_norm(
    d: Draft, input: Ref, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> None:
    """``x / (k + alpha * mean of squares over neighbouring channels)^beta``.

    An even window reaches further back in torch and further ahead in ONNX; it is spelt out.
    """
    layout = ACTIVATION.get(input.ndim, "")
    x = d.port(input, "x", layout)
    if size % 2:
        attributes = {"size": int(size), "alpha": float(alpha), "beta": float(beta), "bias": float(k)}
        d.give(d.node("LRN", x, **attributes), layout)
        return
    if input.ndim > 4:
        d.refuse("with an even size on more than two spatial axes is not described")
    spatial = input.ndim - 2
    squares = d.node("Unsqueeze", d.node("Mul", x, x), d.integers([1], "window_axis"))
    zeros = (0,) * spatial
    window = {"kernel_shape": (int(size),) + (1,) * spatial, "strides": (1,) * (spatial + 1), "ceil_mode": 0}
    window.update(pads=(size // 2,) + zeros + ((size - 1) // 2,) + zeros, count_include_pad=1)
    mean = d.node("Squeeze", d.node("AveragePool", squares, **window), d.integers([1], "window_axis"))
    scaled = d.node("Mul", mean, d.scalar(alpha, "alpha", input.dtype))
    base = d.node("Add", scaled, d.scalar(k, "k", input.dtype))
    d.give(d.node("Div", x, d.node("Pow", base, d.scalar(beta, "beta", input.dtype))), layout)


@describes("F.normalize")
def normalize(d: Draft, input: Ref, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> None:
    """``x / max(|x|_p, eps)``."""
    dims = [axis(item, input.ndim) for item in (dim if isinstance(dim, (list, tuple)) else (dim,))]
    x = d.port(input)
    norm = norm_of(d, x, p, dims, True, input.dtype)
    d.give(d.node("Div", x, d.node("Max", norm, d.scalar(eps, "eps", input.dtype))))


def norm_of(d: Draft, x: str, p: Any, dims: Sequence[int], keepdims: bool, dtype: torch.dtype) -> str:
    """The p-norm over axes."""
    over, keep = d.integers(list(dims)), int(keepdims)
    order = 2.0 if p in (None, "fro") else float(p)
    if order == 2:
        return d.node("ReduceL2", x, over, keepdims=keep)
    if order == 1:
        return d.node("ReduceL1", x, over, keepdims=keep)
    size = d.node("Abs", x)
    if np.isinf(order):
        return d.node("ReduceMax" if order > 0 else "ReduceMin", size, over, keepdims=keep)
    if order == 0:
        d.refuse("counts non-zero elements (p = 0), which is not described")
    total = d.node("ReduceSum", d.node("Pow", size, d.scalar(order, "p", dtype)), over, keepdims=keep)
    return d.node("Pow", total, d.scalar(1 / order, "root", dtype))

"""Normalizations."""

from __future__ import annotations

from typing import Dict, List

import torch
from torch.nn import functional

from porting_check_torch.run_call import Call, Handler, Result


def batch_normalization(call: Call) -> Result:
    """ONNX BatchNormalization; in training mode also the statistics, moved by ONNX's ``momentum``."""
    x, scale, bias, mean, variance = (call.need(index) for index in range(5))
    epsilon = call.get("epsilon", 1e-5)
    if not call.get("training_mode", 0):
        return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    seen_variance, seen_mean = torch.var_mean(x, dim=axes, correction=0)
    keep = call.get("momentum", 0.9)
    result = functional.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
    return result, mean * keep + seen_mean * (1 - keep), variance * keep + seen_variance * (1 - keep)


def layer_normalization(call: Call) -> Result:
    """ONNX LayerNormalization over the axes from ``axis`` on; mean and inverse deviation when asked for."""
    x, scale, bias, epsilon = call.x, call.need(1), call.input(2), call.get("epsilon", 1e-5)
    axis = call.get("axis", -1) % x.dim()
    shape = list(x.shape[axis:])
    if scale.dim() <= len(shape) and (bias is None or bias.dim() <= len(shape)):
        weight = scale.expand(shape)
        result = functional.layer_norm(
            x, shape, weight, None if bias is None else bias.expand(shape), epsilon
        )
    else:
        # a scale that varies outside the normalized axes is beyond functional.layer_norm's own affine step
        result = functional.layer_norm(x, shape, None, None, epsilon) * scale
        result = result if bias is None else result + bias
    if len(call.node.outputs) == 1:
        return result
    stash = x if x.dtype == torch.float64 else x.to(torch.float32)
    variance, mean = torch.var_mean(stash, dim=list(range(axis, x.dim())), correction=0, keepdim=True)
    return result, mean, torch.rsqrt(variance + epsilon)


def rms_normalization(call: Call) -> Result:
    """ONNX RMSNormalization."""
    axis = call.get("axis", -1) % call.x.dim()
    shape, scale = list(call.x.shape[axis:]), call.need(1)
    if scale.dim() <= len(shape):
        return functional.rms_norm(call.x, shape, scale.expand(shape), call.get("epsilon", 1e-5))
    return functional.rms_norm(call.x, shape, None, call.get("epsilon", 1e-5)) * scale


def group_normalization(call: Call) -> Result:
    """ONNX GroupNormalization (opset 21: scale and bias per channel)."""
    return functional.group_norm(
        call.x, call.get("num_groups"), call.need(1), call.need(2), call.get("epsilon", 1e-5)
    )


def instance_normalization(call: Call) -> Result:
    """ONNX InstanceNormalization; torch refuses planes of one element, which one group per channel takes."""
    x, scale, bias, epsilon = call.x, call.need(1), call.need(2), call.get("epsilon", 1e-5)
    if x[0, 0].numel() == 1:
        return functional.group_norm(x, x.shape[1], scale, bias, epsilon)
    return functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def local_response_normalization(call: Call) -> Result:
    """ONNX LRN. For an even size torch looks one channel further back, ONNX one further ahead: so flip."""
    size = call.get("size")
    parameters = (size, call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0))
    if size % 2:
        return functional.local_response_norm(call.x, *parameters)
    return functional.local_response_norm(call.x.flip(1), *parameters).flip(1)


def lp_normalization(call: Call) -> Result:
    """ONNX LpNormalization; a vector of norm zero stays zero."""
    norm = torch.linalg.vector_norm(call.x, call.get("p", 2), dim=call.get("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(call.x), call.x / norm)


def mean_variance_normalization(call: Call) -> Result:
    """ONNX MeanVarianceNormalization: ``(x - mean) / (deviation + 1e-9)``."""
    axes: List[int] = list(call.get("axes") or (0, 2, 3))
    variance, mean = torch.var_mean(call.x, dim=axes, correction=0, keepdim=True)
    return (call.x - mean) / (torch.sqrt(variance) + 1e-9)


OPERATORS: Dict[str, Handler] = {
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
}

"""Fourier transforms, windows and the mel matrix."""

from __future__ import annotations

from typing import Any, Callable, Dict

import torch

from porting_check_torch.run_call import Call, Handler, Result, torch_dtype


def _complex(x: torch.Tensor) -> torch.Tensor:
    """The last axis holds real parts, or real and imaginary parts."""
    return x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def dft(call: Call) -> Result:
    """ONNX DFT; ``inverse`` with ``onesided`` gives a real signal."""
    axis = call.integer(2, -2) if call.input(2) is not None else call.get("axis", -2)
    axis = axis % call.x.dim()
    signal, onesided = _complex(call.x), bool(call.get("onesided", 0))
    if call.get("inverse", 0):
        if onesided:
            length = call.integer(1, 2 * (call.x.shape[axis] - 1))
            return torch.fft.irfft(signal, n=length, dim=axis)[..., None]
        return torch.view_as_real(torch.fft.ifft(signal, n=call.integer(1, call.x.shape[axis]), dim=axis))
    length = call.integer(1, call.x.shape[axis])
    result = torch.fft.fft(signal, n=length, dim=axis)
    if onesided:
        result = result.narrow(axis, 0, length // 2 + 1)
    return torch.view_as_real(result)


def stft(call: Call) -> Result:
    """ONNX STFT: framed, windowed transforms along the second axis."""
    window = call.input(2)
    length = call.integer(3, call.x.shape[1] if window is None else window.shape[0])
    signal = _complex(call.x) if call.x.dim() == 3 else call.x
    frames = signal.unfold(1, length, call.integer(1, 1))
    frames = frames if window is None else frames * window
    result = torch.fft.fft(frames, dim=-1)
    if call.get("onesided", 1):
        result = result[..., : length // 2 + 1]
    return torch.view_as_real(result)


def _window(function: Callable[..., torch.Tensor], **settings: float) -> Handler:
    """A window function; ONNX's default is the periodic one, in float32."""

    def run(call: Call) -> Result:
        name = call.dtype(call.get("output_datatype", 1))
        dtype: Any = torch_dtype(name)
        made = torch.float64 if call.float64 or not dtype.is_floating_point else dtype
        periodic = bool(call.get("periodic", 1))
        return function(call.integer(0, 0), periodic=periodic, dtype=made, **settings).to(dtype)

    return run


def mel_weights(call: Call) -> Result:
    """ONNX MelWeightMatrix: triangular filters between bins that are spaced evenly on the mel scale."""
    bands, length, rate = call.integer(0, 0), call.integer(1, 0), call.integer(2, 0)
    edges = torch.tensor([call.number(3, 0.0), call.number(4, 0.0)], dtype=torch.float64)
    low, high = 2595.0 * torch.log10(1.0 + edges / 700.0)
    mels = low + torch.arange(bands + 2, dtype=torch.float64) * ((high - low) / (bands + 2))
    hertz = 700.0 * (torch.pow(10.0, mels / 2595.0) - 1.0)
    bins = torch.floor((length + 1) * hertz / rate)
    left, centre, right = bins[:-2], bins[1:-1], bins[2:]
    rows = torch.arange(length // 2 + 1, dtype=torch.float64)[:, None]
    rising = torch.where(
        centre > left, (rows - left) / (centre - left).clamp(min=1), (rows == centre).double()
    )
    falling = (right - rows) / (right - centre).clamp(min=1)
    result = torch.where((rows >= left) & (rows <= centre), rising, torch.zeros_like(rising))
    result = torch.where((rows >= centre) & (rows < right), falling, result)
    return result.to(torch_dtype(call.dtype(call.get("output_datatype", 1))))


OPERATORS: Dict[str, Handler] = {
    "DFT": dft,
    "STFT": stft,
    "HannWindow": _window(torch.hann_window),
    "HammingWindow": _window(torch.hamming_window, alpha=25.0 / 46.0, beta=21.0 / 46.0),
    "BlackmanWindow": _window(torch.blackman_window),
    "MelWeightMatrix": mel_weights,
}
